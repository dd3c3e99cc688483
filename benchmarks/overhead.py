"""The namespaced client against plain redis-py, on the shared profile, sync and asyncio.

A second plain client runs along: its ratio is the noise of the machine. With and without hiredis is two
runs, since redis-py decides at import (``make bench`` does both).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import redis

import tenantkv
from benchmarks.timing import Measured, interleave, interleave_async
from tenantkv import Keyring, Namespace, embedded

SCRIPT = "return redis.call('GET', KEYS[1])"
BIG = os.urandom(10_240)


def _sync_work(client: Any, tag: str) -> dict[str, Callable[[], object]]:
    names = [f"{tag}:many:{number}" for number in range(100)]
    client.mset(dict.fromkeys(names, b"value"))
    client.set(f"{tag}:key", b"value" * 10)
    client.set(f"{tag}:big", BIG)
    script = client.register_script(SCRIPT)
    script(keys=[f"{tag}:key"])
    sha = script.sha

    def pipeline(transaction: bool) -> object:
        pipe = client.pipeline(transaction=transaction)
        for name in names:
            pipe.get(name)
        return pipe.execute()

    def pushed() -> object:
        client.rpush(f"{tag}:list", b"item")
        return client.blpop([f"{tag}:list"], 1)

    return {
        "get": lambda: client.get(f"{tag}:key"),
        "set": lambda: client.set(f"{tag}:key", b"value" * 10),
        "set with ttl": lambda: client.set(f"{tag}:key", b"value" * 10, ex=60),
        "get 10 KB": lambda: client.get(f"{tag}:big"),
        "set 10 KB": lambda: client.set(f"{tag}:big", BIG),
        "mget 100": lambda: client.mget(names),
        "pipeline of 100": lambda: pipeline(False),
        "MULTI of 100": lambda: pipeline(True),
        "evalsha": lambda: client.evalsha(sha, 1, f"{tag}:key"),
        "rpush + blpop": pushed,
        "publish": lambda: client.publish(f"{tag}:channel", b"message"),
    }


def _async_work(client: Any, tag: str) -> dict[str, Callable[[], Any]]:
    names = [f"{tag}:many:{number}" for number in range(100)]

    async def pipeline(transaction: bool) -> object:
        pipe = client.pipeline(transaction=transaction)
        for name in names:
            pipe.get(name)
        return await pipe.execute()

    async def pushed() -> object:
        await client.rpush(f"{tag}:list", b"item")
        return await client.blpop([f"{tag}:list"], 1)

    return {
        "get": lambda: client.get(f"{tag}:key"),
        "set": lambda: client.set(f"{tag}:key", b"value" * 10),
        "set 10 KB": lambda: client.set(f"{tag}:big", BIG),
        "mget 100": lambda: client.mget(names),
        "pipeline of 100": lambda: pipeline(False),
        "MULTI of 100": lambda: pipeline(True),
        "rpush + blpop": pushed,
        "publish": lambda: client.publish(f"{tag}:channel", b"message"),
    }


def _repeats(work: str, quick: bool) -> int:
    base = 20 if "100" in work else 300
    return base // 4 if quick else base


def run(*, rounds: int = 25, quick: bool = False, only: str = "") -> list[Measured]:
    """Measure everything, or the work whose name contains `only`."""
    rows: list[Measured] = []
    namespace = Namespace(Keyring.generate(os.urandom(96)))
    with embedded.start("shared") as server:
        # RESP2 and RESP3 differ by the server's work, so all contestants speak redis-py's default.
        stock, again = (redis.Redis.from_url(server.url) for _ in range(2))
        ours = tenantkv.connect(server.url, namespace=namespace)
        clients = {"redis-py": stock, "redis-py again": again, "tenantkv": ours}
        works = {name: _sync_work(client, "bench") for name, client in clients.items()}
        for work in works["tenantkv"]:
            if only in work:
                contestants = {name: works[name][work] for name in clients}
                rows += interleave(work, contestants, repeats=_repeats(work, quick), rounds=rounds)
        rows += asyncio.run(_run_async(server.url, namespace, rounds, quick, only))
    return rows


async def _run_async(url: str, namespace: Namespace, rounds: int, quick: bool, only: str) -> list[Measured]:
    rows: list[Measured] = []
    clients: dict[str, Any] = {
        "redis-py": redis.asyncio.Redis.from_url(url),
        "redis-py again": redis.asyncio.Redis.from_url(url),
        "tenantkv": tenantkv.asyncio.connect(url, namespace=namespace),
    }
    works = {name: _async_work(client, "bench") for name, client in clients.items()}
    for work in works["tenantkv"]:
        if only in work:
            contestants = {name: works[name][work] for name in clients}
            rows += await interleave_async(
                f"async {work}", contestants, repeats=_repeats(work, quick), rounds=rounds
            )
    for client in clients.values():
        await client.aclose()
    return rows
