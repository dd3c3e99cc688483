"""The methods with which clients make primitives: caches, locks, semaphores, rate limiters, queues.

A sync client makes sync ones, an asyncio client asyncio ones. Each is imported when it is first made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenantkv.cache import AsyncCache, Cache
    from tenantkv.lock import (
        AsyncLease,
        AsyncLock,
        AsyncReadWriteLock,
        AsyncSemaphore,
        Lease,
        Lock,
        ReadWriteLock,
        Semaphore,
    )
    from tenantkv.queue import AsyncQueue, Queue, QueueSettings
    from tenantkv.rate_limit import AsyncRateLimit, RateLimit

#: What stands for an argument that was not given, where ``None`` means something.
UNSET: Any = object()


class Primitives:
    """What a sync client makes."""

    def lock(
        self,
        name: str | bytes,
        timeout: float | None = None,
        sleep: float = 0.1,
        blocking: bool = True,
        blocking_timeout: float | None = None,
        lock_class: Any = None,
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
    ) -> Lock:
        """Return a lock, for ``with``; nothing is sent yet. See :class:`tenantkv.lock.Lock`.

        The first eight arguments are redis-py's. `lock_class` makes a lock of that class instead, such as
        ``redis.lock.Lock``, with redis-py's arguments alone.

        Example:
            with kv.lock("rebuild", lease=30, wait=10) as lock:
                store(report, fence=lock.fence)
        """
        redis_s = (timeout, sleep, blocking, blocking_timeout)
        if lock_class is not None:
            return stock_lock(self, lock_class, name, redis_s, thread_local, raise_on_release_error)  # type: ignore[no-any-return]
        from tenantkv.lock import Lock

        return Lock(
            self,
            name,
            *redis_s,
            thread_local,
            raise_on_release_error,
            lease=lease,
            wait=wait,
            renew=renew,
            fair=fair,
            reentrant=reentrant,
            hidden=hidden,
            on_lost=on_lost,
        )

    def read_write_lock(
        self,
        name: str | bytes,
        *,
        lease: float | None = None,
        wait: float | None = None,
        renew: bool | None = None,
        hidden: bool = True,
        on_lost: Callable[[Lease], Any] | None = None,
    ) -> ReadWriteLock:
        """Return a pair of locks, ``.read()`` and ``.write()``. Nothing is sent yet."""
        from tenantkv.lock import ReadWriteLock

        terms = {"lease": lease, "wait": wait, "renew": renew, "on_lost": on_lost}
        return ReadWriteLock(self, name, hidden=hidden, **terms)

    def semaphore(
        self,
        name: str | bytes,
        limit: int,
        *,
        lease: float = 30.0,
        wait: float | None = None,
        renew: bool = True,
        hidden: bool = True,
        on_lost: Callable[[Lease], Any] | None = None,
    ) -> Semaphore:
        """Return a semaphore of `limit` places, for ``with``. Nothing is sent yet."""
        from tenantkv.lock import Semaphore

        terms: dict[str, Any] = {"lease": lease, "wait": wait, "renew": renew, "on_lost": on_lost}
        return Semaphore(self, name, limit, hidden=hidden, **terms)

    def rate_limit(self, name: str | bytes, limit: int, *, per: float, hidden: bool = True) -> RateLimit:
        """Return a limiter: at most `limit` in any `per` seconds. Nothing is sent yet."""
        from tenantkv.rate_limit import RateLimit

        return RateLimit(self, name, limit, per=per, hidden=hidden)

    def cache(self, name: str, **settings: Any) -> Cache:
        """Return a cache; nothing is sent yet. See :class:`tenantkv.cache.Cache` for the settings."""
        from tenantkv.cache import Cache

        return Cache(self, name, **settings)

    def queue(self, name: str | bytes, settings: QueueSettings | None = None, **options: Any) -> Queue:
        """Return a queue; nothing is sent yet. See :class:`tenantkv.queue.Queue` for the options."""
        from tenantkv.queue import Queue

        return Queue(self, name, settings, **options)


class AsyncPrimitives:
    """What an asyncio client makes; the twin of `Primitives`."""

    def lock(
        self,
        name: str | bytes,
        timeout: float | None = None,
        sleep: float = 0.1,
        blocking: bool = True,
        blocking_timeout: float | None = None,
        lock_class: Any = None,
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
    ) -> AsyncLock:
        """Return a lock, for ``async with``; nothing is sent yet. See :meth:`Primitives.lock`."""
        redis_s = (timeout, sleep, blocking, blocking_timeout)
        if lock_class is not None:
            return stock_lock(self, lock_class, name, redis_s, thread_local, raise_on_release_error)  # type: ignore[no-any-return]
        from tenantkv.lock import AsyncLock

        return AsyncLock(
            self,
            name,
            *redis_s,
            thread_local,
            raise_on_release_error,
            lease=lease,
            wait=wait,
            renew=renew,
            fair=fair,
            reentrant=reentrant,
            hidden=hidden,
            on_lost=on_lost,
        )

    def read_write_lock(
        self,
        name: str | bytes,
        *,
        lease: float | None = None,
        wait: float | None = None,
        renew: bool | None = None,
        hidden: bool = True,
        on_lost: Callable[[AsyncLease], Any] | None = None,
    ) -> AsyncReadWriteLock:
        """Return a pair of locks, ``.read()`` and ``.write()``. Nothing is sent yet."""
        from tenantkv.lock import AsyncReadWriteLock

        terms = {"lease": lease, "wait": wait, "renew": renew, "on_lost": on_lost}
        return AsyncReadWriteLock(self, name, hidden=hidden, **terms)

    def semaphore(
        self,
        name: str | bytes,
        limit: int,
        *,
        lease: float = 30.0,
        wait: float | None = None,
        renew: bool = True,
        hidden: bool = True,
        on_lost: Callable[[AsyncLease], Any] | None = None,
    ) -> AsyncSemaphore:
        """Return a semaphore of `limit` places, for ``async with``. Nothing is sent yet."""
        from tenantkv.lock import AsyncSemaphore

        terms: dict[str, Any] = {"lease": lease, "wait": wait, "renew": renew, "on_lost": on_lost}
        return AsyncSemaphore(self, name, limit, hidden=hidden, **terms)

    def rate_limit(self, name: str | bytes, limit: int, *, per: float, hidden: bool = True) -> AsyncRateLimit:
        """Return a limiter: at most `limit` in any `per` seconds. Nothing is sent yet."""
        from tenantkv.rate_limit import AsyncRateLimit

        return AsyncRateLimit(self, name, limit, per=per, hidden=hidden)

    def cache(self, name: str, **settings: Any) -> AsyncCache:
        """Return a cache; nothing is sent yet. See :class:`tenantkv.cache.AsyncCache` for the settings."""
        from tenantkv.cache import AsyncCache

        return AsyncCache(self, name, **settings)

    def queue(self, name: str | bytes, settings: QueueSettings | None = None, **options: Any) -> AsyncQueue:
        """Return a queue; nothing is sent yet. See :class:`tenantkv.queue.AsyncQueue` for the options."""
        from tenantkv.queue import AsyncQueue

        return AsyncQueue(self, name, settings, **options)


def stock_lock(
    client: Any,
    lock_class: Any,
    name: str | bytes,
    times: tuple[Any, ...],
    thread_local: bool,
    raise_on_release_error: bool,
) -> Any:
    """Return a lock of a class that is not ours, made as redis-py makes it."""
    timeout, sleep, blocking, blocking_timeout = times
    # Classes for older versions do not know the last one.
    more = {} if raise_on_release_error else {"raise_on_release_error": False}
    return lock_class(
        client,
        name,
        timeout=timeout,
        sleep=sleep,
        blocking=blocking,
        blocking_timeout=blocking_timeout,
        thread_local=thread_local,
        **more,
    )
