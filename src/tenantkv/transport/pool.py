"""A small bounded pool that waits, and views of it that speak for other namespaces.

The server's connections belong to everybody, so the pool is bounded low and a thread that finds it
empty waits for a while before it gets an error. One physical pool can serve many tenants: a view sets
its namespace on the connection at checkout.
"""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic
from typing import Any

import redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MaxConnectionsError

from tenantkv.errors import ConfigurationError
from tenantkv.namespace import Namespace
from tenantkv.ops.registry import Registrar
from tenantkv.transport.connection import NamespacedConnection
from tenantkv.transport.redis_py import (
    CHECKOUT,
    LEAN,
    connection_of,
    no_maintenance_notifications,
    observability_on,
)
from tenantkv.transport.registrars import include, registrar_for
from tenantkv.transport.speaking import LentPool

#: Connections that one process holds at the most, and seconds to wait for one of them.
MAX_CONNECTIONS = 16
POOL_WAIT = 5.0

# Seconds for which a thread that waits may be overtaken by one that does not.
_LONGEST_OVERTAKEN = 0.002


class _Turn(threading.Condition):
    """A thread's place in the line for a connection.

    Attributes:
        since: when it began to wait, on the clock that only grows.
    """

    def __init__(self, lock: Any) -> None:
        super().__init__(lock)
        self.since = monotonic()


