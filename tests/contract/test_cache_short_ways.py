"""The short ways of `set_many` and `get_many` do what the long ones do, which everything unusual takes."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from tenantkv import Secret
from tenantkv.cache import FOREVER, MISS
from tenantkv.cache.steps import get_many
from tenantkv.errors import CodecError, PlaintextRefusedError
from tests.cache_worlds import World

VALUES: dict[str, Any] = {
    "text": "x",
    "number": 7,
    "list": [1, {"a": None}],
    "bytes": b"\0" * 300,
    "long": "y" * 3000,
}


@pytest.fixture(params=["sync", "asyncio"])
def world(request: pytest.FixtureRequest, shared_server: Any) -> Iterator[World]:
    raw = redis.Redis(unix_socket_path=shared_server.socket_path)
    made = World(shared_server.url, raw, is_async=request.param == "asyncio")
    yield made
    made.close()
    raw.close()


def core_of(cache: Any) -> Any:
    return getattr(cache, "target", cache)._core


def counted(cache: Any) -> dict[str, Any]:
    found = cache.stats.snapshot()
    return {name: value for name, value in found.items() if not name.startswith("latency")}


def read_the_long_way(cache: Any, keys: list[str]) -> Any:
    return cache._do(get_many(core_of(cache), keys, None, ()))


@pytest.mark.parametrize("settings", [{}, {"compress": True}, {"stale": 60.0}, {"codec": "pickle"}], ids=str)
def test_both_ways_write_the_same_bytes(world: World, settings: dict[str, Any]) -> None:
    cache = world.cache(**settings)
    cache.set("first", 1)
    now = time.time()
    core_of(cache).clock = lambda: now
    before = counted(cache)
    assert cache.set_many(VALUES, 50.0) == []
    names = {key: world.wire(f"v1:{key}") for key in VALUES}
    short = {key: (world.raw.get(name), world.raw.pttl(name) > 40_000) for key, name in names.items()}
    between = counted(cache)
    # Any option, whatever it says, makes it take the long way.
    assert cache.set_many(VALUES, 50.0, tags=()) == []
    assert {key: (world.raw.get(name), world.raw.pttl(name) > 40_000) for key, name in names.items()} == short
    grown = {name: between[name] - before[name] for name in ("written", "bytes_written", "tampered")}
    assert grown == {name: counted(cache)[name] - between[name] for name in grown}
    assert grown["written"] == len(VALUES)


Plant = Callable[[World, Any, bytes], object]


def change(raw: Any, name: bytes) -> None:
    blob = bytearray(raw.get(name))
    blob[-1] ^= 1
    raw.set(name, bytes(blob))


def other_type(raw: Any, name: bytes) -> None:
    raw.delete(name)
    raw.rpush(name, b"x")


def plant_negative(world: World, cache: Any, name: bytes) -> None:
    cache.delete("k")
    cache.get_or_compute("k", lambda: MISS, negative=60.0)


class Point(collections.namedtuple("Point", "x y")):
    """A class that is there when it is written, and gone when it is read."""


PLANTS: dict[str, Plant] = {
    "usual": lambda world, cache, name: None,
    "missing": lambda world, cache, name: cache.delete("k"),
    "changed": lambda world, cache, name: change(world.raw, name),
    "garbage": lambda world, cache, name: world.raw.set(name, b"garbage"),
    "empty": lambda world, cache, name: world.raw.set(name, b""),
    "a list": lambda world, cache, name: other_type(world.raw, name),
    "another key's": lambda world, cache, name: world.raw.set(name, world.raw.get(world.wire("v1:other"))),
    "another key id": lambda world, cache, name: world.raw.setrange(name, 3, b"\0\0\0\0"),
    "tagged": lambda world, cache, name: cache.set("k", 2, tags=["t"]),
    "tagged and ended": lambda world, cache, name: (cache.set("k", 2, tags=["t"]), cache.invalidate_tag("t")),
    "a Secret": lambda world, cache, name: cache.set("k", Secret("s")),
    "negative": plant_negative,
    "for ever": lambda world, cache, name: cache.set("k", 3, FOREVER),
    "compressed": lambda world, cache, name: world.cache(compress=True).set("k", "x" * 3000),
    "cleared": lambda world, cache, name: world.cache().clear(),
    "no stamp": lambda world, cache, name: world.raw.delete(world.wire("stamp")),
    "a forged stamp": lambda world, cache, name: world.raw.set(world.wire("stamp"), b"x" * 60),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_both_ways_read_the_same(world: World, plant: str) -> None:
    writer = world.cache()
    writer.set_many({"k": 1, "other": "o"})
    PLANTS[plant](world, writer, world.wire("v1:k"))
    keys = ["k", "other", "nothing"]
    # Caches that know nothing yet, like two processes that have just begun.
    short, long = world.cache(), world.cache()
    for _ in range(2):
        found = short.get_many(keys)
        assert repr(found) == repr(read_the_long_way(long, keys))
        assert [repr(cache.get(key, MISS)) for cache in (short, long) for key in keys] == 2 * [
            repr(found.get(key, MISS)) for key in keys
        ]
    assert counted(short) == counted(long)


def test_what_is_past_its_ttl_is_no_hit_either_way(world: World) -> None:
    cache = world.cache(stale=600.0)
    cache.set_many({"k": 1, "other": 2}, 50.0)
    later = time.time() + 100
    core_of(cache).clock = lambda: later
    assert cache.get_many(["k", "other"]) == read_the_long_way(cache, ["k", "other"]) == {}


def test_a_class_that_is_gone_is_a_miss_beside_hits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = world.cache(codec="pickle")
    cache.set_many({"k": Point(1, 2), "other": (3,)})
    monkeypatch.delattr(f"{__name__}.Point")
    assert cache.get_many(["k", "other"]) == {"other": (3,)}
    assert counted(cache)["tampered"] == 1


def test_a_write_after_somebody_cleared_counts(world: World) -> None:
    mine, other = world.cache(), world.cache()
    mine.set("k", 1)
    other.clear()
    assert mine.set_many({"k": 2, "more": 3}) == []
    assert other.get_many(["k", "more"]) == mine.get_many(["k", "more"]) == {"k": 2, "more": 3}


@pytest.mark.parametrize("bad", [object(), "ghp_" + "a1B2" * 9], ids=["no value", "a token"])
def test_nothing_is_sent_if_one_of_many_is_refused(world: World, bad: object) -> None:
    cache = world.cache()
    cache.set("first", 1)
    with pytest.raises((CodecError, PlaintextRefusedError)):
        cache.set_many({"k": 1, "bad": bad})
    assert cache.get_many(["k", "bad", "first"]) == {"first": 1}


def test_more_than_a_page_is_read_and_written(world: World) -> None:
    cache = world.cache()
    many = {f"k{number}": number for number in range(501)}
    assert cache.set_many(many) == []
    assert cache.get_many(many) == many
