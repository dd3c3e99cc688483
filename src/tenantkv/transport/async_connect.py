"""The asyncio twin of `connect.py`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from tenantkv.errors import ConfigurationError
from tenantkv.keyring import Keyring
from tenantkv.namespace import Namespace, Placement
from tenantkv.transport.async_client import AsyncTenantRedis
from tenantkv.transport.async_connection import (
    AsyncNamespacedConnection,
    AsyncNamespacedSSLConnection,
    AsyncNamespacedUnixDomainSocketConnection,
)
from tenantkv.transport.async_pool import AsyncNamespacedConnectionPool
from tenantkv.transport.connect import Target, target
from tenantkv.transport.redis_py import asyncio_arguments
from tenantkv.transport.retry import default_async_retry

if TYPE_CHECKING:
    from tenantkv.transport.async_cluster import AsyncTenantRedisCluster

_CLASSES = {
    "redis": AsyncNamespacedConnection,
    "rediss": AsyncNamespacedSSLConnection,
    "unix": AsyncNamespacedUnixDomainSocketConnection,
}


def connection_pool(
    url: str | None = None,
    *,
    keyring: Keyring | str | os.PathLike[str] | None = None,
    namespace: Namespace | str | None = None,
    placement: Placement | None = None,
    registry: bool | None = None,
    profile: str | None = None,
    **options: Any,
) -> AsyncNamespacedConnectionPool:
    """Return a namespaced asyncio pool; the arguments are those of :func:`tenantkv.connect`."""
    found = target(
        url,
        keyring=keyring,
        namespace=namespace,
        placement=placement,
        registry=registry,
        profile=profile,
        options=options,
    )
    return make_pool(found)


def make_pool(found: Target) -> AsyncNamespacedConnectionPool:
    """Return the pool for a target that is one server, or a service behind Sentinels."""
    given = asyncio_arguments(found.options)
    options = {"retry": default_async_retry(), **given, "namespace": found.namespace}
    if found.settings.registry:
        options["registry"] = True
    pool: AsyncNamespacedConnectionPool
    if found.settings.kind == "memory":
        from tenantkv.transport.memory import async_memory_pool

        pool = async_memory_pool(options)
    elif found.settings.kind == "sentinel":
        from tenantkv.transport.async_sentinel import sentinel_pool

        pool = sentinel_pool(found, options)
    elif found.settings.kind == "cluster":
        raise ConfigurationError("a cluster has no single connection pool; use tenantkv.asyncio.connect()")
    else:
        options.setdefault("connection_class", _CLASSES[found.scheme])
        pool = AsyncNamespacedConnectionPool(**options)
    return pool


def connect(
    url: str | None = None,
    *,
    keyring: Keyring | str | os.PathLike[str] | None = None,
    namespace: Namespace | str | None = None,
    placement: Placement | None = None,
    registry: bool | None = None,
    profile: str | None = None,
    **options: Any,
) -> AsyncTenantRedis:
    """Return an asyncio client that stays inside the tenant's namespace.

    The arguments are those of :func:`tenantkv.connect`. Call it anywhere; connections are made by the
    first command, in the loop that runs then.

    Returns:
        A :class:`tenantkv.AsyncTenantRedis`; for a cluster URL a :class:`tenantkv.AsyncTenantRedisCluster`,
        which :func:`connect_cluster` returns with its type.
    """
    found = target(
        url,
        keyring=keyring,
        namespace=namespace,
        placement=placement,
        registry=registry,
        profile=profile,
        options=options,
    )
    if found.settings.kind == "cluster":
        from tenantkv.transport.async_cluster import connect_cluster

        return cast(AsyncTenantRedis, connect_cluster(found))
    client = AsyncTenantRedis(connection_pool=make_pool(found))
    client.auto_close_connection_pool = True
    return client


def connect_cluster(url: str | None = None, **arguments: Any) -> AsyncTenantRedisCluster:
    """Return an asyncio client for a Cluster; the arguments are those of :func:`connect`.

    Raises:
        ConfigurationError: the URL is not one of a Cluster.
    """
    client: object = connect(url, **arguments)
    from tenantkv.transport.async_cluster import AsyncTenantRedisCluster

    if not isinstance(client, AsyncTenantRedisCluster):
        raise ConfigurationError("a Cluster's URL begins with redis+cluster:// or rediss+cluster://")
    return client
