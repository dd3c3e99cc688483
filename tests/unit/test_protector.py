"""What a protected namespace sends, and what it refuses to: without a server."""

from __future__ import annotations

import base64
import time
import warnings
from typing import Any

import pytest
from redis._parsers.encoders import Encoder
from redis.exceptions import DataError, ResponseError

from tenantkv import Keyring, Namespace
from tenantkv.commands.decisions import DECISIONS, decide
from tenantkv.commands.own_scripts import OwnWord
from tenantkv.commands.table import RULES, find_rule
from tenantkv.envelope_header import is_envelope_unverified, read_header_unverified
from tenantkv.errors import (
    ForbiddenCommandError,
    OpenError,
    PlaintextRefusedError,
    RefusedError,
    UnknownKeyError,
)
from tenantkv.found_envelopes import may_hold_envelope
from tenantkv.protection import Protection
from tenantkv.protector import Protector, protector_of
from tenantkv.sealing import LiveSealer
from tenantkv.secret import Secret
from tenantkv.secrets.policy import PlaintextWarning
from tenantkv.transport.session import Session
from tests.naming import shown
from tests.sealers import flip
from tests.shapes import shapes_by_name

KEYRING = Keyring.generate(bytes(range(96)))
OTHER = Keyring.generate(bytes(range(96, 192)))
# Looks like a secret by its name; made here, and nobody's.
PASSWORD = "tr0ub4dor-" + "99xk"
TOKEN = "ghp_" + "Ab3dEf6hIj" * 4


def bytearrays(value: bytes) -> list[bytearray]:
    """Return a value as a bytearray, where this version of redis-py sends one."""
    try:
        Encoder("utf-8", "strict", False).encode(bytearray(value))
    except DataError:
        return []
    return [bytearray(value)]


def session(*, keyring: Keyring = KEYRING, decode: bool = False, **said: Any) -> Session:
    namespace = Namespace(keyring, protection=Protection.of(**said))
    return Session(namespace, Encoder("utf-8", "strict", decode), 0)


def protector(one: Session) -> Protector:
    assert one.namespace is not None
    return protector_of(one.namespace)


def sent(one: Session, *command: Any) -> list[bytes]:
    """Return the words that would go out, with names without their prefix."""
    packed = one.pack_all([command])
    assert one.namespace is not None
    data, words = b"".join(packed), []
    assert data[:1] == b"*"
    count, _, data = data[1:].partition(b"\r\n")
    for _ in range(int(count)):
        size, _, data = data[1:].partition(b"\r\n")
        words.append(data[: int(size)].removeprefix(one.namespace.wire_prefix))
        data = data[int(size) + 2 :]
    assert data == b""
    return words


def reply(one: Session, command: tuple[Any, ...], answer: Any, *, decode: bool = False) -> Any:
    """Return what a caller of `command` gets if the server gives `answer`."""
    one.sent(one.pack_all([command]).rules)
    return one.settle(answer, decode=decode)


def opened(one: Session, blob: bytes, kind: Any, name: bytes, field: bytes = b"") -> bytes:
    return protector(one).open(blob, kind=kind, name=name, field=field)


# Each command that takes a value, with where it stands, its kind, and its field.
VALUES: list[tuple[tuple[Any, ...], int, str, bytes]] = [
    (("SET", "k", "v"), 2, "kv", b""),
    (("SET", "k", "v", "EX", 10, "NX"), 2, "kv", b""),
    (("SET", "k", "v", "GET"), 2, "kv", b""),
    (("set", "k", "v"), 2, "kv", b""),
    ((b"SeT", b"k", b"v"), 2, "kv", b""),
    (("SETEX", "k", 10, "v"), 3, "kv", b""),
    (("PSETEX", "k", 10, "v"), 3, "kv", b""),
    (("SETNX", "k", "v"), 2, "kv", b""),
    (("GETSET", "k", "v"), 2, "kv", b""),
    (("MSET", "a", 1, "k", "v"), 4, "kv", b""),
    (("MSETNX", "k", "v"), 2, "kv", b""),
    (("MSETEX", 1, "k", "v", "EX", 10), 3, "kv", b""),
    (("HSET", "k", "g", "w", "f", "v"), 5, "hash", b"f"),
    (("HMSET", "k", "f", "v"), 3, "hash", b"f"),
    (("HSETNX", "k", "f", "v"), 3, "hash", b"f"),
    (("HSETEX", "k", "EX", 10, "FIELDS", 1, "f", "v"), 7, "hash", b"f"),
    (("LPUSH", "k", "w", "v"), 3, "list", b""),
    (("LPUSHX", "k", "v"), 2, "list", b""),
    (("RPUSH", "k", "v"), 2, "list", b""),
    (("RPUSHX", "k", "v"), 2, "list", b""),
    (("LSET", "k", 0, "v"), 3, "list", b""),
    (("SADD", "k", "v"), 2, "set", b""),
    (("SREM", "k", "v"), 2, "set", b""),
    (("SISMEMBER", "k", "v"), 2, "set", b""),
    (("SMISMEMBER", "k", "w", "v"), 3, "set", b""),
    (("ZADD", "k", "NX", 1, "v"), 4, "set", b""),
    (("ZINCRBY", "k", 1, "v"), 3, "set", b""),
    (("ZSCORE", "k", "v"), 2, "set", b""),
    (("ZMSCORE", "k", "v"), 2, "set", b""),
    (("ZRANK", "k", "v"), 2, "set", b""),
    (("ZREVRANK", "k", "v"), 2, "set", b""),
    (("ZREM", "k", "v"), 2, "set", b""),
    (("XADD", "k", "*", "f", "v"), 4, "stream", b"f"),
    (("XADD", "k", "MAXLEN", "~", 9, "*", "g", "w", "f", "v"), 9, "stream", b"f"),
    (("PUBLISH", "k", "v"), 2, "chan", b""),
    (("SPUBLISH", "k", "v"), 2, "chan", b""),
]


