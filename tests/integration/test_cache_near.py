"""The near cache on servers that tell of changes and on one that does not."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import redis

import tenantkv
from tenantkv import Keyring, Namespace
from tenantkv.cache import Near
from tests.cache_worlds import World, changes, near_cache, until, warm
from tests.neighbourhood import ROOT
from tests.proxy import Proxy
from tests.servers import RealServer, start_tcp

pytest.importorskip("redis.cache", reason="redis-py 5.1 brought the handler of invalidations")


@pytest.fixture(params=["sync", "asyncio"])
def is_async(request):
    return request.param == "asyncio"


@pytest.fixture
def open_world(any_server, is_async) -> Iterator[World]:
    raw = redis.Redis(unix_socket_path=any_server.socket_path)
    made = World(any_server.url, raw, is_async=is_async)
    yield made
    made.close()
    raw.close()


@pytest.fixture
def shared_world(shared_server, is_async) -> Iterator[World]:
    raw = redis.Redis(unix_socket_path=shared_server.socket_path)
    made = World(shared_server.url, raw, is_async=is_async)
    yield made
    made.close()
    raw.close()


def test_the_server_tells_of_changes(open_world):
    cache = near_cache(open_world, "server")
    other = open_world.cache()
    other.set("k", "a", tags=["t"])
    warm(open_world, cache, "k")
    assert cache.get("k") == "a"
    changes(open_world, cache, other)
    # Of neighbours' writes, expiries and evictions as well.
    other.set("k", "g")
    warm(open_world, cache, "k")
    open_world.raw.set(open_world.wire("v1:k"), b"forged")
    until(open_world, lambda: cache.get("k") is None)
    other.set("k", "brief", 1.0)
    until(open_world, lambda: cache.get("k") == "brief")
    until(open_world, lambda: cache.get("k") is None)
    other.set("k", "h")
    warm(open_world, cache, "k")
    open_world.raw.flushall()
    until(open_world, lambda: cache.get("k") is None)


def test_a_stream_tells_where_the_server_does_not(shared_world):
    cache = near_cache(shared_world, "stream")
    other = shared_world.cache(announce=True)
    other.set("k", "a", tags=["t"])
    warm(shared_world, cache, "k")
    changes(shared_world, cache, other)


def flood(raw, news) -> None:
    """Push out in one step what the listener has seen last."""
    with raw.pipeline(transaction=True) as pipe:
        for _ in range(30):
            pipe.xadd(news, {"x": "y"}, maxlen=10, approximate=False)
        pipe.execute()


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw, news: raw.delete(news),
        lambda raw, news: raw.xtrim(news, maxlen=0),
        lambda raw, news: (raw.delete(news), raw.rpush(news, "x")),
        lambda raw, news: (raw.delete(news), raw.xadd(news, {"k": "forged"})),
        lambda raw, news: flood(raw, news),
    ],
    ids=["deleted", "trimmed", "another type", "replaced", "flooded"],
)
def test_a_gap_in_the_stream_clears_all(shared_world, damage):
    cache = near_cache(shared_world, "stream")
    other = shared_world.cache(announce=True)
    other.set("k", "a")
    warm(shared_world, cache, "k")
    store = getattr(cache, "target", cache)._core.near
    epoch = store.epoch
    damage(shared_world.raw, shared_world.wire("news"))
    until(shared_world, lambda: store.epoch > epoch)
    # And it goes on after that.
    warm(shared_world, cache, "k")
    until(shared_world, lambda: store.mode == "stream")
    other.set("k", "b")
    until(shared_world, lambda: cache.get("k") == "b")


def test_without_announcements_staleness_is_bounded(shared_world):
    cache = shared_world.cache(near=Near(staleness=0.3))
    silent = shared_world.cache()
    if shared_world.is_async:
        cache.start()
    until(shared_world, lambda: cache.near_mode == "stream")
    silent.set("k", "a")
    warm(shared_world, cache, "k")
    silent.set("k", "b")
    until(shared_world, lambda: cache.get("k") == "b")


def test_waiting_for_news_outlasts_the_socket_s_time_out(shared_server, is_async):
    world = World(shared_server.url, None, is_async=is_async, socket_timeout=0.5)
    cache = world.cache(near=Near(staleness=3))
    if is_async:
        cache.start()
    store = getattr(cache, "target", cache)._core.near
    seen: list[tuple[int, float]] = []

    def goes_on() -> bool:
        # Heard of the server twice on one connection, and waited longer than the time-out in between.
        before, now = seen[-1:], (store.epoch, store.trusted_until)
        if store.mode == "stream" and before != [now]:
            seen.append(now)
        return bool(before) and now[0] == before[0][0] and now[1] - before[0][1] > 0.5

    until(world, goes_on)
    world.close()


def test_one_s_own_writes_are_read_at_once(open_world):
    cache = near_cache(open_world, "server")
    for number in range(200):
        cache.set("k", number)
        assert cache.get("k") == number
        assert cache.get("k") == number
        assert cache.get_many(["k"]) == {"k": number}
    assert cache.incr("k") == 200 and cache.get("k") == 200
    cache.delete("k")
    assert cache.get("k") is None
    assert cache.get_or_compute("k", lambda: 1) == 1 and cache.get("k") == 1
    cache.clear()
    assert cache.get("k") is None


def test_a_lost_listener_serves_nothing_until_it_is_back(is_async):
    server = start_tcp()
    with Proxy(server.port) as proxy:
        world = World(proxy.url, None, is_async=is_async)
        direct = World(server.tcp_url, None, is_async=False)
        direct.namespace = world.namespace
        cache = near_cache(world, "server")
        cache.set("k", "a")
        warm(world, cache, "k")
        store = getattr(cache, "target", cache)._core.near
        epoch = store.epoch
        proxy.cut_all()
        until(world, lambda: store.epoch > epoch and store.mode == "server")
        assert len(store) == 0
        warm(world, cache, "k")
        world.close()
        direct.close()
    server.stop()


def test_a_burst_of_changes_is_no_harm(open_world):
    cache = near_cache(open_world, "server")
    open_world.cache().set("k", "a")
    warm(open_world, cache, "k")
    with open_world.raw.pipeline(transaction=False) as pipe:
        for number in range(20_000):
            pipe.set(open_world.wire(f"v1:burst{number}"), b"x")
        pipe.execute()
    open_world.cache().set("k", "b")
    until(open_world, lambda: cache.get("k") == "b")
    assert cache.near_mode == "server"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_has_a_listener_of_its_own(open_server):
    program = """
