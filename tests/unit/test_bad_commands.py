"""Bad input: one clear error, before any byte is sent, and the connection stays usable.

Whether bytes were sent is asked of the server: it counts the commands and the bytes that it got.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis.exceptions import DataError, ResponseError

import tenantkv
from tenantkv import Keyring, Namespace
from tenantkv.errors import (
    ForbiddenCommandError,
    MalformedCommandError,
    RefusedError,
    TenantKVError,
    UnknownCommandError,
)
from tenantkv.transport.redis_py import LEAN
from tests.naming import shown
from tests.servers import RealServer

SECRET = "a-value-that-no-error-may-repeat"
HUGE = "9" * 30

UNKNOWN = [
    ("FOO.BAR", "k", SECRET),
    ("foo", SECRET),
    ("GETT", "k"),
    ("SETT", "k", SECRET),
    ("OBJECT", "NONSENSE", "k"),
    ("XINFO", "NONSENSE", "k"),
    ("OBJECT",),
    ("CLIENT", "NONSENSE"),
    ("COMMAND", "NONSENSE"),
    (b"\xff\xfe", "k"),
    ("G\x00ET", "k"),
    ("*1\r\n$8\r\nFLUSHALL\r\n", "k"),
    ("\uff27\uff25\uff34", "k"),
]

FORBIDDEN = [
    ("FLUSHALL",),
    ("flushall",),
    (b"FlushAll",),
    (memoryview(b"FLUSHALL"),),
    ("CONFIG", "GET", "*"),
    ("CONFIG GET", "*"),
    ("config\tget", "*"),
    ("ACL", "LIST"),
    ("CLIENT", "LIST"),
    ("CLIENT LIST",),
    ("client", "kill", "1"),
    ("CLUSTER", "RESET"),
    ("COMMAND", "GETKEYS", "GET", "k"),
    ("DEBUG", "OBJECT", "k"),
    ("FCALL", "f", 1, "k"),
    ("FUNCTION", "FLUSH"),
    ("MIGRATE", "h", 1, "k", 0, 1),
    ("MONITOR",),
    ("MOVE", "k", 1),
    ("PSYNC", "?", -1),
    ("RESET",),
    ("SCRIPT", "FLUSH"),
    ("SELECT", 3),
    ("SHUTDOWN",),
    ("SLOWLOG", "GET"),
    ("SWAPDB", 0, 1),
    ("SUBSCRIBE", "__redis__:invalidate"),
    ("SUBSCRIBE", "__keyspace@0__:k"),
    ("FT.SEARCH", "index", SECRET),
    ("TS.MGET", "FILTER", SECRET),
]

MALFORMED = [
    # redis-py's own path has an IndexError for no command at all.
    *([()] if LEAN else []),
    ("",),
    (" ",),
    (b"\t\n",),
    ("GET",),
    ("SET", "k"),
    ("SET k",),
    ("set\tk",),
    (b"SET  k",),
    ("MSET", "k"),
    ("MSET", "k", SECRET, "l"),
    ("BLPOP", "k"),
    ("BITOP", "AND", "k"),
    ("XINFO", "STREAM"),
    ("OBJECT ENCODING",),
    ("RENAME", "k"),
    ("ZUNIONSTORE", "d", 2, "a"),
    ("LMPOP", 3, "a", "LEFT"),
    ("EVAL", SECRET, 2, "a"),
    ("MSETEX", 2, "a", SECRET, "b"),
    *(
        ("EVAL", SECRET, count, "k")
        for count in ("٣", "+1", " 1", "1 ", "1_0", "-1", "1.0", "x", "", HUGE, b"\xff")
    ),
    *(("ZUNION", count, "k") for count in ("٣", "+1", " 1", "1_0", "-1", -1, 1.5, HUGE)),
    *(("BZMPOP", 1, count, "k", "MIN") for count in ("٣", "+1", "0x1")),
    *(("MSETEX", count, "k", SECRET) for count in ("٣", "+1")),
    ("SORT", "k", "STORE", "a", "STORE", "b"),
    ("SORT", "k", "sTore", "a", "BY", "STORE", b"store", "b"),
    ("GEORADIUS", "k", 1, 2, 3, "m", "STORE", "a", "STORE", "b"),
    ("GEORADIUS", "k", 1, 2, 3, "m", "STORE", "a", "STOREDIST", "b"),
    ("GEORADIUSBYMEMBER", "k", "m", 3, "m", "STOREDIST", "a", "STORE", "b"),
    ("SCAN", 0, "MATCH", "a", "MATCH", "*"),
    ("SORT", "k", SECRET),
    ("SORT", "k", "BY"),
    ("SORT", "k", "LIMIT", 1),
    ("GEORADIUS", "k", 1, 2, 3, "m", SECRET),
    ("GEORADIUS", "k", 1, 2, 3, "m", "COUNT", 1, "STORE"),
    ("SCAN", 0, SECRET, 1),
    ("SCAN", 0, "COUNT"),
    ("COPY", "a", "b", "DB", 1),
    ("COPY", "a", "b", SECRET),
    ("XREAD", "COUNT", 1, "k", 0),
    ("XREAD", "STREAMS", "k"),
    ("XREAD", SECRET, 1, "STREAMS", "k", 0),
    ("XREADGROUP", "GROUP", "STREAMS", "c", "k", ">"),
    ("XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "STREAMS", "k", ">", "l"),
    ("CLIENT", "TRACKING", "ON", "REDIRECT", 1),
    ("CLIENT TRACKING", "ON", SECRET),
    ("PSUBSCRIBE", "__key*__:*"),
]

CASES = [
    *((UnknownCommandError, command) for command in UNKNOWN),
    *((ForbiddenCommandError, command) for command in FORBIDDEN),
    *((MalformedCommandError, command) for command in MALFORMED),
]

# Values without bytes: redis-py's own error, as it says it.
NO_BYTES = [None, True, False, ["a"], ("a",), {"a": 1}, object()]


@pytest.fixture
def namespace() -> Namespace:
    return Namespace(Keyring.generate(os.urandom(96)))


@pytest.fixture
def kv(open_server: RealServer, namespace: Namespace) -> Iterator[Any]:
    with tenantkv.connect(open_server.url, namespace=namespace) as client:
        client.ping()
        yield client


def received(server: RealServer) -> tuple[int, int]:
    """Return how many commands, and bytes, the server has read up to here, this question left out."""
    stats = server.operator().info("stats")
    return stats["total_commands_processed"], stats["total_net_input_bytes"]


@pytest.fixture
def nothing_sent(open_server: RealServer, kv: Any) -> Iterator[Callable[[], bool]]:
    first = received(open_server)
    second = received(open_server)
    question = tuple(b - a for a, b in zip(first, second, strict=True))
    yield lambda: received(open_server) == tuple(a + b for a, b in zip(second, question, strict=True))


def short(case: Any) -> str:
    return " ".join(shown(word) for word in case[1])[:50]


@pytest.mark.parametrize("case", CASES, ids=short)
def test_one_clear_error_and_no_byte(
    kv: Any, namespace: Namespace, nothing_sent: Callable[[], bool], case: tuple[type, tuple]
) -> None:
    kind, command = case
    with pytest.raises(kind) as caught:
        kv.execute_command(*command)
    assert nothing_sent()
    error: Any = caught.value
    assert all(isinstance(error, base) for base in (TenantKVError, ResponseError))
    text = f"{error} {error!r} {error.__cause__!r}"
    assert namespace.keyring.prefix[:6] not in text
    assert SECRET not in text and HUGE not in text
    assert error.command and error.reason and str(error).startswith(f"{error.command} refused: ")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert kv.set("k", "v") is True and kv.get("k") == b"v"


@pytest.mark.parametrize("value", NO_BYTES, ids=shown)
def test_values_without_bytes(kv: Any, nothing_sent: Callable[[], bool], value: Any) -> None:
    for command in (("SET", "k", value), ("GET", value), ("MGET", "k", value), ("RPUSH", "k", "a", value)):
        with pytest.raises(DataError):
            kv.execute_command(*command)
    with pytest.raises(DataError), kv.pipeline() as lot:
        lot.execute_command("SET", "other", "v")
        lot.execute_command("SET", "k", value)
        lot.execute()
    assert nothing_sent()
    assert kv.exists("k", "other") == 0


@pytest.mark.parametrize("transaction", [False, True])
@pytest.mark.parametrize("bad", [("FLUSHALL",), ("NONSENSE", "k"), ("ZUNION", "+1", "k"), ("SET", "k")])
def test_nothing_of_a_pipeline_is_sent(
    kv: Any, nothing_sent: Callable[[], bool], bad: tuple, transaction: bool
) -> None:
    lot = kv.pipeline(transaction=transaction)
    lot.set("first", 1).execute_command(*bad)
    lot.set("last", "x" * 200_000)
    with pytest.raises(RefusedError) as caught:
        lot.execute()
    assert isinstance(caught.value, ResponseError)
    assert nothing_sent()
    assert kv.exists("first", "last") == 0
    assert lot.set("after", 1).get("after").execute() == [True, b"1"]


def test_refused_between_watch_and_exec(kv: Any) -> None:
    with kv.pipeline() as lot:
        lot.watch("k")
        with pytest.raises(RefusedError):
            lot.execute_command("FLUSHALL")
        lot.multi()
        lot.set("k", "v")
        lot.execute_command("FLUSHALL")
        with pytest.raises(RefusedError):
            lot.execute()
        assert kv.get("k") is None
        lot.watch("k")
        lot.multi()
        assert lot.set("k", "w").execute() == [True]


async def test_asyncio_refuses_alike(open_server: RealServer, namespace: Namespace) -> None:
    client = tenantkv.asyncio.connect(open_server.url, namespace=namespace)
    await client.ping()
    first = received(open_server)
    question = tuple(b - a for a, b in zip(first, received(open_server), strict=True))
    for kind, command in CASES:
        with pytest.raises(kind) as caught:
            await client.execute_command(*command)
        assert isinstance(caught.value, ResponseError)
    with pytest.raises(RefusedError):
        await client.pipeline().set("a", 1).execute_command("FLUSHALL").execute()
    sent = tuple(a + 2 * b for a, b in zip(first, question, strict=True))
    assert received(open_server) == sent
    assert await client.set("k", "v") is True
    await client.aclose()


SPELLINGS = [
    ("text", b"text"),
    (b"bytes", b"bytes"),
    (memoryview(b"view"), b"view"),
    (memoryview(bytearray(b"view of a bytearray")), b"view of a bytearray"),
    (17, b"17"),
    (-1, b"-1"),
    (1.5, b"1.5"),
    ("", b""),
    ("\x00", b"\x00"),
    (b"\xff\x00\r\n", b"\xff\x00\r\n"),
    ("ключ", "ключ".encode()),
    ("a b:c*?[d]", b"a b:c*?[d]"),
    ("k" * 70_000, b"k" * 70_000),
]


@pytest.mark.parametrize(("key", "own"), SPELLINGS, ids=lambda value: shown(value)[:30])
def test_keys_of_every_type(
    kv: Any, open_server: RealServer, namespace: Namespace, key: Any, own: bytes
) -> None:
    kv.set(key, "v")
    kv.execute_command("rpush", memoryview(b"list"), key)
    assert kv.mget([key, own]) == [b"v", b"v"]
    assert open_server.dump_keys() == {namespace.wire_name(own), namespace.wire_name(b"list")}
    assert kv.lrange("list", 0, -1) == [own]
    assert kv.delete(key) == 1


def test_a_bytearray_is_taken_as_redis_py_takes_it(kv: Any, open_server: RealServer) -> None:
    """Newer versions of redis-py take it, older ones raise a DataError."""
    with open_server.operator().client() as plain:
        expected = _outcome(plain.get, bytearray(b"k"))
    kv.set("k", b"v")
    assert _outcome(kv.get, bytearray(b"k")) == (b"v" if expected is None else expected)


def _outcome(call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except DataError as error:
        return type(error)


def test_a_wire_name_is_an_own_name_like_any_other(
    kv: Any, open_server: RealServer, namespace: Namespace
) -> None:
    """A name is never taken for one that has its prefix already: that would be a way to forge names."""
    kv.set("k", "inside")
    wire = namespace.wire_name(b"k")
    assert kv.get(wire) is None
    kv.set(wire, "again")
    assert open_server.dump_keys() == {wire, namespace.wire_name(wire)}
    assert sorted(kv.keys("*")) == sorted([b"k", wire])
    assert kv.blpop([wire], timeout=0.01) is None if kv.delete(wire) else False


def test_names_in_either_case_and_with_blanks(kv: Any, open_server: RealServer, namespace: Namespace) -> None:
    kv.execute_command("SET a", "1")
    kv.execute_command(b"set b", "2")
    kv.execute_command("sEt", "c", "3")
    kv.execute_command(b"\tSET\n", "d", "4")
    kv.execute_command("rename a e")
    kv.execute_command("xgroup create", "s", "g", "$", "MKSTREAM")
    kv.execute_command("XGROUP", b"createconsumer", "s", "g", "c")
    assert kv.execute_command("object encoding", "s") == b"stream"
    assert {namespace.own_name(name) for name in open_server.dump_keys()} == {b"b", b"c", b"d", b"e", b"s"}


def test_a_bare_redis_refuses_none_of_these_for_us(kv: Any, open_server: RealServer) -> None:
    """The counting can fail: what is not refused is counted."""
    first = received(open_server)
    kv.get("k")
    assert received(open_server)[0] == first[0] + 2


def test_truncated_prefix_in_the_servers_words(
    open_server: RealServer, namespace: Namespace, kv: Any
) -> None:
    """A server quotes the first 128 characters of an unknown command; the cut may fall into a prefix."""
    for letter in ("x", "\U0001f511"):  # the server counts bytes
        for padding in range(60):
            with pytest.raises(redis.ResponseError, match="unknown command") as caught:
                kv.execute_command("TDIGEST.MERGE", "d", 2, letter * padding, "b", "OVERRIDE")
            assert namespace.keyring.prefix[:3] not in str(caught.value)


@pytest.mark.parametrize("transaction", [True, False])
@pytest.mark.parametrize("name", ["SUBSCRIBE", "psubscribe", "UNSUBSCRIBE"])
def test_a_subscription_beside_other_commands_is_refused(
    open_server: RealServer, transaction: bool, name: str
) -> None:
    kv = tenantkv.connect(open_server.url, namespace=Namespace(Keyring.generate(os.urandom(96))))
    kv.rpush("queue", "item")
    pipe = kv.pipeline(transaction=transaction).execute_command(name, "a").blpop("queue", 1)
    with pytest.raises(ForbiddenCommandError, match="pubsub"):
        pipe.execute()
    assert kv.lrange("queue", 0, -1) == [b"item"]
    assert kv.blpop("queue", 1)[0] == b"queue"


def test_commands_in_lower_case_are_emulated_too(shared_server: RealServer) -> None:
    namespace = Namespace(Keyring.generate(os.urandom(96)))
    kv = tenantkv.connect(shared_server.url, namespace=namespace, registry=True)
    kv.set("a", 1)
    assert kv.execute_command("dbsize") == 1
    assert kv.execute_command("randomkey") == b"a"
    assert kv.execute_command("keys", "*") == [b"a"]
    assert kv.execute_command("flushdb") is True and kv.get("a") is None
