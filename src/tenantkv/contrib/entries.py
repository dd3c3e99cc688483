"""What plug-ins need of a cache beside its methods: two operations, and log lines of failures."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tenantkv.cache.core import Core
from tenantkv.cache.driving import Steps
from tenantkv.cache.sentinels import MISS
from tenantkv.cache.steps import amend
from tenantkv.cache.wire import OUTAGE
from tenantkv.ops import cache as ops
from tenantkv.ops.cache import Draft
from tenantkv.ops.cache_entry import Entry

_TOLD = {
    "tampered": "values were not ours or were changed, and count as misses",
    "refused": "values were not stored: too large, or they look like secrets",
    "unavailable": "calls were not answered by the server",
}


class Timed(NamedTuple):
    """A value, and for how many seconds it will be served. `MISS` and 0 if there is none."""

    value: Any
    ttl: float


def timed(core: Core, key: str | bytes, tags: Sequence[str] = ()) -> Steps[Timed]:
    """Return a value with its TTL. One round trip, if its tags are those given.

    Args:
        core: the cache's.
        key: the entry's.
        tags: which it is likely to have.

    Raises:
        redis.exceptions.RedisError: the server is away, and the cache's ``on_outage`` is ``"raise"``.
    """
    name = core.entry_name(key)
    try:
        (entry,) = yield ops.read(core.shelf, [name], core.clock(), tags=core.tags(tags))
    except OUTAGE as error:
        core.outage(error)
        return Timed(MISS, 0.0)
    core.note_tampered()
    value = core.taken(name, entry)
    if value is MISS:
        return Timed(MISS, 0.0)
    return Timed(value, max(0.0, entry.fresh_ms / 1000 - core.clock()))


def replace(core: Core, key: str | bytes, value: object, ttl: float) -> Steps[bool]:
    """Store a value in the place of one that is there, and return whether there was one. Two round trips.

    Atomic: what somebody has deleted meanwhile does not come back.

    Raises:
        redis.exceptions.RedisError: the server is away, and the cache's ``on_outage`` is ``"raise"``. What
            was to be replaced is deleted as soon as it is back.
    """
    name = core.entry_name(key)
    draft = core.draft(key, name, value, core.lifetime(ttl))

    def change(entry: Entry | None) -> Draft | None:
        return draft if entry is not None and core.is_fresh(entry) else None

    try:
        return (yield from amend(core, name, change))
    except OUTAGE:
        core.owed.add(names=(name,))
        raise


class Logged:
    """An ``on_event`` that logs what goes wrong: the first time, the second, the fourth ...

    Args:
        name: the cache's.
        then: another ``on_event``.

    Attributes:
        counts: what was counted, by the cache's words.
    """

    def __init__(self, name: str, then: Callable[[str, int], None] | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self._name = name
        self._then = then
        self._logger = logging.getLogger("tenantkv.contrib")

    def __call__(self, event: str, amount: int) -> None:
        if event in _TOLD:
            before = self.counts[event]
            self.counts[event] = before + amount
            # A stranger or an outage could fill a disk otherwise.
            if int.bit_length(before + amount) > int.bit_length(before):
                self._logger.warning("cache %s: %d %s", self._name, before + amount, _TOLD[event])
        if self._then is not None:
            self._then(event, amount)


def whole_seconds(ttl: float) -> int:
    """Return a TTL for those who count in whole seconds, at least 1."""
    return max(1, math.ceil(ttl)) if math.isfinite(ttl) else 2**31 - 1
