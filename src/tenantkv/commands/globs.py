"""Redis glob patterns as regular expressions, for matching own names without the server.

Follows ``stringmatchlen`` of Redis: ``*``, ``?``, ``[abc]``, ``[a-z]``, ``[^a]`` and a backslash that
takes the next character as it is; an unclosed bracket runs to the pattern's end.
"""

from __future__ import annotations

import re


def glob_regex(pattern: bytes) -> re.Pattern[bytes]:
    """Compile a Redis glob pattern into a regular expression for ``fullmatch``.

    Ranges over bytes above 127 mean what they mean on servers whose C has signed characters (x86).
    """
    # What stands between stars, each matched at the first place that fits and never tried again:
    # otherwise a few stars would make a regular expression exponentially slow.
    between: list[list[bytes]] = [[]]
    position = 0
    while position < len(pattern):
        byte = pattern[position : position + 1]
        position += 1
        if byte == b"*":
            between.append([])
        elif byte == b"?":
            between[-1].append(b".")
        elif byte == b"[":
            piece, position = _bracket(pattern, position)
            between[-1].append(piece)
        else:
            if byte == b"\\" and position < len(pattern):
                byte = pattern[position : position + 1]
                position += 1
            between[-1].append(re.escape(byte))
    first, *middle = [b"".join(pieces) for pieces in between]
    if not middle:
        return re.compile(first, re.DOTALL)
    # A look-ahead does not give back what it took; Python 3.10 has no atomic groups.
    once = (
        b"(?=(?P<s%d>.*?%b))(?P=s%d)" % (number, piece, number)
        for number, piece in enumerate(filter(None, middle[:-1]))
    )
    return re.compile(b"%b%b.*%b" % (first, b"".join(once), middle[-1]), re.DOTALL)


def _bracket(pattern: bytes, position: int) -> tuple[bytes, int]:
    """Translate what follows an opening bracket; returns the piece and where it ends."""
    negated = pattern[position : position + 1] == b"^"
    position += negated
    members: set[int] = set()
    while position < len(pattern) and pattern[position] != ord("]"):
        if pattern[position] == ord("\\") and position + 1 < len(pattern):
            position += 1
            members.add(pattern[position])
        elif pattern[position + 1 : position + 2] == b"-" and position + 2 < len(pattern):
            low, high = sorted((_signed(pattern[position]), _signed(pattern[position + 2])))
            members.update(byte % 256 for byte in range(low, high + 1))
            position += 2
        else:
            members.add(pattern[position])
        position += 1
    if negated:
        members = set(range(256)) - members
    inside = b"".join(re.escape(bytes([member])) for member in sorted(members))
    # An empty class matches nothing.
    return (b"[" + inside + b"]" if inside else b"(?!)"), position + 1


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte
