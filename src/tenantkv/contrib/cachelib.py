"""cachelib's cache on a shared server: `TenantCache`, also for Flask-Session and whatever takes a cachelib.

It is `tenantkv.cache.Cache` under cachelib's method names. Values are pickled as cachelib's own are, but
only inside a signature or seal; `clear` is one small write and touches no other cache.
"""

from __future__ import annotations

import datetime
import pickle
from collections.abc import Callable
from typing import Any

from cachelib.base import BaseCache

import tenantkv
from tenantkv.cache import FOREVER, Cache, CacheSettings
from tenantkv.contrib.entries import Logged
from tenantkv.errors import CodecError, ConfigurationError, PlaintextRefusedError, RefusedError

__all__ = ["TenantCache", "UnpicklableError"]

Timeout = int | float | datetime.timedelta | None


class UnpicklableError(CodecError, pickle.PicklingError):
    """A value that cannot be brought back as it is; also what cachelib's backends raise."""


class TenantCache(BaseCache):
    """A cachelib cache that shares its server with strangers. Threads may share it.

    Args:
        client: a :class:`tenantkv.TenantRedis`; otherwise one is connected.
        name: the cache's; caches of one name share their entries.
        default_timeout: seconds; 0 is for ever, as far as `allow_forever` goes.
        ignore_delete_many_errors: taken as cachelib's backends do; ``on_outage="raise"`` is what raises.
        url: as for `tenantkv.connect`, where there is no `client`.
        allow_forever: whether 0 as a time-out is for ever, and not ``longest_ttl`` (30 days).
        on_event: see `tenantkv.cache.Cache`, as for all the `settings`: ``seal``, ``near``, ``codec`` ...

    Raises:
        ConfigurationError: an argument has no meaning.

    Example:
        >>> import tenantkv
        >>> cache = TenantCache(tenantkv.connect("memory://", namespace=getfixture("namespace")))
        >>> cache.set("front", {"hits": (1, 2)}, timeout=60), cache.get("front")
        (True, {'hits': (1, 2)})
    """

    def __init__(
        self,
        client: Any = None,
        name: str = "cachelib",
        default_timeout: Timeout = 300,
        ignore_delete_many_errors: bool = True,
        *,
        url: str | None = None,
        allow_forever: bool = False,
        on_event: Callable[[str, int], None] | None = None,
        **settings: Any,
    ) -> None:
        if client is not None and url is not None:
            raise ConfigurationError("give either a client or a url, not both")
        if client is not None and not hasattr(client, "namespace"):
            raise ConfigurationError("the client is tenantkv.connect()'s; another one has no namespace")
        if "ttl" in settings:
            raise ConfigurationError("the cache's TTL is default_timeout here")
        super().__init__(300)
        self.default_timeout = self._checked(default_timeout)  # type: ignore[assignment]
        self.ignore_delete_many_errors = ignore_delete_many_errors
        longest = settings.get("longest_ttl", CacheSettings().longest_ttl)
        self._longest: float = FOREVER if allow_forever else longest
        usual: dict[str, Any] = {"codec": "pickle", "jitter": 0.0, "ttl": min(300.0, longest)}
        #: The cache below.
        self.cache = Cache(
            tenantkv.connect(url) if client is None else client,
            name,
            on_event=Logged(name, on_event),
            **{**usual, **settings},
        )

    # Reading

    def get(self, key: str) -> Any:
        """Return a value, or ``None``. One round trip."""
        return self.cache.get(key)

    def get_many(self, *keys: str) -> list[Any]:
        """Return values, ``None`` for each that is not there. One round trip for up to 500."""
        found = self.cache.get_many(keys)
        return [found.get(key) for key in keys]

    def has(self, key: str) -> bool:
        """Say whether there is a value. One round trip, which reads it."""
        return key in self.cache

    # Writing

    def set(self, key: str, value: Any, timeout: Timeout = None) -> bool:
        """Store a value, and return whether it was. One round trip.

        Raises:
            UnpicklableError: it cannot be pickled.
            PlaintextRefusedError: it looks like a secret, and the cache does not seal.
        """
        return self.set_many({key: value}, timeout) == [key]

    def set_many(self, mapping: dict[str, Any], timeout: Timeout = None) -> list[Any]:
        """Store values, and return the keys of those that were. One round trip for up to 500.

        What is too large is not stored, and what was there before is deleted.
        """
        ttl = self._ttl(timeout)
        if ttl is None:
            self.cache.delete_many(mapping)
            return list(mapping)
        try:
            failed = self.cache.set_many(mapping, ttl)
        except PlaintextRefusedError:
            raise
        except RefusedError:
            if len(mapping) > 1:
                return [key for key, value in mapping.items() if self.set(key, value, timeout)]
            failed = list(mapping)
            self.cache.delete_many(failed)
        except CodecError as error:
            raise UnpicklableError(str(error)) from None
        return [key for key in mapping if key not in failed]

    def add(self, key: str, value: Any, timeout: Timeout = None) -> bool:
        """Store a value if there is none, and return whether it was. Atomic, up to two round trips."""
        ttl = self._ttl(timeout)
        try:
            return ttl is not None and self.cache.add(key, value, ttl)
        except PlaintextRefusedError:
            raise
        except RefusedError:
            return False
        except CodecError as error:
            raise UnpicklableError(str(error)) from None

    def delete(self, key: str) -> bool:
        """Delete a value, and return whether there was one. One round trip."""
        return self.cache.delete(key)

    def delete_many(self, *keys: str) -> list[Any]:
        """Delete values, and return the keys that are gone: all, or none. One round trip for up to 500.

        What a server that is away does not hear is the first thing that it hears when it is back.
        """
        self.cache.delete_many(keys)
        return [] if self.cache.is_away else list(keys)

    def unlink(self, *keys: str) -> int:
        """Delete values, and return how many there were; what Flask-Caching's Redis backend has."""
        return self.cache.delete_many(keys)

    def clear(self) -> bool:
        """End all entries of this cache, for everybody at once. One small write, whatever there is."""
        return self.cache.clear()

    def inc(self, key: str, delta: int = 1) -> int | None:
        """Add to a whole number, which begins with `delta`. Atomic; its TTL stays. Up to two round trips.

        Raises:
            TypeError: what is there is no whole number.
        """
        ttl = self._ttl(None)
        return self.cache.incr(key, delta, initial=delta, ttl=ttl)

    def dec(self, key: str, delta: int = 1) -> int | None:
        """Take from a whole number; otherwise as `inc`."""
        return self.inc(key, -delta)

    # Time-outs

    def _ttl(self, timeout: Timeout) -> float | None:
        """Return the TTL in seconds, or ``None`` for one that is over."""
        seconds = self.default_timeout if timeout is None else self._checked(timeout)
        if seconds in (0, -1):
            # cachelib's Redis backend has -1 for "for ever" too.
            return self._longest
        return seconds if seconds > 0 else None

    @staticmethod
    def _checked(timeout: Timeout) -> float:
        if isinstance(timeout, datetime.timedelta):
            return timeout.total_seconds()
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
            raise TypeError(
                f"a time-out is a number of seconds or a timedelta, not a {type(timeout).__name__}"
            )
        return timeout

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.cache!r}>"
