"""Reading a keyring again while a program runs, so that keys can be rotated under it.

Laws of this file:

1. A reload never changes who the tenant is: another fingerprint is left alone.
2. A reload never fails a program that works: what cannot be read leaves the keyring as it is.
3. Rare: whoever may write to the server can write unknown key ids, and must not make us read files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from tenantkv.errors import KeyringError
from tenantkv.keyring import Keyring
from tenantkv.keyring_files import Permissions
from tenantkv.keyring_store import load_keyring

SHORTEST_PAUSE = 1.0


def load_again(keyring: Keyring, *, permissions: Permissions | None = None) -> Keyring:
    """Return what stands by now where `keyring` was read.

    Args:
        keyring: as it was loaded.
        permissions: as for `load_keyring`.

    Raises:
        KeyringError: it came as an argument, so that there is no place, or it cannot be read there.
    """
    source = keyring.source
    if source is None:
        raise KeyringError("the keyring was given as an argument, and cannot be read again")
    if source.startswith("env:"):
        return Keyring.parse(os.environ.get(source.removeprefix("env:"), ""), source)
    # Whether a link may stand there was decided when it was read first.
    return load_keyring(Path(source), permissions=permissions)


class KeyringReloader:
    """Follows the keyring's document for one running program. Threads may share it.

    Args:
        keyring: as it was loaded: the document itself, not a child's.
        path: the names of the children on the way to the identity in use.
        load: gives the document's keyring anew; by default from where it was read.
        pause: at least that long between two readings.
        clock: seconds that only grow.

    Attributes:
        keyring: the identity in use, with its keys as they were read last.
        reloads: how often the document was read again.
    """

    def __init__(
        self,
        keyring: Keyring,
        *,
        path: tuple[str, ...] = (),
        load: Callable[[], Keyring] | None = None,
        pause: float = SHORTEST_PAUSE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.keyring = _walk(keyring, path)
        self.reloads = 0
        self._root = keyring
        self._path = path
        self._load = load or (lambda: load_again(keyring))
        self._pause = pause
        self._clock = clock
        self._next = -float("inf")
        self._mark = self._marked()
        self._lock = Lock()

    def reload(self) -> Keyring | None:
        """Read the document again, and return the identity in use if its keys have changed.

        Reads a local file, some 50 µs; nothing at all within the pause after the last reading.
        """
        with self._lock:
            now = self._clock()
            if now < self._next:
                return None
            self._next = now + self._pause
            self._mark = self._marked()
            self.reloads += 1
            try:
                root = self._load()
            except KeyringError:
                return None
            # An older generation is a stale view (of a network file system), not news.
            if root.fingerprint != self._root.fingerprint or root.generation <= self._root.generation:
                return None
            self._root = root
            self.keyring = _walk(root, self._path)
            return self.keyring

    def refresh(self) -> Keyring | None:
        """The same, if the file was replaced since it was read; otherwise only a stat, some 3 µs."""
        return None if self._marked() == self._mark else self.reload()

    def _marked(self) -> tuple[int, int, int] | None:
        source = self._root.source
        if source is None or source.startswith("env:"):
            return None
        try:
            status = os.stat(source)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def __repr__(self) -> str:
        return f"<KeyringReloader {self.keyring.fingerprint} generation={self._root.generation}>"


def _walk(keyring: Keyring, path: tuple[str, ...]) -> Keyring:
    for name in path:
        keyring = keyring.child(name)
    return keyring
