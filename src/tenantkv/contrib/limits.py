"""Storages for `limits`, and so for Flask-Limiter: ``storage_uri="tenantkv://"``.

Importing this module makes ``tenantkv://`` and ``async+tenantkv://`` known to `limits`.
"""

from __future__ import annotations

import time
from typing import Any, TypeVar

from limits.aio.storage import MovingWindowSupport as AsyncMovingWindowSupport
from limits.aio.storage import SlidingWindowCounterSupport as AsyncSlidingWindowCounterSupport
from limits.aio.storage import Storage as AsyncStorage
from limits.storage import MovingWindowSupport, SlidingWindowCounterSupport, Storage
from redis.exceptions import RedisError

import tenantkv
from tenantkv.cache.aio_wire import AsyncWire
from tenantkv.cache.breaker import Breaker
from tenantkv.cache.owed import Owed
from tenantkv.cache.wire import Wire
from tenantkv.contrib.limits_windows import (
    ASYNC_SCHEMES,
    PATIENCE,
    SCHEMES,
    Windows,
    options_of,
    server_url,
    whole,
)
from tenantkv.contrib.loop_clients import LoopClients
from tenantkv.ops.effects import Command, Operation
from tenantkv.ops.rate_limit import LARGEST_LIMIT

__all__ = ["AsyncTenantStorage", "TenantStorage"]

Result = TypeVar("Result")


class TenantStorage(Storage, MovingWindowSupport, SlidingWindowCounterSupport):
    """Where limits count, beside strangers: hidden names, no KEYS, and half a second of patience.

    While the server is away calls raise its error, at once after the first: `limits` and Flask-Limiter
    have ways of their own to go on (``in_memory_fallback_enabled``, ``swallow_errors``).

    Args:
        uri: ``tenantkv://`` for the environment's server, ``tenantkv://host:port/0``, or ``tenantkv+``
            and any URL that `tenantkv.connect` takes.
        wrap_exceptions: see `limits`.
        options: ``client``, a :class:`tenantkv.TenantRedis`, or options of `tenantkv.connect`.

    Raises:
        ConfigurationError: the URI or an option has no meaning.
        KeyringError: there is no keyring, or it cannot be trusted.

    Example:
        >>> storage = TenantStorage("tenantkv+memory://", namespace=getfixture("namespace"))
        >>> [storage.acquire_entry("login", 2, 60) for _ in range(3)]
        [True, True, False]
    """

    STORAGE_SCHEME = SCHEMES

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False, **options: Any) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        client, rest = options_of(options)
        self.client = tenantkv.connect(server_url(uri), **rest) if client is None else client
        self._windows = Windows(self.client.namespace)
        self._wire = Wire(self.client, PATIENCE, _nothing_owed())
        self._breaker = self._wire.breaker

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        """What the server and its connections raise."""
        return RedisError

    def _run(self, operation: Operation[Result]) -> Result:
        return self._wire.run(operation)

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count in a fixed window of `expiry` seconds, and return the count."""
        return self._run(self._windows.count(key, expiry, amount))[0]

    def get(self, key: str) -> int:
        """Return the count of a fixed window."""
        return self._run(self._windows.count(key, 0, 0))[0]

    def get_expiry(self, key: str) -> float:
        """Return the end of a fixed window, in seconds since 1970; now if there is none."""
        return time.time() + self._run(self._windows.count(key, 0, 0))[1]

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count in a moving window, if there is room."""
        return self._run(self._windows.acquire(key, limit, expiry, amount))

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Return the start of a moving window and the count in it."""
        count, left = self._run(self._windows.look(key, limit, expiry))
        return time.time() + left - (expiry if count else 0), count

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count in a sliding window, if there is room; it is a moving one, which is stricter."""
        return self._run(self._windows.acquire(key, limit, expiry, amount))

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Return count and TTL of the last window (0, as all is in the other) and of the present one."""
        return whole(self._run(self._windows.look(key, LARGEST_LIMIT, expiry)), expiry)

    def clear_sliding_window(self, key: str, expiry: int) -> None:
        """Forget one limit."""
        self._run(self._windows.clear(key))

    def clear(self, key: str) -> None:
        """Forget one limit."""
        self._run(self._windows.clear(key))

    def reset(self) -> int | None:
        """Forget all limits of the tenant: here at once, in other processes within a second."""
        self._run(self._windows.reset())
        return None

    def check(self) -> bool:
        """Say whether the server answers."""
        try:
            self._run(_ping())
        except RedisError:
            return False
        return True


class AsyncTenantStorage(AsyncStorage, AsyncMovingWindowSupport, AsyncSlidingWindowCounterSupport):
    """The twin of `TenantStorage` for ``limits.aio``; for any number of event loops.

    The arguments are the same, with ``async+`` in front of the URI; a `client` is an asyncio one.
    """

    STORAGE_SCHEME = ASYNC_SCHEMES

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False, **options: Any) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        client, rest = options_of(options)
        # One for all loops: otherwise each new one would wait for a server that is away.
        self._breaker = Breaker()

        def make(made: Any) -> AsyncWire:
            wire = AsyncWire(made, PATIENCE, _nothing_owed())
            wire.breaker = self._breaker
            return wire

        self._wires: LoopClients[AsyncWire] = LoopClients(make, client=client, url=server_url(uri), **rest)
        self._windows = Windows(self._wires.namespace)

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        """What the server and its connections raise."""
        return RedisError

    async def _run(self, operation: Operation[Result]) -> Result:
        return await self._wires.here().run(operation)

    async def aclose(self) -> None:
        """Close the running loop's connections; the loop does it too."""
        await self._wires.aclose()

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """See `TenantStorage.incr`."""
        return (await self._run(self._windows.count(key, expiry, amount)))[0]

    async def get(self, key: str) -> int:
        """See `TenantStorage.get`."""
        return (await self._run(self._windows.count(key, 0, 0)))[0]

    async def get_expiry(self, key: str) -> float:
        """See `TenantStorage.get_expiry`."""
        return time.time() + (await self._run(self._windows.count(key, 0, 0)))[1]

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """See `TenantStorage.acquire_entry`."""
        return await self._run(self._windows.acquire(key, limit, expiry, amount))

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """See `TenantStorage.get_moving_window`."""
        count, left = await self._run(self._windows.look(key, limit, expiry))
        return time.time() + left - (expiry if count else 0), count

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """See `TenantStorage.acquire_sliding_window_entry`."""
        return await self._run(self._windows.acquire(key, limit, expiry, amount))

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """See `TenantStorage.get_sliding_window`."""
        return whole(await self._run(self._windows.look(key, LARGEST_LIMIT, expiry)), expiry)

    async def clear_sliding_window(self, key: str, expiry: int) -> None:
        """Forget one limit."""
        await self._run(self._windows.clear(key))

    async def clear(self, key: str) -> None:
        """Forget one limit."""
        await self._run(self._windows.clear(key))

    async def reset(self) -> int | None:
        """See `TenantStorage.reset`."""
        await self._run(self._windows.reset())
        return None

    async def check(self) -> bool:
        """Say whether the server answers."""
        try:
            await self._run(_ping())
        except RedisError:
            return False
        return True


def _nothing_owed() -> Owed:
    # A wire also makes up for invalidations; here there are none.
    shelf: Any = None
    return Owed(shelf)


def _ping() -> Operation[None]:
    yield Command(("PING",))