def with_secret(command: tuple[Any, ...], at: int) -> tuple[Any, ...]:
    return (*command[:at], Secret(command[at]), *command[at + 1 :])


def test_every_command_with_a_layout_is_tested() -> None:
    rows = {each.name for each in DECISIONS.values() if each.what == "sealed" and each.layout is not None}
    assert {
        str(command[0] if isinstance(command[0], str) else "SET").upper() for command, *_ in VALUES
    } == rows


@pytest.mark.parametrize(("command", "at", "kind", "field"), VALUES, ids=lambda value: shown(value)[:40])
class TestOut:
    def test_a_sealed_namespace(self, command: Any, at: int, kind: str, field: bytes) -> None:
        one = session(seal=True)
        words = sent(one, *command)
        assert is_envelope_unverified(words[at])
        own = command[2] if command[0] == "MSETEX" else (command[3] if command[0] == "MSET" else "k")
        assert opened(one, words[at], kind, own.encode() if isinstance(own, str) else own, field) == b"v"
        # Nothing else was changed.
        plain = sent(session(plaintext="off"), *command)
        assert [len(words), *map(bytes.upper, words[:2])] == [len(plain), *map(bytes.upper, plain[:2])]

    def test_a_secret_in_a_namespace_that_is_not_sealed(
        self, command: Any, at: int, kind: str, field: bytes
    ) -> None:
        one = session()
        words = sent(one, *with_secret(command, at))
        assert is_envelope_unverified(words[at])
        assert opened(one, words[at], kind, b"k", field) == b"v"
        others = sent(one, *command)
        assert [word for n, word in enumerate(words) if n != at] == [
            word for n, word in enumerate(others) if n != at
        ]
        assert protector(one).counts["sealed"] == 1

    def test_a_secret_in_a_sealed_namespace(self, command: Any, at: int, kind: str, field: bytes) -> None:
        one = session(seal=True)
        words = sent(one, *with_secret(command, at))
        assert opened(one, words[at], kind, b"k", field) == b"v"

    def test_a_secret_where_values_are_in_clear(self, command: Any, at: int, kind: str, field: bytes) -> None:
        one = session(seal=True, plaintext_keys=["k"], plaintext_channels=["k"])
        with pytest.raises(ForbiddenCommandError, match="Secret in clear"):
            one.pack_all([with_secret(command, at)])

    def test_a_secret_anywhere_else(self, command: Any, at: int, kind: str, field: bytes) -> None:
        places = {value for value, _, _ in decide(find_rule(_words(command))).layout(_words(command))}  # type: ignore[misc]
        for one in (
            session(),
            session(seal=True),
            session(names="hidden"),
            session(seal=True, names="hidden"),
        ):
            for other in range(1, len(command)):
                if other in places:
                    continue
                with pytest.raises((RefusedError, DataError)) as caught:
                    one.pack_all([with_secret((*command[:other], "hunter2", *command[other + 1 :]), other)])
                assert "hunter2" not in str(caught.value)

    def test_signed(self, command: Any, at: int, kind: str, field: bytes) -> None:
        one = session(seal=True, mode="sign")
        word = sent(one, *command)[at]
        header = read_header_unverified(word)
        assert header is not None and header.suite == "sign" and word.endswith(b"v")
        assert opened(one, word, kind, b"k", field) == b"v"

    def test_hidden_names_are_sealed_as_own_names(
        self, command: Any, at: int, kind: str, field: bytes
    ) -> None:
        one = session(seal=True, names="hidden")
        assert one.namespace is not None
        words = sent(one, *command)
        assert opened(one, words[at], kind, b"k", field) == b"v"
        if RULES[words[0].upper().decode()].policy != "channel":
            assert one.namespace.hidden_name(b"k") in words and b"k" not in words


