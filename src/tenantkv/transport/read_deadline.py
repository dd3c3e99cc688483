"""When a read of an asyncio connection has taken too long."""

from __future__ import annotations

import asyncio
import math

from tenantkv.transport.lateness import grace
from tenantkv.transport.redis_py import unread_bytes


class ReadDeadline:
    """Makes the reads of one connection fail after their time-out.

    One timer a connection looks at the deadline when it fires, and is set anew only then: a timer for each
    read, as a rule cancelled at once, costs more than the read.

    Whatever has come by then counts, and where nothing has, the loop looks once more; see `lateness.py`.
    """

    __slots__ = ("_at", "_granted", "_loop", "_source", "_timer")

    def __init__(self) -> None:
        self._at = math.inf
        self._granted = math.inf
        self._loop: asyncio.AbstractEventLoop | None = None
        self._source: asyncio.StreamReader | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, loop: asyncio.AbstractEventLoop, stream: asyncio.StreamReader, patience: float) -> None:
        """Have the read of `stream` that follows raise ``TimeoutError`` after `patience` seconds."""
        self._at = at = loop.time() + patience
        self._loop, self._source = loop, stream
        timer = self._timer
        if timer is None or timer.when() > at:
            if timer is not None:
                timer.cancel()
            self._timer = loop.call_at(at, self._look)

    def end(self) -> None:
        """The read is over."""
        self._at = math.inf

    def forget(self) -> None:
        """Let go of the stream and the timer; to be called in their own event loop."""
        self._at = math.inf
        self._source = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        loop, stream, at = self._loop, self._source, self._at
        if loop is None or stream is None or at == math.inf:
            return
        now = loop.time()
        if now < at:
            self._timer = loop.call_at(at, self._look)
        elif unread_bytes(stream) or stream.at_eof():
            # It has come, and who waits for it is about to go on.
            return
        elif self._granted != at:
            self._granted = at
            self._timer = loop.call_later(grace(now - at), self._look)
        else:
            stream.set_exception(TimeoutError())
