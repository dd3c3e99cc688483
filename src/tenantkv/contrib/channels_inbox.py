"""Messages that have come to a process and were not received yet, for all of its event loops.

All channels of a process share one list on the server, so whichever loop takes a message may not be the one
that waits for it. Threads may share an inbox.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

#: Channels with messages beyond which those of channels that nobody receives from are looked for.
MANY = 1000


class Inbox:
    """Keeps messages by channel, and wakes who waits for one.

    Args:
        expiry: seconds for which a message counts.
    """

    def __init__(self, expiry: float) -> None:
        self._expiry = expiry
        self._lock = Lock()
        self._messages: dict[str, deque[tuple[float, Any]]] = {}
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._prune_at = MANY

    def put(self, channel: str, message: Any, capacity: int) -> None:
        """Keep a message for a channel, unless as many as its capacity wait already."""
        with self._lock:
            self._prune()
            messages = self._messages.setdefault(channel, deque())
            if len(messages) < capacity:
                messages.append((time.monotonic() + self._expiry, message))
            # Who is woken in vain waits again.
            for arrived in self._waiting.get(channel, ()):
                _wake(arrived)

    def take(self, channel: str) -> Any:
        """Return the channel's next message, or ``None``."""
        with self._lock:
            messages = self._messages.get(channel)
            while messages:
                expires, message = messages.popleft()
                if not messages:
                    del self._messages[channel]
                if expires >= time.monotonic():
                    return message
        return None

    @contextmanager
    def waiting(self, channel: str) -> Iterator[asyncio.Future[None]]:
        """Yield a future of the running loop that is done when a message for the channel has come."""
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._waiting.setdefault(channel, []).append(arrived)
        try:
            yield arrived
        finally:
            with self._lock:
                others = self._waiting[channel]
                others.remove(arrived)
                if not others:
                    del self._waiting[channel]

    def clear(self) -> None:
        """Forget all messages."""
        with self._lock:
            self._messages.clear()

    def _prune(self) -> None:
        if len(self._messages) < self._prune_at:
            return
        now = time.monotonic()
        self._messages = {
            channel: waiting
            for channel, waiting in self._messages.items()
            if waiting and waiting[-1][0] >= now
        }
        self._prune_at = max(MANY, 2 * len(self._messages))


def _wake(arrived: asyncio.Future[None]) -> None:
    def done() -> None:
        if not arrived.done():
            arrived.set_result(None)

    try:
        arrived.get_loop().call_soon_threadsafe(done)
    except RuntimeError:
        # Its loop is closed, and nobody waits there any more.
        pass