def _words(command: tuple[Any, ...]) -> list[bytes]:
    return [part if isinstance(part, bytes) else str(part).encode() for part in command]


class TestSecretInWrongPlaces:
    @pytest.mark.parametrize(
        "command",
        [
            ("APPEND", "k", Secret("v")),
            ("SETRANGE", "k", 0, Secret("v")),
            ("LREM", "k", 0, Secret("v")),
            ("LPOS", "k", Secret("v")),
            ("LINSERT", "k", "BEFORE", Secret("a"), Secret("v")),
            ("PFADD", "k", Secret("v")),
            ("GEOADD", "k", 1, 1, Secret("v")),
            ("EVAL", "return 1", 1, "k", Secret("v")),
            ("EVALSHA", "0" * 40, 1, "k", Secret("v")),
            ("RESTORE", "k", 0, Secret("v")),
            ("SET", "k", "v", "EX", Secret(10)),
            ("SET", "k", "v", Secret("NX")),
            ("SET", Secret("k"), "v"),
            ("GET", Secret("k")),
            ("DEL", "a", Secret("k")),
            ("HGET", "k", Secret("f")),
            ("HSET", "k", Secret("f"), "v"),
            ("HSET", "k", Secret("f"), Secret("v")),
            ("XADD", "k", "*", Secret("f"), "v"),
            ("XADD", "k", Secret("1-1"), "f", "v"),
            ("ZADD", "k", Secret(1), "v"),
            ("PUBLISH", Secret("k"), "v"),
            ("SMOVE", "a", "b", Secret("v")),
            ("SETBIT", "k", Secret(1), 1),
            ("INCRBY", "k", Secret(1)),
            ("EXPIRE", "k", Secret(1)),
            ("ECHO", Secret("v")),
            ("PING", Secret("v")),
            (Secret("GET"), "k"),
            ("GET", "k", Secret("v")),
        ],
        ids=shown,
    )
    @pytest.mark.parametrize(
        "said", [{}, {"seal": True}, {"names": "hidden"}, {"seal": True, "names": "hidden"}], ids=shown
    )
    def test_refused_before_anything_is_sent(self, command: Any, said: Any) -> None:
        with pytest.raises((RefusedError, DataError)):
            session(**said).pack_all([command])

    @pytest.mark.parametrize("value", [None, True, {"a": 1}, ["a"], object()], ids=shown)
    def test_a_secret_of_what_has_no_bytes(self, value: object) -> None:
        for one in (session(), session(seal=True)):
            with pytest.raises(DataError):
                one.pack_all([("SET", "k", Secret(value))])

    @pytest.mark.parametrize(
        "value", [b"v", "v", 5, 1.5, *bytearrays(b"v"), memoryview(b"v"), b"", "ü"], ids=shown
    )
    def test_a_secret_of_what_has(self, value: Any) -> None:
        one = session()
        word = sent(one, "SET", "k", Secret(value))[2]
        assert opened(one, word, "kv", b"k") == Encoder("utf-8", "strict", False).encode(value)

    def test_several_of_which_some_are_secrets(self) -> None:
        one = session()
        words = sent(one, "HSET", "k", "a", Secret("1"), "b", "2", "c", Secret("3"))
        assert words[5] == b"2"
        assert [opened(one, words[3], "hash", b"k", b"a"), opened(one, words[7], "hash", b"k", b"c")] == [
            b"1",
            b"3",
        ]

    def test_a_mixed_command_is_still_checked(self) -> None:
        with pytest.raises(PlaintextRefusedError) as caught:
            session().pack_all([("HSET", "k", "a", Secret("1"), "b", TOKEN)])
        assert caught.value.field == b"b" and TOKEN not in str(caught.value)


