"""What all instances of a backend share in a process: clients, caches, counters.

Django makes an instance for each thread and each task, so an instance owns nothing: connections would
pile up.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from django.core.signals import setting_changed
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError

import tenantkv
from tenantkv.cache import AsyncCache, Cache
from tenantkv.contrib.django.loops import Loops
from tenantkv.contrib.django.options import Options, read
from tenantkv.contrib.django.reports import ReportedStats, Reporter
from tenantkv.transport.client import TenantRedis
from tenantkv.transport.retry import AsyncSafeRetry, SafeRetry

# What a namespace that is at hand has settled.
_IDENTITY = frozenset({"keyring", "namespace", "placement"})
# An idle connection may have been closed, so once more at once; but never after a time-out.
_ONCE_MORE = (RedisConnectionError, ReadOnlyError)


class Store:
    """One cache of a tenant's, as this process uses it. Threads and tasks share it.

    Nothing is connected, and no keyring read, before the first operation.

    Args:
        options: what CACHES says.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.stats = ReportedStats(Reporter(options.name))
        self._lock = threading.RLock()
        self._loops: Loops[AsyncCaches] = Loops(self._make_async)

    @cached_property
    def client(self) -> TenantRedis:
        """The client of the cache itself: it waits for `Options.patience`, and no longer."""
        found: TenantRedis = self._once("client", self._connect_first)
        return found

    @cached_property
    def patient(self) -> TenantRedis:
        """A client as `tenantkv.connect` makes it, for those who ask for one."""
        namespace = self.client.namespace
        found: TenantRedis = self._once("patient", lambda: self._connect({}, namespace))
        return found

    @cached_property
    def structures(self) -> TenantRedis:
        """The client for sets, hashes and sorted sets, whose members are always sealed."""
        return self.client.using(seal=True, mode="seal", plaintext_keys=(), contexts=())

    @cached_property
    def main(self) -> Cache:
        """The cache."""
        client = self.client
        found: Cache = self._once("main", lambda: self._make(Cache, client, False))
        return found

    @cached_property
    def sessions(self) -> Cache:
        """The cache of sessions: sealed, with hidden names."""
        if not self.options.seal_sessions:
            return self.main
        client = self.client
        found: Cache = self._once("sessions", lambda: self._make(Cache, client, True))
        return found

    def is_young_loop(self) -> bool:
        """Count a call in the running event loop, and say whether threads' connections should serve it."""
        return self._loops.is_young()

    def async_caches(self) -> AsyncCaches:
        """Return the caches of the running event loop."""
        return self._loops.here()

    def note(self, error: Exception) -> None:
        """Count a call that failed where the cache itself did not see it."""
        self.stats.count("unavailable")

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what one thread made, of several that come at once."""
        with self._lock:
            if name not in self.__dict__:
                self.__dict__[name] = make()
            return self.__dict__[name]

    def _impatient(self, retry: type[Any]) -> dict[str, Any]:
        patience = self.options.patience
        return {
            "socket_timeout": patience,
            "socket_connect_timeout": patience,
            "pool_wait": patience,
            "retry": retry(NoBackoff(), 1, _ONCE_MORE),
        }

    def _arguments(self, more: Mapping[str, Any], namespace: Any) -> dict[str, Any]:
        options = self.options
        given = dict(options.connect)
        if namespace is not None:
            given = {name: value for name, value in given.items() if name not in _IDENTITY}
            given["namespace"] = namespace
        return {**given, **more, **options.connection}

    def _connect_first(self) -> TenantRedis:
        more = self._impatient(SafeRetry)
        client = self._connect(more)
        if self.options.child is None:
            return client
        # Nothing was connected yet; this one has a pool of the sub-tenant's own.
        return self._connect(more, client.namespace.child(self.options.child))

    def _connect(self, more: Mapping[str, Any], namespace: Any = None) -> TenantRedis:
        return tenantkv.connect(self.options.url, **self._arguments(more, namespace))

    def _make_async(self) -> AsyncCaches:
        client = tenantkv.asyncio.connect(
            self.options.url, **self._arguments(self._impatient(AsyncSafeRetry), self.client.namespace)
        )
        main = self._make(AsyncCache, client, False)
        sessions = self._make(AsyncCache, client, True) if self.options.seal_sessions else main
        return AsyncCaches(client, main, sessions, self._patient_async)

    def _patient_async(self) -> Any:
        return tenantkv.asyncio.connect(self.options.url, **self._arguments({}, self.client.namespace))

    def _make(self, kind: Any, client: Any, for_sessions: bool) -> Any:
        options = self.options
        more: dict[str, Any] = {"seal": True, "hide_names": True} if for_sessions else {"near": options.near}
        # No name that OPTIONS can say has a slash.
        name = f"{options.name}/sessions" if for_sessions else options.name
        # A client's own time-outs bound it; a task's waiting has to be bounded as a whole.
        timeout = options.patience if kind is AsyncCache else None
        cache = kind(client, name, timeout=timeout, **more, **options.settings)
        core = cache._core
        # One set of counters for all of them, whatever loop and thread.
        core.stats = self.stats
        # Else Django's own `get_or_set` computes, which takes none. Sessions are never computed.
        core.ends_leases = options.single_flight and not for_sessions
        if kind is AsyncCache:
            # What a loop has learnt must not end with it: that the server is away, what it has not heard
            # of, and under which stamp entries count.
            sync = self.sessions if for_sessions else self.main
            core.shelf, core.owed = sync._core.shelf, sync._core.owed
            cache._wire.breaker, cache._wire._owed = sync._wire.breaker, sync._core.owed
        return cache


class AsyncCaches:
    """The asyncio caches of one event loop.

    Attributes:
        main: the cache.
        sessions: the cache of sessions.

    Args:
        client: their client.
        main: see above.
        sessions: see above.
        make_patient: makes a client for those who ask for one.
    """

    def __init__(
        self, client: Any, main: AsyncCache, sessions: AsyncCache, make_patient: Callable[[], Any]
    ) -> None:
        self._clients = [client]
        self._make_patient = make_patient
        self.main = main
        self.sessions = sessions

    @cached_property
    def patient(self) -> Any:
        """A client as `tenantkv.asyncio.connect` makes it."""
        client = self._make_patient()
        self._clients.append(client)
        return client

    async def close(self) -> None:
        """Close their connections, in their loop."""
        await self.main.aclose()
        if self.sessions is not self.main:
            await self.sessions.aclose()
        for client in self._clients:
            await client.aclose()


_stores: dict[object, Store] = {}
_lock = threading.Lock()


def store_of(location: object, params: Mapping[str, Any]) -> Store:
    """Return what instances with these settings share.

    Raises:
        ImproperlyConfigured: the settings have no meaning.
    """
    key = (_frozen(location), str(params.get("KEY_PREFIX", "")), _frozen(params.get("OPTIONS") or {}))
    found = _stores.get(key)
    if found is None:
        options = read(location, params)
        with _lock:
            found = _stores.setdefault(key, Store(options))
    return found


def _frozen(value: object) -> object:
    """Return something hashable that is equal where a setting is."""
    if isinstance(value, Mapping):
        return tuple(sorted((str(name), _frozen(part)) for name, part in value.items()))
    if isinstance(value, (list, tuple, set, frozenset)):
        return (type(value).__name__, *map(_frozen, value))
    if isinstance(value, (str, int, float, bool, type(None), os.PathLike)):
        return f"{type(value).__name__}:{value}"
    # A keyring, a namespace: the same only if it is the same one.
    return f"{type(value).__name__}@{id(value)}"


def forget_stores(*, setting: str = "CACHES", **_: object) -> None:
    """Begin anew when CACHES changes, as it does in tests."""
    if setting == "CACHES":
        with _lock:
            _stores.clear()


def _after_fork() -> None:
    # Another thread may have held them; pools notice a fork by themselves.
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    for store in _stores.values():
        store._lock = threading.RLock()


setting_changed.connect(forget_stores)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
