"""The thread that keeps a near cache true, on a connection of its own where there is one server."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from tenantkv.cache.near import NearStore
from tenantkv.ops import cache_news
from tenantkv.ops.cache import Shelf
from tenantkv.ops.effects import Operation
from tenantkv.transport.drivers import drive, exchange_on
from tenantkv.transport.redis_py import socket_of
from tenantkv.transport.retry import SafeRetry

# What the handler of invalidations returns, to be told from a reply.
PUSHED = object()
#: What ends a connection; the last is no `RedisError`.
FAILURES = (RedisError, OSError, RedisClusterException)
_PAUSES = (0.05, 0.2, 1.0, 3.0)
# In a share of the staleness the server is heard of again, so that one lost reply is no harm.
SHARE = 3
_LONGEST_BLOCK = 2.0


def connection_arguments(client: Any) -> tuple[Any, dict[str, Any]] | None:
    """Return the class and the arguments of a listener's connection.

    ``None`` for a Cluster's client: which of its servers tells of a cache is not settled for ever, so that
    it is asked by way of the client.
    """
    pool = getattr(client, "connection_pool", None)
    if pool is None:
        return None
    arguments = {**pool.connection_kwargs, "namespace": client.namespace, "health_check_interval": 0}
    for name in ("cache", "cache_config", "registry"):
        arguments.pop(name, None)
    return pool.connection_class, arguments


def block_ms(near: NearStore, client: Any = None) -> int:
    """Return for how long to wait for news at a time.

    Args:
        near: the store.
        client: a Cluster's client, whose connections wait no longer for this than for anything else.
    """
    longest = _LONGEST_BLOCK
    if client is not None:
        patience = client.nodes_manager.connection_kwargs.get("socket_timeout")
        longest = longest if patience is None else min(longest, patience / 2)
    return int(min(near.settings.staleness / SHARE, longest) * 1000) or 1


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
        self._client = client
        self._found = connection_arguments(client)
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
            except FAILURES:
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
        if self._found is None:
            self._follow(self._client.run, block_ms(self._near, self._client))
        elif not self._track():
            self._disconnect()
            run = partial(drive, partial(exchange_on, self._connect()))
            self._follow(run, block_ms(self._near))

    def _connect(self, **more: Any) -> Any:
        assert self._found is not None
        kind, arguments = self._found
        self._connection = kind(**{**arguments, "retry": SafeRetry(NoBackoff(), 0), **more})
        self._connection.connect()
        return self._connection

    def _track(self) -> bool:
        """Have the server tell of changes until the connection is lost; ``False`` if it does not do that."""
        connection = self._connect(protocol=3)
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

    def _follow(self, run: Callable[[Operation[Any]], Any], block_ms: int) -> None:
        """Follow the cache's stream until the connection is lost."""
        news, near = self._shelf.names.news, self._near
        self._shelf.announces = True
        last = run(cache_news.anchor(news))
        near.begin_trust("stream")
        while not self._stopped.is_set():
            sent = time.monotonic()
            last, names = run(cache_news.follow(news, last, block_ms))
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
