"""A pool behind Redis Sentinel: it follows the primary, and its connections speak in own names.

The clients that ask the Sentinels are redis-py's own and have no namespace: a Sentinel knows no keys.

What to expect of a failover (`tests/integration/test_sentinel.py` measures it): from the primary's death
until the Sentinels agree on another, commands fail after the retry policy's waits; then each connection
finds the new primary by itself. A command that must not be done twice fails at once if its reply was
lost. Writes that the old primary acknowledged and had not yet replicated are gone: Redis replicates
asynchronously, and no client can change that; ``WAIT`` tells how many replicas have them.
"""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from tenantkv.transport.connect import Target
from tenantkv.transport.connection import NamespacedConnection, NamespacedSSLConnection
from tenantkv.transport.pool import NamespacedConnectionPool

#: Seconds to wait for a Sentinel's answer before the next one is asked.
SENTINEL_TIMEOUT = 1.0


class Sentinels(Sentinel):
    """redis-py's Sentinels; where they know no primary, the error is a sentence."""

    def discover_master(self, service_name: str) -> Any:
        """Return the primary's host and port. A round trip to each Sentinel until one knows it.

        Raises:
            MasterNotFoundError: none of them answers and knows a healthy one.
        """
        try:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]
        except MasterNotFoundError:
            # Its own text shows redis-py's clients with all their arguments.
            raise MasterNotFoundError(no_primary(service_name, self.sentinels)) from None


class _Managed(SentinelManagedConnection):
    # redis-py's turns READONLY into a lost connection, and then a refused write would look like one
    # whose reply was lost. As an error it is repeated on a new connection, which asks the Sentinels.
    read_response: Any = redis.Connection.read_response


class _ManagedSSL(SentinelManagedSSLConnection):
    read_response: Any = redis.SSLConnection.read_response


class _FollowsPrimary:
    """Declines to be used once the pool knows of another primary."""

    def is_ready(self) -> bool:
        """Whether the connection is open and clean, and leads to the primary."""
        pool = self.connection_pool  # type: ignore[attr-defined]
        return leads_to_primary(self, pool) and super().is_ready()  # type: ignore[misc]


class NamespacedSentinelConnection(_FollowsPrimary, NamespacedConnection, _Managed):
    """A TCP connection to whichever server is the primary, which speaks in own names."""


class NamespacedSentinelSSLConnection(_FollowsPrimary, NamespacedSSLConnection, _ManagedSSL):
    """A TLS connection to whichever server is the primary, which speaks in own names."""


class NamespacedSentinelPool(SentinelConnectionPool, NamespacedConnectionPool):
    """A namespaced pool whose connections lead to the primary that the Sentinels name."""

    def release(self, connection: Any) -> None:
        """Take a connection back; one to a former primary is closed, and finds the new one when used."""
        if not leads_to_primary(connection, self):
            connection.disconnect()
        super().release(connection)

    def owns_connection(self, connection: Any) -> bool:
        """Whether the connection is this process's; `release` looks at where it leads."""
        return bool(redis.ConnectionPool.owns_connection(self, connection))

    def __repr__(self) -> str:
        return NamespacedConnectionPool.__repr__(self)


def leads_to_primary(connection: Any, pool: Any) -> bool:
    """Whether a connection leads to the primary that its pool was told of last."""
    known = pool.master_address
    return not pool.is_master or known is None or known == (connection.host, connection.port)


def no_primary(service: str, sentinels: Any) -> str:
    """Return what to say when none of the Sentinels' clients has found a primary of the service."""
    asked = [client.connection_pool.connection_kwargs for client in sentinels]
    places = ", ".join(f"{kwargs['host']}:{kwargs['port']}" for kwargs in asked)
    return (
        f"No master found for {service!r}: no Sentinel answers and knows a healthy one (asked {places}). "
        "Look whether they run, and at the hosts and the service's name in the URL"
    )


def sentinel_arguments(found: Target, retry: Any) -> dict[str, Any]:
    """Return the connection arguments for the Sentinels themselves.

    They get the URL's ``sentinel_*`` parameters, and with ``rediss+sentinel://`` the same TLS as the
    server. An unreachable Sentinel is not tried again, since the next one knows as well.
    """
    options = found.options
    arguments: dict[str, Any] = {
        "socket_timeout": SENTINEL_TIMEOUT,
        "socket_connect_timeout": SENTINEL_TIMEOUT,
        "socket_keepalive": True,
        "retry": retry,
    }
    arguments.update(found.settings.server.sentinel_options)
    arguments["socket_timeout"] = float(arguments["socket_timeout"])
    if found.settings.server.scheme == "rediss":
        arguments["ssl"] = True
        arguments.update({k: v for k, v in options.items() if k.startswith("ssl_")})
    return arguments


def server_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return pool arguments without the address, which the Sentinels will tell."""
    return {k: v for k, v in options.items() if k not in ("host", "port")}


def sentinels_of(found: Target) -> Sentinels:
    """Return the Sentinels that a URL names, each of which is asked once. No round trip."""
    asking = sentinel_arguments(found, Retry(NoBackoff(), 0))
    return Sentinels(list(found.settings.server.hosts), sentinel_kwargs=asking)  # type: ignore[no-untyped-call]


def sentinel_pool(found: Target, options: dict[str, Any]) -> NamespacedConnectionPool:
    """Return a pool of connections to the primary of the URL's service. No round trip.

    Args:
        found: whose Sentinels and whose names.
        options: as for `NamespacedConnectionPool`, with ``namespace``.
    """
    server = found.settings.server
    sentinel = sentinels_of(found)
    secure = server.scheme == "rediss"
    pool = server_options(options)
    pool.setdefault(
        "connection_class",
        NamespacedSentinelSSLConnection if secure else NamespacedSentinelConnection,
    )
    return NamespacedSentinelPool(server.service, sentinel, **pool)  # type: ignore[no-untyped-call]
