"""``memory://``: fakeredis behind the same namespaced connections, for tests without a server."""

from __future__ import annotations

from functools import cache
from typing import Any

from tenantkv.errors import ConfigurationError
from tenantkv.transport.async_connection import AsyncNamespacedMixin
from tenantkv.transport.async_pool import AsyncNamespacedConnectionPool
from tenantkv.transport.connection import NamespacedMixin
from tenantkv.transport.pool import NamespacedConnectionPool
from tenantkv.transport.redis_py import socket_of

try:
    import fakeredis
    from fakeredis import FakeRedisConnection, aioredis
except ImportError as error:
    raise ConfigurationError("memory:// needs fakeredis with Lua: pip install 'fakeredis[lua]'") from error


class MemoryConnection(NamespacedMixin, FakeRedisConnection):
    """A connection to fakeredis that speaks in own names."""

    def is_ready(self) -> bool:
        """Whether the connection is open and idle; there is no socket that could have died."""
        return socket_of(self) is not None and self.session.idle

    def _take_lean(self) -> None:
        """There are no bytes to read, so there is no short way to read them."""


class AsyncMemoryConnection(AsyncNamespacedMixin, aioredis.FakeAsyncRedisConnection):  # type: ignore[misc]
    """An asyncio connection to fakeredis that speaks in own names."""

    def _take_lean(self) -> None:
        """There are no bytes to read, so there is no short way to read them."""


@cache
def _process_server() -> Any:
    """The one server of this process, so that every ``memory://`` client sees the same data."""
    return fakeredis.FakeServer(version=(7, 0))


def lose_everything() -> None:
    """Delete all keys of all tenants of this process's server, as an eviction or a restart does."""
    fakeredis.FakeStrictRedis(server=_process_server()).flushall()


def _arguments(options: dict[str, Any]) -> dict[str, Any]:
    # No socket, so no time-outs and no health checks; Lua is always on.
    kept = {name: value for name, value in options.items() if not name.startswith("socket_")}
    kept["socket_timeout"] = None
    kept.pop("health_check_interval", None)
    kept.setdefault("server", _process_server())
    return kept


def memory_pool(options: dict[str, Any]) -> NamespacedConnectionPool:
    """Return a pool on fakeredis; ``server=fakeredis.FakeServer()`` gives it data of its own."""
    return NamespacedConnectionPool(**{"connection_class": MemoryConnection, **_arguments(options)})


def async_memory_pool(options: dict[str, Any]) -> AsyncNamespacedConnectionPool:
    """Return an asyncio pool on fakeredis; see `memory_pool`."""
    return AsyncNamespacedConnectionPool(**{"connection_class": AsyncMemoryConnection, **_arguments(options)})
