"""What a connection knows of its conversation: which replies are due, and how each comes back.

No I/O here; the sync and the asyncio connection share it. Laws of this file:

1. A rule enters `pending` after its bytes were sent, so that a handshake or a health check in between
   never mixes with it, and leaves it with its reply or its error, never with a time-out.
2. Replies that hold names are taken undecoded, given back in own names, and decoded last.
3. While a reply is due that must not be asked for twice, a lost connection marks its error so, and the
   retry policy (`retry.py`) obeys the mark.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from redis.exceptions import BusyLoadingError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from tenantkv.commands.channels import shape_push
from tenantkv.commands.own_scripts import is_quick
from tenantkv.commands.packing import Packer
from tenantkv.commands.rule import Rule, once
from tenantkv.errors import ForbiddenCommandError, MalformedCommandError, OpenError, RefusedError
from tenantkv.namespace import Namespace
from tenantkv.ops.registry import Registrar
from tenantkv.secret import Secret
from tenantkv.transport.asides import AsideRule, pack_asides
from tenantkv.transport.decoding import decode_deep, encode_deep
from tenantkv.transport.refusals import (
    as_response,
    no_namespace,
    redacted,
    subscription_among_others,
    unopened,
)
from tenantkv.transport.retry import mark_unrepeatable, may_repeat

_ENDINGS = frozenset({"EXEC", "DISCARD"})
_BARE = frozenset({"MULTI", "EXEC", "DISCARD"})
_PUSHES = frozenset(
    b"message pmessage smessage subscribe unsubscribe psubscribe punsubscribe ssubscribe sunsubscribe".split()
)

# What envelopes begin with: `envelope_header.MAGIC`, which most processes need not import.
_MAGIC = b"\xc1"


class Packed(list[Any]):
    """Bytes for the wire that went through the table, with the rules of what is inside."""

    __slots__ = ("rules",)

    def __init__(self, pieces: Iterable[Any], rules: list[Rule]) -> None:
        super().__init__(pieces)
        self.rules = rules


class Session:
    """The state of one connection between its requests and their replies.

    Args:
        namespace: whose names the connection speaks; ``None`` refuses every command.
        encoder: redis-py's encoder of the connection.
        database: the number that SELECT may name.
    """

    __slots__ = (
        "batch",
        "database",
        "demoted",
        "encoder",
        "lost_unrepeatable",
        "namespace",
        "packer",
        "pending",
        "registrar",
        "subscribed",
        "transaction",
        "watching",
    )

    def __init__(self, namespace: Namespace | None, encoder: Any, database: Any) -> None:
        self.namespace = namespace
        self.encoder = encoder
        self.packer = packer_of(encoder)
        self.database = database
        self.registrar: Registrar | None = None
        self.pending: deque[Rule] = deque()
        self.transaction: list[Rule] | None = None
        self.subscribed = False
        self.watching = False
        self.lost_unrepeatable = False
        # The rules that went out in one packet; callers repeat such a packet as a whole.
        self.batch: Sequence[Rule] = ()
        # Whether the server refused a write because it is a replica: the primary is elsewhere now.
        self.demoted = False

    def pack(self, arguments: Sequence[Any]) -> tuple[Any, Rule]:
        """Return the wire form of a command and its rule, or raise a refusal.

        Raises:
            RefusedError: also a ``redis.exceptions.ResponseError``.
        """
        namespace = self.namespace
        if namespace is None:
            raise as_response(no_namespace(arguments))
        try:
            if is_quick(arguments):
                # Of an operation of our own, about our own keys: there is nothing to protect.
                packed, rule = self.packer.pack(arguments, namespace)
            else:
                protector: Any = namespace.protector or _protector_of(namespace)
                packed, rule = protector.pack(self.packer, arguments, namespace)
            if rule.session:
                self._check_session(rule, arguments)
        except RefusedError as error:
            raise as_response(error) from None
        if rule.conditional and len(arguments) > 3 and not rule.may_repeat(arguments):
            rule = once(rule)
        return packed, rule

    def _check_session(self, rule: Rule, arguments: Sequence[Any]) -> None:
        """Refuse what would change the meaning of replies that others wait for."""
        if rule.name.endswith("SUBSCRIBE") and self.transaction is not None:
            raise subscription_among_others(rule)
        if rule.name in _BARE and len(self.packer.words(arguments)) > 1:
            # Whether the server then leaves the transaction differs from version to version.
            raise MalformedCommandError(rule.name, "it takes no arguments.")
        if rule.name != "SELECT":
            return
        number = self.packer.words(arguments)[1]
        if number != str(self.database or 0).encode():
            raise ForbiddenCommandError(
                "SELECT",
                "the connection belongs to the database that it was opened with.",
                "Connect with db=..., or use namespace.child(name) to keep data apart.",
            )

    def pack_all(self, commands: Iterable[Sequence[Any]]) -> Packed:
        """Pack several commands into few pieces; all of them, or none."""
        rules: list[Rule] = []
        pieces: list[Any] = []
        small: list[bytes] = []
        writes: list[tuple[Sequence[Any], Rule]] = []
        registrar = self.registrar
        for command in commands:
            packed, rule = self.pack(command)
            rules.append(rule)
            if rule.creates and registrar and not self.is_registered(registrar, command, rule):
                writes.append((command, rule))
            if type(packed) is bytes:
                small.append(packed)
            else:
                pieces += [b"".join(small), *packed]
                small = []
        if len(rules) > 1:
            for rule in rules:
                if rule.session and rule.name.endswith("SUBSCRIBE"):
                    raise as_response(subscription_among_others(rule))
        pieces.append(b"".join(small))
        if writes:
            ahead = self.registrations(writes)
            return Packed([*ahead, *pieces], [*ahead.rules, *rules])
        return Packed(pieces, rules)

    def is_registered(self, registrar: Registrar, arguments: Sequence[Any], rule: Rule) -> bool:
        """Whether the registry has nothing to send ahead of a command, as before most writes."""
        if not rule.single:
            return False
        name = arguments[1]
        if type(name) is not bytes:
            name = bytes(self.encoder.encode(name))
        return registrar.knows(name, time.time())

    def registrations(self, writes: Iterable[tuple[Sequence[Any], Rule]]) -> Packed:
        """Return what the registry wants sent ahead of commands that may create keys.

        Within a transaction nothing: its reply would be the tenant's. The names come later, with the
        next write that is not in one.
        """
        registrar, namespace = self.registrar, self.namespace
        if registrar is None or namespace is None:
            return Packed([], [])
        names: list[bytes] = []
        for arguments, rule in writes:
            words = self.packer.words(without_secrets(arguments))
            if rule.locate is not None:
                names += [words[position] for position in rule.locate(words)]
        if self.transaction is not None:
            registrar.owe(names, time.time())
            return Packed([], [])
        pieces, rules = pack_asides(registrar.asides(names, time.time()), namespace, self.packer)
        # In one piece, since each is a system call.
        return Packed([b"".join(pieces)] if pieces else [], rules)

    def next_is_aside(self) -> bool:
        """Whether the next reply belongs to a command of our own."""
        return bool(self.pending) and isinstance(self.pending[0], AsideRule)

    def settle_aside(self, reply: Any) -> None:
        """Take the reply of a command of our own; an error concerns nobody else."""
        rule = self.pending.popleft()
        assert isinstance(rule, AsideRule)
        rule.on_reply(reply)

    def not_sent(self, rules: Iterable[Rule]) -> None:
        """Tell commands of our own that they did not go out."""
        for rule in rules:
            if isinstance(rule, AsideRule):
                rule.on_reply(None)

    def sent(self, rules: Sequence[Rule]) -> None:
        """Note commands whose bytes have gone out."""
        self.batch = rules
        for rule in rules:
            if rule.session and rule.name.endswith("SUBSCRIBE"):
                # Acknowledged by pushes, one a channel, and not by a reply.
                self.subscribed = True
            else:
                self.pending.append(rule)

    def lost(self, error: Exception) -> Exception:
        """Return the error of a connection that was lost, marked if what was asked may not be repeated."""
        if self.lost_unrepeatable and not isinstance(error, BusyLoadingError):
            mark_unrepeatable(error)
        return error

    def reset(self) -> None:
        """Forget the conversation, as the connection is gone."""
        # Of a packet whose last reply was lost, the first commands may be answered already.
        self.lost_unrepeatable = bool(self.pending) and not (
            may_repeat(self.pending) and may_repeat(self.batch)
        )
        self.not_sent(self.pending)
        self.pending.clear()
        self.batch = ()
        self.transaction = None
        self.subscribed = False
        self.watching = False
        self.demoted = False

    @property
    def idle(self) -> bool:
        """Whether no reply is due and no state is left, so that the connection may serve anybody."""
        return not (
            self.pending or self.transaction is not None or self.subscribed or self.watching or self.demoted
        )

    def is_plain(self) -> bool:
        """Whether the next reply can be handed on without a look."""
        pending = self.pending
        return bool(pending) and pending[0].plain and self.transaction is None and not self.subscribed

    def settle(self, reply: Any, *, decode: bool) -> Any:
        """Return an undecoded reply in own names, decoded if asked.

        A pub/sub message that is not the tenant's comes back as ``None``, which redis-py skips.
        """
        pending = self.pending
        is_glanced = pending and pending[0].glanced and self.transaction is None and not self.subscribed
        if is_glanced and (reply is None or (type(reply) is bytes and reply[:1] != _MAGIC)):
            # The usual read: a value that is no envelope.
            pending.popleft()
            return self.encoder.decode(reply) if decode and reply is not None else reply
        namespace = self.namespace
        assert namespace is not None
        if self.subscribed and isinstance(reply, list) and reply:
            if type(reply[0]) is str:
                # Before redis-py 8, looking whether there is a message may read and decode it.
                reply = encode_deep(reply, self.encoder.encode)
            is_push = isinstance(reply[0], bytes) and reply[0] in _PUSHES
        else:
            is_push = False
        if is_push:
            reply = self.shape_message(reply, namespace)
        elif self.pending:
            rule = self.pending.popleft()
            if self.transaction is not None and reply == b"QUEUED" and rule.name not in _ENDINGS:
                self.transaction.append(rule)
            else:
                reply = self._settle_rule(rule, reply, namespace)
        return self.decode(reply) if decode else reply

    def take_queued(self, reply: Any) -> bool:
        """Whether an undecoded reply says that a command of a transaction waits for EXEC; note it."""
        if reply != b"QUEUED" or not self.pending or self.pending[0].name in _ENDINGS:
            return False
        self.transaction.append(self.pending.popleft())  # type: ignore[union-attr]
        return True

    @staticmethod
    def failure_in(reply: Any) -> RedisConnectionError | None:
        """Return the connection failure that an EXEC's first reply tells of, such as LOADING.

        redis-py's parsers raise it in the place of the whole reply.
        """
        first = reply[0] if isinstance(reply, list) and reply else None
        return first if isinstance(first, RedisConnectionError) else None

    def decode(self, reply: Any) -> Any:
        """Return a reply as the connection's encoder decodes it, if it does."""
        if self.encoder.decode_responses:
            return decode_deep(reply, self.encoder.decode)
        return reply

    def _settle_rule(self, rule: Rule, reply: Any, namespace: Namespace) -> Any:
        if rule.name == "MULTI":
            self.transaction = []
        elif rule.name == "WATCH":
            self.watching = True
        elif rule.name == "UNWATCH":
            self.watching = False
        elif rule.name == "DISCARD":
            self.transaction, self.watching = None, False
        elif rule.name == "EXEC":
            queued, self.transaction, self.watching = self.transaction, None, False
            if not isinstance(reply, list) or queued is None:
                return reply
            for position, (each, item) in enumerate(zip(queued, reply, strict=True)):
                if each.shape is not None or each.opener is not None or isinstance(item, ResponseError):
                    try:
                        reply[position] = self._shape(each, item, namespace)
                    except OpenError as error:
                        # One of many: it takes the place of its reply, as an error of the server's would.
                        reply[position] = error
            return reply
        return self._shape(rule, reply, namespace)

    def _shape(self, rule: Rule, reply: Any, namespace: Namespace) -> Any:
        if isinstance(reply, ResponseError):
            return redacted(reply, namespace)
        if rule.shape is not None:
            reply = rule.shape(reply, namespace)
        if rule.opener is None:
            return reply
        try:
            return rule.opener(reply)
        except OpenError as error:
            raise unopened(error) from None

    @staticmethod
    def shape_message(push: Any, namespace: Namespace) -> Any:
        """Return a subscription's push in own names and opened; ``None`` for what is not the tenant's."""
        shaped = shape_push(push, namespace)
        if shaped is None:
            return None
        protector: Any = namespace.protector or _protector_of(namespace)
        return protector.open_message(shaped)

    def settle_error(self, error: ResponseError) -> None:
        """Take note of a reply that is an error, and clean its text of wire names."""
        if self.pending:
            rule = self.pending.popleft()
            if rule.name in _ENDINGS:
                self.transaction, self.watching = None, False
        if isinstance(error, ReadOnlyError) and not self.demoted:
            self.demoted = True
            # Only refused, so it may be repeated, unless a part of its packet was done before.
            done = self.batch[: max(len(self.batch) - len(self.pending) - 1, 0)]
            if self.transaction is None and any(not rule.repeatable for rule in done):
                mark_unrepeatable(error)
        if self.namespace is not None:
            redacted(error, self.namespace)


def _protector_of(namespace: Namespace) -> Any:
    """Return what protects the namespace; imported with the first command, as it takes a few ms."""
    from tenantkv.protector import protector_of

    return protector_of(namespace)


def packer_of(encoder: Any) -> Packer:
    """Return the packer for one of redis-py's encoders."""
    utf8 = str(encoder.encoding).lower() in ("utf-8", "utf8") and encoder.encoding_errors == "strict"
    return Packer(encoder.encode, utf8=utf8)


def without_secrets(arguments: Sequence[Any]) -> Sequence[Any]:
    """Return a command with nothing in the place of each `Secret`, to find its names."""
    return ["" if type(part) is Secret else part for part in arguments]
