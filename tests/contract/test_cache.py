"""The cache on every server, in both worlds and protocols: what it promises to whoever uses it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import fakeredis
import pytest
import redis

from tenantkv.cache import FOREVER, MISS
from tenantkv.errors import CodecError, ConfigurationError, PlaintextRefusedError, RefusedError
from tenantkv.secrets import Secret
from tests.cache_worlds import World


@pytest.fixture(params=["sync", "asyncio"])
def is_async(request):
    return request.param == "asyncio"


@pytest.fixture(params=["RESP2", "RESP3"])
def world(request, any_shared_server, is_async) -> Iterator[World]:
    raw = redis.Redis(unix_socket_path=any_shared_server.socket_path, protocol=2)
    made = World(any_shared_server.url, raw, is_async=is_async, protocol=int(request.param[-1]))
    yield made
    made.close()
    raw.close()


@pytest.fixture
def memory(is_async) -> Iterator[World]:
    server = fakeredis.FakeServer(version=(7, 0))
    made = World("memory://", fakeredis.FakeRedis(server=server), is_async=is_async, server=server)
    yield made
    made.close()


def promises(world: World) -> None:
    """All the basic ones in one go, as servers take a while to start."""
    cache, other = world.cache(ttl=60), world.cache(ttl=60)

    # Values come back equal, to everybody.
    for value in (b"\x00\xff", "zwölf", 5, 2.5, None, True, [1, "a", None], {"a": {"b": [1]}}, "", b""):
        assert cache.set("value", value) is True
        assert other.get("value", default=MISS) == value
        assert type(other.get("value", default=MISS)) is type(value)
    assert cache.get("nothing") is None
    assert cache.get("nothing", default=7) == 7
    assert cache.get(b"value") == b""

    # Many at once.
    assert cache.set_many({"a": 1, "b": 2, b"c": 3}) == []
    assert other.get_many(["a", "b", b"c", "d"]) == {"a": 1, "b": 2, b"c": 3}
    assert other.delete_many(["a", "b", "nothing"]) == 2
    assert cache.get_many(["a", "b", "c"]) == {"c": 3}
    assert cache.get_many([]) == {} and cache.set_many({}) == [] and cache.delete_many([]) == 0
    assert cache.delete("c") is True and cache.delete("c") is False

    # What is there only once.
    assert cache.add("only", 1) is True and other.add("only", 2) is False
    assert cache.get("only") == 1

    # TTLs.
    cache.set("short", 1, 30)
    assert 28 < other.ttl("short") <= 30
    assert cache.touch("short", 50) is True and 48 < other.ttl("short") <= 50
    assert cache.touch("nothing", 50) is False and cache.ttl("nothing") is None
    assert 0 < world.raw.pttl(world.wire("v1:short")) <= 50_001
    cache.set("immortal", 1, FOREVER)
    assert other.ttl("immortal") == math.inf
    assert world.raw.pttl(world.wire("v1:immortal")) == -1
    assert world.raw.pttl(world.wire("stamp")) == -1
    cache.set("brief", 1, 0.02)
    time.sleep(0.03)
    assert other.get("brief") is None and cache.touch("brief") is False

    # Numbers.
    cache.set("n", 5, 30)
    assert cache.incr("n") == 6 and other.incr("n", 10) == 16 and cache.decr("n", 20) == -4
    assert 28 < cache.ttl("n") <= 30
    assert cache.incr("nothing") is None and cache.get("nothing") is None
    assert cache.incr("fresh", initial=1, ttl=30) == 1 and other.incr("fresh", initial=1) == 2
    cache.set("text", "a")
    with pytest.raises(TypeError):
        cache.incr("text")
    with pytest.raises(ConfigurationError):
        cache.incr("n", 1.5)

    # Versions.
    cache.set("page", "one")
    cache.set("page", "two", version=2)
    assert cache.get("page") == "one" and cache.get("page", version=2) == "two"
    assert cache.incr_version("page", 2) == 3 and cache.get("page") is None
    assert cache.get("page", version=3) == "one" and cache.get("page", version=2) == "two"
    assert cache.incr_version("nothing") is None
    assert world.cache(version="green").get("page") is None


def invalidations(world: World) -> None:
    cache, other = world.cache(), world.cache()
    cache.set("a", 1, tags=["users", "user:1"])
    cache.set_many({"b": 2, "c": 3}, tags=["users"])
    cache.set("d", 4)
    assert other.get("a") == 1 and other.get_many("abcd") == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert cache.invalidate_tag("user:1") is True
    assert other.get("a") is None and cache.get("a") is None
    assert other.get_many("abcd") == {"b": 2, "c": 3, "d": 4}
    other.invalidate_tag("users", "unknown")
    assert cache.get_many("abcd") == {"d": 4} and cache.get("b") is None
    # A tag that was invalidated can be used again.
    cache.set("a", 5, tags=["users"])
    assert other.get("a") == 5
    assert cache.add("a", 6) is False
    other.invalidate_tag("users")
    assert cache.add("a", 6, tags=["users"]) is True and other.get("a") == 6
    assert cache.incr("a") == 7 and cache.touch("a", 5)
    other.invalidate_tag("users")
    assert cache.get("a") is None and cache.incr("a") is None and cache.touch("a") is False

    # Clearing is one small write, seen by all, and does not reach other caches.
    world.cache("other").set("x", 1)
    cache.set("v", 1, version=2)
    assert other.clear() is True
    assert cache.get_many("abcd") == {} and cache.get("v", version=2) is None
    assert world.cache("other").get("x") == 1
    # Who knew the old stamp writes under the new one.
    assert cache.set("a", 8) is True and other.get("a") == 8
    assert other.set("a", 9) is True and cache.get("a") == 9


def computing(world: World) -> None:
    cache, other = world.cache(ttl=60, early=0), world.cache(ttl=60, early=0)
    calls: list[int] = []

    def compute() -> int:
        calls.append(1)
        return len(calls)

    assert cache.get_or_compute("k", compute) == 1
    assert other.get_or_compute("k", compute) == 1 and cache.get("k") == 1
    assert other.get_or_compute("t", compute, tags=["x"]) == 2
    assert cache.get_or_compute("t", compute, tags=["x"]) == 2
    cache.invalidate_tag("x")
    assert other.get_or_compute("t", compute, tags=["x"]) == 3

    # Invalidated, deleted or written while it is computed: what was computed does not count.
    for meddling, left in (
        (("invalidate_tag", "x"), "nothing"),
        (("clear",), "nothing"),
        (("delete", "m"), "nothing"),
        (("set", "m", "newer"), "newer"),
    ):
        cache.delete("m")
        method, *arguments = meddling

        def meddled(method=method, arguments=arguments) -> str:
            getattr(other, method)(*arguments)
            return "older"

        async def ameddled(method=method, arguments=arguments) -> str:
            await getattr(other.target, method)(*arguments)
            return "older"

        assert cache.get_or_compute("m", ameddled if world.is_async else meddled, tags=["x"]) == "older"
        assert other.get("m", default="nothing") == left
    assert not world.raw.exists(world.wire("lv1:m"))

    # Errors reach the caller, leave nothing behind, and do not end an older value.
    def fail() -> None:
        raise KeyError("no")

    with pytest.raises(KeyError):
        cache.get_or_compute("e", fail)
    assert not world.raw.exists(world.wire("lv1:e"), world.wire("v1:e"))
    cache.set("s", "old", 0.01, stale=60)
    time.sleep(0.02)
    assert cache.get("s") is None
    assert cache.get_or_compute("s", fail) == "old"
    assert cache.stats.failed_refreshes == 1
    assert cache.get_or_compute("s", lambda: "new") == "new" and other.get("s") == "new"

    # Negative results.
    assert cache.get_or_compute("none", lambda: None) is None
    assert cache.get_or_compute("none", compute) is None
    before = len(calls)
    assert cache.get_or_compute("miss", lambda: MISS) is MISS
    assert cache.get_or_compute("miss", compute) == before + 1
    assert cache.get_or_compute("neg", lambda: MISS, negative=60) is MISS
    assert other.get_or_compute("neg", compute) is MISS and other.get("neg", default=1) == 1
    assert cache.get_or_compute("neg2", lambda: None, negative=0.01) is None
    time.sleep(0.02)
    assert cache.get_or_compute("neg2", compute) == len(calls)

    # Early refresh: whoever is chosen computes, others are served.
    eager = world.cache(ttl=60, early=1e9)
    eager.get_or_compute("early", lambda: time.sleep(0.002) or "a")
    assert eager.get_or_compute("early", lambda: time.sleep(0.002) or "b") == "b"
    assert eager.stats.early == 1
    world.raw.set(world.wire("lv1:early"), b"somebody", px=60_000)
    assert eager.get_or_compute("early", compute) == "b"


def refusals(world: World) -> None:
    cache = world.cache(largest_bytes=100)
    with pytest.raises(RefusedError, match="101 bytes"):
        cache.set("big", b"x" * 100)
    assert cache.get_or_compute("big", lambda: b"x" * 100) == b"x" * 100
    assert cache.stats.refused == 2 and cache.get("big") is None
    with pytest.raises(CodecError):
        cache.set("tuple", (1, 2))
    with pytest.raises(CodecError):
        cache.get_or_compute("tuple", lambda: (1, 2))
    assert not world.raw.exists(world.wire("lv1:tuple"))
    token = "ghp_" + "a1B2c3D4e5F6" * 3
    with pytest.raises(PlaintextRefusedError):
        cache.set("ci", token)
    assert cache.set("ci", token, plaintext_ok="a published example") is True
    assert cache.set("ci", Secret(token)) is True
    found = world.cache().get("ci")
    assert type(found) is Secret and found.reveal() == token
    assert token.encode() not in world.raw.get(world.wire("v1:ci"))
    for ttl in (0, -1, math.nan, -math.inf, "1", True):
        with pytest.raises(ConfigurationError):
            cache.set("k", 1, ttl)
        with pytest.raises(ConfigurationError):
            cache.touch("k", ttl)
    with pytest.raises(ConfigurationError):
        cache.get(5)
    with pytest.raises(ConfigurationError):
        cache.get("k", version="a b")
    with pytest.raises(ConfigurationError):
        cache.set("k", 1, tags="users")
    # The whole lot or nothing.
    with pytest.raises(CodecError):
        cache.set_many({"one": 1, "two": (2,)})
    assert cache.get("one") is None


def codecs(world: World) -> None:
    pytest.importorskip("msgpack")
    cache = world.cache(seal=False)
    cache.set("p", (1, {2}), codec="pickle")
    assert world.cache().get("p") == (1, {2})
    cache.set("m", {1: b"x"}, codec="msgpack")
    assert world.cache().get("m") == {1: b"x"}
    with pytest.raises(CodecError):
        cache.set("b", "text", codec="bytes")
    assert cache.set("b", bytearray(b"raw"), codec="bytes") and cache.get("b") == b"raw"
    with pytest.raises(ConfigurationError):
        cache.set("b", 1, codec="yaml")
    small = world.cache("small", compress=True)
    small.set("k", "a" * 5000)
    assert small.get("k") == "a" * 5000
    name = world.namespace.wire_name(b"tkv:cache:{small}v1:k")
    assert world.raw.strlen(name) < 500
    small.set("k", Secret("a" * 5000))
    assert world.raw.strlen(name) > 5000
    sealed = world.cache("sealed", seal=True)
    sealed.set("k", "readable")
    assert sealed.get("k") == "readable" and world.cache("sealed", seal=True).get("k") == "readable"
    assert b"readable" not in world.raw.get(world.namespace.wire_name(b"tkv:cache:{sealed}v1:k"))
    # Signed is not sealed: a sealed cache does not take it.
    world.cache("sealed", seal=False).set("k", "signed")
    assert sealed.get("k") is None and sealed.stats.tampered == 1
    hidden = world.cache("hidden", hide_names=True)
    hidden.set("some-key", 1, tags=["some-tag"])
    assert hidden.get("some-key") == 1 and world.cache("hidden", hide_names=True).get("some-key") == 1
    long = "l" * 2000
    cache.set(long, 1)
    assert cache.get(long) == 1 and cache.get(long[:-1]) is None


SUITES = [promises, invalidations, computing, refusals, codecs]


@pytest.mark.parametrize("suite", SUITES)
def test_on_servers(suite, world):
    suite(world)


@pytest.mark.parametrize("suite", SUITES)
def test_on_fakeredis(suite, memory):
    suite(memory)


def test_hidden_names_show_nothing(shared_server):
    raw = redis.Redis(unix_socket_path=shared_server.socket_path)
    world = World(shared_server.url, raw, is_async=False)
    world.cache("hidden", hide_names=True).get_or_compute("some-key", lambda: 1, tags=["some-tag"])
    names = shared_server.dump_keys()
    assert len(names) == 3
    assert not any(word in name for name in names for word in (b"some", b"hidden"))
    world.close()


def test_many_entries_take_several_pages(shared_server):
    world = World(shared_server.url, None, is_async=False)
    cache = world.cache()
    items = {f"k{number}": number for number in range(1203)}
    assert cache.set_many(items, tags=["t"]) == []
    assert world.cache().get_many(items) == items
    assert cache.delete_many(items) == 1203
    world.close()


def test_a_hit_is_one_command_and_a_clear_is_one(shared_server):
    world = World(shared_server.url, None, is_async=False)
    cache = world.cache()
    cache.set("k", 1, tags=["t"])
    cache.get("k")

    def commands(call) -> dict[str, int]:
        before = shared_server.operator().info("commandstats")
        call()
        after = shared_server.operator().info("commandstats")
        counts = {
            name[8:]: stats["calls"] - before.get(name, {"calls": 0})["calls"]
            for name, stats in after.items()
        }
        return {name: count for name, count in counts.items() if count and name != "info"}

    assert commands(lambda: cache.get("k")) == {"mget": 1}
    assert commands(lambda: cache.get_many(["k", "l"])) == {"mget": 1}
    assert commands(lambda: cache.get_or_compute("k", None, tags=["t"])) == {"mget": 1}
    assert commands(cache.clear) == {"set": 1}
    assert commands(lambda: cache.set("k", 1)) == {"set": 1, "unlink": 1, "get": 1}
    assert commands(lambda: cache.delete("k")) == {"unlink": 2}
    world.close()
