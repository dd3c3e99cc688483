"""How a cache behaves: what its constructor takes, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypedDict, get_args

from tenantkv.cache.values import CodecName
from tenantkv.errors import ConfigurationError

OnOutage = Literal["miss", "stale", "raise"]


@dataclass(frozen=True, slots=True)
class Near:
    """How much of a cache is also kept in this process.

    Attributes:
        entries: how many entries at the most.
        largest_bytes: of all of them together, as they lie on the server.
        staleness: seconds after which a value may be out of date at the most when an invalidation did not
            arrive. Where the server tells of every change it bounds how long silence is trusted;
            elsewhere also how long an entry is kept.

    Example:
        >>> Near(entries=1000).staleness
        5.0
    """

    entries: int = 10_000
    largest_bytes: int = 64 * 1024 * 1024
    staleness: float = 5.0

    def __post_init__(self) -> None:
        if self.entries < 1 or self.largest_bytes < 1:
            raise ConfigurationError("a near cache has room for at least one entry and one byte")
        check_seconds("staleness", self.staleness, least=0.01)


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """How a cache behaves: arguments of `Cache` and `AsyncCache`.

    Attributes:
        ttl: seconds, for entries that are written without one of their own.
        longest_ttl: the ceiling: longer ones are cut to it. ``FOREVER`` is not cut.
        stale: seconds beyond the TTL for which `get_or_compute` may serve a value while somebody
            computes it anew.
        jitter: share of each TTL that is taken off at random, at most, so that what was written
            together does not expire together.
        negative: seconds for which ``None`` and ``MISS`` as results of `get_or_compute` are cached.
            Without it ``None`` is a value like others, and ``MISS`` is not cached.
        early: how eagerly values are computed anew before they expire (XFetch's beta); 0 never.
        lease: seconds after which another process may compute an entry that one began to compute.
        wait: seconds to wait for another process that computes an entry; then the caller computes
            for itself. As long as the lease if left out.
        largest_bytes: of an encoded value; larger ones are refused.
        codec: ``"json"`` (with bytes and text as they are), ``"bytes"``, ``"pickle"`` or ``"msgpack"``.
        compress: whether values from 1 KB are compressed, where that makes them smaller. The length of
            a value then tells about its content; a `Secret` is never compressed.
        version: a number or word; entries of different versions have nothing to do with each other.
        on_outage: while the server is away, reads ``"miss"``, give what is near even if it is
            ``"stale"``, or ``"raise"``; writes are dropped, and deletions made up for.
        timeout: seconds to wait for the server. The cache then has connections of its own; ``None``
            uses the client's and its patience.
        background: whether `get_or_compute` computes what is early or stale in a thread while it
            serves what is there.
        announce: whether this process tells near caches of others of what it writes; needed where
            the server does not (`near_mode` is ``"stream"``), and then on wherever `near` is.
        plaintext_ok: why values of this cache may be stored in clear though they look like secrets.
    """

    ttl: float = 300.0
    longest_ttl: float = 30 * 86_400.0
    stale: float = 0.0
    jitter: float = 0.1
    negative: float | None = None
    early: float = 1.0
    lease: float = 30.0
    wait: float | None = None
    largest_bytes: int = 1024 * 1024
    codec: CodecName = "json"
    compress: bool = False
    version: int | str = 1
    on_outage: OnOutage = "miss"
    timeout: float | None = 0.5
    background: bool = False
    announce: bool = False
    plaintext_ok: str | None = None

    def __post_init__(self) -> None:
        check_seconds("longest_ttl", self.longest_ttl, least=0.001)
        check_ttl(self.ttl)
        if not math.isinf(self.ttl) and self.ttl > self.longest_ttl:
            raise ConfigurationError("ttl is longer than longest_ttl")
        for name in ("stale", "early"):
            check_seconds(name, getattr(self, name))
        if not 0 <= self.jitter < 1:
            raise ConfigurationError("jitter is the share of a TTL that may be taken off, from 0 to below 1")
        check_seconds("lease", self.lease, least=0.01)
        if self.lease > 3600:
            raise ConfigurationError("lease is at most an hour")
        if self.wait is not None:
            check_seconds("wait", self.wait)
        if self.timeout is not None:
            check_seconds("timeout", self.timeout, least=0.001)
        if self.negative is not None:
            check_seconds("negative", self.negative, least=0.001)
        if self.largest_bytes < 1:
            raise ConfigurationError("largest_bytes is at least 1")
        for name, allowed in (("codec", CodecName), ("on_outage", OnOutage)):
            if getattr(self, name) not in get_args(allowed):
                raise ConfigurationError(f"{name} is one of {', '.join(get_args(allowed))}")


class CacheOptions(TypedDict, total=False):
    """The arguments that make `CacheSettings`."""

    ttl: float
    longest_ttl: float
    stale: float
    jitter: float
    negative: float | None
    early: float
    lease: float
    wait: float | None
    largest_bytes: int
    codec: CodecName
    compress: bool
    version: int | str
    on_outage: OnOutage
    timeout: float | None
    background: bool
    announce: bool
    plaintext_ok: str | None


def check_seconds(name: str, value: object, *, least: float = 0.0) -> float:
    """Return a number of seconds, or raise for what is none, negative or not finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < math.inf:
        raise ConfigurationError(f"{name} is a number of seconds, at least {least:g}")
    return value


def check_ttl(ttl: object) -> float:
    """Return a TTL: a number of seconds above 0, or `FOREVER`."""
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not ttl > 0:
        raise ConfigurationError(
            "a TTL is a number of seconds above 0, or tenantkv.cache.FOREVER; None is none"
        )
    return ttl
