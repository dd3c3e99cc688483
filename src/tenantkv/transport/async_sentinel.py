"""The asyncio twin of `sentinel.py`."""

from __future__ import annotations

from typing import Any

from redis import asyncio as aredis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff

from tenantkv.transport.async_connection import (
    AsyncNamespacedConnection,
    AsyncNamespacedSSLConnection,
)
from tenantkv.transport.async_pool import AsyncNamespacedConnectionPool
from tenantkv.transport.connect import Target
from tenantkv.transport.sentinel import leads_to_primary, no_primary, sentinel_arguments, server_options


class AsyncSentinels(Sentinel):
    """redis-py's Sentinels; where they know no primary, the error is a sentence."""

    async def discover_master(self, service_name: str) -> Any:
        """Return the primary's host and port. A round trip to each Sentinel until one knows it.

        Raises:
            MasterNotFoundError: none of them answers and knows a healthy one.
        """
        try:
            return await super().discover_master(service_name)
        except MasterNotFoundError:
            # For the reason see `sentinel.py`.
            raise MasterNotFoundError(no_primary(service_name, self.sentinels)) from None


class _Managed(SentinelManagedConnection):
    # For the reason see `sentinel.py`.
    read_response = aredis.Connection.read_response  # type: ignore[assignment]


class _ManagedSSL(SentinelManagedSSLConnection):
    read_response = aredis.SSLConnection.read_response  # type: ignore[assignment]


class AsyncNamespacedSentinelConnection(AsyncNamespacedConnection, _Managed):
    """A TCP connection to whichever server is the primary, which speaks in own names."""


class AsyncNamespacedSentinelSSLConnection(AsyncNamespacedSSLConnection, _ManagedSSL):
    """A TLS connection to whichever server is the primary, which speaks in own names."""


class AsyncNamespacedSentinelPool(SentinelConnectionPool, AsyncNamespacedConnectionPool):
    """A namespaced asyncio pool whose connections lead to the primary that the Sentinels name."""

    async def ensure_connection(self, connection: Any) -> None:
        """Open a connection, and leave a former primary."""
        if not leads_to_primary(connection, self):
            await connection.disconnect()
        await super().ensure_connection(connection)

    async def release(self, connection: Any) -> None:
        """Take a connection back; one to a former primary is closed, and finds the new one when used."""
        if not leads_to_primary(connection, self):
            await connection.disconnect(nowait=True)
        await super().release(connection)

    def owns_connection(self, connection: Any) -> bool:
        """Every connection of this pool is its own; `release` looks at where it leads."""
        return True

    def __repr__(self) -> str:
        return AsyncNamespacedConnectionPool.__repr__(self)


def sentinel_pool(found: Target, options: dict[str, Any]) -> AsyncNamespacedConnectionPool:
    """Return an asyncio pool of connections to the primary of the URL's service. No round trip.

    Args:
        found: whose Sentinels and whose names.
        options: as for `AsyncNamespacedConnectionPool`, with ``namespace``.
    """
    server = found.settings.server
    asking = sentinel_arguments(found, Retry(NoBackoff(), 0))
    sentinel = AsyncSentinels(list(server.hosts), sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    secure = server.scheme == "rediss"
    pool = server_options(options)
    pool.setdefault(
        "connection_class",
        AsyncNamespacedSentinelSSLConnection if secure else AsyncNamespacedSentinelConnection,
    )
    return AsyncNamespacedSentinelPool(server.service, sentinel, **pool)  # type: ignore[no-untyped-call]
