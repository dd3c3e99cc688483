"""The asyncio half of `TenantCache`: Django's a*-methods, without a thread in between.

Each event loop that lives for more than a few calls has connections of its own, which its tasks share, and
which are closed with it; see `loops`.
"""

from __future__ import annotations

import functools
import inspect
import pickle
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.core.cache.backends.base import DEFAULT_TIMEOUT
from redis.exceptions import RedisError

from tenantkv.cache import AsyncCache
from tenantkv.contrib.django import steps
from tenantkv.contrib.django.ground import MISS, SESSIONS, UnpicklableError
from tenantkv.contrib.django.stores import AsyncCaches
from tenantkv.contrib.django.structures import Structures
from tenantkv.errors import CodecError, PlaintextRefusedError, RefusedError

Method = TypeVar("Method", bound=Callable[..., Any])


def _native(method: Method) -> Method:
    """Have the first calls in each loop go through the sync method of that name, in a thread."""
    name = method.__name__[1:]

    @functools.wraps(method)
    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        own = self.__dict__
        if name in own and method.__name__ not in own:
            # Who watches an instance's sync methods alone, as django-debug-toolbar does, is to see this.
            return await sync_to_async(own[name])(*args, **kwargs)
        if self._store.is_young_loop():
            # The class's: what somebody put around the instance's own has seen this call already.
            return await sync_to_async(getattr(type(self), name))(self, *args, **kwargs)
        return await method(self, *args, **kwargs)

    return call  # type: ignore[return-value]


