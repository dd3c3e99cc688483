"""Entries into envelopes and out of them: nothing of a cache is believed that does not open.

A cache that signs (the usual) leaves its values readable to everybody and vouches for them; one that
seals shows nothing. In both, a `Secret` is sealed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tenantkv.envelope_header import Kind
from tenantkv.errors import OpenError
from tenantkv.ops.cache_entry import Entry, unpack
from tenantkv.suites import CODES

_SIGNED = bytes([CODES["sign"]])


class EntrySealer(Protocol):
    """Seals and opens single values; a `LiveSealer`, mostly."""

    def seal(self, value: bytes, *, kind: Kind, name: bytes, compress: bool | None = None) -> bytes:
        """Return a value in an envelope."""
        ...

    def open(self, blob: bytes, *, kind: Kind, name: bytes) -> bytes:
        """Return the value, or raise `OpenError`."""
        ...

    def open_usual(self, blob: bytes, kind: Kind, name: bytes) -> bytes | None:
        """Return the value, or ``None`` where `open` has to look."""
        ...


class Vault:
    """Seals and opens one cache's entries.

    Args:
        signer: signs values, or ``None`` in a cache that seals all: there a signed one does not open.
        sealer: seals values.
        compress_from: payloads of that many bytes are compressed, if that makes them smaller; never
            those of a `Secret`. ``None`` compresses nothing.
    """

    __slots__ = ("_compress_from", "_sealer", "_signer", "tampered")

    def __init__(
        self, signer: EntrySealer | None, sealer: EntrySealer, *, compress_from: int | None = None
    ) -> None:
        self._signer = signer
        self._sealer = sealer
        self._compress_from = compress_from
        #: How many entries did not open, or opened and were none.
        self.tampered = 0

    @property
    def seals(self) -> bool:
        """Whether every value is sealed."""
        return self._signer is None

    def seal_plain(self, name: bytes, body: bytes, size: int) -> bytes:
        """Return the body of an entry that is no `Secret` in its envelope; `size` is its payload's."""
        least = self._compress_from
        way = self._signer or self._sealer
        return way.seal(body, kind="cache", name=name, compress=least is not None and size >= least)

    def seal(self, name: bytes, entry: Entry) -> bytes:
        """Return an entry in its envelope, bound to the name of its key."""
        is_secret = entry.is_secret
        way = self._sealer if is_secret or self._signer is None else self._signer
        least = self._compress_from
        compress = least is not None and not is_secret and len(entry.payload) >= least
        return way.seal(entry.pack(), kind="cache", name=name, compress=compress)

    def open(self, name: bytes, blob: bytes | None) -> bytes | None:
        """Return the body of an entry's envelope, or ``None`` if there is none that opens."""
        if blob is None:
            return None
        way = self._sealer
        if self._signer is not None and blob[1:2] == _SIGNED:
            way = self._signer
        try:
            return way.open(blob, kind="cache", name=name)
        except OpenError:
            self.tampered += 1
            return None

    @property
    def opener(self) -> Callable[[bytes, Kind, bytes], bytes | None]:
        """What opens a usual entry of kind ``cache``, and gives ``None`` where `open` has to look."""
        return (self._signer or self._sealer).open_usual

    def read(self, body: bytes | None) -> Entry | None:
        """Return the entry in a body that opened, or ``None``."""
        if body is None:
            return None
        entry = unpack(body)
        if entry is None:
            self.tampered += 1
        return entry
