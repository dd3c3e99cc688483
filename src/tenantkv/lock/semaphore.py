"""Semaphores: ``with kv.semaphore("api", 5, lease=30):``, at most five at a time on all machines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from tenantkv.errors import ConfigurationError
from tenantkv.lock.keeper import LOST
from tenantkv.lock.lease import DEFAULT_LEASE, AsyncLease, Lease, Terms, lock_error
from tenantkv.lock.taking import async_take, take
from tenantkv.ops import lock as operations
from tenantkv.ops.lock_places import Shared, key_of

#: The most places that a semaphore has.
LARGEST_LIMIT = 10_000

_FULL = "No place became free within the time specified"
_NONE = "Cannot release a semaphore that's not held"
_SAME: Any = object()


class SemaphoreState:
    """What the sync and the asyncio semaphore have in common."""

    def __init__(
        self,
        client: Any,
        name: str | bytes,
        limit: int,
        *,
        lease: float = DEFAULT_LEASE,
        wait: float | None = None,
        renew: bool = True,
        hidden: bool = True,
        on_lost: Callable[[Any], Any] | None = None,
    ) -> None:
        if type(limit) is not int or not 1 <= limit <= LARGEST_LIMIT:
            raise ConfigurationError(f"a semaphore has 1 to {LARGEST_LIMIT} places, not {limit!r}")
        bare = name.encode() if isinstance(name, str) else bytes(name)
        self.client = client
        self.name = name
        self.limit = limit
        self.wait = _time(wait)
        self._place = Shared(key_of(client.namespace, "semaphore", bare, hidden=hidden), limit)
        self._terms = Terms("semaphore", bare, operations.milliseconds("lease", lease), renew, on_lost)
        # The leases of each thread or task, the last one last.
        self._held: dict[int, list[Any]] = {}

    def _keep(self, holder: int, lease: Any) -> None:
        self._held.setdefault(holder, []).append(lease)

    def _take_last(self, holder: int) -> Any:
        """Return the last lease of a thread or task, or of any if that has none, and forget it."""
        leases = self._held.get(holder)
        if not leases:
            holder, leases = next(reversed(self._held.items()), (holder, None))
        if not leases:
            raise lock_error(_NONE, self._terms.shown_name)
        lease = leases.pop()
        if not leases:
            self._held.pop(holder, None)
        return lease

    def _full(self) -> Exception:
        return lock_error(_FULL, self._terms.shown_name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._terms.shown_name!r} of {self.limit}>"


class Semaphore(SemaphoreState):
    """A semaphore of a sync client's, made by ``kv.semaphore()``. Threads may share it.

    Args:
        client: the client.
        name: its own name.
        limit: how many hold it at a time. Each caller's own: all should name the same.
        lease: seconds for which a place outlives its holder; renewed meanwhile.
        wait: seconds to wait for a place; ``None`` for ever, 0 to try once.
        renew: whether the lease is renewed.
        hidden: whether the server sees a name that tells nothing.
        on_lost: called once, from another thread, with a lease that was lost.
    """

    def take(self, wait: float | None = _SAME) -> Lease | None:
        """Take a place and return its lease; ``None`` when `wait` is over. One round trip if one is free."""
        time = self.wait if wait is _SAME else _time(wait)
        return take(self.client, self._place, self._terms, time)

    def acquire(self, wait: float | None = _SAME) -> bool:
        """Take a place for this thread; whether there was one in time."""
        lease = self.take(wait)
        if lease is not None:
            self._keep(threading.get_ident(), lease)
        return lease is not None

    def release(self) -> None:
        """Give back the place that this thread took last, or else the last one that was taken here.

        Raises:
            LeaseLostError: it was lost; also a ``redis.exceptions.LockNotOwnedError``.
            redis.exceptions.LockError: none is held.
        """
        lease: Lease = self._take_last(threading.get_ident())
        try:
            lease.release()
        except LOST:
            # It may be called again.
            self._keep(threading.get_ident(), lease)
            raise

    def taken(self) -> int:
        """How many places are taken. One round trip."""
        count: int = self.client.run(operations.holders(self._place, b""))[0]
        return count

    def __enter__(self) -> Lease:
        if not self.acquire():
            raise self._full()
        lease: Lease = self._held[threading.get_ident()][-1]
        return lease

    def __exit__(self, *_: object) -> None:
        self.release()


class AsyncSemaphore(SemaphoreState):
    """A semaphore of an asyncio client's, made by ``akv.semaphore()``; the twin of `Semaphore`.

    Tasks may share it; `on_lost` may be a coroutine function, and is called on the event loop.
    """

    async def take(self, wait: float | None = _SAME) -> AsyncLease | None:
        """Take a place and return its lease; ``None`` when `wait` is over. One round trip if one is free."""
        time = self.wait if wait is _SAME else _time(wait)
        return await async_take(self.client, self._place, self._terms, time)

    async def acquire(self, wait: float | None = _SAME) -> bool:
        """Take a place for this task; whether there was one in time."""
        lease = await self.take(wait)
        if lease is not None:
            self._keep(id(asyncio.current_task()), lease)
        return lease is not None

    async def release(self) -> None:
        """Give back the place that this task took last. See `Semaphore.release`."""
        holder = id(asyncio.current_task())
        lease: AsyncLease = self._take_last(holder)
        try:
            await lease.release()
        except LOST:
            self._keep(holder, lease)
            raise

    async def taken(self) -> int:
        """How many places are taken. One round trip."""
        count: int = (await self.client.run(operations.holders(self._place, b"")))[0]
        return count

    async def __aenter__(self) -> AsyncLease:
        if not await self.acquire():
            raise self._full()
        lease: AsyncLease = self._held[id(asyncio.current_task())][-1]
        return lease

    async def __aexit__(self, *_: object) -> None:
        await self.release()


def _time(wait: float | None) -> float | None:
    return None if wait is None else operations.seconds("wait", wait)
