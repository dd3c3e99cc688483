"""Locks: ``kv.lock("rebuild", lease=30, wait=10)``, for sync and asyncio.

They take redis-py's arguments and have its methods, so that code and libraries for ``redis.lock.Lock`` go
on working, and are renewed, fenced and woken besides. ``docs/lock.md`` tells what they promise.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Literal

from redis import lock as redis_lock
from redis.asyncio import lock as redis_async_lock
from redis.exceptions import LockError

from tenantkv.lock.keeper import Keeper
from tenantkv.lock.lease import AsyncLease, Lease, lock_error
from tenantkv.lock.state import LockState, exclusive
from tenantkv.lock.taking import async_keeper_of, async_take, desk_of, take
from tenantkv.ops import lock as operations
from tenantkv.ops.lock_places import Place
from tenantkv.transport.primitives import UNSET

_UNAVAILABLE = "Unable to acquire lock within the time specified"
_UNLOCKED = "Cannot release a lock that's not owned or is already unlocked."


def _keeper_of(client: Any) -> Keeper:
    return desk_of(client).keeper


class Lock(LockState, redis_lock.Lock):
    """A lock of a sync client's, made by ``kv.lock()``. A ``redis.lock.Lock`` with leases that last.

    Args:
        redis: the client.
        name: its own name.
        timeout: redis-py's: a lease that is not renewed. ``None``: see `lease`.
        sleep: redis-py's: seconds between looks, where a waiter may not keep a connection.
        blocking: redis-py's: whether ``acquire()`` waits.
        blocking_timeout: redis-py's: for how many seconds.
        thread_local: redis-py's: whether each thread has a lease of its own.
        raise_on_release_error: redis-py's: whether leaving the block raises when the lease was lost.
        lease: seconds for which the lock outlives its holder; renewed meanwhile. 30 if nothing is given.
        wait: seconds to wait for it; ``None`` for ever, 0 to try once.
        renew: whether the lease is renewed; by default unless `timeout` is given.
        fair: whether those that wait get it in the order in which they came.
        reentrant: whether the thread that holds it may take it once more through this object.
        hidden: whether the server sees a name that tells nothing.
        on_lost: called once, from another thread, with a lease that was lost.

    Example:
        with kv.lock("rebuild", lease=30, wait=10) as lock:
            store(report, fence=lock.fence)
    """

    def __init__(
        self,
        redis: Any,
        name: str | bytes,
        timeout: float | None = None,
        sleep: float = 0.1,
        blocking: bool = True,
        blocking_timeout: float | None = None,
        thread_local: bool = True,
        raise_on_release_error: bool = True,
        *,
        lease: float | None = None,
        wait: float | None = UNSET,
        renew: bool | None = None,
        fair: bool = False,
        reentrant: bool = False,
        hidden: bool = True,
        on_lost: Callable[[Lease], Any] | None = None,
        _place: tuple[str, Place] | None = None,
    ) -> None:
        # Not the base's constructor: it registers scripts that are not used.
        self._configure(redis, name, timeout, sleep, blocking, blocking_timeout, thread_local)
        self._set_terms(lease, wait, renew, on_lost, _place or exclusive(redis, name, fair, hidden))
        self.raise_on_release_error = raise_on_release_error
        self.reentrant = reentrant

    def take(self, wait: float | None = UNSET) -> Lease | None:
        """Take a lease and return it, whichever thread will use it; ``None`` when `wait` is over."""
        time = self._wait(None, None) if wait is UNSET else self._wait(True, wait)
        return take(self.redis, self._place, self._terms, time)

    def acquire(
        self,
        sleep: float | None = None,
        blocking: bool | None = None,
        blocking_timeout: float | None = None,
        token: str | bytes | None = None,
    ) -> bool:
        """Take the lock for this thread; whether it was taken in time. See `redis.lock.Lock.acquire`."""
        holder = threading.get_ident()
        if self.reentrant and self._enters_again(holder):
            return True
        given = token.encode() if isinstance(token, str) else token
        wire = b"" if given is None else self._wire_token(given)
        lease = take(self.redis, self._place, self._terms, self._wait(blocking, blocking_timeout), wire)
        if lease is None:
            return False
        self._hold(lease, given, holder)
        return True

    def do_acquire(self, token: str | bytes) -> bool:
        """Try once to take the lock with that token."""
        return self.acquire(blocking=False, token=token)

    def release(self) -> None:
        """Give the lock back. If the server cannot be reached, this may be called again.

        Raises:
            LeaseLostError: it was lost; also a ``redis.exceptions.LockNotOwnedError``.
            redis.exceptions.LockError: this thread does not hold it.
        """
        local = self.local
        lease = getattr(local, "lease", None)
        if self.reentrant and self._leaves_again():
            return
        # The short way: the lease that this thread took.
        if lease is None or lease.token is not local.token:
            lease = self._current(self._held_token(_UNLOCKED), Lease, _keeper_of)
        self._give_back(lease)

    def _give_back(self, lease: Lease) -> None:
        try:
            lease.release()
        except LockError:
            self._let_go(lease)
            raise
        self._let_go(lease)

    def do_release(self, expected_token: str | bytes) -> None:
        """Give back what that token holds.

        Raises:
            LeaseLostError: nothing.
        """
        token = expected_token.encode() if isinstance(expected_token, str) else expected_token
        self._current(token, Lease, _keeper_of).release()

    def extend(self, additional_time: float, replace_ttl: bool = False) -> Literal[True]:
        """Hold the lock for longer: on top of its lease, or with `replace_ttl` from now on.

        Raises:
            LeaseLostError: it was lost.
            redis.exceptions.LockError: this thread does not hold it, or it has no timeout.
        """
        token = self._held_token("Cannot extend an unlocked lock")
        self._time("extend")
        lease = self._current(token, Lease, _keeper_of)
        lease.extend(additional_time, replace=replace_ttl)
        return True

    def do_extend(self, additional_time: float, replace_ttl: bool) -> Literal[True]:
        """See `extend`."""
        return self.extend(additional_time, replace_ttl)

    def reacquire(self) -> Literal[True]:
        """Set the lease back to its timeout. Raises as `extend` does."""
        token = self._held_token("Cannot reacquire an unlocked lock")
        self._time("reacquire")
        lease = self._current(token, Lease, _keeper_of)
        lease.extend(self._terms.lease_ms / 1000, replace=True)
        return True

    def do_reacquire(self) -> Literal[True]:
        """See `reacquire`."""
        return self.reacquire()

    def locked(self) -> bool:
        """Whether anybody holds the lock. One round trip."""
        held: bool = self.redis.run(operations.is_held(self._place))
        return held

    def owned(self) -> bool:
        """Whether the server says that this thread holds the lock. One round trip."""
        token = getattr(self.local, "token", None)
        if token is None:
            return False
        wire = self._wire_token(self._held_token(_UNLOCKED))
        held: bool = self.redis.run(operations.is_held_by(self._place, wire))
        return held

    def __enter__(self) -> Lock:
        if not self.acquire():
            raise lock_error(_UNAVAILABLE, self._terms.shown_name)
        self._entered.setdefault(threading.get_ident(), []).append(self.local.lease)
        return self

    def __exit__(self, *_: object) -> None:
        lease = self._entered_lease(threading.get_ident())
        try:
            if lease is None:
                self.release()
            elif not self._leaves_again():
                self._give_back(lease)
        except LockError as error:
            self._no_more(error)


class AsyncLock(LockState, redis_async_lock.Lock):
    """A lock of an asyncio client's, made by ``akv.lock()``; the twin of `Lock`.

    Tasks share what redis-py calls local; ``async with`` and `take` keep their leases apart.
    `on_lost` may be a coroutine function, and is called on the event loop. `reentrant` is for the task that
    holds the lock.
    """

    def __init__(
        self,
        redis: Any,
        name: str | bytes,
        timeout: float | None = None,
        sleep: float = 0.1,
        blocking: bool = True,
        blocking_timeout: float | None = None,
        thread_local: bool = True,
        raise_on_release_error: bool = True,
        *,
        lease: float | None = None,
        wait: float | None = UNSET,
        renew: bool | None = None,
        fair: bool = False,
        reentrant: bool = False,
        hidden: bool = True,
        on_lost: Callable[[AsyncLease], Any] | None = None,
        _place: tuple[str, Place] | None = None,
    ) -> None:
        self._configure(redis, name, timeout, sleep, blocking, blocking_timeout, thread_local)
        self._set_terms(lease, wait, renew, on_lost, _place or exclusive(redis, name, fair, hidden))
        self.raise_on_release_error = raise_on_release_error
        self.reentrant = reentrant

    async def take(self, wait: float | None = UNSET) -> AsyncLease | None:
        """Take a lease and return it, whichever task will use it; ``None`` when `wait` is over."""
        time = self._wait(None, None) if wait is UNSET else self._wait(True, wait)
        return await async_take(self.redis, self._place, self._terms, time)

    async def acquire(
        self,
        blocking: bool | None = None,
        blocking_timeout: float | None = None,
        token: str | bytes | None = None,
    ) -> bool:
        """Take the lock; whether it was taken in time. See `redis.asyncio.lock.Lock.acquire`."""
        holder = _task()
        if self.reentrant and self._enters_again(holder):
            return True
        given = token.encode() if isinstance(token, str) else token
        wire = b"" if given is None else self._wire_token(given)
        time = self._wait(blocking, blocking_timeout)
        lease = await async_take(self.redis, self._place, self._terms, time, wire)
        if lease is None:
            return False
        self._hold(lease, given, holder)
        return True

    async def do_acquire(self, token: str | bytes) -> bool:
        """Try once to take the lock with that token."""
        return await self.acquire(blocking=False, token=token)

    async def release(self) -> None:
        """Give the lock back. See `Lock.release`."""
        if self._leaves_again():
            return
        token = self._held_token(_UNLOCKED)
        await self._give_back(self._current(token, AsyncLease, async_keeper_of))

    async def _give_back(self, lease: AsyncLease) -> None:
        try:
            await lease.release()
        except LockError:
            self._let_go(lease)
            raise
        self._let_go(lease)

    async def do_release(self, expected_token: str | bytes) -> None:
        """Give back what that token holds. See `Lock.do_release`."""
        token = expected_token.encode() if isinstance(expected_token, str) else expected_token
        await self._current(token, AsyncLease, async_keeper_of).release()

    async def extend(self, additional_time: float, replace_ttl: bool = False) -> Literal[True]:
        """Hold the lock for longer. See `Lock.extend`."""
        token = self._held_token("Cannot extend an unlocked lock")
        self._time("extend")
        lease = self._current(token, AsyncLease, async_keeper_of)
        await lease.extend(additional_time, replace=replace_ttl)
        return True

    async def do_extend(self, additional_time: float, replace_ttl: bool) -> Literal[True]:
        """See `extend`."""
        return await self.extend(additional_time, replace_ttl)

    async def reacquire(self) -> Literal[True]:
        """Set the lease back to its timeout. See `Lock.reacquire`."""
        token = self._held_token("Cannot reacquire an unlocked lock")
        self._time("reacquire")
        lease = self._current(token, AsyncLease, async_keeper_of)
        await lease.extend(self._terms.lease_ms / 1000, replace=True)
        return True

    async def do_reacquire(self) -> Literal[True]:
        """See `reacquire`."""
        return await self.reacquire()

    async def locked(self) -> bool:
        """Whether anybody holds the lock. One round trip."""
        held: bool = await self.redis.run(operations.is_held(self._place))
        return held

    async def owned(self) -> bool:
        """Whether the server says that the lock is held with ``local.token``. One round trip."""
        token = getattr(self.local, "token", None)
        if token is None:
            return False
        wire = self._wire_token(self._held_token(_UNLOCKED))
        held: bool = await self.redis.run(operations.is_held_by(self._place, wire))
        return held

    async def __aenter__(self) -> AsyncLock:
        if not await self.acquire():
            raise lock_error(_UNAVAILABLE, self._terms.shown_name)
        self._entered.setdefault(_task(), []).append(self.local.lease)
        return self

    async def __aexit__(self, *_: object) -> None:
        lease = self._entered_lease(_task())
        try:
            if lease is None:
                await self.release()
            elif not self._leaves_again():
                await self._give_back(lease)
        except LockError as error:
            self._no_more(error)


def _task() -> int:
    return id(asyncio.current_task())
