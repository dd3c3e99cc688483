"""A neighbour with full knowledge: of the prefix, of all names, of every byte on the server, but of no key.

It reads, moves envelopes wherever they could go, replays, damages, plants and forges. It obtains no
plaintext and no accepted forgery; each attempt is one precise error, nothing of it is decoded or inflated,
the client goes on, and memory stays bounded. The one thing that it can do is to put an old value back in
its own place until it expires, which the last class shows as it is.
"""

from __future__ import annotations

import gc
import os
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

import tenantkv
from tenantkv import Keyring, Namespace
from tenantkv.envelope import Sealer
from tenantkv.errors import OpenError, UnknownKeyError
from tenantkv.sealing import LiveSealer, sealer_of
from tenantkv.secret import Secret
from tests.sealers import flip
from tests.servers import RealServer

VALUE = b"the launch code is 7531-tango"
MB = 1024 * 1024


@pytest.fixture
def namespace() -> Namespace:
    return Namespace(Keyring.generate(os.urandom(96)))


@pytest.fixture
def evil(shared_server: RealServer) -> Iterator[Any]:
    client = redis.Redis(unix_socket_path=shared_server.socket_path, protocol=2)
    yield client
    client.close()


@pytest.fixture(params=["sealed", "signed", "secret", "hidden"])
def kv(request: pytest.FixtureRequest, shared_server: RealServer, namespace: Namespace) -> Iterator[Any]:
    """A client; `hidden` seals as well, and `secret` seals by `Secret` alone."""
    said: dict[str, Any] = {
        "sealed": {"seal": True},
        "signed": {"seal": True, "mode": "sign"},
        "secret": {},
        "hidden": {"seal": True, "names": "hidden", "registry": True},
    }[request.param]
    client = tenantkv.connect(shared_server.url, namespace=namespace, **said)
    yield client
    client.close()


class Place:
    """Where a value of the tenant's stands, how the tenant writes and reads it, and how anybody does."""

    def __init__(
        self,
        name: str,
        write: Callable[[Any, Any], Any],
        read: Callable[[Any], Any],
        take: Callable[[Any, bytes], Any],
        put: Callable[[Any, bytes, bytes], Any],
    ) -> None:
        self.name = name
        self.write = write
        self.read = read
        self.take = take
        self.put = put


def _put_list(evil: Any, wire: bytes, blob: bytes) -> None:
    evil.delete(wire)
    evil.rpush(wire, blob)


def _put_set(evil: Any, wire: bytes, blob: bytes) -> None:
    evil.delete(wire)
    evil.sadd(wire, blob)


def _put_zset(evil: Any, wire: bytes, blob: bytes) -> None:
    evil.delete(wire)
    evil.zadd(wire, {blob: 1})


def _put_stream(evil: Any, wire: bytes, blob: bytes) -> None:
    evil.delete(wire)
    evil.xadd(wire, {"f": blob}, id="1-1")


PLACES = [
    Place("string", lambda kv, v: kv.set("string", v), lambda kv: kv.get("string"),
          lambda e, w: e.get(w), lambda e, w, b: e.set(w, b)),
    Place("other", lambda kv, v: kv.set("other", v), lambda kv: kv.mget("none", "other")[1],
          lambda e, w: e.get(w), lambda e, w, b: e.set(w, b)),
    Place("hash", lambda kv, v: kv.hset("hash", "f", v), lambda kv: kv.hget("hash", "f"),
          lambda e, w: e.hget(w, "f"), lambda e, w, b: e.hset(w, "f", b)),
    Place("hash", lambda kv, v: kv.hset("hash", "g", v), lambda kv: kv.hgetall("hash")[b"g"],
          lambda e, w: e.hget(w, "g"), lambda e, w, b: e.hset(w, "g", b)),
    Place("list", lambda kv, v: kv.rpush("list", v), lambda kv: kv.lrange("list", 0, -1)[-1],
          lambda e, w: e.lindex(w, -1), _put_list),
    Place("list2", lambda kv, v: kv.rpush("list2", v), lambda kv: kv.lindex("list2", -1),
          lambda e, w: e.lindex(w, -1), _put_list),
    Place("set", lambda kv, v: kv.sadd("set", v), lambda kv: next(iter(kv.smembers("set"))),
          lambda e, w: next(iter(e.smembers(w))), _put_set),
    Place("zset", lambda kv, v: kv.execute_command("ZADD", "zset", 1, v),
          lambda kv: kv.zrange("zset", 0, -1)[0], lambda e, w: e.zrange(w, 0, -1)[0], _put_zset),
    Place("stream", lambda kv, v: kv.xadd("stream", {"f": v}), lambda kv: kv.xrange("stream")[-1][1][b"f"],
          lambda e, w: e.xrange(w)[-1][1][b"f"], _put_stream),
]  # fmt: skip


