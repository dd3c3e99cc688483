"""The file of ``tenantkv export``: frames that open only in their order, with the namespace's keys.

Format v1; every integer is little-endian::

    magic    "tenantkv export 1\\n"
    frame    length[4] | envelope; kind "registry", name "tenantkv export",
             field = id[16] | number[8] | sort[1], bound and, but for the first frame's id, not stored
    id[16]   in front of the first frame: random, one of each file

    sort     "h" the first: JSON, about the export
             "d" records, one after the other: part[1] name[4] expires[8] dump[4] | name | dump
                 part: 0 the whole dump, 1 a part of it with more to come, 2 its last part
                 expires: Unix milliseconds, or -1
             "e" the last: JSON with the number of keys

Laws of this file: nothing of a frame is looked at before it has opened; the number makes frames of the same
file stay in order, the id keeps those of others out, and a file without its last frame, or with anything
behind it, is no export.
"""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from tenantkv.envelope import Sealer
from tenantkv.errors import OpenError, TenantKVError
from tenantkv.namespace import Namespace
from tenantkv.ops.transfer import Record

MAGIC = b"tenantkv export 1\n"
#: Of records in one frame, about.
FRAME_BYTES = 1024 * 1024

_NAME = b"tenantkv export"
_ID_BYTES = 16
_LENGTH = struct.Struct("<I")
_NUMBER = struct.Struct("<Q")
_RECORD = struct.Struct("<BIqI")
#: More than what stands in front of the records.
BEGINNING_BYTES = 64 * 1024
_WHOLE, _PART, _LAST = 0, 1, 2
# A frame holds whole records up to its size, and at most one name beyond; names may be long.
_LONGEST_NAME = 16 * 1024 * 1024
_LONGEST_FRAME = 2 * FRAME_BYTES + _LONGEST_NAME
# Of a value: what Redis itself can hold, and something around it.
_LONGEST_DUMP = 520 * 1024 * 1024


class ExportFileError(TenantKVError):
    """A file that is no export of this namespace, or not the whole of one, or was changed."""


class Frames:
    """Seals and opens the frames of one file.

    Args:
        namespace: whose keys.
        file_id: what tells this file from others.
    """

    def __init__(self, namespace: Namespace, file_id: bytes) -> None:
        self.id = file_id
        self.number = 0
        # Whatever the namespace does itself: a file that is only signed could be read by anybody.
        self._sealer = Sealer(namespace.keyring, entropy=os.urandom, clock=time.time)

    def seal(self, sort: bytes, body: bytes) -> bytes:
        """Return the next frame."""
        sealed = self._sealer.seal(body, kind="registry", name=_NAME, field=self._field(sort))
        self.number += 1
        return _LENGTH.pack(len(sealed)) + sealed

    def open(self, sealed: bytes) -> tuple[bytes, bytes]:
        """Return the next frame's sort and body.

        Raises:
            ExportFileError: it does not open here.
        """
        sorts = (b"h",) if self.number == 0 else (b"d", b"e")
        for sort in sorts:
            try:
                body = self._sealer.open(sealed, kind="registry", name=_NAME, field=self._field(sort))
            except OpenError:
                continue
            self.number += 1
            return sort, body
        if self.number == 0:
            raise ExportFileError(
                "the file does not open: it was exported from another namespace or child, with a key that is "
                "retired, or was changed"
            )
        raise ExportFileError(f"the file was changed: frame {self.number} does not open where it stands")

    def _field(self, sort: bytes) -> bytes:
        return self.id + _NUMBER.pack(self.number) + sort


class Writer:
    """Writes an export.

    Args:
        file: where to; nothing is read from it.
        frames: how frames are sealed.
        keys: how many keys stand in it already.
    """

    def __init__(self, file: BinaryIO, frames: Frames, keys: int = 0) -> None:
        self._file = file
        self._frames = frames
        self.keys = keys

    def begin(self, about: dict[str, Any]) -> None:
        """Write what stands in front."""
        self._file.write(MAGIC + self._frames.id + self._frames.seal(b"h", _json(about)))

    def write(self, records: Iterable[Record]) -> None:
        """Write records, in whole frames, so that what is flushed can be gone on with."""
        pieces: list[bytes] = []
        length = 0
        for record in records:
            if len(record.dump) > FRAME_BYTES:
                self._flush(pieces)
                pieces, length = [], 0
                self._write_long(record)
            else:
                pieces.append(_pack(record, _WHOLE, record.dump))
                length += len(pieces[-1])
                if length >= FRAME_BYTES:
                    self._flush(pieces)
                    pieces, length = [], 0
            self.keys += 1
        self._flush(pieces)

    def end(self) -> None:
        """Write what says that nothing is missing."""
        self._file.write(self._frames.seal(b"e", _json({"keys": self.keys})))

    def _write_long(self, record: Record) -> None:
        dump = memoryview(record.dump)
        for start in range(0, len(dump), FRAME_BYTES):
            part = _LAST if start + FRAME_BYTES >= len(dump) else _PART
            self._flush([_pack(record, part, bytes(dump[start : start + FRAME_BYTES]))])

    def _flush(self, pieces: list[bytes]) -> None:
        if pieces:
            self._file.write(self._frames.seal(b"d", b"".join(pieces)))


