"""A cluster's nodes: their connections and pools."""

from __future__ import annotations

from typing import Any

from tenantkv.namespace import Namespace
from tenantkv.ops.registry import Registrar
from tenantkv.transport.connection import NamespacedConnection, NamespacedSSLConnection
from tenantkv.transport.pool import NamespacedConnectionPool
from tenantkv.transport.redis_py import CAN_MARK, marked_for_reconnect


class _NodeConnection:
    """Sends nothing between ASKING and the command that it is for, such as a registration."""

    is_outdated = False
    _asked = False

    def send_command(self, *args: Any, **kwargs: Any) -> None:
        """Rewrite and send one command."""
        session = self.session  # type: ignore[attr-defined]
        registrar = session.registrar
        if self._asked:
            session.registrar = None
        try:
            super().send_command(*args, **kwargs)  # type: ignore[misc]
        finally:
            session.registrar = registrar
        self._asked = args[0] == "ASKING"


class ClusterConnection(_NodeConnection, NamespacedConnection):
    """A TCP connection to a cluster's node, which speaks in own names."""


class ClusterSSLConnection(_NodeConnection, NamespacedSSLConnection):
    """A TLS connection to a cluster's node, which speaks in own names."""


class ClusterNodePool(NamespacedConnectionPool):
    """The connections to one node."""

    def disconnect(self, inuse_connections: bool = True) -> None:
        """Close the connections; before redis-py 6, those in use when they come back.

        It closed them under other threads' commands whenever it asked for the nodes anew.
        """
        if CAN_MARK or not inuse_connections:
            super().disconnect(inuse_connections)
            return
        with self._lock:
            for connection in self._in_use_connections:
                connection.is_outdated = True
        super().disconnect(inuse_connections=False)

    def release(self, connection: Any) -> None:
        """Take a connection back, closed if the cluster has changed meanwhile."""
        if connection.is_outdated or marked_for_reconnect(connection):
            connection.is_outdated = False
            connection.disconnect()
        super().release(connection)


def node_pool(
    given: dict[str, Any], registrars: dict[Namespace, Registrar], **arguments: Any
) -> ClusterNodePool:
    """Return the pool for one node, for redis-py's topology to call.

    Args:
        given: the pool's arguments as they were given to the client.
        registrars: the registries of the client and its children.
        arguments: the node's address, and what redis-py adds.
    """
    # RedisCluster drops arguments that it does not know, such as namespace, so they travel in `given`.
    pool = ClusterNodePool(**{**arguments, **given})
    pool.registrars = registrars
    return pool
