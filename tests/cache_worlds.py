"""One test for both worlds: an `AsyncCache` that is called like a `Cache`."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Callable
from typing import Any

import tenantkv
from tenantkv import Keyring, Namespace
from tenantkv.cache import AsyncCache, Cache, Near


class Blocking:
    """Calls an object's coroutine functions and waits for them, on a loop of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target: Any) -> None:
        self._loop = loop
        self.target = target

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.target, name)
        if not inspect.iscoroutinefunction(found):
            return found
        return lambda *args, **kwargs: self._loop.run_until_complete(found(*args, **kwargs))


class World:
    """Makes caches of one tenant on one server, all sync or all asyncio.

    Attributes:
        namespace: the tenant's.
        raw: a plain client on wire names, which knows all that there is to know: a hostile neighbour's.
    """

    def __init__(self, url: str, raw: Any, *, is_async: bool, **options: Any) -> None:
        self.namespace = Namespace(Keyring.generate(os.urandom(96)))
        self.url, self.raw, self.is_async, self.options = url, raw, is_async, options
        self.kv = tenantkv.connect(url, namespace=self.namespace, **options)
        self.loop = asyncio.new_event_loop() if is_async else None
        self._closing: list[Callable[[], object]] = [self.kv.close]

    def cache(self, name: str = "pages", **settings: Any) -> Any:
        """Return another cache of that name; like those of other processes, it shares nothing."""
        settings.setdefault("jitter", 0.0)
        if self.raw is not None:
            # A machine that stands still for half a second is no outage; those have tests of their own.
            settings.setdefault("timeout", 5.0)
        if self.loop is None:
            cache = Cache(self.kv, name, **settings)
            self._closing.insert(0, cache.close)
            return cache
        client = tenantkv.asyncio.connect(self.url, namespace=self.namespace, **self.options)
        acache = AsyncCache(client, name, **settings)
        blocking = Blocking(self.loop, acache)
        self._closing.insert(0, Blocking(self.loop, client).aclose)
        self._closing.insert(0, blocking.aclose)
        return blocking

    def wire(self, own: str) -> bytes:
        """Return the wire name of a key of the cache ``pages``."""
        return self.namespace.wire_name(b"tkv:cache:{pages}" + own.encode())

    def close(self) -> None:
        for close in self._closing:
            close()
        if self.loop is not None:
            self.loop.close()


def pause(world: World) -> None:
    """Let other threads or tasks work."""
    if world.loop is not None:
        world.loop.run_until_complete(asyncio.sleep(0.005))
    else:
        time.sleep(0.005)


def until(world: World, condition: Callable[[], bool]) -> None:
    """Wait for another thread or task; the test's time-out is the limit."""
    while not condition():
        pause(world)


def near_cache(world: World, mode: str, **settings: Any) -> Any:
    """Return a cache whose near cache is at work in that mode."""
    cache = world.cache(near=Near(staleness=60), **settings)
    if world.is_async:
        cache.start()
    until(world, lambda: cache.near_mode == mode)
    return cache


def warm(world: World, cache: Any, key: str) -> None:
    """Read until the entry is near: what comes in between cancels that, and rightly."""

    def is_near() -> bool:
        before = cache.stats.near_hits
        cache.get(key)
        return cache.stats.near_hits > before

    until(world, is_near)


def changes(world: World, cache: Any, other: Any) -> None:
    """Whatever another process does is seen."""
    for change, expected in (
        (lambda: other.set("k", "b"), "b"),
        (lambda: other.incr("n", initial=1), "b"),
        (lambda: other.delete("k"), None),
        (lambda: other.add("k", "c"), "c"),
        (lambda: other.invalidate_tag("t"), "c"),
        (lambda: other.set("k", "d", tags=["t"]), "d"),
        (lambda: other.invalidate_tag("t"), None),
        (lambda: other.set("k", "e"), "e"),
        (other.clear, None),
        (lambda: other.get_or_compute("k", lambda: "f"), "f"),
    ):
        cache.get("k")
        pause(world)
        cache.get("k")
        change()
        until(world, lambda expected=expected: cache.get("k") == expected)