# What each command would store in clear, and how the refusal names the place.
PLAIN: list[tuple[tuple[Any, ...], bytes, bytes]] = [
    (("SET", "a", TOKEN), b"a", b""),
    (("set", b"a", TOKEN.encode()), b"a", b""),
    *((("SET", "a", value), b"a", b"") for value in bytearrays(TOKEN.encode())),
    (("SET", "a", memoryview(TOKEN.encode())), b"a", b""),
    (("SET", "a", TOKEN, "EX", 10), b"a", b""),
    (("SETEX", "a", 10, TOKEN), b"a", b""),
    (("SETNX", "a", TOKEN), b"a", b""),
    (("GETSET", "a", TOKEN), b"a", b""),
    (("MSET", "b", 1, "a", TOKEN), b"a", b""),
    (("HSET", "a", "f", 1, "g", TOKEN), b"a", b"g"),
    (("HSETNX", "a", "f", TOKEN), b"a", b"f"),
    (("RPUSH", "a", "x", TOKEN), b"a", b""),
    (("LPUSH", "a", TOKEN), b"a", b""),
    (("LINSERT", "a", "BEFORE", "x", TOKEN), b"a", b""),
    (("LSET", "a", 0, TOKEN), b"a", b""),
    (("SADD", "a", "x", TOKEN), b"a", b""),
    (("ZADD", "a", 1, "x", 2, TOKEN), b"a", b""),
    (("XADD", "a", "*", "f", TOKEN), b"a", b"f"),
    (("PUBLISH", "a", TOKEN), b"a", b""),
    (("APPEND", "a", TOKEN), b"a", b""),
    (("SETRANGE", "a", 0, TOKEN), b"a", b""),
    (("EVAL", "return 1", 1, "a", TOKEN), b"a", b""),
    (("EVAL", "return 1", 0, TOKEN), b"", b""),
    (("EVALSHA", "0" * 40, 1, "a", TOKEN), b"a", b""),
    (("PFADD", "a", TOKEN), b"a", b""),
    (("GEOADD", "a", 1, 1, TOKEN), b"a", b""),
    (("SMOVE", "a", "b", TOKEN), b"a", b""),
    (("SET", "a:password", PASSWORD), b"a:password", b""),
    (("HSET", "a", "password", PASSWORD), b"a", b"password"),
]


@pytest.mark.parametrize(("command", "name", "field"), PLAIN, ids=lambda value: shown(value)[:40])
class TestPlaintext:
    def test_refused_by_default(self, command: Any, name: bytes, field: bytes) -> None:
        one = session()
        with pytest.raises(PlaintextRefusedError) as caught:
            one.pack_all([("SET", "before", 1), command])
        error = caught.value
        assert isinstance(error, ResponseError)
        assert (error.name, error.field) == (name, field)
        assert error.rule in ("github-token", "named-password")
        for out in ("Secret(", "seal=True", "plaintext_ok="):
            assert out in str(error)
        assert error.rule in str(error)
        shown = str(error) + repr(error) + repr(error.args) + repr(vars(error))
        assert TOKEN not in shown and PASSWORD not in shown
        assert protector(one).policy.counters()["refused"] == {error.rule: 1}
        assert not one.pending

    def test_warned_of(self, command: Any, name: bytes, field: bytes) -> None:
        one = session(plaintext="warn")
        with pytest.warns(PlaintextWarning) as caught:
            one.pack_all([command])
        assert TOKEN not in str(caught[0].message) and PASSWORD not in str(caught[0].message)
        assert sum(protector(one).policy.counters()["warned"].values()) == 1

    def test_not_looked_at(self, command: Any, name: bytes, field: bytes) -> None:
        one = session(plaintext="off")
        one.pack_all([command])
        assert protector(one).policy.counters() == {"refused": {}, "warned": {}, "excused": {}}

    def test_with_a_reason(self, command: Any, name: bytes, field: bytes) -> None:
        one = session(plaintext_ok="samples for the docs")
        one.pack_all([command])
        counters = protector(one).policy.counters()
        assert counters["refused"] == {} and counters["excused"]["samples for the docs"] >= 1

    def test_allowed_there(self, command: Any, name: bytes, field: bytes) -> None:
        if name:
            session(allow=[(name.decode(), "*", "samples")]).pack_all([command])
        with pytest.raises(PlaintextRefusedError):
            session(allow=[("elsewhere*", "*", "samples"), ("*", "jwt", "samples")]).pack_all([command])

    def test_under_plaintext_names_of_a_sealed_namespace(
        self, command: Any, name: bytes, field: bytes
    ) -> None:
        one = session(seal=True, plaintext_keys=["*"], plaintext_channels=["*"])
        with pytest.raises(PlaintextRefusedError):
            one.pack_all([command])

    def test_under_hidden_names(self, command: Any, name: bytes, field: bytes) -> None:
        one = session(names="hidden")
        with pytest.raises(RefusedError) as caught:
            one.pack_all([command])
        if isinstance(caught.value, PlaintextRefusedError):
            # The tenant's own name, which is the one that they know.
            assert caught.value.name == name

    def test_sealed_it_may_go(self, command: Any, name: bytes, field: bytes) -> None:
        one = session(seal=True, contexts={"*": "all"})
        try:
            words = sent(one, *command)
        except RefusedError:
            return
        assert TOKEN.encode() not in b" ".join(words) and PASSWORD.encode() not in b" ".join(words)


