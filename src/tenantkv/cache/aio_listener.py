"""The task that keeps a near cache true; the twin of `listener.py`."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from tenantkv.cache.listener import (
    _PAUSES,
    FAILURES,
    PUSHED,
    SHARE,
    block_ms,
    connection_arguments,
    invalidated,
)
from tenantkv.cache.near import NearStore
from tenantkv.ops import cache_news
from tenantkv.ops.cache import Shelf
from tenantkv.ops.effects import Operation
from tenantkv.transport.drivers import adrive, aexchange_on


class AsyncListener:
    """Hears of changes, and tells a near cache.

    Attributes:
        loop: the event loop that it runs in.
        task: the task that listens.
    """

    def __init__(self, client: Any, near: NearStore, shelf: Shelf, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._found = connection_arguments(client)
        self._near = near
        self._shelf = shelf
        self.loop = loop
        self.task = loop.create_task(self._work(), name="tenantkv-near")

    async def _work(self) -> None:
        failures = 0
        while True:
            begun = time.monotonic()
            try:
                await self._listen()
            except (*FAILURES, asyncio.TimeoutError):
                pass
            finally:
                self._near.end_trust()
            failures = 0 if time.monotonic() - begun > 10 else min(failures + 1, len(_PAUSES) - 1)
            await asyncio.sleep(_PAUSES[failures])

    async def _listen(self) -> None:
        if self._found is None:
            await self._follow(self._client.run, block_ms(self._near, self._client))
        elif not await self._track():
            connection = self._make()
            try:
                await connection.connect()
                run = partial(adrive, partial(aexchange_on, connection))
                await self._follow(run, block_ms(self._near))
            finally:
                await connection.disconnect(nowait=True)

    def _make(self, **more: Any) -> Any:
        assert self._found is not None
        kind, arguments = self._found
        return kind(**{**arguments, "retry": Retry(NoBackoff(), 0), **more})

    async def _track(self) -> bool:
        """Have the server tell of changes until the connection is lost; ``False`` if it does not do that."""
        # Reading waits for as long as nothing changes; the pings say whether somebody is there.
        connection = self._make(protocol=3, socket_timeout=None)
        pinger: asyncio.Task[None] | None = None
        try:
            await connection.connect()
            set_handler = getattr(connection._parser, "set_invalidation_push_handler", None)
            if set_handler is None:
                return False

            async def handle(message: Any) -> object:
                return invalidated(self._near, message)

            set_handler(handle)
            try:
                await connection.send_command(
                    "CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", self._shelf.names.base
                )
                await connection.read_response(timeout=5.0)
            except ResponseError:
                return False
            self._near.begin_trust("server")
            sent: deque[float] = deque()
            pinger = self.loop.create_task(self._ping(connection, sent))
            while True:
                if await connection.read_response(push_request=True) is not PUSHED and sent:
                    # An answer: everything that changed before the server saw the ping came ahead of it.
                    self._near.prolong(sent.popleft())
        finally:
            if pinger is not None:
                pinger.cancel()
            await connection.disconnect(nowait=True)

    async def _ping(self, connection: Any, sent: deque[float]) -> None:
        while True:
            if len(sent) > SHARE:
                # Nobody answers: end the reading too.
                await connection.disconnect(nowait=True)
                return
            sent.append(time.monotonic())
            try:
                await connection.send_command("PING", check_health=False)
            except (RedisError, OSError):
                return
            await asyncio.sleep(self._near.settings.staleness / SHARE)

    async def _follow(self, run: Callable[[Operation[Any]], Awaitable[Any]], block_ms: int) -> None:
        """Follow the cache's stream until the connection is lost."""
        news, near = self._shelf.names.news, self._near
        self._shelf.announces = True
        last = await run(cache_news.anchor(news))
        near.begin_trust("stream")
        while True:
            sent = time.monotonic()
            last, names = await run(cache_news.follow(news, last, block_ms))
            near.drop_all(names)
            near.prolong(sent)
