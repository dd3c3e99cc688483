"""One entry of a cache: the body inside its envelope, and what a reader may do with it.

Format 1; every integer is big-endian::

    0      1        format
    1      flags    bit 0: negative (there is nothing to cache, and that is what is cached)
                    bit 1: the value was a `Secret`
    2-17   the cache's stamp, 16 bytes
    18-25  fresh until, milliseconds since 1970; 2**63 - 1: for ever
    26-33  until when it may be served at all (stale, while somebody computes it anew)
    34-37  how long it took to compute, milliseconds
    38     number of tags
    then   for each tag: its length (2 bytes), its text, its stamp (16 bytes)
    then   the payload, as `cache.values` encodes it

Laws of this file: pure; it is given only what came out of an envelope, so that nothing here decides
whether a stranger may be trusted. An entry counts only under the very stamps that it carries.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

FOREVER_MS = 2**63 - 1
STAMP_BYTES = 16
MOST_TAGS = 255

_FORMAT = 1
_NEGATIVE, _SECRET = 1, 2
_HEAD = struct.Struct(">BB16sqqIB")
_TAG = struct.Struct(">H")
_read_head = _HEAD.unpack_from
HEAD_BYTES = _HEAD.size
_NO_TAGS: tuple[tuple[bytes, bytes], ...] = ()


class Entry:
    """An entry that opened.

    Attributes:
        stamp: the cache's, when the entry was made.
        tags: each tag with its stamp, when the entry was made.
        fresh_ms: until when it is fresh.
        until_ms: until when it may be served at all.
        delta_ms: how long it took to compute.
        payload: the encoded value.
    """

    __slots__ = ("delta_ms", "flags", "fresh_ms", "payload", "stamp", "tags", "until_ms")

    def __init__(
        self,
        payload: bytes,
        *,
        stamp: bytes,
        fresh_ms: int,
        until_ms: int,
        delta_ms: int = 0,
        tags: Sequence[tuple[bytes, bytes]] = (),
        is_negative: bool = False,
        is_secret: bool = False,
    ) -> None:
        self.payload = payload
        self.stamp = stamp
        self.fresh_ms = fresh_ms
        self.until_ms = until_ms
        self.delta_ms = delta_ms
        self.tags = tuple(tags)
        self.flags = _NEGATIVE * is_negative | _SECRET * is_secret

    @property
    def is_negative(self) -> bool:
        """Whether what is cached is that there is nothing."""
        return bool(self.flags & _NEGATIVE)

    @property
    def is_secret(self) -> bool:
        """Whether the value was given as a `Secret`."""
        return bool(self.flags & _SECRET)

    def pack(self) -> bytes:
        """Return the body for an envelope."""
        head = _HEAD.pack(
            _FORMAT,
            self.flags,
            self.stamp,
            self.fresh_ms,
            self.until_ms,
            min(self.delta_ms, 2**32 - 1),
            len(self.tags),
        )
        tags = b"".join(_TAG.pack(len(tag)) + tag + stamp for tag, stamp in self.tags)
        return b"".join((head, tags, self.payload))


def pack_plain(payload: bytes, stamp: bytes, fresh_ms: int, until_ms: int) -> bytes:
    """Return the body of the usual entry: that of `Entry.pack` for one without tags and flags."""
    return _HEAD.pack(_FORMAT, 0, stamp, fresh_ms, until_ms, 0, 0) + payload


def unpack(body: bytes) -> Entry | None:
    """Return the entry in the body of an envelope that opened, or ``None`` if it is none of this format."""
    if len(body) < HEAD_BYTES:
        return None
    number, flags, stamp, fresh, until, delta, count = _read_head(body)
    if number != _FORMAT:
        return None
    entry = Entry.__new__(Entry)
    entry.flags = flags
    entry.stamp = stamp
    entry.fresh_ms = fresh
    entry.until_ms = until
    entry.delta_ms = delta
    if count:
        tags, at = _read_tags(body, count)
        entry.tags = tags
        entry.payload = body[at:]
    else:
        entry.tags = _NO_TAGS
        entry.payload = body[HEAD_BYTES:]
    return entry


def read_plain(body: bytes, stamp: bytes, now_ms: int) -> tuple[bytes, int, int] | None:
    """Return payload, `fresh_ms` and `delta_ms` of the usual entry: fresh, under that stamp, without
    tags and flags.

    ``None`` says only that `unpack` has to look: it is what a hit need not pay for.
    """
    if len(body) > HEAD_BYTES:
        number, flags, own, fresh, _, delta, count = _read_head(body)
        if number == _FORMAT and own == stamp and now_ms < fresh and not flags and not count:
            return body[HEAD_BYTES:], fresh, delta
    return None


def read_plain_each(bodies: Iterable[bytes | None], stamp: bytes, now_ms: int) -> Iterator[bytes | None]:
    """Yield the payload that `read_plain` finds in each, or ``None``."""
    for body in bodies:
        payload = None
        if body is not None and len(body) > HEAD_BYTES:
            number, flags, own, fresh, _, _, count = _read_head(body)
            if number == _FORMAT and own == stamp and now_ms < fresh and not flags and not count:
                payload = body[HEAD_BYTES:]
        yield payload


def _read_tags(body: bytes, count: int) -> tuple[tuple[tuple[bytes, bytes], ...], int]:
    tags: list[tuple[bytes, bytes]] = []
    at = HEAD_BYTES
    for _ in range(count):
        (length,) = _TAG.unpack_from(body, at)
        at += 2
        tags.append((body[at : at + length], body[at + length : at + length + STAMP_BYTES]))
        at += length + STAMP_BYTES
    return tuple(tags), at


class Lifetime(NamedTuple):
    """How long an entry lives.

    Attributes:
        ttl: seconds for which it is fresh; ``inf`` for ever.
        stale: seconds more for which it may be served while somebody computes it anew.
    """

    ttl: float
    stale: float = 0.0

    def moments(self, now: float) -> tuple[int, int]:
        """Return until when it is fresh, and until when it may be served, in milliseconds since 1970."""
        if math.isinf(self.ttl):
            return FOREVER_MS, FOREVER_MS
        fresh = int((now + self.ttl) * 1000)
        return fresh, fresh + int(self.stale * 1000)


def server_ttl_ms(until_ms: int, now: float) -> int | None:
    """Return the TTL that the server is to give, or ``None`` for none; at least a millisecond."""
    return None if until_ms == FOREVER_MS else max(1, until_ms - int(now * 1000))


def should_refresh_early(fresh_ms: int, delta_ms: int, now: float, beta: float, uniform: float) -> bool:
    """Say whether this reader should compute a fresh entry anew, so that not all do when it expires.

    "Optimal Probabilistic Cache Stampede Prevention" (Vattani, Chierichetti, Lowenstein, 2015): the
    longer it took to compute, and the closer its end, the likelier.

    Args:
        fresh_ms: until when the entry is fresh.
        delta_ms: how long it took to compute.
        now: seconds since 1970.
        beta: 1 as in the paper, more is earlier, 0 is never.
        uniform: a random number, above 0 and at most 1.
    """
    if not delta_ms or not beta or fresh_ms == FOREVER_MS:
        return False
    return now * 1000 - delta_ms * beta * math.log(uniform) >= fresh_ms
