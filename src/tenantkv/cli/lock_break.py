"""Ending a lease that is not one's own: exactly the one that was looked at, and waking who waits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tenantkv.namespace import Namespace
from tenantkv.ops.directory import Entry
from tenantkv.ops.effects import Batch, Call, Operation
from tenantkv.ops.lock_places import Exclusive, Writing
from tenantkv.ops.status_look import fingerprint, keys_of

# How releases are marked so that a repeated one is known. The holder's is another one, so it is told.
_MARK = b"!broken!"
_WAKE_MS = 5000


def end_lease(namespace: Namespace, entry: Entry, holder: str) -> Operation[bool]:
    """End what holds a lock, read/write lock or semaphore; whether something was ended.

    Two round trips for each of the forms under which it may stand. A lock is left alone if another lease than
    the one that was looked at has it by now.

    Args:
        namespace: whose it is.
        entry: which.
        holder: of a lock and of a writer, the `fingerprint` of the lease that is meant; empty for whatever
            stands there.
    """
    ended = False
    for key in dict.fromkeys(keys_of(namespace, entry)):
        if entry.primitive != "semaphore":
            ended = (yield from _end_exclusive(entry, key, holder)) or ended
        if entry.primitive != "lock" and not holder:
            shared = key if entry.primitive == "semaphore" else key + b":readers"
            replies = yield Batch([("UNLINK", shared)])
            if replies[0] == 1:
                ended = True
                yield Batch(list(_waking(key + b":wake")))
    return ended


def _end_exclusive(entry: Entry, key: bytes, holder: str) -> Operation[bool]:
    replies = yield Batch([("GETRANGE", key, 0, 63), ("PTTL", key)])
    value, ttl = replies
    is_lease = isinstance(value, bytes) and isinstance(ttl, int) and ttl > 0
    if value == b"" or (holder and not (is_lease and fingerprint(value.rstrip(b"+")) == holder)):
        return False
    if not is_lease:
        # Another type, or without a TTL: no lease of ours, which nobody renews.
        removed = yield Batch([("UNLINK", key)])
        return bool(removed[0] == 1)
    place = Exclusive(key) if entry.primitive == "lock" else Writing(key)
    token = value.rstrip(b"+")
    release = place.release(token, 0)
    outcome = yield Call(release.script, release.keys, (token, _MARK))
    return bool(outcome)


def _waking(wake: bytes) -> Iterator[Any]:
    yield ("UNLINK", wake)
    yield ("LPUSH", wake, 1)
    yield ("PEXPIRE", wake, _WAKE_MS)
