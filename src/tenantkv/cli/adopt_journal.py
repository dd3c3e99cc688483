"""What `tenantkv adopt` has done so far: a file of sealed frames beside the keyring, which only grows.

`tenantkv rotate` keeps one too, of the names that it has moved and not yet read.

Format v1; integers are little-endian::

    magic    "tenantkv adopt 1\\n", or "tenantkv rotate 1\\n"
    id[16]   random
    frames   length[4] | envelope; kind "registry", name "tenantkv adopt" or so, field = id | number[8]

A frame is JSON: ``step``, and ``names`` with one list for each key, the original's name first::

    intent    own name                         about to be made or made again; nobody else's was there
    copied    own name, version of the original, version of the copy, when it expires
    dropped                                    not made after all
    finish    (no names)                       originals are deleted from now on
    finished                                   the original is deleted
    undone                                     the copy is deleted

A frame that was not written to its end is cut off: what it would have said is found out again.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, cast

from tenantkv.envelope import Sealer
from tenantkv.errors import ConfigurationError, OpenError
from tenantkv.namespace import Namespace

_ID_BYTES = 16
_LENGTH = struct.Struct("<I")
_NUMBER = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Entry:
    """A key that is being adopted.

    Attributes:
        own: its own name.
        original: the version of the original when it was copied; empty if it may be half-made.
        copy: the version of the copy then.
        expires_at_ms: when the original expires, as it was then.
    """

    own: bytes
    original: str = ""
    copy: str = ""
    expires_at_ms: int = -1


class Journal:
    """The file, held by this process alone while it is open.

    Args:
        namespace: who adopts.
        path: the file; beside the keyring if left out.
        make: whether to make it if there is none.
        dry: whether nothing is going to be noted, so that none is needed.
        command: whose it is.

    Raises:
        ConfigurationError: there is no place for it, another process holds it, it is somebody else's, or
            there is none.
    """

    def __init__(
        self,
        namespace: Namespace,
        path: str | None,
        *,
        make: bool,
        dry: bool = False,
        command: str = "adopt",
    ) -> None:
        self._command = f"tenantkv {command}"
        self._name = self._command.encode()
        self._magic = self._name + b" 1\n"
        self.path = Path(path) if path is not None else beside(namespace)
        self.entries: dict[bytes, Entry] = {}
        self.is_finishing = False
        self._sealer = Sealer(namespace.keyring, entropy=os.urandom, clock=time.time)
        self._number = 0
        self._id = b""
        self._file = self._open(make=make, dry=dry)
        try:
            self._lock()
            self._load()
        except BaseException:
            self._file.close()
            raise

    def record(self, step: str, names: Sequence[Sequence[Any]] = ()) -> None:
        """Note a step; it is on the disk when this returns."""
        if not names and step != "finish":
            return
        texts = [[_text(part) for part in each] for each in names]
        body = json.dumps({"step": step, "names": texts}, separators=(",", ":")).encode()
        sealed = self._sealer.seal(
            body, kind="registry", name=self._name, field=self._id + _NUMBER.pack(self._number), compress=True
        )
        self._file.write(_LENGTH.pack(len(sealed)) + sealed)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._number += 1
        self._apply(step, texts)

    def close(self) -> None:
        """Let the file go, and remove it if it says nothing."""
        if not self.entries:
            self.path.unlink(missing_ok=True)
        self._file.close()

    def _open(self, *, make: bool, dry: bool) -> BinaryIO:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if make and not dry else 0)
        try:
            descriptor = os.open(self.path, flags, 0o600)
        except FileNotFoundError:
            if make and dry:
                return cast(BinaryIO, TemporaryFile())
            if make:
                raise
            raise ConfigurationError(f"there is nothing to finish or undo: no file {self.path}") from None
        return os.fdopen(descriptor, "r+b")

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(f"another '{self._command}' is at work ({self.path})") from None
        except OSError:
            # A file system without locks: the lock on the server has to do.
            return
        status = os.fstat(self._file.fileno())
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise ConfigurationError(f"{self.path} is not a file of yours alone: its mode has to be 0600")

    def _load(self) -> None:
        start = self._file.read(len(self._magic) + _ID_BYTES)
        if len(start) < len(self._magic) + _ID_BYTES and self._magic.startswith(start[: len(self._magic)]):
            self._id = os.urandom(_ID_BYTES)
            self._file.seek(0)
            self._file.truncate()
            self._file.write(self._magic + self._id)
            self._file.flush()
            return
        if not start.startswith(self._magic):
            raise ConfigurationError(f"{self.path} is no state of '{self._command}'")
        self._id = start[len(self._magic) :]
        while True:
            at = self._file.tell()
            head = self._file.read(_LENGTH.size)
            length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else 0
            sealed = self._file.read(length)
            if len(head) < _LENGTH.size or len(sealed) < length:
                break
            self._apply_sealed(sealed)
        self._file.seek(at)
        self._file.truncate()

    def _apply_sealed(self, sealed: bytes) -> None:
        field = self._id + _NUMBER.pack(self._number)
        try:
            opened = self._sealer.open(sealed, kind="registry", name=self._name, field=field)
        except OpenError:
            raise ConfigurationError(
                f"{self.path} does not open: it is of another namespace or child, or was changed"
            ) from None
        document = json.loads(opened)
        self._number += 1
        self._apply(document["step"], document["names"])

    def _apply(self, step: str, names: Sequence[Sequence[Any]]) -> None:
        self.is_finishing |= step == "finish"
        for name, *rest in names:
            key = _bytes(name)
            if step == "intent":
                self.entries[key] = Entry(_bytes(rest[0]))
            elif step == "copied":
                self.entries[key] = Entry(_bytes(rest[0]), rest[1], rest[2], rest[3])
            else:
                self.entries.pop(key, None)


def beside(namespace: Namespace) -> Path:
    """Return the file that belongs to a keyring.

    Raises:
        ConfigurationError: the keyring is not in a file.
    """
    source = namespace.root.source
    if source is None or source.startswith("env:"):
        raise ConfigurationError(
            "the keyring is not in a file: say with --state FILE where to note what is done"
        )
    return Path(source).parent / f"{namespace.root.namespace}.{namespace.fingerprint}.adopt"


def _text(part: Any) -> Any:
    return part.decode("utf-8", "surrogateescape") if isinstance(part, bytes) else part


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
