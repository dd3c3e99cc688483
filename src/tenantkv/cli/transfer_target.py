"""Where ``tenantkv export`` writes: a part file that gets its name when it is whole."""

from __future__ import annotations

import fcntl
import os
import stat
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

from tenantkv.cli import output
from tenantkv.cli.transfer_file import (
    BEGINNING_BYTES,
    MAGIC,
    ExportFileError,
    Frames,
    Reader,
    Writer,
    is_begun,
    new_id,
)
from tenantkv.errors import ConfigurationError

# How many keys a part holds, and its frames at the end of the last whole one.
_Start = tuple[int, Frames]


class Target:
    """Where an export goes: a part file that gets its name when it is whole, or anything else as it is.

    Args:
        namespace: whose keys.
        path: the file, or ``-``.
        restart: whether to begin anew though a part is there.
        pattern: noted in the file; a part of another pattern is not gone on with.

    Attributes:
        writer: writes the records.
        done: the names that stand in the file already.
        bytes: how long it is, when it is finished.

    Raises:
        ConfigurationError: there is such a file already, or somebody else's part of one.
    """

    def __init__(self, namespace: Any, path: str, *, restart: bool, pattern: str) -> None:
        self.done: set[bytes] = set()
        self.bytes = 0
        self._path = Path(path)
        self._part: Path | None = None
        start: _Start | None = None
        about = {
            "created": round(time.time(), 3),
            "fingerprint": namespace.fingerprint,
            "pattern": pattern,
        }
        if path == "-":
            self._file: BinaryIO = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
        elif self._path.exists() and not stat.S_ISREG(self._path.stat().st_mode):
            # A pipe or device: nothing to go on with, and nothing to rename.
            self._file = open(self._path, "wb")  # noqa: SIM115 - closed by `finish` and `abandon`
        else:
            if os.path.lexists(self._path):
                raise ConfigurationError(f"{path} exists; an export does not overwrite")
            self._part = self._path.with_name(self._path.name + ".part")
            self._file, start = self._open_part(self._part, namespace, restart=restart, pattern=pattern)
        if start is None:
            self.writer = Writer(self._file, Frames(namespace, new_id()))
            try:
                self.writer.begin(about)
            except BaseException:
                self.abandon()
                raise
        else:
            keys, frames = start
            self.writer = Writer(self._file, frames, keys)

    def _open_part(
        self, part: Path, namespace: Any, *, restart: bool, pattern: str
    ) -> tuple[BinaryIO, _Start | None]:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(part, flags, 0o600)
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid():
            os.close(descriptor)
            raise ConfigurationError(f"{part} belongs to somebody else")
        file = os.fdopen(descriptor, "r+b")
        try:
            _lock(file, part)
            if restart:
                file.truncate(0)
            if _has_nothing(file):
                file.truncate(0)
                return file, None
            return file, self._go_on(file, part, namespace, pattern)
        except BaseException:
            file.close()
            raise

    def _go_on(self, file: BinaryIO, part: Path, namespace: Any, pattern: str) -> _Start:
        """Take up a part at the end of its last whole record, if it is one of this export."""
        hint = f"; remove {part}, or say --restart"
        try:
            reader = Reader(file, namespace)
            if reader.about.get("pattern") != pattern:
                raise ConfigurationError(f"{part} is of an export with another pattern{hint}")
            for record in reader.records():
                self.done.add(record.name)
        except ExportFileError as error:
            raise ConfigurationError(f"{part}: {error}{hint}") from None
        if reader.is_whole:
            raise ConfigurationError(
                f"{part} is a whole export already; give it the name that it should have"
            )
        reader.frames.number = reader.good_frames
        file.truncate(reader.good_bytes)
        file.seek(reader.good_bytes)
        return reader.keys, reader.frames

    def finish(self) -> None:
        """Write the end, down to the disk, and give the file its name."""
        self.writer.end()
        self._file.flush()
        if self._part is None:
            self._file.close()
            return
        os.fsync(self._file.fileno())
        self.bytes = self._file.tell()
        try:
            # Unlike a rename this does not replace what somebody else has put there meanwhile.
            os.link(self._part, self._path)
            os.unlink(self._part)
        except FileExistsError:
            raise
        except OSError:
            # A file system without hard links.
            os.rename(self._part, self._path)
        self._file.close()

    def abandon(self) -> None:
        """Leave a part behind that the next run can go on with."""
        try:
            self._file.close()
        except OSError:
            # The disk is still full; what was written before is there.
            pass
        if self._part is not None and self._part.exists():
            output.note(f"Stopped. Run it again to go on from there ({self._part}).")


def _lock(file: BinaryIO, part: Path) -> None:
    """Let nobody else write the same part."""
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        problem = f"{part} is being written by another export"
    except OSError:
        # A file system without locks.
        return
    else:
        return
    raise ConfigurationError(problem)


def _has_nothing(file: BinaryIO) -> bool:
    """Whether a part ends before its first frame does: the disk was full, or it has just been made."""
    start = file.read(BEGINNING_BYTES)
    file.seek(0)
    is_ours = start.startswith(MAGIC) or MAGIC.startswith(start)
    return is_ours and not is_begun(start)
