"""What a server answered, for people and for programs. Everything is foreign, so everything is cleaned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tenantkv.cli import output
from tenantkv.cli.client import as_text

#: Of one value on a terminal; a program gets all of it.
LONGEST_SHOWN = 4096


def shown(data: bytes, *, longest: int = LONGEST_SHOWN) -> str:
    """Return a value as one line of text that a terminal can bear, cut off if it is very long."""
    text = output.clean(as_text(data[:longest]))
    return text if len(data) <= longest else f"{text}... ({len(data)} bytes)"


def lines(reply: Any, indent: str = "") -> Iterator[str]:
    """Yield a reply's lines, as redis-cli shows it."""
    if isinstance(reply, dict):
        reply = [part for pair in reply.items() for part in pair]
    if isinstance(reply, (list, tuple, set, frozenset)):
        if not reply:
            yield f"{indent}(empty)"
        width = len(str(len(reply)))
        for number, item in enumerate(reply, 1):
            head = f"{number:>{width}}) "
            inner = list(lines(item))
            yield f"{indent}{head}{inner[0]}"
            for line in inner[1:]:
                yield f"{indent}{' ' * len(head)}{line}"
    else:
        yield indent + _line(reply)


def plain(reply: Any) -> Any:
    """Return a reply for JSON: bytes as text, in which bytes that are not UTF-8 are lone surrogates."""
    if isinstance(reply, dict):
        return [[plain(key), plain(value)] for key, value in reply.items()]
    if isinstance(reply, (list, tuple, set, frozenset)):
        return [plain(item) for item in reply]
    if isinstance(reply, (bytes, bytearray)):
        return as_text(bytes(reply))
    if isinstance(reply, Exception):
        return {"error": str(reply)}
    return reply


def _line(reply: Any) -> str:
    if reply is None:
        return "(nil)"
    if isinstance(reply, bool):
        return "OK" if reply else "(nil)"
    if isinstance(reply, (int, float)):
        return f"(number) {reply}"
    if isinstance(reply, Exception):
        return f"(error) {output.clean(str(reply))}"
    if isinstance(reply, bytes):
        return f'"{shown(reply)}"'
    return output.clean(str(reply))
