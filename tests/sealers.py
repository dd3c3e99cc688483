"""A sealer that anybody can read, to see what is sealed as what."""

from __future__ import annotations

import itertools

from tenantkv.errors import TenantKVError


class NotOpenedError(TenantKVError):
    """A blob that is none, or that belongs elsewhere."""


class TaggingSealer:
    """Seals ``v`` as ``<kind|name|field|3|v>``, with a number that never comes again; members with ``=``."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def seal(self, value: bytes, *, kind: str, name: bytes, field: bytes = b"") -> bytes:
        return self._start(kind, name, field) + b"%d|%b>" % (next(self._numbers), value)

    def seal_member(self, value: bytes, *, kind: str, name: bytes) -> bytes:
        return self._start(kind, name, b"") + b"=|%b>" % value

    def open(self, blob: bytes, *, kind: str, name: bytes, field: bytes = b"") -> bytes:
        start = self._start(kind, name, field)
        if not blob.startswith(start) or not blob.endswith(b">"):
            raise NotOpenedError(f"{blob!r} is not at {start!r}")
        return blob[len(start) : -1].partition(b"|")[2]

    @staticmethod
    def _start(kind: str, name: bytes, field: bytes) -> bytes:
        return b"<%b|%b|%b|" % (kind.encode(), name, field)


def flip(blob: bytes) -> bytes:
    """Return an envelope with one bit changed: another last byte may be the one that was there."""
    return blob[:-1] + bytes([blob[-1] ^ 1])
