"""One state for each event loop: a client's connections belong to the loop that they were made in."""

from __future__ import annotations

import asyncio
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

State = TypeVar("State")


class LoopStates(Generic[State]):
    """One state for each event loop, which is closed with it. Threads may share it.

    Args:
        make: makes one; it has a coroutine function ``close``.
    """

    def __init__(self, make: Any) -> None:
        self._make = make
        self._states: WeakKeyDictionary[Any, State] = WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self._states)

    def is_here(self) -> bool:
        """Say whether the running loop has one."""
        return asyncio.get_running_loop() in self._states

    def here(self) -> State:
        """Return the running loop's.

        Raises:
            RuntimeError: none is running.
        """
        loop = asyncio.get_running_loop()
        state = self._states.get(loop)
        if state is None:
            state = self._states[loop] = self._make()
            self._close_with(loop, state)
        return state

    async def close(self) -> None:
        """Close the running loop's."""
        state: Any = self._states.pop(asyncio.get_running_loop(), None)
        if state is not None:
            await state.close()

    def _close_with(self, loop: Any, state: Any) -> None:
        # `async_to_sync` makes a loop for a call, and nobody tells who works in it that it ends.
        close = loop.close
        states = self._states

        def closing() -> None:
            if loop.is_running():
                # It says so itself, and lives on.
                close()
                return
            loop.close = close
            try:
                if states.pop(loop, None) is not None and not loop.is_closed():
                    loop.run_until_complete(state.close())
            finally:
                close()

        loop.close = closing
