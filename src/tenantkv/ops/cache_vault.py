"""Entries into envelopes and out of them: nothing of a cache is believed that does not open.

A cache that signs (the usual) leaves its values readable to everybody and vouches for them; one that
seals shows nothing. In both, a `Secret` is sealed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from tenantkv.envelope_header import Kind
from tenantkv.errors import OpenError
from tenantkv.ops.cache_entry import HEAD_BYTES, Entry, unpack
from tenantkv.suites import CODES

_SIGNED = bytes([CODES["sign"]])


class EntrySealer(Protocol):
    """Seals and opens single values; a `LiveSealer`, mostly."""

    def seal(self, value: bytes, *, kind: Kind, name: bytes, compress: bool | None = None) -> bytes:
        """Return a value in an envelope."""
        ...

    def seal_usual(self, value: bytes, kind: Kind, name: bytes) -> bytes:
        """Return a value in an envelope, not compressed."""
        ...

    def seal_page(self, values: Sequence[bytes], kind: Kind, names: Sequence[bytes]) -> list[bytes]:
        """Return values in envelopes, not compressed."""
        ...

    def open(self, blob: bytes, *, kind: Kind, name: bytes) -> bytes:
        """Return the value, or raise `OpenError`."""
        ...

    def open_page(self, blobs: Sequence[bytes], kind: Kind, names: Sequence[bytes]) -> Iterable[bytes | None]:
        """Yield what `open_usual` returns for each."""
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

    def seal_page(self, names: Sequence[bytes], bodies: Sequence[bytes]) -> list[bytes]:
        """Return the bodies of entries that are no `Secret` in their envelopes, not compressed."""
        return (self._signer or self._sealer).seal_page(bodies, "cache", names)

    @property
    def compresses(self) -> bool:
        """Whether an entry may be compressed."""
        return self._compress_from is not None

    def seal_plain(self, name: bytes, body: bytes) -> bytes:
        """Return the body of an entry that has no tags and is no `Secret` in its envelope."""
        least = self._compress_from
        way = self._signer or self._sealer
        if least is None or len(body) - HEAD_BYTES < least:
            return way.seal_usual(body, "cache", name)
        return way.seal(body, kind="cache", name=name, compress=True)

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

    def open_page(self, names: Sequence[bytes], blobs: Sequence[bytes]) -> Iterable[bytes | None]:
        """Yield what `opener` gives for each, when it is asked for: what lies behind may be large."""
        return (self._signer or self._sealer).open_page(blobs, "cache", names)

    def read(self, body: bytes | None) -> Entry | None:
        """Return the entry in a body that opened, or ``None``."""
        if body is None:
            return None
        entry = unpack(body)
        if entry is None:
            self.tampered += 1
        return entry