class NamespacedConnectionPool(redis.ConnectionPool):
    """A connection pool whose connections speak in own names.

    Args:
        connection_class: one of tenantkv's connection classes.
        max_connections: the most connections that this process opens through the pool.
        pool_wait: seconds to wait for a connection when all are in use; then
            ``redis.exceptions.MaxConnectionsError``.
        connection_kwargs: as for ``redis.ConnectionPool``, with ``namespace``, and with ``registry`` to
            keep an index of own names.
    """

    def __init__(
        self,
        connection_class: Any = NamespacedConnection,
        max_connections: int | None = None,
        *,
        pool_wait: float = POOL_WAIT,
        **connection_kwargs: Any,
    ) -> None:
        if not isinstance(connection_kwargs.get("namespace"), Namespace):
            raise ConfigurationError("a namespaced pool needs namespace=, a tenantkv.Namespace")
        self.pool_wait = pool_wait
        #: Whether the server was seen not to offer SCAN.
        self.lacks_scan = False
        self.registrars: dict[Namespace, Registrar] = {}
        if connection_kwargs.get("registry"):
            namespace = connection_kwargs["namespace"]
            self.registrars[namespace] = registrar_for(namespace)
        self._waiting: deque[_Turn] = deque()
        # Said here too, as redis-py 7 takes it out of the arguments that other pools are made from.
        arguments = {**no_maintenance_notifications(), **connection_kwargs}
        super().__init__(connection_class, max_connections or MAX_CONNECTIONS, **arguments)
        # The lean path skips what these features need; redis-py's own path serves them.
        self._is_lean = (
            LEAN
            and getattr(self, "cache", None) is None
            and not connection_kwargs.get("credential_provider")
            and not observability_on()
        )

    @classmethod
    def from_url(cls, url: str, **kwargs: Any) -> Any:
        """Return ``tenantkv.connection_pool(url, ...)``, for libraries that take a pool's class."""
        from tenantkv.transport.connect import connection_pool

        return connection_pool(url, **kwargs)

    @property
    def namespace(self) -> Namespace:
        """Whose names the pool's connections speak."""
        namespace: Namespace = self.connection_kwargs["namespace"]
        return namespace

    def reset(self) -> None:
        """Start anew, as in the child of a fork: with no connection and no lock that a thread holds."""
        # First, as redis-py's own takes the lock (redis-py 8), and lets other threads pass at its end.
        lock = self._lock = threading.RLock()
        self._waiting = deque()
        super().reset()
        # Older ones (redis-py 5) made one of their own, on which nobody can wait.
        self._lock = lock

    def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        """Return a connection that is open and has nothing left from before.

        Raises:
            redis.exceptions.MaxConnectionsError: all are in use, and none came back in time.
        """
        return self.checkout(self.connection_kwargs["namespace"])

    def checkout(self, namespace: Namespace) -> Any:
        """Return a connection that speaks for `namespace` until it is released."""
        connection: Any
        if not self._is_lean:
            connection = self._stock_checkout()
            session = connection_of(connection).session
            session.namespace = namespace
            session.registrar = self.registrars.get(namespace)
            return connection
        self._checkpid()
        with self._lock:
            if (self._waiting or not self._available_connections) and self._must_wait():
                self._wait_locked(monotonic() + self.pool_wait)
            if self._available_connections:
                connection = self._available_connections.pop()
            else:
                connection = self.make_connection()
            self._in_use_connections.add(connection)
        try:
            if not connection.is_ready():
                connection.disconnect()
                connection.connect()
        except BaseException:
            self.release(connection)
            raise
        connection.session.namespace = namespace
        connection.session.registrar = self.registrars.get(namespace) if self.registrars else None
        return connection

    def _is_full(self) -> bool:
        return len(self._in_use_connections) >= self.max_connections

    def _stock_checkout(self) -> Any:
        """Check out as redis-py does, which does not wait when all are in use."""
        deadline = monotonic() + self.pool_wait
        self._checkpid()
        while True:
            with self._lock:
                if self._must_wait():
                    self._wait_locked(deadline)
            try:
                return super().get_connection(*CHECKOUT)
            except RedisConnectionError as error:
                # Another thread may have been quicker. redis-py 5 has no class of its own for it.
                if "Too many connections" not in str(error) or monotonic() >= deadline:
                    raise

    def _wait_locked(self, deadline: float) -> None:
        """Wait in line, holding the lock, until a connection is free or there is room for one."""
        turn = _Turn(self._lock)
        waiting = self._waiting
        waiting.append(turn)
        try:
            while waiting[0] is not turn or not self._has_one():
                left = deadline - monotonic()
                if left <= 0 or not turn.wait(left):
                    if waiting[0] is turn and self._has_one():
                        break
                    raise MaxConnectionsError(
                        f"all {self.max_connections} connections of this process are in use, and "
                        f"none came back within {self.pool_wait:g} seconds; set max_connections= "
                        "higher, or close pub/sub objects and pipelines that are not needed"
                    )
        finally:
            waiting.remove(turn)
            # There may be one for the next, too; it looks as soon as the lock is free.
            self._notify_next()

    def _has_one(self) -> bool:
        return bool(self._available_connections) or not self._is_full()

    def _must_wait(self) -> bool:
        """Whether a newcomer has to stand in line.

        It may be quicker than those who are there, as waking a thread takes longer than a command; but
        not for ever, or threads that never rest would let nobody else have a connection.
        """
        waiting = self._waiting
        return not self._has_one() or bool(waiting and monotonic() - waiting[0].since > _LONGEST_OVERTAKEN)

    def release(self, connection: Any) -> None:
        """Take a connection back, and wake a thread that waits for one."""
        if not self._is_lean:
            if not connection_of(connection).session.idle:
                connection.disconnect()
            super().release(connection)
            with self._lock:
                self._notify_next()
            return
        self._checkpid()
        with self._lock:
            if connection not in self._in_use_connections:
                return
            self._in_use_connections.discard(connection)
            if connection.pid == self.pid:
                if not connection.session.idle:
                    # Replies or a transaction are left: nobody else may meet them.
                    connection.disconnect()
                self._available_connections.append(connection)
            else:
                connection.disconnect()
                self._created_connections -= 1
            self._notify_next()

    def _notify_next(self) -> None:
        if self._waiting:
            self._waiting[0].notify()

    def view(self, namespace: Namespace) -> PoolView:
        """Return a pool for `namespace` on this pool's connections."""
        if getattr(self, "cache", None) is not None:
            raise ConfigurationError(
                "a pool with a client-side cache serves one namespace only, since the cache keeps "
                "values by own names; connect the child by itself"
            )
        include(self.registrars, namespace)
        return PoolView(self, namespace)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__module__}.{type(self).__name__}({self.connection_class.__name__}, "
            f"{self.connection_kwargs.get('namespace')!r})>"
        )


class PoolView(LentPool, redis.ConnectionPool):
    """A pool that lends another pool's connections, speaking for a namespace of its own."""

    def __init__(self, pool: NamespacedConnectionPool, namespace: Namespace) -> None:
        self.lend(pool, namespace)
        self.cache = None

    def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        """Return a connection of the shared pool that speaks for this view's namespace."""
        return self._pool.checkout(self._namespace)

    def release(self, connection: Any) -> None:
        """Give a connection back to the shared pool."""
        self._pool.release(connection)

    def view(self, namespace: Namespace) -> PoolView:
        """Return a view for `namespace` on the same connections."""
        view: PoolView = self._pool.view(namespace)
        return view

    def disconnect(self, inuse_connections: bool = True) -> None:
        """Do nothing: the connections serve others too."""

    def close(self) -> None:
        """Do nothing: the connections serve others too."""


__all__ = [
    "MAX_CONNECTIONS",
    "POOL_WAIT",
    "NamespacedConnectionPool",
    "PoolView",
    "connection_of",
]
