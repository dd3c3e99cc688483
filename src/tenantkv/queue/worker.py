"""A small worker: a handler for each message, heartbeats while it runs, and a graceful stop.

Laws of this file:

1. A message is acknowledged after its handler has returned, never before: at least once, so a handler
   has to bear being called twice for one message.
2. A handler that raises has its message tried again later, with growing delays, until the queue makes it a
   dead letter; ``Reject`` makes it one at once. What was raised is logged by its class, as texts may
   hold secrets; the message's value never is.
3. While a handler runs, a heartbeat extends its message, so the visibility timeout can be short: it is
   how soon the messages of a worker that died go to others.
4. A stop lets running handlers finish, receives nothing more, and gives back what was not begun.
5. What is fetched ahead does not wait behind a handler that turns out to be slow: the heartbeat gives it
   back, and acknowledges what was done before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from tenantkv.errors import ConfigurationError, TenantKVError
from tenantkv.ops.queue import MOST_AT_ONCE
from tenantkv.queue.hands import Hand, Pace
from tenantkv.queue.message import AsyncMessage, Message
from tenantkv.queue.settings import seconds, whole
from tenantkv.transport.endings import end

if TYPE_CHECKING:
    from tenantkv.queue.asynchronous import AsyncQueue
    from tenantkv.queue.sync import Queue

log = logging.getLogger("tenantkv.queue")

# How long a thread waits for a message before it looks whether to stop.
_LOOK = 1.0
_PAUSE_AFTER_ERROR = 1.0


class Reject(Exception):
    """Raised by a handler: the message is of no use, now or later.

    Args:
        why: a word that everybody on the server can read.
    """

    def __init__(self, why: str = "rejected") -> None:
        super().__init__(why)
        self.why = why


class _Tally:
    """What a worker has done; threads may count at the same time.

    Attributes:
        done, failed, rejected, lost: messages by outcome; lost are those whose delivery was over before
            their handler was.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.done = 0
        self.failed = 0
        self.rejected = 0
        self.lost = 0

    def count(self, what: str, by: int = 1) -> None:
        with self._lock:
            setattr(self, what, getattr(self, what) + by)

    def __repr__(self) -> str:
        return f"done={self.done} failed={self.failed} rejected={self.rejected} lost={self.lost}"


def _handler_of(queue: Any, handler: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    found = handler or queue.core.handler
    if not callable(found):
        raise ConfigurationError(
            f"queue {queue.name!r} has no handler: decorate a function with @queue.handler"
        )
    return found


def _log_failure(queue: str, message: Any, error: BaseException) -> None:
    kind = type(error).__name__
    log.warning("message %s of queue %r: delivery %d failed: %s", message.id, queue, message.deliveries, kind)


def _log_unsettled(queue: str, error: BaseException) -> None:
    log.warning("a message of queue %r could not be settled: %s", queue, type(error).__name__)


class Worker:
    """Runs a handler for the messages of a queue, in threads.

    Args:
        queue: the queue.
        handler: called with each `Message`; the queue's own (``@queue.handler``) if left out. What it
            returns is left as the result of a message that asks for one.
        concurrency: how many messages are handled at the same time.
        drain: whether to end when there is nothing to receive.
        prefetch: how many messages each thread fetches at a time. They are handled one after the other,
            and acknowledged together: many short ones take far fewer round trips. If left out, as many
            as make up 0.05 seconds of work, judged by the last ones, one to 20. A stop gives back those
            that were not begun, and so does the heartbeat while another one takes long.
        heartbeat: how often messages being handled are extended; a third of the visibility timeout if
            left out.
    """

    def __init__(
        self,
        queue: Queue,
        handler: Callable[[Message], Any] | None = None,
        *,
        concurrency: int = 1,
        drain: bool = False,
        prefetch: int | None = None,
        heartbeat: float | None = None,
    ) -> None:
        self.queue = queue
        self.tally = _Tally()
        self._handler = _handler_of(queue, handler)
        self._concurrency = whole(concurrency, "concurrency", 1, 1000)
        self._drain = drain
        self._prefetch = None if prefetch is None else whole(prefetch, "prefetch", 1, MOST_AT_ONCE)
        visible = queue.settings.visibility
        self._every = visible / 3 if heartbeat is None else seconds(heartbeat, "heartbeat", least=0.01)
        self._stop = threading.Event()
        self._hands: list[Hand[Message]] = []

    def stop(self) -> None:
        """Have `run` return when the handlers under way are done. Safe in a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Work until `stop`, or until there is nothing more with ``drain``."""
        self._hands = []
        finished = threading.Event()
        beat = threading.Thread(target=self._beat, args=(finished,), name="tenantkv-heartbeat", daemon=True)
        beat.start()
        threads = [
            threading.Thread(target=self._work, name=f"tenantkv-worker-{number}", daemon=True)
            for number in range(1, self._concurrency)
        ]
        try:
            for thread in threads:
                thread.start()
            self._work()
            for thread in threads:
                thread.join()
        finally:
            finished.set()
            beat.join()

    def _work(self) -> None:
        hand: Hand[Message] = Hand()
        self._hands.append(hand)
        pace = Pace(self._prefetch)
        done: list[Message] = []
        while True:
            try:
                messages = self._next(done, pace.count)
            except (RedisError, OSError) as error:
                # The acknowledgement is repeated; if it got through, it is stale.
                log.warning("queue %r cannot be reached: %s", self.queue.name, type(error).__name__)
                if self._stop.wait(_PAUSE_AFTER_ERROR):
                    return
                continue
            self.tally.count("lost", sum(each.state == "stale" for each in done))
            if not messages and (self._drain or self._stop.is_set()):
                return
            began = time.monotonic()
            done = self._handle_all(hand, messages)
            pace.note(len(messages), time.monotonic() - began)

    def _handle_all(self, hand: Hand[Message], messages: list[Message]) -> list[Message]:
        """Handle messages one after the other; returns those to acknowledge."""
        hand.fill(messages)
        while (message := hand.begin()) is not None:
            if self._stop.is_set():
                self._quietly(partial(self.queue.give_back, hand.rest()))
                break
            hand.end(is_done=self._handle(message))
        return hand.finished()

    def _next(self, done: list[Message], count: int) -> list[Message]:
        """Acknowledge the last messages and receive the next, in one round trip."""
        if not self._stop.is_set():
            return self.queue.receive_many(count, wait=0.0 if self._drain else _LOOK, ack=done)
        if done:
            self.queue.ack_many(done)
        return []

    def _handle(self, message: Message) -> bool:
        """Call the handler; say whether the message is to be acknowledged."""
        try:
            result = self._handler(message)
        except Reject as reject:
            self.tally.count("rejected")
            self._quietly(partial(message.bury, reject.why))
            return False
        except Exception as error:
            _log_failure(self.queue.name, message, error)
            self.tally.count("failed")
            self._quietly(message.retry)
            return False
        self.tally.count("done")
        if message.state != "held":
            return False
        if message.wants_reply:
            self._quietly(partial(message.reply, result))
            return False
        return True

    def _quietly(self, settle: Callable[[], Any]) -> None:
        """Settle a message; if that fails it comes back by its visibility timeout."""
        try:
            settle()
        except (TenantKVError, RedisError, OSError) as error:
            self.tally.count("lost")
            _log_unsettled(self.queue.name, error)

    def _beat(self, finished: threading.Event) -> None:
        while not finished.wait(self._every):
            held: list[Message] = []
            for hand in self._hands:
                kept, spare, done = hand.look()
                held += kept
                if spare:
                    self._quietly(partial(self.queue.give_back, spare))
                if done:
                    self._quietly(partial(self.queue.ack_many, done))
            if held:
                with contextlib.suppress(RedisError, OSError, TenantKVError):
                    self.queue.extend_many(held)


class AsyncWorker:
    """The twin of `Worker`, with tasks; the handler may be a coroutine function."""

    def __init__(
        self,
        queue: AsyncQueue,
        handler: Callable[[AsyncMessage], Any] | None = None,
        *,
        concurrency: int = 1,
        drain: bool = False,
        prefetch: int | None = None,
        heartbeat: float | None = None,
    ) -> None:
        self.queue = queue
        self.tally = _Tally()
        self._handler = _handler_of(queue, handler)
        self._concurrency = whole(concurrency, "concurrency", 1, 10_000)
        self._drain = drain
        self._prefetch = None if prefetch is None else whole(prefetch, "prefetch", 1, MOST_AT_ONCE)
        visible = queue.settings.visibility
        self._every = visible / 3 if heartbeat is None else seconds(heartbeat, "heartbeat", least=0.01)
        self._stop = False
        self._hands: list[Hand[AsyncMessage]] = []

    def stop(self) -> None:
        """Have `run` return when the handlers under way are done."""
        self._stop = True

    async def run(self) -> None:
        """Work until `stop`, or until there is nothing more with ``drain``."""
        self._hands = []
        beat = asyncio.create_task(self._beat())
        try:
            await asyncio.gather(*(self._work() for _ in range(self._concurrency)))
        finally:
            for error in await end(beat):
                raise error

    async def _work(self) -> None:
        hand: Hand[AsyncMessage] = Hand()
        self._hands.append(hand)
        pace = Pace(self._prefetch)
        done: list[AsyncMessage] = []
        while True:
            try:
                messages = await self._next(done, pace.count)
            except (RedisError, OSError) as error:
                log.warning("queue %r cannot be reached: %s", self.queue.name, type(error).__name__)
                if self._stop:
                    return
                await asyncio.sleep(_PAUSE_AFTER_ERROR)
                continue
            self.tally.count("lost", sum(each.state == "stale" for each in done))
            if not messages and (self._drain or self._stop):
                return
            began = time.monotonic()
            done = await self._handle_all(hand, messages)
            pace.note(len(messages), time.monotonic() - began)

    async def _handle_all(self, hand: Hand[AsyncMessage], messages: list[AsyncMessage]) -> list[AsyncMessage]:
        """Handle messages one after the other; returns those to acknowledge."""
        hand.fill(messages)
        while (message := hand.begin()) is not None:
            if self._stop:
                await self._quietly(self.queue.give_back(hand.rest()))
                break
            hand.end(is_done=await self._handle(message))
        return hand.finished()

    async def _next(self, done: list[AsyncMessage], count: int) -> list[AsyncMessage]:
        """Acknowledge the last messages and receive the next, in one round trip."""
        if not self._stop:
            return await self.queue.receive_many(count, wait=0.0 if self._drain else _LOOK, ack=done)
        if done:
            await self.queue.ack_many(done)
        return []

    async def _handle(self, message: AsyncMessage) -> bool:
        """Call the handler; say whether the message is to be acknowledged."""
        try:
            result = self._handler(message)
            if asyncio.iscoroutine(result):
                result = await result
        except Reject as reject:
            self.tally.count("rejected")
            await self._quietly(message.bury(reject.why))
            return False
        except Exception as error:
            _log_failure(self.queue.name, message, error)
            self.tally.count("failed")
            await self._quietly(message.retry())
            return False
        self.tally.count("done")
        if message.state != "held":
            return False
        if message.wants_reply:
            await self._quietly(message.reply(result))
            return False
        return True

    async def _quietly(self, settle: Any) -> None:
        """Settle a message; if that fails it comes back by its visibility timeout."""
        try:
            await settle
        except (TenantKVError, RedisError, OSError) as error:
            self.tally.count("lost")
            _log_unsettled(self.queue.name, error)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            held: list[AsyncMessage] = []
            for hand in self._hands:
                kept, spare, done = hand.look()
                held += kept
                if spare:
                    await self._quietly(self.queue.give_back(spare))
                if done:
                    await self._quietly(self.queue.ack_many(done))
            if held:
                with contextlib.suppress(RedisError, OSError, TenantKVError):
                    await self.queue.extend_many(held)
