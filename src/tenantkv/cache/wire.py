"""A cache's way to the server, sync: with a time-out of its own and the breaker in front."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from redis.backoff import NoBackoff
from redis.exceptions import ClusterDownError, MaxConnectionsError, ReadOnlyError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tenantkv.cache.breaker import Breaker
from tenantkv.cache.owed import Owed
from tenantkv.commands.own_scripts import OwnWord
from tenantkv.ops.effects import Command, Operation
from tenantkv.transport.drivers import exchange, run
from tenantkv.transport.pool import NamespacedConnectionPool, PoolView
from tenantkv.transport.retry import SafeRetry, is_unrepeatable

Result = TypeVar("Result")

#: As our own operations send it.
MGET = OwnWord(b"MGET")
#: The server is away, or was when it was asked last.
OUTAGE = (RedisConnectionError, RedisTimeoutError, ReadOnlyError, ClusterDownError)

# For each pool the one that caches use in its place, with their time-out; gone with the pool.
_impatient: WeakKeyDictionary[Any, dict[float, Any]] = WeakKeyDictionary()
_breakers: WeakKeyDictionary[Any, Breaker] = WeakKeyDictionary()
_lock = threading.Lock()


def breaker_of(client: Any) -> Breaker:
    """Return the one breaker of all caches on a client's connections."""
    anchor = anchor_of(client)
    with _lock:
        return _breakers.setdefault(anchor, Breaker())


def anchor_of(client: Any) -> Any:
    """Return what all views of a client's connections share."""
    pool = getattr(client, "connection_pool", None)
    if pool is None:
        return getattr(client, "_parent", None) or client
    return getattr(pool, "_pool", pool)


def note_failure(breaker: Breaker, error: Exception) -> None:
    """Open the breaker for an outage, but not for one connection that was lost with a reply due.

    Such a call is not repeated, as it may have been carried out; the next one finds out how the server is.
    Nor where all of the pool's connections are in use: who has them finds out.
    """
    if isinstance(error, MaxConnectionsError):
        return
    if not (isinstance(error, RedisConnectionError) and is_unrepeatable(error)):
        breaker.fail()


def away(breaker: Breaker) -> RedisConnectionError:
    """Return the error for a call that was not even tried."""
    return RedisConnectionError(
        f"the server did not answer a moment ago; it is asked again in {breaker.remaining():.1f} seconds"
    )


class Wire:
    """Runs operations of one cache, or raises at once while the server is away.

    Args:
        client: the tenant's.
        timeout: seconds for connecting, and for an answer; ``None`` leaves the client's own.
        owed: invalidations that the server has not heard of.
    """

    def __init__(self, client: Any, timeout: float | None, owed: Owed) -> None:
        self.breaker = breaker_of(client)
        self._client = client
        self._owed = owed
        self._pool = _pool_for(client, timeout)

    def read(self, words: Sequence[Any]) -> Any:
        """Return the raw reply to a command that only reads: one round trip, the short way."""
        pool = self._pool
        if pool is None or self._owed.is_due or self.breaker.is_open:
            return self.run(_one(words))
        try:
            connection = pool.get_connection()
            try:
                connection.send_command(*words)
                return connection.read_response(disable_decoding=True)
            except OUTAGE:
                connection.disconnect()
            finally:
                pool.release(connection)
            # The server may only have closed a connection that was idle.
            return run(pool, _one(words))
        except OUTAGE as error:
            note_failure(self.breaker, error)
            raise

    @property
    def is_clear(self) -> bool:
        """Whether `write` may be used: there is a pool, and nothing comes first."""
        return not (self._owed.is_due or self.breaker.is_open or self._pool is None)

    def write(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return the raw replies to commands of our own, errors among them: one round trip, the short way.

        They begin with an `OwnWord`, and are bytes and integers.
        """
        try:
            return exchange(self._pool, commands)
        except OUTAGE as error:
            note_failure(self.breaker, error)
            raise

    def run(self, operation: Operation[Result]) -> Result:
        """Drive an operation.

        Raises:
            redis.exceptions.RedisError: one of `OUTAGE` if the server is away.
        """
        breaker = self.breaker
        if breaker.blocks():
            operation.close()
            raise away(breaker)
        try:
            if self._owed.is_due:
                self._owed.settle(self._drive)
            result = self._drive(operation)
        except OUTAGE as error:
            note_failure(breaker, error)
            raise
        if breaker.is_open:
            breaker.close()
        return result

    def _drive(self, operation: Operation[Result]) -> Result:
        if self._pool is None:
            found: Result = self._client.run(operation)
            return found
        return run(self._pool, operation)


def _one(words: Sequence[Any]) -> Operation[Any]:
    return (yield Command(words))


def _pool_for(client: Any, timeout: float | None) -> Any:
    """Return the pool to use, or ``None`` for a client that has none, such as a Cluster's."""
    pool = getattr(client, "connection_pool", None)
    if not isinstance(pool, (NamespacedConnectionPool, PoolView)):
        return None
    base: Any = getattr(pool, "_pool", pool)
    # A pool of another kind finds its servers in ways of its own, and fakeredis answers at once.
    is_plain = type(base) is NamespacedConnectionPool and hasattr(base.connection_class, "_connect")
    if timeout is None or not is_plain or getattr(base, "cache", None) is not None:
        return pool
    with _lock:
        made = _impatient.setdefault(base, {})
        if timeout not in made:
            made[timeout] = _make_impatient(base, timeout)
        own = made[timeout]
    return own.view(client.namespace) if own.namespace != client.namespace else own


def _make_impatient(base: Any, timeout: float) -> NamespacedConnectionPool:
    arguments = {
        **base.connection_kwargs,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        # Once more at once, since an idle connection may have been closed; not after a time-out.
        "retry": SafeRetry(NoBackoff(), 1, (RedisConnectionError, ReadOnlyError)),
    }
    return NamespacedConnectionPool(
        base.connection_class, base.max_connections, pool_wait=timeout, **arguments
    )
