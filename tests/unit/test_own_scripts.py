"""Scripts of our own: called by digest, sent whole where missing, and told from the user's by their type."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from redis.exceptions import NoScriptError, ResponseError

from tenantkv.commands.own_scripts import EVAL, EVALSHA, REPEATABLE_EVALSHA
from tenantkv.commands.packing import Packer
from tenantkv.keyring import Keyring
from tenantkv.namespace import Namespace
from tenantkv.ops.effects import Batch, Call, Command, Operation, Sleep
from tenantkv.ops.scripts import Script
from tenantkv.transport.drivers import drive

BODY = b"return redis.call('GET', KEYS[1])"
SCRIPT = Script.of("sample", BODY, repeatable=True)
ONCE = Script.of("sample", BODY, repeatable=False)
namespace = Namespace(Keyring.generate(bytes(range(96))))


def pack(*words: Any) -> tuple[bytes, Any]:
    packed, rule = Packer(lambda value: value, utf8=True).pack(words, namespace)
    return b"".join(packed) if isinstance(packed, list) else packed, rule


def test_our_own_script_goes_out_as_it_is_with_wire_names() -> None:
    packed, rule = pack(EVAL, BODY, 1, b"a", b"x")
    assert BODY in packed and packed.count(namespace.wire_prefix) == 1
    assert namespace.channel_prefix not in packed and rule is EVAL.rule


def test_the_same_word_from_a_user_is_guarded() -> None:
    packed, rule = pack(b"EVAL", BODY, 1, b"a", b"x")
    assert b"$%d\r\n%b\r\n" % (len(BODY), BODY) not in packed
    assert namespace.channel_prefix in packed and rule is not EVAL.rule


def test_only_repeatable_scripts_may_be_sent_twice() -> None:
    assert Call(SCRIPT, ["a"]).by_digest[0] is REPEATABLE_EVALSHA and REPEATABLE_EVALSHA.rule.repeatable
    assert Call(ONCE, ["a"]).by_digest[0] is EVALSHA and not EVALSHA.rule.repeatable


class Server:
    """Knows scripts once it has seen them whole, and notes what it was asked."""

    def __init__(self) -> None:
        self.seen: list[list[bytes]] = []
        self.scripts: set[bytes] = set()

    def swap(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        self.seen.append([bytes(words[0]) for words in commands])
        return [self._answer(words) for words in commands]

    def _answer(self, words: tuple[Any, ...]) -> Any:
        if words[0] == b"EVAL":
            self.scripts.add(hashlib.sha1(words[1]).hexdigest().encode())
        elif words[0] == b"EVALSHA" and words[1] not in self.scripts:
            return NoScriptError("No matching script.")
        elif words[0] == b"FAIL":
            return ResponseError("ERR no")
        return words[-1]


def test_a_missing_script_is_sent_whole_and_its_neighbours_are_not_repeated() -> None:
    server = Server()

    def operation() -> Operation[Any]:
        first = yield Batch([("GET", "a"), Call(SCRIPT, ["b"], [b"1"]), ("GET", "c")])
        second = yield Call(SCRIPT, ["d"])
        return first, second

    assert drive(server.swap, operation()) == ([b"a", b"1", b"c"], b"d")
    assert server.seen == [[b"GET", b"EVALSHA", b"GET"], [b"EVAL"], [b"EVALSHA"]]


def test_errors_are_raised_in_the_operation_or_stand_in_the_batch() -> None:
    server = Server()

    def operation() -> Operation[Any]:
        replies = yield Batch([("FAIL",), ("GET", "a")])
        assert isinstance(replies[0], ResponseError)
        yield Sleep(0.0)
        assert (yield Command(("FAIL",), absent_ok=True)) is None
        with pytest.raises(ResponseError):
            yield Command(("FAIL",))
        return replies[1]

    assert drive(server.swap, operation()) == b"a"


def test_hidden_names_are_stable_and_each_namespaces_own() -> None:
    hidden = namespace.hidden_name(b"user:7")
    assert hidden == Namespace(Keyring.generate(bytes(range(96)))).hidden_name(b"user:7")
    assert len(hidden) == 24 and hidden != namespace.child("x").hidden_name(b"user:7")
