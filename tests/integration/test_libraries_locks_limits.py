"""python-redis-lock and limits through our client and pool, beside neighbours."""

from __future__ import annotations

import threading
import time
from typing import Any

import limits
import pytest
import redis
import redis_lock
from limits.storage import RedisStorage
from limits.strategies import (
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    SlidingWindowCounterRateLimiter,
)

import tenantkv
from tests.neighbourhood import neighbourhood

STRATEGIES: list = [FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter]


@pytest.fixture(params=[False, True], ids=["plain", "registry"])
def place(request, shared_server):
    with neighbourhood(shared_server, registry=request.param) as place:
        yield place


def plant_lock(client):
    client.set("lock:report", "the neighbour's")
    client.set("lock:other", "the neighbour's")


def test_a_lock_excludes_waits_and_is_not_the_neighbours(place):
    place.plant(plant_lock)
    inside, order = [], []

    def work(number):
        with redis_lock.Lock(place.kv, "report", expire=10, auto_renewal=True):
            inside.append(number)
            assert len(inside) == 1
            time.sleep(0.02)
            order.append(inside.pop())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(order) == [0, 1, 2, 3, 4]


def test_a_lock_renews_extends_and_times_out(place):
    place.plant(plant_lock)
    lock = redis_lock.Lock(place.kv, "report", expire=1, auto_renewal=True)
    assert lock.acquire(blocking=False)
    second = redis_lock.Lock(place.connect(), "report", expire=1)
    assert not second.acquire(blocking=False)
    assert not second.acquire(timeout=1)  # BLPOP
    time.sleep(0.3)
    assert lock.locked()
    assert second.get_owner_id() == lock.id
    lock.extend(5)
    lock.release()
    assert second.acquire(blocking=False)
    second.reset()
    assert not lock.locked()


def test_resetting_all_locks_needs_keys_in_a_script(place):
    place.plant(plant_lock)
    lock = redis_lock.Lock(place.kv, "report", expire=5)
    lock.acquire()
    with pytest.raises(redis.ResponseError):
        redis_lock.reset_all(place.kv)
    lock.release()


def plant_limits(client):
    storage = RedisStorage("redis://", connection_pool=client.connection_pool)
    for strategy in STRATEGIES:
        for _ in range(2):
            strategy(storage).hit(limits.parse("2/hour"), strategy.__name__)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_limits(place, strategy):
    place.plant(plant_limits)
    storage = RedisStorage("redis://", connection_pool=place.pool())
    limiter, same = strategy(storage), strategy.__name__
    rate = limits.parse("2/hour")
    assert storage.check()
    # The neighbour's hits under the same names do not count.
    assert [limiter.hit(rate, same) for _ in range(3)] == [True, True, False]
    assert not limiter.test(rate, same)
    assert limiter.get_window_stats(rate, same).remaining == 0
    assert limiter.test(rate, "another")
    limiter.clear(rate, same)
    assert limiter.hit(rate, same)


def test_a_short_window_passes(place):
    place.plant(plant_limits)
    # As Flask-Limiter makes it, of storage_uri= and storage_options=.
    storage = limits.storage.storage_from_string("redis://", connection_pool=place.pool())
    limiter = MovingWindowRateLimiter(storage)
    rate = limits.parse("2/1 second")
    assert [limiter.hit(rate, "x") for _ in range(3)] == [True, True, False]
    time.sleep(1.1)
    assert limiter.hit(rate, "x")


def test_resetting_limits_without_keys(place):
    """reset() asks for KEYS in a script; the registry knows the names."""
    place.plant(plant_limits)
    pool = place.pool()
    storage = RedisStorage("redis://", connection_pool=pool)
    limiter, rate = FixedWindowRateLimiter(storage), limits.parse("1/hour")
    assert limiter.hit(rate, "x")
    with pytest.raises(redis.ResponseError):
        storage.reset()
    if place.registry:
        client = tenantkv.TenantRedis(connection_pool=pool)
        names = list(client.scan_iter("LIMITS*"))
        assert names
        client.unlink(*names)
        assert limiter.hit(rate, "x")


def test_resetting_limits_where_keys_exist(open_server):
    with neighbourhood(open_server) as place:
        place.plant(plant_limits)
        storage = RedisStorage("redis://", connection_pool=place.pool())
        limiter, rate = FixedWindowRateLimiter(storage), limits.parse("1/hour")
        assert limiter.hit(rate, "x")
        assert storage.reset() == 1
        assert limiter.hit(rate, "x")


async def test_limits_for_asyncio(place):
    from limits.aio.storage import RedisStorage as AsyncRedisStorage
    from limits.aio.strategies import MovingWindowRateLimiter as AsyncMovingWindow

    place.plant(plant_limits)
    pool: Any = tenantkv.asyncio.connection_pool(
        place.server.url, namespace=place.namespace, registry=place.registry
    )
    storage = AsyncRedisStorage("async+redis://", connection_pool=pool, implementation="redispy")
    limiter, rate = AsyncMovingWindow(storage), limits.parse("2/hour")
    assert [await limiter.hit(rate, "MovingWindowRateLimiter") for _ in range(3)] == [True, True, False]
    await pool.aclose()
