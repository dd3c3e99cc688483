"""Asyncio connections that speak in own names; the twin of `connection.py`, on the same session."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

from redis import asyncio as aredis
from redis.exceptions import BusyLoadingError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tenantkv.commands.blocking import blocking_time
from tenantkv.commands.packing import words_of
from tenantkv.namespace import Namespace
from tenantkv.transport.connection import foreign_bytes
from tenantkv.transport.pushes import Handled, async_push_wrappers
from tenantkv.transport.redis_py import (
    NOT_ENOUGH_DATA,
    PUSH_TYPE,
    lean_reader,
    wrap_push_handlers,
)
from tenantkv.transport.retry import mark_unrepeatable
from tenantkv.transport.session import Packed, Session

_LOST = (RedisConnectionError, RedisTimeoutError)


class AsyncNamespacedMixin:
    """Rewrites what a connection sends, and gives its replies back in own names.

    Args:
        namespace: whose names the connection speaks; a connection without one refuses every command.
    """

    session: Session

    def __init__(self, *args: Any, namespace: Namespace | None = None, **kwargs: Any) -> None:
        self._lean: tuple[Any, Any] | None = None
        self._blocked_for = 0.0
        super().__init__(*args, **kwargs)
        self.session = Session(namespace, self.encoder, self.db)  # type: ignore[attr-defined]

    @property
    def namespace(self) -> Namespace | None:
        """Whose names this connection speaks at the moment; a shared pool changes it at checkout."""
        return self.session.namespace

    @namespace.setter
    def namespace(self, namespace: Namespace | None) -> None:
        self.session.namespace = namespace

    # Sending

    def pack_command(self, *args: Any) -> Packed:
        """Return a command as bytes for `send_packed_command`, refused or rewritten."""
        return self.session.pack_all([args])

    def pack_commands(self, commands: Iterable[Sequence[Any]]) -> Packed:
        """Return commands as bytes for `send_packed_command`; all of them, or none."""
        return self.session.pack_all(commands)

    async def send_command(self, *args: Any, **kwargs: Any) -> None:
        """Rewrite and send one command. Raises a refusal before any byte is sent."""
        session = self.session
        packed, rule = session.pack(args)
        if rule.blocks:
            words = words_of(args, session.encoder.encode)
            self._blocked_for = blocking_time(rule, words)
        pieces = (packed,) if type(packed) is bytes else packed
        ahead = None
        if rule.creates and session.registrar is not None:
            ahead = session.registrations([(args, rule)])
            pieces = [*ahead, *pieces]
        await super().send_packed_command(  # type: ignore[misc]
            pieces, check_health=kwargs.get("check_health", True)
        )
        if ahead:
            session.sent(ahead.rules)
        if rule.session:
            session.sent((rule,))
        else:
            session.pending.append(rule)

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send what `pack_commands` returned. Raises for bytes that were packed elsewhere."""
        if type(command) is not Packed:
            raise foreign_bytes()
        try:
            await super().send_packed_command(command, check_health)  # type: ignore[misc]
        except _LOST as error:
            if any(not rule.repeatable for rule in command.rules[:-1]):
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
            while not plain and session.next_is_aside():
                await self._read_aside()
                plain = session.is_plain()
            if self._blocked_for:
                timeout = self._patience(timeout)
            if plain and timeout is None and not options and self._lean is not None:
                reply = self._read_lean(self._lean[0], disable_decoding)
            else:
                reply = NOT_ENOUGH_DATA
            if reply is NOT_ENOUGH_DATA:
                reply = await super().read_response(  # type: ignore[misc]
                    disable_decoding=disable_decoding or not plain, timeout=timeout, **options
                )
        except ResponseError as error:
            session.settle_error(error)
            raise
        except _LOST as error:
            if session.lost_unrepeatable and not isinstance(error, BusyLoadingError):
                mark_unrepeatable(error)
            raise
        if plain:
            session.pending.popleft()
            return reply
        if isinstance(reply, Handled):
            return reply.result
        return session.settle(reply, decode=not disable_decoding)

    async def _read_aside(self) -> None:
        """Read the reply of a command of our own."""
        try:
            reply = await super().read_response(disable_decoding=True)  # type: ignore[misc]
        except ResponseError as error:
            reply = error
        self.session.settle_aside(reply)

    def _read_lean(self, reader: Any, disable_decoding: bool) -> Any:
        """Take a reply that has arrived already, as in the middle of a pipeline; else redis-py waits."""
        if not reader.has_data():
            return NOT_ENOUGH_DATA
        reply = reader.gets(False) if disable_decoding else reader.gets()
        if type(reply) is PUSH_TYPE:
            raise RedisConnectionError("unexpected push")
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    def _patience(self, timeout: float | None) -> float | None:
        """Return the time that a blocking command's reply may take."""
        extra, self._blocked_for = self._blocked_for, 0.0
        usual = self.socket_timeout  # type: ignore[attr-defined]
        if timeout is not None or usual is None:
            return timeout
        return math.inf if math.isinf(extra) else usual + extra

    # The connection's life

    async def on_connect(self) -> None:
        """Greet the server; the lean reader is taken once that is done."""
        await super().on_connect()  # type: ignore[misc]
        self._lean = self._take_lean()

    async def on_connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        """Greet the server, in redis-py 6 and later."""
        await super().on_connect_check_health(*args, **kwargs)  # type: ignore[misc]
        self._lean = self._take_lean()

    def _take_lean(self) -> tuple[Any, Any] | None:
        return lean_reader(self)

    async def disconnect(self, *args: Any, **kwargs: Any) -> None:
        """Close the connection and forget its conversation."""
        self.session.reset()
        self._lean = None
        self._blocked_for = 0.0
        await super().disconnect(*args, **kwargs)  # type: ignore[misc]

    def set_parser(self, parser_class: Any) -> None:
        """Make the parser; what it pushes at handlers is given in own names too."""
        super().set_parser(parser_class)  # type: ignore[misc]
        wrap_push_handlers(
            self._parser,  # type: ignore[attr-defined]
            *async_push_wrappers(weakref.ref(self)),
        )

    def repr_pieces(self) -> list[tuple[str, Any]]:
        """What the repr shows: never the prefix."""
        return [*super().repr_pieces(), ("namespace", self.namespace)]  # type: ignore[misc]


class AsyncNamespacedConnection(AsyncNamespacedMixin, aredis.Connection):
    """A TCP connection that speaks in own names."""


class AsyncNamespacedSSLConnection(AsyncNamespacedMixin, aredis.SSLConnection):
    """A TLS connection that speaks in own names."""


class AsyncNamespacedUnixDomainSocketConnection(
    AsyncNamespacedMixin, aredis.UnixDomainSocketConnection
):
    """A Unix socket connection that speaks in own names."""
