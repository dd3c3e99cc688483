"""Many who miss one entry at a time: threads, tasks and processes; one computes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import tenantkv
from tenantkv import Keyring, Namespace
from tenantkv.cache import AsyncCache, Cache

ROOT = Path(__file__).resolve().parents[2]

# 16 threads, or tasks, that begin together; each process counts what it computed on a plain key.
PROGRAM = """
import asyncio, sys, threading, time
import tenantkv
from tenantkv.cache import AsyncCache, Cache
kind = sys.argv[1]
kv = tenantkv.connect()
def compute():
    kv.incr("computed")
    time.sleep(0.3)
    return "value"
async def acompute():
    kv.incr("computed")
    await asyncio.sleep(0.3)
    return "value"
kv.incr("ready")
while int(kv.get("ready")) < int(sys.argv[2]):
    time.sleep(0.005)
if kind == "sync":
    cache, found = Cache(kv, "pages", timeout=5), []
    def work():
        found.append(cache.get_or_compute("k", compute))
    threads = [threading.Thread(target=work) for _ in range(16)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
else:
    async def main():
        akv = tenantkv.asyncio.connect()
        cache = AsyncCache(akv, "pages", timeout=5)
        found = await asyncio.gather(*(cache.get_or_compute("k", acompute) for _ in range(16)))
        await akv.aclose()
        return found
    found = asyncio.run(main())
assert found == ["value"] * 16, found
"""


@pytest.fixture
def namespace():
    return Namespace(Keyring.generate(os.urandom(96)))


def environment(server, namespace) -> dict[str, str]:
    own = {
        "TENANTKV_URL": server.url,
        "TENANTKV_SECRET_KEYRING": namespace.keyring.dump(compact=True),
        "PYTHONPATH": str(ROOT / "src"),
    }
    return {**os.environ, **own}


def test_64_misses_in_4_processes_compute_once(shared_server, namespace):
    kv = tenantkv.connect(shared_server.url, namespace=namespace)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, kind, "4"], env=environment(shared_server, namespace)
        )
        for kind in ("sync", "asyncio", "sync", "asyncio")
    ]
    assert [process.wait(60) for process in processes] == [0, 0, 0, 0]
    assert kv.get("computed") == b"1"
    kv.close()


def test_a_process_that_dies_while_it_computes_is_replaced(shared_server, namespace):
    program = (
        "import tenantkv, time\nfrom tenantkv.cache import Cache\n"
        "cache = Cache(tenantkv.connect(), 'pages', lease=0.5)\n"
        "cache.get_or_compute('k', lambda: print('computing', flush=True) or time.sleep(60))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment(shared_server, namespace),
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdout.readline() == b"computing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    kv = tenantkv.connect(shared_server.url, namespace=namespace)
    cache = Cache(kv, "pages", lease=5)
    assert cache.get_or_compute("k", lambda: "mine") == "mine"
    assert cache.stats.waited == 1 and cache.get("k") == "mine"
    kv.close()


def test_an_error_reaches_all_who_wait(shared_server, namespace):
    kv = tenantkv.connect(shared_server.url, namespace=namespace)
    cache = Cache(kv, "pages")
    entered, go = threading.Event(), threading.Event()
    errors, calls = [], []

    def fail() -> None:
        calls.append(1)
        entered.set()
        go.wait()
        raise KeyError("nothing")

    def work() -> None:
        try:
            cache.get_or_compute("k", fail)
        except KeyError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    threads[0].start()
    entered.wait()
    for thread in threads[1:]:
        thread.start()
    while cache.stats.waited < 7:
        time.sleep(0.005)
    go.set()
    for thread in threads:
        thread.join()
    assert len(errors) == 8 and len(calls) == 1
    assert cache.get_or_compute("k", lambda: 1) == 1
    kv.close()


async def test_who_waits_for_a_task_that_is_cancelled_computes(shared_server, namespace):
    akv = tenantkv.asyncio.connect(shared_server.url, namespace=namespace)
    cache = AsyncCache(akv, "pages")
    entered = asyncio.Event()

    async def stuck() -> None:
        entered.set()
        await asyncio.sleep(3600)

    async def quick() -> str:
        return "quick"

    leader = asyncio.create_task(cache.get_or_compute("k", stuck))
    await entered.wait()
    follower = asyncio.create_task(cache.get_or_compute("k", quick))
    while cache.stats.waited < 1:
        await asyncio.sleep(0.005)
    leader.cancel()
    assert await follower == "quick"
    with pytest.raises(asyncio.CancelledError):
        await leader
    assert await cache.get("k") == "quick"
    # A plain function will do too.
    assert await cache.get_or_compute("plain", lambda: 5) == 5
    await akv.aclose()


def test_asking_for_what_is_being_computed_is_an_error_and_no_deadlock(shared_server, namespace):
    kv = tenantkv.connect(shared_server.url, namespace=namespace)
    cache = Cache(kv, "pages")
    with pytest.raises(RuntimeError, match="the very same entry"):
        cache.get_or_compute("k", lambda: cache.get_or_compute("k", lambda: 1))
    assert cache.get_or_compute("k", lambda: cache.get_or_compute("other", lambda: 1)) == 1
    kv.close()


def test_stale_is_served_while_a_thread_computes(shared_server, namespace):
    kv = tenantkv.connect(shared_server.url, namespace=namespace)
    cache = Cache(kv, "pages", background=True, jitter=0)
    cache.set("k", "old", 0.01, stale=60)
    time.sleep(0.02)
    go, threads = threading.Event(), []

    def compute() -> str:
        threads.append(threading.current_thread())
        go.wait()
        return "new"

    for _ in range(5):
        assert cache.get_or_compute("k", compute, stale=60) == "old"
    go.set()
    while cache.get("k") != "new":
        time.sleep(0.005)
    assert len(threads) == 1 and threads[0] is not threading.current_thread()
    # What fails there is counted.
    cache.set("k", "old", 0.01, stale=60)
    time.sleep(0.02)
    assert cache.get_or_compute("k", {}.popitem) == "old"
    while not cache.stats.failed_refreshes:
        time.sleep(0.005)
    kv.close()


async def test_stale_is_served_while_a_task_computes(shared_server, namespace):
    akv = tenantkv.asyncio.connect(shared_server.url, namespace=namespace)
    async with AsyncCache(akv, "pages", background=True, jitter=0) as cache:
        await cache.set("k", "old", 0.01, stale=60)
        await asyncio.sleep(0.02)
        go, calls = asyncio.Event(), []

        async def compute() -> str:
            calls.append(1)
            await go.wait()
            return "new"

        for _ in range(5):
            assert await cache.get_or_compute("k", compute, stale=60) == "old"
            await asyncio.sleep(0)
        go.set()
        while await cache.get("k") != "new":
            await asyncio.sleep(0.005)
        assert len(calls) == 1
    await akv.aclose()


def test_increments_from_many_threads_are_all_counted(shared_server, namespace):
    kv = tenantkv.connect(shared_server.url, namespace=namespace)
    cache = Cache(kv, "pages", timeout=5)

    def work() -> None:
        for _ in range(25):
            assert cache.incr("n", initial=1) is not None

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.get("n") == 200
    kv.close()


def test_the_decorator(shared_server, namespace):
    kv = tenantkv.connect(shared_server.url, namespace=namespace)
    cache = Cache(kv, "pages")
    calls: list[int] = []

    @cache.cached(ttl=60, key="double:{n}", tags=["n:{n}"])
    def double(n: int) -> int:
        """Return twice the number."""
        calls.append(n)
        return 2 * n

    assert double(2) == double(n=2) == 4 and calls == [2]
    assert double.__doc__ == "Return twice the number." and double.cache_key(2) == "double:2"
    assert double.invalidate(2) is True and double(2) == 4 and calls == [2, 2]
    cache.invalidate_tag("n:2")
    assert double(2) == 4 and double.refresh(2) == 4 and calls == [2] * 4
    with pytest.raises(TypeError):

        @cache.cached()
        async def wrong() -> None: ...

    kv.close()


async def test_the_decorator_for_coroutines(shared_server, namespace):
    akv = tenantkv.asyncio.connect(shared_server.url, namespace=namespace)
    cache = AsyncCache(akv, "pages")
    calls: list[int] = []

    @cache.cached(ttl=60)
    async def double(n: int) -> int:
        calls.append(n)
        return 2 * n

    assert await double(2) == await double(2) == 4 and calls == [2]
    assert await double.invalidate(2) is True and await double.refresh(2) == 4 and calls == [2, 2]
    await akv.aclose()
