"""What was dropped because it was not ours or not fresh: a counter, and a log line that shows nothing of it.

Whoever can write to the server can make us drop as much as he likes, so the log is told of the first drop
of a kind, the second, the fourth, the eighth ...
"""

from __future__ import annotations

import logging
import threading
from collections import Counter

logger = logging.getLogger("tenantkv.contrib.celery")

#: What may happen to a message, and how the log puts it.
REASONS = {
    "forged": "did not open: forged, changed, moved, foreign or of a retired key",
    "replayed": "had been delivered before",
    "stale": "were too old or out of time",
    "lost": "are gone from the server: evicted, deleted or taken by somebody else",
    "rebuilt": "of our own structures had been lost and were put back",
    "wrong type": "stood where somebody had put a key of another type, which was removed",
}

_counts: Counter[str] = Counter()
_lock = threading.Lock()


def note(reason: str, number: int = 1) -> None:
    """Count something that was dropped, lost or put right, and tell the log now and then."""
    with _lock:
        before = _counts[reason]
        after = _counts[reason] = before + number
    if after.bit_length() > before.bit_length():
        logger.warning("%d messages or entries %s", after, REASONS[reason])


def counters() -> dict[str, int]:
    """Return how often what happened in this process, by the words of `REASONS`."""
    with _lock:
        return dict(_counts)


def after_fork() -> None:
    """Start with a lock of one's own in the child of a fork."""
    global _lock  # noqa: PLW0603 - the parent's may be held by a thread that the child does not have
    _lock = threading.Lock()