def wire_of(kv: Any, name: str) -> bytes:
    """Return the name on the server, as somebody would who had learned it."""
    namespace = kv.namespace
    own = name.encode()
    return bytes(namespace.wire_name(namespace.hidden_name(own) if kv.hides_names else own))


def value_for(kv: Any, value: bytes) -> Any:
    return value if kv.namespace.protection.seal else Secret(value)


def fill(kv: Any) -> None:
    for place in PLACES:
        place.write(kv, value_for(kv, VALUE))
    assert [place.read(kv) for place in PLACES] == [VALUE] * len(PLACES)


def refuses(kv: Any, place: Place) -> OpenError:
    """Check that a place does not open, that the error tells nothing, and that the client goes on."""
    with pytest.raises(OpenError) as caught:
        place.read(kv)
    error = caught.value
    shown = str(error) + repr(error) + repr(error.args)
    assert VALUE.decode() not in shown and kv.namespace.keyring.prefix not in shown
    assert isinstance(error, redis.ResponseError) and error.name == place.name.encode()
    assert kv.ping()
    return error


def read_or_none(kv: Any) -> Any:
    """Return what a tenant reads of `string`, or ``None`` if it does not open."""
    try:
        return kv.get("string")
    except OpenError:
        return None


class TestReading:
    def test_no_plaintext_anywhere(self, kv: Any, shared_server: RealServer) -> None:
        fill(kv)
        stored = b"\n".join(name + b" " + value for (_, name), (value, _) in shared_server.dump().items())
        assert (VALUE in stored) is (kv.namespace.protection.mode == "sign")
        if kv.hides_names:
            assert not [place.name for place in PLACES if b":" + place.name.encode() in stored]

    def test_equal_values_look_different_but_for_members(self, kv: Any, evil: Any) -> None:
        fill(kv)
        blobs = [place.take(evil, wire_of(kv, place.name)) for place in PLACES]
        assert len(set(blobs)) == len(PLACES)


