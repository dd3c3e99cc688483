"""What stands in front of an envelope, and what binds it to its place; `envelope` has the format.

Pure. The header is in clear and anybody can write one, so what reads it alone says ``_unverified``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from tenantkv.errors import ConfigurationError
from tenantkv.keyring import Key
from tenantkv.suites import CODES, HEADER_BYTES, NAMES, OVERHEADS, Suite, SuiteName

# What a value is part of. A value of one kind does not open as another.
Kind = Literal[
    "cache",
    "celery",
    "chan",
    "hash",
    "hfield",
    "kv",
    "list",
    "lock",
    "queue",
    "registry",
    "session",
    "set",
    "stream",
    "zset",
]
KINDS: tuple[Kind, ...] = get_args(Kind)

# Kind, name and field.
Place = tuple[Kind, bytes, bytes]

MAGIC = 0xC1

COMPRESSED = 1
EXPIRES = 2
_KNOWN_FLAGS = COMPRESSED | EXPIRES
_LENGTH = struct.Struct("<Q").pack
_NO_FIELD = _LENGTH(0)


def pae(*pieces: bytes) -> bytes:
    """Return the pre-authentication encoding of `pieces`: no other list of pieces gives the same."""
    return _LENGTH(len(pieces)) + b"".join(_LENGTH(len(piece)) + piece for piece in pieces)


class Header(NamedTuple):
    """What an envelope says of itself in clear.

    Attributes:
        suite: how it is protected.
        is_compressed: whether the payload was compressed.
        expires: whether it has an expiry.
        key_id: eight hexadecimal digits.
    """

    suite: SuiteName
    is_compressed: bool
    expires: bool
    key_id: str


def read_header_unverified(blob: bytes) -> Header | None:
    """Return what `blob` claims to be, or ``None`` if it cannot be an envelope.

    Anybody can write a header. Decide nothing by it but where to look for a key, or what to tell.
    """
    if len(blob) < HEADER_BYTES or blob[0] != MAGIC:
        return None
    suite, flags = NAMES.get(blob[1]), blob[2]
    if suite is None or flags & ~_KNOWN_FLAGS or len(blob) < HEADER_BYTES + OVERHEADS[suite]:
        return None
    # A member's envelope is the same for the same member, so it neither expires nor is compressed.
    if suite == "siv" and flags:
        return None
    return Header(suite, bool(flags & COMPRESSED), bool(flags & EXPIRES), blob[3:7].hex())


def is_envelope_unverified(blob: bytes) -> bool:
    """Say whether `blob` looks like an envelope. Anybody can make one that looks so."""
    return read_header_unverified(blob) is not None


class Form:
    """One header that the keyring admits, with what it takes to seal and open under it."""

    __slots__ = ("flags", "header", "heads", "shortest", "suite")

    def __init__(self, name: SuiteName, flags: int, key: Key, suite: Suite) -> None:
        self.flags = flags
        self.suite = suite
        self.header = bytes((MAGIC, CODES[name], flags)) + bytes.fromhex(key.id)
        self.shortest = HEADER_BYTES + OVERHEADS[name]
        # The associated data up to the name is the same for each kind, and is made once.
        four = _LENGTH(4)
        self.heads = {kind: four + pae(self.header, kind.encode())[8:] for kind in KINDS}

    def associate(self, kind: Kind, name: bytes, field: bytes) -> bytes:
        """Return ``pae(header, kind, name, field)``."""
        head = self.heads.get(kind)
        if head is None or type(name) is not bytes or type(field) is not bytes:
            name, field = _check_place(kind, name, field)
            head = self.heads[kind]
        if field:
            return head + _LENGTH(len(name)) + name + _LENGTH(len(field)) + field
        return head + _LENGTH(len(name)) + name + _NO_FIELD

    def associate_many(self, kind: Kind, name: bytes, fields: Sequence[bytes]) -> list[bytes]:
        """Return what `associate` returns for each field."""
        head = self.associate(kind, name, b"")[: -len(_NO_FIELD)]
        if any(type(field) is not bytes for field in fields):
            return [self.associate(kind, name, field) for field in fields]
        lengths = {length: head + _LENGTH(length) for length in set(map(len, fields))}
        return [lengths[len(field)] + field for field in fields]

    def associate_names(self, kind: Kind, names: Sequence[bytes]) -> list[bytes]:
        """Return what `associate` returns for each name, without a field."""
        if kind not in KINDS or any(type(name) is not bytes for name in names):
            return [self.associate(kind, name, b"") for name in names]
        head = self.heads[kind]
        lengths = {length: head + _LENGTH(length) for length in set(map(len, names))}
        return [b"%b%b%b" % (lengths[len(name)], name, _NO_FIELD) for name in names]


def _check_place(kind: Kind, name: object, field: object) -> tuple[bytes, bytes]:
    if kind not in KINDS:
        raise ConfigurationError(f"a kind is one of {', '.join(KINDS)}")
    return _check_bytes("name", name), _check_bytes("field", field)


def _check_bytes(what: str, given: object) -> bytes:
    # Not memoryviews: their length need not be in bytes.
    if not isinstance(given, (bytes, bytearray)):
        raise ConfigurationError(f"the {what} of a sealed value is bytes, not {type(given).__name__}")
    return bytes(given)
