"""The queue for programs without an event loop; ``asynchronous.py`` has its twin."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tenantkv.ops import queue as ops
from tenantkv.queue.core import QueueCore
from tenantkv.queue.looking import QueueView
from tenantkv.queue.losses import OnLoss
from tenantkv.queue.message import Message, Outgoing, Peeked, QueueMetrics, Sent
from tenantkv.queue.settings import QueueSettings, settings_with

if TYPE_CHECKING:
    from tenantkv.namespace import Namespace
    from tenantkv.queue.journal import Journal
    from tenantkv.queue.receiver import KeepAlive, Receiver


# The settings that a plain message does without.
NOTHING = (None,) * 6


class Queue:
    """A queue of messages that are delivered at least once. Threads may share it.

    Make it with ``client.queue(name)``. Every call is one round trip, atomic, and safe to repeat when its
    reply is lost, unless it says otherwise. Times are in seconds.

    Args:
        client: a :class:`tenantkv.TenantRedis`.
        name: the queue's own name. The server sees a keyed hash of it.
        settings: how it behaves; all programs that use it should say the same.
        seal: whether messages are encrypted: yes, unless the namespace only signs. They are authenticated
            in any case, and bound to the queue and their id.
        plaintext_ok: why messages may be readable by everybody though they look like secrets.
        on_loss: what to do when the server has lost messages: ``warn``, ``raise`` or a function that
            takes a `QueueLoss`.
        journal: a file where sends are noted until the server confirms them; see `resend`.
        changes: single settings by their names, such as ``visibility=60``.

    Example:
        >>> queue = client.queue("thumbs")  # doctest: +SKIP
        >>> queue.send({"page": 7})  # doctest: +SKIP
        >>> with queue.receive(wait=5) as message:  # doctest: +SKIP
        ...     print(message.value)
    """

    def __init__(
        self,
        client: Any,
        name: str | bytes,
        settings: QueueSettings | None = None,
        *,
        seal: bool | None = None,
        plaintext_ok: str | None = None,
        on_loss: OnLoss = "warn",
        journal: str | os.PathLike[str] | Journal | None = None,
        **changes: Any,
    ) -> None:
        self.client = client
        self._core = QueueCore(
            client,
            name,
            settings_with(settings, changes),
            make_message=Message,
            make_sent=Sent,
            owner=self,
            seal=seal,
            plaintext_ok=plaintext_ok,
            on_loss=on_loss,
            journal=opened(journal),
        )
        self._view = QueueView(self._core)

    @property
    def name(self) -> str:
        """The queue's own name."""
        return self._core.name

    @property
    def namespace(self) -> Namespace:
        """Whose queue it is."""
        return self._core.namespace  # type: ignore[no-any-return]

    @property
    def settings(self) -> QueueSettings:
        """How it behaves."""
        return self._core.settings

    @property
    def core(self) -> QueueCore:
        """What it has in common with its twin."""
        return self._core

    # Sending

    def send(
        self,
        value: Any,
        *,
        delay: float | None = None,
        at: float | datetime | None = None,
        priority: int | None = None,
        ttl: float | None = None,
        group: str | None = None,
        dedupe: str | None = None,
        reply: bool = False,
        plaintext_ok: str | None = None,
        wait: float | None = None,
    ) -> Sent:
        """Send a message.

        Args:
            value: bytes, text, or what JSON brings back equal; a ``Secret`` is always encrypted.
            delay: before it can be received, to the millisecond.
            at: when it can be received, in Unix seconds or as a datetime with a time zone.
            priority: 9 comes first, 0 last, 4 if left out.
            ttl: for how long it is worth delivering, from when it can be received. The sender's clock counts.
            group: messages of a group are delivered one after the other, in the order of sending: the next
                when the one before is acknowledged or dead.
            dedupe: a text; within the queue's window a second message with it is not taken.
            reply: whether the receiver is to leave a result; see `Sent.result`.
            plaintext_ok: why this message may be readable though it looks like a secret.
            wait: how long to wait for space where the queue is bounded with ``overflow="wait"``; ``None``
                for ever.

        Raises:
            QueueFullError: no space.
            CodecError: the value cannot be encoded.
            ConfigurationError: it is too long, or an argument has no meaning.
            PlaintextRefusedError: it looks like a secret and would be readable.
            redis.exceptions.ConnectionError: it is unknown whether the queue has it; with ``dedupe`` it is
                safe to send it again.
        """
        item = value
        if reply or (delay, at, priority, ttl, group, dedupe) != NOTHING:
            item = Outgoing(value, delay, at, priority, ttl, group, dedupe, reply)
        sent: list[Sent] = self.client.run(self._core.send((item,), plaintext_ok=plaintext_ok, wait=wait))
        return sent[0]

    def send_many(
        self, values: Iterable[Any], *, plaintext_ok: str | None = None, wait: float | None = None
    ) -> list[Sent]:
        """Send messages, in order; `Outgoing` gives one settings of its own. Five hundred a round trip.

        All are checked before the first is sent; each five hundred are taken all or none.
        """
        sent: list[Sent] = self.client.run(
            self._core.send(list(values), plaintext_ok=plaintext_ok, wait=wait)
        )
        return sent

    def resend(self) -> int:
        """Send what the journal has no confirmation of, as after a crash; returns how many were missing."""
        return int(self.client.run(self._core.resend()))

    # Receiving

    def receive(
        self,
        *,
        wait: float | None = 0.0,
        visibility: float | None = None,
        ack: Iterable[Message] = (),
    ) -> Message | None:
        """Receive a message, or ``None``.

        Args:
            wait: how long to wait for one; ``None`` for ever. Woken by the sender, nothing polls.
            visibility: for how long it stays with this receiver; the queue's setting if left out.
            ack: messages to acknowledge in the same round trip; their ``state`` then says ``done``, or
                ``stale`` if they were not this receiver's any more.
        """
        got = self.receive_many(1, wait=wait, visibility=visibility, ack=ack)
        return got[0] if got else None

    def receive_many(
        self,
        count: int = 10,
        *,
        wait: float | None = 0.0,
        visibility: float | None = None,
        ack: Iterable[Message] = (),
    ) -> list[Message]:
        """Receive up to `count` messages, at most 500; see `receive`. It does not wait for more than one."""
        got: list[Message] = self.client.run(
            self._core.receive(count, wait=wait, visibility=visibility, ack=ack)
        )
        return got

    def receiver(
        self, *, prefetch: int = 1, wait: float | None = None, visibility: float | None = None
    ) -> Receiver:
        """Return an iterator of messages that acknowledges the last ones as it fetches the next.

        Example:
            >>> with queue.receiver(prefetch=20) as receiver:  # doctest: +SKIP
            ...     for message in receiver:
            ...         with message:
            ...             work(message.value)
        """
        from tenantkv.queue.receiver import Receiver

        return Receiver(self, prefetch=prefetch, wait=wait, visibility=visibility)

    # Settling

    def ack(self, message: Message) -> None:
        """Acknowledge a message: it is done and gone.

        Raises:
            StaleReceiptError: its delivery was over; somebody else may have it, or have done it.
        """
        self.client.run(self._core.ack((message,), strict=True))

    def ack_many(self, messages: Iterable[Message]) -> list[Message]:
        """Acknowledge messages; returns those whose delivery was over."""
        stale: list[Message] = self.client.run(self._core.ack(messages, strict=False))
        return stale

    def reply(self, message: Message, result: Any, *, keep: float = 3600.0) -> None:
        """Acknowledge a message and leave its result for whoever sent it.

        Args:
            message: the message.
            result: what `encode` takes, as for `send`.
            keep: how long the result can be read.
        """
        self.client.run(self._core.reply(message, result, keep))

    def release(self, message: Message, *, delay: float = 0.0) -> None:
        """Give a message back for another delivery, which counts. The last one makes it a dead letter."""
        self.client.run(self._core.settle((message,), "release", self._core.release_ms(delay), strict=True))

    def retry(self, message: Message) -> None:
        """Release a message with the queue's growing, jittered delay."""
        self.client.run(self._core.settle((message,), "release", self._core.retry_ms, strict=True))

    def give_back(self, messages: Iterable[Message]) -> list[Message]:
        """Give messages back as if they had not been delivered; returns those whose delivery was over."""
        stale: list[Message] = self.client.run(
            self._core.settle(messages, "return", self._core.release_ms(0.0), strict=False)
        )
        return stale

    def extend(self, message: Message, *, visibility: float | None = None) -> None:
        """Have a message stay with this receiver for so long from now on."""
        self.client.run(
            self._core.settle((message,), "extend", self._core.extend_ms(visibility), strict=True)
        )

    def extend_many(self, messages: Iterable[Message], *, visibility: float | None = None) -> list[Message]:
        """Extend messages; returns those whose delivery was over."""
        stale: list[Message] = self.client.run(
            self._core.settle(messages, "extend", self._core.extend_ms(visibility), strict=False)
        )
        return stale

    def bury(self, message: Message, *, why: str = "buried") -> None:
        """Make a message a dead letter at once. `why` is a word that everybody can read."""
        self.client.run(self._core.settle((message,), "bury", self._core.bury_word(why), strict=True))

    # Results

    def result(self, message_id: str, *, timeout: float | None = None) -> Any:
        """Wait for the result of a message that was sent with ``reply=True``.

        Raises:
            ResultTimeoutError: none came in time.
            ResultLostError: none will come.
        """
        return self.client.run(self._view.result(message_id, timeout))

    # Operating

    def metrics(self) -> QueueMetrics:
        """Return the queue in numbers."""
        return self.client.run(self._view.metrics())  # type: ignore[no-any-return]

    def peek(self, where: str = "ready", *, count: int = 10, start: int = 0) -> list[Peeked]:
        """Look at messages without receiving them: ``ready``, ``delayed``, ``in_flight`` or ``dead``."""
        found: list[Peeked] = self.client.run(self._view.peek(where, count, start))
        return found

    def redrive(self, *, most: int | None = None, ids: Sequence[str] | None = None) -> int:
        """Put dead letters back, the oldest first or those named; returns how many. Not atomic as a whole."""
        return int(self.client.run(self._view.redrive("redrive", most, None if ids is None else list(ids))))

    def drop_dead(self, *, most: int | None = None, ids: Sequence[str] | None = None) -> int:
        """Remove dead letters; returns how many."""
        return int(self.client.run(self._view.redrive("drop", most, None if ids is None else list(ids))))

    def pause(self) -> None:
        """Have all receivers get nothing until `resume`; what they have they may settle."""
        self.client.run(self._view.control("pause"))

    def resume(self) -> None:
        """End a pause."""
        self.client.run(self._view.control("resume"))

    def purge(self) -> int:
        """Remove every message, also those in flight and dead; returns how many."""
        return int(self.client.run(self._view.control("purge")))

    def touch(self) -> int:
        """Have the server take the queue's keys for recently used; returns how many there are."""
        return int(self.client.run(ops.touch(self._core.keys)))

    def kept_alive(self, every: float = 2.0) -> KeepAlive:
        """Return a context in which a thread touches the queue's keys, for times without receivers."""
        from tenantkv.queue.receiver import KeepAlive

        return KeepAlive(self, every)

    # Working

    def handler(self, function: Callable[[Message], Any]) -> Callable[[Message], Any]:
        """Have a worker call this function with each message; a decorator. See ``tenantkv worker``."""
        self._core.handler = function
        return function

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def opened(journal: Any) -> Any:
    """Return a journal, opened if it is a path."""
    if not isinstance(journal, (str, os.PathLike)):
        return journal
    from tenantkv.queue.journal import Journal

    return Journal(journal)
