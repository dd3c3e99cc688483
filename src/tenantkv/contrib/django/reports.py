"""Counters, log lines and signals of what went wrong: a page never sees it, so somebody else must."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from tenantkv.cache import CacheStats
from tenantkv.contrib.django import signals

logger = logging.getLogger("tenantkv.contrib.django")

# Seconds between two lines about the same trouble: an outage must not fill a disk.
_PAUSE = 10.0

_TROUBLES = {
    "unavailable": (
        signals.cache_unavailable,
        "the server of the cache {name!r} does not answer; {count} calls were misses",
    ),
    "tampered": (
        signals.value_rejected,
        "{count} values under keys of the cache {name!r} are none of ours, and count as misses",
    ),
    "refused": (
        None,
        "{count} values for the cache {name!r} were too large or looked like secrets: not stored",
    ),
}


class Reporter:
    """Tells of one cache's troubles. Threads may share it.

    Args:
        name: the cache's.
        clock: seconds that only grow.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._untold = dict.fromkeys(_TROUBLES, 0)
        self._quiet_until = dict.fromkeys(_TROUBLES, -1e18)

    def note(self, trouble: str, amount: int) -> None:
        """Count a trouble, and tell of it unless that was done a moment ago."""
        with self._lock:
            self._untold[trouble] += amount
            now = self._clock()
            if now < self._quiet_until[trouble]:
                return
            self._quiet_until[trouble] = now + _PAUSE
            count, self._untold[trouble] = self._untold[trouble], 0
        signal, text = _TROUBLES[trouble]
        logger.warning("%s", text.format(name=self.name, count=count))
        if signal is not None:
            from tenantkv.contrib.django.backend import TenantCache

            # Robust, as nobody's receiver is to break a page.
            signal.send_robust(sender=TenantCache, name=self.name, count=count)


class ReportedStats(CacheStats):
    """Counters that tell a `Reporter` of troubles, and cost nothing where there is none."""

    __slots__ = ("_reporter",)

    def __init__(self, reporter: Reporter) -> None:
        super().__init__()
        self._reporter = reporter

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a counter."""
        super().count(name, amount)
        if name in _TROUBLES:
            self._reporter.note(name, amount)
