"""From arguments to bytes: what stands on the wire, for every row and every type of value."""

from __future__ import annotations

import os
from typing import Any

import hiredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis._parsers.encoders import Encoder

from tenantkv.commands import packing, trust_function
from tenantkv.commands.packing import Packer, pack_words
from tenantkv.commands.rewriters import trusted_functions
from tenantkv.commands.rule import Rule
from tenantkv.commands.table import RULES, find_rule, quick, rewrite
from tenantkv.errors import ForbiddenCommandError, MalformedCommandError, RefusedError
from tenantkv.keyring import Keyring
from tenantkv.namespace import Namespace
from tests.naming import shown
from tests.property.strategies import commands, spelled
from tests.shapes import SHAPES

NAMESPACE = Namespace(Keyring.generate(bytes(range(96))))
PREFIX = NAMESPACE.wire_prefix
ENCODE = Encoder("utf-8", "strict", False).encode
PACKERS = [Packer(ENCODE, utf8=True), Packer(ENCODE, utf8=False)]


def wire_of(*arguments: Any) -> list[bytes]:
    """Pack a command and read it back as a server reads it: by another parser, to the last byte."""
    found = []
    for packer in PACKERS:
        packed, _ = packer.pack(arguments, NAMESPACE)
        found.append(packed if type(packed) is bytes else b"".join(packed))
    assert found[0] == found[1]
    return read_resp(found[0])


@pytest.fixture(params=["hiredis", "Python"], autouse=True)
def _packed_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "Python":
        monkeypatch.setattr(packing, "pack_command", None)


def read_resp(whole: bytes) -> list[bytes]:
    reader = hiredis.Reader()
    reader.feed(whole)
    words = reader.gets()
    assert reader.gets() is False, "bytes are left over"
    assert isinstance(words, list)
    return words


# Rows that are nothing but positions.
PLAIN = [rule for rule in RULES.values() if rule.policy == "namespace" and rule.rewrite is None]


@pytest.mark.parametrize("rule", PLAIN, ids=lambda rule: rule.name)
def test_names_and_only_names_get_the_prefix(rule: Rule) -> None:
    head = rule.name.encode().split()
    tried = 0
    for more in range(7):
        # Every word is a count of one at the same time, for the rows that have counts.
        words = [*head, *[b"1"] * (rule.min_args - len(head) + 1 + more)]
        try:
            wire = wire_of(*words)
        except MalformedCommandError:
            continue
        tried += 1
        assert rule.locate is not None
        at = set(rule.locate(words))
        # Without an argument there is no name; the server answers that itself.
        assert at or len(words) == len(head) or rule.names == "stralgo"
        assert wire == [PREFIX + word if i in at else word for i, word in enumerate(words)]
    assert tried or rule.names in ("copy", "georadius", "stralgo", "xread", "xreadgroup")


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: b" ".join(shape)[:40].decode())
def test_both_ways_of_packing_agree(shape: tuple[bytes, ...]) -> None:
    """The short way for one key gives the bytes that the long way for words gives."""
    expected = read_resp(pack_words(rewritten(shape)))
    for spelling in range(4):
        got = wire_of(*spelled(shape, spelling))
        assert [got[0].upper(), *got[1:]] == expected


def rewritten(shape: tuple[bytes, ...]) -> list[bytes]:
    return rewrite(list(shape), find_rule(list(shape)), NAMESPACE)


