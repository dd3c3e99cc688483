"""How the commands print: tables for people, JSON for programs, warnings on standard error.

Names and values come from servers that others write to, so nothing is printed as it came: control
characters, which could rewrite a terminal's screen or title, appear as escapes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

# Control, format (which has the characters that reverse text), surrogate, and the two separators.
_NEUTRALISED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_STYLES = {"bold": "1", "red": "31", "green": "32", "yellow": "33", "dim": "2"}


def clean(text: str) -> str:
    """Return `text` with every character that a terminal could act on written as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape", "surrogatepass").decode()
        if unicodedata.category(character) in _NEUTRALISED
        else character
        for character in text
    )


def counted(number: int, noun: str) -> str:
    """Return a number of things: ``"1 key"``, ``"2 keys"``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def paint(text: str, style: str, stream: TextIO) -> str:
    """Return `text` in a colour if `stream` is a terminal that wants any."""
    is_wanted = stream.isatty() and not os.environ.get("NO_COLOR")
    if not is_wanted or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def print_text(text: str) -> None:
    """Print lines of our own making, of which every foreign part went through `clean`."""
    _write(text + "\n", sys.stdout)


def print_table(rows: Iterable[Sequence[str]], *, stream: TextIO | None = None) -> None:
    """Print rows in columns; the first column is what the others are about."""
    target = stream or sys.stdout
    cleaned = [[clean(cell) for cell in row] for row in rows]
    columns = max((len(row) for row in cleaned), default=0)
    widths = [
        max((len(row[column]) for row in cleaned if column < len(row) - 1), default=0)
        for column in range(columns)
    ]
    for row in cleaned:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        # Padded before it is painted, since escapes have a length but no width.
        cells[0] = paint(cells[0], "bold", target)
        _write("  ".join(cells).rstrip() + "\n", target)


def print_json(report: object) -> None:
    """Print a report dataclass, or a list of them, as JSON in ASCII."""
    _write(json.dumps(_plain(report), indent=2) + "\n", sys.stdout)


def note(text: str) -> None:
    """Tell something on standard error."""
    _write(f"{clean(text)}\n", sys.stderr)


def warn(text: str) -> None:
    """Warn on standard error."""
    _write(f"{paint('warning:', 'yellow', sys.stderr)} {clean(text)}\n", sys.stderr)


def fail(text: str) -> None:
    """Say on standard error, in one line, why a command stops."""
    _write(f"{paint('tenantkv:', 'red', sys.stderr)} {clean(text)}\n", sys.stderr)


def _plain(report: object) -> Any:
    if dataclasses.is_dataclass(report) and not isinstance(report, type):
        return dataclasses.asdict(report)
    if isinstance(report, list):
        return [_plain(item) for item in report]
    return report


def _write(text: str, stream: TextIO) -> None:
    # A terminal that knows no Unicode gets escapes rather than a UnicodeEncodeError.
    encoding = stream.encoding or "ascii"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
