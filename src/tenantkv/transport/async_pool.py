"""The asyncio twin of `pool.py`: small, bounded, waiting, and shared by views."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from redis import asyncio as aredis
from redis.exceptions import MaxConnectionsError

from tenantkv.errors import ConfigurationError
from tenantkv.namespace import Namespace
from tenantkv.ops.registry import Registrar
from tenantkv.transport.async_connection import AsyncNamespacedConnection
from tenantkv.transport.pool import MAX_CONNECTIONS, POOL_WAIT
from tenantkv.transport.redis_py import (
    LEAN,
    asyncio_arguments,
    no_maintenance_notifications,
    observability_on,
)
from tenantkv.transport.registrars import include, registrar_for
from tenantkv.transport.speaking import LentPool


class AsyncNamespacedConnectionPool(aredis.ConnectionPool):
    """An asyncio connection pool whose connections speak in own names.

    Args:
        connection_class: one of tenantkv's asyncio connection classes.
        max_connections: the most connections that this pool opens.
        pool_wait: seconds to wait for a connection when all are in use; then
            ``redis.exceptions.MaxConnectionsError``.
        connection_kwargs: as for ``redis.asyncio.ConnectionPool``, with ``namespace`` and ``registry``.
    """

    def __init__(
        self,
        connection_class: Any = AsyncNamespacedConnection,
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
        # Those who wait for a connection, and those who were told that there is one and have not run since.
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._called: set[asyncio.Future[None]] = set()
        arguments = asyncio_arguments({**no_maintenance_notifications(), **connection_kwargs})
        super().__init__(connection_class, max_connections or MAX_CONNECTIONS, **arguments)
        self._is_lean = LEAN and not connection_kwargs.get("credential_provider") and not observability_on()

    @classmethod
    def from_url(cls, url: str, **kwargs: Any) -> Any:
        """Return ``tenantkv.asyncio.connection_pool(url, ...)``, for libraries that take a pool's class."""
        from tenantkv.transport.async_connect import connection_pool

        return connection_pool(url, **kwargs)

    @property
    def namespace(self) -> Namespace:
        """Whose names the pool's connections speak."""
        namespace: Namespace = self.connection_kwargs["namespace"]
        return namespace

    async def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        """Return a connection that is open and has nothing left from before.

        Raises:
            redis.exceptions.MaxConnectionsError: all are in use, and none came back in time.
        """
        return await self.checkout(self.connection_kwargs["namespace"])

    async def checkout(self, namespace: Namespace) -> Any:
        """Return a connection that speaks for `namespace` until it is released."""
        if self._waiting or self._free() <= 0:
            await self._wait()
        connection: Any = self.get_available_connection()  # type: ignore[no-untyped-call]
        try:
            if connection.is_stranded():
                connection.abandon()
            if not connection.is_ready():
                if connection.is_stale():
                    await connection.disconnect()
                await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        connection.session.namespace = namespace
        connection.session.registrar = self.registrars.get(namespace) if self.registrars else None
        return connection

    def _free(self) -> int:
        """Return how many connections nobody has, and nobody was called for."""
        called = sum(not turn.get_loop().is_closed() for turn in self._called) if self._called else 0
        return self.max_connections - len(self._in_use_connections) - called

    async def _wait(self) -> None:
        """Wait in line until a connection is free or there is room for one, which is then the caller's.

        Who comes later does not get it, not even the task that has just given it back: it would have it
        again before anybody else has run.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._call_next()
        try:
            await asyncio.wait_for(turn, self.pool_wait)
        except BaseException as error:
            if turn in self._waiting:
                self._waiting.remove(turn)
            # Perhaps it was called just when it gave up: then it is the next one's turn.
            self._called.discard(turn)
            self._call_next()
            if not isinstance(error, asyncio.TimeoutError):
                raise
            raise MaxConnectionsError(
                f"all {self.max_connections} connections of this pool are in use, and none came "
                f"back within {self.pool_wait:g} seconds; set max_connections= higher, or close "
                "pub/sub objects and pipelines that are not needed"
            ) from None
        # Taken by the caller before anybody else runs.
        self._called.discard(turn)

    def _call_next(self) -> None:
        while self._waiting and self._free() > 0:
            turn = self._waiting.popleft()
            # A loop may have ended with tasks that were never cancelled.
            if not turn.done() and not turn.get_loop().is_closed():
                self._called.add(turn)
                turn.set_result(None)

    async def release(self, connection: Any) -> None:
        """Take a connection back, and wake the task that has waited longest."""
        if connection not in self._in_use_connections:
            return
        if not connection.session.idle:
            # Replies or a transaction are left (a task was cancelled): nobody else may meet them.
            await connection.disconnect(nowait=True)
        if not self._is_lean:
            await super().release(connection)
        else:
            self._in_use_connections.discard(connection)
            self._available_connections.append(connection)
        self._call_next()

    def view(self, namespace: Namespace) -> AsyncPoolView:
        """Return a pool for `namespace` on this pool's connections."""
        include(self.registrars, namespace)
        return AsyncPoolView(self, namespace)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__module__}.{type(self).__name__}({self.connection_class.__name__}, "
            f"{self.connection_kwargs.get('namespace')!r})>"
        )


class AsyncPoolView(LentPool, aredis.ConnectionPool):
    """An asyncio pool that lends another pool's connections, speaking for a namespace of its own."""

    def __init__(self, pool: AsyncNamespacedConnectionPool, namespace: Namespace) -> None:
        self.lend(pool, namespace)

    async def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        """Return a connection of the shared pool that speaks for this view's namespace."""
        return await self._pool.checkout(self._namespace)

    async def release(self, connection: Any) -> None:
        """Give a connection back to the shared pool."""
        await self._pool.release(connection)

    def view(self, namespace: Namespace) -> AsyncPoolView:
        """Return a view for `namespace` on the same connections."""
        view: AsyncPoolView = self._pool.view(namespace)
        return view

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Do nothing: the connections serve others too."""

    async def aclose(self) -> None:
        """Do nothing: the connections serve others too."""
