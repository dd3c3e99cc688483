"""What `add`, `touch` and `incr` make of an entry that they have read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tenantkv.cache.core import Core
from tenantkv.cache.sentinels import MISS
from tenantkv.cache.steps import Key, Version, redraft
from tenantkv.cache.values import CodecName
from tenantkv.errors import ConfigurationError
from tenantkv.ops.cache import Draft
from tenantkv.ops.cache_entry import Entry, Lifetime


class Change(NamedTuple):
    """A change of one entry.

    Attributes:
        name: the own name of its key.
        make: gets the entry that counts, or ``None``; gives what to write, or ``None`` for nothing. It is
            called again if somebody else was quicker.
        tags: which the entry is likely to have.
        is_new: whether there is mostly no entry.
    """

    name: bytes
    make: Callable[[Entry | None], Draft | None]
    tags: tuple[bytes, ...] = ()
    is_new: bool = False


def addition(
    core: Core,
    key: Key,
    value: object,
    ttl: float | None,
    *,
    stale: float | None = None,
    tags: Sequence[Key] = (),
    version: Version = None,
    codec: CodecName | None = None,
    plaintext_ok: str | None = None,
) -> Change:
    """Return the change that writes an entry if there is none that counts. Raises as `Core.draft`."""
    name, wanted = core.entry_name(key, version), core.tags(tags)
    draft = core.draft(
        key, name, value, core.lifetime(ttl, stale), tags=wanted, codec=codec, plaintext_ok=plaintext_ok
    )

    def make(entry: Entry | None) -> Draft | None:
        return None if entry is not None and core.is_fresh(entry) else draft

    return Change(name, make, wanted, is_new=True)


def renewal(core: Core, key: Key, ttl: float | None, version: Version) -> Change:
    """Return the change that gives an entry another TTL, from now."""
    lifetime = core.lifetime(ttl)

    def make(entry: Entry | None) -> Draft | None:
        if entry is None or not core.is_fresh(entry):
            return None
        # As stale as before, at the end.
        stale = max(0, entry.until_ms - entry.fresh_ms) / 1000
        fresh_ms, until_ms = Lifetime(lifetime.ttl, stale).moments(core.clock())
        return redraft(name, entry, entry.payload, fresh_ms, until_ms)

    name = core.entry_name(key, version)
    return Change(name, make)


def sum_of(
    core: Core,
    sums: list[int],
    key: Key,
    by: int,
    *,
    initial: int | None = None,
    ttl: float | None = None,
    version: Version = None,
) -> Change:
    """Return the change that adds to a number; the last of `sums` is then what it wrote.

    It raises `TypeError` when it meets what is no whole number.
    """
    name = core.entry_name(key, version)
    if type(by) is not int or (initial is not None and type(initial) is not int):
        raise ConfigurationError("a cached number is whole")

    def make(entry: Entry | None) -> Draft | None:
        found = core.found(entry) if entry is not None and core.is_fresh(entry) else None
        if found is None or found.value is MISS:
            if initial is None:
                return None
            sums.append(initial)
            return core.draft(key, name, initial, core.lifetime(ttl), codec="json")
        if type(found.value) is not int:
            raise TypeError(f"a {type(found.value).__name__} cannot be counted up")
        sums.append(found.value + by)
        payload = core.number(sums[-1])
        return redraft(name, found.entry, payload, found.entry.fresh_ms, found.entry.until_ms)

    return Change(name, make)
