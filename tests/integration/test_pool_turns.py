"""More threads and tasks than connections: everybody gets a turn, and no connection is lost on the way."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from typing import Any

import pytest
from redis.exceptions import MaxConnectionsError

import tenantkv
import tenantkv.asyncio
from tenantkv import Keyring, Namespace


@pytest.fixture
def namespace() -> Namespace:
    return Namespace(Keyring.generate(os.urandom(96)))


def is_fair(counts: list[int], worst: list[int]) -> bool:
    """Say whether nobody got much less than others, nor waited for a third of all calls.

    In calls and not in seconds, since the machine may stand still.
    """
    return min(counts) > max(counts) / 10 > 1 and max(worst) < sum(counts) / 3


@pytest.mark.parametrize(("connections", "threads"), [(1, 3), (2, 3), (4, 16)])
def test_threads_that_never_rest_leave_others_their_turn(
    shared_server: Any, namespace: Namespace, connections: int, threads: int
) -> None:
    with tenantkv.connect(shared_server.url, namespace=namespace, max_connections=connections) as kv:
        kv.set("a", 1)
        counts, worst = [0] * threads, [0] * threads
        end = time.monotonic() + 1.5

        def ask(number: int) -> None:
            while time.monotonic() < end:
                before = sum(counts)
                assert kv.get("a") == b"1"
                worst[number] = max(worst[number], sum(counts) - before)
                counts[number] += 1

        running = [threading.Thread(target=ask, args=(number,)) for number in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        assert is_fair(counts, worst), (counts, worst)
        assert not kv.connection_pool._waiting


@pytest.mark.parametrize(("connections", "tasks"), [(1, 2), (2, 3), (4, 50)])
async def test_tasks_that_never_rest_leave_others_their_turn(
    shared_server: Any, namespace: Namespace, connections: int, tasks: int
) -> None:
    options: dict[str, Any] = {"namespace": namespace, "max_connections": connections}
    async with tenantkv.asyncio.connect(shared_server.url, **options) as kv:
        await kv.set("a", 1)
        counts, worst = [0] * tasks, [0] * tasks
        end = time.monotonic() + 1.0

        async def ask(number: int) -> None:
            while time.monotonic() < end:
                before = sum(counts)
                assert await kv.get("a") == b"1"
                worst[number] = max(worst[number], sum(counts) - before)
                counts[number] += 1

        await asyncio.gather(*map(ask, range(tasks)))
        assert is_fair(counts, worst), (counts, worst)


def test_threads_that_give_up_take_nothing_along(shared_server: Any, namespace: Namespace) -> None:
    options: dict[str, Any] = {"namespace": namespace, "max_connections": 2, "pool_wait": 0.05}
    with tenantkv.connect(shared_server.url, **options) as kv:
        pool = kv.connection_pool
        held = [pool.get_connection(), pool.get_connection()]
        refused: list[Exception] = []

        def ask() -> None:
            try:
                kv.get("a")
            except MaxConnectionsError as error:
                refused.append(error)

        running = [threading.Thread(target=ask) for _ in range(8)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        assert len(refused) == 8 and "max_connections= higher" in str(refused[0])
        assert not pool._waiting
        for connection in held:
            pool.release(connection)
        assert kv.set("a", 1) and kv.get("a") == b"1"


async def test_tasks_that_give_up_take_nothing_along(shared_server: Any, namespace: Namespace) -> None:
    rng = random.Random(5)
    options: dict[str, Any] = {"namespace": namespace, "max_connections": 3}
    async with tenantkv.asyncio.connect(shared_server.url, **options) as kv:
        pool = kv.connection_pool
        await kv.set("a", 1)
        ended = dict.fromkeys(("answered", "cancelled", "refused"), 0)
        # In units of what a call takes here and now, on whatever machine.
        began = time.monotonic()
        for _ in range(20):
            await kv.get("a")
        unit = (time.monotonic() - began) / 20
        pool.pool_wait = 30 * unit

        async def ask(number: int) -> None:
            for _ in range(20):
                try:
                    call = kv.set("a", 1) if number % 2 else kv.get("a")
                    await asyncio.wait_for(call, rng.random() * 60 * unit)
                    ended["answered"] += 1
                except asyncio.TimeoutError:
                    ended["cancelled"] += 1
                except MaxConnectionsError:
                    ended["refused"] += 1

        deadline = time.monotonic() + 20
        while min(ended.values()) < 10:
            await asyncio.gather(*map(ask, range(60)))
            assert time.monotonic() < deadline, ended
        assert (pool._free(), len(pool._waiting), len(pool._called)) == (3, 0, 0)
        pool.pool_wait = 5.0
        for _ in range(5):
            assert await kv.set("a", 2) and await kv.get("a") == b"2"


def test_a_loop_that_ended_leaves_the_line_to_others(shared_server: Any, namespace: Namespace) -> None:
    options: dict[str, Any] = {"namespace": namespace, "max_connections": 1, "pool_wait": 2.0}
    first = asyncio.new_event_loop()

    async def make() -> Any:
        return tenantkv.asyncio.connect(shared_server.url, **options)

    kv = first.run_until_complete(make())
    pool = kv.connection_pool
    held = first.run_until_complete(pool.get_connection())
    waiting = [first.create_task(pool.get_connection()) for _ in range(2)]
    first.run_until_complete(asyncio.sleep(0.01))
    assert len(pool._waiting) == 2
    # One of them is called, and the loop is closed before it runs; no socket is to be left for that.
    first.run_until_complete(held.disconnect())
    first.run_until_complete(pool.release(held))
    assert len(pool._called) == 1 or any(task.done() for task in waiting)
    for task in waiting:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    taken = [task.result() for task in waiting if task.done()]
    for connection in taken:
        pool._in_use_connections.discard(connection)
    first.close()

    async def later() -> Any:
        return await asyncio.wait_for(kv.set("a", 1), 5)

    second = asyncio.new_event_loop()
    assert second.run_until_complete(later())
    second.run_until_complete(kv.aclose())
    second.close()
