"""Something for each event loop, closed at the loop's end.

A connection belongs to the loop in which it was opened. Under ASGI there is one loop for as long as the
process lives; under WSGI Django runs each asynchronous view in a loop of its own. To open a connection for
such a one costs more than what it is for, so the first calls of each loop go through a thread and the
connections that threads share, as Django's own backends do it with all calls.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator, Callable
from typing import Any

#: Calls after which a loop is worth connections of its own.
YOUTH = 8


class Loops:
    """What belongs to each running loop. Threads share it.

    Args:
        make: makes one; it has ``aclose()``, and ``abandon()`` for when its loop is closed already.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._kept: dict[asyncio.AbstractEventLoop, tuple[Any, Any]] = {}
        self._calls: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, int] = weakref.WeakKeyDictionary()

    def is_young(self) -> bool:
        """Count a call in the running loop, and say whether it is one of the first there."""
        loop = asyncio.get_running_loop()
        if loop in self._kept:
            return False
        calls = self._calls.get(loop, 0)
        if calls >= YOUTH:
            return False
        self._calls[loop] = calls + 1
        return True

    def running(self) -> Any:
        """Return what belongs to the running loop.

        Raises:
            RuntimeError: none is running.
        """
        loop = asyncio.get_running_loop()
        found = self._kept.get(loop)
        if found is None:
            self._sweep()
            made = self._make()
            # Kept, as loops know their generators by weak references only.
            found = self._kept[loop] = (made, self._close_with(loop, made))
        return found[0]

    def _close_with(self, loop: asyncio.AbstractEventLoop, made: Any) -> Any:
        """Have the loop close it: loops close the asynchronous generators that were begun in them."""

        async def until_the_end() -> AsyncGenerator[None, None]:
            try:
                yield
            finally:
                self._kept.pop(loop, None)
                await made.aclose()

        generator = until_the_end()
        try:
            # Begun by hand: there is nothing to wait for before its `yield`.
            generator.__anext__().send(None)
        except StopIteration:
            pass
        return generator

    def _sweep(self) -> None:
        """Let go of what belongs to loops that were closed without closing their generators."""
        with self._lock:
            closed = [loop for loop in list(self._kept) if loop.is_closed()]
            for loop in closed:
                found = self._kept.pop(loop, None)
                if found is not None:
                    found[0].abandon()
