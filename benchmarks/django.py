"""Django's cache: `TenantCache` next to Django's own RedisCache and django-redis, on one server.

The first contestant is Django's own, which authenticates nothing and, like django-redis, unpickles whatever
it finds.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable
from typing import Any

from benchmarks.timing import Measured, interleave, interleave_async
from tenantkv import Keyring, Namespace, embedded

_SMALL: dict[str, Any] = {f"field{number}": "x" * 20 for number in range(5)} | {"when": (2026, 11, 21)}
_LARGE: dict[str, Any] = {**_SMALL, "page": "<p>a paragraph of a page</p>\n" * 360}
_MANY = 100


def _contestants(url: str) -> dict[str, Any]:
    from django.conf import settings

    if not settings.configured:
        settings.configure()
    from django.core.cache.backends.redis import RedisCache

    from tenantkv.contrib.django import TenantCache

    found: dict[str, Any] = {"Django RedisCache": RedisCache(url, {})}
    try:
        from django_redis.cache import RedisCache as DjangoRedis
    except ImportError:
        print("django-redis is not installed, and left out")
    else:
        found["django-redis"] = DjangoRedis(url, {})
    namespace = Namespace(Keyring.generate(os.urandom(96)))
    for name, more in (
        ("tenantkv signed", {}),
        ("tenantkv sealed", {"seal": True}),
        ("tenantkv signed json", {"codec": "json"}),
    ):
        options = {"namespace": namespace, "name": name.replace(" ", "-"), **more}
        found[name] = TenantCache(url, {"OPTIONS": options})
    return found


def _work() -> dict[str, Callable[[Any, bool], Callable[[], object]]]:
    """Return for each work a function of a cache, and of whether it takes only JSON's values."""

    def values(is_json: bool) -> tuple[Any, Any]:
        if not is_json:
            return _SMALL, _LARGE
        return {**_SMALL, "when": [2026, 11, 21]}, {**_LARGE, "when": [2026, 11, 21]}

    def single(size: int, verb: str) -> Callable[[Any, bool], Callable[[], object]]:
        def make(cache: Any, is_json: bool) -> Callable[[], object]:
            value = values(is_json)[size]
            cache.set(f"one{size}", value, 600)
            if verb == "get":
                return lambda: cache.get(f"one{size}")
            return lambda: cache.set(f"one{size}", value, 600)

        return make

    def many(size: int, verb: str) -> Callable[[Any, bool], Callable[[], object]]:
        def make(cache: Any, is_json: bool) -> Callable[[], object]:
            items = {f"many{size}:{number}": values(is_json)[size] for number in range(_MANY)}
            cache.set_many(items, 600)
            if verb == "get":
                return lambda: cache.get_many(items)
            return lambda: cache.set_many(items, 600)

        return make

    def incr(cache: Any, is_json: bool) -> Callable[[], object]:
        cache.set("number", 0, 600)
        return lambda: cache.incr("number")

    def touch(cache: Any, is_json: bool) -> Callable[[], object]:
        cache.set("touched", 0, 600)
        return lambda: cache.touch("touched", 600)

    def add(cache: Any, is_json: bool) -> Callable[[], object]:
        numbers = itertools.count()
        return lambda: cache.add(f"added{next(numbers)}", 0, 600)

    return {
        "get 200 B": single(0, "get"),
        "set 200 B": single(0, "set"),
        "get 10 KB": single(1, "get"),
        "set 10 KB": single(1, "set"),
        "incr": incr,
        "touch": touch,
        "add": add,
        f"get_many({_MANY}) 200 B": many(0, "get"),
        f"set_many({_MANY}) 200 B": many(0, "set"),
        f"get_many({_MANY}) 10 KB": many(1, "get"),
        f"set_many({_MANY}) 10 KB": many(1, "set"),
    }


def run(*, rounds: int = 25, quick: bool = False, only: str = "") -> list[Measured]:
    """Measure everything, or the work whose name contains `only`."""
    try:
        import django  # noqa: F401
    except ImportError:
        print("Django is not installed")
        return []
    rows: list[Measured] = []
    with embedded.start("shared") as server:
        caches = _contestants(server.url)
        for name, make in _work().items():
            if only in name:
                repeats = (40 if quick else 200) // (20 if "many" in name else 1)
                functions = {who: make(cache, "json" in who) for who, cache in caches.items()}
                rows += interleave(name, functions, repeats=repeats, rounds=rounds)
        if only in "async get 200 B, get_many, incr":
            rows += asyncio.run(_run_async(caches, rounds, quick))
    return rows


async def _run_async(caches: dict[str, Any], rounds: int, quick: bool) -> list[Measured]:
    rows: list[Measured] = []
    repeats = 10 if quick else 50
    for cache in caches.values():
        await cache.aset("one0", {"a": 1}, 600)
        await cache.aset("number", 0, 600)
        await cache.aset_many({f"many{number}": number for number in range(_MANY)}, 600)

    def get(cache: Any) -> Any:
        return lambda: cache.aget("one0")

    def get_many(cache: Any) -> Any:
        return lambda: cache.aget_many([f"many{number}" for number in range(_MANY)])

    def incr(cache: Any) -> Any:
        return lambda: cache.aincr("number")

    for name, make, share in (
        ("async get 200 B", get, 1),
        (f"async get_many({_MANY})", get_many, 10),
        ("async incr", incr, 1),
    ):
        functions = {who: make(cache) for who, cache in caches.items()}
        rows += await interleave_async(name, functions, repeats=max(1, repeats // share), rounds=rounds)
    return rows
