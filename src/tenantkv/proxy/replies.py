"""RESP as a server writes it: replies, cut into frames, and put together again.

Pure. Laws of this file: what cannot be read for certain is a `ProtocolError`, never a guess; a reply that
nobody needs to look into stays the bytes that it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from tenantkv.errors import TenantKVError
from tenantkv.proxy.requests import Chunks, ProtocolError

#: Bulk strings above this are handed on in parts, where nobody needs to look into them.
LARGE_BYTES = 262_144

_BULKS = frozenset(b"$=!")
_LISTS = frozenset(b"*~>")
_LINES = frozenset(b"+-:_,#(")


class ReplyReader(Chunks):
    """Cuts a server's bytes into replies, without looking into them further than it must."""

    def __init__(self) -> None:
        super().__init__()
        # The front of a reply that has not come whole, so that it is not joined again and again.
        self._front: list[bytes] = []
        self._open = 1
        self._large: tuple[int, int] | None = None

    def next(self) -> bytes | None:
        """Return the bytes of the next reply, or ``None`` if it has not come whole."""
        if self._size < self._needed:
            return None
        self._join()
        buffer, size = self._buffer, len(self._buffer)
        start = self._at
        at, left = start, self._open
        while left:
            end = buffer.find(b"\r\n", at)
            if end < 0:
                self._wait(at, left, size - at + 1)
                return None
            kind = buffer[at]
            if kind in _BULKS:
                count = _count(buffer[at + 1 : end])
                behind = end + 2 if count < 0 else end + count + 4
                if behind > size:
                    if kind == 36 and at == start and not self._front and behind - start > LARGE_BYTES:
                        self._large = (behind - start, end + 2 - start)
                    self._wait(at, left, behind - at)
                    return None
                at = behind
            elif kind in _LINES:
                at = end + 2
            elif kind in _LISTS or kind == 37:  # a percent sign
                left += max(_count(buffer[at + 1 : end]), 0) * (2 if kind == 37 else 1)
                at = end + 2
            else:
                raise ProtocolError("the server's reply has an unknown type")
            left -= 1
        self._consume(at)
        front, self._front = self._front, []
        self._open, self._needed, self._large = 1, 1, None
        return b"".join((*front, buffer[start:at])) if front else buffer[start:at]

    def _wait(self, at: int, left: int, needed: int) -> None:
        """Keep what was looked at, and note from how many more bytes on there is a use in looking again."""
        if at > self._at:
            self._front.append(self._buffer[self._at : at])
            self._consume(at)
        self._open, self._needed = left, needed

    def begun(self) -> tuple[int, bytes] | None:
        """Return the length of a large bulk string that has begun, and its first byte; else ``None``."""
        if self._large is None:
            return None
        self._join()
        length, content = self._large
        first = self._buffer[self._at + content : self._at + content + 1]
        return (length, first) if first else None

    def part(self, most: int) -> bytes:
        """Take up to `most` bytes of the reply that `begun` told of."""
        self._join()
        end = min(self._at + most, len(self._buffer))
        taken = self._buffer[self._at : end]
        self._consume(end)
        self._needed, self._large = 1, None
        return taken


def _count(digits: bytes) -> int:
    try:
        return int(digits)
    except ValueError:
        raise ProtocolError("the server's reply has a length that cannot be read") from None


# Replies that were taken apart, in types that go back as they came.


class Status(bytes):
    """A simple string."""


class Verbatim(bytes):
    """A verbatim string, with its format in front."""


class Double(float):
    """A number with the digits that it came in."""

    text: bytes = b""


class BigNumber(int):
    """A number of any size."""


class SetReply(list[Any]):
    """A set, in the order that it came in."""


class Push(list[Any]):
    """What comes without being asked for."""


def parse(frame: bytes) -> Any:
    """Return a reply as values; errors in it are ``ResponseError``, nulls of any kind ``None``."""
    try:
        return _parse(frame, 0)[0]
    except (ValueError, IndexError, RecursionError):
        raise ProtocolError("the server's reply cannot be read") from None


