"""Leases: what one holds of a lock, a read/write lock or a semaphore, and how it ends.

The owner's token lives on the lease, never on a thread or a task: whoever has the lease may use it, hand
it on, and give it back.
"""

from __future__ import annotations

import base64
import inspect
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis.exceptions import LockError, LockNotOwnedError

from tenantkv.errors import TenantKVError
from tenantkv.ops import lock as operations
from tenantkv.ops.lock_places import Place, Renewal

if TYPE_CHECKING:
    from tenantkv.lock.keeper import AsyncKeeper, Keeper

logger = logging.getLogger("tenantkv.lock")

#: Seconds of a lease where nobody said how many.
DEFAULT_LEASE = 30.0
#: Renewed after this part of it, so that two renewals may fail.
_RENEWED_AFTER = 1 / 3
_TRIED_AGAIN_AFTER = 1 / 10
_LONGEST_PAUSE = 1.0


class LeaseLostError(TenantKVError, LockNotOwnedError):
    """A lease that has ended before its holder gave it back.

    It ran out, or the server lost it, or somebody removed or replaced it. Somebody else may hold the lock
    by now. Also a ``redis.exceptions.LockNotOwnedError``, which code for redis-py's locks expects.

    Attributes:
        lock_name: the lock's own name. It is not in the text.
        reason: what is known of how it was lost.
    """

    def __init__(self, reason: str, lock_name: str) -> None:
        LockNotOwnedError.__init__(self, f"the lease was lost: {reason}")
        self.reason = reason
        self.lock_name = lock_name

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.lock_name)


def lock_error(message: str, name: str) -> LockError:
    """Return redis-py's error for a lock that is used wrongly."""
    error = LockError(message)
    error.lock_name = name
    return error


def new_token() -> bytes:
    """Return what nobody can guess: 22 characters, 128 bits."""
    return base64.urlsafe_b64encode(os.urandom(16))[:22]


@dataclass(slots=True)
class Terms:
    """On what terms a lease is taken.

    Attributes:
        primitive: ``"lock"``, ``"rwlock"`` or ``"semaphore"``.
        name: the own name.
        lease_ms: how long the server keeps it without a renewal.
        renews: whether it is renewed for as long as it is held.
        on_lost: called once with the lease when it is lost.
        poll: seconds between looks where a waiter may not keep a connection.
    """

    primitive: str
    name: bytes
    lease_ms: int
    renews: bool = True
    on_lost: Callable[[Any], Any] | None = None
    poll: float = 0.1

    @property
    def shown_name(self) -> str:
        """The name for errors and logs."""
        return self.name.decode("utf-8", "backslashreplace")


class LeaseState:
    """What a lease knows of itself, without asking the server.

    Attributes:
        client: the client that took it.
        place: what it is of.
        token: who holds it; everybody who knows it can give the lease back.
        terms: see `Terms`.
        fence: the fencing number: greater than that of every lease of this lock before; 0 for a semaphore
            and where it is not known. Hand it to what the lock protects, which refuses lower ones.
        due: when the keeper does the next thing for it, by ``time.monotonic()``.
    """

    __slots__ = (
        "_closing",
        "_ended",
        "_keeper",
        "_until",
        "client",
        "due",
        "fence",
        "place",
        "terms",
        "token",
    )

    def __init__(
        self, client: Any, place: Place, token: bytes, terms: Terms, grant: operations.Grant, keeper: Any
    ) -> None:
        self._keeper = keeper
        self.client = client
        self.place = place
        self.token = token
        self.terms = terms
        self.fence = grant.fence
        self._until = grant.until
        self._ended: str | None = None
        # Its release was sent, and perhaps not answered.
        self._closing = False
        self.due = grant.until
        if terms.renews:
            self.due -= terms.lease_ms / 1000 * (1 - _RENEWED_AFTER)

    @property
    def remaining(self) -> float:
        """Seconds for which the lease is held at least; 0 once it is not. No round trip."""
        return 0.0 if self._ended is not None else max(self._until - time.monotonic(), 0.0)

    @property
    def lost(self) -> bool:
        """Whether the lease has ended without being given back. No round trip, exact in time."""
        return self.loss not in (None, "")

    @property
    def loss(self) -> str | None:
        """Why the lease is no more: the empty string if it was given back, ``None`` while it is held."""
        if self._ended is None and time.monotonic() >= self._until:
            return "it ran out"
        return self._ended

    def check(self) -> None:
        """Return while the lease is held. No round trip.

        What the server did in the meantime shows with the next renewal.

        Raises:
            LeaseLostError: it is no more.
            redis.exceptions.LockError: it was given back.
        """
        reason = self.loss
        if reason is not None:
            raise self._error(reason)

    def settle(self, outcome: float | Exception | None, now: float) -> bool:
        """Take note of a renewal; whether the lease is still to be kept.

        Args:
            outcome: see `tenantkv.ops.lock.renew_all`.
            now: monotonic seconds.
        """
        if self._ended is not None:
            return False
        lease = self.terms.lease_ms / 1000
        if isinstance(outcome, Exception):
            if now < self._until:
                if self._closing:
                    return False
                self.due = min(now + min(lease * _TRIED_AGAIN_AFTER, _LONGEST_PAUSE), self._until)
                return True
            self.lose("it could not be renewed in time")
            return False
        if outcome is None:
            self.lose("the server has it no more")
            return False
        self._until = outcome
        self.due = now + lease * _RENEWED_AFTER
        return not self._closing

    def expire(self, now: float) -> bool:
        """Take note of the time, if it is not renewed; whether the lease is still to be kept."""
        self.due = self._until
        if now < self._until and not self._closing:
            return self._ended is None
        if not self._closing:
            self.lose("it ran out")
        return False

    def lose(self, reason: str) -> None:
        """End the lease, and tell whoever wants to know."""
        if self._ended is not None:
            return
        self._ended = reason
        logger.warning("a lease of the %s %r was lost: %s", self.terms.primitive, self.name, reason)
        if self.terms.on_lost is not None:
            try:
                self._tell(self.terms.on_lost(self))
            except Exception:
                logger.exception("on_lost of the %s %r failed", self.terms.primitive, self.name)

    @property
    def name(self) -> str:
        """The lock's own name, for people."""
        return self.terms.shown_name

    def _tell(self, outcome: Any) -> None:
        if inspect.iscoroutine(outcome):
            outcome.close()
            logger.error("on_lost of the %s %r is a coroutine function", self.terms.primitive, self.name)

    def _error(self, reason: str) -> LockError:
        if reason == "":
            return lock_error("Cannot use a lease that was given back.", self.name)
        return LeaseLostError(reason, self.name)

    def _prolonged(self, until: float | None) -> None:
        if until is None:
            self.lose("the server has it no more")
            raise LeaseLostError(str(self._ended), self.name)
        self._until = until

    def _end(self) -> None:
        """Stop renewing it, before the release is sent."""
        if self._ended == "":
            raise self._error("")
        self._closing = True

    def _released(self, *, was_held: bool) -> None:
        if was_held:
            self._ended = ""
            return
        if self._ended is None:
            self.lose("the server had it no more when it was to be released")
        reason = str(self._ended)
        raise LeaseLostError(reason, self.name)

    def __repr__(self) -> str:
        state = "given back" if self._ended == "" else "lost" if self.lost else "held"
        return f"<{type(self).__name__} of the {self.terms.primitive} {self.name!r}: {state}>"

    def __reduce__(self) -> Any:
        raise TypeError("a lease is not pickled; hand on its token")


class Lease(LeaseState):
    """A lease of a sync client's."""

    __slots__ = ()

    _keeper: Keeper

    def release(self) -> None:
        """Give the lease back, and wake a waiter. One round trip, safe to repeat.

        If the server cannot be reached, it is not renewed any more, and this may be called again.

        Raises:
            LeaseLostError: it was lost before.
            redis.exceptions.LockError: it was given back before.
        """
        self._end()
        self._keeper.discard(self)
        self._released(was_held=self.client.run(operations.release(self.place, self.token, self.fence)))

    def extend(self, time_: float, *, replace: bool = False) -> None:
        """Hold the lease for longer: `time_` seconds on top, or from now on. One round trip.

        Raises:
            LeaseLostError: it was lost.
        """
        how: Renewal = "=" if replace else "+"
        self._prolonged(self.client.run(_prolonging(self, time_, how)))

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class AsyncLease(LeaseState):
    """A lease of an asyncio client's; the twin of `Lease`."""

    __slots__ = ()

    _keeper: AsyncKeeper

    async def release(self) -> None:
        """Give the lease back, and wake a waiter. See `Lease.release`."""
        self._end()
        self._keeper.discard(self)
        self._released(was_held=await self.client.run(operations.release(self.place, self.token, self.fence)))

    async def extend(self, time_: float, *, replace: bool = False) -> None:
        """Hold the lease for longer. See `Lease.extend`."""
        how: Renewal = "=" if replace else "+"
        self._prolonged(await self.client.run(_prolonging(self, time_, how)))

    def _tell(self, outcome: Any) -> None:
        if inspect.isawaitable(outcome):
            self._keeper.spawn(outcome)

    async def __aenter__(self) -> AsyncLease:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.release()


def _prolonging(lease: LeaseState, time_: float, how: Renewal) -> Any:
    # A lease that has ended for us stays so, whatever the server says.
    lease.check()
    time_ms = operations.milliseconds("the time to extend by", time_)
    return operations.renew(lease.place, lease.token, time_ms, how, clock=time.monotonic)
