"""The backend for fastapi-cache2: ``FastAPICache.init(TenantBackend(), prefix="shop")``."""

from __future__ import annotations

from typing import Any

from fastapi_cache.types import Backend

from tenantkv.cache import MISS, AsyncCache
from tenantkv.contrib.entries import Logged, timed, whole_seconds
from tenantkv.contrib.loop_clients import LoopCaches
from tenantkv.errors import ConfigurationError, PlaintextRefusedError, RefusedError

__all__ = ["TenantBackend"]

# fastapi-cache2 has two parts in front of a key, and a key builder of one's own may have more.
_MOST_PARTS = 8


class TenantBackend(Backend):
    """fastapi-cache2's cache on a shared server. Tasks may share it, and event loops.

    Values are authenticated before any coder sees them, so that its ``PickleCoder`` is safe to use.
    Clearing a namespace is one small write. Outages are misses.

    Args:
        client: a :class:`tenantkv.AsyncTenantRedis` for programs with one event loop; otherwise each loop
            gets one of its own.
        name: the cache's.
        url: as for `tenantkv.connect`.
        connect: other arguments of `tenantkv.connect`.
        settings: of `tenantkv.cache.AsyncCache`: ``seal``, ``hide_names``, ``near``, ``largest_bytes`` ...

    Raises:
        ConfigurationError: an argument has no meaning.
        KeyringError: there is no keyring, or it cannot be trusted.
    """

    def __init__(
        self,
        client: Any = None,
        name: str = "fastapi",
        *,
        url: str | None = None,
        connect: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        if client is not None and (url is not None or connect):
            raise ConfigurationError("give either a client or how to connect, not both")
        if "codec" in settings:
            raise ConfigurationError("FastAPICache.init(coder=...) says how values become bytes")
        log = Logged(name, settings.pop("on_event", None))
        usual: dict[str, Any] = {"codec": "bytes", "jitter": 0.0, "on_event": log}
        self._caches = LoopCaches(name, {**usual, **settings}, client=client, url=url, **(connect or {}))

    @property
    def cache(self) -> AsyncCache:
        """The running loop's cache below."""
        return self._caches.here()

    async def get_with_ttl(self, key: str) -> tuple[int, bytes | None]:
        """Return the seconds for which a value will be served, and the value. One round trip."""
        cache = self.cache
        found = await cache._do(timed(cache._core, key, _namespaces(key)))
        return (0, None) if found.value is MISS else (whole_seconds(found.ttl), found.value)

    async def get(self, key: str) -> bytes | None:
        """Return a value, or ``None``. One round trip."""
        return (await self.get_with_ttl(key))[1]

    async def set(self, key: str, value: bytes, expire: int | None = None) -> None:
        """Store a value, for the TTL ceiling (30 days) if `expire` says nothing. One round trip.

        What is too large is not stored.

        Raises:
            PlaintextRefusedError: it looks like a secret, and the cache does not seal.
        """
        cache = self.cache
        ttl = cache._core.settings.longest_ttl if expire is None else expire
        try:
            if ttl > 0:
                await cache.set(key, value, ttl, tags=_namespaces(key))
                return
        except PlaintextRefusedError:
            raise
        except RefusedError:
            pass
        await cache.delete(key)

    async def clear(self, namespace: str | None = None, key: str | None = None) -> int:
        """Delete one key, or end everything in a namespace: keys that begin with it and ``:``.

        One round trip each. Returns 1 if there was such a key, or the server has heard of it.
        """
        if key:
            return int(await self.cache.delete(key))
        return int(await self.cache.invalidate_tag(namespace)) if namespace else 0


def _namespaces(key: str) -> list[str]:
    """Return which namespaces a key belongs to: what stands in front of each of its colons."""
    parts = key.split(":", _MOST_PARTS)
    found = [":".join(parts[:end]) for end in range(1, len(parts))]
    return [namespace for namespace in found if namespace]
