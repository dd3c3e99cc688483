"""An event loop that stands still: what came meanwhile counts, and nothing is taken for an outage."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.exceptions import MaxConnectionsError

import tenantkv
import tenantkv.asyncio
from tenantkv import Keyring, Namespace
from tenantkv.transport.lateness import Patience
from tenantkv.transport.redis_py import LEAN
from tests.servers import RealServer, start_server

TIME_OUT = 0.1
STALL = 0.25


@pytest.fixture
def namespace() -> Namespace:
    return Namespace(Keyring.generate(os.urandom(96)))


@pytest.fixture
def own_server() -> Iterator[RealServer]:
    server = start_server("shared")
    yield server
    server.stop()


@pytest.mark.skipif(not LEAN, reason="redis-py's own time-out")
@pytest.mark.parametrize("steps", range(6))
async def test_no_reply_is_lost_to_a_loop_that_stood_still(
    shared_server: RealServer, namespace: Namespace, steps: int
) -> None:
    """Whichever step of sending and reading it is in."""
    options: dict[str, Any] = {"namespace": namespace, "socket_timeout": TIME_OUT, "retry": None}
    async with tenantkv.asyncio.connect(shared_server.url, **options) as kv:
        await kv.set("a", 0)
        for number in range(1, 4):
            call = asyncio.ensure_future(kv.incr("a"))
            for _ in range(steps):
                await asyncio.sleep(0)
            time.sleep(STALL)
            assert await call == 2 * number - 1
            # What was left of the time-out would end the next command before its reply is there.
            assert await kv.incr("a") == 2 * number


async def test_a_cache_takes_its_own_loop_for_no_outage(
    shared_server: RealServer, namespace: Namespace
) -> None:
    async with tenantkv.asyncio.connect(shared_server.url, namespace=namespace, max_connections=4) as kv:
        cache = kv.cache("pages", timeout=TIME_OUT)
        await cache.set("a", "page")
        for _ in range(5):
            # More than there are connections: some wait in line, some for replies.
            calls = [asyncio.ensure_future(cache.get("a")) for _ in range(12)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            time.sleep(STALL)
            assert await asyncio.gather(*calls) == ["page"] * 12
            assert not cache.is_away


async def test_a_server_that_hangs_is_given_up_nevertheless(
    own_server: RealServer, namespace: Namespace
) -> None:
    options: dict[str, Any] = {"namespace": namespace, "socket_timeout": TIME_OUT, "retry": None}
    async with tenantkv.asyncio.connect(own_server.url, **options) as kv:
        cache = kv.cache("pages", timeout=TIME_OUT)
        await cache.set("a", "page")
        await kv.set("a", 1)
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            for stall in (0.0, STALL):
                began = time.monotonic()
                call = asyncio.ensure_future(kv.get("a"))
                await asyncio.sleep(0)
                time.sleep(stall)
                # The second time it is the greeting that has no answer.
                with pytest.raises((redis.TimeoutError, redis.ConnectionError)):
                    await call
                assert time.monotonic() - began < 5
            assert await cache.get("a", "nothing") == "nothing"
            assert cache.is_away
        finally:
            os.kill(own_server.pid, signal.SIGCONT)


async def test_who_cancels_counts_for_more_than_patience() -> None:
    async def wait() -> None:
        with Patience(TIME_OUT):
            await asyncio.sleep(60)

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    # Both at once: the time-out is over, and somebody ends the task before it runs again.
    time.sleep(STALL)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(2):
        task = asyncio.ensure_future(wait())
        with pytest.raises(asyncio.TimeoutError):
            await task
        assert not task.cancelled()


async def test_patience_ends() -> None:
    began = time.monotonic()
    with pytest.raises(asyncio.TimeoutError), Patience(TIME_OUT):
        await asyncio.sleep(60)
    assert TIME_OUT <= time.monotonic() - began < 30
    with Patience(TIME_OUT), Patience(None):
        await asyncio.sleep(0)
    # Its timer went with it.
    await asyncio.sleep(2 * TIME_OUT)
    with pytest.raises(ZeroDivisionError), Patience(60):
        raise ZeroDivisionError


def test_a_used_up_pool_is_no_outage(shared_server: RealServer, namespace: Namespace) -> None:
    with tenantkv.connect(shared_server.url, namespace=namespace, max_connections=2) as kv:
        cache = kv.cache("pages", timeout=TIME_OUT, on_outage="raise")
        cache.set("a", "page")
        pool: Any = cache._wire._pool
        held = [pool.get_connection(), pool.get_connection()]
        for act in (lambda: cache.get("a"), lambda: cache.get_many(["a"]), lambda: cache.touch("a")):
            with pytest.raises(MaxConnectionsError):
                act()
            assert not cache.is_away
        for connection in held:
            pool.release(connection)
        assert cache.get("a") == "page"
