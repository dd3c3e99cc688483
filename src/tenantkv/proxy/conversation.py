"""One client of the proxy, from its first byte to its last.

Laws of this file:

1. Nothing goes to the server but what `Session.pack` returned.
2. Replies go to the client in the order of its commands: each command has an entry in `_due`, be it
   answered by the server or by ourselves.
3. A command that changes what later replies mean (MULTI, EXEC, SUBSCRIBE, HELLO ...) is alone on its way:
   what follows waits for its reply, so that the session is never asked about a state that is still coming.
4. A transaction in which a command was refused is not executed.
5. Whatever is not expected ends the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tenantkv.commands.rule import Rule
from tenantkv.errors import TenantKVError, UnknownCommandError
from tenantkv.proxy import local
from tenantkv.proxy.answers import Answers, Awaited
from tenantkv.proxy.limits import Limits
from tenantkv.proxy.local import Visitor
from tenantkv.proxy.replies import Status, encode, encode_error
from tenantkv.proxy.requests import ProtocolError, RequestParser
from tenantkv.proxy.upstream import MARKING, Upstream
from tenantkv.transport.session import Session

logger = logging.getLogger("tenantkv.proxy")

_READ_BYTES = 65_536
_FLUSH_ABOVE_BYTES = 262_144
# Who may not give commands yet is listened to no further than this.
_STRANGERS_BYTES = 16_384
_LOST = (RedisConnectionError, RedisTimeoutError, OSError)

_ENDINGS = frozenset({"EXEC", "DISCARD"})
_EMULATED = frozenset({b"KEYS", b"SCAN", b"DBSIZE", b"RANDOMKEY", b"FLUSHDB"})


class Conversation:
    """Serves one client.

    Args:
        client: tenantkv's asyncio client, whose pool says how to connect.
        limits: how much the client may take.
        visitor: what is known of it.
        reader, writer: its connection.
    """

    def __init__(
        self,
        client: Any,
        limits: Limits,
        visitor: Visitor,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._client = client
        self._limits = limits
        self._visitor = visitor
        self._reader = reader
        self._writer = writer
        self._parser = RequestParser(_STRANGERS_BYTES if visitor.password else limits.request_bytes)
        self._answers = Answers(client.namespace)
        self._due: deque[Any] = self._answers.due
        self._upstream: Upstream | None = None
        self._pump: asyncio.Task[None] | None = None
        self._main: asyncio.Task[Any] | None = None
        self._progress = asyncio.Event()
        self._out: list[bytes] = []
        self._out_bytes = 0
        # Of the transaction that is being queued: whether one of its commands was refused.
        self._is_spoilt = False
        self._is_ending = False
        # Whether a large value is being handed on in parts.
        self._is_partial = False
        writer.transport.set_write_buffer_limits(high=limits.reply_bytes)

    async def run(self) -> None:
        """Serve until the client, the server or the proxy ends it."""
        self._main = asyncio.current_task()
        try:
            while not self._is_ending:
                data = await self._reader.read(_READ_BYTES)
                if not data:
                    break
                self._parser.feed(data)
                while not self._is_ending and (words := self._parser.next()) is not None:
                    if words:
                        await self._serve(words)
                    if len(self._due) > self._limits.commands:
                        await self._room()
                await self._flush()
        except ProtocolError as error:
            await self._flush()
            self._answer(b"-ERR Protocol error: %b\r\n" % str(error).encode())
            await self._settle_within(self._limits.grace)
        except (*_LOST, asyncio.TimeoutError):
            # The client's connection, or the server's, about which `_serve` has told the client.
            pass
        except asyncio.CancelledError:
            # By `end` or by the pump: the connection ends, not the loop.
            pass
        except Exception as error:
            logger.error("a client's connection was closed on an unexpected %s", type(error).__name__)
        finally:
            await self._close()

    async def finish(self) -> None:
        """Let commands on their way come back for a moment, then end."""
        await self._settle_within(self._limits.grace)
        self._is_ending = True
        if self._main is not None:
            self._main.cancel()

    # Requests

    async def _serve(self, words: list[bytes]) -> None:
        name = words[0].upper()
        if not self._visitor.is_known and name not in (b"AUTH", b"HELLO", b"QUIT"):
            self._answer(local.NO_AUTH)
        elif name in _BY_NAME:
            await _BY_NAME[name](self, words)
        elif len(name.split()) != 1 or len(name.split()[0]) != len(name):
            self._refuse(UnknownCommandError("the command", "its name has blanks or is empty."))
        elif (answer := self._visitor.answer(words)) is not None:
            if self._in_transaction:
                self._is_spoilt, answer = True, local.NOT_QUEUED
            self._answer(answer)
        elif name == b"FLUSHDB" and not self._limits.may_flush:
            self._refuse(local.NO_FLUSH)
        elif name in _EMULATED and not self._in_transaction:
            await self._look_at_many(name, words)
        else:
            await self._forward(words)

    @property
    def _in_transaction(self) -> bool:
        return self._upstream is not None and self._upstream.session.transaction is not None

    async def _forward(self, words: list[bytes], entry: Awaited | None = None) -> None:
        """Send a command through the table, or answer with its refusal."""
        if self._upstream is not None and self._pump is not None and self._upstream.reader.at_eof():
            # It has ended while nobody used it, which the pump is about to see.
            await asyncio.wait({self._pump}, timeout=self._limits.grace)
        if self._upstream is None:
            await self._open()
        upstream = self._upstream
        assert upstream is not None
        name = words[0].upper()
        if entry is None and self._is_spoilt and len(words) == 1 and name == b"EXEC":
            words = [b"DISCARD"]
            text = b"-EXECABORT Transaction discarded because of previous errors.\r\n"
            entry = Awaited(instead=text)
        session = upstream.session
        try:
            packed, rule = session.pack(words)
        except (TenantKVError, RedisError) as error:
            self._refuse(error)
            return
        alone = rule.session and rule.name not in ("WATCH", "UNWATCH")
        if alone or entry is not None:
            await self._settled()
            if self._upstream is not upstream:
                # It was idle, and is gone: the next one has a session of its own.
                await self._forward(words, entry)
                return
        if rule.name in MARKING:
            upstream.is_marked = True
        registrar = session.registrar
        if rule.creates and registrar and not session.is_registered(registrar, words, rule):
            self._register(session, [(words, rule)])
        self._queue((packed,) if type(packed) is bytes else packed)
        if rule.name.endswith("SUBSCRIBE"):
            self._due.append(self._answers.acknowledgements(rule.name, words))
        else:
            session.pending.append(rule)
            self._due.append(entry)
        if alone or entry is not None:
            if rule.name in _ENDINGS:
                self._is_spoilt = False
            await self._settled()
            if rule.name == "EXEC" and self._upstream is upstream:
                # What it wrote could not be registered ahead.
                self._register(session, [])
        elif self._out_bytes > _FLUSH_ABOVE_BYTES:
            await self._flush()

    def _register(self, session: Session, writes: Sequence[tuple[Sequence[bytes], Rule]]) -> None:
        ahead = session.registrations(writes)
        self._queue(ahead)
        session.pending.extend(ahead.rules)

    async def _look_at_many(self, name: bytes, words: Sequence[bytes]) -> None:
        """Answer KEYS, SCAN, DBSIZE, RANDOMKEY or FLUSHDB as the clients do, on the pool's connections."""
        await self._settled()
        try:
            reply = await self._client.execute_command(name.decode(), *words[1:])
        except _LOST as error:
            await self._lose(error)
        except (TenantKVError, RedisError) as error:
            self._refuse(error)
        else:
            if name == b"SCAN":
                cursor = reply[0]
                reply = [cursor if isinstance(cursor, bytes) else b"%d" % int(cursor), reply[1]]
            elif name == b"FLUSHDB":
                reply = Status(b"OK")
            self._answer(encode(reply, self._answers.protocol))

    async def _authenticate(self, words: list[bytes]) -> None:
        answer = self._visitor.authenticate(words[1:])
        self._welcome()
        self._answer(answer)

    async def _greet(self, words: list[bytes]) -> None:
        version, answer = self._visitor.greet(words)
        self._welcome()
        if answer is not None:
            self._answer(answer)
            return
        await self._forward([b"HELLO", *([version] if version else [])], Awaited(version=int(version or 0)))

    async def _quit(self, words: list[bytes]) -> None:
        self._answer(local.OK)
        await self._settle_within(self._limits.grace)
        self._is_ending = True

    def _welcome(self) -> None:
        if self._visitor.is_known:
            self._parser.most_bytes = self._limits.request_bytes

    def _refuse(self, error: Exception) -> None:
        if self._in_transaction:
            self._is_spoilt = True
        self._answer(encode_error(error))

    def _answer(self, answer: bytes) -> None:
        """Answer by ourselves, when all that was asked before is answered."""
        if self._due:
            self._due.append(answer)
        else:
            self._writer.write(answer)

    # The way to the server

    async def _open(self) -> None:
        try:
            upstream = await Upstream.open(
                self._client.connection_pool, self._client.namespace, self._answers.protocol
            )
        except (RedisError, OSError) as error:
            await self._lose(error)
            raise RedisConnectionError("the server cannot be reached") from None
        self._upstream = upstream
        self._answers.session = upstream.session
        self._pump = asyncio.create_task(self._receive(upstream))

    async def _lose(self, error: Exception) -> None:
        """Tell the client that the server is away, and let it connect again."""
        logger.warning("the server cannot be reached: %s", type(error).__name__)
        self._answer(b"-ERR tenantkv proxy: the server cannot be reached\r\n")
        self._is_ending = True

    def _queue(self, pieces: Sequence[bytes]) -> None:
        self._out += pieces
        self._out_bytes += sum(map(len, pieces))

    async def _flush(self) -> None:
        out, self._out, self._out_bytes = self._out, [], 0
        if out and self._upstream is not None:
            await self._upstream.send(out)
        if self._writer.transport.get_write_buffer_size() > self._limits.reply_bytes:
            await asyncio.wait_for(self._writer.drain(), self._limits.patience)

    async def _room(self) -> None:
        await self._flush()
        while len(self._due) > self._limits.commands:
            self._progress.clear()
            await self._progress.wait()

    async def _settled(self) -> None:
        """Wait until every command is answered, our own included."""
        await self._flush()
        while self._due or (self._upstream is not None and self._upstream.session.pending):
            self._progress.clear()
            await self._progress.wait()

    async def _settle_within(self, seconds: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError, *_LOST):
            await asyncio.wait_for(self._settled(), seconds)

    # Replies

    async def _receive(self, upstream: Upstream) -> None:
        """Hand replies on for as long as there is a server."""
        try:
            await self._hand_on(upstream)
        except asyncio.CancelledError:
            raise
        except (*_LOST, asyncio.TimeoutError):
            pass
        except Exception as error:
            logger.error("a client's connection was closed on an unexpected %s", type(error).__name__)
            self._abort()
            return
        if self._due or upstream.is_marked or self._answers.has_state:
            # Behind a part of a value it would be taken for the rest of it.
            if self._due and not self._answers.subscriptions and not self._is_partial:
                self._writer.write(
                    b"-ERR tenantkv proxy: the connection to the server was lost, and with it the reply\r\n"
                )
            self._abort()
            return
        # Idle, and nothing is lost with it: the next command opens another.
        self._upstream = None
        await upstream.close()

    async def _hand_on(self, upstream: Upstream) -> None:
        answers, limit = self._answers, self._limits.reply_bytes
        left = 0
        while data := await upstream.reader.read(_READ_BYTES):
            answers.feed(data)
            while True:
                if left:
                    part = answers.part(left)
                    left -= len(part)
                    self._is_partial = left > 0
                    self._writer.write(part)
                    if left:
                        break
                    answers.end_part()
                ready = answers.take_all()
                if ready:
                    self._writer.writelines(ready)
                left = answers.begin_part()
                if not left:
                    break
            self._progress.set()
            if self._writer.transport.get_write_buffer_size() > limit:
                await asyncio.wait_for(self._writer.drain(), self._limits.patience)

    def _abort(self) -> None:
        self._is_ending = True
        if self._main is not None:
            self._main.cancel()

    async def _close(self) -> None:
        self._is_ending = True
        if self._pump is not None:
            self._pump.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._pump
        if self._upstream is not None:
            await self._upstream.close()
        self._writer.close()
        with contextlib.suppress(Exception, asyncio.CancelledError):
            await asyncio.wait_for(self._writer.wait_closed(), self._limits.grace)
        if not self._writer.transport.is_closing() or self._writer.transport.get_write_buffer_size():
            self._writer.transport.abort()


_BY_NAME: dict[bytes, Any] = {
    b"AUTH": Conversation._authenticate,
    b"HELLO": Conversation._greet,
    b"QUIT": Conversation._quit,
}
