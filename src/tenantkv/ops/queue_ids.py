"""Message ids, and what stands in front of a message's value inside its envelope.

An id tells what the scripts must know of a message, so that they need not look into it, and the envelope
is bound to the id, so that nobody can change that::

    P RRRRRRRRRRRR NNNN [~ expiry] [@ group]
    | |            |       |         16 characters that hide the group's name
    | |            |       when it stops being worth delivering, in ms since 1970
    | |            place within one request: the ids of a request are in its order
    | 72 random bits in URL-safe base64, the request's
    priority, 9 to 0

The value's head, little-endian: flags (1 byte; bit 0: somebody waits for a result), time of sending in ms
since 1970 (8 bytes); the codec's bytes follow.

Pure: randomness and the clock come in as arguments.
"""

from __future__ import annotations

import binascii
import struct
from typing import NamedTuple

PLAIN_LENGTH = 17
RANDOM_BYTES = 9
MOST_IDS = 10_000
HIGHEST_PRIORITY = 9
DEFAULT_PRIORITY = 4

_HEAD = struct.Struct("<BQ")
HEAD_BYTES = _HEAD.size
_REPLY = 1
_URLSAFE = bytes.maketrans(b"+/", b"-_")
_GROUP_CHARACTERS = 16


def make_ids(entropy: bytes, count: int, priority: int) -> list[bytes]:
    """Return the plain ids of one request's messages, in order.

    Args:
        entropy: `RANDOM_BYTES`, fresh.
        count: at most `MOST_IDS`.
        priority: 9 to 0.
    """
    start = b"%d%b" % (priority, binascii.b2a_base64(entropy, newline=False).translate(_URLSAFE))
    return [b"%b%04d" % (start, at) for at in range(count)]


def extend_id(plain: bytes, *, expires_ms: int | None, group: bytes | None) -> bytes:
    """Return an id that tells an expiry and a group too.

    Args:
        plain: from `make_ids`.
        expires_ms: since 1970.
        group: the group's hidden name, of 24 characters; 16 of them are used.
    """
    if expires_ms is not None:
        plain = b"%b~%d" % (plain, expires_ms)
    if group is not None:
        plain = b"%b@%b" % (plain, group[:_GROUP_CHARACTERS])
    return plain


class Head(NamedTuple):
    """What stands in front of a message's value."""

    wants_reply: bool
    sent_ms: int


def pack_head(sent_ms: int, *, wants_reply: bool) -> bytes:
    """Return the head of a value."""
    return _HEAD.pack(_REPLY if wants_reply else 0, sent_ms)


def unpack_head(body: bytes) -> Head | None:
    """Return the head of an authentic body; ``None`` if it is of a newer format."""
    if len(body) <= HEAD_BYTES:
        return None
    flags, sent_ms = _HEAD.unpack_from(body)
    return None if flags & ~_REPLY else Head(bool(flags & _REPLY), sent_ms)


def priority_of(message_id: bytes) -> int:
    """Return the priority that an id tells."""
    return message_id[0] - 48