class Coroutines(Structures):
    """The part of `TenantCache` for asyncio; each is the twin of the method without the ``a``."""

    def _acache(self, key: Any) -> AsyncCache:
        caches: AsyncCaches = self._store.async_caches()
        return caches.sessions if type(key) is str and key.startswith(SESSIONS) else caches.main

    @_native
    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """See `get`."""
        name = self._key(key, version)
        try:
            return await self._acache(key).get(name, default)
        except RedisError as error:
            return self._missed(error, default)

    @_native
    async def aget_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """See `get_many`: one command for up to 500."""
        found: dict[Any, Any] = {}
        for cache, names in self._asorted(keys, version):
            try:
                values = await cache.get_many(names)
            except RedisError as error:
                values = self._missed(error, {})
            found.update((names[name], value) for name, value in values.items())
        return found

    @_native
    async def ahas_key(self, key: Any, version: int | None = None) -> bool:
        """See `has_key`."""
        if await self.aget(key, MISS, version) is not MISS:
            return True
        # Sets, hashes and sorted sets are for the sync methods, and this one is seldom asked about them.
        return bool(await sync_to_async(self._on)(key, version, "exists", answer=0))

    def _asorted(self, keys: Iterable[Any], version: int | None) -> list[tuple[AsyncCache, dict[str, Any]]]:
        caches: AsyncCaches = self._store.async_caches()
        names, of_sessions = self._keys(keys, version)
        if not of_sessions:
            return [(caches.main, names)] if names else []
        if caches.sessions is caches.main or not names:
            return [(caches.sessions, {**names, **of_sessions})]
        return [(caches.main, names), (caches.sessions, of_sessions)]

    @_native
    async def aset(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        nx: bool = False,
        xx: bool = False,
    ) -> bool:
        """See `set`."""
        name = self._key(key, version)
        ttl = self._ttl(timeout)
        cache = self._acache(key)
        if ttl is None:
            if nx:
                return await cache.get(name, MISS) is MISS
            return await self._adelete([key], version) > 0 or not xx
        if nx:
            is_added = await self._awrite(cache, value, [name], lambda: cache.add(name, value, ttl))
            return is_added or self._is_session_unheard(key)
        if xx:
            core = cache._core
            return await self._awrite(
                cache, value, [name], lambda: cache._do(steps.replace(core, name, value, ttl))
            )
        return await self._awrite(cache, value, [name], lambda: cache.set(name, value, ttl))

    async def aadd(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """See `add`."""
        return await self.aset(key, value, timeout, version, nx=True)

    @_native
    async def aset_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        """See `set_many`."""
        ttl = self._ttl(timeout)
        if ttl is None:
            await self._adelete(data, version)
            return []
        failed: list[Any] = []
        for cache, names in self._asorted(data, version):
            items = {name: data[key] for name, key in names.items()}
            left = await self._aset_lot(cache, items, ttl)
            failed += [names[name] for name in left]
        return failed

    async def _aset_lot(self, cache: AsyncCache, items: dict[str, Any], ttl: float) -> list[str]:
        try:
            return await cache.set_many(items, ttl)
        except RedisError as error:
            return self._missed(error, list(items))
        except PlaintextRefusedError:
            raise
        except (RefusedError, CodecError):
            # One by one: each is stored, or answered for.
            return [
                name for name, value in items.items() if not await self._aset_one(cache, name, value, ttl)
            ]

    async def _aset_one(self, cache: AsyncCache, name: str, value: Any, ttl: float) -> bool:
        return await self._awrite(cache, value, [name], lambda: cache.set(name, value, ttl))

    async def _awrite(
        self, cache: AsyncCache, value: Any, names: list[str], write: Callable[[], Awaitable[bool]]
    ) -> bool:
        """Return what a write gives; see `TenantCache._write`."""
        try:
            try:
                return await write()
            except CodecError:
                # A QuerySet that is not evaluated asks the database, which no event loop may do. It is
                # evaluated by being pickled elsewhere.
                await _pickled(value)
            return await write()
        except RedisError as error:
            return self._missed(error, False)
        except PlaintextRefusedError:
            raise
        except RefusedError:
            await cache.delete_many(names)
            return False
        except CodecError as error:
            raise UnpicklableError(str(error)) from None

    @_native
    async def atouch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """See `touch`."""
        ttl = self._ttl(timeout)
        if ttl is None:
            return await self._adelete([key], version) > 0
        try:
            return await self._acache(key).touch(self._key(key, version), ttl)
        except RedisError as error:
            return self._missed(error, False)

    @_native
    async def adelete(self, key: Any, version: int | None = None) -> bool:
        """See `delete`."""
        return await self._adelete([key], version) > 0

    @_native
    async def adelete_many(self, keys: Iterable[Any], version: int | None = None) -> Any:
        """See `delete_many`."""
        return await self._adelete(keys, version) or None

    async def _adelete(self, keys: Iterable[Any], version: int | None) -> int:
        count = 0
        for cache, names in self._asorted(keys, version):
            try:
                count += await cache._do(steps.discard(cache._core, list(names), self._places.locate))
            except RedisError as error:
                self._missed(error, 0)
        return count

    @_native
    async def aincr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """See `incr`: atomic, and the time-out stays."""
        try:
            total = await self._acache(key).incr(self._key(key, version), delta)
        except RedisError as error:
            total = self._missed(error, None)
        if total is None:
            raise ValueError(f"Key '{key}' not found")
        return total

    async def adecr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """See `decr`."""
        return await self.aincr(key, -delta, version)

    @_native
    async def aincr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """See `incr_version`."""
        version = self.version if version is None else version
        old, new = self._key(key, version), self._key(key, version + delta)
        cache = self._acache(key)
        try:
            is_moved = await cache._do(steps.move(cache._core, old, new))
        except RedisError as error:
            is_moved = self._missed(error, False)
        if not is_moved:
            raise ValueError(f"Key '{key}' not found")
        return version + delta

    async def adecr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """See `decr_version`."""
        return await self.aincr_version(key, -delta, version)

    @_native
    async def aclear(self) -> bool:
        """See `clear`."""
        caches: AsyncCaches = self._store.async_caches()
        try:
            is_heard = await caches.main.clear()
            return (caches.sessions is caches.main or await caches.sessions.clear()) and is_heard
        except RedisError as error:
            return self._missed(error, False)

    async def aget_or_set(
        self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> Any:
        """See `get_or_set`; `default` may also be a coroutine function."""
        ttl = self._ttl(timeout)
        if self._store.options.single_flight and ttl is not None:
            compute = default if callable(default) else lambda: default
            try:
                return await self._acache(key).get_or_compute(self._key(key, version), compute, ttl=ttl)
            except CodecError as error:
                raise UnpicklableError(str(error)) from None
        value = await self.aget(key, MISS, version)
        if value is not MISS:
            return value
        value = default() if callable(default) else default
        if inspect.isawaitable(value):
            value = await value
        await self.aadd(key, value, timeout, version)
        # Somebody else may have been quicker.
        return await self.aget(key, value, version)

    async def aclose(self, **kwargs: Any) -> None:
        """Do nothing: Django calls it after each request, and connections are shared."""


async def _pickled(value: Any) -> None:
    try:
        await sync_to_async(pickle.dumps)(value, 5)
    except Exception:
        # The next try says so, in words that hold nothing of the value.
        pass
