"""Pipelines whose errors say which command failed, and never what it was to store.

redis-py's own quote all arguments of the command, and so carry values into logs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio.client import Pipeline as StockAsyncPipeline
from redis.client import Pipeline as StockPipeline

from tenantkv.commands.decisions import decide
from tenantkv.commands.rule import Rule
from tenantkv.commands.table import find_rule
from tenantkv.errors import RefusedError

_LONGEST = 100


class TenantPipeline(StockPipeline):
    """A pipeline as :meth:`tenantkv.TenantRedis.pipeline` makes it."""

    def annotate_exception(self, exception: Any, number: int, command: Iterable[Any]) -> None:
        """Put the command's number and name into an error's text."""
        annotate(exception, number, command)


class AsyncTenantPipeline(StockAsyncPipeline):
    """A pipeline as :meth:`tenantkv.AsyncTenantRedis.pipeline` makes it."""

    def annotate_exception(self, exception: Any, number: int, command: Iterable[Any]) -> None:
        """Put the command's number and name into an error's text."""
        annotate(exception, number, command)


def annotate(exception: Exception, number: int, command: str | Iterable[Any]) -> None:
    """Say in an error's text which command of a pipeline it is about."""
    text = exception.args[0] if exception.args else ""
    words = [command] if isinstance(command, str) else list(command)
    where = f"Command # {number} ({quoted(words)}) of pipeline caused error: "
    exception.args = (f"{where}{text}", *exception.args[1:])


def quoted(command: Sequence[Any]) -> str:
    """Return a command for people: its name, its keys, fields and options; dots for its values."""
    words = [_as_bytes(part) for part in command]
    try:
        values = _values(words, find_rule(words))
    except (RefusedError, IndexError):
        # Nothing is known of it, so that anything may be a value.
        values = set(range(1, len(words)))
    parts = [
        "..." if at in values else word.decode("utf-8", "backslashreplace") for at, word in enumerate(words)
    ]
    text = " ".join(parts)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _values(words: list[bytes], rule: Rule) -> set[int]:
    """Return where a command's values stand, and what may be one."""
    decision = decide(rule)
    if decision.what in ("refuse", "opaque") or not decision.name:
        # Words of which nobody says what they are: all but the names of keys.
        named = rule.locate(words) if rule.locate is not None else ()
        return set(range(rule.words, len(words))).difference(named)
    return {value for value, _, _ in decision.layout(words)} if decision.layout is not None else set()


def _as_bytes(part: Any) -> bytes:
    if isinstance(part, bytes):
        return part
    return str(part).encode("utf-8", "surrogateescape")