class TestPlaintextMore:
    def test_a_command_with_several_values_is_refused_whole(self) -> None:
        one = session()
        for command in (("MSET", "a", 1, "b", TOKEN, "c", 3), ("RPUSH", "a", *range(50), TOKEN)):
            with pytest.raises(PlaintextRefusedError):
                one.pack_all([command])

    def test_a_pipeline_is_refused_whole(self) -> None:
        one = session()
        with pytest.raises(PlaintextRefusedError):
            one.pack_all([("SET", "a", 1), ("SET", "b", TOKEN), ("SET", "c", 3)])

    @pytest.mark.parametrize("said", [{"plaintext": "warn"}, {"plaintext_ok": "a reason"}, {}], ids=shown)
    def test_own_key_material_never_leaves(self, said: Any) -> None:
        one = session(**said, allow=[("*", "*", "all")])
        for secret in (KEYRING.prefix, base64.b64encode(KEYRING.naming), KEYRING.keys[0].secret):
            with pytest.raises(PlaintextRefusedError) as caught:
                one.pack_all([("SET", "a", b"x" + secret if isinstance(secret, bytes) else secret)])
            assert caught.value.rule == "own-keyring"

    def test_a_childs_and_its_parents(self) -> None:
        namespace = Namespace(KEYRING).child("customer-17")
        one = Session(namespace, Encoder("utf-8", "strict", False), 0)
        for keyring in (KEYRING, namespace.keyring):
            with pytest.raises(PlaintextRefusedError):
                one.pack_all([("SET", "a", keyring.prefix)])

    @pytest.mark.parametrize("value", [1, 1.5, "42", b"", "short", "hello world", b"\x80\x04N."], ids=shown)
    def test_ordinary_values_go_as_they_are(self, value: Any) -> None:
        one = session()
        assert sent(one, "SET", "a", value)[2] == Encoder("utf-8", "strict", False).encode(value)

    def test_a_field_that_is_itself_a_secret_is_not_in_the_text(self) -> None:
        with pytest.raises(PlaintextRefusedError) as caught:
            session().pack_all([("HSET", "a", TOKEN, "1")])
        assert TOKEN not in str(caught.value) and caught.value.field == b""

    def test_warns_once_for_a_key(self) -> None:
        one = session(plaintext="warn")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(3):
                one.pack_all([("SET", "a", TOKEN)])
        assert len(caught) == 1 and protector(one).policy.counters()["warned"] == {"github-token": 3}

    def test_a_mixed_mset(self) -> None:
        one = session(seal=True, plaintext_keys=["hits*"])
        words = sent(one, "MSET", "hits", "7", "a", TOKEN)
        assert words[2] == b"7" and opened(one, words[4], "kv", b"a") == TOKEN.encode()
        with pytest.raises(PlaintextRefusedError) as caught:
            one.pack_all([("MSET", "hits", TOKEN, "a", "1")])
        assert caught.value.name == b"hits"

    def test_a_channel_is_not_taken_for_a_key(self) -> None:
        one = session(seal=True, plaintext_keys=["news"])
        assert is_envelope_unverified(sent(one, "PUBLISH", "news", TOKEN)[2])
        other = session(seal=True, plaintext_channels=["news"])
        assert is_envelope_unverified(sent(other, "SET", "news", TOKEN)[2])
        assert sent(other, "PUBLISH", "news", "hello")[2] == b"hello"


