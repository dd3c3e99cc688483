"""Single-flight within a process: of all who miss one entry at a time, one computes it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any


class Flight:
    """One computation that others wait for. The same for threads and tasks, but for how they wait.

    Attributes:
        owner: the thread or task that computes.
        value: what it gave.
        error: what it raised instead.
        is_done: whether there is a value or an error; a leader that was cancelled leaves neither.
    """

    __slots__ = ("error", "event", "is_done", "owner", "value")

    def __init__(self, owner: object, event: Any) -> None:
        self.owner = owner
        self.event = event
        self.value: Any = None
        self.error: Exception | None = None
        self.is_done = False

    def outcome(self) -> Any:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value


class Flights:
    """The computations that are under way in one cache, by entry.

    Args:
        in_tasks: whether those who meet are tasks of one event loop, and not threads.
    """

    def __init__(self, *, in_tasks: bool = False) -> None:
        self._in_tasks = in_tasks
        self._lock = threading.Lock()
        self._flights: dict[Any, Flight] = {}

    def enter(self, name: bytes) -> tuple[Flight, bool]:
        """Return the flight for an entry, and whether the caller is to lead it, and then to leave it.

        Raises:
            RuntimeError: the caller leads it already: what it computes needs itself.
        """
        key = (self._place(), name)
        owner = self._owner()
        with self._lock:
            flight = self._flights.get(key)
            if flight is None:
                event = asyncio.Event() if self._in_tasks else threading.Event()
                flight = self._flights[key] = Flight(owner, event)
                return flight, True
        if flight.owner == owner:
            raise RuntimeError("what computes this entry asks the cache for the very same entry")
        return flight, False

    def is_under_way(self, name: bytes) -> bool:
        """Say whether somebody here computes an entry."""
        return (self._place(), name) in self._flights

    def leave(self, name: bytes, flight: Flight) -> None:
        """End a flight that the caller led, and wake who waits for it."""
        with self._lock:
            key = (self._place(), name)
            if self._flights.get(key) is flight:
                del self._flights[key]
        flight.event.set()

    def forget(self) -> None:
        """Forget all of them: in the child of a fork nobody leads them."""
        self._lock = threading.Lock()
        self._flights = {}

    def _place(self) -> object:
        # An asyncio event belongs to its loop, and a program may have several, one after the other.
        return id(asyncio.get_running_loop()) if self._in_tasks else None

    def _owner(self) -> object:
        return asyncio.current_task() if self._in_tasks else threading.get_ident()
