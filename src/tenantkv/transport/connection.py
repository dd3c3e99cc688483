"""Sync connections that speak in own names: redis-py's own classes with the table in between."""

from __future__ import annotations

import math
import select
import weakref
from typing import Any

import redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tenantkv.commands.blocking import blocking_time
from tenantkv.errors import NamespaceRequiredError
from tenantkv.keyring_reload import refuse_rotated
from tenantkv.namespace import Namespace
from tenantkv.transport.pushes import Handled, push_wrappers
from tenantkv.transport.redis_py import (
    NOT_ENOUGH_DATA,
    PUSH_TYPE,
    can_read_untaken,
    closed_by_server,
    health_clock,
    lean_reader,
    socket_of,
    takes_replies,
    wrap_push_handlers,
)
from tenantkv.transport.refusals import as_response
from tenantkv.transport.retry import leave_to_policy, mark_unrepeatable
from tenantkv.transport.session import Packed, Session
from tenantkv.transport.speaking import Speaking

_LOST = (RedisConnectionError, RedisTimeoutError)


def foreign_bytes() -> NamespaceRequiredError:
    """Return the error for bytes that did not go through the table."""
    error = NamespaceRequiredError(
        "pre-packed bytes",
        "they did not go through the command table, so their names are unknown.",
        "Use send_command() or pack_commands() of this connection.",
    )
    assert isinstance(error, NamespaceRequiredError)
    return as_response(error)  # type: ignore[return-value]