@settings(
    max_examples=400,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(shape=commands, spelling=st.integers(0, 5))
def test_nothing_of_the_tenants_is_lost(shape: tuple[bytes, ...], spelling: int) -> None:
    """Whatever is sent holds the tenant's words in their order, with additions only behind or in front."""
    try:
        wire = wire_of(*spelled(shape, spelling))
    except RefusedError:
        return
    if shape[0].upper() in (b"EVAL", b"EVALSHA", b"EVAL_RO", b"EVALSHA_RO", b"SCRIPT", b"SORT", b"SORT_RO"):
        return  # the guard, its digest, and BY without a star are other words; they have tests of their own
    assert len(wire) >= len(shape)
    assert wire[0].upper() == shape[0].upper()
    assert all(got.endswith(word) for got, word in zip(wire[1:], shape[1:], strict=False))


VALUES = [
    ("text", b"text"),
    ("ключ", "ключ".encode()),
    (b"\x00\xff\r\n", b"\x00\xff\r\n"),
    (memoryview(b"view"), b"view"),
    (memoryview(b"abcdef")[1:3], b"bc"),
    (memoryview(b"abcd").cast("H"), b"abcd"),
    (0, b"0"),
    (-7, b"-7"),
    (10**30, b"1" + b"0" * 30),
    (1.5, b"1.5"),
    (1e300, b"1e+300"),
    (float("inf"), b"inf"),
    ("", b""),
]


@pytest.mark.parametrize(("value", "expected"), VALUES, ids=lambda value: shown(value)[:20])
def test_values_become_what_redis_py_makes_of_them(value: Any, expected: bytes) -> None:
    assert wire_of("SET", "k", value) == [b"SET", PREFIX + b"k", expected]
    assert wire_of("GET", value) == [b"GET", PREFIX + expected]
    assert wire_of("MGET", "a", value) == [b"MGET", PREFIX + b"a", PREFIX + expected]
    assert wire_of("ECHO", value) == [b"ECHO", expected]


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 200_000])
def test_large_values_stand_whole(size: int) -> None:
    """Above a limit they are not copied together; what arrives is the same."""
    value = os.urandom(size)
    assert wire_of("SET", "k", value, "EX", 1) == [b"SET", PREFIX + b"k", value, b"EX", b"1"]
    assert wire_of("MSET", "a", value, "b", value)[2::2] == [value, value]
    packed, _ = PACKERS[0].pack(("SET", "k", value), NAMESPACE)
    assert isinstance(packed, list if size > 65_536 else bytes)
    if size > 65_536:
        assert any(piece is value for piece in packed), "a large value was copied"


def test_the_short_way_is_only_for_one_key() -> None:
    names = {rule.name for rule in quick.values() if rule.single}
    assert {"GET", "SET", "HSET", "LPUSH", "ZADD", "XADD", "EXPIRE"} < names
    assert not names & {"DEL", "MGET", "SORT", "EVAL", "COPY", "RENAME", "BLPOP", "PUBLISH", "PING"}
    assert not any(rule.policy == "refuse" for rule in quick.values())
    assert {rule.name for rule in quick.values() if rule.words > 1} == set()


WIRE = [
    ("SORT k BY w_* GET w_*->f GET # STORE d", "SORT .k BY .w_* GET .w_*->f GET # STORE .d"),
    ("SORT k BY w_1 GET x", "SORT .k BY nosort GET .x"),
    ("SORT k BY #", "SORT .k BY nosort"),
    ("SCAN 0", "SCAN 0 MATCH .*"),
    ("SCAN 0 COUNT 5 match a[b]*", "SCAN 0 COUNT 5 match .a[b]*"),
    ("KEYS h?llo", "KEYS .h?llo"),
    ("KEYS a b", "KEYS .a b"),
    ("CLIENT TRACKING ON BCAST", "CLIENT TRACKING ON BCAST PREFIX ."),
    ("CLIENT TRACKING ON BCAST PREFIX a PREFIX b", "CLIENT TRACKING ON BCAST PREFIX .a PREFIX .b"),
    ("CLIENT TRACKING OFF", "CLIENT TRACKING OFF"),
    ("XREADGROUP GROUP STREAMS c STREAMS k >", "XREADGROUP GROUP STREAMS c STREAMS .k >"),
    ("GEORADIUS k STORE 1 2 m STOREDIST d", "GEORADIUS .k STORE 1 2 m STOREDIST .d"),
    ("SELECT 0", "SELECT 0"),
]


@pytest.mark.parametrize(("own", "wire"), WIRE)
def test_wire_forms(own: str, wire: str) -> None:
    expected = [word.replace(b".", PREFIX) if b"." in word else word for word in wire.encode().split()]
    assert wire_of(*own.split()) == expected


def test_functions_need_trust() -> None:
    with pytest.raises(ForbiddenCommandError, match="trust_function"):
        wire_of("FCALL", "vouched", 1, "k", "a")
    trust_function("vouched")
    try:
        assert wire_of("FCALL", "vouched", 1, "k", "a") == [b"FCALL", b"vouched", b"1", PREFIX + b"k", b"a"]
        with pytest.raises(MalformedCommandError):
            wire_of("FCALL", "vouched", 2, "k")
    finally:
        trusted_functions.discard(b"vouched")


def test_scripts_carry_both_prefixes_last() -> None:
    wire = wire_of("EVAL", "return KEYS[1]", 2, "a", "b", "c")
    assert wire[1].endswith(b"return KEYS[1]")
    assert wire[2:] == [b"2", PREFIX + b"a", PREFIX + b"b", b"c", PREFIX, NAMESPACE.channel_prefix]


def test_an_unknown_digest_can_be_nobodys_script() -> None:
    assert wire_of("EVALSHA", "a" * 40, 0)[1] == b"f" * 40
    assert wire_of("SCRIPT EXISTS", "a" * 40)[2] == b"f" * 40