def _parse(frame: bytes, at: int) -> tuple[Any, int]:
    end = frame.index(b"\r\n", at)
    kind, line, behind = frame[at], frame[at + 1 : end], end + 2
    if kind in _LISTS or kind == 37:
        count = int(line)
        if count < 0:
            return None, behind
        items: list[Any] = []
        for _ in range(count * 2 if kind == 37 else count):
            item, behind = _parse(frame, behind)
            items.append(item)
        if kind == 37:
            return _as_map(items), behind
        return (items if kind == 42 else SetReply(items) if kind == 126 else Push(items)), behind
    if kind in _BULKS:
        count = int(line)
        if count < 0:
            return None, behind
        content = frame[behind : behind + count]
        value: Any = content if kind == 36 else Verbatim(content) if kind == 61 else _error(content)
        return value, behind + count + 2
    return _scalar(kind, line), behind


def _scalar(kind: int, line: bytes) -> Any:
    if kind == 58:
        return int(line)
    if kind == 43:
        return Status(line)
    if kind == 45:
        return _error(line)
    if kind == 44:
        number = Double(line)
        number.text = line
        return number
    if kind == 35:
        return line == b"t"
    return BigNumber(line) if kind == 40 else None


def _error(line: bytes) -> ResponseError:
    return ResponseError(line.decode("utf-8", "surrogateescape"))


def _as_map(items: list[Any]) -> Any:
    names = [tuple(name) if isinstance(name, list) else name for name in items[::2]]
    return dict(zip(names, items[1::2], strict=True))


def encode(value: Any, protocol: int) -> bytes:
    """Return a value as RESP.

    Args:
        value: as `parse` returns it, or of Python's own types.
        protocol: 2 or 3.
    """
    pieces: list[bytes] = []
    _encode(value, protocol == 3, pieces)
    return b"".join(pieces)


def _encode(value: Any, is_new: bool, pieces: list[bytes]) -> None:
    if isinstance(value, bytes):
        if type(value) is Status:
            pieces.append(b"+%b\r\n" % value)
        else:
            mark = b"=" if is_new and type(value) is Verbatim else b"$"
            pieces += (b"%b%d\r\n" % (mark, len(value)), value, b"\r\n")
    elif value is None:
        pieces.append(b"_\r\n" if is_new else b"$-1\r\n")
    elif isinstance(value, dict):
        pieces.append(b"%%%d\r\n" % len(value) if is_new else b"*%d\r\n" % (2 * len(value)))
        for pair in value.items():
            for part in pair:
                _encode(part, is_new, pieces)
    elif isinstance(value, (list, tuple, set, frozenset)):
        mark = b"~" if isinstance(value, (SetReply, set, frozenset)) else b"*"
        mark = b">" if type(value) is Push else mark
        pieces.append(b"%b%d\r\n" % (mark if is_new else b"*", len(value)))
        for item in value:
            _encode(item, is_new, pieces)
    else:
        pieces.append(_encode_scalar(value, is_new))


def _encode_scalar(value: Any, is_new: bool) -> bytes:
    if isinstance(value, bool):
        return (b"#t\r\n" if value else b"#f\r\n") if is_new else b":%d\r\n" % value
    if isinstance(value, int):
        return b"%b%d\r\n" % (b"(" if is_new and type(value) is BigNumber else b":", value)
    if isinstance(value, float):
        text = value.text if type(value) is Double else repr(float(value)).encode()
        return b",%b\r\n" % text if is_new else b"$%d\r\n%b\r\n" % (len(text), text)
    if isinstance(value, BaseException):
        return encode_error(value)
    raise TypeError(f"no RESP for {type(value).__name__}")


def encode_error(error: BaseException) -> bytes:
    """Return an error as a reply of one line; those of tenantkv's own begin with ``ERR``."""
    text = " ".join(str(error).split())
    if isinstance(error, TenantKVError):
        text = f"ERR {text}"
    return b"-%b\r\n" % text.encode("utf-8", "surrogateescape")


def like(reply: Any, kinds: Sequence[type], *, is_set: bool) -> Any:
    """Return a reply that was given back in own names as the sort of reply that it was.

    Args:
        reply: in own names.
        kinds: the types of the items as they came.
        is_set: whether it came as a set.
    """
    if type(reply) is not list:
        return reply
    if is_set:
        return SetReply(reply)
    if len(kinds) == len(reply):
        for at, kind in enumerate(kinds):
            if kind is SetReply and type(reply[at]) is list:
                reply[at] = SetReply(reply[at])
    return reply
