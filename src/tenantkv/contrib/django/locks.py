"""Locks without a database: one process at a time, in all of a site's processes and machines.

from tenantkv.contrib.django.locks import lock, locked

with lock("nightly-report", lease=60, wait=0):
    build()

@locked("import:{0}", wait=10)
def import_feed(name): ...
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from django.core.cache import caches

from tenantkv.contrib.django.backend import TenantCache
from tenantkv.lock import AsyncLock, Lock

__all__ = ["alock", "lock", "locked"]

Function = TypeVar("Function", bound=Callable[..., Any])


def lock(name: str, *, using: str = "default", **options: Any) -> Lock:
    """Return a lock, for ``with``. Nothing is sent yet.

    Unlike a cache it does not work while the server is away: entering raises
    ``redis.exceptions.ConnectionError``, since nobody could say who holds it. ``docs/lock.md`` tells
    what a lock on a server that evicts can promise.

    Args:
        name: of the lock; sites of one namespace share it.
        using: the alias of a cache, for its server and namespace; its `clear` leaves locks alone.
        options: as for ``kv.lock``: ``lease``, ``wait``, ``renew``, ``fair`` ...
    """
    return _backend(using)._store.patient.lock(f"django:{name}", **options)


def alock(name: str, *, using: str = "default", **options: Any) -> AsyncLock:
    """Return a lock, for ``async with``; see `lock`. Call it in the event loop."""
    made: AsyncLock = _backend(using)._store.async_caches().patient.lock(f"django:{name}", **options)
    return made


def locked(name: str, *, using: str = "default", **options: Any) -> Callable[[Function], Function]:
    """Return a decorator that runs a function, or a coroutine function, under a lock.

    Args:
        name: of the lock; ``{0}`` and ``{name}`` stand for the function's arguments.
        using: see `lock`.
        options: see `lock`.
    """

    def decorate(function: Function) -> Function:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def arun(*args: Any, **kwargs: Any) -> Any:
                async with alock(name.format(*args, **kwargs), using=using, **options):
                    return await function(*args, **kwargs)

            return arun  # type: ignore[return-value]

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with lock(name.format(*args, **kwargs), using=using, **options):
                return function(*args, **kwargs)

        return run  # type: ignore[return-value]

    return decorate


def _backend(alias: str) -> TenantCache:
    backend: Any = caches[alias]
    if not isinstance(backend, TenantCache):
        raise NotImplementedError(f"the cache {alias!r} is of another backend than TenantCache")
    return backend
