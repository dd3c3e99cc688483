"""What one thread or task of a worker has in hand, and how many messages it fetches at a time.

Laws of this file: no I/O, no clock. A message is waiting, under way or done, in one place at a time; a
worker's heartbeat may take away what waits and what is done, never what is under way.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

from tenantkv.queue.message import AsyncMessage, Message

AnyMessage = TypeVar("AnyMessage", Message, AsyncMessage)

# Work that is fetched ahead, in seconds: as long as others may wait for it though they are idle.
_AHEAD = 0.05
_MOST_AHEAD = 20


class Pace:
    """How many messages to fetch at a time.

    Args:
        fixed: always so many. Otherwise one at first, and then as many as 0.05 seconds of work, judged by
            the last ones; at most 20, and twice as many as before.

    Attributes:
        count: how many next.
    """

    __slots__ = ("_fixed", "count")

    def __init__(self, fixed: int | None) -> None:
        self._fixed = fixed
        self.count = fixed or 1

    def note(self, handled: int, seconds: float) -> None:
        """Take note of how long so many messages took."""
        if self._fixed is None and handled > 0:
            affordable = int(_AHEAD * handled / max(seconds, 1e-6))
            self.count = max(1, min(affordable, self.count * 2, _MOST_AHEAD))


class Hand(Generic[AnyMessage]):
    """The messages of one thread or task. The heartbeat may look at it at the same time."""

    __slots__ = ("_current", "_done", "_lock", "_seen", "_waiting")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[AnyMessage] = deque()
        self._current: AnyMessage | None = None
        self._done: list[AnyMessage] = []
        self._seen: AnyMessage | None = None

    def fill(self, messages: Sequence[AnyMessage]) -> None:
        """Take what was received."""
        with self._lock:
            self._waiting.extend(messages)

    def begin(self) -> AnyMessage | None:
        """Return the next message, which is then under way; ``None`` if none is left."""
        with self._lock:
            self._current = self._waiting.popleft() if self._waiting else None
            return self._current

    def end(self, *, is_done: bool) -> None:
        """Note that the message under way is not any more, and whether it is to be acknowledged."""
        with self._lock:
            if is_done and self._current is not None:
                self._done.append(self._current)
            self._current = None

    def rest(self) -> list[AnyMessage]:
        """Return what was not finished; it is then the caller's business."""
        with self._lock:
            rest = [] if self._current is None else [self._current]
            rest += self._waiting
            self._current = None
            self._waiting.clear()
            return rest

    def finished(self) -> list[AnyMessage]:
        """Return what is to be acknowledged; it is then the caller's business."""
        with self._lock:
            done, self._done = self._done, []
            return done

    def look(self) -> tuple[list[AnyMessage], list[AnyMessage], list[AnyMessage]]:
        """Return what to extend, what to give back and what to acknowledge, at a heartbeat.

        Once a message is under way for longer than a beat, those behind it are better off with others,
        and those before it have waited for long enough.
        """
        with self._lock:
            current = self._current
            held: list[AnyMessage] = [] if current is None else [current]
            spare: list[AnyMessage] = []
            done: list[AnyMessage] = []
            if current is not None and current is self._seen:
                spare += self._waiting
                self._waiting.clear()
                done, self._done = self._done, done
            else:
                held += self._waiting
                held += self._done
            self._seen = current
            return [each for each in held if each.state == "held"], spare, done
