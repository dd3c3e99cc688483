"""A single connection without a namespace, to the server that the environment names; for those who guard it.

It follows Sentinels to the primary. A lost connection is never made anew on the quiet, since WATCH would be
lost with it. What may be sent is for `adopt_source` and `rotate_server` to say: nothing else uses it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, cast

from redis.connection import ConnectionPool, parse_url
from redis.exceptions import ResponseError

from tenantkv.config import Settings, resolve
from tenantkv.errors import ConfigurationError
from tenantkv.transport.connect import SHARED_DEFAULTS, Target, _embedded_url
from tenantkv.transport.redis_py import CHECKOUT, no_maintenance_notifications


class PlainServer:
    """The connection, opened with the first command.

    Args:
        label: the namespace's, for the settings.
        command: who asks, for errors.

    Raises:
        ConfigurationError: the URL names no single server.
    """

    def __init__(self, label: str | None, command: str) -> None:
        settings = resolve(environ=os.environ, namespace=label)
        if settings.kind == "cluster":
            raise ConfigurationError(
                f"{command} works on one server, and not on a Cluster, where a key's place hangs on its wire "
                "name: write the keys anew with a program that has both names, or 'tenantkv export' them "
                "and 'import' them there"
            )
        if settings.kind not in ("server", "embedded", "sentinel"):
            raise ConfigurationError(f"{command} works on a server, and not on {settings.kind}://")
        self._pool = _sentinel_pool(settings) if settings.kind == "sentinel" else _pool(settings)
        self._connection: Any = None

    def exchange(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send commands in one packet, and return their replies undecoded; errors stand among them."""
        if self._connection is None:
            self._connection = self._pool.get_connection(*CHECKOUT)
        connection = self._connection
        replies: list[Any] = []
        try:
            connection.send_packed_command(connection.pack_commands(commands))
            for _ in commands:
                try:
                    replies.append(connection.read_response())
                except ResponseError as error:
                    replies.append(error)
        except BaseException:
            # Half a conversation: nothing more may be read from it.
            connection.disconnect()
            raise
        return replies

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._pool.release(self._connection)
            self._connection = None
        self._pool.disconnect()


def _options(url: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        **SHARED_DEFAULTS,
        **no_maintenance_notifications(),
        **parse_url(url),
        "protocol": 2,
        "decode_responses": False,
    }
    options.pop("timeout", None)
    return options


def _pool(settings: Settings) -> Any:
    url = _embedded_url(settings) if settings.kind == "embedded" else settings.redis_url or ""
    return ConnectionPool(**_options(url))


def _sentinel_pool(settings: Settings) -> Any:
    # Here, as most servers have no Sentinels.
    from redis.sentinel import SentinelConnectionPool

    from tenantkv.transport.sentinel import _Managed, _ManagedSSL, sentinels_of, server_options

    server = settings.server
    options = _options(settings.redis_url or "")
    options.pop("connection_class", None)
    # Sentinels know no keys, so nobody asks for the namespace.
    found = Target(settings, cast(Any, None), options, server.scheme)
    arguments: dict[str, Any] = {
        "connection_class": _ManagedSSL if server.scheme == "rediss" else _Managed,
        **server_options(options),
    }
    return SentinelConnectionPool(server.service, sentinels_of(found), **arguments)
