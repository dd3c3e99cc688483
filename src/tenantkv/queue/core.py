"""What both worlds' queues do: checks, envelopes and receipts, as operations for either driver."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tenantkv.errors import CodecError, ConfigurationError, OpenError, UnknownKeyError
from tenantkv.ops import queue as ops
from tenantkv.ops.effects import Operation
from tenantkv.ops.queue_keys import queue_keys
from tenantkv.ops.scripts import Argument
from tenantkv.queue.errors import QueueFullError, StaleReceiptError
from tenantkv.queue.lanes import Lane, Lanes
from tenantkv.queue.losses import LossWatch, OnLoss
from tenantkv.queue.message import BaseMessage
from tenantkv.queue.noting import Noting
from tenantkv.queue.outbox import Outbox
from tenantkv.queue.settings import QueueSettings, check_name, seconds, whole, word
from tenantkv.queue.values import ValueBox, protection_of

if TYPE_CHECKING:
    from tenantkv.queue.journal import Journal

LOST: tuple[type[Exception], ...] = (RedisConnectionError, RedisTimeoutError)

# After which a message whose key this program does not have is looked at again, by whoever has it.
_UNKNOWN_KEY_DELAY_MS = 5000
_USUAL_TIMEOUT = 5.0
_LONGEST_WAIT = 366 * 86_400.0


class QueueCore:
    """One queue, as operations.

    Args:
        client: whose namespace and connections it uses.
        name: the queue's own name.
        settings: see `QueueSettings`.
        make_message: the class of received messages.
        make_sent: the class of sent ones.
        owner: the queue that received messages belong to.
        seal: whether values are encrypted: yes if left out, unless the namespace only signs.
        plaintext_ok: why values may be readable though they look like secrets.
        on_loss: what to do about losses: ``warn``, ``raise`` or a function.
        journal: where unconfirmed sends are noted.
    """

    def __init__(
        self,
        client: Any,
        name: str | bytes,
        settings: QueueSettings,
        *,
        make_message: Callable[..., Any],
        make_sent: Callable[..., Any],
        owner: Any,
        seal: bool | None,
        plaintext_ok: str | None,
        on_loss: OnLoss,
        journal: Journal | None,
    ) -> None:
        self.name = check_name(name)
        self.settings = settings
        self.namespace = client.namespace
        self.keys = queue_keys(self.namespace, self.name)
        does_seal, policy, excuse = protection_of(client)
        self.box = ValueBox(
            self.namespace,
            self.name,
            seal=does_seal if seal is None else bool(seal),
            pickle=settings.pickle,
            max_bytes=settings.max_bytes,
            policy=policy,
        )
        self.watch = LossWatch(self.name, on_loss)
        self.journal = journal
        #: Messages that did not open, and were put with the dead letters.
        self.unreadable = 0
        #: What a worker calls.
        self.handler: Callable[[Any], Any] | None = None
        self._plaintext_ok = plaintext_ok or excuse
        self._outbox = Outbox(self.namespace, self.name, self.box)
        self._make_message = make_message
        self._make_sent = make_sent
        self._owner = owner
        self._lanes = Lanes()
        self._noting = Noting(self.namespace, self.name, LOST)
        self._fresh = os.urandom(9).hex().encode()
        self._slice = _slice(client, settings.keep_alive)
        self._bounds = ops.Bounds(
            settings.max_messages, settings.overflow, int(settings.dedupe_window * 1000)
        )
        limits = (int(settings.retention * 1000), settings.max_dead, settings.max_deliveries)
        self._limits = tuple(b"%d" % limit for limit in limits)

    # What requests begin with

    def _heads(self, lane: Lane) -> ops.Heads:
        def head() -> tuple[Argument, ...]:
            lane.number += 1
            if self._fresh == self.watch.incarnation:
                # A queue that is lost gets another identity than the one that clients knew.
                self._fresh = os.urandom(9).hex().encode()
            return (self._fresh, lane.id, lane.number, *self._limits)

        return head

    @property
    def no_lane(self) -> tuple[Argument, ...]:
        """The head of requests that may be repeated without being told."""
        return (os.urandom(9).hex(), "", 0, *self._limits)

    def waiting(self, wait: float | None) -> ops.Waiting | None:
        """Return how to wait so long; ``None`` for ever, 0 not at all."""
        if wait is not None:
            wait = seconds(wait, "wait", most=_LONGEST_WAIT)
            if wait == 0:
                return None
        deadline = time.monotonic() + (_LONGEST_WAIT if wait is None else wait)
        return ops.Waiting(deadline, self._slice, time.monotonic, LOST)

    # Sending

    def send(
        self, items: Sequence[Any], *, plaintext_ok: str | None, wait: float | None
    ) -> Operation[list[Any]]:
        """Send messages; those of one slice of `MOST_AT_ONCE` all or none."""
        entries = self._outbox.pack(items, plaintext_ok or self._plaintext_ok)
        journal = self.journal
        if journal is not None:
            # Remembered by their ids, so that one that comes again is told.
            entries = [(i, envelope, due, member or i) for i, envelope, due, member in entries]
            journal.note(entries)
        waiting = self.waiting(wait) if self.settings.overflow == "wait" else None
        yield from self._noting.note()
        sent: list[Any] = []
        for start in range(0, len(entries), ops.MOST_AT_ONCE):
            lot = entries[start : start + ops.MOST_AT_ONCE]
            try:
                sent += yield from self._send_lot(lot, waiting)
            except QueueFullError:
                if journal is not None:
                    journal.confirm(entries[start:])
                raise
            if journal is not None:
                journal.confirm(lot)
        return sent

    def _send_lot(self, lot: Sequence[ops.Entry], waiting: ops.Waiting | None) -> Operation[list[Any]]:
        lane = self._lanes.take()
        try:
            report, same = yield from ops.send(self.keys, self._heads(lane), lot, self._bounds, waiting)
        finally:
            self._lanes.give(lane)
        if same is None:
            self.watch.notice(report)
            raise QueueFullError(
                f"queue {self.name!r} holds {report.unfinished} messages, and may hold "
                f"{self.settings.max_messages}; none of these {len(lot)} was sent",
                self.name,
            )
        self.watch.notice(report, sent=len(lot) - len(same))
        make, owner = self._make_sent, self._owner
        if not same:
            return [make(owner, entry[0].decode(), False) for entry in lot]
        return [make(owner, same.get(at, entry[0]).decode(), at in same) for at, entry in enumerate(lot)]

    def resend(self) -> Operation[int]:
        """Send what the journal has no confirmation of; says how many messages were missing."""
        if self.journal is None:
            raise ConfigurationError("this queue has no journal; make it with journal=path")
        missing = 0
        for lot in self.journal.unconfirmed(ops.MOST_AT_ONCE):
            sent = yield from self._send_lot(lot, None)
            self.journal.confirm(lot)
            missing += sum(not each.is_duplicate for each in sent)
        return missing

    # Receiving

    def receive(
        self, count: int, *, wait: float | None, visibility: float | None, ack: Iterable[BaseMessage]
    ) -> Operation[list[Any]]:
        """Acknowledge, and receive at most `count` messages."""
        whole(count, "count", 0, ops.MOST_AT_ONCE)
        done = self._held(ack)
        visible = self._visibility_ms(visibility)
        yield from self._noting.note()
        lane = self._lanes.take()
        try:
            heads = self._heads(lane)
            got = yield from ops.receive(
                self.keys, heads, [_held(each) for each in done], count, visible, self.waiting(wait)
            )
            messages, damaged = self._open(got)
            if damaged:
                yield from ops.settle(self.keys, heads, damaged)
        finally:
            self._lanes.give(lane)
        _mark(done, got.stale)
        self.watch.notice(got.report)
        return messages

    def _open(self, got: ops.Received) -> tuple[list[Any], list[tuple[bytes, int, str, Argument]]]:
        """Return the messages that open, and what to do with the others."""
        messages: list[Any] = []
        damaged: list[tuple[bytes, int, str, Argument]] = []
        make, owner, receipt, flat = self._make_message, self._owner, got.receipt, got.messages
        ids, envelopes, returns = flat[::3], flat[1::3], flat[2::3]
        opened = self.box.open_many(envelopes, ids)
        for message_id, envelope, times, found in zip(ids, envelopes, returns, opened, strict=True):
            try:
                head, value = found or self.box.open(envelope, message_id)
            except UnknownKeyError:
                damaged.append((message_id, receipt, "release", _UNKNOWN_KEY_DELAY_MS))
            except OpenError:
                self.unreadable += 1
                damaged.append((message_id, receipt, "bury", "unreadable"))
            except CodecError:
                self.unreadable += 1
                damaged.append((message_id, receipt, "bury", "undecodable"))
            else:
                deliveries = 1 if times == b"0" else 1 + returned(times)
                messages.append(
                    make(owner, message_id, receipt, value, head.sent_ms / 1000, deliveries, head.wants_reply)
                )
        return messages, damaged

    # Settling

    def ack(self, messages: Iterable[BaseMessage], *, strict: bool) -> Operation[list[Any]]:
        """Acknowledge messages; returns those whose delivery was over, or raises with `strict`."""
        done = self._held(messages)
        stale: list[Any] = []
        for start in range(0, len(done), ops.MOST_AT_ONCE):
            lot = done[start : start + ops.MOST_AT_ONCE]
            lane = self._lanes.take()
            try:
                got = yield from ops.receive(
                    self.keys, self._heads(lane), [_held(each) for each in lot], 0, 1000, None
                )
            finally:
                self._lanes.give(lane)
            stale += _mark(lot, got.stale)
            self.watch.notice(got.report)
        if stale and strict:
            raise self._stale()
        return stale

    def settle(
        self,
        messages: Iterable[BaseMessage],
        verb: str,
        argument: Callable[[BaseMessage], Argument],
        *,
        strict: bool,
    ) -> Operation[list[Any]]:
        """Release, return, bury or extend messages; returns those whose delivery was over."""
        held = self._held(messages)
        stale: list[Any] = []
        for start in range(0, len(held), ops.MOST_AT_ONCE):
            lot = held[start : start + ops.MOST_AT_ONCE]
            entries = [(*_held(each), verb, argument(each)) for each in lot]
            lane = self._lanes.take()
            try:
                report, late = yield from ops.settle(self.keys, self._heads(lane), entries)
            finally:
                self._lanes.give(lane)
            stale += _mark(lot, late, "held" if verb == "extend" else "done")
            self.watch.notice(report)
        if stale and strict:
            raise self._stale()
        return stale

    def reply(self, message: BaseMessage, result: Any, keep: float) -> Operation[None]:
        """Acknowledge a message and leave its result."""
        keep_ms = int(seconds(keep, "keep", least=1.0) * 1000)
        (held,) = self._held([message])
        now_ms = int(time.time() * 1000)
        envelope = self.box.seal_result(result, held.wire_id, now_ms)
        lane = self._lanes.take()
        try:
            report, was_held = yield from ops.reply(
                self.keys, self._heads(lane), _held(held), envelope, keep_ms
            )
        finally:
            self._lanes.give(lane)
        held.state = "done" if was_held else "stale"
        self.watch.notice(report)
        if not was_held:
            raise self._stale()

    def retry_ms(self, message: BaseMessage) -> int:
        """Return after which time a message that failed is tried again: doubled each time, jittered."""
        settings = self.settings
        if settings.retry_delay == 0:
            return 0
        longest = min(settings.max_retry_delay, settings.retry_delay * 2 ** min(message.deliveries - 1, 40))
        return int(random.uniform(longest / 2, longest) * 1000)

    def release_ms(self, delay: float) -> Callable[[BaseMessage], Argument]:
        """Return the argument of ``release``."""
        delay_ms = int(seconds(delay, "delay", most=self.settings.retention) * 1000)
        return lambda _: delay_ms

    def extend_ms(self, visibility: float | None) -> Callable[[BaseMessage], Argument]:
        """Return the argument of ``extend``."""
        visible = self._visibility_ms(visibility)
        return lambda _: visible

    def bury_word(self, why: str) -> Callable[[BaseMessage], Argument]:
        """Return the argument of ``bury``."""
        text = word(why)
        return lambda _: text

    def with_lane(self, make: Callable[[ops.Heads], Operation[Any]]) -> Operation[Any]:
        """Run an operation whose requests have numbers."""
        lane = self._lanes.take()
        try:
            return (yield from make(self._heads(lane)))
        finally:
            self._lanes.give(lane)

    def _visibility_ms(self, visibility: float | None) -> int:
        if visibility is None:
            return int(self.settings.visibility * 1000)
        return int(seconds(visibility, "visibility", least=0.01, most=self.settings.retention) * 1000)

    def _held(self, messages: Iterable[BaseMessage]) -> list[BaseMessage]:
        """Return messages, each once, refusing those of another queue."""
        held: dict[ops.Held, BaseMessage] = {}
        stem = self.keys.stem
        for message in messages:
            # The keys tell the namespace too; clients of one namespace may differ in how they protect it.
            if not isinstance(message, BaseMessage) or message.queue.core.keys.stem != stem:
                raise StaleReceiptError("this is no message that was received from this queue", self.name)
            held[message.wire_id, message.receipt] = message
        return list(held.values())

    def _stale(self) -> StaleReceiptError:
        return StaleReceiptError(
            f"a delivery from queue {self.name!r} is over: it was settled before, or its visibility timeout "
            "passed and others may have the message",
            self.name,
        )


def returned(text: bytes) -> int:
    """Return how often a message came back, from what the queue keeps of it, which anybody can write."""
    count = text.partition(b" ")[0]
    return int(count) if count.isdigit() and len(count) < 10 else 0


def _held(message: BaseMessage) -> ops.Held:
    return message.wire_id, message.receipt


def _mark(messages: Sequence[BaseMessage], stale: Sequence[int], state: str = "done") -> list[BaseMessage]:
    for message in messages:
        message.state = state
    late = [messages[at] for at in stale]
    for message in late:
        message.state = "stale"
    return late


def _slice(client: Any, keep_alive: float) -> float:
    """Return the longest single wait: the keys are touched in between, and the socket does not time out."""
    # A Cluster's client has no pool of its own.
    options = getattr(getattr(client, "connection_pool", None), "connection_kwargs", {})
    timeout = options.get("socket_timeout", _USUAL_TIMEOUT)
    return keep_alive if not timeout else min(keep_alive, float(timeout) / 2)
