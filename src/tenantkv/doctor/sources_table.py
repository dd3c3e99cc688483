"""Rules about code and settings, one row each: what to look for, and what follows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tenantkv.doctor.sources import Page


@dataclass(frozen=True, slots=True)
class Rule:
    """One row.

    Attributes:
        check: the finding's name.
        severity: how bad.
        title: what is wrong.
        consequence: what can happen.
        remedy: what to write instead.
        find: yields the lines of a page on which it is.
    """

    check: str
    severity: Literal["warn", "fail"]
    title: str
    consequence: str
    remedy: str
    find: Callable[[Page], Iterator[int]]


def _setting(*names: str, words: tuple[str, ...] = (), suffix: str = "") -> Callable[[Page], Iterator[int]]:
    """Return a search for a setting, optionally only with one of some words in its value."""
    wanted = {name.lower() for name in names}

    def find(page: Page) -> Iterator[int]:
        for name, texts, line in page.settings:
            if name.rpartition(".")[2].lower() not in wanted:
                continue
            if not words or any(
                word == text or (suffix and text.endswith(word)) for text in texts for word in words
            ):
                yield line

    return find


def _pickles_by_celery(page: Page) -> Iterator[int]:
    names = (
        "task_serializer",
        "result_serializer",
        "event_serializer",
        "accept_content",
        "result_accept_content",
    )
    for name, texts, line in page.settings:
        bare = name.rpartition(".")[2].lower().removeprefix("celery_")
        if bare in names and texts & {"pickle", "application/x-python-serialize"}:
            yield line


def _django_cache(page: Page) -> Iterator[int]:
    for name, texts, line in page.settings:
        if name == "BACKEND" and "django.core.cache.backends.redis.RedisCache" in texts:
            yield line
    for name, texts, line in page.settings:
        # django-redis pickles unless told otherwise, in the same dict.
        is_backend = name == "default" and "django_redis.cache.RedisCache" in texts
        if is_backend and not any("JSONSerializer" in text or "MSGPack" in text for text in texts):
            yield line


def _flask_cache(page: Page) -> Iterator[int]:
    if "flask_caching" in page.imports and not page.is_guarded:
        for name, texts, line in page.settings:
            if name == "CACHE_TYPE" and texts & {"redis", "RedisCache", "flask_caching.backends.RedisCache"}:
                yield line


def _flask_sessions(page: Page) -> Iterator[int]:
    if not page.is_guarded:
        yield from _setting("SESSION_TYPE", words=("redis",))(page)


def _rq(page: Page) -> Iterator[int]:
    if "rq" in page.imports and not page.is_guarded:
        for name, keywords, line in page.calls:
            if (
                name.rpartition(".")[2] in ("Queue", "Worker", "SimpleWorker")
                and "serializer" not in keywords
            ):
                yield line


def _bare_client(page: Page) -> Iterator[int]:
    if "redis" not in page.imports or "tenantkv" in page.imports:
        return
    makers = {
        *(
            "redis.Redis",
            "redis.StrictRedis",
            "redis.from_url",
            "redis.Redis.from_url",
            "redis.asyncio.Redis",
        ),
        *(
            "redis.asyncio.from_url",
            "aioredis.from_url",
            "redis.StrictRedis.from_url",
            "redis.ConnectionPool",
        ),
        *("redis.RedisCluster", "StrictRedis", "redis.ConnectionPool.from_url"),
    }
    for name, _, line in page.calls:
        if name in makers:
            yield line


def _unpickles(page: Page) -> Iterator[int]:
    if page.imports & {"redis", "aioredis", "django_redis"}:
        for name, _, line in page.calls:
            if name in ("pickle.loads", "cPickle.loads", "dill.loads", "cloudpickle.loads", "marshal.loads"):
                yield line


_RUNS = "A neighbour who can write one key of yours runs code in your program."

RULES: tuple[Rule, ...] = (
    Rule(
        "code.pickle",
        "fail",
        "values from the server are unpickled",
        _RUNS,
        "use JSON, or tenantkv's cache, which unpickles nothing that is not authentic",
        _unpickles,
    ),
    Rule(
        "code.celery_pickle",
        "fail",
        "Celery takes pickled messages",
        _RUNS,
        "task_serializer='json', accept_content=['json']; or tenantkv:// as broker, whose messages are authentic",
        _pickles_by_celery,
    ),
    Rule(
        "code.celery_prefix",
        "warn",
        "global_keyprefix of Celery's own transport is shown to everybody",
        "The prefix stands in front of the names of channels too, and everybody can list channels.",
        "take tenantkv:// as broker and result backend",
        _setting("global_keyprefix"),
    ),
    Rule(
        "code.celery_queue",
        "warn",
        "CELERY_DEFAULT_QUEUE has no effect with namespace='CELERY'",
        "The queue is called 'celery', like that of other tenants: their workers take your tasks.",
        "call it CELERY_TASK_DEFAULT_QUEUE (or task_default_queue)",
        _setting("CELERY_DEFAULT_QUEUE"),
    ),
    Rule(
        "code.django_cache",
        "fail",
        "a Django cache unpickles what it reads from the server",
        _RUNS + " clear() flushes the whole database, or fails.",
        "BACKEND: 'tenantkv.contrib.django.TenantCache'",
        _django_cache,
    ),
    Rule(
        "code.django_sessions",
        "fail",
        "Django's sessions are pickled",
        _RUNS,
        "leave SESSION_SERIALIZER out: JSON is the default",
        _setting("SESSION_SERIALIZER", words=("PickleSerializer",), suffix="yes"),
    ),
    Rule(
        "code.flask_cache",
        "fail",
        "Flask-Caching unpickles what it reads from the server",
        _RUNS,
        "hand it tenantkv's client and a serializer of your own, or use tenantkv's cache",
        _flask_cache,
    ),
    Rule(
        "code.flask_sessions",
        "warn",
        "Flask-Session keeps sessions on the server",
        "Sessions can be read, and forged by whoever can name them.",
        "SESSION_REDIS=tenantkv.connect(seal=True), and SESSION_SERIALIZATION_FORMAT='msgpack'",
        _flask_sessions,
    ),
    Rule(
        "code.rq",
        "fail",
        "RQ's jobs are pickled",
        _RUNS,
        "connection=tenantkv.connect(seal=True), and serializer=JSONSerializer for queues and workers",
        _rq,
    ),
    Rule(
        "code.bare_client",
        "warn",
        "a client without a namespace",
        "Its keys lie beside those of everybody: names collide, and flushes and deletions meet others.",
        "tenantkv.connect() returns a client that can do the same",
        _bare_client,
    ),
)
