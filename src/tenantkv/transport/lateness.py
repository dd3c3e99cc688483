"""What an event loop that stood still owes to whom it waited for.

A view that computes for half a second stops its loop, and with it every task that waits for the server. When
the loop goes on, it finds time-outs that are over together with replies that came long ago; taken at
their word, such time-outs would make an outage of it.
"""

from __future__ import annotations

import asyncio
from typing import Any

# Seconds for a reply that lies in the socket to be read.
_ONE_LOOK = 0.002
_LONGEST = 0.1


def grace(late: float) -> float:
    """Return how long to wait on after a time-out.

    Args:
        late: seconds by which the loop noticed too late. The server may have stood still as well, and gets
            as long, up to 0.1.
    """
    return min(late + _ONE_LOOK, _LONGEST)


class Patience:
    """``asyncio.timeout`` with `grace`, also for Python 3.10: ``with Patience(0.5): await ...``.

    What is inside is cancelled, and ``asyncio.TimeoutError`` raised, where it takes too long.

    Args:
        seconds: how long it may take; ``None`` for as long as it likes.
    """

    __slots__ = ("_before", "_is_over", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._is_over = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: Any = None
        self._before = 0

    def __enter__(self) -> None:
        if self._seconds is None:
            return
        task: Any = asyncio.current_task()
        self._task = task
        if hasattr(task, "cancelling"):
            self._before = task.cancelling()
        loop = asyncio.get_running_loop()
        until = loop.time() + self._seconds
        self._timer = loop.call_at(until, self._look, loop, until)

    def __exit__(self, kind: Any, error: Any, _traceback: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._is_over:
            return
        # Somebody else may want the task to end as well: that counts for more.
        is_ours_alone = not hasattr(self._task, "uncancel") or self._task.uncancel() <= self._before
        if is_ours_alone and kind is asyncio.CancelledError:
            raise asyncio.TimeoutError from error

    def _look(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        self._timer = loop.call_later(grace(loop.time() - until), self._give_up)

    def _give_up(self) -> None:
        self._is_over = True
        self._task.cancel()


__all__ = ["Patience", "grace"]
