"""What ``tenantkv usage`` reports, and what it amounts to next to an earlier report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tenantkv.ops.usage import DAY


@dataclass(frozen=True, slots=True)
class GroupReport:
    """Keys whose names have the same first segment; a last one sums up all that are not listed.

    Attributes:
        segment: what stands in front of the first colon.
        keys: how many.
        bytes: what they take.
        immortal_keys: how many have no TTL.
        immortal_bytes: what these take.
    """

    segment: str
    keys: int
    bytes: int
    immortal_keys: int
    immortal_bytes: int


@dataclass(frozen=True, slots=True)
class TypeReport:
    """Keys of one type."""

    type: str
    keys: int
    bytes: int


@dataclass(frozen=True, slots=True)
class KeyCost:
    """One key that was measured; ``ttl`` and ``idle`` in seconds, or ``None``."""

    name: str
    type: str
    bytes: int
    ttl: float | None
    idle: float | None


@dataclass(frozen=True, slots=True)
class Growth:
    """What has changed since an earlier report.

    Attributes:
        seconds: how long ago that was.
        keys_a_day: more keys (or fewer) each day.
        bytes_a_day: likewise.
        immortal_bytes_a_day: of these, what has no TTL.
        days_to_limit: until these keys alone take what is left of the server; ``None`` if they do not
            grow, or the server has no limit.
    """

    seconds: float
    keys_a_day: float
    bytes_a_day: float
    immortal_bytes_a_day: float
    days_to_limit: float | None


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What a namespace's keys cost. Bytes are estimates of the server's memory.

    Attributes:
        namespace: the label.
        child: the path of children.
        taken: when, in Unix seconds.
        source: where names came from: ``scan`` or ``registry``.
        pattern: the glob.
        keys: how many keys match.
        measured: how many of them were measured; sums are scaled from them.
        bytes: what they take.
        registry_bytes: what the index of names takes.
        server_bytes: what the server uses for everybody; 0 if it does not tell.
        server_limit: what it may use; 0 if it does not tell or has no limit.
        immortal_keys: how many have no TTL.
        immortal_bytes: what these take.
        day_keys: how many were used within a day: at most so many are new; ``None`` if the server does not
            keep idle times (LFU).
        day_bytes: what these take.
        groups: by first segment, the most expensive first.
        types: by type.
        biggest: the biggest keys that were measured.
        immortal: the biggest without a TTL, the primitives' own left out.
        growth: since an earlier report, if one was given.
    """

    namespace: str
    child: tuple[str, ...]
    taken: float
    source: str
    pattern: str
    keys: int
    measured: int
    bytes: int
    registry_bytes: int
    server_bytes: int
    server_limit: int
    immortal_keys: int
    immortal_bytes: int
    day_keys: int | None
    day_bytes: int | None
    groups: tuple[GroupReport, ...]
    types: tuple[TypeReport, ...]
    biggest: tuple[KeyCost, ...]
    immortal: tuple[KeyCost, ...]
    growth: Growth | None

    def grown_since(self, before: Mapping[str, Any]) -> UsageReport:
        """Return the same report with what has changed since an earlier one, as JSON has it."""
        passed = self.taken - before["taken"]
        if passed <= 0:
            return self
        a_day = DAY / passed
        more = (self.bytes - before["bytes"]) * a_day
        left = self.server_limit - self.server_bytes
        return replace(
            self,
            growth=Growth(
                seconds=round(passed, 3),
                keys_a_day=round((self.keys - before["keys"]) * a_day, 3),
                bytes_a_day=round(more, 3),
                immortal_bytes_a_day=round(
                    (self.immortal_bytes - int(before.get("immortal_bytes", 0))) * a_day, 3
                ),
                days_to_limit=round(max(left, 0) / more, 3) if more > 0 and self.server_limit else None,
            ),
        )
