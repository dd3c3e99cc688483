"""The beginning of a key's value, of whatever type, without reading more than was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tenantkv.ops.effects import Batch, Command, Operation

# Elements in one round trip.
_PAGE = 100
_SIZES = {"hash": "HLEN", "list": "LLEN", "set": "SCARD", "zset": "ZCARD", "stream": "XLEN"}


@dataclass(frozen=True, slots=True)
class Contents:
    """What a key holds.

    Attributes:
        type: as TYPE says; ``none`` if there is no such key.
        ttl: seconds left; ``None`` for an immortal key.
        size: how many elements; 1 for a string.
        rows: one for each element that was read: the string; field and value; the element; the member;
            member and score; id and the fields and values of an entry.
    """

    type: str
    ttl: float | None
    size: int
    rows: Sequence[tuple[bytes, ...]]


def read(name: bytes, most: int) -> Operation[Contents]:
    """Read a string, or elements of a collection, in pages of a hundred.

    Args:
        name: own name.
        most: elements at the most; 0 for all.
    """
    kind, ttl = yield Batch([("TYPE", name), ("PTTL", name)])
    for reply in (kind, ttl):
        if isinstance(reply, Exception):
            raise reply
    word = kind.decode("ascii", "replace")
    left = ttl / 1000 if ttl >= 0 else None
    if word == "string":
        value = yield Command(("GET", name))
        return Contents(word, left, 1, [] if value is None else [(value,)])
    if word not in _SIZES:
        return Contents(word, left, 0, [])
    size = yield Command((_SIZES[word], name))
    rows = yield from _READERS[word](name, min(most or size, size))
    return Contents(word, left, size, rows)


def _scanned(command: str, step: int) -> Any:
    def scanned(name: bytes, most: int) -> Operation[list[tuple[bytes, ...]]]:
        found: dict[tuple[bytes, ...], None] = {}
        cursor = b"0"
        while len(found) < most:
            cursor, page = yield Command((command, name, cursor, "COUNT", _PAGE))
            found.update((tuple(page[at : at + step]), None) for at in range(0, len(page), step))
            if cursor == b"0":
                break
        return list(found)[:most]

    return scanned


def _list(name: bytes, most: int) -> Operation[list[tuple[bytes, ...]]]:
    found: list[tuple[bytes, ...]] = []
    while len(found) < most:
        last = min(len(found) + _PAGE, most) - 1
        page = yield Command(("LRANGE", name, len(found), last))
        if not page:
            break
        found += [(each,) for each in page]
    return found


def _zset(name: bytes, most: int) -> Operation[list[tuple[bytes, ...]]]:
    found: list[tuple[bytes, ...]] = []
    while len(found) < most:
        last = min(len(found) + _PAGE, most) - 1
        page = yield Command(("ZRANGE", name, len(found), last, "WITHSCORES"))
        if not page:
            break
        found += list(zip(page[::2], page[1::2], strict=True))
    return found


def _stream(name: bytes, most: int) -> Operation[list[tuple[bytes, ...]]]:
    found: list[tuple[bytes, ...]] = []
    start = b"-"
    while len(found) < most:
        page = yield Command(("XRANGE", name, start, "+", "COUNT", min(_PAGE, most - len(found))))
        if not page:
            break
        found += [(entry, *parts) for entry, parts in page]
        start = b"(" + page[-1][0]
    return found


_READERS: dict[str, Any] = {
    "hash": _scanned("HSCAN", 2),
    "list": _list,
    "set": _scanned("SSCAN", 1),
    "zset": _zset,
    "stream": _stream,
}

__all__ = ["Contents", "read"]
