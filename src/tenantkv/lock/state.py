"""What the sync and the asyncio lock have in common: redis-py's arguments, ours, and whose lease is meant."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from redis.exceptions import LockError

from tenantkv.errors import ConfigurationError
from tenantkv.lock.lease import DEFAULT_LEASE, LeaseState, Terms, lock_error
from tenantkv.lock.taking import desk_of
from tenantkv.ops import lock as operations
from tenantkv.ops.lock import Grant
from tenantkv.ops.lock_places import Place
from tenantkv.transport.primitives import UNSET

logger = logging.getLogger("tenantkv.lock")

_TOKEN_LENGTH = 22
_TOKEN_LETTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


class LockState:
    """What the sync and the asyncio lock have in common: the arguments, and whose lease is meant.

    Attributes:
        local: redis-py's: ``local.token`` is the token of the lease that this thread holds, or ``None``.
    """

    redis: Any
    name: Any
    local: Any
    raise_on_release_error: bool
    reentrant: bool

    def _configure(
        self,
        redis: Any,
        name: str | bytes,
        timeout: float | None,
        sleep: float,
        blocking: bool,
        blocking_timeout: float | None,
        thread_local: bool,
    ) -> None:
        """Take redis-py's arguments, under redis-py's names."""
        self.redis = redis
        self.name = name
        # redis-py's None and 0 are for ever: for as long as the holder lives, here.
        self.timeout = timeout or None
        self.sleep = sleep
        self.blocking = blocking
        self.blocking_timeout = blocking_timeout
        self.thread_local = bool(thread_local)
        self.local = threading.local() if self.thread_local else SimpleNamespace()
        self.local.token = None
        self._entered: dict[int, list[LeaseState]] = {}

    def _set_terms(
        self,
        lease: float | None,
        wait: Any,
        renew: bool | None,
        on_lost: Callable[[Any], Any] | None,
        place: tuple[str, Place],
    ) -> None:
        """Take our own arguments."""
        # Who gives redis-py's timeout expects it to end then.
        renews = not self.timeout if renew is None else renew
        if lease is not None:
            if self.timeout is not None:
                raise ConfigurationError("give a lock lease=, or redis-py's timeout=, not both")
            self.timeout = lease
        if wait is not UNSET:
            if not self.blocking or self.blocking_timeout is not None:
                raise ConfigurationError("give a lock wait=, or redis-py's blocking arguments, not both")
            self.blocking_timeout = None if wait is None else operations.seconds("wait", wait)
        primitive, self._place = place
        lease_ms = operations.milliseconds("lease", DEFAULT_LEASE if self.timeout is None else self.timeout)
        poll = max(operations.seconds("sleep", self.sleep), 0.001)
        self._terms = Terms(primitive, to_bytes(self.name), lease_ms, renews, on_lost, poll)

    @property
    def lease(self) -> Any:
        """The lease that this thread holds.

        Raises:
            redis.exceptions.LockError: none.
        """
        lease: Any = getattr(self.local, "lease", None)
        if lease is None or getattr(self.local, "token", None) is None:
            raise lock_error("The lock is not held.", self._terms.shown_name)
        return lease

    @property
    def fence(self) -> int:
        """The fencing number of the lease that this thread holds; see `LeaseState.fence`."""
        return int(self.lease.fence)

    @property
    def lost(self) -> bool:
        """Whether the lease that this thread took was lost. No round trip."""
        lease = getattr(self.local, "lease", None)
        return lease is not None and lease.lost

    @property
    def remaining(self) -> float:
        """Seconds for which this thread holds the lock at least. No round trip."""
        return float(self.lease.remaining)

    def check(self) -> None:
        """Return while this thread holds the lock. No round trip. See `LeaseState.check`."""
        self.lease.check()

    def _wait(self, blocking: bool | None, blocking_timeout: float | None) -> float | None:
        if not (self.blocking if blocking is None else blocking):
            return 0.0
        wait = self.blocking_timeout if blocking_timeout is None else blocking_timeout
        # redis-py tries once, whatever the time is.
        return (
            None if wait is None or wait == math.inf else max(operations.seconds("wait", wait, least=-1e9), 0)
        )

    def _wire_token(self, token: bytes) -> bytes:
        """Return a token as it is stored: one that the caller made up is not shown to neighbours."""
        if len(token) == _TOKEN_LENGTH and _TOKEN_LETTERS.issuperset(token):
            return token
        hidden: bytes = self.redis.namespace.hidden_name(b"lock-token:" + token)
        return hidden[:_TOKEN_LENGTH]

    def _hold(self, lease: LeaseState, token: bytes | None, holder: int) -> None:
        self.local.token = lease.token if token is None else token
        self.local.lease = lease
        self.local.depth = 1
        self.local.holder = holder

    def _enters_again(self, holder: int) -> bool:
        """Whether the caller holds the lock already, and may hold it once more."""
        if getattr(self.local, "token", None) is None:
            return False
        if self.local.holder != holder or self.local.lease.loss is not None:
            return False
        self.local.depth += 1
        return True

    def _leaves_again(self) -> bool:
        """Whether the lock is still held after one release."""
        if getattr(self.local, "depth", 1) > 1:
            self.local.depth -= 1
            return True
        return False

    def _held_token(self, doing: str) -> bytes:
        token = getattr(self.local, "token", None)
        if token is None:
            raise lock_error(doing, self._terms.shown_name)
        return token.encode() if isinstance(token, str) else token

    def _current(self, token: bytes, make: Callable[..., Any], keeper_of: Callable[[Any], Any]) -> Any:
        """Return the lease of the token at hand, which somebody may have put there."""
        lease = getattr(self.local, "lease", None)
        if lease is not None and lease.token == token:
            return lease
        wire = self._wire_token(token)
        if lease is None or lease.token != wire:
            keeper = keeper_of(self.redis)
            terms = Terms(self._terms.primitive, self._terms.name, self._terms.lease_ms, renews=False)
            lease = make(self.redis, self._place, wire, terms, Grant(0, math.inf), keeper)
        return lease

    def _let_go(self, lease: LeaseState) -> None:
        if getattr(self.local, "lease", None) is lease or getattr(self.local, "lease", None) is None:
            self.local.token = None

    def _entered_lease(self, holder: int) -> Any:
        """Return the lease with which the caller entered, unless it was given back since."""
        stack = self._entered.get(holder, [])
        lease = stack.pop() if stack else None
        if not stack:
            self._entered.pop(holder, None)
        return lease if lease is not None and lease.loss != "" else None

    def _time(self, doing: str) -> None:
        if self.timeout is None:
            raise lock_error(f"Cannot {doing} a lock with no timeout", self._terms.shown_name)

    def _no_more(self, error: LockError) -> None:
        """Raise, or write a warning, as the lock was told."""
        if self.raise_on_release_error:
            raise error
        logger.warning("Lock was unlocked or no longer owned when exiting context manager.")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._terms.primitive} {self._terms.shown_name!r}>"


def to_bytes(name: str | bytes) -> bytes:
    """Return a name as it is on the wire."""
    return name.encode() if isinstance(name, str) else bytes(name)


def exclusive(redis: Any, name: str | bytes, fair: bool, hidden: bool) -> tuple[str, Place]:
    return "lock", desk_of(redis).lock(to_bytes(name), fair, hidden)
