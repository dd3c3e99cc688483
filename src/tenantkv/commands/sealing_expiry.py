"""When a command's value is to expire, for seals that say so themselves."""

from __future__ import annotations

import math

from tenantkv.commands.rule import Rule
from tenantkv.commands.sealing_options import SET_OPTIONS, walk

_SECONDS = {b"EX": 1.0, b"PX": 0.001}
_MOMENTS = {b"EXAT": 1.0, b"PXAT": 0.001}


# What four bytes hold, which is the year 2106: a TTL of a century is bound to that.
_LATEST = float(2**32 - 1)


def expiry_of(words: list[bytes], rule: Rule, now: float) -> float | None:
    """Return the Unix time at which the value of SET, SETEX or PSETEX expires, if it does.

    A number that is none, or no time to come, is the server's to refuse.
    """
    try:
        moment = _moment_of(words, rule, now)
    except ValueError:
        return None
    return min(moment, _LATEST) if moment is not None and now < moment < math.inf else None


def _moment_of(words: list[bytes], rule: Rule, now: float) -> float | None:
    if rule.name in ("SETEX", "PSETEX"):
        return now + float(words[2]) * (1.0 if rule.name == "SETEX" else 0.001)
    if rule.name != "SET" or len(words) == 3:
        return None
    for option, at in walk(words, 3, SET_OPTIONS).items():
        if option in _SECONDS:
            return now + float(words[at]) * _SECONDS[option]
        if option in _MOMENTS:
            return float(words[at]) * _MOMENTS[option]
    return None
