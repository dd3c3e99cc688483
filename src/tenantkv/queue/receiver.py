"""Iterating over a queue with prefetch, and keeping the keys of one in use that nobody receives from."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from typing_extensions import Self

from tenantkv.queue.message import AsyncMessage, Message
from tenantkv.queue.settings import seconds, whole
from tenantkv.transport.endings import end

if TYPE_CHECKING:
    from tenantkv.queue.asynchronous import AsyncQueue
    from tenantkv.queue.sync import Queue

_PREFETCH = 500


AnyMessage = TypeVar("AnyMessage", Message, AsyncMessage)


class _Held(Generic[AnyMessage]):
    """What both worlds' receivers keep: done messages that are not yet acknowledged."""

    def __init__(self, queue: Queue | AsyncQueue, prefetch: int, visibility: float | None) -> None:
        self.prefetch = whole(prefetch, "prefetch", 1, _PREFETCH)
        visible = queue.settings.visibility if visibility is None else visibility
        # Acknowledgements do not wait for longer than this, so that a crash repeats little work.
        self._patience = visible / 4
        self._done_since = 0.0
        self._done: list[AnyMessage] = []

    def note_done(self, message: AnyMessage) -> bool:
        """Take note of a message that is done; say whether to acknowledge now."""
        if not self._done:
            self._done_since = time.monotonic()
        self._done.append(message)
        return len(self._done) >= _PREFETCH or time.monotonic() - self._done_since > self._patience

    def take_done(self) -> list[AnyMessage]:
        """Return what is to be acknowledged; it is then the caller's business."""
        done, self._done = self._done, []
        return done


class Receiver:
    """Messages one after the other; what is done is acknowledged as the next ones are fetched.

    ``with message:`` says when one is done. On leaving, what was fetched and not handed out goes back.
    """

    def __init__(self, queue: Queue, *, prefetch: int, wait: float | None, visibility: float | None) -> None:
        self._queue = queue
        self._wait = wait
        self._visibility = visibility
        self._held: _Held[Message] = _Held(queue, prefetch, visibility)
        self._fetched: deque[Message] = deque()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        if not self._fetched:
            self._fetched += self._queue.receive_many(
                self._held.prefetch, wait=self._wait, visibility=self._visibility, ack=self._held.take_done()
            )
            if not self._fetched:
                raise StopIteration
        message = self._fetched.popleft()
        message.receiver = self
        return message

    def done(self, message: Message) -> None:
        """Acknowledge a message with the next fetch, or now if others have waited for long."""
        if self._held.note_done(message):
            self.flush()

    def flush(self) -> None:
        """Acknowledge what is done."""
        done = self._held.take_done()
        if done:
            self._queue.ack_many(done)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()
        if self._fetched:
            self._queue.give_back(self._fetched)
            self._fetched.clear()


class AsyncReceiver:
    """The twin of `Receiver`; ``async for`` and ``async with``."""

    def __init__(
        self, queue: AsyncQueue, *, prefetch: int, wait: float | None, visibility: float | None
    ) -> None:
        self._queue = queue
        self._wait = wait
        self._visibility = visibility
        self._held: _Held[AsyncMessage] = _Held(queue, prefetch, visibility)
        self._fetched: deque[AsyncMessage] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AsyncMessage:
        if not self._fetched:
            self._fetched += await self._queue.receive_many(
                self._held.prefetch, wait=self._wait, visibility=self._visibility, ack=self._held.take_done()
            )
            if not self._fetched:
                raise StopAsyncIteration
        message = self._fetched.popleft()
        message.receiver = self
        return message

    async def done(self, message: AsyncMessage) -> None:
        """Acknowledge a message with the next fetch, or now if others have waited for long."""
        if self._held.note_done(message):
            await self.flush()

    async def flush(self) -> None:
        """Acknowledge what is done."""
        done = self._held.take_done()
        if done:
            await self._queue.ack_many(done)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.flush()
        if self._fetched:
            await self._queue.give_back(self._fetched)
            self._fetched.clear()


class KeepAlive:
    """Touches a queue's keys from a thread, so that an evicting server takes others first.

    Whoever waits for messages does so anyway; this is for queues that wait for their receivers.
    """

    def __init__(self, queue: Queue, every: float) -> None:
        self._queue = queue
        self._every = seconds(every, "every", least=0.05, most=600.0)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="tenantkv-queue-keep-alive", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            # A server that is away for a moment is no reason to give up; what it loses is noticed.
            with contextlib.suppress(RedisConnectionError, RedisTimeoutError):
                self._queue.touch()


class AsyncKeepAlive:
    """The twin of `KeepAlive`, with a task."""

    def __init__(self, queue: AsyncQueue, every: float) -> None:
        self._queue = queue
        self._every = seconds(every, "every", least=0.05, most=600.0)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            for raised in await end(self._task):
                raise raised

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            with contextlib.suppress(RedisConnectionError, RedisTimeoutError):
                await self._queue.touch()
