"""The cache among hostile neighbours, who know every wire name and may do anything to every key.

The worst that any of it does is a miss, but for what `docs/cache.md` says about replay: an old value of the
same key, or an old stamp, may be brought back for as long as it was valid.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from tenantkv import Keyring, Namespace
from tenantkv.cache import MISS
from tenantkv.sealing import sealer_of
from tests.cache_worlds import World


@pytest.fixture(params=["sync", "asyncio"])
def world(request, shared_server) -> Iterator[World]:
    raw = redis.Redis(unix_socket_path=shared_server.socket_path)
    made = World(shared_server.url, raw, is_async=request.param == "asyncio")
    yield made
    made.close()
    raw.close()


def other_type(raw: Any, name: bytes) -> None:
    raw.delete(name)
    raw.rpush(name, b"x")


def flipped(raw: Any, name: bytes) -> None:
    blob = bytearray(raw.get(name))
    blob[-1] ^= 1
    raw.set(name, bytes(blob))


DAMAGES: dict[str, Callable[[Any, bytes], object]] = {
    "deleted": lambda raw, name: raw.delete(name),
    "garbage": lambda raw, name: raw.set(name, b"garbage"),
    "empty": lambda raw, name: raw.set(name, b""),
    "one byte": lambda raw, name: raw.set(name, b"\xc1"),
    "flipped": flipped,
    "truncated": lambda raw, name: raw.set(name, raw.get(name)[:-1]),
    "appended": lambda raw, name: raw.append(name, b"x"),
    "huge": lambda raw, name: raw.set(name, b"\xc1\x12\x00" + bytes(2_000_000)),
    "list": other_type,
    "hash": lambda raw, name: (raw.delete(name), raw.hset(name, "a", "b")),
    "an integer": lambda raw, name: raw.set(name, 7),
    "another suite": lambda raw, name: raw.setrange(name, 1, b"\x13"),
    "another key id": lambda raw, name: raw.setrange(name, 3, b"\x00\x00\x00\x00"),
}


@pytest.mark.parametrize("damage", DAMAGES, ids=str)
@pytest.mark.parametrize("own", ["v1:k", "stamp", "tag:t"])
@pytest.mark.parametrize("seal", [False, True], ids=["signed", "sealed"])
def test_damage_is_a_miss_and_is_repaired_by_the_next_write(world, damage, own, seal):
    reader, writer = world.cache(seal=seal), world.cache(seal=seal)
    writer.set("k", "value", tags=["t"])
    assert reader.get("k") == "value"
    DAMAGES[damage](world.raw, world.wire(own))
    assert reader.get("k", default=MISS) is MISS
    assert world.cache(seal=seal).get_many(["k"]) == {}
    absent = damage in ("deleted", "list", "hash")
    assert reader.stats.tampered == (0 if absent else 1)
    assert writer.incr("k") is None and writer.touch("k") is False
    assert writer.get_or_compute("k", lambda: "again", tags=["t"]) == "again"
    assert reader.get("k") == "again"
    DAMAGES[damage](world.raw, world.wire(own))
    assert writer.set("k", "written", tags=["t"]) is True
    assert reader.get("k") == "written"
    DAMAGES[damage](world.raw, world.wire(own))
    assert writer.add("k", "added", tags=["t"]) is True
    assert reader.get("k") == "added"
    assert writer.delete("k") is True and reader.get("k") is None
    assert writer.clear() is True


def test_values_do_not_open_elsewhere(world):
    cache = world.cache()
    cache.set_many({"a": "of a", "b": "of b"})
    cache.set("a", "of 2", version=2)
    world.cache("other").set("a", "of other")
    a = world.raw.get(world.wire("v1:a"))
    foreign = world.raw.get(world.namespace.wire_name(b"tkv:cache:{other}v1:a"))
    stranger = sealer_of(Namespace(Keyring.generate(os.urandom(96))), mode="sign")
    forged = stranger.seal(b"\x01" + bytes(60), kind="cache", name=b"tkv:cache:{pages}v1:a")
    for name, blob in (("v1:b", a), ("v2:a", a), ("v1:a", foreign), ("v1:a", forged), ("stamp", a)):
        kept = world.raw.get(world.wire(name))
        world.raw.set(world.wire(name), blob)
        assert world.cache().get(name.partition(":")[2] or "a", version=name[1]) is None
        world.raw.set(world.wire(name), kept)
    assert cache.get_many(["a", "b"]) == {"a": "of a", "b": "of b"}


def test_a_stamp_of_another_tag_does_not_count(world):
    cache = world.cache()
    cache.set("k", 1, tags=["t"])
    cache.set("l", 1, tags=["u"])
    world.raw.set(world.wire("tag:t"), world.raw.get(world.wire("tag:u")))
    assert cache.get("k") is None and cache.get("l") == 1


def test_an_evicted_stamp_brings_nothing_back(world):
    cache = world.cache()
    for _ in range(3):
        cache.set("k", "old", tags=["t"])
        cache.invalidate_tag("t")
        cache.clear()
        world.raw.delete(world.wire("stamp"), world.wire("tag:t"))
        # The next writer makes new stamps.
        assert cache.set("other", 1, tags=["t"]) is True
        assert cache.get("k") is None and world.cache().get("k") is None


def test_replay_goes_as_far_as_the_docs_say(world):
    cache = world.cache()
    cache.set("k", "old")
    old = world.raw.get(world.wire("v1:k"))
    cache.set("k", "new")
    # An old value of the same key counts again, until its own end ...
    world.raw.set(world.wire("v1:k"), old)
    assert cache.get("k") == "old"
    stamp = world.raw.get(world.wire("stamp"))
    # ... and not beyond a clear, unless its stamp is brought back as well.
    cache.clear()
    assert cache.get("k") is None
    world.raw.set(world.wire("stamp"), stamp)
    assert cache.get("k") == "old"
    # The end is in the seal: nobody can keep an entry for longer.
    cache.set("k", "brief", 0.5)
    brief = world.raw.get(world.wire("v1:k"))
    assert brief is not None
    time.sleep(0.55)
    world.raw.set(world.wire("v1:k"), brief)
    assert cache.get("k") is None


def test_a_forged_lease_delays_and_no_more(world):
    cache = world.cache(wait=0.05)
    lease = world.wire("lv1:k")
    # For ever, or for longer than anybody computes: not ours, and taken.
    for forge in (
        lambda: world.raw.set(lease, b"forged"),
        lambda: world.raw.set(lease, b"forged", px=99_999_999_999),
        lambda: other_type(world.raw, lease),
    ):
        cache.delete("k")
        forge()
        assert cache.get_or_compute("k", lambda: "value") == "value"
        assert cache.get("k") == "value"
    # For as long as one might be: waited for, then computed without being stored.
    cache.delete("k")
    world.raw.set(lease, b"forged", px=60_000)
    assert cache.get_or_compute("k", lambda: "value") == "value"
    assert cache.get("k") is None
    # Taken away while it is held: what was computed is not stored.
    world.raw.delete(lease)

    def robbed() -> str:
        world.raw.delete(lease)
        return "value"

    assert cache.get_or_compute("k", robbed) == "value" and cache.get("k") is None
    assert cache.stats.superseded == 1


def test_nothing_of_the_prefix_or_the_keys_shows(world):
    cache = world.cache()
    cache.set("k", 1)
    world.raw.set(world.wire("v1:k"), b"garbage")
    cache.get("k")
    secrets = [world.namespace.keyring.prefix, world.namespace.wire_prefix.decode()]
    target = getattr(cache, "target", cache)
    shown = repr(target) + repr(target.stats) + str(target.stats.snapshot()) + repr(target._core.shelf)
    assert not any(secret in shown for secret in secrets)