class TestPlaintextKeys:
    def test_what_a_sealed_namespace_refuses_works_there(self) -> None:
        one = session(seal=True, plaintext_keys=["hits:*", "visits", "b[ai]ts"])
        for name in ("hits:a", "visits", "bits", "bats"):
            for command in (
                ("INCR", name),
                ("APPEND", name, "x"),
                ("SETBIT", name, 1, 1),
                ("GETRANGE", name, 0, 1),
            ):
                assert len(sent(one, *command)) == len(command)
            assert sent(one, "SET", name, "7")[2] == b"7"
            assert reply(one, ("GET", name), b"7") == b"7"
        for name in ("hits", "visits2", "bots"):
            for command in (
                ("INCR", name),
                ("APPEND", name, "x"),
                ("SETBIT", name, 1, 1),
                ("GETRANGE", name, 0, 1),
            ):
                with pytest.raises(ForbiddenCommandError) as caught:
                    sent(one, *command)
                assert "plaintext_keys" in str(caught.value) or "whole" in str(caught.value)

    def test_every_refusal_says_what_to_do(self) -> None:
        one = session(seal=True)
        refused = 0
        for shapes in shapes_by_name().values():
            for shape in shapes:
                try:
                    one.pack_all([shape])
                except ForbiddenCommandError as error:
                    refused += 1
                    assert error.reason and error.instead, shape
                except RefusedError:
                    continue
        assert refused > 50

    def test_ours_are_ours_to_write(self) -> None:
        every: list[dict[str, Any]] = [
            {"seal": True},
            {"seal": True, "names": "hidden"},
            {"names": "hidden"},
            {},
            {"plaintext": "off"},
        ]
        for said in every:
            one = session(**said)
            for name in (b"tkv:cache:{x}a", b"__tenantkv__:names:1"):
                words: list[tuple[Any, ...]] = [
                    ("SET", name, "v"),
                    ("set", name.decode(), Secret("v")),
                    ("SADD", name, TOKEN),
                    ("HSET", name, "f", Secret("v")),
                    ("MSET", "a", "1", name, "2"),
                    ("RENAME", "a", name),
                    ("COPY", "a", name),
                    ("ZUNIONSTORE", name, 1, "a"),
                ]
                for command in words:
                    with pytest.raises(ForbiddenCommandError, match="tenantkv's own"):
                        one.pack_all([command])
                # Our own operations are told by the type of the command's name.
                ours = OwnWord(b"SET")
                assert sent(one, ours, name, b"\xc1 or anything") == [b"SET", name, b"\xc1 or anything"]
                # Looking at one's own keys is nobody else's business.
                assert reply(one, ("GET", name), b"\xc1garbage") == b"\xc1garbage"
                assert sent(one, "DEL", name)[0] == b"DEL"


class TestContexts:
    def test_values_move_within_one(self) -> None:
        one = session(seal=True, contexts={"jobs:*": "jobs", "*": "rest"})
        word = sent(one, "RPUSH", "jobs:new", "v")[2]
        assert opened(one, word, "list", b"jobs") == b"v"
        assert reply(one, ("LMOVE", "jobs:new", "jobs:busy", "LEFT", "RIGHT"), word) == b"v"
        with pytest.raises(ForbiddenCommandError, match="context"):
            one.pack_all([("LMOVE", "jobs:new", "other", "LEFT", "RIGHT")])
        with pytest.raises(OpenError):
            reply(one, ("LPOP", "other"), word)

    def test_a_single_secret_is_sealed_under_the_same_name(self) -> None:
        plain, sealed = session(contexts={"jobs:*": "jobs"}), session(seal=True, contexts={"jobs:*": "jobs"})
        word = sent(plain, "RPUSH", "jobs:a", Secret("v"))[2]
        assert reply(sealed, ("LPOP", "jobs:b"), word) == b"v"
        word = sent(sealed, "SET", "jobs:a", "v")[2]
        assert reply(plain, ("GET", "jobs:a"), word) == b"v"
        assert reply(plain, ("MGET", "jobs:b", "x"), [word, b"plain"]) == [b"v", b"plain"]


