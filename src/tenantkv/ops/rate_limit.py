"""The rate limiter's operation: a sliding window in slices, counted by one script.

Key, a hash of at most `SLICES` + 2 fields, with a TTL of about one window::

    tkv:rate:{<hidden name>}    number of a slice of the server's time to its count, and "ids"

A slice counts until its last millisecond has left the window. So no window of that length, wherever it
begins, ever holds more than the limit, and room comes back at most one slice late.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tenantkv.errors import ConfigurationError
from tenantkv.ops.effects import Call, Operation
from tenantkv.ops.scripts import script

#: Into how many slices a window is cut: room comes back up to 1/32 of the window late.
SLICES = 32
LARGEST_LIMIT = 1_000_000_000
LONGEST_WINDOW = 31 * 24 * 3600.0

_HIT = script("rate_hit", repeatable=True)


@dataclass(frozen=True, slots=True)
class Decision:
    """What came of asking; true if it is allowed.

    Attributes:
        allowed: whether it was counted.
        remaining: how many more there is room for now.
        retry_after: seconds until there is room for what was refused; 0 if it was allowed.
        reset_after: seconds until the window is empty, if nothing else comes.
    """

    allowed: bool
    remaining: int
    retry_after: float
    reset_after: float

    def __bool__(self) -> bool:
        return self.allowed


@dataclass(frozen=True, slots=True)
class Rate:
    """How many in what time.

    Raises:
        ConfigurationError: not 1 to `LARGEST_LIMIT`, or not 32 ms to 31 days.
    """

    limit: int
    per: float

    def __post_init__(self) -> None:
        if type(self.limit) is not int or not 1 <= self.limit <= LARGEST_LIMIT:
            raise ConfigurationError(f"a rate's limit is 1 to {LARGEST_LIMIT}, not {self.limit!r}")
        is_number = isinstance(self.per, (int, float)) and not isinstance(self.per, bool)
        if not is_number or not SLICES / 1000 <= self.per <= LONGEST_WINDOW:
            raise ConfigurationError(f"a rate's window is 0.032 s to 31 days, not {self.per!r}")

    @property
    def slice_ms(self) -> int:
        """The length of a slice, in milliseconds."""
        return math.ceil(self.per * 1000 / SLICES)


def hit(key: bytes, rate: Rate, cost: int, call_id: bytes) -> Operation[Decision]:
    """Count `cost` in the window if there is room. One round trip, atomic, safe to repeat.

    Args:
        key: the window's own name.
        rate: how many in what time.
        cost: how many this is; 0 only looks.
        call_id: 8 characters of this call's own, so that a repeat is not counted twice.

    Raises:
        ConfigurationError: the cost is negative, above the limit, or no integer.
    """
    if type(cost) is not int or not 0 <= cost <= rate.limit:
        raise ConfigurationError(f"a cost is 0 to the limit of {rate.limit}, not {cost!r}")
    arguments = (rate.limit, SLICES, rate.slice_ms, cost, call_id)
    allowed, remaining, retry_ms, reset_ms = yield Call(_HIT, [key], arguments)
    return Decision(bool(allowed), remaining, retry_ms / 1000, reset_ms / 1000)
