"""Invalidations that the server has not heard of, since it was away: they come first when it is back."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any

from tenantkv.ops import cache as ops
from tenantkv.ops.cache import Shelf
from tenantkv.ops.effects import Operation

# More than that and it is cheaper, and as right, to clear the cache.
_AT_MOST = 10_000


class Owed:
    """Remembers what was to be deleted; bounded. Only this process knows of it.

    Attributes:
        is_due: whether anything is owed.
    """

    __slots__ = ("_everything", "_lock", "_names", "_shelf", "_tags", "is_due")

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._lock = threading.Lock()
        self.is_due = False
        self._forget()

    def add(
        self, *, names: tuple[bytes, ...] = (), tags: tuple[bytes, ...] = (), everything: bool = False
    ) -> None:
        """Note entries and tags, or all of the cache."""
        with self._lock:
            self._names.update(names)
            self._tags.update(tags)
            if everything or len(self._names) + len(self._tags) > _AT_MOST:
                self._everything = True
                self._names.clear()
                self._tags.clear()
            self.is_due = True

    def settle(self, drive: Callable[[Operation[Any]], Any]) -> None:
        """Tell the server; what it does not hear of is owed on."""
        taken = self._take()
        try:
            drive(self._operation(taken))
        except BaseException:
            self.add(**taken)
            raise

    async def asettle(self, drive: Callable[[Operation[Any]], Awaitable[Any]]) -> None:
        """Tell the server; what it does not hear of is owed on."""
        taken = self._take()
        try:
            await drive(self._operation(taken))
        except BaseException:
            self.add(**taken)
            raise

    def _take(self) -> dict[str, Any]:
        with self._lock:
            taken = {
                "names": tuple(self._names),
                "tags": tuple(self._tags),
                "everything": self._everything,
            }
            self.is_due = False
            self._forget()
        return taken

    def _forget(self) -> None:
        self._names: set[bytes] = set()
        self._tags: set[bytes] = set()
        self._everything = False

    def _operation(self, taken: dict[str, Any]) -> Operation[None]:
        if taken["everything"]:
            yield from ops.invalidate(self._shelf, None)
        if taken["tags"]:
            yield from ops.invalidate(self._shelf, taken["tags"])
        if taken["names"]:
            yield from ops.delete(self._shelf, taken["names"])