class TestMoving:
    def test_from_each_place_to_each_other(self, kv: Any, evil: Any) -> None:
        """Keys, fields, lists and kinds; also within one key, and a list under a string's name."""
        fill(kv)
        blobs = {place: place.take(evil, wire_of(kv, place.name)) for place in PLACES}
        for target in PLACES:
            for source in PLACES:
                if source is target:
                    continue
                target.put(evil, wire_of(kv, target.name), blobs[source])
                refuses(kv, target)
            target.put(evil, wire_of(kv, target.name), blobs[target])
            assert target.read(kv) == VALUE

    def test_from_and_to_relatives_and_strangers(self, kv: Any, evil: Any, shared_server: RealServer) -> None:
        protection = kv.namespace.protection
        stranger = tenantkv.connect(
            shared_server.url,
            namespace=Namespace(Keyring.generate(os.urandom(96)), protection=protection),
            registry=kv.hides_names,
        )
        child, sibling = kv.child("a"), kv.child("b")
        for client in (kv, child, sibling, stranger):
            fill(client)
        for theirs, mine in ((child, kv), (kv, child), (sibling, child), (stranger, kv), (kv, stranger)):
            for place in PLACES:
                own = place.take(evil, wire_of(mine, place.name))
                place.put(evil, wire_of(mine, place.name), place.take(evil, wire_of(theirs, place.name)))
                assert isinstance(refuses(mine, place), UnknownKeyError)
                place.put(evil, wire_of(mine, place.name), own)
                assert place.read(mine) == VALUE
        stranger.close()

    def test_a_type_under_anothers_name(self, kv: Any, evil: Any) -> None:
        """A list planted under a string's key is the server's WRONGTYPE, and no more."""
        fill(kv)
        blob = PLACES[0].take(evil, wire_of(kv, "string"))
        _put_list(evil, wire_of(kv, "string"), blob)
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            kv.get("string")
        assert kv.mget("string", "other")[1] == VALUE
        evil.delete(wire_of(kv, "list"))
        evil.set(wire_of(kv, "list"), blob)
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            kv.lrange("list", 0, -1)
        with pytest.raises(OpenError):
            kv.get("list")

    def test_messages(self, kv: Any, evil: Any) -> None:
        fill(kv)
        channel = kv.namespace.channel_prefix + b"news"
        with kv.pubsub() as subscriber:
            subscriber.subscribe("news")
            subscriber.get_message(timeout=1)
            forged = [place.take(evil, wire_of(kv, place.name)) for place in PLACES]
            other = sealer_of(kv.namespace, mode=kv.namespace.protection.mode)
            forged += [
                other.seal(VALUE, kind="chan", name=b"elsewhere"),
                LiveSealer(Keyring.generate(os.urandom(96))).seal(VALUE, kind="chan", name=b"news"),
            ]
            for blob in forged:
                evil.publish(channel, blob)
            kv.publish("news", value_for(kv, b"real"))
            heard = _messages(subscriber, 1)
        assert [message["data"] for message in heard] == [b"real"]
        assert kv.protector.dropped_messages == len(forged)


def _messages(subscriber: Any, count: int) -> list[Any]:
    found: list[Any] = []
    deadline = time.monotonic() + 30
    while len(found) < count and time.monotonic() < deadline:
        message = subscriber.get_message(timeout=0.2)
        if message is not None and message["type"] == "message":
            found.append(message)
    return found