class TestBack:
    def test_found_among_others(self) -> None:
        one = session()
        word = sent(one, "HSET", "h", "f", Secret("v"))[3]
        command = ("HGETALL", "h")
        assert reply(one, command, [b"f", word, b"g", b"w"]) == [b"f", b"v", b"g", b"w"]
        assert reply(one, command, {b"f": word, b"g": b"w"}) == {b"f": b"v", b"g": b"w"}
        assert reply(one, ("HMGET", "h", "g", "f", "x"), [b"w", word, None]) == [b"w", b"v", None]
        assert reply(one, ("HGET", "h", "f"), word, decode=True) == b"v"

    def test_decoded_last(self) -> None:
        one = session(decode=True)
        word = sent(one, "SET", "a", Secret("grün"))[2]
        assert reply(one, ("GET", "a"), word, decode=True) == "grün"
        assert reply(one, ("GET", "a"), "grün".encode(), decode=True) == "grün"

    @pytest.mark.parametrize("said", [{}, {"seal": True}, {"names": "hidden"}], ids=shown)
    @pytest.mark.parametrize(
        "value", [b"\xc1", b"\xc1 one", b"\xc1\x11\x00", b"\xc1\x99\x00abcd" + b"x" * 60]
    )
    def test_what_only_begins_like_an_envelope(self, said: Any, value: bytes) -> None:
        """Somebody's bytes without a seal: as they are where nothing is sealed, else an error."""
        one = session(**said)
        if said.get("seal"):
            with pytest.raises(OpenError):
                reply(one, ("GET", "a"), value)
        else:
            assert reply(one, ("GET", "a"), value) == value

    def test_errors_say_where_and_no_more(self) -> None:
        one = session(seal=True)
        word = sent(one, "HSET", "h", "f", "v")[3]
        with pytest.raises(OpenError) as caught:
            reply(one, ("HGET", "h", "g"), word)
        assert (caught.value.kind, caught.value.name, caught.value.field) == ("hash", b"h", b"g")
        assert isinstance(caught.value, ResponseError)
        stranger = session(keyring=OTHER, seal=True)
        with pytest.raises(UnknownKeyError) as unknown:
            reply(stranger, ("HGET", "h", "f"), word)
        assert unknown.value.key_id == KEYRING.primary.id and isinstance(unknown.value, ResponseError)

    def test_an_error_in_a_transaction_stands_in_its_place(self) -> None:
        one = session(seal=True)
        word = sent(one, "SET", "a", "v")[2]
        one.sent(one.pack_all([("MULTI",), ("GET", "a"), ("GET", "b"), ("GET", "a"), ("EXEC",)]).rules)
        one.settle(b"OK", decode=True)
        for _ in range(3):
            assert one.settle(b"QUEUED", decode=True) == b"QUEUED"
        first, second, third = one.settle([word, word, None], decode=True)
        assert first == b"v" and isinstance(second, OpenError) and third is None
        assert one.idle

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (b"plain", False),
            (b"\xc1x", True),
            (None, False),
            (5, False),
            ([b"a", b"b"], False),
            ([b"a", b"\xc1"], True),
            # A continuation byte in the middle is no envelope's beginning.
            ([b"a\xc1", b"b"], False),
            ([b"a", [b"b", [b"\xc1"]]], True),
            ([b"a", None, b"\xc1"], True),
            ({b"a": b"\xc1"}, True),
            ({b"\xc1": b"a"}, False),
            ({b"\xc1"}, True),
            ([], False),
        ],
    )
    def test_a_quick_look(self, value: Any, expected: bool) -> None:
        assert may_hold_envelope(value) is expected


class TestMigration:
    def test_until_then_plaintext_is_read_and_counted(self) -> None:
        one = session(seal=True, accept_plaintext_until=time.time() + 100)
        assert reply(one, ("GET", "a"), b"old") == b"old"
        assert reply(one, ("MGET", "a", "b"), [b"old", None]) == [b"old", None]
        assert protector(one).counts["accepted_plaintext"] == 2
        word = sent(one, "SET", "a", "new")[2]
        assert reply(one, ("GET", "a"), word) == b"new"
        assert protector(one).counts["accepted_plaintext"] == 2

    def test_an_envelope_that_does_not_open_is_no_plaintext(self) -> None:
        one = session(seal=True, accept_plaintext_until=time.time() + 100)
        word = sent(one, "SET", "a", "v")[2]
        for blob in (word[:-1], word[:-1] + bytes([word[-1] ^ 1]), word + b"x"):
            with pytest.raises(OpenError):
                reply(one, ("GET", "a"), blob)
        with pytest.raises(OpenError):
            reply(one, ("GET", "b"), word)

    def test_after_that_it_does_not_open(self) -> None:
        one = session(seal=True, accept_plaintext_until=time.time() - 1)
        with pytest.raises(OpenError):
            reply(one, ("GET", "a"), b"old")
        assert protector(one).counts["accepted_plaintext"] == 0

    def test_never_by_default(self) -> None:
        with pytest.raises(OpenError):
            reply(session(seal=True), ("GET", "a"), b"old")

    def test_the_moment_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        one = session(seal=True, accept_plaintext_until=2_000_000_000)
        monkeypatch.setattr("tenantkv.protector.time.time", lambda: 1_999_999_999.9)
        assert reply(one, ("GET", "a"), b"old") == b"old"
        monkeypatch.setattr("tenantkv.protector.time.time", lambda: 2_000_000_000.0)
        with pytest.raises(OpenError):
            reply(one, ("GET", "a"), b"old")


NOW = 1_900_000_000.0


