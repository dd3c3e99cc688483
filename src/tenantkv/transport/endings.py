"""How tasks that talk with a server are ended."""

from __future__ import annotations

import asyncio
from typing import Any

_AGAIN = 0.1


async def end(*tasks: asyncio.Task[Any]) -> list[BaseException]:
    """Cancel tasks, wait until they have ended, and return what they raised otherwise.

    Asked again every 0.1 s: before Python 3.12 `asyncio.wait_for`, with which redis-py sends, drops a
    cancellation that comes together with its result, and a task that loops would go on for ever.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN)
    errors = (None if task.cancelled() else task.exception() for task in tasks)
    return [error for error in errors if error is not None]
