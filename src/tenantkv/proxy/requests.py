"""RESP as a server reads it: requests, taken apart.

Pure. Laws of this file: what cannot be read for certain is a `ProtocolError`, never a guess; nothing is
allocated for a count that somebody only claims.
"""

from __future__ import annotations

#: Of one request: a word costs its bytes and this, so that a million empty words are not free.
WORD_COST_BYTES = 64

_LONGEST_HEADER_BYTES = 32
_LONGEST_INLINE_BYTES = 4096
_MOST_WORDS = 1_048_576


class ProtocolError(Exception):
    """Bytes that are no RESP, or more of them than allowed; the connection is closed."""


class Chunks:
    """Bytes that came in pieces, joined only when there are enough to go on."""

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        self._parts: list[bytes] = []
        self._size = 0
        # With fewer bytes than this there is no use in looking again.
        self._needed = 1

    def feed(self, data: bytes) -> None:
        """Add what came in."""
        self._parts.append(data)
        self._size += len(data)

    def _join(self) -> None:
        if self._parts:
            rest = self._buffer[self._at :] if self._at else self._buffer
            self._buffer = b"".join((rest, *self._parts))
            self._parts = []
            self._at = 0

    def _consume(self, end: int) -> None:
        """Go on behind `end`, a position in the buffer."""
        self._size -= end - self._at
        self._at = end


class RequestParser(Chunks):
    """Takes a client's bytes apart into commands.

    Args:
        most_bytes: of one command, each word counting `WORD_COST_BYTES` more than it has.
    """

    def __init__(self, most_bytes: int) -> None:
        super().__init__()
        self.most_bytes = most_bytes
        self._words: list[bytes] = []
        self._missing = 0
        self._length = -1
        self._cost = 0

    def next(self) -> list[bytes] | None:
        """Return the next command, empty for an empty one; ``None`` if it has not come whole.

        Raises:
            ProtocolError: it is no RESP, or too large.
        """
        if self._size < self._needed:
            return None
        self._join()
        if not self._missing:
            if self._buffer[self._at] != 42:  # an asterisk
                return self._inline()
            line = self._line(_LONGEST_HEADER_BYTES, "a count of words is too long")
            if line is None:
                return None
            self._missing = self._number(line, _MOST_WORDS, "invalid multibulk length")
            if not self._missing:
                return []
        while self._missing:
            if not self._take_word():
                return None
        words, self._words, self._cost = self._words, [], 0
        self._needed = 1
        return words

    def _take_word(self) -> bool:
        """Take one word, if it is there."""
        if self._length < 0:
            if self._at >= len(self._buffer):
                self._needed = 1
                return False
            if self._buffer[self._at] != 36:  # a dollar
                raise ProtocolError("expected '$'")
            line = self._line(_LONGEST_HEADER_BYTES, "a length is too long")
            if line is None:
                return False
            self._length = self._number(line, self.most_bytes, "invalid bulk length")
            self._cost += self._length + WORD_COST_BYTES
            if self._cost > self.most_bytes:
                raise ProtocolError("the command is too large")
        end = self._at + self._length
        if end + 2 > len(self._buffer):
            self._needed = self._length + 2
            return False
        if self._buffer[end : end + 2] != b"\r\n":
            raise ProtocolError("a word is not as long as it says")
        self._words.append(self._buffer[self._at : end])
        self._consume(end + 2)
        self._length = -1
        self._missing -= 1
        return True

    def _line(self, longest: int, complaint: str) -> bytes | None:
        """Return the line that begins here, and go on behind it."""
        end = self._buffer.find(b"\r\n", self._at, self._at + longest)
        if end < 0:
            if len(self._buffer) - self._at >= longest:
                raise ProtocolError(complaint)
            self._needed = self._size + 1
            return None
        line = self._buffer[self._at : end]
        self._consume(end + 2)
        self._needed = 1
        return line

    @staticmethod
    def _number(line: bytes, most: int, complaint: str) -> int:
        digits = line[1:]
        if not digits.isdigit() or int(digits) > most:
            raise ProtocolError(complaint)
        return int(digits)

    def _inline(self) -> list[bytes] | None:
        """A line of plain words, as people type it into a terminal program."""
        end = self._buffer.find(b"\n", self._at, self._at + _LONGEST_INLINE_BYTES)
        if end < 0:
            if len(self._buffer) - self._at >= _LONGEST_INLINE_BYTES:
                raise ProtocolError("too big inline request")
            self._needed = self._size + 1
            return None
        line = self._buffer[self._at : end].rstrip(b"\r")
        self._consume(end + 1)
        self._needed = 1
        if any(byte < 32 for byte in line) or b'"' in line or b"'" in line:
            raise ProtocolError("inline commands are plain words here, without quotes")
        words = line.split(b" ")
        if words[0].upper() in (b"POST", b"HOST:"):
            # A web page that talks to a port of this machine.
            raise ProtocolError("this is no web server")
        return [word for word in words if word]
