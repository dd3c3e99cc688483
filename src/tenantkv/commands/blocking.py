"""How long a blocking command may keep its connection waiting, as the command itself says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tenantkv.commands.options import XREADGROUP_OPTIONS
from tenantkv.commands.rule import Rule

# Where the time stands (negative: from the end) and how many of its units are a second.
_PLACES: dict[str, tuple[int, int]] = {
    "BLPOP": (-1, 1),
    "BRPOP": (-1, 1),
    "BZPOPMIN": (-1, 1),
    "BZPOPMAX": (-1, 1),
    "BRPOPLPUSH": (3, 1),
    "BLMOVE": (5, 1),
    "BLMOVEM": (5, 1),
    "BLMPOP": (1, 1),
    "BZMPOP": (1, 1),
    "WAIT": (2, 1000),
    "WAITAOF": (3, 1000),
}
_AFTER_BLOCK = frozenset({"XREAD", "XREADGROUP", "TS.READ"})


def blocking_time(rule: Rule, arguments: Sequence[Any]) -> float:
    """Return for how many seconds the server may hold the reply back; ``math.inf`` for ever, 0 not at all.

    What cannot be read counts as not blocking, since the server will refuse it at once.
    """
    if rule.name in _AFTER_BLOCK:
        return _block_option(arguments)
    place = _PLACES.get(rule.name)
    if place is None:
        return 0.0
    position, units = place
    try:
        time = float(arguments[position]) / units
    except (ValueError, TypeError, IndexError):
        return 0.0
    return math.inf if time <= 0 or math.isnan(time) else time


def _block_option(arguments: Sequence[Any]) -> float:
    """Read BLOCK from left to right: a group may be called BLOCK or STREAMS. The last one counts."""
    time, position = 0.0, 1
    while position < len(arguments) - 1:
        word = arguments[position]
        option = word.encode() if isinstance(word, str) else bytes(word) if _is_bytes(word) else b""
        option = option.upper()
        if option == b"STREAMS":
            break
        if option == b"BLOCK":
            try:
                time = float(arguments[position + 1]) / 1000
            except (ValueError, TypeError):
                return 0.0
            time = math.inf if time <= 0 else time
        position += 1 + XREADGROUP_OPTIONS.get(option, 0)
    return time


def _is_bytes(word: Any) -> bool:
    return isinstance(word, (bytes, bytearray, memoryview))
