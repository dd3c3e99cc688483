"""The lock's operations: take, wait, renew, give back. The same for whatever `lock_places` has.

Laws of this file:

1. A token is the caller's alone and never used for a second lease. So taking and giving back can be
   repeated after a lost reply, and the driver does it.
2. Who waits is woken by the release. Beyond, it looks again when the lease that it waits for must have
   ended, and every `LONGEST_NAP` seconds.
3. A lease's end is reckoned from before the request was sent, so that the holder never believes in it
   for longer than the server does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tenantkv.errors import ConfigurationError
from tenantkv.ops.effects import Batch, Call, Command, Operation, Sleep
from tenantkv.ops.lock_places import LONGEST_LEASE, LONGEST_NAP, Place, Renewal
from tenantkv.ops.scripts import script

_COUNT = script("semaphore_count", repeatable=True)

Clock = Callable[[], float]

# The least that BLPOP is given: 0 is for ever. And the least that a server's time is waited beyond.
_LEAST_NAP = 0.005
# Wakes in vain that are usual where others come in between; more are somebody's doing, and cost a pause.
_VAIN_WAKES = 3
_LONGEST_PAUSE = 0.5
_NOT_YET = 0.002


class Gate(Protocol):
    """How many of a process's waiters may keep a connection each."""

    def enter(self) -> bool:
        """Whether one more may; then `leave` is called once it is done."""
        ...

    def leave(self) -> None:
        """Let another one in."""
        ...


# Not frozen: that would take three times as long to make.
@dataclass(slots=True)
class Grant:
    """A lease as the server gave it.

    Attributes:
        fence: the fencing number; 0 where there is none.
        until: when it ends at the earliest, by the caller's clock.
    """

    fence: int
    until: float


def seconds(what: str, value: float | None, *, least: float = 0.0, most: float = math.inf) -> float:
    """Return a time that was passed in, checked.

    Raises:
        ConfigurationError: it is no number, NaN, or not between `least` and `most`.
    """
    if type(value) is float and least <= value <= most:
        return value
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not least <= number <= most:
        bound = f"between {least:g} and {most:g}" if math.isfinite(most) else f"at least {least:g}"
        raise ConfigurationError(f"{what} is a number of seconds, {bound}, not {value!r}")
    return number


def milliseconds(what: str, value: float | None) -> int:
    """Return a lease in milliseconds, at least 1.

    Raises:
        ConfigurationError: it is no number, NaN, negative, below a millisecond or above `LONGEST_LEASE`.
    """
    return round(seconds(what, value, least=0.001, most=LONGEST_LEASE) * 1000)


def acquire(
    place: Place,
    token: bytes,
    lease_ms: int,
    wait: float | None,
    *,
    clock: Clock,
    gate: Gate,
    poll: float,
    lost: tuple[type[Exception], ...],
) -> Operation[Grant | None]:
    """Take a place, or return ``None`` when `wait` is over.

    One round trip if it is free; while waiting, two for each wake.

    Args:
        place: what to take.
        token: a fresh one.
        lease_ms: for how long, in milliseconds.
        wait: seconds to wait; 0 to try once, ``None`` for ever.
        clock: monotonic seconds.
        gate: whether a connection may be kept while waiting.
        poll: seconds between looks where it may not.
        lost: what a lost connection raises; while waiting it costs nothing but another look.
    """
    end = math.inf if wait is None else clock() + wait
    waits = wait is None or wait > 0
    waited, vain = False, 0
    while True:
        asked = clock()
        reply = yield place.acquire(token, lease_ms, waited=waited, waits=waits)
        if not isinstance(reply, int):
            until = asked + lease_ms / 1000
            if clock() < until:
                return Grant(int(reply), until)
            # It took longer than the lease: whether it still stands is to be seen.
            waited = True
            continue
        left = end - clock()
        if left <= 0:
            leave = place.leave(token) if waits else None
            if leave is not None:
                yield leave
            return None
        if reply == 0:
            # Another waiter's turn, who is on the way.
            vain += 1
            yield Sleep(min(left, _pause(vain, _NOT_YET)))
        nap = min(left, LONGEST_NAP, max(reply / 1000, _LEAST_NAP) if reply else LONGEST_NAP)
        woken = yield from _nap(place.wake, max(nap, _LEAST_NAP), gate, poll, lost)
        waited = True
        vain = vain + 1 if woken else 0
        if vain > _VAIN_WAKES:
            yield Sleep(min(max(end - clock(), 0.0), _pause(vain - _VAIN_WAKES, _NOT_YET)))


def _pause(count: int, first: float) -> float:
    return min(first * float(2 ** min(count, 10)), _LONGEST_PAUSE)


def _nap(
    wake: bytes, time: float, gate: Gate, poll: float, lost: tuple[type[Exception], ...]
) -> Operation[bool]:
    """Wait until woken, or for a time; whether woken."""
    if not gate.enter():
        yield Sleep(min(time, poll))
        return False
    try:
        # A batch, in which errors are replies.
        replies = yield Batch([("BLPOP", wake, f"{time:.3f}")])
    except lost:
        # What was in the lost reply is made up for by looking; if the server is away, that tells.
        return False
    finally:
        gate.leave()
    reply = replies[0]
    if isinstance(reply, Exception):
        if not str(reply).startswith("WRONGTYPE"):
            raise reply
        yield Batch([("UNLINK", wake)])
        yield Sleep(min(time, poll))
        return False
    return reply is not None


def renew(place: Place, token: bytes, time_ms: int, how: Renewal, *, clock: Clock) -> Operation[float | None]:
    """Hold a place for longer; when the lease ends, or ``None`` if it is the token's no more.

    One round trip. Not repeated after a lost reply with ``+``.
    """
    asked = clock()
    reply = yield place.renew(token, time_ms, how)
    return asked + reply / 1000 if reply else None


def renew_all(
    leases: Sequence[tuple[Place, bytes, int]], *, clock: Clock
) -> Operation[list[float | Exception | None]]:
    """Renew several leases in one round trip; for each what `renew` returns, or the error."""
    asked = clock()
    replies = yield Batch([place.renew(token, time_ms, ">") for place, token, time_ms in leases])
    return [
        reply if isinstance(reply, Exception) else asked + reply / 1000 if reply else None
        for reply in replies
    ]


def release(place: Place, token: bytes, fence: int) -> Operation[bool]:
    """Give a place back and wake a waiter; whether it was the token's. One round trip."""
    reply = yield place.release(token, fence)
    return bool(reply)


def is_held(place: Place) -> Operation[bool]:
    """Whether anybody holds a place. One round trip."""
    if place.counts:
        return (yield from holders(place, b""))[0] > 0
    reply = yield Command(("EXISTS", place.key))
    return bool(reply)


def is_held_by(place: Place, token: bytes) -> Operation[bool]:
    """Whether the token holds a place. One round trip."""
    if place.counts:
        return (yield from holders(place, token))[1]
    # In a batch: what has another type is not held, and that is not the caller's error.
    replies = yield Batch([("GETRANGE", place.key, 0, 63)])
    return replies[0] in (token, token + b"+")


def holders(place: Place, token: bytes) -> Operation[tuple[int, bool]]:
    """How many hold a place that can be shared, and whether the token does. One round trip."""
    count, left = yield Call(_COUNT, [place.key], [token])
    return count, left > 0
