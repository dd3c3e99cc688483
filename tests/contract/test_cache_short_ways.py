"""The short ways of writes, changes and `get_many` do what the long ones do, as all that is unusual does."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import redis

from tenantkv import Secret, embedded
from tenantkv.cache import FOREVER, MISS, Cache
from tenantkv.cache.changes import Change, addition, renewal, sum_of
from tenantkv.cache.steps import amend, get_many
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
    cache.get_or_compute("k", lambda: MISS, negative=600.0)


def plant_old(world: World, cache: Any, name: bytes) -> None:
    """Leave an entry past its TTL that the server still has."""
    core_of(cache).clock = lambda: time.time() - 1000
    cache.set("k", 1, 600.0)


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
    "past its TTL": plant_old,
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


Verb = Callable[[Any, float], Any]
Long = Callable[[Any, list[int], float], Change]

# What a caller says, and the change that it is in the long way.
CHANGES: dict[str, tuple[Verb, Long]] = {
    "incr": (lambda cache, ttl: cache.incr("k", 2), lambda core, sums, ttl: sum_of(core, sums, "k", 2)),
    "incr from 5": (
        lambda cache, ttl: cache.incr("k", initial=5, ttl=ttl),
        lambda core, sums, ttl: sum_of(core, sums, "k", 1, initial=5, ttl=ttl),
    ),
    "touch": (
        lambda cache, ttl: cache.touch("k", ttl),
        lambda core, sums, ttl: renewal(core, "k", ttl, None),
    ),
    "add": (
        lambda cache, ttl: cache.add("k", "new", ttl),
        lambda core, sums, ttl: addition(core, "k", "new", ttl),
    ),
    "add with tags": (
        lambda cache, ttl: cache.add("k", "new", ttl, tags=["t"]),
        lambda core, sums, ttl: addition(core, "k", "new", ttl, tags=["t"]),
    ),
}


def change_the_long_way(cache: Any, verb: str, ttl: float) -> Any:
    sums: list[int] = []
    core = core_of(cache)
    change = CHANGES[verb][1](core, sums, ttl)
    done = cache._do(amend(core, change.name, change.make, change.tags))
    return done if not sums else sums[-1] if done else None


def load_script(cache: Any) -> None:
    """Have the server know the script: it is the long way that sends it, whenever the server does not."""
    assert cache.add("loading", 1)
    assert cache.get("loading") == 1


def answer_of(call: Callable[[], Any]) -> str:
    try:
        # Nothing to count up is `None` for `incr`, and the change that does nothing `False`.
        return repr(call() or None)
    except TypeError as error:
        return repr(error)


class Ground:
    """All that a tenant has on the server, to be looked at and brought back."""

    def __init__(self, world: World) -> None:
        self._raw = world.raw
        self._names = [world.wire(own) for own in ("v1:k", "stamp", "tag:t")]
        lease = core_of(world.cache()).shelf.names.lease(b"tkv:cache:{pages}v1:k")
        self._names.append(world.namespace.wire_name(lease))
        self._raw.set(self._names[-1], b"somebody computes it")
        self._before = [(self._raw.dump(name), self._raw.pttl(name)) for name in self._names]

    def look(self) -> tuple[list[Any], list[int]]:
        found = [self._raw.dump(name) for name in self._names]
        return found, [self._raw.pttl(name) for name in self._names]

    def restore(self) -> None:
        for name, (dump, ttl) in zip(self._names, self._before, strict=True):
            self._raw.delete(name)
            if dump is not None:
                self._raw.restore(name, max(0, ttl), dump)


@pytest.mark.parametrize(
    ("verb", "ttl"),
    [(verb, 3000.0) for verb in CHANGES] + [(verb, FOREVER) for verb in CHANGES if verb != "incr"],
)
@pytest.mark.parametrize("has_guess", [False, True], ids=["", "guessing"])
@pytest.mark.parametrize("plant", PLANTS)
def test_both_ways_change_the_same(world: World, plant: str, verb: str, ttl: float, has_guess: bool) -> None:
    writer, short, long = world.cache(), world.cache(), world.cache()
    now = time.time()
    for cache in (writer, short, long):
        cache.set_many({"k": 1, "other": "o"})
        core_of(cache).clock = lambda: now
        # Stamps that have to be made are the same ones then.
        core_of(cache).shelf.book._entropy = lambda size: b"s" * size
    for cache in (short, long):
        # So that each is within its time for the stamp, and has met the usual envelope.
        cache.set("k", 1)
        assert cache.get("k") == 1
    load_script(writer)
    if has_guess:
        # What it wrote last is what it takes to be there.
        assert short.touch("k") and core_of(short).shelf.recent
    PLANTS[plant](world, writer, world.wire("v1:k"))
    ground = Ground(world)
    seen: list[Any] = []
    for cache, call in (
        (short, lambda: CHANGES[verb][0](short, ttl)),
        (long, lambda: change_the_long_way(long, verb, ttl)),
    ):
        ground.restore()
        before = counted(cache)
        answers = [answer_of(call), answer_of(call)]
        dumps, ttls = ground.look()
        if plant == "a Secret":
            # Sealed under another nonce each time.
            dumps[0] = dumps[0] and len(dumps[0])
        reader = world.cache()
        core_of(reader).clock = lambda: now
        read = [repr(reader.get("k", MISS)), reader.ttl("k"), reader.get("other")]
        grown = {name: value - before[name] for name, value in counted(cache).items() if name != "hit_rate"}
        if (plant, verb) == ("empty", "add"):
            # To who swaps at once, nothing and an empty value are one.
            del grown["tampered"]
        seen.append((answers, dumps, read, grown, [round(left / 100_000) for left in ttls]))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("settings", [{}, {"seal": True}, {"stale": 60.0}, {"codec": "pickle"}], ids=str)
def test_usual_changes_take_the_short_way(
    world: World, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = world.cache(**settings)
    cache.set("n", 1)
    load_script(cache)
    monkeypatch.setattr("tenantkv.cache.swap.amend", None)
    assert (cache.incr("n", 2), cache.decr("n"), cache.incr("nothing")) == (3, 2, None)
    assert cache.incr("m", initial=7) == 7
    assert cache.touch("n", 3000.0) and not cache.touch("nothing", 3000.0)
    assert cache.add("new", "x") and not cache.add("n", "x")
    assert cache.get_many(["n", "m", "new"]) == {"n": 2, "m": 7, "new": "x"}
    assert 2000 < cache.ttl("n") <= 3000
    assert counted(cache)["written"] == 7 and counted(cache)["tampered"] == 0


@pytest.mark.parametrize("settings", [{"announce": True}, {"near": True}], ids=str)
def test_what_near_caches_have_to_hear_takes_the_long_way(
    world: World, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = world.cache(**settings)
    # Not read: what is near in asyncio listens from then on.
    cache.set("n", 1)
    monkeypatch.setattr("tenantkv.cache.swap.Swap", None)
    assert cache.incr("n", 2) == 3 and cache.touch("n") and cache.add("new", "x")


def between(cache: Any, interfere: Callable[[], object]) -> None:
    """Have something happen once, after the next change has read and before it writes."""
    core = core_of(cache)
    calls = 0

    def clock() -> float:
        nonlocal calls
        calls += 1
        if calls == 2:
            interfere()
        return time.time()

    core.clock = clock


def incr(cache: Any, way: str) -> Any:
    return cache.incr("k") if way == "short" else change_the_long_way(cache, "incr", 50.0)


def test_who_is_not_the_quickest_counts_on(world: World) -> None:
    cache, other = world.cache(), Cache(world.kv, "pages")
    cache.set("k", 1)
    load_script(cache)
    between(cache, lambda: other.incr("k", 10))
    assert cache.incr("k") == 12 == other.get("k")
    assert counted(cache)["written"] == 3


@pytest.mark.parametrize("verb", ["incr", "incr from 5", "touch"])
def test_a_change_brings_nothing_back_that_was_cleared_meanwhile(world: World, verb: str) -> None:
    cache, other = world.cache(), Cache(world.kv, "pages")
    cache.set("k", 1)
    load_script(cache)
    between(cache, other.clear)
    CHANGES[verb][0](cache, 50.0)
    # Who begins to count anew does so after the clear.
    left = 5 if verb == "incr from 5" else None
    assert cache.get("k") == left == other.get("k")


@pytest.mark.parametrize("gone", ["set", "delete", "cleared", "theirs"])
def test_what_was_there_before_is_only_a_guess(world: World, gone: str) -> None:
    cache, other = world.cache(), Cache(world.kv, "pages")
    cache.set("warm", 1)
    load_script(cache)
    assert cache.add("k", "text") and core_of(cache).shelf.recent
    if gone == "set":
        cache.set("k", 1)
    elif gone == "delete":
        other.delete("k")
    elif gone == "cleared":
        other.clear()
    else:
        world.raw.set(world.wire("v1:k"), b"junk")
    # What was a text is no reason to say that there is no number.
    assert cache.incr("k", initial=1) == (2 if gone == "set" else 1)
    assert cache.incr("k") == other.get("k") == (3 if gone == "set" else 2)


def test_a_right_guess_is_one_round_trip_and_a_wrong_one_is_forgotten(world: World) -> None:
    cache, other = world.cache(), Cache(world.kv, "pages")
    cache.set("n", 1)
    load_script(cache)

    def trips(call: Callable[[], object]) -> list[str]:
        before = world.raw.info("commandstats")
        call()
        after = world.raw.info("commandstats")
        return [
            name.removeprefix("cmdstat_")
            for name in ("cmdstat_mget", "cmdstat_evalsha")
            for _ in range(after.get(name, {"calls": 0})["calls"] - before.get(name, {"calls": 0})["calls"])
        ]

    assert trips(lambda: cache.incr("n")) == ["mget", "evalsha"]
    assert trips(lambda: cache.incr("n")) == ["evalsha"]
    assert trips(lambda: cache.add("new", 1)) == ["evalsha"]
    assert trips(lambda: cache.add("new", 1)) == ["evalsha"]
    other.set("n", 10)
    assert trips(lambda: cache.incr("n")) == ["evalsha", "evalsha"]
    assert trips(lambda: cache.incr("n")) == ["evalsha"]
    other.clear()
    cache.set("n", 20)
    for _ in range(2):
        cache.incr("n")
    assert trips(lambda: cache.incr("n")) == ["evalsha"]
    assert cache.get("n") == 23
    # What is large is not remembered, and no guess is left from when it was small.
    cache.set("n", "x" * 5000)
    cache.touch("n")
    assert trips(lambda: cache.touch("n")) == ["mget", "evalsha"]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "asyncio"])
def test_a_server_that_has_closed_the_connection_loses_nothing(is_async: bool) -> None:
    """Also where the event loop stood still meanwhile, so that it has not seen the end."""
    with embedded.start() as server, closing(redis.Redis(unix_socket_path=server.socket_path)) as raw:
        world = World(server.url, raw, is_async=is_async)
        cache = world.cache()
        cache.set("k", 1)
        load_script(cache)
        assert cache.touch("k")
        calls: dict[str, Callable[[], object]] = {
            "incr": lambda: cache.incr("k") == 2,
            "touch": lambda: cache.touch("k"),
            "add": lambda: cache.add("new", 1),
            "set": lambda: cache.set("k", 2),
        }
        for verb, call in calls.items():
            for client in raw.client_list():
                if int(client["id"]) != raw.client_id():
                    raw.client_kill_filter(_id=client["id"])
            assert call(), verb
        world.close()


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "asyncio"])
@pytest.mark.parametrize("way", ["short", "long"])
@pytest.mark.parametrize("moment", ["before", "between"])
def test_an_outage_is_the_same_either_way(way: str, moment: str, is_async: bool) -> None:
    with embedded.start("shared") as server, closing(redis.Redis(unix_socket_path=server.socket_path)) as raw:
        world = World(server.url, raw, is_async=is_async)
        cache = world.cache()
        cache.set("k", 1)
        assert incr(cache, way)
        if moment == "before":
            server.stop()
        else:
            between(cache, server.stop)
        for _ in range(2):
            assert not incr(cache, way)
        found = counted(cache)
        assert cache.is_away and (found["unavailable"], found["written"]) == (2, 2)
        world.close()
