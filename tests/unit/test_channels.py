"""Channels: what is subscribed to on the wire, and which messages reach the tenant."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

import tenantkv
from tenantkv.commands.channels import (
    own_channel,
    rewrite_channel_listing,
    rewrite_subscription,
    shape_invalidation,
    shape_push,
)
from tenantkv.errors import ForbiddenCommandError, MalformedCommandError, RefusedError
from tenantkv.keyring import Keyring
from tenantkv.namespace import Namespace
from tests.servers import RealServer

NAMESPACE = Namespace(Keyring.generate(bytes(range(96))))
OTHER = Namespace(Keyring.generate(bytes(range(1, 97))))
K, C = NAMESPACE.wire_prefix, NAMESPACE.channel_prefix

# command, own name, wire name
SUBSCRIPTIONS = [
    ("SUBSCRIBE", b"news", C + b"news"),
    ("subscribe", b"", C),
    ("SUBSCRIBE", b"n*", C + b"n*"),
    ("SUBSCRIBE", b"__key", C + b"__key"),
    ("UNSUBSCRIBE", b"news", C + b"news"),
    ("SSUBSCRIBE", b"news", C + b"news"),
    ("SSUBSCRIBE", b"__keyspace@0__:k", C + b"__keyspace@0__:k"),
    ("SUNSUBSCRIBE", b"news", C + b"news"),
    ("PSUBSCRIBE", b"n[ae]ws*", C + b"n[ae]ws*"),
    ("PSUBSCRIBE", b"*", C + b"*"),
    ("PSUBSCRIBE", b"__keyspace@0__:k*", b"__keyspace@0__:" + K + b"k*"),
    ("PSUBSCRIBE", b"__keyspace@*__:*", b"__keyspace@*__:" + K + b"*"),
    ("PSUBSCRIBE", b"__subkeyspace@0__:k", b"__subkeyspace@0__:" + K + b"k"),
    ("PUNSUBSCRIBE", b"__keyspace@0__:k*", b"__keyspace@0__:" + K + b"k*"),
    ("PSUBSCRIBE", b"__keyevent@0__:*", b"__keyevent@0__:*"),
    ("SUBSCRIBE", b"__keyevent@0__:expired", b"__keyevent@0__:expired"),
    ("PSUBSCRIBE", b"[_]_keyspace@0__:*", C + b"[_]_keyspace@0__:*"),
    ("PSUBSCRIBE", b"\\__keyspace@0__:*", C + b"\\__keyspace@0__:*"),
]

REFUSED = [
    ("SUBSCRIBE", b"__keyspace@0__:k", ForbiddenCommandError),
    ("SUBSCRIBE", b"__redis__:invalidate", ForbiddenCommandError),
    ("PSUBSCRIBE", b"__sentinel__:hello", ForbiddenCommandError),
    ("SUBSCRIBE", b"__sentinel__:hello", ForbiddenCommandError),
    ("PSUBSCRIBE", b"__key*__:*", MalformedCommandError),
    ("PSUBSCRIBE", b"__*", MalformedCommandError),
    ("PSUBSCRIBE", b"_*", MalformedCommandError),
    ("PSUBSCRIBE", b"_[_]key*", MalformedCommandError),
    ("PSUBSCRIBE", b"__keyspace*", MalformedCommandError),
    ("PSUBSCRIBE", b"__keyevent@?__:*", MalformedCommandError),
    ("PSUBSCRIBE", b"__subkeyevent@0__:*", MalformedCommandError),
    ("SUBSCRIBE", b"__keyspace@x__:k", MalformedCommandError),
]


@pytest.mark.parametrize(("command", "own", "wire"), SUBSCRIPTIONS)
def test_wire_names(command: str, own: bytes, wire: bytes) -> None:
    words = [command.encode(), b"first", own]
    assert rewrite_subscription(words, NAMESPACE) == [words[0], C + b"first", wire]


@pytest.mark.parametrize(("command", "own", "kind"), REFUSED)
def test_refused_names(command: str, own: bytes, kind: type[RefusedError]) -> None:
    with pytest.raises(kind) as caught:
        rewrite_subscription([command.encode(), own], NAMESPACE)
    assert NAMESPACE.keyring.prefix[:6] not in str(caught.value)


@pytest.mark.parametrize(("command", "own", "wire"), SUBSCRIPTIONS)
def test_acknowledgements_carry_own_names(command: str, own: bytes, wire: bytes) -> None:
    kind = command.lower().encode()
    assert shape_push([kind, wire, 1], NAMESPACE) == [kind, own, 1]


def test_the_key_prefix_stands_in_no_channel() -> None:
    for command, own, wire in SUBSCRIPTIONS:
        if command.upper() in ("SUBSCRIBE", "SSUBSCRIBE", "PUBLISH"):
            assert NAMESPACE.keyring.prefix.encode() not in wire, own
    assert NAMESPACE.keyring.prefix.encode() not in C and C not in K


def test_listing() -> None:
    assert rewrite_channel_listing([b"PUBSUB", b"CHANNELS"], NAMESPACE)[2:] == [C + b"*"]
    assert rewrite_channel_listing([b"PUBSUB", b"CHANNELS", b"n?"], NAMESPACE)[2:] == [C + b"n?"]
    # What the server will refuse is for the server to see.
    assert rewrite_channel_listing([b"PUBSUB", b"CHANNELS", b"a", b"b"], NAMESPACE)[3:] == [b"b"]


SPACE, EVENT = b"__keyspace@0__:", b"__keyevent@0__:set"

MESSAGES = [
    ([b"message", C + b"news", b"data"], [b"message", b"news", b"data"]),
    ([b"smessage", C + b"", b"data"], [b"smessage", b"", b"data"]),
    ([b"pmessage", C + b"n*", C + b"news", b"data"], [b"pmessage", b"n*", b"news", b"data"]),
    (
        [b"pmessage", SPACE + K + b"*", SPACE + K + b"k", b"set"],
        [b"pmessage", SPACE + b"*", SPACE + b"k", b"set"],
    ),
    ([b"message", EVENT, K + b"k"], [b"message", EVENT, b"k"]),
    ([b"pmessage", b"__keyevent@*__:*", EVENT, K + b"k"], [b"pmessage", b"__keyevent@*__:*", EVENT, b"k"]),
    # The data is data, whatever it looks like.
    ([b"message", C + b"news", K + b"k"], [b"message", b"news", K + b"k"]),
    ([b"unsubscribe", None, 0], [b"unsubscribe", None, 0]),
    ([b"subscribe", C + b"a", 1], [b"subscribe", b"a", 1]),
]

HOSTILE = [
    [b"message", b"news", b"data"],
    [b"message", OTHER.channel_prefix + b"news", b"data"],
    [b"message", C[:-1], b"data"],
    [b"message", K + b"news", b"data"],
    [b"smessage", b"news", b"data"],
    [b"pmessage", b"*", C + b"news", b"data"],
    [b"pmessage", C + b"*", b"news", b"data"],
    [b"pmessage", C + b"*", OTHER.channel_prefix + b"news", b"data"],
    [b"pmessage", SPACE + b"*", SPACE + K + b"k", b"set"],
    [b"pmessage", SPACE + K + b"*", SPACE + b"theirs", b"set"],
    [b"message", SPACE + OTHER.wire_prefix + b"k", b"set"],
    [b"message", EVENT, b"theirs"],
    [b"message", EVENT, OTHER.wire_prefix + b"k"],
    [b"message", EVENT, K[:-1]],
    [b"message", EVENT, 5],
    [b"message", EVENT, None],
    [b"pmessage", b"__keyevent@*__:*", EVENT, b"theirs"],
    [b"subscribe", b"theirs", 1],
]


@pytest.mark.parametrize(("wire", "own"), MESSAGES)
def test_messages_in_own_names(wire: list, own: list) -> None:
    assert shape_push(wire, NAMESPACE) == own


@pytest.mark.parametrize("wire", HOSTILE, ids=repr)
def test_messages_of_others_are_dropped(wire: list) -> None:
    assert shape_push(wire, NAMESPACE) is None


@pytest.mark.parametrize(
    "reply", [b"PONG", [b"pong", b""], None, 5, [], [b"x"], {b"server": b"redis"}, [1, 2, 3]]
)
def test_what_is_no_message_is_left_alone(reply: Any) -> None:
    assert shape_push(reply, NAMESPACE) == reply


def test_own_channel_of_odd_names() -> None:
    for wire in (b"", b"__keyspace@0__", b"__keyspace@0__:", K, b"__redis__:invalidate"):
        assert own_channel(wire, NAMESPACE) is None
    assert own_channel(C, NAMESPACE) == b""


def test_invalidations() -> None:
    found = shape_invalidation([b"invalidate", [K + b"a", b"theirs", OTHER.wire_prefix + b"a", K]], NAMESPACE)
    assert found == [b"invalidate", [b"a", b""]]
    # A flush invalidates everything.
    assert shape_invalidation([b"invalidate", None], NAMESPACE) == [b"invalidate", None]


# On a real server


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def kv(request: pytest.FixtureRequest, open_server: RealServer) -> Iterator[Any]:
    namespace = Namespace(Keyring.generate(os.urandom(96)))
    with tenantkv.connect(open_server.url, namespace=namespace, protocol=request.param) as client:
        yield client


@pytest.fixture
def notifying(open_server: RealServer) -> Iterator[RealServer]:
    open_server.operator().config_set("notify-keyspace-events", "KEA")
    yield open_server
    open_server.operator().config_set("notify-keyspace-events", "")


def messages(listener: redis.client.PubSub, count: int) -> list[tuple]:
    """Return that many messages; one too many is noticed by the caller's last message."""
    found: list[tuple] = []
    deadline = time.monotonic() + 5
    while len(found) < count and time.monotonic() < deadline:
        message = listener.get_message(timeout=0.5)
        if message and "message" in message["type"]:
            found.append((message["type"], message["channel"], message["data"]))
    return found


