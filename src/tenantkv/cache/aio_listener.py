"""The task that keeps a near cache true, on a connection of its own; the twin of `listener.py`."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from functools import partial
from typing import Any

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from tenantkv.cache.listener import _LONGEST_BLOCK, _PAUSES, PUSHED, SHARE, connection_arguments, invalidated
from tenantkv.cache.near import NearStore
from tenantkv.ops import cache_news
from tenantkv.ops.cache import Shelf
from tenantkv.transport.drivers import adrive, aexchange_on


class AsyncListener:
    """Hears of changes, and tells a near cache.

    Attributes:
        loop: the event loop that it runs in.
        task: the task that listens.
    """

    def __init__(self, client: Any, near: NearStore, shelf: Shelf, loop: asyncio.AbstractEventLoop) -> None:
        self._class, arguments = connection_arguments(client)
        self._arguments = {**arguments, "retry": Retry(NoBackoff(), 0)}
        self._near = near
        self._shelf = shelf
        self.loop = loop
        self.task = loop.create_task(self._work(), name="tenantkv-near")

    async def _work(self) -> None:
        failures = 0
        while True:
            begun = time.monotonic()
            try:
                if not await self._track():
                    await self._follow()
            except (RedisError, OSError, asyncio.TimeoutError):
                pass
            finally:
                self._near.end_trust()
            failures = 0 if time.monotonic() - begun > 10 else min(failures + 1, len(_PAUSES) - 1)
            await asyncio.sleep(_PAUSES[failures])

    async def _track(self) -> bool:
        """Have the server tell of changes until the connection is lost; ``False`` if it does not do that."""
        # Reading waits for as long as nothing changes; the pings say whether somebody is there.
        connection = self._class(**{**self._arguments, "protocol": 3, "socket_timeout": None})
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

    async def _follow(self) -> None:
        """Follow the cache's stream until the connection is lost."""
        connection = self._class(**self._arguments)
        try:
            await connection.connect()
            swap = partial(aexchange_on, connection)
            news, near = self._shelf.names.news, self._near
            block_ms = int(min(near.settings.staleness / SHARE, _LONGEST_BLOCK) * 1000) or 1
            self._shelf.announces = True
            last = await adrive(swap, cache_news.anchor(news))
            near.begin_trust("stream")
            while True:
                sent = time.monotonic()
                last, names = await adrive(swap, cache_news.follow(news, last, block_ms))
                near.drop_all(names)
                near.prolong(sent)
        finally:
            await connection.disconnect(nowait=True)
