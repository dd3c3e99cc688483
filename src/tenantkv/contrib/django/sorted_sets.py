"""Sorted sets in a cache, with django-redis's methods; members are sealed, scores are not.

Anybody can change a score: do not decide by one who may do what.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenantkv.contrib.django.structures import Structures, Version

Scored = list[tuple[Any, float]]


class SortedSets(Structures):
    """The part of `TenantCache` that keeps sorted sets. Two round trips each."""

    def zadd(
        self,
        key: Any,
        mapping: Mapping[Any, float],
        nx: bool = False,
        xx: bool = False,
        ch: bool = False,
        incr: bool = False,
        gt: bool = False,
        lt: bool = False,
        version: Version = None,
        client: Any = None,
    ) -> Any:
        """Add members with scores; see redis-py's."""
        packed = {self._packed(member): score for member, score in mapping.items()}
        options = {"nx": nx, "xx": xx, "ch": ch, "incr": incr, "gt": gt, "lt": lt}
        return self._on(key, version, "zadd", packed, answer=None if incr else 0, creates=not xx, **options)

    def zcard(self, key: Any, version: Version = None, client: Any = None) -> int:
        """Return how many members there are."""
        return int(self._on(key, version, "zcard", answer=0))

    def zcount(self, key: Any, min: Any, max: Any, version: Version = None, client: Any = None) -> int:
        """Return how many members have scores within bounds."""
        return int(self._on(key, version, "zcount", min, max, answer=0))

    def zincrby(
        self, key: Any, amount: float, value: Any, version: Version = None, client: Any = None
    ) -> float | None:
        """Add to a member's score, and return the sum."""
        found: float | None = self._on(
            key, version, "zincrby", amount, self._packed(value), answer=None, creates=True
        )
        return found

    def zpopmax(self, key: Any, count: int | None = None, version: Version = None, client: Any = None) -> Any:
        """Remove and return the member with the highest score, or a list of `count`."""
        return self._popped(self._on(key, version, "zpopmax", count, answer=[]), count)

    def zpopmin(self, key: Any, count: int | None = None, version: Version = None, client: Any = None) -> Any:
        """Remove and return the member with the lowest score, or a list of `count`."""
        return self._popped(self._on(key, version, "zpopmin", count, answer=[]), count)

    def zrange(
        self,
        key: Any,
        start: int,
        end: int,
        desc: bool = False,
        withscores: bool = False,
        score_cast_func: Any = float,
        version: Version = None,
        client: Any = None,
    ) -> list[Any]:
        """Return members by rank."""
        options = {"desc": desc, "withscores": withscores, "score_cast_func": score_cast_func}
        return self._listed(self._on(key, version, "zrange", start, end, answer=[], **options), withscores)

    def zrangebyscore(
        self,
        key: Any,
        min: Any,
        max: Any,
        start: int | None = None,
        num: int | None = None,
        withscores: bool = False,
        score_cast_func: Any = float,
        version: Version = None,
        client: Any = None,
    ) -> list[Any]:
        """Return members by score."""
        options = {"start": start, "num": num, "withscores": withscores, "score_cast_func": score_cast_func}
        return self._listed(
            self._on(key, version, "zrangebyscore", min, max, answer=[], **options), withscores
        )

    def zrevrange(
        self,
        key: Any,
        start: int,
        end: int,
        withscores: bool = False,
        score_cast_func: Any = float,
        version: Version = None,
        client: Any = None,
    ) -> list[Any]:
        """Return members by rank, the highest first."""
        return self.zrange(key, start, end, True, withscores, score_cast_func, version)

    def zrevrangebyscore(
        self,
        key: Any,
        max: Any,
        min: Any,
        start: int | None = None,
        num: int | None = None,
        withscores: bool = False,
        score_cast_func: Any = float,
        version: Version = None,
        client: Any = None,
    ) -> list[Any]:
        """Return members by score, the highest first."""
        options = {"start": start, "num": num, "withscores": withscores, "score_cast_func": score_cast_func}
        found = self._on(key, version, "zrevrangebyscore", max, min, answer=[], **options)
        return self._listed(found, withscores)

    def zrank(
        self, key: Any, value: Any, withscore: bool = False, version: Version = None, client: Any = None
    ) -> Any:
        """Return a member's rank, or ``None``."""
        more = {"withscore": True} if withscore else {}
        return self._on(key, version, "zrank", self._packed(value), answer=None, **more)

    def zscore(self, key: Any, value: Any, version: Version = None, client: Any = None) -> float | None:
        """Return a member's score, or ``None``."""
        found: float | None = self._on(key, version, "zscore", self._packed(value), answer=None)
        return found

    def zrem(self, key: Any, *values: Any, version: Version = None, client: Any = None) -> int:
        """Remove members, and return how many there were."""
        return int(self._on(key, version, "zrem", *self._all_packed(values), answer=0))

    def zremrangebyscore(
        self, key: Any, min: Any, max: Any, version: Version = None, client: Any = None
    ) -> int:
        """Remove members by score, and return how many there were."""
        return int(self._on(key, version, "zremrangebyscore", min, max, answer=0))

    def _listed(self, found: list[Any], withscores: bool) -> list[Any]:
        if withscores:
            return [(self._unpacked(member), score) for member, score in found]
        return [self._unpacked(member) for member in found]

    def _popped(self, found: Scored, count: int | None) -> Any:
        listed = self._listed(found, True)
        if count is None:
            return listed[0] if listed else None
        return listed