def subscribed(listener: redis.client.PubSub, count: int) -> None:
    for _ in range(count):
        assert listener.get_message(timeout=5)["type"].endswith("subscribe")


def test_hostile_messages_never_arrive(kv: Any, open_server: RealServer) -> None:
    neighbour = open_server.operator()
    with kv.pubsub() as listener:
        listener.subscribe("news", "__keyevent@0__:set")
        listener.psubscribe("n*s", "__keyspace@0__:*")
        subscribed(listener, 4)
        for channel in ("news", "n*s", "nus", "__keyspace@0__:k", "__keyevent@0__:set"):
            neighbour.publish(channel, "hostile")
        neighbour.publish("__keyevent@0__:set", OTHER.wire_prefix + b"k")
        kv.publish("nobody", "x")
        assert kv.publish("news", "mine") == 2
        assert sorted(messages(listener, 2)) == [
            ("message", b"news", b"mine"),
            ("pmessage", b"news", b"mine"),
        ]
        assert listener.get_message(timeout=0.05) is None


def test_keyspace_notifications(kv: Any, notifying: RealServer) -> None:
    with kv.pubsub() as listener:
        listener.psubscribe("__keyspace@0__:k*", "__keyevent@0__:del")
        subscribed(listener, 2)
        notifying.operator().set("k1", "theirs")
        notifying.operator().delete("k1")
        kv.set("other", 1)
        kv.set("k1", 1)
        kv.delete("k1")
        assert sorted(messages(listener, 3)) == [
            ("pmessage", b"__keyevent@0__:del", b"k1"),
            ("pmessage", b"__keyspace@0__:k1", b"del"),
            ("pmessage", b"__keyspace@0__:k1", b"set"),
        ]
        assert listener.get_message(timeout=0.05) is None
        listener.punsubscribe("__keyspace@0__:k*")
        subscribed(listener, 1)


def test_handlers_and_sharded_channels(kv: Any, open_server: RealServer) -> None:
    if open_server.version_info < (7,):
        pytest.skip("sharded channels came with 7.0")
    seen: list[bytes] = []
    with kv.pubsub() as listener:
        listener.subscribe(**{"news": lambda message: seen.append(message["channel"])})
        listener.ssubscribe("shard")
        subscribed(listener, 2)
        open_server.operator().execute_command("SPUBLISH", "shard", "hostile")
        assert kv.pubsub_shardchannels() == [b"shard"]
        assert kv.spublish("shard", "mine") == 1
        assert messages(listener, 1) == [("smessage", b"shard", b"mine")]
        kv.publish("news", "x")
        assert listener.get_message(timeout=2) is None
        assert seen == [b"news"]


def test_listing_shows_own_channels_only(kv: Any, open_server: RealServer) -> None:
    with kv.pubsub() as own, open_server.operator().pubsub() as theirs:
        own.subscribe("a", "b[c]")
        theirs.subscribe("a", "secret")
        subscribed(own, 2)
        subscribed(theirs, 2)
        assert sorted(kv.pubsub_channels()) == [b"a", b"b[c]"]
        assert kv.pubsub_channels("b*") == [b"b[c]"]
        assert dict(kv.pubsub_numsub("a", "secret")) == {b"a": 1, b"secret": 0}
        with pytest.raises(ForbiddenCommandError):
            kv.pubsub_numpat()
        names = open_server.operator().pubsub_channels()
        assert not any(kv.namespace.keyring.prefix.encode() in name for name in names)
