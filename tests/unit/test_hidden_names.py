"""Hidden names: every name of every command goes out as a keyed hash, or the command is refused."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from redis._parsers.encoders import Encoder

from tenantkv import Keyring, Namespace
from tenantkv.commands.hidden_names import hide, reveal
from tenantkv.commands.table import find_rule
from tenantkv.errors import ForbiddenCommandError, RefusedError
from tenantkv.ops.registry_cover import PLAIN, SealedCover
from tenantkv.protection import Protection
from tenantkv.sealing import sealer_of
from tenantkv.transport.session import Session
from tests.naming import shown
from tests.shapes import OTHER_SHAPES, SHAPES, Shape, name_of

NAMESPACE = Namespace(Keyring.generate(bytes(range(96))), protection=Protection(names="hidden"))
PREFIX = NAMESPACE.wire_prefix

# An own name in each shape that can be told from every other word.
NAMES = ("str", "num", "list", "set", "set2", "zset", "zset2", "hash", "stream", "geo", "hll", "hll2")
MARKED = {name.encode(): b"own-name-of-" + name.encode() for name in NAMES}


def session(**said: Any) -> Session:
    namespace = NAMESPACE.protected(Protection.of(NAMESPACE.protection, **said))
    return Session(namespace, Encoder("utf-8", "strict", False), 0)


def marked(shape: Shape) -> Shape:
    """Return a shape with longer names, where its rule finds names."""
    words = list(shape)
    rule = find_rule(words)
    for at in rule.locate(words) if rule.locate is not None else ():
        words[at] = MARKED.get(words[at], b"own-name-of-" + words[at])
    return tuple(words)


@pytest.mark.parametrize("said", [{}, {"seal": True, "contexts": {"*": "all"}}], ids=["plain", "sealed"])
def test_no_shape_sends_a_name(said: Any) -> None:
    one = session(**said)
    hidden, refused = 0, set()
    for shape in SHAPES + OTHER_SHAPES:
        try:
            command = marked(shape)
            wire = b"".join(one.pack_all([command]))
        except RefusedError as error:
            assert b"own-name-of" not in str(error).encode()
            refused.add(name_of(shape))
            continue
        assert b"own-name-of-" not in wire, command
        if find_rule(list(shape)).locate is not None:
            hidden += 1
    assert hidden > 100
    assert {"KEYS", "SCAN", "EVAL", "EVALSHA", "FCALL"} <= refused
    if not said:
        # Nothing else but what makes names by patterns.
        assert refused <= {
            "KEYS",
            "SCAN",
            "EVAL",
            "EVALSHA",
            "EVAL_RO",
            "EVALSHA_RO",
            "FCALL",
            "FCALL_RO",
            "SORT",
        }


def test_the_hash_is_a_keyed_one_and_frozen() -> None:
    key = NAMESPACE.keyring.derive("key-name", 32)
    digest = hashlib.blake2b(b"user:7", key=key, digest_size=18).digest()
    assert NAMESPACE.hidden_name(b"user:7") == base64.urlsafe_b64encode(digest)
    assert len(NAMESPACE.hidden_name(b"")) == len(NAMESPACE.hidden_name(b"x" * 10_000)) == 24
    assert NAMESPACE.child("a").hidden_name(b"user:7") != NAMESPACE.hidden_name(b"user:7")


def words_of(command: tuple[Any, ...]) -> list[bytes]:
    return [word if isinstance(word, bytes) else str(word).encode() for word in command]


def hidden(command: tuple[Any, ...]) -> list[bytes]:
    words = words_of(command)
    sent, own = hide(words, find_rule(words), lambda name: b"#" + name)
    assert own == {word: word[1:] for word in sent if word.startswith(b"#")}
    return sent


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("GET", "a"), "GET #a"),
        (("MGET", "a", "b"), "MGET #a #b"),
        (("MSET", "a", "b", "c", "d"), "MSET #a b #c d"),
        (("SET", "a", "a"), "SET #a a"),
        (("BLPOP", "a", "b", 0), "BLPOP #a #b 0"),
        (("ZUNIONSTORE", "d", 2, "a", "b", "WEIGHTS", 1, 2), "ZUNIONSTORE #d 2 #a #b WEIGHTS 1 2"),
        (("XREAD", "STREAMS", "a", "b", 0, 0), "XREAD STREAMS #a #b 0 0"),
        (("XREADGROUP", "GROUP", "g", "c", "STREAMS", "a", ">"), "XREADGROUP GROUP g c STREAMS #a >"),
        (("SORT", "a", "ALPHA", "STORE", "d"), "SORT #a ALPHA STORE #d"),
        (("SORT", "a", "BY", "nosort"), "SORT #a BY nosort"),
        (("SORT", "a", "GET", "#"), "SORT #a GET #"),
        (("GEORADIUS", "a", 1, 1, 1, "km", "STORE", "d"), "GEORADIUS #a 1 1 1 km STORE #d"),
        (("XINFO", "STREAM", "a"), "XINFO STREAM #a"),
        (("OBJECT", "ENCODING", "a"), "OBJECT ENCODING #a"),
        (("COPY", "a", "b", "REPLACE"), "COPY #a #b REPLACE"),
        (("WATCH", "a", "b"), "WATCH #a #b"),
        (("PUBLISH", "a", "b"), "PUBLISH a b"),
        (("PING",), "PING"),
    ],
    ids=lambda value: shown(value)[:40],
)
def test_where_names_stand(command: Any, expected: str) -> None:
    words = words_of(command)
    sent, own = hide(words, find_rule(words), lambda name: b"#" + name)
    assert b" ".join(sent).decode() == expected
    assert all(own[b"#" + name] == name for name in own.values())
    assert words == words_of(command), "the caller's list was changed"


@pytest.mark.parametrize(
    "command",
    [
        ("KEYS", "*"),
        ("KEYS", "exact"),
        ("SCAN", 0),
        ("EVAL", "return 1", 0),
        ("EVAL", "return 1", 1, "a"),
        ("EVALSHA", "0" * 40, 1, "a"),
        ("FCALL", "f", 1, "a"),
        ("SORT", "a", "BY", "w_*"),
        ("SORT", "a", "GET", "w_*->f"),
        ("SORT", "a", "BY", "nosort", "GET", "#", "GET", "w_*"),
        ("CLIENT", "TRACKING", "ON"),
        ("SUBSCRIBE", "__keyevent@0__:set"),
        ("PSUBSCRIBE", "__keyspace@0__:*"),
        ("PSUBSCRIBE", "mine", "__keyspace@*__:a"),
        ("PSUBSCRIBE", "__keyevent@0__:*"),
    ],
    ids=shown,
)
def test_refused_with_a_way_out(command: Any) -> None:
    with pytest.raises(ForbiddenCommandError) as caught:
        hidden(command)
    assert "names" in str(caught.value) and caught.value.instead


@pytest.mark.parametrize(
    "command", [("SUBSCRIBE", "news"), ("PSUBSCRIBE", "n*"), ("PUNSUBSCRIBE", "__keyspace@0__:*")], ids=shown
)
def test_channels_keep_their_names(command: Any) -> None:
    assert hidden(command) == words_of(command)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (None, None),
        (5, 5),
        (b"#a", b"#a"),
        ([], []),
        ([b"#a", b"v"], [b"a", b"v"]),
        ([b"#a", [b"#a", b"v"]], [b"a", [b"#a", b"v"]]),
        (
            [[b"#a", [[b"1-1", [b"#a", b"#b"]]]], [b"#b", []]],
            [[b"a", [[b"1-1", [b"#a", b"#b"]]]], [b"b", []]],
        ),
        ({b"#a": [[b"1-1", [b"#a", b"v"]]]}, {b"a": [[b"1-1", [b"#a", b"v"]]]}),
        ([b"#other", b"v"], [b"#other", b"v"]),
    ],
    ids=shown,
)
def test_only_names_that_were_asked_for_come_back(reply: Any, expected: Any) -> None:
    assert reveal(reply, {b"#a": b"a", b"#b": b"b"}) == expected


@pytest.mark.parametrize(
    ("command", "make"),
    [
        (("BLPOP", "a", "b", 0), lambda wire: [wire(b"b"), b"v"]),
        (("BZPOPMIN", "a", "b", 0), lambda wire: [wire(b"b"), b"v", b"1"]),
        (("LMPOP", 2, "a", "b", "LEFT"), lambda wire: [wire(b"b"), [b"v"]]),
        (("XREAD", "STREAMS", "a", "b", 0, 0), lambda wire: [[wire(b"b"), [[b"1-1", [b"f", b"v"]]]]]),
        (("XREAD", "STREAMS", "a", "b", 0, 0), lambda wire: {wire(b"b"): [[b"1-1", [b"f", b"v"]]]}),
    ],
    ids=lambda value: shown(value)[:30],
)
def test_replies_through_a_session(command: Any, make: Any) -> None:
    expected = make(lambda name: name)
    one = session()
    one.sent(one.pack_all([command]).rules)
    assert one.settle(make(lambda name: PREFIX + NAMESPACE.hidden_name(name)), decode=False) == expected
    # In a transaction as well.
    one.sent(one.pack_all([("MULTI",), command, ("EXEC",)]).rules)
    one.settle(b"OK", decode=False)
    one.settle(b"QUEUED", decode=False)
    replies = one.settle([make(lambda name: PREFIX + NAMESPACE.hidden_name(name))], decode=False)
    assert replies == [expected]


class TestRegistryCover:
    cover = SealedCover(NAMESPACE.hidden_name, lambda: sealer_of(NAMESPACE))

    def test_round_trip(self) -> None:
        member = self.cover.member(b"shard", b"user:7")
        assert b"user:7" not in member and self.cover.name(b"shard", member) == b"user:7"
        assert member == self.cover.member(b"shard", b"user:7")
        assert self.cover.key(b"user:7") == NAMESPACE.hidden_name(b"user:7")

    def test_what_a_neighbour_plants_is_no_name(self) -> None:
        member = self.cover.member(b"shard", b"user:7")
        other = NAMESPACE.child("other")
        theirs = SealedCover(other.hidden_name, lambda: sealer_of(other)).member(b"shard", b"user:7")
        for planted in (b"user:7", b"", member[:-1], member + b"x", theirs, NAMESPACE.hidden_name(b"user:7")):
            assert self.cover.name(b"shard", planted) is None
        assert self.cover.name(b"another", member) is None
        assert self.cover.name(b"shard", None) is None

    def test_plain(self) -> None:
        assert PLAIN.key(b"a") == PLAIN.member(b"s", b"a") == PLAIN.name(b"s", b"a") == b"a"
        assert PLAIN.name(b"s", 5) is None
