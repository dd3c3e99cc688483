"""The queue for asyncio; ``sync.py`` has its twin, and what each method does in full."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tenantkv.ops import queue as ops
from tenantkv.queue.core import QueueCore
from tenantkv.queue.looking import QueueView
from tenantkv.queue.losses import OnLoss
from tenantkv.queue.message import AsyncMessage, AsyncSent, Outgoing, Peeked, QueueMetrics
from tenantkv.queue.settings import QueueSettings, settings_with
from tenantkv.queue.sync import NOTHING, opened

if TYPE_CHECKING:
    from tenantkv.namespace import Namespace
    from tenantkv.queue.journal import Journal
    from tenantkv.queue.receiver import AsyncKeepAlive, AsyncReceiver


class AsyncQueue:
    """A queue of messages that are delivered at least once, for asyncio; the twin of `Queue`.

    Make it with ``client.queue(name)``. Tasks of one event loop may share it.

    Args:
        client: a :class:`tenantkv.AsyncTenantRedis`.
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
        >>> await queue.send({"page": 7})  # doctest: +SKIP
        >>> async with await queue.receive(wait=5) as message:  # doctest: +SKIP
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
            make_message=AsyncMessage,
            make_sent=AsyncSent,
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

    async def send(
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
    ) -> AsyncSent:
        """Send a message."""
        item = value
        if reply or (delay, at, priority, ttl, group, dedupe) != NOTHING:
            item = Outgoing(value, delay, at, priority, ttl, group, dedupe, reply)
        sent: list[AsyncSent] = await self.client.run(
            self._core.send((item,), plaintext_ok=plaintext_ok, wait=wait)
        )
        return sent[0]

    async def send_many(
        self, values: Iterable[Any], *, plaintext_ok: str | None = None, wait: float | None = None
    ) -> list[AsyncSent]:
        """Send messages, in order; `Outgoing` gives one settings of its own. Five hundred a round trip."""
        sent: list[AsyncSent] = await self.client.run(
            self._core.send(list(values), plaintext_ok=plaintext_ok, wait=wait)
        )
        return sent

    async def resend(self) -> int:
        """Send what the journal has no confirmation of, as after a crash; returns how many were missing."""
        return int(await self.client.run(self._core.resend()))

    # Receiving

    async def receive(
        self,
        *,
        wait: float | None = 0.0,
        visibility: float | None = None,
        ack: Iterable[AsyncMessage] = (),
    ) -> AsyncMessage | None:
        """Receive a message, or ``None``."""
        got = await self.receive_many(1, wait=wait, visibility=visibility, ack=ack)
        return got[0] if got else None

    async def receive_many(
        self,
        count: int = 10,
        *,
        wait: float | None = 0.0,
        visibility: float | None = None,
        ack: Iterable[AsyncMessage] = (),
    ) -> list[AsyncMessage]:
        """Receive up to `count` messages, at most 500; see `receive`. It does not wait for more than one."""
        got: list[AsyncMessage] = await self.client.run(
            self._core.receive(count, wait=wait, visibility=visibility, ack=ack)
        )
        return got

    def receiver(
        self, *, prefetch: int = 1, wait: float | None = None, visibility: float | None = None
    ) -> AsyncReceiver:
        """Return an iterator of messages that acknowledges the last ones as it fetches the next."""
        from tenantkv.queue.receiver import AsyncReceiver

        return AsyncReceiver(self, prefetch=prefetch, wait=wait, visibility=visibility)

    # Settling

    async def ack(self, message: AsyncMessage) -> None:
        """Acknowledge a message: it is done and gone."""
        await self.client.run(self._core.ack((message,), strict=True))

    async def ack_many(self, messages: Iterable[AsyncMessage]) -> list[AsyncMessage]:
        """Acknowledge messages; returns those whose delivery was over."""
        stale: list[AsyncMessage] = await self.client.run(self._core.ack(messages, strict=False))
        return stale

    async def reply(self, message: AsyncMessage, result: Any, *, keep: float = 3600.0) -> None:
        """Acknowledge a message and leave its result for whoever sent it."""
        await self.client.run(self._core.reply(message, result, keep))

    async def release(self, message: AsyncMessage, *, delay: float = 0.0) -> None:
        """Give a message back for another delivery, which counts. The last one makes it a dead letter."""
        await self.client.run(
            self._core.settle((message,), "release", self._core.release_ms(delay), strict=True)
        )

    async def retry(self, message: AsyncMessage) -> None:
        """Release a message with the queue's growing, jittered delay."""
        await self.client.run(self._core.settle((message,), "release", self._core.retry_ms, strict=True))

    async def give_back(self, messages: Iterable[AsyncMessage]) -> list[AsyncMessage]:
        """Give messages back as if they had not been delivered; returns those whose delivery was over."""
        stale: list[AsyncMessage] = await self.client.run(
            self._core.settle(messages, "return", self._core.release_ms(0.0), strict=False)
        )
        return stale

    async def extend(self, message: AsyncMessage, *, visibility: float | None = None) -> None:
        """Have a message stay with this receiver for so long from now on."""
        await self.client.run(
            self._core.settle((message,), "extend", self._core.extend_ms(visibility), strict=True)
        )

    async def extend_many(
        self, messages: Iterable[AsyncMessage], *, visibility: float | None = None
    ) -> list[AsyncMessage]:
        """Extend messages; returns those whose delivery was over."""
        stale: list[AsyncMessage] = await self.client.run(
            self._core.settle(messages, "extend", self._core.extend_ms(visibility), strict=False)
        )
        return stale

    async def bury(self, message: AsyncMessage, *, why: str = "buried") -> None:
        """Make a message a dead letter at once. `why` is a word that everybody can read."""
        await self.client.run(self._core.settle((message,), "bury", self._core.bury_word(why), strict=True))

    # Results

    async def result(self, message_id: str, *, timeout: float | None = None) -> Any:
        """Wait for the result of a message that was sent with ``reply=True``."""
        return await self.client.run(self._view.result(message_id, timeout))

    # Operating

    async def metrics(self) -> QueueMetrics:
        """Return the queue in numbers."""
        return await self.client.run(self._view.metrics())  # type: ignore[no-any-return]

    async def peek(self, where: str = "ready", *, count: int = 10, start: int = 0) -> list[Peeked]:
        """Look at messages without receiving them: ``ready``, ``delayed``, ``in_flight`` or ``dead``."""
        found: list[Peeked] = await self.client.run(self._view.peek(where, count, start))
        return found

    async def redrive(self, *, most: int | None = None, ids: Sequence[str] | None = None) -> int:
        """Put dead letters back, the oldest first or those named; returns how many. Not atomic as a whole."""
        return int(
            await self.client.run(self._view.redrive("redrive", most, None if ids is None else list(ids)))
        )

    async def drop_dead(self, *, most: int | None = None, ids: Sequence[str] | None = None) -> int:
        """Remove dead letters; returns how many."""
        return int(
            await self.client.run(self._view.redrive("drop", most, None if ids is None else list(ids)))
        )

    async def pause(self) -> None:
        """Have all receivers get nothing until `resume`; what they have they may settle."""
        await self.client.run(self._view.control("pause"))

    async def resume(self) -> None:
        """End a pause."""
        await self.client.run(self._view.control("resume"))

    async def purge(self) -> int:
        """Remove every message, also those in flight and dead; returns how many."""
        return int(await self.client.run(self._view.control("purge")))

    async def touch(self) -> int:
        """Have the server take the queue's keys for recently used; returns how many there are."""
        return int(await self.client.run(ops.touch(self._core.keys)))

    def kept_alive(self, every: float = 2.0) -> AsyncKeepAlive:
        """Return a context in which a thread touches the queue's keys, for times without receivers."""
        from tenantkv.queue.receiver import AsyncKeepAlive

        return AsyncKeepAlive(self, every)

    # Working

    def handler(self, function: Callable[[AsyncMessage], Any]) -> Callable[[AsyncMessage], Any]:
        """Have a worker call this function with each message; a decorator. See ``tenantkv worker``."""
        self._core.handler = function
        return function

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"
