"""Redis glob patterns as regular expressions, for matching own names without the server.

Follows ``stringmatchlen`` of Redis: ``*``, ``?``, ``[abc]``, ``[a-z]``, ``[^a]`` and a backslash that
takes the next character as it is; an unclosed bracket runs to the pattern's end.
"""

from __future__ import annotations

import re


def glob_regex(pattern: bytes) -> re.Pattern[bytes]:
    """Compile a Redis glob pattern into a regular expression for ``fullmatch``."""
    out: list[bytes] = []
    position = 0
    while position < len(pattern):
        byte = pattern[position : position + 1]
        position += 1
        if byte == b"*":
            # Runs of stars would make a regular expression exponentially slow.
            if not out or out[-1] != b".*":
                out.append(b".*")
        elif byte == b"?":
            out.append(b".")
        elif byte == b"[":
            piece, position = _bracket(pattern, position)
            out.append(piece)
        else:
            if byte == b"\\" and position < len(pattern):
                byte = pattern[position : position + 1]
                position += 1
            out.append(re.escape(byte))
    return re.compile(b"".join(out), re.DOTALL)


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
            low, high = sorted((pattern[position], pattern[position + 2]))
            members.update(range(low, high + 1))
            position += 2
        else:
            members.add(pattern[position])
        position += 1
    if negated:
        members = set(range(256)) - members
    inside = b"".join(re.escape(bytes([member])) for member in sorted(members))
    # An empty class matches nothing.
    return (b"[" + inside + b"]" if inside else b"(?!)"), position + 1