class Reader:
    """Reads an export, and checks each frame before anything of it is used.

    Args:
        file: from its beginning.
        namespace: whose keys.

    Attributes:
        about: what its first frame says.
        is_whole: whether its last frame was read, and nothing stands behind it.
        good_bytes: up to where whole records stand.

    Raises:
        ExportFileError: it is no export of this namespace.
    """

    def __init__(self, file: BinaryIO, namespace: Namespace) -> None:
        self._file = file
        if file.read(len(MAGIC)) != MAGIC:
            raise ExportFileError("the file is no export of tenantkv's")
        file_id = file.read(_ID_BYTES)
        self.frames = Frames(namespace, file_id)
        sealed = self._next_sealed()
        if sealed is None:
            raise ExportFileError("the file is cut off at its beginning")
        self.about: dict[str, Any] = json.loads(self.frames.open(sealed)[1])
        self.is_whole = False
        self.good_bytes = len(MAGIC) + _ID_BYTES + _LENGTH.size + len(sealed)
        self.good_frames = 1
        self.keys = 0

    def records(self) -> Iterator[Record]:
        """Yield the records of one frame after the other.

        Raises:
            ExportFileError: a frame does not open, or something stands behind the last one.
        """
        parts: list[bytes] = []
        at = self.good_bytes
        while (sealed := self._next_sealed()) is not None:
            at += _LENGTH.size + len(sealed)
            sort, body = self.frames.open(sealed)
            if sort == b"e":
                self._end(body, parts)
                return
            for part, name, expires, piece in _unpack(body):
                parts.append(piece)
                if sum(map(len, parts)) > _LONGEST_DUMP:
                    raise ExportFileError("the file holds a value that is longer than any")
                if part != _PART:
                    dump, parts = b"".join(parts), []
                    self.keys += 1
                    yield Record(name, expires, dump)
            if not parts:
                self.good_bytes, self.good_frames = at, self.frames.number

    def _end(self, body: bytes, parts: list[bytes]) -> None:
        if parts or json.loads(body)["keys"] != self.keys:
            raise ExportFileError("the file was changed: it holds another number of keys than it says")
        if self._file.read(1):
            raise ExportFileError("the file was changed: something stands behind its end")
        self.is_whole = True

    def _next_sealed(self) -> bytes | None:
        """Return the next frame, or ``None`` where the file ends, though it be in the middle of one."""
        head = self._file.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack(head)
        if length > _LONGEST_FRAME:
            raise ExportFileError("the file was changed: a frame is longer than any")
        sealed = self._file.read(length)
        return sealed if len(sealed) == length else None


def _pack(record: Record, part: int, piece: bytes) -> bytes:
    head = _RECORD.pack(part, len(record.name), record.expires_at_ms, len(piece))
    return head + record.name + piece


def _unpack(body: bytes) -> Iterator[tuple[int, bytes, int, bytes]]:
    at = 0
    while at < len(body):
        part, name_length, expires, length = _RECORD.unpack_from(body, at)
        at += _RECORD.size
        name = body[at : at + name_length]
        at += name_length
        yield part, name, expires, body[at : at + length]
        at += length


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def new_id() -> bytes:
    """Return what tells a new file from others."""
    return os.urandom(_ID_BYTES)


def is_begun(start: bytes) -> bool:
    """Whether the beginning of a file holds its whole first frame, be it one that opens or not."""
    at = len(MAGIC) + _ID_BYTES
    if len(start) < at + _LENGTH.size:
        return False
    length: int = _LENGTH.unpack_from(start, at)[0]
    return len(start) >= min(at + _LENGTH.size + length, BEGINNING_BYTES)
