"""What a cache counts, for people and for monitoring."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Any

#: Upper bounds of the buckets of the read latency, in seconds; the last bucket has none.
LATENCY_BUCKETS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5)

COUNTERS = {
    "hits": "reads that the server answered with a value",
    "near_hits": "reads that this process answered by itself",
    "misses": "reads that found nothing",
    "stale_hits": "reads answered with a value past its TTL, while somebody computed it anew",
    "outage_hits": "reads answered from the near cache while the server was away",
    "computed": "values that this process computed",
    "early": "of these, before the old value had expired",
    "waited": "reads that waited until somebody else had computed the value",
    "failed_refreshes": "computations that failed while an older value was at hand, which was served",
    "superseded": "computed values that were not stored, as the entry was written or deleted meanwhile",
    "written": "entries written",
    "deleted": "entries deleted",
    "tampered": "values and stamps that did not open or could not be read: a miss each",
    "refused": "values that were too large or looked like a secret, and were not stored",
    "unavailable": "calls that the server did not answer",
    "bytes_read": "bytes of values read from the server",
    "bytes_written": "bytes of values sent to the server",
}


class CacheStats:
    """Counters of one cache in this process. Threads that count at the same time may lose one.

    Args:
        on_event: called with a counter's name and an amount at each count, such as to feed a metric;
            what it raises reaches the caller.
    """

    __slots__ = (*COUNTERS, "latency", "latency_sum", "on_event")

    hits: int
    near_hits: int
    bytes_read: int
    written: int
    bytes_written: int

    def __init__(self, on_event: Callable[[str, int], None] | None = None) -> None:
        for name in COUNTERS:
            setattr(self, name, 0)
        self.on_event = on_event
        #: How many reads took how long; one more bucket than there are bounds.
        self.latency = [0] * (len(LATENCY_BUCKETS) + 1)
        self.latency_sum = 0.0

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a counter."""
        setattr(self, name, getattr(self, name) + amount)
        if self.on_event is not None:
            self.on_event(name, amount)

    def took(self, seconds: float) -> None:
        """Note how long a read took."""
        self.latency[bisect_left(LATENCY_BUCKETS, seconds)] += 1
        self.latency_sum += seconds

    def wrote(self, entries: int, size: int) -> None:
        """Note entries written, of `size` bytes in all."""
        if self.on_event is None:
            self.written += entries
            self.bytes_written += size
        else:
            self.count("written", entries)
            self.count("bytes_written", size)

    def snapshot(self) -> dict[str, Any]:
        """Return all counters, ``hit_rate`` (``None`` before the first read) and the read latency."""
        found: dict[str, Any] = {name: getattr(self, name) for name in COUNTERS}
        served = found["hits"] + found["near_hits"] + found["stale_hits"] + found["outage_hits"]
        reads = served + found["misses"]
        found["hit_rate"] = served / reads if reads else None
        found["latency"] = dict(zip((*LATENCY_BUCKETS, float("inf")), self.latency, strict=True))
        found["latency_sum"] = self.latency_sum
        return found

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)}" for name in COUNTERS if getattr(self, name))
        return f"CacheStats({shown})"
