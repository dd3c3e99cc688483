"""Reading a keyring again while a program runs, so that keys can be rotated under it.

Laws of this file:

1. A reload never changes who the tenant is: another fingerprint is left alone. If it is the same tenant
   with another prefix (which alone has the naming secret), the program is told to start again: its keys
   are moving away, and it must not go on as if they were gone. Children keep their prefix, and go on.
2. A reload never fails a program that works for any other reason: what cannot be read leaves the keyring
   as it is.
3. Rare: whoever may write to the server can write unknown key ids, and must not make us read files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from tenantkv.errors import KeyringError, PrefixRotatedError
from tenantkv.keyring import Keyring
from tenantkv.keyring_files import Permissions
from tenantkv.keyring_store import load_keyring
from tenantkv.namespace import Namespace

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
        self._is_rotated = False
        self._lock = Lock()

    def reload(self) -> Keyring | None:
        """Read the document again, and return the identity in use if its keys have changed.

        Reads a local file, some 50 µs; nothing at all within the pause after the last reading.

        Raises:
            PrefixRotatedError: the prefix was replaced since the document was read first.
        """
        with self._lock:
            now = self._clock()
            if now < self._next:
                self._refuse_rotated()
                return None
            self._next = now + self._pause
            self._mark = self._marked()
            self.reloads += 1
            try:
                root = self._load()
            except KeyringError:
                return None
            # An older generation is a stale view (of a network file system), not news.
            if root.generation <= self._root.generation:
                return None
            found = _walk(root, self._path)
            is_same = found.fingerprint == self.keyring.fingerprint
            self._is_rotated = not is_same and root.naming == self._root.naming
            self._refuse_rotated()
            if not is_same:
                return None
            self._root = root
            self.keyring = found
            return found

    def refresh(self) -> Keyring | None:
        """The same, if the file was replaced since it was read; otherwise only a stat, some 3 µs."""
        if self._is_rotated or self._marked() != self._mark:
            return self.reload()
        return None

    def _refuse_rotated(self) -> None:
        if self._is_rotated:
            raise PrefixRotatedError(
                "the prefix of this namespace was replaced after this program had read the keyring, and its "
                "keys have moved: start the program again",
                source=self._root.source,
            )

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


def refuse_rotated(namespace: Namespace) -> None:
    """Look whether the prefix was replaced since this program had read the keyring.

    A stat, some 3 µs; the first time the document is read.

    Raises:
        PrefixRotatedError: it was.
    """
    follower = namespace.follower
    if not isinstance(follower, KeyringReloader):
        follower = namespace.follower = KeyringReloader(namespace.root, path=namespace.path)
        follower.reload()
    follower.refresh()


def _walk(keyring: Keyring, path: tuple[str, ...]) -> Keyring:
    for name in path:
        keyring = keyring.child(name)
    return keyring
