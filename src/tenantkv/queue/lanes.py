"""What a fork must not share with its parent: lanes, which number requests, and random bytes kept ready.

A child that counted on in its parent's lanes would be told the outcome of its parent's requests, and with
the same random bytes it would send other messages under the same ids.
"""

from __future__ import annotations

import os
from collections import deque
from typing import Protocol
from weakref import WeakSet

_LANE_BYTES = 9
_DRAWN_AT_ONCE = 64


class _Forgetful(Protocol):
    def forget(self) -> None:
        """Give up what the parent process goes on using."""


_alive: WeakSet[_Forgetful] = WeakSet()


def _forget_all() -> None:
    for each in list(_alive):
        each.forget()


# Cheaper than asking for the process's number with each request: that is a system call.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


class Lane:
    """One line of requests, each of which begins after the one before has ended.

    Attributes:
        id: random.
        number: that of the last request.
    """

    __slots__ = ("id", "number")

    def __init__(self) -> None:
        self.id = os.urandom(_LANE_BYTES).hex().encode()
        self.number = 0


class Lanes:
    """Gives a lane to each request under way. Threads, tasks and forks may share it."""

    __slots__ = ("__weakref__", "_free")

    def __init__(self) -> None:
        self._free: deque[Lane] = deque()
        _alive.add(self)

    def take(self) -> Lane:
        """Return a lane that nobody else uses until it is given back."""
        try:
            return self._free.pop()
        except IndexError:
            return Lane()

    def give(self, lane: Lane) -> None:
        """Take a lane back."""
        self._free.append(lane)

    def forget(self) -> None:
        """Begin anew in a child process, where requests that a parent had under way never end."""
        self._free = deque()


class RandomPieces:
    """Fresh random bytes in pieces of one size, drawn many at a time. Threads and forks may share it."""

    __slots__ = ("__weakref__", "_ready", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._ready: deque[bytes] = deque()
        _alive.add(self)

    def draw(self) -> bytes:
        """Return a piece that nobody else gets."""
        try:
            return self._ready.pop()
        except IndexError:
            size, drawn = self._size, os.urandom(self._size * _DRAWN_AT_ONCE)
            self._ready.extend(drawn[at : at + size] for at in range(size, len(drawn), size))
            return drawn[:size]

    def forget(self) -> None:
        """Give up what the parent process goes on using."""
        self._ready = deque()
