"""The sync client: a ``redis.Redis`` whose every command stays inside the tenant's namespace."""

from __future__ import annotations

import random
import time
from typing import Any, TypeVar

import redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tenantkv.commands.table import find_rule
from tenantkv.errors import ConfigurationError, MalformedCommandError, RefusedError
from tenantkv.namespace import Namespace
from tenantkv.ops import own_keys
from tenantkv.ops.effects import Operation
from tenantkv.ops.own_keys import Usage
from tenantkv.ops.registry import RESERVED, Registrar
from tenantkv.transport.connection import NamespacedMixin
from tenantkv.transport.decoding import decode_deep
from tenantkv.transport.drivers import run
from tenantkv.transport.pipeline import TenantPipeline
from tenantkv.transport.pool import (
    MAX_CONNECTIONS,
    NamespacedConnectionPool,
    PoolView,
    connection_of,
)
from tenantkv.transport.primitives import Primitives
from tenantkv.transport.redis_py import LEAN
from tenantkv.transport.refusals import as_response
from tenantkv.transport.session import packer_of
from tenantkv.transport.speaking import SpeakingClient

Result = TypeVar("Result")

#: What a lost connection looks like, and a primary that has become a replica.
REPEATABLE = (RedisConnectionError, RedisTimeoutError, ReadOnlyError)

#: The commands that look at many keys, as redis-py names them; see `ops/own_keys.py`.
_MANY = ("KEYS", "SCAN", "DBSIZE", "RANDOMKEY", "FLUSHDB")
EMULATED = frozenset({*_MANY, *map(str.lower, _MANY)})
ONLY_EMULATED = frozenset({"DBSIZE", "RANDOMKEY", "FLUSHDB"})