class NamespacedMixin(Speaking):
    """Rewrites what a connection sends, and gives its replies back in own names.

    Args:
        namespace: whose names the connection speaks. It is a connection argument, so that a library
            which rebuilds connections from a pool's arguments keeps it, or fails; a connection without
            one refuses every command.
        registry: noted for pools that are made anew of these arguments; see `pool.py`.
    """

    def __init__(
        self, *args: Any, namespace: Namespace | None = None, registry: bool = False, **kwargs: Any
    ) -> None:
        self._lean: tuple[Any, Any] | None = None
        self._poller: tuple[Any, Any] = (None, None)
        self._blocked_for = 0.0
        super().__init__(*args, **kwargs)
        leave_to_policy(self)
        self.session = Session(namespace, self.encoder, self.db)  # type: ignore[attr-defined]

    # Sending

    def send_command(self, *args: Any, **kwargs: Any) -> None:
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
            super().send_packed_command(  # type: ignore[misc]
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

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send what `pack_commands` returned. Raises for bytes that were packed elsewhere."""
        if type(command) is not Packed:
            raise foreign_bytes()
        try:
            super().send_packed_command(command, check_health)  # type: ignore[misc]
        except BaseException as error:
            self.session.not_sent(command.rules)
            # All but the last command may have arrived whole.
            if isinstance(error, _LOST) and any(not rule.repeatable for rule in command.rules[:-1]):
                mark_unrepeatable(error)
            raise
        self.session.sent(command.rules)

    # Receiving

    def read_response(self, disable_decoding: bool = False, **options: Any) -> Any:
        """Read a reply and give it back in own names."""
        session = self.session
        plain = session.is_plain()
        try:
            if session.transaction is not None and self._lean is not None and not options:
                reply = self._read_lean(self._lean, True)
                if session.take_queued(reply):
                    return reply if disable_decoding else session.decode(reply)
                failure = session.failure_in(reply)
                if failure is not None:
                    self.disconnect()
                    raise failure
                return session.settle(reply, decode=not disable_decoding)
            while not plain and session.next_is_aside():
                self._read_aside()
                plain = session.is_plain()
            raw = disable_decoding or not plain
            if self._blocked_for:
                reply = self._read_blocked(raw, options)
            elif self._lean is not None and not options:
                reply = self._read_lean(self._lean, raw)
            else:
                reply = super().read_response(disable_decoding=raw, **options)  # type: ignore[misc]
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

    def read_replies(self, count: int) -> list[Any]:
        """Return the raw replies to `count` commands of our own, errors among them."""
        replies: list[Any] = []
        while len(replies) < count:
            try:
                replies.append(self.read_response(disable_decoding=True))
            except ResponseError as error:
                replies.append(error)
            if self._lean is not None and self.session.transaction is None:
                self._read_arrived(self._lean[0].gets, replies, count)
        return replies

    def _read_arrived(self, gets: Any, replies: list[Any], count: int) -> None:
        """Take the replies that came together with the one before, until there are `count`."""
        session = self.session
        pending = session.pending
        while len(replies) < count and pending[0].plain:
            reply = gets(False)
            if reply is NOT_ENOUGH_DATA:
                return
            if type(reply) is PUSH_TYPE:
                self._parser.handle_push_response(reply)  # type: ignore[attr-defined]
                continue
            if isinstance(reply, ResponseError):
                session.settle_error(reply)
            elif isinstance(reply, Exception):
                self.disconnect()
                raise session.lost(reply)
            else:
                pending.popleft()
            replies.append(reply)

    def can_read(self, timeout: float | None = 0) -> bool:
        """Whether there is something to read, or comes within ``timeout`` seconds (``None``: at any time)."""
        parser = self._parser  # type: ignore[attr-defined]
        if socket_of(self) is None or not takes_replies(parser):
            there: bool = super().can_read(timeout)  # type: ignore[misc]
            return there
        try:
            return can_read_untaken(parser, timeout)
        except OSError as error:
            self.disconnect()
            raise RedisConnectionError(f"Error while reading from socket: {error}") from None

    def _read_aside(self) -> None:
        """Read the reply of a command of our own."""
        try:
            if self._lean is not None:
                reply = self._read_lean(self._lean, True)
            else:
                reply = super().read_response(disable_decoding=True)  # type: ignore[misc]
        except ResponseError as error:
            reply = error
        self.session.settle_aside(reply)

    def _read_lean(self, lean: tuple[Any, Any], disable_decoding: bool) -> Any:
        """Read one reply as redis-py does, without its per-reply preparations.

        What is not a plain reply that has arrived is left to redis-py: errors, pushes and the socket's
        failures are mapped there.
        """
        reader, buffer = lean
        reply = reader.gets(False) if disable_decoding else reader.gets()
        if reply is NOT_ENOUGH_DATA:
            try:
                received = socket_of(self).recv_into(buffer)
                if not received:
                    raise closed_by_server()
            except TimeoutError:
                self.disconnect()
                raise RedisTimeoutError("Timeout reading from socket") from None
            except OSError as error:
                self.disconnect()
                raise RedisConnectionError(f"Error while reading from socket: {error}") from None
            except BaseException:
                self.disconnect()
                raise
            reader.feed(buffer, 0, received)
            reply = reader.gets(False) if disable_decoding else reader.gets()
            if reply is NOT_ENOUGH_DATA:
                return super().read_response(disable_decoding=disable_decoding)  # type: ignore[misc]
        kind = type(reply)
        if kind is PUSH_TYPE:
            self._parser.handle_push_response(reply)  # type: ignore[attr-defined]
            return super().read_response(disable_decoding=disable_decoding)  # type: ignore[misc]
        if isinstance(reply, Exception):
            if isinstance(reply, _LOST):
                self.disconnect()
            raise reply
        interval = self.health_check_interval  # type: ignore[attr-defined]
        if interval:
            self.next_health_check = health_clock() + interval
        return reply

    def _read_blocked(self, raw: bool, options: dict[str, Any]) -> Any:
        """Read the reply of a blocking command: the socket may stay silent for as long as it asked."""
        extra, self._blocked_for = self._blocked_for, 0.0
        usual = self.socket_timeout  # type: ignore[attr-defined]
        if usual is None or "timeout" in options:
            return super().read_response(disable_decoding=raw, **options)  # type: ignore[misc]
        lean = self._lean if not options else None
        if extra <= usual / 2 and lean is not None:
            # The usual patience covers it, and leaves as much for the way.
            return self._read_lean(lean, raw)
        sock = socket_of(self)
        if sock is None:
            raise closed_by_server()
        sock.settimeout(None if math.isinf(extra) else usual + extra)
        try:
            return super().read_response(disable_decoding=raw, **options)  # type: ignore[misc]
        finally:
            if socket_of(self) is sock:
                sock.settimeout(usual)

    # The connection's life

    def connect(self, *args: Any, **kwargs: Any) -> None:
        """Open the connection, unless the prefix was replaced since the keyring was read."""
        self._refuse_rotated()
        super().connect(*args, **kwargs)  # type: ignore[misc]

    def connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        """Open the connection, in redis-py 6 and later."""
        self._refuse_rotated()
        super().connect_check_health(*args, **kwargs)  # type: ignore[misc]

    def on_connect(self) -> None:
        """Greet the server; the lean reader is taken once that is done."""
        super().on_connect()  # type: ignore[misc]
        self._lean = self._take_lean()

    def on_connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        """Greet the server, in redis-py 6 and later."""
        super().on_connect_check_health(*args, **kwargs)  # type: ignore[misc]
        self._lean = self._take_lean()

    def _refuse_rotated(self) -> None:
        namespace = self.session.namespace
        # Pools call this for connections that are open, too.
        if namespace is not None and socket_of(self) is None:
            refuse_rotated(namespace)

    def _take_lean(self) -> tuple[Any, Any] | None:
        return lean_reader(self)

    def disconnect(self, *args: Any, **kwargs: Any) -> None:
        """Close the connection and forget its conversation."""
        self.session.reset()
        self._lean = None
        self._blocked_for = 0.0
        super().disconnect(*args, **kwargs)  # type: ignore[misc]

    def set_parser(self, parser_class: Any) -> None:
        """Make the parser; what it pushes at handlers is given in own names too."""
        super().set_parser(parser_class)  # type: ignore[misc]
        # A weak reference: a parser that held its connection would keep its socket open.
        wrap_push_handlers(self._parser, *push_wrappers(weakref.ref(self)))  # type: ignore[attr-defined]

    def is_ready(self) -> bool:
        """Whether the connection is open, has nothing left from before, and can serve a command."""
        sock = socket_of(self)
        if sock is None or not self.session.idle:
            return False
        if not hasattr(select, "poll"):  # Windows
            return not self.can_read()
        known, poller = self._poller
        if known is not sock:
            poller = select.poll()
            poller.register(sock, select.POLLIN)
            self._poller = (sock, poller)
        return not poller.poll(0)

    def revive(self) -> None:
        """Close a connection that died while nobody used it; the next command opens it again.

        Pools look when they lend a connection; this is for clients that keep one.
        """
        if self.session.idle and socket_of(self) is not None and not self.is_ready():
            self.disconnect()


class NamespacedConnection(NamespacedMixin, redis.Connection):
    """A TCP connection that speaks in own names."""


class NamespacedSSLConnection(NamespacedMixin, redis.SSLConnection):
    """A TLS connection that speaks in own names."""

    def is_ready(self) -> bool:
        """As for TCP; TLS records that hold no data for us make the socket readable, so redis-py looks."""
        if socket_of(self) is None or not self.session.idle:
            return False
        return not self.can_read()


class NamespacedUnixDomainSocketConnection(NamespacedMixin, redis.UnixDomainSocketConnection):
    """A Unix socket connection that speaks in own names."""
