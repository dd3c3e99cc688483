"""`AsyncCache`: the twin of `Cache` for asyncio."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

from typing_extensions import Unpack

from tenantkv.cache.aio_wire import AsyncWire
from tenantkv.cache.changes import addition, renewal, sum_of
from tenantkv.cache.computing import Recipe, resolve
from tenantkv.cache.core import LOOK, Found
from tenantkv.cache.driving import Steps, adrive
from tenantkv.cache.glance import glance
from tenantkv.cache.memo import amemoize
from tenantkv.cache.parcel import parcel
from tenantkv.cache.sentinels import MISS
from tenantkv.cache.settings import CacheOptions, Near
from tenantkv.cache.shared import SharedCache
from tenantkv.cache.steps import (
    IncrOptions,
    Key,
    SetOptions,
    Version,
    delete_many,
    get_many,
    incr_version,
    invalidate,
    set_many,
    ttl,
)
from tenantkv.cache.swap import aswap
from tenantkv.cache.values import CodecName
from tenantkv.cache.wire import MGET, OUTAGE
from tenantkv.ops import cache as ops
from tenantkv.ops.cache_entry import Entry
from tenantkv.transport.endings import end

Result = TypeVar("Result")
Function = TypeVar("Function", bound=Callable[..., Any])

# Tasks that compute in the background at a time, for one cache.
_BACKGROUND_TASKS = 64


class AsyncCache(SharedCache):
    """A cache on a server that evicts, restarts and has other tenants; the twin of `Cache` for asyncio.

    The arguments are those of `Cache`, with a :class:`tenantkv.AsyncTenantRedis`; ``timeout`` bounds each
    round trip, on the client's own connections.
    """

    def __init__(
        self,
        client: Any,
        name: str,
        *,
        near: bool | Near = False,
        seal: bool | None = None,
        hide_names: bool | None = None,
        on_event: Callable[[str, int], None] | None = None,
        **settings: Unpack[CacheOptions],
    ) -> None:
        super().__init__(client, name, near, seal, hide_names, on_event, dict(settings), in_tasks=True)
        self._client = client
        self._wire = AsyncWire(client, self._core.settings.timeout, self._core.owed)
        self._tasks: set[asyncio.Task[None]] = set()

    # Reading

    async def get(self, key: Key, default: Any = None, *, version: Version = None) -> Any:
        """See `Cache.get`."""
        core = self._core
        name = core.entry_name(key, version)
        near = core.near
        token = None
        if near is not None:
            if self._listener is None:
                self._listen()
            value = near.get(name)
            if value is not MISS:
                core.stats.near_hits += 1
                return value
            token = near.begin(name)
        try:
            value = await self._find(name, (), token, 0)
        except OUTAGE as error:
            core.outage(error)
            value = core.kept(name)
        else:
            if type(value) is Entry:
                value = core.taken(name, value, token)
        return default if value is MISS else value

    async def _find(self, name: bytes, tags: Sequence[bytes], token: object, early: float | None) -> Any:
        """Return the value of the usual hit or `MISS`; an `Entry` where more has to be looked at."""
        core = self._core
        shelf = core.shelf
        started = perf_counter()
        asked = shelf.tags_of((name,), tags) if tags or name in shelf.hints else ()
        stamp_names = shelf.stamp_names(asked) if asked else (shelf.names.stamp,)
        blobs = await self._wire.read((MGET, *stamp_names, name))
        value = core.quick(name, blobs, early) if token is None and not asked else LOOK
        if value is LOOK:
            entry = core.look(name, asked, stamp_names, blobs)
            if entry is LOOK:
                (entry,) = await self._wire.run(ops.conclude(shelf, [name], asked, blobs, core.clock()))
            core.note_tampered()
            value = core.missed() if entry is None else entry
        core.stats.took(perf_counter() - started)
        return value

    async def get_many(
        self, keys: Iterable[Key], *, version: Version = None, tags: Sequence[Key] = ()
    ) -> dict[Any, Any]:
        """See `Cache.get_many`."""
        keys, core = list(keys), self._core
        look = None if tags else glance(core, keys, version)
        if look is None:
            return await self._do(get_many(core, keys, version, tags))
        try:
            look.take(await self._wire.read((MGET, *look.names)))
            if look.left:
                look.take_left(await self._wire.run(look.look()))
        except OUTAGE as error:
            core.outage(error)
            return {}
        return look.found

    async def ttl(self, key: Key, *, version: Version = None) -> float | None:
        """See `Cache.ttl`."""
        return await self._do(ttl(self._core, key, version))

    # Writing

    async def set(
        self, key: Key, value: Any, ttl: float | None = None, **options: Unpack[SetOptions]
    ) -> bool:
        """See `Cache.set`."""
        failed = await self.set_many({key: value}, ttl, **options)
        return not failed

    async def set_many(
        self, items: Mapping[Any, Any], ttl: float | None = None, **options: Unpack[SetOptions]
    ) -> list[Any]:
        """See `Cache.set_many`."""
        lot = parcel(self._core, items, ttl) if not options and self._wire.is_clear else None
        if lot is not None:
            try:
                if lot.is_taken(await self._wire.write(lot.commands)):
                    return []
            except OUTAGE as error:
                lot.lose(error)
                return list(items)
        return await self._do(set_many(self._core, items, ttl, **options))

    async def add(
        self, key: Key, value: Any, ttl: float | None = None, **options: Unpack[SetOptions]
    ) -> bool:
        """See `Cache.add`."""
        return await aswap(self._core, self._wire, addition(self._core, key, value, ttl, **options))

    async def delete(self, key: Key, *, version: Version = None) -> bool:
        """See `Cache.delete`."""
        return bool(await self._do(delete_many(self._core, [key], version)))

    async def delete_many(self, keys: Iterable[Key], *, version: Version = None) -> int:
        """See `Cache.delete_many`."""
        return await self._do(delete_many(self._core, list(keys), version))

    async def touch(self, key: Key, ttl: float | None = None, *, version: Version = None) -> bool:
        """See `Cache.touch`."""
        return await aswap(self._core, self._wire, renewal(self._core, key, ttl, version))

    async def incr(self, key: Key, by: int = 1, **options: Unpack[IncrOptions]) -> int | None:
        """See `Cache.incr`."""
        sums: list[int] = []
        change = sum_of(self._core, sums, key, by, **options)
        return sums[-1] if await aswap(self._core, self._wire, change) else None

    async def decr(self, key: Key, by: int = 1, **options: Unpack[IncrOptions]) -> int | None:
        """See `Cache.decr`."""
        return await self.incr(key, -by, **options)

    async def incr_version(self, key: Key, by: int = 1, *, version: Version = None) -> int | None:
        """See `Cache.incr_version`."""
        return await self._do(incr_version(self._core, key, by, version))

    # Invalidation

    async def clear(self) -> bool:
        """See `Cache.clear`."""
        return await self._do(invalidate(self._core, None))

    async def invalidate_tag(self, *tags: Key) -> bool:
        """See `Cache.invalidate_tag`."""
        return await self._do(invalidate(self._core, tags))

    # Computing

    async def get_or_compute(
        self,
        key: Key,
        compute: Callable[[], Awaitable[Result] | Result],
        *,
        ttl: float | None = None,
        stale: float | None = None,
        negative: float | None = None,
        early: float | None = None,
        tags: Sequence[Key] = (),
        version: Version = None,
        codec: CodecName | None = None,
        background: bool | None = None,
        plaintext_ok: str | None = None,
    ) -> Result:
        """See `Cache.get_or_compute`."""
        core = self._core
        name = core.entry_name(key, version)
        near = core.near
        token = None
        if near is not None:
            if self._listener is None:
                self._listen()
            value = near.get(name)
            if value is not MISS:
                core.stats.near_hits += 1
                return value  # type: ignore[no-any-return]
            token = near.begin(name)
        wanted = core.tags(tags)
        held = None
        try:
            value = await self._find(name, wanted, token, early)
        except OUTAGE:
            # Asked again with the lease, and answered there.
            value = MISS
        if type(value) is Entry:
            held, is_answer = core.weigh(name, value, token, early)
            if is_answer and held is not None:
                return held.value  # type: ignore[no-any-return]
        elif value is not MISS:
            return value  # type: ignore[no-any-return]
        recipe = Recipe(key, name, ttl, stale, negative, wanted, codec, plaintext_ok)
        if held is not None and (core.settings.background if background is None else background):
            self._spawn(recipe, held, compute)
            return held.value  # type: ignore[no-any-return]
        return await adrive(resolve(core, recipe, held), self._wire.run, partial(_call, compute))

    def _spawn(self, recipe: Recipe, held: Found, compute: Callable[[], Any]) -> None:
        """Compute in a task, unless somebody does already, or too many do."""
        if self._core.flights.is_under_way(recipe.name) or len(self._tasks) >= _BACKGROUND_TASKS:
            return

        async def work() -> None:
            try:
                await adrive(resolve(self._core, recipe, held), self._wire.run, partial(_call, compute))
            except Exception:
                self._core.stats.count("failed_refreshes")

        task = asyncio.get_running_loop().create_task(work(), name="tenantkv-cache")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cached(
        self,
        *,
        key: str | Callable[..., Key] | None = None,
        tags: Sequence[str] | Callable[..., Sequence[Key]] = (),
        **options: Any,
    ) -> Callable[[Function], Function]:
        """Return a decorator that caches a coroutine's results, or a function's; see `Cache.cached`.

        What it makes of a function is a coroutine function. ``invalidate`` and ``refresh`` are awaited.
        """

        return partial(amemoize, self, key=key, tags=tags, options=options)

    # The rest

    async def _do(self, steps: Steps[Result]) -> Result:
        return await adrive(steps, self._wire.run)

    async def start(self) -> None:
        """Start the near cache's listener, if there is one to start; the first read does it too."""
        if self._core.near is not None:
            self._listen()

    def _listen(self) -> None:
        from tenantkv.cache.aio_listener import AsyncListener

        assert self._core.near is not None
        loop = asyncio.get_running_loop()
        if self._listener is None or self._listener.loop is not loop:
            self._listener = AsyncListener(self._client, self._core.near, self._core.shelf, loop)

    async def aclose(self) -> None:
        """Stop the near cache's listener and what is computed in the background."""
        tasks = [*self._tasks]
        if self._listener is not None:
            tasks.append(self._listener.task)
            self._listener = None
        await end(*tasks)

    async def __aenter__(self) -> AsyncCache:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def _call(compute: Callable[[], Any]) -> Any:
    result = compute()
    return await result if inspect.isawaitable(result) else result
