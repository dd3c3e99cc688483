"""tenantkv for asyncio: ``akv = tenantkv.asyncio.connect()``."""

from tenantkv.transport.async_client import AsyncTenantRedis
from tenantkv.transport.async_cluster import AsyncTenantRedisCluster
from tenantkv.transport.async_connect import connect, connect_cluster, connection_pool
from tenantkv.transport.async_connection import (
    AsyncNamespacedConnection,
    AsyncNamespacedSSLConnection,
    AsyncNamespacedUnixDomainSocketConnection,
)
from tenantkv.transport.async_pool import AsyncNamespacedConnectionPool

__all__ = [
    "AsyncNamespacedConnection",
    "AsyncNamespacedConnectionPool",
    "AsyncNamespacedSSLConnection",
    "AsyncNamespacedUnixDomainSocketConnection",
    "AsyncTenantRedis",
    "AsyncTenantRedisCluster",
    "connect",
    "connect_cluster",
    "connection_pool",
]