class TestDamage:
    def test_every_bit(self, kv: Any, evil: Any) -> None:
        kv.set("string", value_for(kv, VALUE))
        wire = wire_of(kv, "string")
        blob = evil.get(wire)
        secret_only = not kv.namespace.protection.seal
        left = 0
        for at in range(len(blob) * 8):
            damaged = bytearray(blob)
            damaged[at // 8] ^= 1 << at % 8
            evil.set(wire, bytes(damaged))
            found = read_or_none(kv)
            if found is not None:
                # What is no envelope any more is a neighbour's plaintext, where nothing is sealed.
                assert secret_only and found == damaged
                left += 1
        assert left <= (3 * 8 if secret_only else 0)
        evil.set(wire, blob)
        assert kv.get("string") == VALUE

    def test_every_length(self, kv: Any, evil: Any) -> None:
        kv.set("string", value_for(kv, VALUE))
        wire = wire_of(kv, "string")
        blob = evil.get(wire)
        shorter = [blob[:size] for size in range(len(blob))]
        longer = [blob + bytes([n]) * n for n in (1, 2, 16, 255)] + [blob + blob, b"\x00" + blob, b" " + blob]
        for each in shorter + longer:
            evil.set(wire, each)
            try:
                found = kv.get("string")
            except OpenError:
                continue
            assert not kv.namespace.protection.seal and found == each and each != blob
            assert VALUE not in found
        evil.set(wire, blob)
        assert kv.get("string") == VALUE

    @pytest.mark.parametrize(
        "blob", [b"", b"\xc1", b"7", b"plain", b"\x00" * 100, b"\xc1" * 100, b'{"a": 1}']
    )
    def test_plaintext_is_not_taken(self, kv: Any, evil: Any, blob: bytes) -> None:
        fill(kv)
        for place in PLACES:
            place.put(evil, wire_of(kv, place.name), blob)
            if kv.namespace.protection.seal:
                refuses(kv, place)
            else:
                # Nothing was promised of values that are not `Secret`.
                assert place.read(kv) == blob


class TestForging:
    def test_with_keys_of_their_own(self, kv: Any, evil: Any) -> None:
        """Also under our key id, in every mode, and for the right place."""
        fill(kv)
        primary = bytes.fromhex(kv.namespace.keyring.primary.id)
        theirs = Keyring.generate(os.urandom(96))
        for mode in ("seal", "sign"):
            sealer = LiveSealer(theirs, mode=mode)  # type: ignore[arg-type]
            for place, kind, field in (
                (PLACES[0], "kv", b""),
                (PLACES[2], "hash", b"f"),
                (PLACES[4], "list", b""),
                (PLACES[8], "stream", b"f"),
            ):
                blob = sealer.seal(b"forged", kind=kind, name=place.name.encode(), field=field)  # type: ignore[arg-type]
                for each in (blob, blob[:3] + primary + blob[7:]):
                    place.put(evil, wire_of(kv, place.name), each)
                    refuses(kv, place)
            member = sealer.seal_member(b"forged", kind="set", name=b"set")
            for each in (member, member[:3] + primary + member[7:]):
                _put_set(evil, wire_of(kv, "set"), each)
                refuses(kv, PLACES[6])

    def test_another_suite(self, kv: Any, evil: Any) -> None:
        """What the tenant itself once made in the other mode, for the same place, opens in neither."""
        namespace = kv.namespace
        other = "seal" if namespace.protection.mode == "sign" else "sign"
        sealer = sealer_of(namespace, mode=other)  # type: ignore[arg-type]
        kv.set("string", value_for(kv, VALUE))
        evil.set(wire_of(kv, "string"), sealer.seal(b"readable", kind="kv", name=b"string"))
        refuses(kv, PLACES[0])
        # And a header that claims it.
        mine = sealer_of(namespace, mode=namespace.protection.mode).seal(VALUE, kind="kv", name=b"string")
        for code in (0x11, 0x12, 0x13, 0x14):
            if code != mine[1]:
                evil.set(wire_of(kv, "string"), mine[:1] + bytes([code]) + mine[2:])
                accepted = read_or_none(kv)
                # No suite of that code is left as somebody's bytes where nothing is sealed.
                assert accepted is None or (not namespace.protection.seal and accepted != VALUE)

    def test_another_id(self, kv: Any, evil: Any) -> None:
        kv.set("string", value_for(kv, VALUE))
        blob = evil.get(wire_of(kv, "string"))
        for key_id in (b"\x00" * 4, b"\xff" * 4, os.urandom(4)):
            evil.set(wire_of(kv, "string"), blob[:3] + key_id + blob[7:])
            error = refuses(kv, PLACES[0])
            assert isinstance(error, UnknownKeyError) and error.key_id == key_id.hex()


def peak_of(call: Callable[[], Any]) -> int:
    """Return how much memory a call took at the most, in bytes."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


class TestSizes:
    def test_a_forged_bomb_is_not_inflated(self, kv: Any, evil: Any) -> None:
        """A header that says compressed, and 64 MB of zeroes behind it: it is not authentic."""
        kv.set("string", value_for(kv, VALUE))
        blob = evil.get(wire_of(kv, "string"))
        bomb = zlib.compress(bytes(64 * MB), 1)
        for flags in (1, 3):
            evil.set(wire_of(kv, "string"), blob[:2] + bytes([flags]) + blob[3:31] + bomb)
            peak = peak_of(lambda: refuses(kv, PLACES[0]))
            assert peak < 4 * len(bomb) + 2 * MB

    def test_an_authentic_bomb_is_bounded(self, kv: Any, evil: Any) -> None:
        """Even one's own keys give no more than the largest value: 64 MB, and of it only the answer no."""
        namespace = kv.namespace
        keyring = namespace.keyring
        largest = 1 * MB
        sealer = Sealer(keyring, entropy=os.urandom, clock=time.time, compress=True)
        blob = sealer.seal(bytes(32 * MB), kind="kv", name=b"string")
        assert len(blob) < MB
        bounded = Sealer(keyring, entropy=os.urandom, clock=time.time, largest_bytes=largest)

        def opens() -> None:
            with pytest.raises(OpenError):
                bounded.open(blob, kind="kv", name=b"string")

        assert peak_of(opens) < 8 * MB

    @pytest.mark.parametrize("size", [0, 1, 10 * MB])
    def test_values_of_every_size(self, kv: Any, evil: Any, size: int) -> None:
        value = os.urandom(size)
        for place in PLACES[:5]:
            kv.delete(place.name)
            place.write(kv, value_for(kv, value))
            assert place.read(kv) == value
        wire = wire_of(kv, "string")
        blob = evil.get(wire)
        evil.set(wire, blob[:-1] + bytes([blob[-1] ^ 1]))
        peak = peak_of(lambda: refuses(kv, PLACES[0]))
        assert peak < 6 * size + 2 * MB

    def test_ten_megabytes_of_nonsense(self, kv: Any, evil: Any) -> None:
        kv.set("string", value_for(kv, VALUE))
        blob = evil.get(wire_of(kv, "string"))
        for planted in (blob[:31] + os.urandom(10 * MB), blob + bytes(10 * MB), b"\xc1" * 10 * MB):
            evil.set(wire_of(kv, "string"), planted)

            assert peak_of(lambda: read_or_none(kv)) < 6 * 10 * MB
            found = read_or_none(kv)
            assert found is None or (not kv.namespace.protection.seal and found == planted)
        evil.set(wire_of(kv, "string"), blob)
        assert kv.get("string") == VALUE

    def test_many_forgeries_leave_nothing_behind(self, kv: Any, evil: Any) -> None:
        """Headers with key ids that never come again fill no table."""
        kv.set("string", value_for(kv, VALUE))
        wire = wire_of(kv, "string")
        blob = evil.get(wire)

        def attempt(count: int) -> None:
            for n in range(count):
                evil.set(wire, blob[:3] + struct.pack(">I", n + 1) + blob[7:])
                with pytest.raises(OpenError):
                    kv.get("string")

        attempt(50)
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        attempt(600)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert grown < 200_000


class TestOneOfMany:
    """A forgery among good values costs that item, and nothing else of the conversation."""

    def test_pipelines(self, kv: Any, evil: Any) -> None:
        for name in ("a", "b", "c"):
            kv.set(name, value_for(kv, VALUE))
        evil.set(wire_of(kv, "b"), evil.get(wire_of(kv, "a")))
        for transaction in (False, True):
            pipeline = kv.pipeline(transaction=transaction)
            replies = pipeline.get("a").get("b").get("c").ping().execute(raise_on_error=False)
            assert replies[0] == replies[2] == VALUE and replies[3] is True
            assert isinstance(replies[1], OpenError) and replies[1].name == b"b"
            with pytest.raises(OpenError):
                kv.pipeline(transaction=transaction).get("a").get("b").get("c").execute()
            assert kv.get("a") == VALUE and kv.get("c") == VALUE

    def test_replies_of_several_values(self, kv: Any, evil: Any) -> None:
        for n in range(5):
            kv.hset("h", f"f{n}", value_for(kv, VALUE))
            kv.rpush("l", value_for(kv, VALUE))
            kv.set(f"k{n}", value_for(kv, VALUE))
        wire = {name: wire_of(kv, name) for name in ("h", "l", "k3")}
        evil.hset(wire["h"], "f3", evil.hget(wire["h"], "f2"))
        evil.lset(wire["l"], 3, flip(evil.lindex(wire["l"], 2)))
        evil.set(wire["k3"], evil.get(wire_of(kv, "k2")))
        for read in (
            lambda: kv.hgetall("h"),
            lambda: list(kv.hscan_iter("h")),
            lambda: kv.hmget("h", "f1", "f3"),
            lambda: kv.lrange("l", 0, -1),
            lambda: kv.mget([f"k{n}" for n in range(5)]),
        ):
            with pytest.raises(OpenError):
                read()
        assert kv.hget("h", "f2") == VALUE and kv.lrange("l", 0, 2) == [VALUE] * 3
        assert kv.hmget("h", "f1", "f2", "f4") == [VALUE] * 3 and kv.mget("k0", "k4") == [VALUE] * 2

    def test_a_forged_element_does_not_block_a_queue(self, kv: Any, evil: Any) -> None:
        """It is taken with the error, so the next one comes."""
        wire = wire_of(kv, "q")
        kv.rpush("q", value_for(kv, b"one"))
        evil.rpush(wire, b"\xc1\x11\x00" + os.urandom(60))
        kv.rpush("q", value_for(kv, b"two"))
        assert kv.blpop("q", 1)[1] == b"one"
        with pytest.raises(OpenError):
            kv.blpop("q", 1)
        assert kv.blpop("q", 1)[1] == b"two"
        assert kv.blpop("q", 0.05) is None

    async def test_asyncio(self, kv: Any, evil: Any, shared_server: RealServer) -> None:
        kv.set("a", value_for(kv, VALUE))
        kv.set("b", value_for(kv, VALUE))
        evil.set(wire_of(kv, "b"), evil.get(wire_of(kv, "a")))
        akv: Any = tenantkv.asyncio.connect(shared_server.url, namespace=kv.namespace)
        with pytest.raises(OpenError):
            await akv.get("b")
        for transaction in (False, True):
            async with akv.pipeline(transaction=transaction) as pipeline:
                pipeline.get("a")
                pipeline.get("b")
                pipeline.get("a")
                replies = await pipeline.execute(raise_on_error=False)
            assert replies[::2] == [VALUE] * 2 and isinstance(replies[1], OpenError)
        assert await akv.get("a") == VALUE
        await akv.aclose()


class TestRegistryOfHiddenNames:
    def test_planted_members_are_no_names(
        self, shared_server: RealServer, namespace: Namespace, evil: Any
    ) -> None:
        kv = tenantkv.connect(shared_server.url, namespace=namespace, seal=True, names="hidden")
        for n in range(20):
            kv.set(f"user:{n}", "x")
        shards = [name for name in shared_server.dump_keys() if b"__tenantkv__" in name]
        assert shards
        for shard in shards:
            evil.zadd(shard, {b"planted": 10**11, os.urandom(30): 10**11})
            for other in shards:
                for member in evil.zrange(other, 0, 3):
                    evil.zadd(shard, {member: 10**11})
        assert set(kv.keys("*")) == {b"user:%d" % n for n in range(20)}
        kv.close()


class TestWhatItCanDo:
    """Said in the docs: an old value in its own place, until it expires; and taking values away."""

    def test_replay_in_place_until_the_bound_ttl(
        self, shared_server: RealServer, namespace: Namespace, evil: Any
    ) -> None:
        kv = tenantkv.connect(shared_server.url, namespace=namespace, seal=True, bind_ttl=True)
        kv.set("a", "old", px=1)
        kv.set("a", "old", ex=1)
        wire = wire_of(kv, "a")
        old = evil.get(wire)
        kv.set("a", "new")
        evil.set(wire, old)
        # The neighbour's copy has no TTL on the server; the seal has.
        assert evil.ttl(wire) == -1
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                assert kv.get("a") == b"old"
            except OpenError:
                break
            time.sleep(0.05)
        else:
            pytest.fail("the replayed value never expired")
        kv.close()

    def test_deletion_is_absence(self, kv: Any, evil: Any) -> None:
        kv.set("a", value_for(kv, VALUE))
        evil.delete(wire_of(kv, "a"))
        assert kv.get("a") is None
