"""The stream on which writers tell near caches what has changed, where the server does not.

Laws of this file:

1. A reader asks for everything from the last entry that it has seen, that one included. If it is not there
   any more, something may have been trimmed, evicted or replaced unseen: a gap, and all is forgotten.
2. What stands in the stream is not believed to be ours: a forged entry can make a reader forget, and
   nothing else. An entry that a neighbour deletes is missed, so nobody keeps anything for long.
"""

from __future__ import annotations

from typing import Any

from tenantkv.ops.effects import Batch, Operation

_LIFE_MS = 86_400_000
_PAGE = 1000


def anchor(news: bytes) -> Operation[bytes]:
    """Return the id of the stream's last entry, and add one where there is none. Up to three round trips.

    Raises:
        redis.exceptions.ResponseError: the server cannot tell: it is loading, or its Cluster is down.
    """
    for _ in range(2):
        last, _ = yield Batch([("XREVRANGE", news, "+", "-", "COUNT", 1), ("PEXPIRE", news, _LIFE_MS)])
        if isinstance(last, Exception):
            _refuse_all_but_another_type(last)
            yield Batch([("UNLINK", news)])
        elif last:
            return bytes(last[0][0])
        yield Batch([("XADD", news, "MAXLEN", "~", _PAGE, "*", b"b", b"1"), ("PEXPIRE", news, _LIFE_MS)])
    last, _ = yield Batch([("XREVRANGE", news, "+", "-", "COUNT", 1), ("PEXPIRE", news, _LIFE_MS)])
    return bytes(last[0][0]) if isinstance(last, list) and last else b"0-1"


def follow(news: bytes, last: bytes, block_ms: int) -> Operation[tuple[bytes, list[bytes] | None]]:
    """Wait for news, and return the id seen last and the names that changed, or ``None`` for a gap.

    Two round trips, the first of which waits.

    Args:
        news: the stream's own name.
        last: the id seen last.
        block_ms: how long to wait at the most.

    Raises:
        redis.exceptions.ResponseError: see `anchor`.
    """
    yield Batch([("XREAD", "COUNT", 1, "BLOCK", block_ms, "STREAMS", news, last)])
    (entries,) = yield Batch([("XRANGE", news, last, "+", "COUNT", _PAGE)])
    if isinstance(entries, Exception):
        _refuse_all_but_another_type(entries)
    if not isinstance(entries, list) or not entries or entries[0][0] != last:
        return (yield from anchor(news)), None
    names: list[bytes] = []
    for number, fields in entries[1:]:
        last = bytes(number)
        names += _names_in(fields)
    return last, names


def _refuse_all_but_another_type(error: Exception) -> None:
    """Raise what says that the server cannot tell; a key of another type is not ours."""
    if not str(error).startswith("WRONGTYPE"):
        raise error


def _names_in(fields: Any) -> list[bytes]:
    if not isinstance(fields, list):
        return []
    pairs = zip(fields[::2], fields[1::2], strict=False)
    return [name for kind, name in pairs if kind == b"k" and isinstance(name, bytes)]
