"""The cache on a Cluster: all of one cache lies in one slot, so every read is still one command."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tenantkv.cache import FOREVER
from tests.cache_worlds import World
from tests.topologies import start_cluster


@pytest.fixture(scope="module")
def cluster():
    with start_cluster("shared") as running:
        yield running


@pytest.fixture(params=["sync", "asyncio"])
def world(request, cluster) -> Iterator[World]:
    raw = redis.RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port)
    url = f"redis+cluster://127.0.0.1:{cluster.nodes[0].port}"
    made = World(url, raw, is_async=request.param == "asyncio")
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