import os, sys, time, warnings
import tenantkv
from tenantkv.cache import Cache, Near
kv = tenantkv.connect()
cache = Cache(kv, "pages", near=Near(staleness=60))
def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
until(lambda: cache.near_mode == "server")
cache.set("k", "parent")
def warm():
    before = cache.stats.near_hits
    cache.get("k")
    return cache.stats.near_hits > before
until(warm)
child = os.fork()
if child == 0:
    try:
        assert cache.near_mode in ("off", "server")
        until(lambda: cache.near_mode == "server")
        until(warm)
        cache.set("k", "child")
        os._exit(0)
    finally:
        os._exit(1)
assert os.waitpid(child, 0)[1] == 0
until(lambda: cache.get("k") == "child")
assert cache.near_mode == "server"
"""
    world = World(open_server.url, None, is_async=False)
    environment = {
        **os.environ,
        "TENANTKV_URL": open_server.url,
        "TENANTKV_SECRET_KEYRING": world.namespace.keyring.dump(compact=True),
        "PYTHONPATH": str(ROOT / "src"),
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    world.close()


async def test_closing_at_once_ends(shared_server: RealServer) -> None:
    """A cancellation that comes with the result of a send is asked for again."""
    namespace = Namespace(Keyring.generate(os.urandom(96)))
    for number in range(100):
        async with tenantkv.asyncio.connect(shared_server.url, namespace=namespace) as kv:
            cache = kv.cache("pages", ttl=60, near=True)
            await cache.get("a")
            await asyncio.sleep(number * 0.00005)
            await asyncio.wait_for(cache.aclose(), 30)
