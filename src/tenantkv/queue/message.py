"""What is handed out: sent and received messages, what a look at the queue shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from tenantkv.ops.queue_ids import priority_of

if TYPE_CHECKING:
    from tenantkv.queue.asynchronous import AsyncQueue
    from tenantkv.queue.sync import Queue


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One of several messages to send, with settings of its own; see `Queue.send`."""

    value: Any
    delay: float | None = None
    at: float | datetime | None = None
    priority: int | None = None
    ttl: float | None = None
    group: str | None = None
    dedupe: str | None = None
    reply: bool = False


class BaseSent:
    """A message that the queue has.

    Attributes:
        id: the message's; of the first one if it is a duplicate.
        is_duplicate: whether the queue had a message of that dedupe id already, and did not take this one.
    """

    __slots__ = ("id", "is_duplicate", "queue")

    def __init__(self, queue: Any, message_id: str, is_duplicate: bool) -> None:
        self.queue = queue
        self.id = message_id
        self.is_duplicate = is_duplicate

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}{' is_duplicate' if self.is_duplicate else ''}>"


class Sent(BaseSent):
    """A message that the queue has."""

    __slots__ = ()
    queue: Queue

    def result(self, timeout: float | None = None) -> Any:
        """See `Queue.result`."""
        return self.queue.result(self.id, timeout=timeout)


class AsyncSent(BaseSent):
    """The twin of `Sent`."""

    __slots__ = ()
    queue: AsyncQueue

    async def result(self, timeout: float | None = None) -> Any:
        """See `AsyncQueue.result`."""
        return await self.queue.result(self.id, timeout=timeout)


class BaseMessage:
    """A received message. It stays with its receiver until it is acknowledged, released, or late.

    Attributes:
        value: what was sent.
        receipt: the number of this delivery, of no meaning elsewhere.
        deliveries: how often it was delivered, this time included.
        sent_at: when it was sent, in Unix seconds by the sender's clock.
        wants_reply: whether somebody waits for a result.
        state: ``held``, ``done`` or ``stale``: as far as this client knows.
    """

    __slots__ = (
        "deliveries",
        "queue",
        "receipt",
        "receiver",
        "sent_at",
        "state",
        "value",
        "wants_reply",
        "wire_id",
    )

    def __init__(
        self,
        queue: Any,
        message_id: bytes,
        receipt: int,
        value: Any,
        sent_at: float,
        deliveries: int,
        wants_reply: bool,
    ) -> None:
        self.queue = queue
        #: The id as the server has it.
        self.wire_id = message_id
        self.receipt = receipt
        self.value = value
        self.sent_at = sent_at
        self.deliveries = deliveries
        self.wants_reply = wants_reply
        self.state = "held"
        # Acknowledges later, if there is one.
        self.receiver: Any = None

    @property
    def id(self) -> str:
        """The message's."""
        return self.wire_id.decode()

    @property
    def priority(self) -> int:
        """From 9, sooner than others, to 0."""
        return priority_of(self.wire_id)

    def __repr__(self) -> str:
        # Without the value, which may be secret.
        kind, queue = type(self).__name__, self.queue.name
        return f"<{kind} {self.id} of {queue!r} {self.state} delivery {self.deliveries}>"


class Message(BaseMessage):
    """A received message; ``with message:`` acknowledges it, or sets it back for a later try on an error."""

    __slots__ = ()
    queue: Queue

    def ack(self) -> None:
        """See `Queue.ack`."""
        self.queue.ack(self)

    def reply(self, result: Any) -> None:
        """See `Queue.reply`."""
        self.queue.reply(self, result)

    def release(self, delay: float = 0.0) -> None:
        """See `Queue.release`."""
        self.queue.release(self, delay=delay)

    def retry(self) -> None:
        """See `Queue.retry`."""
        self.queue.retry(self)

    def extend(self, visibility: float | None = None) -> None:
        """See `Queue.extend`."""
        self.queue.extend(self, visibility=visibility)

    def bury(self, why: str = "buried") -> None:
        """See `Queue.bury`."""
        self.queue.bury(self, why=why)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.state != "held":
            return
        if kind is None:
            if self.receiver is None:
                self.ack()
            else:
                self.receiver.done(self)
        elif issubclass(kind, Exception):
            self.retry()
        else:
            # The program is going down: nobody's fault, and others can have it at once.
            self.queue.give_back([self])


class AsyncMessage(BaseMessage):
    """The twin of `Message`; ``async with message:``."""

    __slots__ = ()
    queue: AsyncQueue

    async def ack(self) -> None:
        """See `Queue.ack`."""
        await self.queue.ack(self)

    async def reply(self, result: Any) -> None:
        """See `Queue.reply`."""
        await self.queue.reply(self, result)

    async def release(self, delay: float = 0.0) -> None:
        """See `Queue.release`."""
        await self.queue.release(self, delay=delay)

    async def retry(self) -> None:
        """See `Queue.retry`."""
        await self.queue.retry(self)

    async def extend(self, visibility: float | None = None) -> None:
        """See `Queue.extend`."""
        await self.queue.extend(self, visibility=visibility)

    async def bury(self, why: str = "buried") -> None:
        """See `Queue.bury`."""
        await self.queue.bury(self, why=why)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.state != "held":
            return
        if kind is None:
            if self.receiver is None:
                await self.ack()
            else:
                await self.receiver.done(self)
        elif issubclass(kind, Exception):
            await self.retry()
        else:
            await self.queue.give_back([self])


@dataclass(frozen=True, slots=True)
class Peeked:
    """A message as a look shows it, without receiving it.

    Attributes:
        id: the message's.
        value: what was sent; ``None`` if it cannot be read.
        is_readable: whether its envelope opened.
        when: ready since, due, in flight until, or dead since; in Unix seconds by the server's clock.
        deliveries: how often it was delivered.
        why: of a dead letter, the word it was buried with.
    """

    id: str
    value: Any
    is_readable: bool
    when: float
    deliveries: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class QueueMetrics:
    """A queue in numbers. Totals count since the queue's ledger began.

    Attributes:
        ready, delayed, in_flight, dead: messages by where they are.
        waiting: messages behind others of their group.
        oldest_age: for how long the oldest ready message has been ready, in seconds; ``None`` if none is.
        clients: lanes that asked for something within a minute, a rough count of clients.
        is_paused: whether receiving is suspended.
        totals: by what happened: ``sent`` ``received`` ``acknowledged`` ``returned`` ``timed_out`` ``died``
            ``expired`` ``duplicates`` ``refused`` ``dropped`` ``redriven`` ``recovered`` ``purged`` ...
        lost: by part of the queue, how many entries the ledger missed, ever.
        foreign: the same for entries that somebody else added.
        rates: totals a second since this client's last look.
    """

    ready: int
    delayed: int
    in_flight: int
    dead: int
    waiting: int
    oldest_age: float | None
    clients: int
    is_paused: bool
    totals: Mapping[str, int]
    lost: Mapping[str, int]
    foreign: Mapping[str, int]
    rates: Mapping[str, float]
