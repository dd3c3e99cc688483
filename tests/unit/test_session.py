"""The conversation of a connection: replies meet their commands, in transactions, errors and pushes too."""

from __future__ import annotations

from typing import Any

import pytest
from redis._parsers.encoders import Encoder
from redis.exceptions import DataError, ResponseError

from tenantkv import envelope_header, transport
from tenantkv.commands.table import RULES
from tenantkv.errors import ForbiddenCommandError, MalformedCommandError, NamespaceRequiredError
from tenantkv.keyring import Keyring
from tenantkv.namespace import Namespace
from tenantkv.transport.session import Session, decode_deep

NAMESPACE = Namespace(Keyring.generate(bytes(range(96))))
K, C = NAMESPACE.wire_prefix, NAMESPACE.channel_prefix


def session(*, decode: bool = False, database: int = 0) -> Session:
    return Session(NAMESPACE, Encoder("utf-8", "strict", decode), database)


def send(one: Session, *commands: tuple) -> None:
    one.sent(one.pack_all(commands).rules)


def test_replies_meet_their_commands() -> None:
    one = session()
    send(one, ("TYPE", "a"), ("BLPOP", "q", 0), ("XREAD", "STREAMS", "s", 0), ("LRANGE", "q", 0, -1))
    assert one.is_plain()
    # A value is never taken for a name, whatever it looks like.
    assert one.settle(K + b"a", decode=True) == K + b"a"
    assert not one.is_plain()
    assert one.settle([K + b"q", K + b"v"], decode=True) == [b"q", K + b"v"]
    assert one.settle([[K + b"s", [[b"1-1", [K, K]]]]], decode=True) == [[b"s", [[b"1-1", [K, K]]]]]
    assert one.settle([K + b"v"], decode=True) == [K + b"v"]
    assert one.idle


def test_nil_and_maps() -> None:
    one = session()
    send(one, ("BLPOP", "q", 0), ("XREAD", "STREAMS", "s", 0), ("LMPOP", 1, "q", "LEFT"), ("KEYS", "*"))
    assert one.settle(None, decode=True) is None
    assert one.settle({K + b"s": [[b"1-1", []]]}, decode=True) == {b"s": [[b"1-1", []]]}
    assert one.settle(None, decode=True) is None
    # Names of others, as only a hostile server could send, are left out.
    assert one.settle([K + b"a", b"theirs", K], decode=True) == [b"a", b""]


def test_a_transaction_is_shaped_when_it_is_executed() -> None:
    one = session()
    send(one, ("MULTI",), ("BLPOP", "q", 0), ("GET", "a"), ("LMPOP", 1, "q", "LEFT"), ("EXEC",))
    assert one.settle(b"OK", decode=True) == b"OK"
    for _ in range(3):
        assert one.settle(b"QUEUED", decode=True) == b"QUEUED"
    reply = one.settle([[K + b"q", b"v"], K + b"v", [K + b"q", [b"v"]]], decode=True)
    assert reply == [[b"q", b"v"], K + b"v", [b"q", [b"v"]]]
    assert one.idle


def test_an_error_while_queueing_takes_its_command_out() -> None:
    one = session()
    send(one, ("MULTI",), ("LPUSH", "a", 1), ("BLPOP", "q", 0), ("EXEC",))
    one.settle(b"OK", decode=True)
    one.settle_error(ResponseError("wrong"))
    one.settle(b"QUEUED", decode=True)
    # A server answers EXECABORT now; one that did not must not shift the replies.
    assert one.settle([[K + b"q", b"v"]], decode=True) == [[b"q", b"v"]]


@pytest.mark.parametrize("last", ["EXEC", "DISCARD"])
def test_an_aborted_transaction_ends(last: str) -> None:
    one = session()
    send(one, ("MULTI",), ("GET", "a"), (last,), ("BLPOP", "q", 0))
    one.settle(b"OK", decode=True)
    one.settle(b"QUEUED", decode=True)
    one.settle_error(ResponseError("EXECABORT"))
    assert one.transaction is None
    assert one.settle([K + b"q", b"QUEUED"], decode=True) == [b"q", b"QUEUED"]


@pytest.mark.parametrize("words", [("EXEC", "now"), ("EXEC now",), ("DISCARD", b"x"), ("MULTI", "")])
def test_what_begins_and_ends_transactions_takes_no_arguments(words: tuple) -> None:
    one = session()
    send(one, ("MULTI",), ("BLPOP", "q", 0))
    one.settle(b"OK", decode=True)
    one.settle(b"QUEUED", decode=True)
    with pytest.raises(ResponseError, match="takes no arguments") as caught:
        one.pack(words)
    assert isinstance(caught.value, MalformedCommandError)
    # The transaction is as open as it is on the server.
    send(one, ("EXEC",))
    assert one.settle([[K + b"q", b"v"]], decode=True) == [[b"q", b"v"]]
    assert one.idle


