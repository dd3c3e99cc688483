"""The cache on a Cluster: all of one cache lies in one slot, so every read is still one command."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tenantkv.cache import FOREVER, Near
from tenantkv.ops.effects import Command
from tests.cache_worlds import World, changes, near_cache, until, warm
from tests.topologies import Migration, start_cluster


@pytest.fixture(scope="module")
def cluster():
    with start_cluster("shared") as running:
        yield running


@pytest.fixture(params=["sync", "asyncio"])
def is_async(request):
    return request.param == "asyncio"


@pytest.fixture
def world(is_async, cluster) -> Iterator[World]:
    raw = redis.RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port)
    url = f"redis+cluster://127.0.0.1:{cluster.nodes[0].port}"
    made = World(url, raw, is_async=is_async)
    yield made
    made.close()
    raw.close()


def test_on_a_cluster(world):
    cache, other = world.cache(), world.cache()
    items = {f"k{number}": number for number in range(50)}
    assert cache.set_many(items, tags=["t", "u"]) == [] and cache.set("f", 1, FOREVER) is True
    assert other.get_many(items) == items and other.get("k1") == 1 and other.get("f") == 1
    assert cache.add("k1", 5) is False and cache.incr("k1") == 2 and cache.touch("k1", 5) is True
    assert cache.get_or_compute("c", lambda: "v", tags=["t"]) == "v"
    assert other.get_or_compute("c", lambda: "w", tags=["t"]) == "v"
    assert cache.delete_many(["k2", "k3"]) == 2 and cache.incr_version("k4") == 2
    assert world.raw.exists(world.wire("v1:k1")) == 1
    other.invalidate_tag("t")
    assert cache.get_many(items) == {} and cache.get("f") == 1
    other.clear()
    assert cache.get("f") is None
    assert cache.set("k", 1) is True and other.get("k") == 1
    world.raw.set(world.wire("v1:k"), b"forged")
    assert cache.get("k") is None


def test_every_method_follows_a_slot_that_moves(world, cluster):
    cache, other = world.cache(), world.cache()
    slot = world.raw.keyslot(world.wire("stamp"))
    for at, _ in enumerate(cluster.nodes):
        cache.clear()
        move = Migration(cluster, slot)
        move.begin()
        # What is new is over there already, and its raw reply comes from there.
        name = b"tkv:cache:{pages}new%d" % at
        assert run(world, cache, ("XADD", name, b"1-1", b"a", b"b")) == b"1-1"
        assert run(world, cache, ("XRANGE", name, b"-", b"+")) == [[b"1-1", [b"a", b"b"]]]
        move.end()
        assert cache.set("k", at, tags=["t"]) is True and other.get("k") == at
        assert cache.incr("k") == at + 1 and other.get_many(["k"]) == {"k": at + 1}
        assert other.invalidate_tag("t") is True and cache.get("k") is None
        assert cache.get_or_compute("c", lambda: "v") == "v"


def run(world, cache, words):
    """Have a cache's client do a command as operations of our own do."""

    def operation():
        return (yield Command(words))

    if not world.is_async:
        return world.kv.run(operation())
    return world.loop.run_until_complete(cache.target._client.run(operation()))


def test_a_near_cache_hears_of_changes(world):
    cache, other = near_cache(world, "stream"), world.cache(announce=True)
    other.set("k", "a", tags=["t"])
    warm(world, cache, "k")
    assert cache.get("k") == "a"
    changes(world, cache, other)
    # And of its own writes at once.
    for number in range(50):
        cache.set("k", number)
        assert cache.get("k") == number and cache.get_many(["k"]) == {"k": number}


def test_a_near_cache_follows_its_slot(world, cluster):
    cache, other = near_cache(world, "stream"), world.cache(announce=True)
    other.set("k", "a")
    warm(world, cache, "k")
    slot = world.raw.keyslot(world.wire("news"))
    # All around, back to where it was.
    for _ in cluster.nodes:
        move = Migration(cluster, slot)
        move.begin()
        assert other.set("k", "b") is True
        until(world, lambda: cache.get("k") == "b")
        move.end()
        assert other.set("k", "c") is True
        until(world, lambda: cache.get("k") == "c")
        warm(world, cache, "k")
        other.clear()
        until(world, lambda: cache.get("k") is None)
    until(world, lambda: cache.near_mode == "stream")


def test_a_near_cache_waits_no_longer_than_the_client_does(cluster, is_async):
    url = f"redis+cluster://127.0.0.1:{cluster.nodes[0].port}"
    world = World(url, None, is_async=is_async, socket_timeout=0.5)
    cache = near_cache(world, "stream")
    store = getattr(cache, "target", cache)._core.near
    epoch, heard = store.epoch, store.trusted_until
    until(world, lambda: store.epoch > epoch or store.trusted_until > heard + 0.5)
    assert store.epoch == epoch
    if is_async:
        # Nothing is left of a wait that was given up.
        cache.aclose()
    assert world.cache().set("k", 1) is True
    world.close()


def test_silent_changes_are_seen_when_the_staleness_is_over(world):
    cache, silent = world.cache(near=Near(staleness=0.3)), world.cache()
    if world.is_async:
        cache.start()
    until(world, lambda: cache.near_mode == "stream")
    silent.set("k", "a")
    warm(world, cache, "k")
    silent.set("k", "b")
    until(world, lambda: cache.get("k") == "b")