class TestBoundTTL:
    @pytest.mark.parametrize(
        ("command", "at", "expires"),
        [
            (("SET", "k", "v", "EX", 10), 2, NOW + 10),
            (("SET", "k", "v", "PX", 2500), 2, NOW + 3),
            (("SET", "k", "v", "EXAT", 1_900_000_007), 2, NOW + 7),
            (("SET", "k", "v", "PXAT", 1_900_000_006_001), 2, NOW + 7),
            (("SET", "k", "v", "nx", "ex", "10", "get"), 2, NOW + 10),
            (("SETEX", "k", 10, "v"), 3, NOW + 10),
            (("PSETEX", "k", 2500, "v"), 3, NOW + 3),
            (("SET", "k", "v"), 2, None),
            (("SET", "k", "v", "KEEPTTL"), 2, None),
            (("SET", "k", "v", "NX"), 2, None),
            (("SETNX", "k", "v"), 2, None),
        ],
        ids=shown,
    )
    def test_is_in_the_seal(
        self, command: Any, at: int, expires: float | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [NOW]
        monkeypatch.setattr("tenantkv.protector.time.time", lambda: now[0])
        one = session(seal=True, bind_ttl=True)
        vars(protector(one))["_sealer"] = LiveSealer(KEYRING, clock=lambda: now[0])
        word = sent(one, *command)[at]
        header = read_header_unverified(word)
        assert header is not None and header.expires is (expires is not None)
        assert reply(one, ("GET", "k"), word) == b"v"
        if expires is not None:
            now[0] = expires - 0.001
            assert reply(one, ("GET", "k"), word) == b"v"
            now[0] = expires
            with pytest.raises(OpenError):
                reply(one, ("GET", "k"), word)

    @pytest.mark.parametrize(
        "command",
        [("SET", "k", "v", "EX", "soon"), ("SETEX", "k", "soon", "v"), ("PSETEX", "k", b"\xff", "v")],
        ids=shown,
    )
    def test_no_number_is_the_servers_to_refuse(self, command: Any) -> None:
        one = session(seal=True, bind_ttl=True)
        assert len(sent(one, *command)) == len(command)

    @pytest.mark.parametrize(
        "command",
        [
            ("SET", "k", "v", "EX", 0),
            ("SET", "k", "v", "EX", -5),
            ("SETEX", "k", 0, "v"),
            ("PSETEX", "k", -1, "v"),
            ("SET", "k", "v", "EXAT", 1),
            ("SET", "k", "v", "PXAT", 1),
            ("SET", "k", "v", "EX", 10**12),
            ("SETEX", "k", 10**12, "v"),
            ("SETEX", "k", "nan", "v"),
            ("SETEX", "k", "inf", "v"),
            ("SETEX", "k", "1e400", "v"),
        ],
        ids=shown,
    )
    def test_odd_numbers(self, command: Any) -> None:
        """What the server takes is sent, and so is what it refuses by itself."""
        one = session(seal=True, bind_ttl=True)
        words = sent(one, *command)
        header = read_header_unverified(words[2 if command[0] == "SET" else 3])
        assert len(words) == len(command) and header is not None
        # Beyond what the format can say, the seal ends in 2106; before now, there is nothing to bind.
        assert header.expires is (10**12 in command)

    def test_off_by_default(self) -> None:
        header = read_header_unverified(sent(session(seal=True), "SET", "k", "v", "EX", 10)[2])
        assert header is not None and not header.expires


class TestMessages:
    def test_opened_or_dropped_and_counted(self) -> None:
        one = session(seal=True)
        assert one.namespace is not None
        wire = one.namespace.channel_prefix + b"news"
        word = sent(one, "PUBLISH", "news", "v")[2]
        push = [b"message", wire, word]
        assert Session.shape_message(push, one.namespace) == [b"message", b"news", b"v"]
        for forged in (
            b"plain",
            word[:-1],
            sent(one, "PUBLISH", "other", "v")[2],
            b"",
            sent(one, "SET", "news", "v")[2],
        ):
            assert Session.shape_message([b"message", wire, forged], one.namespace) is None
        assert protector(one).dropped_messages == 5

    def test_not_sealed(self) -> None:
        one = session()
        assert one.namespace is not None
        wire = one.namespace.channel_prefix + b"news"
        word = sent(one, "PUBLISH", "news", Secret("v"))[2]
        assert Session.shape_message([b"message", wire, word], one.namespace)[2] == b"v"
        assert Session.shape_message([b"message", wire, b"plain"], one.namespace)[2] == b"plain"
        assert Session.shape_message([b"message", wire, flip(word)], one.namespace) is None
        assert protector(one).dropped_messages == 1


def test_one_protector_a_namespace_and_it_shows_nothing() -> None:
    namespace = Namespace(KEYRING, protection=Protection(seal=True))
    assert protector_of(namespace) is protector_of(namespace)
    shown = repr(protector_of(namespace)) + repr(vars(protector_of(namespace))["policy"])
    assert KEYRING.prefix not in shown and KEYRING.naming.hex() not in shown
