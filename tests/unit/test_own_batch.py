"""A batch of entries is on the wire what its commands are one by one; its replies come in any pieces."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis._parsers import _HiredisParser
from redis._parsers.encoders import Encoder
from redis.exceptions import BusyLoadingError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

import tenantkv
import tenantkv.asyncio
from tenantkv.commands.own_batch import EntryBatch
from tenantkv.keyring import Keyring
from tenantkv.namespace import PRIMITIVES as OURS
from tenantkv.namespace import Namespace
from tenantkv.transport.drivers import aexchange, exchange
from tenantkv.transport.session import Session
from tests import sockets

NAMESPACE = Namespace(Keyring.generate(bytes(range(96))))

names = st.binary(max_size=20).map(lambda tail: OURS + tail)
values = st.one_of(
    st.binary(max_size=300), st.sampled_from([b"", bytes(65_536), bytes(65_537), bytes(200_000)])
)
entries = st.tuples(names, values, st.integers(1, 2**53))


@given(st.lists(entries, min_size=1, max_size=5), names, st.lists(names, max_size=3))
def test_the_same_bytes_as_one_by_one(
    lot: list[tuple[bytes, bytes, int]], stamp: bytes, leases: list[bytes]
) -> None:
    batch = EntryBatch(lot, stamp, leases)
    one = Session(NAMESPACE, Encoder("utf-8", "strict", False), 0)
    alone = one.pack_all(batch)
    pieces = batch.pack(NAMESPACE.wire_prefix)
    assert b"".join(pieces) == b"".join(alone)
    assert [rule.name for rule in batch.rules] == [rule.name for rule in alone.rules]
    assert batch.rules == alone.rules
    assert len(batch) == len(list(batch)) == len(batch.rules)
    whole = list(batch)
    assert [batch[0], batch[-1], *batch[1:2]] == [whole[0], whole[-1], whole[1]]
    # What is large is neither copied nor sent alone with its frame.
    assert len(pieces) == 1 + 2 * sum(len(value) > 65_536 for _, value, _ in lot)


BATCH = EntryBatch([(OURS + b"a", b"v", 5), (OURS + b"b", b"v", 5)], OURS + b"stamp", [OURS + b"l"])
OK, STAMP, GONE = b"+OK\r\n", b"$3\r\nnew\r\n", b":1\r\n"
PUSH = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nx\r\n"


class Scripted:
    """A server that greets, and answers the batch as it is told: in pieces with a pause between, or not."""

    def __init__(self, pieces: list[bytes], hang_ups: int = 0) -> None:
        self._pieces = pieces
        self.hang_ups = hang_ups
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                with self._listener.accept()[0] as peer:
                    self._converse(peer)

    def _converse(self, peer: socket.socket) -> None:
        reader = hiredis.Reader()
        while said := peer.recv(65536):
            reader.feed(said)
            words = reader.gets()
            while words is not False:
                if words[0] == b"GET":
                    self._answer(peer)
                elif words[0] not in (b"SET", b"UNLINK"):
                    peer.sendall(b"+PONG\r\n" if words[0] == b"PING" else b"+OK\r\n")
                words = reader.gets()

    def _answer(self, peer: socket.socket) -> None:
        if self.hang_ups:
            self.hang_ups -= 1
            peer.shutdown(socket.SHUT_RDWR)
            return
        for piece in self._pieces:
            peer.sendall(piece)
            threading.Event().wait(0.02)

    def close(self) -> None:
        sockets.end(self._listener)
        self._thread.join(5)
        assert not self._thread.is_alive()


@pytest.fixture(params=["sync", "asyncio"])
def ask(request: pytest.FixtureRequest) -> Iterator[Callable[..., tuple[list[Any], bool]]]:
    """Give a function that sends the batch to a server that answers so; also tells if all is idle then."""
    servers: list[Scripted] = []
    options: dict[str, Any] = {"namespace": NAMESPACE, "protocol": 2}

    def in_threads() -> tuple[list[Any], bool]:
        with tenantkv.connect(servers[-1].url, **options) as kv:
            pool = kv.connection_pool
            replies = exchange(pool, BATCH)
            connection = pool.get_connection()
            try:
                return replies, connection.session.idle
            finally:
                pool.release(connection)

    async def in_tasks() -> tuple[list[Any], bool]:
        async with tenantkv.asyncio.connect(servers[-1].url, **options) as kv:
            pool = kv.connection_pool
            replies = await aexchange(pool, BATCH)
            connection = await pool.get_connection()
            try:
                return replies, connection.session.idle
            finally:
                await pool.release(connection)

    def asked(pieces: list[bytes], hang_ups: int = 0) -> tuple[list[Any], bool]:
        servers.append(Scripted(pieces, hang_ups))
        if not hang_ups:
            options["retry"] = None
        return asyncio.run(in_tasks()) if request.param == "asyncio" else in_threads()

    yield asked
    for server in servers:
        server.close()


WHOLE = [OK, OK, GONE, STAMP]


@pytest.mark.parametrize(
    "pieces",
    [
        [b"".join(WHOLE)],
        WHOLE,
        [OK + OK[:2], OK[2:] + GONE + STAMP[:6], STAMP[6:]],
        [bytes([b]) for b in b"".join(WHOLE)],
    ],
    ids=["together", "one by one", "cut", "byte by byte"],
)
def test_replies_come_in_any_pieces(ask: Any, pieces: list[bytes]) -> None:
    assert ask(pieces) == ([b"OK", b"OK", 1, b"new"], True)


@pytest.mark.parametrize("at", range(4))
def test_an_error_takes_the_place_of_its_reply(ask: Any, at: int) -> None:
    parts = [*WHOLE]
    parts[at] = b"-WRONGTYPE it is " + NAMESPACE.wire_prefix + b"x\r\n"
    replies, is_idle = ask([b"".join(parts)])
    assert is_idle
    assert isinstance(replies[at], ResponseError)
    assert NAMESPACE.wire_prefix.decode() not in str(replies[at])
    del replies[at]
    assert replies == [part for place, part in enumerate([b"OK", b"OK", 1, b"new"]) if place != at]


@pytest.mark.skipif(
    not hasattr(_HiredisParser, "handle_push_response"), reason="redis-py 5 has no pushes with hiredis"
)
def test_a_push_in_between_is_no_reply(ask: Any) -> None:
    # Parsers know pushes whatever was agreed on.
    assert ask([OK + PUSH + OK + GONE + PUSH + STAMP]) == ([b"OK", b"OK", 1, b"new"], True)


@pytest.mark.parametrize("at", range(4))
def test_a_server_that_loads_is_no_server(ask: Any, at: int) -> None:
    parts = [*WHOLE]
    parts[at] = b"-LOADING Redis is loading the dataset in memory\r\n"
    with pytest.raises((BusyLoadingError, RedisConnectionError)):
        ask([b"".join(parts)])


def test_a_replica_is_noticed(ask: Any) -> None:
    refused = b"-READONLY You can't write against a read only replica.\r\n"
    replies, _ = ask([refused * 3 + STAMP])
    assert [type(reply) for reply in replies] == [ReadOnlyError, ReadOnlyError, ReadOnlyError, bytes]


def test_a_lost_reply_is_not_asked_for_again(ask: Any) -> None:
    with pytest.raises(RedisConnectionError):
        ask([b"".join(WHOLE)], hang_ups=1)
