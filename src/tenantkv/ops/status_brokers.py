"""Looking at what Celery and Channels keep in a namespace, without changing it.

Neither is imported: their plug-ins say under which names messages wait (`contrib/celery/claims.py`,
`contrib/channels.py`), and the operations here ask about these names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tenantkv.ops.effects import Batch, Command, Operation
from tenantkv.ops.scripts import script
from tenantkv.ops.status_look import Look

_WAITING = script("status_waiting", repeatable=True)
#: Queues, and names of an index, of which there may be more only if somebody has planted them.
MOST = 1000
_PAGE = 200
_AT_ONCE = 50
# A message above this size is not fetched, and its age not known.
_LARGEST_BYTES = 65_536

#: Where the oldest message of a list stands.
FIRST, LAST = 0, -1


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in some lists.

    Attributes:
        depth: how many messages.
        oldest: of each list the oldest one, as it is stored; empty if there is none, or it is large.
    """

    depth: int
    oldest: tuple[bytes, ...]


def waiting(lists: Sequence[Sequence[str | bytes]], oldest: int) -> Operation[tuple[Waiting, ...]]:
    """Look at groups of lists. One round trip for each fifty.

    Args:
        lists: own names, one group for each queue.
        oldest: `FIRST` or `LAST`.
    """
    found: list[Waiting] = []
    for start in range(0, len(lists), _AT_ONCE):
        calls = [Look(_WAITING, names, (oldest, _LARGEST_BYTES)) for names in lists[start : start + _AT_ONCE]]
        for reply in (yield Batch(calls)):
            if isinstance(reply, Exception):
                raise reply
            depth, blobs = reply
            found.append(Waiting(int(depth), tuple(blobs)))
    return tuple(found)


def ledger(key: str) -> Operation[Mapping[str, int]]:
    """Return how many messages each queue should hold. One round trip, usually.

    Args:
        key: own name of the hash.
    """
    found: dict[str, int] = {}
    cursor: Any = b"0"
    for _ in range(MOST // _PAGE):
        # Sent back as nothing where somebody put another type in the hash's place.
        reply = yield Command(("HSCAN", key, cursor, "COUNT", _PAGE), absent_ok=True)
        if reply is None:
            break
        cursor, flat = reply
        for name, count in zip(flat[::2], flat[1::2], strict=True):
            if count.lstrip(b"-").isdigit() and len(count) < 16 and len(found) < MOST:
                found[name.decode("utf-8", "surrogateescape")] = int(count)
        if cursor == b"0":
            break
    return found


def claims(unacked: str, index: str, lapsed_before: float) -> Operation[tuple[int, int]]:
    """Return how many messages workers hold, and for how many of them nobody gives a sign of life.

    One round trip.

    Args:
        unacked: own name of the hash of claims.
        index: own name of the sorted set that says when each was last alive.
        lapsed_before: Unix seconds.
    """
    replies = yield Batch([("HLEN", unacked), ("ZCOUNT", index, "-inf", lapsed_before)])
    held, lapsed = (reply if isinstance(reply, int) else 0 for reply in replies)
    return held, lapsed


def index(key: bytes, start: bytes, now: float) -> Operation[list[bytes]]:
    """Return the names in an index that begin with `start` and have not expired. One round trip.

    Args:
        key: own name of the index, a sorted set scored by the time at which a name may go.
        start: what the names begin with.
        now: Unix seconds.
    """
    words = ("ZRANGEBYSCORE", key, now, "+inf", "LIMIT", 0, 4 * MOST)
    names = yield Command(words, absent_ok=True)
    return [name for name in names or () if name.startswith(start)][:MOST]
