"""The thread that keeps a near cache true, on a connection of its own."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
import weakref
from functools import partial
from typing import Any

from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from tenantkv.cache.near import NearStore
from tenantkv.errors import ConfigurationError
from tenantkv.ops import cache_news
from tenantkv.ops.cache import Shelf
from tenantkv.transport.drivers import drive, exchange_on
from tenantkv.transport.redis_py import socket_of
from tenantkv.transport.retry import SafeRetry

# What the handler of invalidations returns, to be told from a reply.
PUSHED = object()
_PAUSES = (0.05, 0.2, 1.0, 3.0)
# In a share of the staleness the server is heard of again, so that one lost reply is no harm.
SHARE = 3
_LONGEST_BLOCK = 2.0


def connection_arguments(client: Any) -> tuple[Any, dict[str, Any]]:
    """Return the class and the arguments of a listener's connection.

    Raises:
        ConfigurationError: the client has no one server that could tell of everything.
    """
    pool = getattr(client, "connection_pool", None)
    if pool is None:
        raise ConfigurationError("a near cache needs a client of one server, not of a Cluster")
    arguments = {**pool.connection_kwargs, "namespace": client.namespace, "health_check_interval": 0}
    for name in ("cache", "cache_config", "registry"):
        arguments.pop(name, None)
    return pool.connection_class, arguments


def invalidated(near: NearStore, message: Any) -> object:
    """Forget what an invalidation names: ``[b"invalidate", names]``, or no names for everything."""
    names = message[1] if isinstance(message, list) and len(message) > 1 else None
    if isinstance(names, list):
        near.drop_all([name if isinstance(name, bytes) else str(name).encode() for name in names])
    else:
        near.clear()
    return PUSHED


class Listener:
    """Hears of changes, and tells a near cache.

    Args:
        client: whose server it listens to.
        near: the store.
        shelf: the cache; it begins to announce its own writes where everybody has to.
    """

    def __init__(self, client: Any, near: NearStore, shelf: Shelf) -> None:
        self._class, arguments = connection_arguments(client)
        self._arguments = {**arguments, "retry": SafeRetry(NoBackoff(), 0)}
        self._near = near
        self._shelf = shelf
        self._stopped = threading.Event()
        self._connection: Any = None
        _all.add(self)

    def start(self) -> None:
        """Start the thread."""
        thread = threading.Thread(target=self._work, name="tenantkv-near", daemon=True)
        thread.start()

    def stop(self) -> None:
        """End the thread soon, and serve nothing from now on."""
        self._stopped.set()
        self._near.end_trust()
        connection = self._connection
        sock = socket_of(connection) if connection is not None else None
        if isinstance(sock, socket.socket):
            try:
                # Wakes the thread where it waits.
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def restart_after_fork(self) -> None:
        """Listen again, in a child that has the parent's memory and none of its threads."""
        # The parent's connection is not ours to close.
        self._connection = None
        self._near.reset_after_fork()
        if not self._stopped.is_set():
            self._stopped = threading.Event()
            self.start()

    def _work(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            begun = time.monotonic()
            try:
                self._listen()
            except (RedisError, OSError):
                pass
            finally:
                self._near.end_trust()
                self._disconnect()
            failures = 0 if time.monotonic() - begun > 10 else min(failures + 1, len(_PAUSES) - 1)
            self._stopped.wait(_PAUSES[failures])

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def _listen(self) -> None:
        if not self._track():
            self._disconnect()
            self._follow()

    def _track(self) -> bool:
        """Have the server tell of changes until the connection is lost; ``False`` if it does not do that."""
        connection = self._connection = self._class(**{**self._arguments, "protocol": 3})
        connection.connect()
        set_handler = getattr(connection._parser, "set_invalidation_push_handler", None)
        sock = socket_of(connection)
        if set_handler is None or not isinstance(sock, socket.socket):
            return False
        set_handler(partial(invalidated, self._near))
        try:
            connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", self._shelf.names.base)
            connection.read_response()
        except ResponseError:
            return False
        self._near.begin_trust("server")
        while not self._stopped.is_set():
            sent = time.monotonic()
            connection.send_command("PING")
            # Everything that changed before the server saw this comes ahead of its answer.
            while connection.read_response(push_request=True) is PUSHED:
                pass
            self._near.prolong(sent)
            wait_readable(sock, self._near.settings.staleness / SHARE)
        return True

    def _follow(self) -> None:
        """Follow the cache's stream until the connection is lost."""
        connection = self._connection = self._class(**self._arguments)
        connection.connect()
        swap = partial(exchange_on, connection)
        news, near = self._shelf.names.news, self._near
        block_ms = int(min(near.settings.staleness / SHARE, _LONGEST_BLOCK) * 1000) or 1
        self._shelf.announces = True
        last = drive(swap, cache_news.anchor(news))
        near.begin_trust("stream")
        while not self._stopped.is_set():
            sent = time.monotonic()
            last, names = drive(swap, cache_news.follow(news, last, block_ms))
            near.drop_all(names)
            near.prolong(sent)


def wait_readable(sock: socket.socket, seconds: float) -> None:
    """Wait until a socket has something to read, at most so long."""
    if hasattr(select, "poll"):
        poller = select.poll()
        poller.register(sock, select.POLLIN)
        poller.poll(seconds * 1000)
    else:  # Windows
        select.select([sock], [], [], seconds)


_all: weakref.WeakSet[Listener] = weakref.WeakSet()


def _restart_all() -> None:
    for listener in list(_all):
        listener.restart_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restart_all)
