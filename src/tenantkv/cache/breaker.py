"""The breaker: while the server is away, one caller in a while finds out, and the others do not wait."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

_SHORTEST, _LONGEST = 0.5, 5.0


class Breaker:
    """Remembers that the server did not answer. Shared by the caches of one pool; threads may share it.

    Attributes:
        is_open: whether the server was away when it was asked last.
        opened: how often it went away.

    Args:
        clock: seconds that only grow.
        uniform: a random number from 0 to 1, so that not all processes come back at once.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self.is_open = False
        self.opened = 0
        self._clock = clock
        self._uniform = uniform
        self._lock = threading.Lock()
        self._pause = _SHORTEST
        self._again_at = 0.0

    def blocks(self) -> bool:
        """Say whether this caller should not even ask. One caller in each pause is let through."""
        if not self.is_open:
            return False
        with self._lock:
            now = self._clock()
            if now < self._again_at:
                return True
            # Others wait while this one finds out.
            self._again_at = now + self._pause
            return False

    def fail(self) -> None:
        """Note that the server did not answer."""
        with self._lock:
            if not self.is_open:
                self.is_open = True
                self.opened += 1
                self._pause = _SHORTEST
            else:
                self._pause = min(self._pause * 2, _LONGEST)
            self._again_at = self._clock() + self._pause * (0.5 + self._uniform() / 2)

    def close(self) -> None:
        """Note that the server answers."""
        with self._lock:
            self.is_open = False

    def remaining(self) -> float:
        """Return the seconds until somebody may ask again."""
        return max(0.0, self._again_at - self._clock()) if self.is_open else 0.0
