"""``manage.py check``: what is wrong with CACHES, sessions and Celery on a shared server.

Errors are found by every ``check``; what only matters in production, by ``check --deploy``. None of them
asks the server.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from tenantkv.contrib.django.backend import TenantCache
from tenantkv.contrib.django.options import Options, read
from tenantkv.errors import ConfigurationError, KeyringError, KeyringNotFoundError

_UNSIGNED = (
    *("django_redis.", "django_valkey.", "redis_cache.", "django.core.cache.backends.redis."),
    *("django.core.cache.backends.memcached.", "django_prometheus.cache.backends.redis."),
)
_LOCAL = "django.core.cache.backends.locmem.LocMemCache"
_SESSIONS_IN_CACHE = (
    *("django.contrib.sessions.backends.cache", "django.contrib.sessions.backends.cached_db"),
    "tenantkv.contrib.django.sessions",
)
# One word after the other, as people call things.
_WORD = r"(?:[A-Z]?[a-z]+|[A-Z]+)\d*"
_WORDS = re.compile(rf"{_WORD}(?:[-_.](?:{_WORD}|\d+))*\Z")
_FEWEST_BITS = 80


def register_all() -> None:
    """Register the checks; Django forgets none, and counts each once."""
    checks.register(check_settings, checks.Tags.caches)
    checks.register(check_celery, checks.Tags.caches)
    checks.register(check_deployment, checks.Tags.security, deploy=True)


def ours() -> dict[str, Mapping[str, Any]]:
    """Return the entries of CACHES whose backend is `TenantCache`, by alias."""
    found = {}
    for alias, params in settings.CACHES.items():
        try:
            backend = import_string(params.get("BACKEND", ""))
        except ImportError:
            # Django says so by itself.
            continue
        if isinstance(backend, type) and issubclass(backend, TenantCache):
            found[alias] = params
    return found


def check_settings(**_: Any) -> list[checks.CheckMessage]:
    """Look for settings that cannot work, or do not do what they seem to."""
    found: list[checks.CheckMessage] = []
    by_name: dict[tuple[Any, ...], list[tuple[str, Options]]] = {}
    for alias, params in ours().items():
        try:
            options = read(params.get("LOCATION", ""), params)
        except ImproperlyConfigured as error:
            found.append(checks.Error(f"{alias}: {error}", id="tenantkv.E001"))
            continue
        found += _check_identity(alias, options)
        found += _check_timeout(alias, params, options)
        by_name.setdefault((options.url, options.child, options.name), []).append((alias, options))
    for (_url, _child, name), sharing in by_name.items():
        found += _check_sharing(name, sharing)
    return found


def _check_identity(alias: str, options: Options) -> Iterator[checks.CheckMessage]:
    from tenantkv.contrib.django.stores import Store

    try:
        namespace = Store(options).client.namespace
    except KeyringNotFoundError as error:
        hint = "Run 'tenantkv init' once, and give all processes the same keyring."
        yield checks.Error(f"{alias}: there is no keyring: {error}", hint=hint, id="tenantkv.E002")
    except KeyringError as error:
        hint = "'tenantkv show' tells which keyring is in use."
        yield checks.Error(f"{alias}: the keyring cannot be used: {error}", hint=hint, id="tenantkv.E003")
    except ConfigurationError as error:
        yield checks.Error(f"{alias}: {error}", id="tenantkv.E001")
    else:
        if is_guessable(namespace.keyring.prefix):
            yield checks.Warning(
                f"{alias}: the namespace's prefix looks like words, and whoever guesses it can read, "
                "delete and replay what is there",
                hint="'tenantkv init' makes a random one; adopt it, and let the old keys expire.",
                id="tenantkv.W001",
            )


def is_guessable(prefix: str) -> bool:
    """Say whether a prefix looks like one that somebody made up."""
    counts = Counter(prefix)
    bits = -sum(n * math.log2(n / len(prefix)) for n in counts.values())
    return bits < _FEWEST_BITS or bool(_WORDS.match(prefix.rstrip("=")))


def _check_timeout(alias: str, params: Mapping[str, Any], options: Options) -> Iterator[checks.CheckMessage]:
    timeout = params.get("TIMEOUT", 300)
    if timeout is None and not options.allow_forever:
        what = "TIMEOUT is None"
    elif isinstance(timeout, (int, float)) and timeout > options.longest_ttl:
        what = f"TIMEOUT is {timeout}"
    else:
        return
    yield checks.Warning(
        f"{alias}: {what}, and entries live for {options.longest_ttl:g} seconds",
        hint="OPTIONS: raise 'longest_ttl', or say 'allow_forever': True; the server may evict anything.",
        id="tenantkv.W005",
    )


def _check_sharing(name: str, sharing: list[tuple[str, Options]]) -> Iterator[checks.CheckMessage]:
    if len(sharing) < 2:
        return
    aliases = ", ".join(alias for alias, _ in sharing)
    first = sharing[0][1]
    if any(
        dict(other.connect).get("seal") != dict(first.connect).get("seal")
        or other.seal_sessions != first.seal_sessions
        for _, other in sharing[1:]
    ):
        yield checks.Error(
            f"{aliases}: they are one cache ({name!r}), and some seal it and some do not",
            hint="Give each a 'name' in its OPTIONS, or the same options.",
            id="tenantkv.E004",
        )
    else:
        yield checks.Info(
            f"{aliases}: they are one cache ({name!r}), and clear() of one ends the entries of all",
            hint="Give each a 'name' in its OPTIONS if that is not meant.",
            id="tenantkv.I001",
        )


def check_deployment(**_: Any) -> list[checks.CheckMessage]:
    """Look for what neighbours on the server could read or use, and what workers do not share."""
    found: list[checks.CheckMessage] = []
    for alias, params in settings.CACHES.items():
        backend = str(params.get("BACKEND", ""))
        if backend.startswith(_UNSIGNED):
            found.append(
                checks.Warning(
                    f"{alias}: {backend} stores pickles that nobody vouches for: whoever can write to the "
                    "server runs code in this process",
                    hint=f'CACHES[{alias!r}]["BACKEND"] = "tenantkv.contrib.django.TenantCache"',
                    id="tenantkv.W002",
                )
            )
        elif backend == _LOCAL and (alias == "default" or alias == _session_alias()):
            found.append(
                checks.Warning(
                    f"{alias}: each worker has a LocMemCache of its own, and shows what another deleted",
                    hint=f'CACHES[{alias!r}]["BACKEND"] = "tenantkv.contrib.django.TenantCache"',
                    id="tenantkv.W004",
                )
            )
    found += _check_sessions()
    return found


def _session_alias() -> str | None:
    if settings.SESSION_ENGINE not in _SESSIONS_IN_CACHE:
        return None
    return str(settings.SESSION_CACHE_ALIAS)


def _check_sessions() -> Iterator[checks.CheckMessage]:
    alias = _session_alias()
    params = settings.CACHES.get(alias) if alias else None
    if params is None:
        return
    problem = ""
    if str(params.get("BACKEND", "")).startswith(_UNSIGNED):
        problem = "sessions lie on the server in clear, and whoever writes one is logged in as anybody"
    elif alias in ours():
        try:
            options = read(params.get("LOCATION", ""), params)
        except ImproperlyConfigured:
            return
        if not options.seal_sessions and not options.connect.get("seal"):
            problem = "sessions are signed and not sealed: whoever can read the server can take over each"
    if problem:
        yield checks.Warning(
            f"{alias}: {problem}",
            hint="Use TenantCache, and leave 'seal_sessions' as it is.",
            id="tenantkv.W003",
        )


# Celery's Redis backend reads them, though Celery's list of settings lacks them.
_READ_ALL_THE_SAME = ("redis_backend_health_check_interval", "result_backend_thread_safe")


def check_celery(**_: Any) -> list[checks.CheckMessage]:
    """Look for CELERY_* settings that have no effect, if Celery is installed."""
    given = [name for name in dir(settings) if name.startswith("CELERY_")]
    if not given:
        return []
    try:
        from celery.app.defaults import DEFAULTS
    except ImportError:
        return []
    found: list[checks.CheckMessage] = []
    for name in sorted(given):
        if name.removeprefix("CELERY_").lower() not in (*DEFAULTS, *_READ_ALL_THE_SAME):
            found.append(
                checks.Warning(
                    f"{name} has no effect: Celery has no such setting under namespace='CELERY'",
                    hint=_alike(name, DEFAULTS),
                    id="tenantkv.W006",
                )
            )
    return found


def _alike(name: str, defaults: Mapping[str, Any]) -> str:
    from difflib import get_close_matches

    stem = re.sub(r"\ACELERY(?:D|BEAT)?_", "", name).lower()
    close = get_close_matches(stem, defaults, 1, 0.7)
    return f"Did you mean CELERY_{close[0].upper()}?" if close else "Leave it out, or call it otherwise."
