"""The one connection of this package that has no namespace, for a few commands that name no key.

The client refuses SLOWLOG, ACL and the like, as a tenant needs none of them, and shows channels only in own
names. The audit has to see what *others* see: so it asks with redis-py's own connection, the commands in
`READ_ONLY` and no others. None of them names a key, changes anything, or carries a part of the prefix; what
comes back is searched here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from tenantkv.config import Settings
from tenantkv.errors import ConfigurationError
from tenantkv.transport.connect import SHARED_DEFAULTS
from tenantkv.transport.redis_py import no_maintenance_notifications
from tenantkv.transport.sentinel import Sentinels

#: The beginnings of all that is ever sent.
READ_ONLY: frozenset[tuple[str, ...]] = frozenset(
    {
        ("PING",),
        ("INFO",),
        ("COMMAND", "INFO"),
        ("PUBSUB", "CHANNELS"),
        ("PUBSUB", "SHARDCHANNELS"),
        ("PUBSUB", "NUMPAT"),
        ("CLUSTER", "SLOTS"),
        ("SLOWLOG", "GET"),
        ("COMMANDLOG", "GET"),
        ("ACL", "LOG"),
        ("ACL", "WHOAMI"),
        ("FUNCTION", "LIST"),
        ("CONFIG", "GET"),
    }
)

#: The one pattern that is ever listened to: what servers announce of changed keys.
EVENTS = "__key*@*__:*"

# Of what is heard; a server may have much to say.
_MOST_HEARD = 1000
# Of a Cluster; the report says when there are more.
MOST_PRIMARIES = 64

# Arguments of pools, which a connection does not take.
_OF_POOLS = frozenset({"connection_class", "max_connections", "timeout", "pool_wait"})
_CLASSES = {
    "redis": redis.Connection,
    "rediss": redis.SSLConnection,
    "unix": redis.UnixDomainSocketConnection,
}


class RawServer:
    """A server as any stranger sees it.

    Args:
        connection: one of redis-py's own.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def place(self) -> tuple[str, int]:
        """Host and port; of a Unix socket nothing."""
        return getattr(self._connection, "host", ""), getattr(self._connection, "port", 0)

    def ask(self, *words: str) -> Any:
        """Return the raw reply of a read-only command; an error of the server's as an object.

        Raises:
            redis.exceptions.ConnectionError: the server cannot be reached.
        """
        if words[:2] not in READ_ONLY and words[:1] not in READ_ONLY:
            raise AssertionError(f"not one of the commands that the audit may send: {words[0]}")
        self._connection.send_command(*words)
        try:
            return self._connection.read_response(disable_decoding=True)
        except ResponseError as error:
            return error

    def listen(self, seconds: float) -> list[bytes] | None:
        """Return the channels of what is announced of changed keys within some seconds.

        The connection is of no use for anything else afterwards.

        Returns:
            ``None`` if the server cannot be listened to.
        """
        connection = self._connection
        heard: list[bytes] = []
        until = time.monotonic() + seconds
        try:
            connection.send_command("PSUBSCRIBE", EVENTS)
            connection.read_response(disable_decoding=True)
            while len(heard) < _MOST_HEARD and (left := until - time.monotonic()) > 0:
                if connection.can_read(timeout=left):
                    kind, _, channel, *_ = connection.read_response(disable_decoding=True)
                    heard += [channel] if kind == b"pmessage" else []
        except (RedisError, TypeError, ValueError):
            # All else is known by now.
            return None
        return heard

    def pings(self, count: int) -> list[float]:
        """Return how long so many PINGs took, in seconds."""
        taken = []
        for _ in range(count):
            started = time.perf_counter()
            self.ask("PING")
            taken.append(time.perf_counter() - started)
        return taken

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()


def open_raw(settings: Settings, *, timeout: float = 5.0) -> RawServer:
    """Connect to the server of a URL, or to one of several.

    Args:
        settings: with the URL, of a server, Sentinels or a Cluster.
        timeout: seconds for connecting and for each reply.

    Raises:
        redis.exceptions.RedisError: it cannot be reached, or refuses the password.
    """
    failure: Exception = ConfigurationError("the URL names no server")
    for place in _places(settings, timeout):
        try:
            return _connected(settings, place, timeout)
        except RedisError as error:
            failure = error
    raise failure


def open_primaries(
    settings: Settings, *, timeout: float = 5.0
) -> Iterator[tuple[str, RawServer | Exception]]:
    """Connect to each primary of a Cluster, one after the other.

    Args:
        settings: with the Cluster's URL.
        timeout: seconds for connecting and for each reply.

    Yields:
        A primary's host and port, and the server, or why it cannot be reached.

    Raises:
        redis.exceptions.RedisError: none of the URL's nodes can be reached, or it is in no Cluster.
    """
    first = open_raw(settings, timeout=timeout)
    try:
        rows = first.ask("CLUSTER", "SLOTS")
        own = first.place
    finally:
        first.close()
    if isinstance(rows, Exception):
        raise rows
    for host, port in _primaries(rows, own)[:MOST_PRIMARIES]:
        server: RawServer | Exception
        try:
            server = _connected(settings, {"host": host, "port": port}, timeout)
        except (RedisError, OSError) as error:
            server = error
        yield f"{host}:{port}", server


def _primaries(rows: Any, own: tuple[str, int]) -> list[tuple[str, int]]:
    """Return who holds slots; a node that does not know its own address means the one that was asked."""
    found = set()
    for row in rows if isinstance(rows, list) else ():
        host, port = row[2][:2]
        name = host.decode("utf-8", "replace") if isinstance(host, bytes) else ""
        found.add((name if name not in ("", "?") else own[0], int(port)))
    return sorted(found) or [own]


def _connected(settings: Settings, place: dict[str, Any], timeout: float) -> RawServer:
    options: dict[str, Any] = {**SHARED_DEFAULTS, **no_maintenance_notifications()}
    if settings.redis_url:
        options |= dict(parse_url(settings.redis_url))
    options = {name: value for name, value in options.items() if name not in _OF_POOLS}
    # Tried once: an audit tells that a server is away. RESP2 has one form for each reply.
    options |= {"protocol": 2, "decode_responses": False, "retry": Retry(NoBackoff(), 0)}
    options |= {"socket_timeout": timeout, "socket_connect_timeout": timeout, "health_check_interval": 0}
    connection = _CLASSES[settings.server.scheme](**{**options, **place})
    connection.connect()
    return RawServer(connection)


def _places(settings: Settings, timeout: float) -> Sequence[dict[str, Any]]:
    """Return where to try."""
    if settings.kind == "sentinel":
        given: dict[str, Any] = {"socket_timeout": timeout, **dict(settings.server.sentinel_options)}
        given["socket_timeout"] = float(given["socket_timeout"])
        if settings.server.scheme == "rediss":
            secure = parse_url(settings.redis_url)
            given |= {"ssl": True, **{key: secure[key] for key in secure if key.startswith("ssl_")}}
        sentinels = Sentinels(list(settings.server.hosts), sentinel_kwargs=given)  # type: ignore[no-untyped-call]
        host, port = sentinels.discover_master(settings.server.service)
        return [{"host": host, "port": port}]
    if settings.kind == "cluster":
        return [{"host": host, "port": port} for host, port in settings.server.hosts]
    return [{}]
