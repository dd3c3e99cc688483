"""The asyncio client: a ``redis.asyncio.Redis`` that stays inside the tenant's namespace."""

from __future__ import annotations

import random
import time
from typing import Any, TypeVar

from redis import asyncio as aredis
from redis.exceptions import ResponseError

from tenantkv.errors import ConfigurationError, MalformedCommandError, RefusedError
from tenantkv.namespace import Namespace
from tenantkv.ops import own_keys
from tenantkv.ops.effects import Operation
from tenantkv.ops.own_keys import Usage
from tenantkv.ops.registry import Registrar
from tenantkv.transport.async_connection import AsyncNamespacedMixin
from tenantkv.transport.async_pool import AsyncNamespacedConnectionPool, AsyncPoolView
from tenantkv.transport.client import (
    EMULATED,
    ONLY_EMULATED,
    REPEATABLE,
    emulated_words,
    is_missing,
    sampler,
    without_reserved,
)
from tenantkv.transport.decoding import decode_deep
from tenantkv.transport.drivers import arun
from tenantkv.transport.pipeline import AsyncTenantPipeline
from tenantkv.transport.primitives import AsyncPrimitives
from tenantkv.transport.redis_py import LEAN
from tenantkv.transport.refusals import as_response
from tenantkv.transport.speaking import SpeakingClient

Result = TypeVar("Result")


class AsyncTenantRedis(AsyncPrimitives, SpeakingClient, aredis.Redis):  # type: ignore[misc]
    """A drop-in ``redis.asyncio.Redis`` for one namespace; the twin of `TenantRedis`.

    Make it with :func:`tenantkv.asyncio.connect`.

    Args:
        connection_pool: a :class:`tenantkv.AsyncNamespacedConnectionPool`, or a view of one.
        kwargs: as for ``redis.asyncio.Redis``.
    """

    connection_pool: AsyncNamespacedConnectionPool | AsyncPoolView

    def __init__(self, *, connection_pool: Any = None, **kwargs: Any) -> None:
        if not isinstance(connection_pool, (AsyncNamespacedConnectionPool, AsyncPoolView)):
            raise ConfigurationError(
                "AsyncTenantRedis works on a namespaced connection pool; make it with "
                "tenantkv.asyncio.connect(), or pass "
                "connection_pool=tenantkv.asyncio.connection_pool(...)"
            )
        super().__init__(connection_pool=connection_pool, **kwargs)
        self._is_lean = LEAN and bool(getattr(connection_pool, "_is_lean", False))

    @classmethod
    def from_url(cls, url: str, **kwargs: Any) -> Any:  # type: ignore[override]
        """Return ``tenantkv.asyncio.connect(url, ...)``, for libraries that take a class and a URL."""
        from tenantkv.transport.async_connect import connect

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

    def child(self, name: str) -> AsyncTenantRedis:
        """Return a client for the sub-tenant `name`, on the same connections."""
        return self.for_namespace(self.namespace.child(name))

    def for_namespace(self, namespace: Namespace) -> AsyncTenantRedis:
        """Return a client for another namespace, on the same connections."""
        return type(self)(connection_pool=self.connection_pool.view(namespace))

    async def run(self, operation: Operation[Result]) -> Result:
        """Drive one of tenantkv's operations with this client's connections."""
        try:
            return await arun(self.connection_pool, operation)
        except RefusedError as error:
            raise as_response(error) from None

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> AsyncTenantPipeline:
        """Return a pipeline, as ``redis.asyncio.Redis`` does; its errors never quote values."""
        return AsyncTenantPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)

    async def namespace_usage(self, *, sample: int = 1000) -> Usage:
        """Measure the namespace: keys, bytes, and keys that never expire.

        Args:
            sample: how many keys to measure at the most; the rest is extrapolated.

        Raises:
            ForbiddenCommandError: the server has no SCAN, and the registry is off.
        """
        return await self.run(own_keys.usage(self.registrar, sampler(sample), time.time()))

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command and return a parsed response, as ``redis.asyncio.Redis`` does.

        Raises:
            RefusedError: also a ``redis.exceptions.ResponseError``; nothing was sent.
        """
        if not args:
            raise as_response(MalformedCommandError("the command", "it has no name."))
        name = args[0]
        if type(name) is str and name in EMULATED:
            return await self._look_at_many(name, args, options)
        return await self._execute(name, args, options)

    async def _execute(self, name: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        connection: Any = self.connection
        if isinstance(connection, AsyncNamespacedMixin):  # not a test's double
            await connection.revive()
        if not self._is_lean or self.single_connection_client or self.connection is not None:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        pool = self.connection_pool
        connection = await pool.get_connection()
        try:
            await connection.send_command(*args)
            return await self.parse_response(connection, name, **options)
        except REPEATABLE as error:
            return await self._repeat(connection, error, args, options)
        finally:
            await pool.release(connection)

    async def _repeat(
        self, connection: Any, error: Exception, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        """Go on after a lost connection as the connection's retry policy says."""
        first = [error]

        async def once() -> Any:
            if first:
                raise first.pop()
            await connection.send_command(*args)
            return await self.parse_response(connection, args[0], **options)

        return await connection.retry.call_with_retry(once, lambda *_: connection.disconnect())

    async def _look_at_many(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Answer a command that looks at many keys: by the server where it can, else by ourselves."""
        if not (name.upper() in ONLY_EMULATED or self.hides_names) and not self.connection_pool.lacks_scan:
            try:
                return without_reserved(await self._execute(name, args, options))
            except ResponseError as error:
                if not is_missing(error):
                    raise
                self.connection_pool.lacks_scan = True
        encoder = self.connection_pool.get_encoder()  # type: ignore[no-untyped-call]
        operation = own_keys.emulate(
            emulated_words(args, encoder), self.registrar, random.choice, time.time()
        )
        reply = await self.run(operation)
        return decode_deep(reply, encoder.decode) if encoder.decode_responses else reply

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__}({self.connection_pool!r})>"