def test_a_watched_key_gives_nil() -> None:
    one = session()
    send(one, ("MULTI",), ("BLPOP", "q", 0), ("EXEC",))
    one.settle(b"OK", decode=True)
    one.settle(b"QUEUED", decode=True)
    assert one.settle(None, decode=True) is None
    assert one.idle


def test_queued_is_a_value_outside_of_a_transaction() -> None:
    one = session()
    send(one, ("GET", "a"), ("KEYS", "*"))
    assert one.settle(b"QUEUED", decode=True) == b"QUEUED"
    assert one.settle([K + b"QUEUED"], decode=True) == [b"QUEUED"]


def test_errors_lose_wire_names() -> None:
    one = session()
    send(one, ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"))
    error = ResponseError(f"NOGROUP No such key '{K.decode()}s' or {C.decode()}news")
    one.settle_error(error)
    assert str(error) == "NOGROUP No such key 's' or news"
    send(one, ("MULTI",), ("GET", "a"), ("EXEC",))
    one.settle(b"OK", decode=True)
    one.settle(b"QUEUED", decode=True)
    (inside,) = one.settle([ResponseError(f"bad {K.decode()}a")], decode=True)
    assert str(inside) == "bad a"


def test_decoding_comes_last() -> None:
    one = session(decode=True)
    send(one, ("BLPOP", "ключ", 0), ("KEYS", "*"), ("BLPOP", "q", 0))
    assert one.settle([K + "ключ".encode(), b"v"], decode=True) == ["ключ", "v"]
    assert one.settle([K + b"a"], decode=False) == [b"a"]
    with pytest.raises(UnicodeDecodeError):
        one.settle([K + b"q", b"\xff"], decode=True)
    assert one.idle


def test_decode_deep() -> None:
    decode = Encoder("utf-8", "strict", True).decode
    reply = [b"a", {b"k": [b"v", 1, None]}, {b"s"}, (b"t", 1.5), True]
    assert decode_deep(reply, decode) == ["a", {"k": ["v", 1, None]}, {"s"}, ("t", 1.5), True]


def test_pushes_do_not_take_a_commands_place() -> None:
    one = session()
    send(one, ("SUBSCRIBE", "news"))
    assert not one.idle and not one.pending
    send(one, ("PING",))
    assert one.settle([b"message", C + b"news", b"x"], decode=True) == [b"message", b"news", b"x"]
    assert one.settle([b"message", b"theirs", b"x"], decode=True) is None
    assert len(one.pending) == 1
    assert one.settle([b"pong", b""], decode=True) == [b"pong", b""]
    assert not one.pending


def test_a_nested_reply_on_a_subscribed_connection() -> None:
    one = session()
    send(one, ("SUBSCRIBE", "news"))
    send(one, ("XRANGE", "s", "-", "+"))
    assert one.settle([[b"1-1", [b"f", b"v"]]], decode=True) == [[b"1-1", [b"f", b"v"]]]


def test_a_list_that_looks_like_a_push_is_a_value() -> None:
    one = session()
    send(one, ("LRANGE", "q", 0, -1))
    value: list[Any] = [b"message", b"theirs", b"x"]
    assert one.settle(value, decode=True) == value


def test_reset_forgets_and_remembers_what_must_not_be_repeated() -> None:
    for commands, lost in (
        ([("GET", "a")], False),
        ([("SET", "a", 1)], False),
        ([("SET", "a", 1, "NX")], True),
        ([("GET", "a"), ("INCR", "a")], True),
        ([("BLPOP", "q", 0)], True),
        ([("MULTI",), ("GET", "a"), ("EXEC",)], True),
    ):
        one = session()
        send(one, *commands)
        one.reset()
        assert one.lost_unrepeatable is lost, commands
        assert one.idle


def test_all_or_nothing() -> None:
    one = session()
    for bad in (("FLUSHALL",), ("SET", "a", None), ("NONSENSE",)):
        with pytest.raises((ResponseError, DataError)):
            one.pack_all([("SET", "a", 1), bad, ("SET", "b", 2)])
    assert one.idle


def test_select_names_the_own_database_only() -> None:
    for database, good in ((0, ("0", 0, b"0")), (3, ("3", 3))):
        one = session(database=database)
        for number in good:
            assert one.pack(("SELECT", number))[1] is RULES["SELECT"]
        for number in (1, "00", "+3", b"16", "x"):
            with pytest.raises(ForbiddenCommandError):
                one.pack(("SELECT", number))
        with pytest.raises(ForbiddenCommandError):
            one.pack(("select 7",))


def test_without_a_namespace_nothing_goes_out() -> None:
    one = Session(None, Encoder("utf-8", "strict", False), 0)
    for command in (("GET", "a"), ("PING",), ()):
        with pytest.raises(NamespaceRequiredError) as caught:
            one.pack(command)
        assert isinstance(caught.value, ResponseError)


def test_what_is_glanced_at_is_what_envelopes_begin_with() -> None:
    assert bytes([envelope_header.MAGIC]) == transport.session._MAGIC
