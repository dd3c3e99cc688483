"""`TenantCache`: Django's cache API on a cache whose every value is authenticated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT
from redis.exceptions import RedisError

from tenantkv.cache import Cache
from tenantkv.contrib.django import steps
from tenantkv.contrib.django.coroutines import Coroutines
from tenantkv.contrib.django.ground import MISS, UnpicklableError
from tenantkv.contrib.django.lifetimes import Lifetimes
from tenantkv.contrib.django.patterns import Patterns
from tenantkv.contrib.django.sorted_sets import SortedSets
from tenantkv.errors import CodecError, PlaintextRefusedError, RefusedError
from tenantkv.lock import Lock


class TenantCache(Coroutines, Lifetimes, Patterns, SortedSets):
    """A Django cache on a server that evicts, restarts and has other tenants.

    ``BACKEND = "tenantkv.contrib.django.TenantCache"``; ``docs/django.md`` has its OPTIONS. It has the API
    of Django's backends, natively also for asyncio, and that of django-redis.

    Values are pickled within a signature or a seal, so whatever was not written by this tenant, under this
    very key, is a miss. While the server is away everything is a miss, after one short wait.

    Methods take django-redis's ``client`` and ignore it.
    """

    # Reading

    def get(self, key: Any, default: Any = None, version: int | None = None, client: Any = None) -> Any:
        """Return a value, or `default`. One round trip."""
        name = self._key(key, version)
        try:
            return self._cache(key).get(name, default)
        except RedisError as error:
            return self._missed(error, default)

    def get_many(self, keys: Iterable[Any], version: int | None = None, client: Any = None) -> dict[Any, Any]:
        """Return the values that are there, by key. One MGET for up to 500."""
        found: dict[Any, Any] = {}
        for cache, names in self._sorted_by_cache(keys, version):
            try:
                values = cache.get_many(names)
            except RedisError as error:
                values = self._missed(error, {})
            mine = {names[name]: value for name, value in values.items()}
            found = {**found, **mine} if found else mine
        return found

    def has_key(self, key: Any, version: int | None = None, client: Any = None) -> bool:
        """Say whether there is something under a key. One round trip, three if there is no value."""
        if self.get(key, MISS, version) is not MISS:
            return True
        return bool(self._on(key, version, "exists", answer=0))

    def _sorted_by_cache(
        self, keys: Iterable[Any], version: int | None
    ) -> list[tuple[Cache, dict[str, Any]]]:
        """Return keys by their made ones, for each cache that they belong to."""
        store = self._store
        names, of_sessions = self._keys(keys, version)
        if not of_sessions:
            return [(store.main, names)] if names else []
        if store.sessions is store.main or not names:
            return [(store.sessions, {**names, **of_sessions})]
        return [(store.main, names), (store.sessions, of_sessions)]

    # Writing

    def set(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        client: Any = None,
        nx: bool = False,
        xx: bool = False,
    ) -> bool:
        """Store a value, and return whether it was stored. One round trip; two with `nx` or `xx`.

        Args:
            key: text.
            value: what can be pickled.
            timeout: seconds, also fractions of one; ``None`` for as long as is allowed, 0 deletes.
            version: of the key.
            client: ignored.
            nx: only if there is nothing.
            xx: only if there is something.

        Raises:
            UnpicklableError: it cannot be pickled.
            PlaintextRefusedError: it looks like a secret, and would be stored in clear.
        """
        name = self._key(key, version)
        ttl = self._ttl(timeout)
        cache = self._cache(key)
        if ttl is None:
            if nx:
                return cache.get(name, MISS) is MISS
            return self._delete([key], version) > 0 or not xx
        if nx:
            is_added = self._write(cache, [name], cache.add, name, value, ttl)
            return is_added or self._is_session_unheard(key)
        if xx:
            return self._write(cache, [name], lambda: cache._do(steps.replace(cache._core, name, value, ttl)))
        return self._write(cache, [name], cache.set, name, value, ttl)

    def add(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        client: Any = None,
    ) -> bool:
        """Store a value if there is none, and return whether it was. Atomic, in up to two round trips."""
        return self.set(key, value, timeout, version, nx=True)

    def set_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        client: Any = None,
    ) -> list[Any]:
        """Store values, not atomically; return the keys of those that were not. One round trip for 500."""
        ttl = self._ttl(timeout)
        if ttl is None:
            self._delete(data, version)
            return []
        failed: list[Any] = []
        for cache, names in self._sorted_by_cache(data, version):
            left = self._set_lot(cache, {name: data[key] for name, key in names.items()}, ttl)
            failed += [names[name] for name in left]
        return failed

    def _set_lot(self, cache: Cache, items: dict[str, Any], ttl: float) -> list[str]:
        """Store values, and return the names of those that were not."""
        try:
            return cache.set_many(items, ttl)
        except RedisError as error:
            return self._missed(error, list(items))
        except PlaintextRefusedError:
            raise
        except RefusedError:
            # One of them is too large: the others are stored.
            return [name for name, value in items.items() if not self._set_one(cache, name, value, ttl)]
        except CodecError as error:
            raise UnpicklableError(str(error)) from None

    def _set_one(self, cache: Cache, name: str, value: Any, ttl: float) -> bool:
        return self._write(cache, [name], cache.set, name, value, ttl)

    def _write(self, cache: Cache, names: list[str], write: Callable[..., bool], *arguments: Any) -> bool:
        """Return what a write gives; ``False`` for a value that is too large, and its old one goes."""
        try:
            return write(*arguments)
        except RedisError as error:
            return self._missed(error, False)
        except PlaintextRefusedError:
            raise
        except RefusedError:
            # Counted and logged. A page is shown whether or not it can be cached.
            cache.delete_many(names)
            return False
        except CodecError as error:
            raise UnpicklableError(str(error)) from None

    def touch(
        self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None, client: Any = None
    ) -> bool:
        """Give a value another time-out, and return whether there was one. Up to two round trips."""
        ttl = self._ttl(timeout)
        if ttl is None:
            return self._delete([key], version) > 0
        return self._renew(key, ttl, version)

    def delete(
        self, key: Any, version: int | None = None, prefix: str | None = None, client: Any = None
    ) -> bool:
        """Delete what is under a key, and return whether there was something. One round trip."""
        return self._delete([key], version) > 0

    def delete_many(self, keys: Iterable[Any], version: int | None = None, client: Any = None) -> Any:
        """Delete what is under these keys; return how many there were, or ``None``. One round trip."""
        return self._delete(keys, version) or None

    def _delete(self, keys: Iterable[Any], version: int | None) -> int:
        count = 0
        for cache, names in self._sorted_by_cache(keys, version):
            try:
                count += cache._do(steps.discard(cache._core, list(names), self._places.locate))
            except RedisError as error:
                self._missed(error, 0)
        return count

    def incr(
        self,
        key: Any,
        delta: int = 1,
        version: int | None = None,
        client: Any = None,
        ignore_key_check: bool = False,
    ) -> int:
        """Add to a whole number, and return the sum. Atomic, in up to two round trips; its time-out stays.

        Args:
            key: text.
            delta: what to add.
            version: of the key.
            client: ignored.
            ignore_key_check: begin with `delta` where there is nothing, with the default time-out.

        Raises:
            ValueError: there is nothing under that key, or no server.
            TypeError: what is there is no whole number.
        """
        name = self._key(key, version)
        more: dict[str, Any] = {}
        if ignore_key_check:
            more = {"initial": delta, "ttl": self._ttl(DEFAULT_TIMEOUT)}
        try:
            total = self._cache(key).incr(name, delta, **more)
        except RedisError as error:
            total = self._missed(error, None)
        if total is None:
            raise ValueError(f"Key '{key}' not found")
        return total

    def decr(
        self,
        key: Any,
        delta: int = 1,
        version: int | None = None,
        client: Any = None,
        ignore_key_check: bool = False,
    ) -> int:
        """Take from a whole number, and return the difference; otherwise as `incr`."""
        return self.incr(key, -delta, version, ignore_key_check=ignore_key_check)

    def incr_version(self, key: Any, delta: int = 1, version: int | None = None, client: Any = None) -> int:
        """Move a value to a later version, and return that. Not atomic; its time-out stays.

        Raises:
            ValueError: there is nothing under that key, or no server.
        """
        version = self.version if version is None else version
        old, new = self._key(key, version), self._key(key, version + delta)
        cache = self._cache(key)
        try:
            is_moved = cache._do(steps.move(cache._core, old, new))
        except RedisError as error:
            is_moved = self._missed(error, False)
        if not is_moved:
            raise ValueError(f"Key '{key}' not found")
        return version + delta

    def decr_version(self, key: Any, delta: int = 1, version: int | None = None, client: Any = None) -> int:
        """Move a value to an earlier version; otherwise as `incr_version`."""
        return self.incr_version(key, -delta, version)

    def clear(self, client: Any = None) -> bool:
        """End everything in this cache, of all versions, for all processes at once. Two small writes.

        Returns:
            Whether the server has heard of it; if not, this process makes up for it.
        """
        store = self._store
        try:
            is_heard = store.main.clear()
            return (store.sessions is store.main or store.sessions.clear()) and is_heard
        except RedisError as error:
            return self._missed(error, False)

    # Computing

    def get_or_set(
        self,
        key: Any,
        default: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> Any:
        """Return a value; if there is none, that of `default`, which is stored.

        With ``OPTIONS={"single_flight": True}`` one caller computes it, of all threads and processes, and
        the others wait for that.
        """
        ttl = self._ttl(timeout)
        if not self._store.options.single_flight or ttl is None:
            return super().get_or_set(key, default, timeout, version)
        name = self._key(key, version)
        compute = default if callable(default) else lambda: default
        try:
            return self._cache(key).get_or_compute(name, compute, ttl=ttl)
        except CodecError as error:
            raise UnpicklableError(str(error)) from None

    # What there is besides

    def lock(
        self,
        key: Any,
        version: int | None = None,
        timeout: float | None = None,
        sleep: float = 0.1,
        blocking: bool = True,
        blocking_timeout: float | None = None,
        client: Any = None,
        thread_local: bool = True,
    ) -> Lock:
        """Return a lock, for ``with``; see ``kv.lock``. `clear` leaves it alone.

        It is no cache: an outage is an error, ``redis.exceptions.ConnectionError``.
        """
        name = f"django:{self._key(key, version)}"
        return self._store.patient.lock(
            name,
            timeout=timeout,
            sleep=sleep,
            blocking=blocking,
            blocking_timeout=blocking_timeout,
            thread_local=thread_local,
        )

    @property
    def stats(self) -> dict[str, Any]:
        """What this process has counted; see `tenantkv.cache.CacheStats`."""
        return self._store.stats.snapshot()

    @property
    def is_away(self) -> bool:
        """Whether the server did not answer when it was asked last."""
        return self._store.main.is_away

    @property
    def client(self) -> Clients:
        """For code that says ``cache.client.get_client()``."""
        return Clients(self)

    def close(self, **kwargs: Any) -> None:
        """Do nothing: Django calls it after each request, and connections are shared."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._store.options.name!r}>"


class Clients:
    """What django-redis calls a client, as far as callers need it."""

    __slots__ = ("_backend",)

    def __init__(self, backend: TenantCache) -> None:
        self._backend = backend

    def make_key(self, key: Any, version: int | None = None) -> str:
        """Return a key with prefix and version."""
        return str(self._backend.make_key(key, version=version))

    def get_client(self, write: bool = True) -> Any:
        """Return a client for the tenant's namespace, with the patience of `tenantkv.connect`."""
        return self._backend._store.patient
