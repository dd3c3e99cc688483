"""The strings of old pickles, by their lengths.

Pickle 2 and 3 put letters behind a string (``q`` and an index, to remember it by), which would be taken
for its end. Nothing is unpickled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_PROTOCOLS = (b"\x80\x02", b"\x80\x03")
_STRING = re.compile(rb"[XBT](..)\x00\x00|[CU](.)", re.DOTALL)
_MOST_STRINGS = 4000


def is_old_pickle(data: bytes) -> bool:
    """Tell whether a value begins as pickle 2 or 3 does."""
    return data[:2] in _PROTOCOLS


def strings(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each string begins and ends; never overlapping, and no more than the value has."""
    position = 2
    for _ in range(_MOST_STRINGS):
        match = _STRING.search(data, position)
        if match is None:
            return
        size = int.from_bytes(match[1] or match[2], "little")
        position = match.end() + size
        # A letter that only looks like a string's beginning.
        if position >= len(data):
            position = match.start() + 1
            continue
        yield match.end(), position


def separated(data: bytes) -> bytes:
    """Return an old pickle's strings a line each."""
    return b"\n".join([data[begin:end] for begin, end in strings(data)])
