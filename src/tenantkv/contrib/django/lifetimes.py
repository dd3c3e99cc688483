"""How long things live, in django-redis's words: ttl, pttl, expire, pexpire, expire_at, persist."""

from __future__ import annotations

import math
import time
from datetime import datetime, timedelta
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT
from redis.exceptions import RedisError

from tenantkv.contrib.django.structures import Structures

When = datetime | float


class Lifetimes(Structures):
    """The part of `TenantCache` that asks how long something lives, and changes it.

    All are for values first, and for sets, hashes and sorted sets where there is no value: one round trip
    or two, two more for the latter.
    """

    def ttl(self, key: Any, version: int | None = None, client: Any = None) -> int | None:
        """Return whole seconds; 0 for what is not there, ``None`` for what never expires."""
        left = self.pttl(key, version)
        return left if left is None else (left + 500) // 1000

    def pttl(self, key: Any, version: int | None = None, client: Any = None) -> int | None:
        """Return milliseconds; 0 for what is not there, ``None`` for what never expires."""
        try:
            seconds = self._cache(key).ttl(self._key(key, version))
        except RedisError as error:
            return self._missed(error, 0)
        if seconds is None:
            left = int(self._on(key, version, "pttl", answer=-2))
            return None if left == -1 else max(0, left)
        return None if math.isinf(seconds) else int(seconds * 1000)

    def expire(
        self, key: Any, timeout: float | timedelta, version: int | None = None, client: Any = None
    ) -> bool:
        """Have something end in so many seconds; return whether it is there."""
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        return bool(self.touch(key, seconds, version))

    def pexpire(
        self, key: Any, timeout: float | timedelta, version: int | None = None, client: Any = None
    ) -> bool:
        """Have something end in so many milliseconds; return whether it is there."""
        if timeout is DEFAULT_TIMEOUT or isinstance(timeout, timedelta):
            return self.expire(key, timeout, version)
        return self.expire(key, timeout / 1000, version)

    def expire_at(self, key: Any, when: When, version: int | None = None, client: Any = None) -> bool:
        """Have something end at a moment, in Unix seconds; return whether it is there."""
        moment = when.timestamp() if isinstance(when, datetime) else when
        return self.expire(key, moment - time.time(), version)

    def pexpire_at(self, key: Any, when: When, version: int | None = None, client: Any = None) -> bool:
        """Have something end at a moment, in Unix milliseconds; return whether it is there."""
        return self.expire_at(key, when if isinstance(when, datetime) else when / 1000, version)

    def persist(self, key: Any, version: int | None = None, client: Any = None) -> bool:
        """Have something live for as long as is allowed; return whether it is there."""
        return bool(self.touch(key, None, version))

    def _renew(self, key: Any, ttl: float, version: int | None) -> bool:
        """Give a value, or else a structure, another TTL."""
        try:
            if self._cache(key).touch(self._key(key, version), ttl):
                return True
        except RedisError as error:
            return self._missed(error, False)
        if math.isinf(ttl):
            return bool(self._on(key, version, "persist", answer=0))
        return bool(self._on(key, version, "pexpire", max(1, int(ttl * 1000)), answer=0))