class TenantRedis(Primitives, SpeakingClient, redis.Redis):
    """A drop-in ``redis.Redis`` for one namespace.

    Make it with :func:`tenantkv.connect`. It takes and returns own names everywhere; what cannot be
    kept inside the namespace raises :class:`tenantkv.RefusedError` before a byte is sent.

    Args:
        connection_pool: a :class:`tenantkv.NamespacedConnectionPool`, or a view of one.
        kwargs: as for ``redis.Redis``.
    """

    connection_pool: NamespacedConnectionPool | PoolView

    def __init__(self, *, connection_pool: Any = None, **kwargs: Any) -> None:
        pool = namespaced_pool(connection_pool)
        if pool is None:
            raise ConfigurationError(
                "TenantRedis works on a namespaced connection pool; make it with tenantkv.connect(), "
                "or pass connection_pool=tenantkv.connection_pool(...)"
            )
        super().__init__(connection_pool=pool, **kwargs)
        self._is_lean = LEAN and bool(getattr(pool, "_is_lean", False))

    @classmethod
    def from_url(cls, url: str, **kwargs: Any) -> Any:
        """Return ``tenantkv.connect(url, ...)``, for libraries that take a client's class and a URL."""
        from tenantkv.transport.connect import connect

        return connect(url, **kwargs)

    @property
    def namespace(self) -> Namespace:
        """Whose names this client speaks."""
        namespace: Namespace = self.connection_pool.namespace
        return namespace

    @property
    def registrar(self) -> Registrar | None:
        """The index of own names that this client keeps, if it does."""
        pool = self.connection_pool
        found: Registrar | None = pool.registrars.get(pool.namespace)
        return found

    def child(self, name: str) -> TenantRedis:
        """Return a client for the sub-tenant `name`, on the same connections."""
        return self.for_namespace(self.namespace.child(name))

    def for_namespace(self, namespace: Namespace) -> TenantRedis:
        """Return a client for another namespace, on the same connections."""
        return type(self)(connection_pool=self.connection_pool.view(namespace))

    def run(self, operation: Operation[Result]) -> Result:
        """Drive one of tenantkv's operations with this client's connections."""
        try:
            return run(self.connection_pool, operation)
        except RefusedError as error:
            raise as_response(error) from None

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> TenantPipeline:
        """Return a pipeline, as ``redis.Redis`` does; its errors never quote values."""
        return TenantPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)

    def namespace_usage(self, *, sample: int = 1000) -> Usage:
        """Measure the namespace: keys, bytes, and keys that never expire.

        Args:
            sample: how many keys to measure at the most; the rest is extrapolated.

        Raises:
            ForbiddenCommandError: the server has no SCAN, and the registry is off.
        """
        return self.run(own_keys.usage(self.registrar, sampler(sample), time.time()))

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command and return a parsed response, as ``redis.Redis`` does.

        Raises:
            RefusedError: also a ``redis.exceptions.ResponseError``; nothing was sent.
        """
        if not args:
            raise as_response(MalformedCommandError("the command", "it has no name."))
        name = args[0]
        if type(name) is str and name in EMULATED:
            return self._look_at_many(name, args, options)
        return self._execute(name, args, options)

    def _execute(self, name: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if self.connection is not None:
            kept = connection_of(self.connection)
            if isinstance(kept, NamespacedMixin):  # not a test's double
                kept.revive()
        if not self._is_lean or self.connection is not None:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        pool = self.connection_pool
        connection = pool.get_connection()
        try:
            connection.send_command(*args)
            return self.parse_response(connection, name, **options)  # type: ignore[no-untyped-call]
        except REPEATABLE as error:
            return self._repeat(connection, error, args, options)
        finally:
            pool.release(connection)

    def _repeat(
        self, connection: Any, error: Exception, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        """Go on after a lost connection as the connection's retry policy says."""
        first = [error]

        def once() -> Any:
            if first:
                raise first.pop()
            connection.send_command(*args)
            return self.parse_response(connection, args[0], **options)  # type: ignore[no-untyped-call]

        return connection.retry.call_with_retry(once, lambda *_: connection.disconnect())

    def _look_at_many(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Answer a command that looks at many keys: by the server where it can, else by ourselves."""
        if not (name.upper() in ONLY_EMULATED or self.hides_names) and not self.connection_pool.lacks_scan:
            try:
                return without_reserved(self._execute(name, args, options))
            except ResponseError as error:
                if not is_missing(error):
                    raise
                self.connection_pool.lacks_scan = True
        encoder = self.connection_pool.get_encoder()
        operation = own_keys.emulate(
            emulated_words(args, encoder), self.registrar, random.choice, time.time()
        )
        reply = self.run(operation)
        return decode_deep(reply, encoder.decode) if encoder.decode_responses else reply

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__}({self.connection_pool!r})>"


def namespaced_pool(pool: Any) -> Any:
    """Return `pool`, if it is namespaced, or its like for one that a library built from our parts.

    RQ's scheduler, for one, makes a stock pool in its own process, of our pool's connection class and
    arguments.
    """
    if isinstance(pool, (NamespacedConnectionPool, PoolView)):
        return pool
    connection_class = getattr(pool, "connection_class", None)
    if not isinstance(connection_class, type) or not issubclass(connection_class, NamespacedMixin):
        return None
    bound = min(pool.max_connections, MAX_CONNECTIONS)
    return NamespacedConnectionPool(connection_class, bound, **pool.connection_kwargs)


def without_reserved(reply: Any) -> Any:
    """Return the reply of KEYS or SCAN without the names that tenantkv keeps for itself."""
    if isinstance(reply, tuple):
        return reply[0], without_reserved(reply[1])
    if not isinstance(reply, list):
        return reply
    reserved = RESERVED.decode()
    return [name for name in reply if not name.startswith(RESERVED if type(name) is bytes else reserved)]


def is_missing(error: ResponseError) -> bool:
    """Whether a reply says that the server does not offer the command, to anybody or to this user."""
    if isinstance(error, NoPermissionError):
        return True
    return not isinstance(error, RefusedError) and "unknown command" in str(error).lower()


def emulated_words(args: tuple[Any, ...], encoder: Any) -> list[bytes]:
    """Return a command as words, checked as the connection would have checked them."""
    words = packer_of(encoder).words(args)
    if words[0].upper() in (b"KEYS", b"SCAN"):
        try:
            find_rule(words)
        except RefusedError as error:
            raise as_response(error) from None
    return words


def sampler(size: int) -> Any:
    """Return a function that draws at most `size` names, without putting any back."""
    return lambda names: names if len(names) <= size else random.sample(names, size)
