"""Asyncio connections that speak in own names; the twin of `connection.py`, on the same session."""

from __future__ import annotations

import asyncio
import math
import weakref
from typing import Any

from redis import asyncio as aredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tenantkv.commands.blocking import blocking_time
from tenantkv.keyring_reload import refuse_rotated
from tenantkv.namespace import Namespace
from tenantkv.transport.connection import foreign_bytes
from tenantkv.transport.pushes import Handled, async_push_wrappers
from tenantkv.transport.read_deadline import ReadDeadline
from tenantkv.transport.redis_py import (
    LEAN,
    NOT_ENOUGH_DATA,
    PUSH_TYPE,
    closed_by_server,
    lean_reader,
    unread_bytes,
    wrap_push_handlers,
)
from tenantkv.transport.retry import leave_to_policy, mark_unrepeatable
from tenantkv.transport.session import Packed, Session
from tenantkv.transport.speaking import Speaking
from tenantkv.transport.unseen import Unseen

_LOST = (RedisConnectionError, RedisTimeoutError)
_READ_SIZE_BYTES = 65_536


class AsyncNamespacedMixin(Speaking):
    """Rewrites what a connection sends, and gives its replies back in own names.

    Args:
        namespace: whose names the connection speaks; a connection without one refuses every command.
    """

    # redis-py's, on the class that this is mixed into.
    _parser: Any
    _reader: Any
    _writer: Any
    health_check_interval: float
    next_health_check: float
    socket_timeout: float | None

    def __init__(
        self, *args: Any, namespace: Namespace | None = None, registry: bool = False, **kwargs: Any
    ) -> None:
        self._lean: tuple[Any, Any] | None = None
        self._blocked_for = 0.0
        self._read_deadline = ReadDeadline()
        self._loop: Any = None
        self._unseen = Unseen()
        super().__init__(*args, **kwargs)
        leave_to_policy(self)
        self.session = Session(namespace, self.encoder, self.db)  # type: ignore[attr-defined]

    # Sending

    async def send_command(self, *args: Any, **kwargs: Any) -> None:
        """Rewrite and send one command. Raises a refusal before any byte is sent."""
        session = self.session
        packed, rule = session.pack(args)
        if rule.blocks:
            self._blocked_for = blocking_time(rule, args)
        pieces = (packed,) if type(packed) is bytes else packed
        ahead = None
        registrar = session.registrar
        if rule.creates and registrar and not session.is_registered(registrar, args, rule):
            ahead = session.registrations([(args, rule)])
            if ahead:
                pieces = (b"".join([*ahead, *pieces]),)
        try:
            if not self._write_lean(pieces):
                await super().send_packed_command(  # type: ignore[misc]
                    pieces, check_health=kwargs.get("check_health", True)
                )
        except BaseException:
            if ahead:
                session.not_sent(ahead.rules)
            raise
        if ahead:
            session.sent(ahead.rules)
        if rule.session:
            session.sent((rule,))
        else:
            session.batch = ()
            session.pending.append(rule)

    def _write_lean(self, pieces: Any) -> bool:
        """Hand `pieces` to the transport if that is all it takes; redis-py starts a task to do so.

        Where the connection is down, a health check is due or the peer reads slowly, redis-py's own way
        connects, checks and waits.
        """
        writer = self._writer
        if not LEAN or self._loop is None or writer is None:
            return False
        interval = self.health_check_interval
        if interval and self._loop.time() > self.next_health_check:
            return False
        transport = writer.transport
        if transport.is_closing() or transport.get_write_buffer_size():
            return False
        writer.writelines(pieces)
        return True

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send what `pack_commands` returned. Raises for bytes that were packed elsewhere."""
        if type(command) is not Packed:
            raise foreign_bytes()
        try:
            await super().send_packed_command(command, check_health)  # type: ignore[misc]
        except BaseException as error:
            self.session.not_sent(command.rules)
            # All but the last command may have arrived whole.
            if isinstance(error, _LOST) and any(not rule.repeatable for rule in command.rules[:-1]):
                mark_unrepeatable(error)
            raise
        self.session.sent(command.rules)

    # Receiving

    async def read_response(
        self, disable_decoding: bool = False, timeout: float | None = None, **options: Any
    ) -> Any:
        """Read a reply and give it back in own names."""
        session = self.session
        plain = session.is_plain()
        try:
            if session.transaction is not None and self._lean is not None and not options:
                reply = await self._read_lean(self._lean[0], True, timeout)
                if session.take_queued(reply):
                    return reply if disable_decoding else session.decode(reply)
                failure = session.failure_in(reply)
                if failure is not None:
                    await self.disconnect(nowait=True)
                    raise failure
                return session.settle(reply, decode=not disable_decoding)
            while not plain and session.next_is_aside():
                await self._read_aside()
                plain = session.is_plain()
            raw = disable_decoding or not plain
            if self._blocked_for:
                timeout = self._patience(timeout)
            if self._lean is not None and not options:
                reply = await self._read_lean(self._lean[0], raw, timeout)
            else:
                reply = await super().read_response(  # type: ignore[misc]
                    disable_decoding=raw, timeout=timeout, **options
                )
        except ResponseError as error:
            session.settle_error(error)
            raise
        except _LOST as error:
            session.lost(error)
            raise
        if plain:
            session.pending.popleft()
            return reply
        if isinstance(reply, Handled):
            return reply.result
        return session.settle(reply, decode=not disable_decoding)

    async def read_replies(self, count: int) -> list[Any]:
        """Return the raw replies to `count` commands of our own, errors among them."""
        replies: list[Any] = []
        while len(replies) < count:
            try:
                replies.append(await self.read_response(disable_decoding=True))
            except ResponseError as error:
                replies.append(error)
            if self._lean is not None and self.session.transaction is None:
                await self._read_arrived(self._lean[0].gets, replies, count)
        return replies

    async def _read_arrived(self, gets: Any, replies: list[Any], count: int) -> None:
        """Take the replies that came together with the one before, until there are `count`."""
        session = self.session
        pending = session.pending
        while len(replies) < count and pending[0].plain:
            reply = gets(False)
            if reply is NOT_ENOUGH_DATA:
                return
            if type(reply) is PUSH_TYPE:
                await self._parser.handle_push_response(reply)
                continue
            if isinstance(reply, ResponseError):
                session.settle_error(reply)
            elif isinstance(reply, Exception):
                await self.disconnect(nowait=True)
                raise session.lost(reply)
            else:
                pending.popleft()
            replies.append(reply)

    async def _read_aside(self) -> None:
        """Read the reply of a command of our own."""
        try:
            if self._lean is not None:
                reply = await self._read_lean(self._lean[0], True, None)
            else:
                reply = await super().read_response(disable_decoding=True)  # type: ignore[misc]
        except ResponseError as error:
            reply = error
        self.session.settle_aside(reply)

    async def _read_lean(self, reader: Any, raw: bool, timeout: float | None) -> Any:
        """Read one reply as redis-py does, without a timer and a context for each."""
        reply = reader.gets(False) if raw else reader.gets()
        while reply is NOT_ENOUGH_DATA:
            reader.feed(await self._receive(timeout))
            reply = reader.gets(False) if raw else reader.gets()
        kind = type(reply)
        if kind is PUSH_TYPE:
            await self._parser.handle_push_response(reply)
            return await self._read_lean(reader, raw, timeout)
        if isinstance(reply, Exception):
            if isinstance(reply, _LOST):
                await self.disconnect(nowait=True)
            raise reply
        interval = self.health_check_interval
        if interval:
            self.next_health_check = self._loop.time() + interval
        return reply

    async def _receive(self, timeout: float | None) -> bytes:
        """Return bytes from the socket, or close the connection and raise as redis-py does."""
        patience = self.socket_timeout if timeout is None else timeout
        if patience is not None and not math.isinf(patience):
            self._read_deadline.begin(self._loop, self._reader, patience)
        try:
            data: bytes = await self._reader.read(_READ_SIZE_BYTES)
        except TimeoutError:
            await self.disconnect(nowait=True)
            raise RedisTimeoutError("Timeout reading from socket") from None
        except OSError as error:
            await self.disconnect(nowait=True)
            raise RedisConnectionError(f"Error while reading from socket: {error}") from None
        except BaseException:
            await self.disconnect(nowait=True)
            raise
        finally:
            self._read_deadline.end()
        if not data:
            await self.disconnect(nowait=True)
            raise closed_by_server()
        return data

    def _patience(self, timeout: float | None) -> float | None:
        """Return the time that a blocking command's reply may take."""
        extra, self._blocked_for = self._blocked_for, 0.0
        usual = self.socket_timeout
        if timeout is not None or usual is None:
            return timeout
        return math.inf if math.isinf(extra) else usual + extra

    # The connection's life

    async def connect(self, *args: Any, **kwargs: Any) -> None:
        """Open the connection, unless the prefix was replaced since the keyring was read."""
        self._refuse_rotated()
        await super().connect(*args, **kwargs)  # type: ignore[misc]

    async def connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        """Open the connection, in redis-py 6 and later."""
        self._refuse_rotated()
        await super().connect_check_health(*args, **kwargs)  # type: ignore[misc]

    async def on_connect(self) -> None:
        """Greet the server; the lean reader is taken once that is done."""
        await super().on_connect()  # type: ignore[misc]
        self._lean = self._take_lean()

    async def on_connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        """Greet the server, in redis-py 6 and later."""
        await super().on_connect_check_health(*args, **kwargs)  # type: ignore[misc]
        self._lean = self._take_lean()

    def _refuse_rotated(self) -> None:
        namespace = self.session.namespace
        # Pools call this for connections that are open, too.
        if namespace is not None and not self.is_connected:  # type: ignore[attr-defined]
            refuse_rotated(namespace)

    def _take_lean(self) -> tuple[Any, Any] | None:
        self._loop = asyncio.get_running_loop()
        return lean_reader(self)

    def is_ready(self) -> bool:
        """Whether the connection is open, has nothing left from before, and can serve a command."""
        stream = self._reader
        return (
            self._lean is not None
            and stream is not None
            and self.session.idle
            and not stream.at_eof()
            and not self._lean[0].has_data()
            and not unread_bytes(stream)
            and not self._writer.transport.is_closing()
            and not self._unseen.is_on(self._writer.transport)
        )

    def is_stale(self) -> bool:
        """Whether the connection has to be opened anew: something is left from before, or came unasked."""
        # A writer of fakeredis has no transport.
        transport = getattr(self._writer, "transport", None)
        if not self.session.idle or transport is None:
            return not self.session.idle
        return transport.is_closing() or self._unseen.is_on(transport)

    async def revive(self) -> None:
        """Close a connection that died while nobody used it; the next command opens it again."""
        if self._reader is not None and self.session.idle and self._reader.at_eof():
            await self.disconnect(nowait=True)

    def is_stranded(self) -> bool:
        """Whether the connection belongs to another event loop, which may be closed."""
        return self._loop is not None and self._loop is not asyncio.get_running_loop()

    def abandon(self) -> None:
        """Let go of a connection whose event loop cannot be asked to close it."""
        self.session.reset()
        writer, self._reader, self._writer, self._lean = self._writer, None, None, None
        # Its timer is the other loop's, and finds nothing to do.
        self._read_deadline.end()
        self._read_deadline = ReadDeadline()
        self._loop = None
        self._unseen.forget()
        if writer is not None:
            try:
                writer.transport.abort()
            except RuntimeError:
                # The loop is closed, and its selector with it; the socket goes with the transport.
                pass

    async def disconnect(self, *args: Any, **kwargs: Any) -> None:
        """Close the connection and forget its conversation."""
        self.session.reset()
        self._lean = None
        self._unseen.forget()
        self._blocked_for = 0.0
        self._read_deadline.forget()
        await super().disconnect(*args, **kwargs)  # type: ignore[misc]

    def set_parser(self, parser_class: Any) -> None:
        """Make the parser; what it pushes at handlers is given in own names too."""
        super().set_parser(parser_class)  # type: ignore[misc]
        wrap_push_handlers(
            self._parser,
            *async_push_wrappers(weakref.ref(self)),
        )


class AsyncNamespacedConnection(AsyncNamespacedMixin, aredis.Connection):
    """A TCP connection that speaks in own names."""


class AsyncNamespacedSSLConnection(AsyncNamespacedMixin, aredis.SSLConnection):
    """A TLS connection that speaks in own names."""


class AsyncNamespacedUnixDomainSocketConnection(AsyncNamespacedMixin, aredis.UnixDomainSocketConnection):
    """A Unix socket connection that speaks in own names."""
