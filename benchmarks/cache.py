"""The cache against bare redis-py and other caches, on one server, sync and asyncio.

A second plain client runs along: its ratio is the noise of the machine. Every contestant stores the same
text of 1 KB; bare redis-py gives bytes back, the others text. A peer that is not installed is left out.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import redis

import tenantkv
from benchmarks.timing import Measured, interleave, interleave_async
from tenantkv import Keyring, Namespace, embedded
from tenantkv.cache import AsyncCache, Cache

VALUE = "x" * 1000
KEYS = [f"key{number}" for number in range(2000)]
LOT = KEYS[:100]


def run(*, rounds: int = 25, quick: bool = False, only: str = "") -> list[Measured]:
    """Measure everything, or the work whose name contains `only`."""
    rows: list[Measured] = []
    namespace = Namespace(Keyring.generate(os.urandom(96)))
    # Without a shared server's limits, as some peers send what it does not have.
    with embedded.start(None) as server:
        works = _sync_works(server.url, namespace)
        for work, contestants in works.items():
            if only in work:
                repeats = (20 if "100" in work else 300) // (4 if quick else 1)
                rows += interleave(work, contestants, repeats=repeats, rounds=rounds)
        if only in "64 misses":
            rows.append(_stampede(server.url, namespace))
        rows += asyncio.run(_run_async(server.url, namespace, rounds, quick, only))
    return rows


def _sync_works(url: str, namespace: Namespace) -> dict[str, dict[str, Callable[[], object]]]:
    stock, again = redis.Redis.from_url(url), redis.Redis.from_url(url)
    kv = tenantkv.connect(url, namespace=namespace)
    signed, sealed = Cache(kv, "signed", ttl=3600), Cache(kv, "sealed", ttl=3600, seal=True)
    tagged, near = Cache(kv, "tagged", ttl=3600), Cache(kv, "near", ttl=3600, near=True)
    while near.near_mode == "off":
        time.sleep(0.01)
    stock.mset(dict.fromkeys(KEYS, VALUE))
    for cache in (signed, sealed, near):
        cache.set_many(dict.fromkeys(KEYS, VALUE))
    tagged.set("key0", VALUE, tags=["a", "b", "c"])
    time.sleep(0.1)
    near.get("key0")
    ours = {"tenantkv": signed, "tenantkv sealed": sealed}
    peers = _sync_peers(url)
    caches: dict[str, Any] = {**ours, **peers}
    for cache in peers.values():
        cache.set("key0", VALUE)
    plain: dict[str, Callable[[], object]] = {
        "redis-py GET": lambda: stock.get("key0"),
        "redis-py again": lambda: again.get("key0"),
    }
    turn = itertools.cycle(KEYS)
    return {
        "hit": {
            **plain,
            **{name: partial(cache.get, "key0") for name, cache in caches.items()},
            "tenantkv, 3 tags": lambda: tagged.get("key0"),
        },
        "hit, 2000 keys": {
            "redis-py GET": lambda: stock.get(next(turn)),
            "tenantkv": lambda: signed.get(next(turn)),
            "tenantkv sealed": lambda: sealed.get(next(turn)),
        },
        "get_or_compute hit": {
            "redis-py GET": plain["redis-py GET"],
            "tenantkv": lambda: signed.get_or_compute("key0", dict),
            "tenantkv, 3 tags": lambda: tagged.get_or_compute("key0", dict, tags=["a", "b", "c"]),
        },
        "near hit": {
            "redis-py GET": plain["redis-py GET"],
            "tenantkv near": lambda: near.get("key0"),
        },
        "set": {
            "redis-py SET": lambda: stock.set("key0", VALUE, ex=3600),
            **{name: partial(cache.set, "key1", VALUE) for name, cache in caches.items()},
        },
        "get 100": {
            "redis-py MGET": lambda: stock.mget(LOT),
            "tenantkv": lambda: signed.get_many(LOT),
            "tenantkv sealed": lambda: sealed.get_many(LOT),
        },
        "set 100": {
            "redis-py pipeline": lambda: _set_lot(stock),
            "tenantkv": lambda: signed.set_many(dict.fromkeys(LOT, VALUE)),
            "tenantkv sealed": lambda: sealed.set_many(dict.fromkeys(LOT, VALUE)),
        },
    }


def _set_lot(client: Any) -> object:
    with client.pipeline(transaction=False) as pipe:
        for key in LOT:
            pipe.set(key, VALUE, ex=3600)
        return pipe.execute()


def _sync_peers(url: str) -> dict[str, Any]:
    peers: dict[str, Any] = {}
    try:
        from django.conf import settings  # type: ignore[import-not-found, import-untyped, unused-ignore]
        from django.core.cache.backends.redis import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
            RedisCache,
        )

        if not settings.configured:
            settings.configure()
        peers["Django RedisCache"] = RedisCache(url, {})
        from django_redis.cache import RedisCache as DjangoRedis  # type: ignore[import-not-found, import-untyped, unused-ignore]

        peers["django-redis"] = DjangoRedis(url, {"OPTIONS": {}})
    except ImportError as error:
        print(f"left out: {error.name}")
    try:
        from dogpile.cache import make_region  # type: ignore[import-not-found, import-untyped, unused-ignore]

        region = make_region().configure(
            "dogpile.cache.redis",
            arguments={
                "connection_pool": redis.ConnectionPool.from_url(url),
                "redis_expiration_time": 3600,
            },
        )
        peers["dogpile.cache"] = region
    except ImportError as error:
        print(f"left out: {error.name}")
    return peers


def _stampede(url: str, namespace: Namespace) -> Measured:
    """64 threads with a cache each for four of them, so that both kinds of single-flight are at work."""
    caches = [Cache(tenantkv.connect(url, namespace=namespace), "stampede", timeout=5.0) for _ in range(16)]
    computed: list[float] = []

    def compute() -> str:
        computed.append(time.perf_counter())
        time.sleep(0.1)
        return VALUE

    barrier = threading.Barrier(65)

    def work(cache: Cache) -> None:
        barrier.wait()
        assert cache.get_or_compute("key", compute) == VALUE

    threads = [threading.Thread(target=work, args=(cache,)) for cache in caches for _ in range(4)]
    for thread in threads:
        thread.start()
    barrier.wait()
    begun = time.perf_counter()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - begun
    # The ratio is to the 0.1 s that one computation takes.
    name = f"computed {len(computed)} time(s)"
    return Measured("64 misses", name, wall * 1e6, 0.0, wall / 0.1, 0.0)


async def _run_async(url: str, namespace: Namespace, rounds: int, quick: bool, only: str) -> list[Measured]:
    stock, again = (redis.asyncio.Redis.from_url(url) for _ in range(2))
    akv = tenantkv.asyncio.connect(url, namespace=namespace)
    caches: dict[str, Any] = {
        "tenantkv": AsyncCache(akv, "signed", ttl=3600),
        "tenantkv sealed": AsyncCache(akv, "sealed", ttl=3600, seal=True),
        **await _async_peers(url),
    }
    await stock.set("key0", VALUE)
    for cache in caches.values():
        await cache.set("key0", VALUE)
    contestants: dict[str, Callable[[], Any]] = {
        "redis-py GET": lambda: stock.get("key0"),
        "redis-py again": lambda: again.get("key0"),
        **{name: partial(cache.get, "key0") for name, cache in caches.items()},
    }
    rows: list[Measured] = []
    if only in "async hit":
        repeats = 75 if quick else 300
        rows = await interleave_async("async hit", contestants, repeats=repeats, rounds=rounds)
    for client in (stock, again, akv):
        await client.aclose()
    return rows


async def _async_peers(url: str) -> dict[str, Any]:
    peers: dict[str, Any] = {}
    try:
        import cashews  # type: ignore[import-not-found, import-untyped, unused-ignore]

        cache = cashews.Cache()
        # Its URLs know no unix sockets; a client of its own takes them.
        cache.setup("redis://", address=url)
        await cache.init()
        peers["cashews"] = cache
    except ImportError as error:
        print(f"left out: {error.name}")
    except Exception as error:
        print(f"left out: cashews ({type(error).__name__})")
    try:
        import aiocache  # type: ignore[import-not-found, import-untyped, unused-ignore]
        from aiocache.serializers import JsonSerializer  # type: ignore[import-not-found, import-untyped, unused-ignore]

        made = aiocache.RedisCache(serializer=JsonSerializer())
        made.client = redis.asyncio.Redis.from_url(url)
        peers["aiocache"] = made
    except ImportError as error:
        print(f"left out: {error.name}")
    return peers
