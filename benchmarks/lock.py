"""Locks: taking and giving back one that is free, and handing one on to a process that waits.

The first contestant is the least that a safe lock can do with bare redis-py: ``SET NX PX``, and ``EVALSHA``
of a script that compares and deletes. Hand-offs are given as milliseconds, of which there is no ratio to
bare redis-py, since it cannot wait; redis-py's Lock is the first contestant there.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import redis

import tenantkv
from benchmarks.timing import Measured, interleave, interleave_async
from tenantkv import Keyring, Namespace, embedded

_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


def _bare(client: redis.Redis) -> Callable[[], object]:
    sha = client.script_load(_RELEASE)

    def pair() -> object:
        token = secrets.token_urlsafe(16)
        client.set("bench:bare", token, nx=True, px=30_000)
        return client.evalsha(sha, 1, "bench:bare", token)

    return pair


def _locking(make: Callable[[], Any]) -> Callable[[], object]:
    def pair() -> None:
        lock = make()
        lock.acquire()
        lock.release()

    return pair


def _peers(client: redis.Redis) -> dict[str, Callable[[], object]]:
    found: dict[str, Callable[[], object]] = {
        "redis-py Lock": _locking(lambda: client.lock("bench:stock", timeout=30)),
    }
    try:
        import redis_lock
    except ImportError:
        print("python-redis-lock is not installed, and left out")
    else:
        found["python-redis-lock"] = _locking(lambda: redis_lock.Lock(client, "bench:prl", expire=30))
    return found


def run(*, rounds: int = 25, quick: bool = False, only: str = "") -> list[Measured]:
    """Measure everything, or the work whose name contains `only`."""
    rows: list[Measured] = []
    namespace = Namespace(Keyring.generate(os.urandom(96)))
    with embedded.start("shared") as server:
        stock = redis.Redis.from_url(server.url)
        kv = tenantkv.connect(server.url, namespace=namespace)
        semaphore = kv.semaphore("bench", 5, lease=30)
        limit = kv.rate_limit("bench", 1_000_000_000, per=60)
        contestants = {
            "bare SET + EVALSHA": _bare(stock),
            "bare again": _bare(stock),
            "tenantkv": _locking(lambda: kv.lock("bench", lease=30)),
            "tenantkv, timeout=": _locking(lambda: kv.lock("bench", timeout=30)),
            "tenantkv fair": _locking(lambda: kv.lock("bench:fair", lease=30, fair=True)),
            **_peers(stock),
            "tenantkv semaphore": _locking(lambda: semaphore),
            "tenantkv rate limit": limit.hit,
        }
        repeats = 50 if quick else 300
        if only in "acquire + release":
            rows += interleave("acquire + release", contestants, repeats=repeats, rounds=rounds)
        if only in "async acquire + release":
            rows += asyncio.run(_run_async(server.url, namespace, rounds, repeats))
        if only in "hand-off":
            rows += _hand_offs(server.url, 20 if quick else 60)
    return rows


async def _run_async(url: str, namespace: Namespace, rounds: int, repeats: int) -> list[Measured]:
    stock = redis.asyncio.Redis.from_url(url)
    akv = tenantkv.asyncio.connect(url, namespace=namespace)
    sha = await stock.script_load(_RELEASE)

    async def bare() -> None:
        token = secrets.token_urlsafe(16)
        await stock.set("bench:bare", token, nx=True, px=30_000)
        await stock.evalsha(sha, 1, "bench:bare", token)

    async def redis_py() -> None:
        lock = stock.lock("bench:stock", timeout=30)
        await lock.acquire()
        await lock.release()

    async def ours() -> None:
        lock = akv.lock("bench", lease=30)
        await lock.acquire()
        await lock.release()

    contestants: dict[str, Callable[[], Awaitable[object]]] = {
        "bare SET + EVALSHA": bare,
        "tenantkv": ours,
        "redis-py Lock": redis_py,
    }
    rows = await interleave_async("async acquire + release", contestants, repeats=repeats, rounds=rounds)
    await stock.aclose()
    await akv.aclose()
    return rows


# What waits in another process: takes the lock whenever it is free, tells when it had it, gives it back.
_WAITER = """
import sys, time, redis, tenantkv
kind, url, keyring = sys.argv[1:]
if kind == "tenantkv":
    from tenantkv import Keyring, Namespace
    client = tenantkv.connect(url, namespace=Namespace(Keyring.generate(bytes.fromhex(keyring))))
    make = lambda: client.lock("bench:hand", lease=30)
else:
    client = redis.Redis.from_url(url)
    options = {"sleep": 0.01} if kind.endswith("0.01") else {}
    make = lambda: client.lock("bench:hand", timeout=30, **options)
print("ready", flush=True)
for line in sys.stdin:
    lock = make()
    lock.acquire()
    print(time.monotonic_ns(), flush=True)
    lock.release()
    print("released", flush=True)
"""


def _hand_offs(url: str, count: int) -> list[Measured]:
    """Measure from before the release until the waiter has the lock, in two processes."""
    seed = os.urandom(96)
    kv = tenantkv.connect(url, namespace=Namespace(Keyring.generate(seed)))
    stock = redis.Redis.from_url(url)
    makers: dict[str, Callable[[], Any]] = {
        "redis-py Lock": lambda: stock.lock("bench:hand", timeout=30),
        "redis-py, sleep=0.01": lambda: stock.lock("bench:hand", timeout=30),
        "tenantkv": lambda: kv.lock("bench:hand", lease=30),
    }
    found: dict[str, list[float]] = {}
    for kind, make in makers.items():
        command = [sys.executable, "-c", _WAITER, kind, url, seed.hex()]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as waiter:
            assert waiter.stdin is not None and waiter.stdout is not None
            waiter.stdout.readline()
            times = []
            for number in range(count):
                lock = make()
                lock.acquire()
                waiter.stdin.write("go\n")
                waiter.stdin.flush()
                # Not in step with anybody's polling.
                time.sleep(0.03 + 0.1 * (number * 0.618 % 1))
                released = time.monotonic_ns()
                lock.release()
                times.append((int(waiter.stdout.readline()) - released) / 1000)
                waiter.stdout.readline()
            waiter.stdin.close()
        found[kind] = times
    first = statistics.median(next(iter(found.values())))
    return [
        Measured("hand-off", kind, statistics.median(times), 0.0, statistics.median(times) / first, 0.0)
        for kind, times in found.items()
    ]
