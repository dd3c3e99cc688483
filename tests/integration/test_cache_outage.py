"""The cache while the server is away, slow, full, or loses replies: outcomes, not exceptions by chance."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import pytest
import redis

from tenantkv.cache import MISS
from tests.cache_worlds import World
from tests.cutting_proxy import CuttingProxy
from tests.proxy import Proxy
from tests.servers import RealServer, start_server, start_tcp


@pytest.fixture(scope="module")
def tcp_server() -> Iterator[RealServer]:
    server = start_tcp("shared")
    yield server
    server.stop()


@pytest.fixture
def proxy(tcp_server) -> Iterator[Proxy]:
    tcp_server.flush()
    with Proxy(tcp_server.port) as made:
        yield made


@pytest.fixture(params=["sync", "asyncio"])
def world(request, proxy) -> Iterator[World]:
    made = World(proxy.url, None, is_async=request.param == "asyncio")
    yield made
    made.close()


def breaker_of(cache):
    return getattr(cache, "target", cache)._wire.breaker


def away(proxy: Proxy) -> None:
    """Have the server refuse, as after a crash."""
    proxy.target = 1
    proxy.cut_all()


def back(proxy: Proxy, server: RealServer, *caches) -> None:
    proxy.target = server.port
    for cache in caches:
        # As if the pause were over.
        breaker_of(cache)._again_at = 0.0


def test_everything_has_an_outcome_while_the_server_is_away(world, proxy, tcp_server):
    cache = world.cache()
    cache.set("k", 1)
    away(proxy)
    assert cache.get("k", default=MISS) is MISS
    assert cache.is_away is True
    assert cache.get_many(["k"]) == {}
    assert cache.set("k", 2) is False and cache.set_many({"k": 2}) == ["k"]
    assert cache.add("k", 2) is False and cache.touch("k") is False and cache.ttl("k") is None
    assert cache.incr("k") is None and cache.incr("k", initial=1) is None
    assert cache.delete("k") is False and cache.delete_many(["k"]) == 0
    assert cache.incr_version("k") is None
    assert cache.clear() is False and cache.invalidate_tag("t") is False
    assert cache.get_or_compute("k", lambda: 3) == 3
    with pytest.raises(KeyError):
        cache.get_or_compute("k", {}.popitem)
    assert cache.stats.unavailable >= 13
    back(proxy, tcp_server, cache)
    assert cache.set("k", 4) is True and cache.is_away is False
    assert cache.get("k") == 4


def test_raise_raises_redis_py_s_own_errors(world, proxy, tcp_server):
    cache = world.cache(on_outage="raise")
    cache.set("k", 1)
    away(proxy)
    for call in (
        lambda: cache.get("k"),
        lambda: cache.get_many(["k"]),
        lambda: cache.set("k", 2),
        lambda: cache.add("k", 2),
        lambda: cache.delete("k"),
        lambda: cache.incr("k"),
        lambda: cache.touch("k"),
        cache.clear,
        lambda: cache.get_or_compute("k", lambda: 3),
    ):
        with pytest.raises((redis.ConnectionError, redis.TimeoutError)) as caught:
            call()
        assert world.namespace.keyring.prefix not in str(caught.value)
    back(proxy, tcp_server, cache)
    # What was to be deleted is deleted before anything is read.
    assert cache.get("k") is None


@pytest.mark.parametrize(
    ("call", "left"),
    [
        (lambda cache: cache.delete("a"), {"b": 2}),
        (lambda cache: cache.invalidate_tag("t"), {"a": 1}),
        (lambda cache: cache.clear(), {}),
        (lambda cache: cache.set("a", 5), {"b": 2}),
    ],
    ids=["delete", "tag", "clear", "set"],
)
def test_what_the_server_did_not_hear_is_made_up_for(world, proxy, tcp_server, call, left):
    cache, other = world.cache(), world.cache()
    cache.set("a", 1)
    cache.set("b", 2, tags=["t"])
    away(proxy)
    call(cache)
    back(proxy, tcp_server, cache, other)
    assert cache.get_many(["a", "b"]) == left
    assert other.get_many(["a", "b"]) == left


def test_a_server_that_hangs_is_asked_once_and_not_by_every_call(proxy, tcp_server):
    for is_async in (False, True):
        world = World(proxy.url, None, is_async=is_async)
        cache = world.cache(timeout=0.1)
        cache.set("k", 1)
        os.kill(tcp_server.pid, signal.SIGSTOP)
        try:
            assert cache.get("k") is None and cache.is_away
            # Nobody else asks in this pause, however many calls there are.
            breaker_of(cache)._again_at += 60
            accepted = proxy.accepted
            for _ in range(200):
                assert cache.get("k") is None and cache.set("l", 1) is False
            assert proxy.accepted == accepted
            # One probes when it is over, and finds the same.
            breaker_of(cache)._again_at = 0.0
            assert cache.get("k") is None and cache.is_away
        finally:
            os.kill(tcp_server.pid, signal.SIGCONT)
        breaker_of(cache)._again_at = 0.0
        assert cache.get("k") == 1 and not cache.is_away
        world.close()


def test_a_connection_that_was_closed_while_idle_is_no_outage(world, proxy):
    cache = world.cache(on_outage="raise")
    cache.set("k", 1)
    for _ in range(3):
        proxy.cut_all()
        pause(world)
        assert cache.get("k") == 1
        proxy.cut_all()
        pause(world)
        assert cache.set("k", 1) is True
    assert breaker_of(cache).opened == 0


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "asyncio"])
def test_a_lost_reply_never_counts_twice(shared_server, is_async):
    proxy = CuttingProxy(shared_server.socket_path)
    world = World(proxy.url, None, is_async=is_async)
    cache = world.cache()
    cache.set("n", 1)
    cache.incr("n")
    # The script is known by now; its digest names it.
    proxy.cut(b"EVALSHA")
    assert cache.incr("n") is None
    assert proxy.cuts == 1
    breaker_of(cache)._again_at = 0.0
    assert cache.get("n") == 3
    # Adding once, whatever is lost: the caller cannot know, and nobody else adds.
    proxy.cut(b"EVALSHA")
    assert cache.add("once", "mine") is False
    breaker_of(cache)._again_at = 0.0
    assert cache.add("once", "other") is False and cache.get("once") == "mine"
    # A write that may not have arrived is made up for by a deletion.
    cache.set("s", "old")
    proxy.cut(b"v1:s")
    assert cache.set("s", "new") is False and proxy.cuts == 1
    breaker_of(cache)._again_at = 0.0
    assert cache.get("s") is None
    # Storing may be repeated: the value is there and the lease has ended.
    cache.get_or_compute("warm", lambda: 1)
    proxy.cut(b"EVALSHA")
    assert cache.get_or_compute("k", lambda: 1) == 1
    breaker_of(cache)._again_at = 0.0
    assert cache.get("k") == 1
    assert cache.get_or_compute("k", lambda: 2) == 1
    # The lease's own reply: held all the same, and not taken for somebody else's.
    proxy.cut(b"lv1:l")
    assert cache.get_or_compute("l", lambda: 1) == 1
    world.close()
    proxy.close()


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "asyncio"])
def test_a_server_that_is_full_or_a_replica_takes_no_writes(is_async):
    server = start_server(extra_config={"maxmemory": "3mb", "maxmemory-policy": "noeviction"})
    world = World(server.url, server.operator(), is_async=is_async)
    try:
        cache = world.cache()
        cache.set("k", "old")
        cache.incr("counter", initial=1)
        cache.get_or_compute("warm", lambda: 1)
        server.command("CONFIG", "SET", "maxmemory", "1")
        assert cache.get("k") == "old"
        # Not written, and what was there before is gone rather than out of date.
        assert cache.set("k", "new") is False and cache.get("k") is None
        assert cache.get_or_compute("c", lambda: "computed") == "computed"
        assert not cache.is_away
        with pytest.raises(redis.ResponseError):
            cache.incr("counter")
        server.command("CONFIG", "SET", "maxmemory", "0")
        assert cache.set("k", "new") is True
        server.command("REPLICAOF", "127.0.0.1", "1")
        assert cache.set("k", "newer") is False and cache.is_away
        server.command("REPLICAOF", "NO", "ONE")
        breaker_of(cache)._again_at = 0.0
        assert cache.get("k") is None
    finally:
        world.close()
        server.stop()


def test_scripts_that_the_server_has_forgotten_are_sent_again(world, tcp_server):
    cache = world.cache()
    for _ in range(2):
        assert cache.add("k", 1) is True
        tcp_server.operator().execute_command("SCRIPT FLUSH")
        assert cache.incr("k") == 2
        tcp_server.operator().execute_command("SCRIPT FLUSH")
        assert cache.get_or_compute("c", lambda: 1) == 1
        cache.clear()


def test_stale_from_the_near_cache_while_the_server_is_away(world, proxy, tcp_server):
    cache = world.cache(near=True, on_outage="stale")
    if world.is_async:
        cache.start()
    wait_for(world, lambda: cache.near_mode == "stream")
    cache.set_many({"a": 1, "b": [2], "c": 3})
    assert cache.get_many("abc") == {"a": 1, "b": [2], "c": 3}
    for _ in range(10):
        # News of our own writes may still be on their way.
        pause(world)
        wait_for(world, lambda: read_all(cache) and len(near_of(cache)) == 3)
    away(proxy)
    wait_for(world, lambda: cache.near_mode == "off")
    assert cache.get("a") == 1 and cache.get_many("ab") == {"a": 1, "b": [2]}
    assert cache.get_or_compute("b", lambda: "computed") == [2]
    assert cache.stats.outage_hits == 4
    # What this process deletes is not served any more, whoever else hears of it.
    cache.delete("a")
    assert cache.get("a") is None and cache.get("c") == 3
    cache.clear()
    assert cache.get("c") is None
    back(proxy, tcp_server, cache)
    assert cache.get_many("abc") == {}


def near_of(cache):
    return getattr(cache, "target", cache)._core.near


def read_all(cache) -> bool:
    return all(cache.get(key) for key in "abc")


def wait_for(world, condition) -> None:
    """Wait for what happens on another thread, or on the loop; the test's time-out is the limit."""
    while not condition():
        pause(world)


def pause(world) -> None:
    """Let threads or the loop's tasks do their work."""
    if world.loop is not None:
        world.loop.run_until_complete(asyncio.sleep(0.01))
    else:
        time.sleep(0.01)
