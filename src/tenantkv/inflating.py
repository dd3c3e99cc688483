"""Inflating within bounds: what was compressed may be a thousand times as long as it looks."""

from __future__ import annotations

import zlib


def inflate(data: bytes, largest: int) -> bytes | None:
    """Return the inflated data; ``None`` if it is none, or longer than `largest` bytes."""
    inflater = zlib.decompressobj()
    try:
        payload = inflater.decompress(data, largest + 1)
    except zlib.error:
        return None
    is_whole = inflater.eof and not inflater.unused_data
    return payload if is_whole and len(payload) <= largest else None
