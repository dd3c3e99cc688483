"""RESP as the proxy reads and writes it: however the bytes come in, and whatever they are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from tenantkv.errors import ConfigurationError, MalformedCommandError
from tenantkv.proxy import local
from tenantkv.proxy.local import Visitor
from tenantkv.proxy.replies import LARGE_BYTES, Double, Push, ReplyReader, SetReply, Status, encode, parse
from tenantkv.proxy.requests import ProtocolError, RequestParser
from tenantkv.proxy.server import Address

MOST = 100_000

words_of_bytes = st.lists(st.binary(max_size=40), min_size=1, max_size=6)


def packed(words: list[bytes]) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def requests_in(data: bytes, sizes: list[int], most: int = MOST) -> list[list[bytes]]:
    """Feed bytes in pieces of these sizes, then of one, and return the commands."""
    parser, found, at = RequestParser(most), [], 0
    while at < len(data):
        size = sizes.pop() if sizes else 1
        parser.feed(data[at : at + size])
        at += size
        while (words := parser.next()) is not None:
            found.append(words)
    return found


def replies_in(data: bytes, sizes: list[int]) -> list[bytes]:
    reader, found, at = ReplyReader(), [], 0
    while at < len(data):
        size = sizes.pop() if sizes else 1
        reader.feed(data[at : at + size])
        at += size
        while (frame := reader.next()) is not None:
            found.append(frame)
    return found


@given(st.lists(words_of_bytes, max_size=5), st.lists(st.integers(1, 30)))
def test_requests_come_out_as_they_went_in(commands: list[list[bytes]], sizes: list[int]) -> None:
    assert requests_in(b"".join(map(packed, commands)), sizes) == commands


values: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.binary(max_size=20)
    | st.sampled_from([Status(b"OK"), Status(b"")]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@given(st.lists(values, max_size=4), st.lists(st.integers(1, 30)))
def test_replies_come_out_as_they_went_in(replies: list[Any], sizes: list[int]) -> None:
    frames = [encode(reply, 3) for reply in replies]
    assert replies_in(b"".join(frames), sizes) == frames
    for reply, frame in zip(replies, frames, strict=True):
        again = parse(frame)
        assert again == reply
        assert encode(again, 3) == frame


@given(st.binary(max_size=200))
def test_any_bytes_are_commands_or_an_error(data: bytes) -> None:
    outcomes = []
    for sizes in ([], [len(data) or 1]):
        try:
            outcomes.append((requests_in(data, list(sizes)), ""))
        except ProtocolError as error:
            outcomes.append(([], str(error)))
    assert bool(outcomes[0][1]) == bool(outcomes[1][1])
    if not outcomes[0][1]:
        assert outcomes[0] == outcomes[1]


@given(st.binary(max_size=200))
def test_any_bytes_are_replies_or_an_error(data: bytes) -> None:
    try:
        for frame in replies_in(data, [7, 3, 50]):
            parse(frame)
    except ProtocolError:
        pass
    else:
        assert b"".join(replies_in(data, [])) == data[: sum(map(len, replies_in(data, [])))]


@pytest.mark.parametrize(
    "data",
    [
        b"*1\r\n:5\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$5\r\nabcdefg",
        b"*-1\r\n",
        b"*+1\r\n$1\r\na\r\n",
        b"* 1\r\n",
        b"*1_0\r\n",
        b"*99999999999999999999\r\n",
        b"*1048577\r\n",
        b"*" + b"1" * 40,
        b"*1\r\n$" + b"1" * 40,
        b"*1\r\n$100001\r\n",
        b"*3\r\n$50000\r\n" + b"a" * 50000 + b"\r\n$50000\r\n",
        b"*1000000\r\n" + b"$0\r\n\r\n" * 2000,
        b'SET a "b c"\r\n',
        b"a" * 4096,
        b"\x16\x03\x01\x02\x00\r\n",
        b"POST / HTTP/1.1\r\n",
        b"Host: localhost:6379\r\n",
    ],
)
def test_what_cannot_be_read_is_an_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        requests_in(data, [len(data)])
    with pytest.raises(ProtocolError):
        requests_in(data, [])


def test_lines_of_words_are_commands_too() -> None:
    assert requests_in(b"PING\r\n\r\nSET  a b\n*0\r\n", []) == [[b"PING"], [], [b"SET", b"a", b"b"], []]


def test_a_claimed_count_takes_no_memory() -> None:
    parser = RequestParser(MOST)
    parser.feed(b"*1000000\r\n$90000\r\nabc")
    assert parser.next() is None
    assert parser._size == 3


def test_types_go_back_as_they_came() -> None:
    for frame in (
        b",1.50\r\n",
        b",inf\r\n",
        b"(123456789012345678901234567890\r\n",
        b"#t\r\n",
        b"_\r\n",
        b"=7\r\ntxt:abc\r\n",
        b"~2\r\n$1\r\na\r\n:1\r\n",
        b">2\r\n$7\r\nmessage\r\n$1\r\na\r\n",
        b"-ERR no\r\n",
        b"%1\r\n+a\r\n*1\r\n,2.0\r\n",
    ):
        assert encode(parse(frame), 3) == frame
    assert parse(b"*-1\r\n") is None and parse(b"$-1\r\n") is None
    assert type(parse(b"~0\r\n")) is SetReply and type(parse(b">0\r\n")) is Push
    assert isinstance(parse(b",2\r\n"), Double)
    assert isinstance(parse(b"!5\r\nERR x\r\n"), ResponseError)


def test_replies_for_those_who_speak_the_old_protocol() -> None:
    assert encode({b"a": None}, 2) == b"*2\r\n$1\r\na\r\n$-1\r\n"
    assert encode([True, 1.5, SetReply([b"a"])], 2) == b"*3\r\n:1\r\n$3\r\n1.5\r\n*1\r\n$1\r\na\r\n"
    assert encode(MalformedCommandError("GET", "two\r\nlines."), 2) == b"-ERR GET refused: two lines.\r\n"


def test_a_large_value_goes_on_in_parts() -> None:
    content = b"x" * (LARGE_BYTES * 2)
    frame = b"$%d\r\n%b\r\n" % (len(content), content)
    reader = ReplyReader()
    reader.feed(frame[:100])
    assert reader.next() is None
    begun = reader.begun()
    assert begun == (len(frame), b"x")
    got, left = b"", begun[0]
    for start in range(100, len(frame) + 5, 50_000):
        reader.feed((frame + b"+OK\r\n")[start : start + 50_000])
        part = reader.part(left)
        got, left = got + part, left - len(part)
    assert got == frame and not left and reader.next() == b"+OK\r\n"


def test_nested_deeper_than_anybody_needs() -> None:
    with pytest.raises(ProtocolError):
        parse(b"*1\r\n" * 100_000 + b":1\r\n")


def test_who_may_give_commands() -> None:
    anybody = Visitor(1, None)
    assert anybody.is_known and anybody.authenticate([b"x"]) == local.NO_PASSWORD_SET
    visitor = Visitor(7, b"correct horse battery")
    assert not visitor.is_known and "correct" not in repr(visitor)
    for wrong in ([b"wrong"], [b"default", b""], [b"root", b"correct horse battery"]):
        assert visitor.authenticate(wrong) == local.WRONG_PASSWORD
    assert visitor.greet([b"HELLO", b"3"]) == (b"", local.HELLO_NO_AUTH)
    assert visitor.greet([b"HELLO", b"3", b"AUTH", b"default", b"no"]) == (b"", local.WRONG_PASSWORD)
    assert not visitor.is_known
    hello = [b"HELLO", b"3", b"AUTH", b"default", b"correct horse battery", b"SETNAME", b"me"]
    assert visitor.greet(hello) == (b"3", None)
    assert visitor.is_known and visitor.answer([b"client", b"getname"]) == b"$2\r\nme\r\n"
    assert visitor.answer([b"CLIENT", b"ID"]) == b":7\r\n"
    assert visitor.greet([b"HELLO", b"4"]) == (b"", local.NO_PROTOCOL)
    assert visitor.greet([b"HELLO", b"3", b"SETNAME"]) == (b"", local.SYNTAX)


def test_addresses() -> None:
    assert Address.parse("unix:///run/x.sock") == Address(path="/run/x.sock")
    assert Address.parse("localhost:1").is_private and Address.parse("[::1]:1").is_private
    assert not Address.parse("0.0.0.0:1").is_private and not Address.parse("example.org:1").is_private
    for wrong in ("unix:", "unix:tool.sock", "6379", ":6379", "::1:6379", "127.0.0.1:", "127.0.0.1:99999"):
        with pytest.raises(ConfigurationError):
            Address.parse(wrong)
