"""A cache's way to the server, asyncio: the twin of `wire.py`.

An asyncio time-out ends whatever a call waits for, so the client's own connections serve.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

from redis.exceptions import TimeoutError as RedisTimeoutError

from tenantkv.cache.owed import Owed
from tenantkv.cache.wire import OUTAGE, away, breaker_of, note_failure
from tenantkv.ops.effects import Command, Operation
from tenantkv.transport.async_pool import AsyncNamespacedConnectionPool, AsyncPoolView
from tenantkv.transport.drivers import adrive, aexchange, arun
from tenantkv.transport.lateness import Patience

Result = TypeVar("Result")


class AsyncWire:
    """Runs operations of one cache, or raises at once while the server is away.

    Args:
        client: the tenant's.
        timeout: seconds for each round trip; ``None`` leaves it to the client's own patience.
        owed: invalidations that the server has not heard of.
    """

    def __init__(self, client: Any, timeout: float | None, owed: Owed) -> None:
        self.breaker = breaker_of(client)
        self._client = client
        self._owed = owed
        self._timeout = timeout
        pool = getattr(client, "connection_pool", None)
        is_ours = isinstance(pool, (AsyncNamespacedConnectionPool, AsyncPoolView))
        self._pool: Any = pool if is_ours else None

    async def read(self, words: Sequence[Any]) -> Any:
        """Return the raw reply to a command that only reads: one round trip, the short way."""
        pool = self._pool
        if pool is None or self._owed.is_due or self.breaker.is_open:
            return await self.run(_one(words))
        try:
            with Patience(self._timeout):
                connection = await pool.get_connection()
                try:
                    await connection.send_command(*words)
                    return await connection.read_response(disable_decoding=True)
                except OUTAGE:
                    await connection.disconnect(nowait=True)
                finally:
                    await pool.release(connection)
                # The server may only have closed a connection that was idle.
                return await arun(pool, _one(words))
        except asyncio.TimeoutError:
            self.breaker.fail()
            raise RedisTimeoutError("the server did not answer in time") from None
        except OUTAGE as error:
            note_failure(self.breaker, error)
            raise

    @property
    def is_clear(self) -> bool:
        """See `Wire.is_clear`."""
        return not (self._owed.is_due or self.breaker.is_open or self._pool is None)

    async def write(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """See `Wire.write`."""
        try:
            return await self._swap(commands)
        except OUTAGE as error:
            note_failure(self.breaker, error)
            raise

    async def run(self, operation: Operation[Result]) -> Result:
        """Drive an operation; see `Wire.run`."""
        breaker = self.breaker
        if breaker.blocks():
            operation.close()
            raise away(breaker)
        try:
            if self._owed.is_due:
                await self._owed.asettle(self._drive)
            result = await self._drive(operation)
        except OUTAGE as error:
            note_failure(breaker, error)
            raise
        if breaker.is_open:
            breaker.close()
        return result

    async def _drive(self, operation: Operation[Result]) -> Result:
        if self._pool is None:
            found: Result = await self._client.run(operation)
            return found
        return await adrive(self._swap, operation)

    async def _swap(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return the raw replies of one round trip, within the time-out."""
        try:
            with Patience(self._timeout):
                return await aexchange(self._pool, commands)
        except asyncio.TimeoutError:
            raise RedisTimeoutError("the server did not answer in time") from None


def _one(words: Sequence[Any]) -> Operation[Any]:
    return (yield Command(words))
