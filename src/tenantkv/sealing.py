"""The sealer of a running program: `envelope` with this machine's clock and randomness.

It follows the keyring's document: once when an envelope has an unknown key id, so that a reader
knows a key as soon as somebody seals with it; and now and then when it seals, so that a program
that only writes stops using a key before that is retired.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NoReturn
from weakref import WeakKeyDictionary

from tenantkv.envelope import LARGEST_VALUE_BYTES, Mode, Sealer
from tenantkv.envelope_header import Kind
from tenantkv.errors import UnknownKeyError
from tenantkv.keyring import Keyring
from tenantkv.keyring_reload import KeyringReloader
from tenantkv.namespace import Namespace
from tenantkv.suites import SuiteName

REFRESH = 30.0


class LiveSealer:
    """A `Sealer` that notices when keys are rotated. Threads may share it.

    Its methods are those of `Sealer`.

    Args:
        keyring: the document's keyring, as it was loaded.
        path: the names of the children on the way to the identity in use.
        mode: see `Sealer`.
        suites: see `Sealer`.
        compress: see `Sealer`.
        largest_bytes: see `Sealer`.
        refresh: how often, at most, sealing looks whether the document was replaced.
        entropy: fresh random bytes.
        clock: seconds since 1970.
        monotonic: seconds that only grow.
        reloader: how the document is read again, instead of the usual way.

    Example:
        >>> sealer = LiveSealer(Keyring.generate(bytes(range(96))))
        >>> sealer.open(sealer.seal(b"42", kind="kv", name=b"a"), kind="kv", name=b"a")
        b'42'
    """

    __slots__ = ("_make", "_monotonic", "_refresh", "_refresh_at", "_reloader", "sealer")

    def __init__(
        self,
        keyring: Keyring,
        *,
        path: tuple[str, ...] = (),
        mode: Mode = "seal",
        suites: Iterable[SuiteName] | None = None,
        compress: bool = False,
        largest_bytes: int = LARGEST_VALUE_BYTES,
        refresh: float = REFRESH,
        entropy: Callable[[int], bytes] = os.urandom,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        reloader: KeyringReloader | None = None,
    ) -> None:
        allowed = None if suites is None else tuple(suites)
        self._make: Callable[[Keyring], Sealer] = lambda keys: Sealer(
            keys,
            entropy=entropy,
            clock=clock,
            mode=mode,
            suites=allowed,
            compress=compress,
            largest_bytes=largest_bytes,
        )
        self._reloader = reloader or KeyringReloader(keyring, path=path, clock=monotonic)
        self._monotonic = monotonic
        self._refresh = refresh
        self._refresh_at = monotonic() + refresh
        self.sealer = self._make(self._reloader.keyring)

    def seal(
        self,
        value: bytes,
        *,
        kind: Kind,
        name: bytes,
        field: bytes = b"",
        expires: float | None = None,
        compress: bool | None = None,
    ) -> bytes:
        """See `Sealer.seal`."""
        if self._monotonic() >= self._refresh_at:
            self._look()
        return self.sealer.seal(value, kind=kind, name=name, field=field, expires=expires, compress=compress)

    def seal_usual(self, value: bytes, kind: Kind, name: bytes) -> bytes:
        """See `Sealer.seal_usual`."""
        if self._monotonic() >= self._refresh_at:
            self._look()
        return self.sealer.seal_usual(value, kind, name)

    def seal_page(self, values: Sequence[bytes], kind: Kind, names: Sequence[bytes]) -> list[bytes]:
        """See `Sealer.seal_page`."""
        if self._monotonic() >= self._refresh_at:
            self._look()
        return self.sealer.seal_page(values, kind, names)

    def seal_many(
        self, values: Sequence[bytes], *, kind: Kind, name: bytes, fields: Sequence[bytes]
    ) -> list[bytes]:
        """See `Sealer.seal_many`."""
        if self._monotonic() >= self._refresh_at:
            self._look()
        return self.sealer.seal_many(values, kind=kind, name=name, fields=fields)

    def seal_member(self, value: bytes, *, kind: Kind, name: bytes, field: bytes = b"") -> bytes:
        """See `Sealer.seal_member`."""
        if self._monotonic() >= self._refresh_at:
            self._look()
        return self.sealer.seal_member(value, kind=kind, name=name, field=field)

    def open(self, blob: bytes, *, kind: Kind, name: bytes, field: bytes = b"") -> bytes:
        """See `Sealer.open`; on an unknown key id the keyring is read again, at most once a second."""
        try:
            return self.sealer.open(blob, kind=kind, name=name, field=field)
        except UnknownKeyError:
            if not self._follow(self._reloader.reload()):
                raise
        return self.sealer.open(blob, kind=kind, name=name, field=field)

    def open_many(
        self, blobs: Sequence[bytes], *, kind: Kind, name: bytes, fields: Sequence[bytes]
    ) -> list[bytes | None]:
        """See `Sealer.open_many`."""
        return self.sealer.open_many(blobs, kind=kind, name=name, fields=fields)

    def open_page(self, blobs: Sequence[bytes], kind: Kind, names: Sequence[bytes]) -> Iterator[bytes | None]:
        """See `Sealer.open_page`."""
        return self.sealer.open_page(blobs, kind, names)

    def open_usual(self, blob: bytes, kind: Kind, name: bytes) -> bytes | None:
        """See `Sealer.open_usual`."""
        return self.sealer.open_usual(blob, kind, name)

    def is_outdated(self, blob: bytes) -> bool:
        """See `Sealer.is_outdated`."""
        return self.sealer.is_outdated(blob)

    @property
    def mode(self) -> Mode:
        """``"seal"`` or ``"sign"``."""
        return self.sealer.mode

    def _look(self) -> None:
        # First, so that a program whose prefix was replaced is refused every time.
        found = self._reloader.refresh()
        self._refresh_at = self._monotonic() + self._refresh
        self._follow(found)

    def _follow(self, keyring: Keyring | None) -> bool:
        """Use that keyring; say whether the sealer in use may know more than a moment ago."""
        if keyring is None:
            # Another thread may have been the one that read it.
            keyring = self._reloader.keyring
        if keyring == self.sealer.keyring:
            return False
        self.sealer = self._make(keyring)
        return True

    def __repr__(self) -> str:
        return f"<LiveSealer of {self.sealer!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a LiveSealer is not pickled, since the pickle would hold its keys")


# For each mode; gone with its namespace.
_sealers: dict[Mode, WeakKeyDictionary[Namespace, LiveSealer]] = {
    "seal": WeakKeyDictionary(),
    "sign": WeakKeyDictionary(),
}


def sealer_of(namespace: Namespace, *, mode: Mode = "seal") -> LiveSealer:
    """Return the sealer that all parts of this process use for a namespace.

    Reads the keyring's document once more for a child, whose parent may have been loaded long ago.
    """
    known = _sealers[mode].get(namespace)
    if known is not None and known.sealer.keyring.generation < namespace.keyring.generation:
        # Of a document from before a rotation, which has nowhere to be read again from.
        _sealers[mode].pop(namespace, None)
        known = None
    if known is None:
        reloader = KeyringReloader(namespace.root, path=namespace.path)
        if namespace.path:
            reloader.reload()
        known = LiveSealer(namespace.root, path=namespace.path, mode=mode, reloader=reloader)
        # Of two threads that come at once one wins, and both use its sealer.
        known = _sealers[mode].setdefault(namespace, known)
    return known
