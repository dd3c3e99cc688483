"""What a cache's methods do, for both worlds: generators of the steps that `driving` takes.

Outages are met here: what the server did not hear is answered as the cache is configured, and
invalidations are owed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar

from tenantkv.cache.core import Core
from tenantkv.cache.driving import Steps
from tenantkv.cache.sentinels import MISS
from tenantkv.cache.values import CodecName
from tenantkv.cache.wire import OUTAGE
from tenantkv.errors import ConfigurationError
from tenantkv.ops import cache as ops
from tenantkv.ops.cache import Draft
from tenantkv.ops.cache_entry import FOREVER_MS, Entry

Key = str | bytes
Version = int | str | None
Result = TypeVar("Result")


class SetOptions(TypedDict, total=False):
    """What `set`, `set_many` and `add` take beside the value and its TTL.

    Attributes:
        stale: seconds beyond the TTL; see `CacheSettings`.
        tags: words by which the entry can be invalidated, with others.
        version: of the entry; the cache's if left out.
        codec: for this value.
        plaintext_ok: why it may be stored in clear though it looks like a secret.
    """

    stale: float | None
    tags: Sequence[Key]
    version: Version
    codec: CodecName | None
    plaintext_ok: str | None


class IncrOptions(TypedDict, total=False):
    """What `incr` and `decr` take beside the key and the number.

    Attributes:
        initial: what to store where there is nothing; without it the result is ``None`` then.
        ttl: seconds, for an entry that is made by this.
        version: of the entry.
    """

    initial: int | None
    ttl: float | None
    version: Version


# Reading


def get_many(core: Core, keys: Sequence[Key], version: Version, tags: Sequence[Key]) -> Steps[dict[Any, Any]]:
    """Return the values that are there, by key."""
    by_name = {core.entry_name(key, version): key for key in keys}
    found: dict[Any, Any] = {}
    asked: list[tuple[bytes, object]] = []
    near = core.near
    for name, key in by_name.items():
        value = near.get(name) if near is not None else MISS
        if value is MISS:
            asked.append((name, near.begin(name) if near is not None else None))
        else:
            core.stats.count("near_hits")
            found[key] = value
    names = [name for name, _ in asked]
    try:
        entries = (yield ops.read(core.shelf, names, core.clock(), tags=core.tags(tags))) if names else []
    except OUTAGE as error:
        core.outage(error)
        for name in names:
            kept = core.kept(name)
            if kept is not MISS:
                found[by_name[name]] = kept
        return found
    core.note_tampered()
    for (name, token), entry in zip(asked, entries, strict=True):
        value = core.taken(name, entry, token)
        if value is not MISS:
            found[by_name[name]] = value
    return found


def ttl(core: Core, key: Key, version: Version) -> Steps[float | None]:
    """Return the seconds for which an entry is still fresh, or ``None`` if there is none."""
    name = core.entry_name(key, version)
    try:
        (entry,) = yield ops.read(core.shelf, [name], core.clock())
    except OUTAGE as error:
        core.outage(error)
        return None
    core.note_tampered()
    if entry is None or not core.is_fresh(entry):
        return None
    return math.inf if entry.fresh_ms == FOREVER_MS else max(0.0, entry.fresh_ms / 1000 - core.clock())


# Writing


def set_many(
    core: Core,
    items: Mapping[Any, Any],
    ttl: float | None,
    *,
    stale: float | None = None,
    tags: Sequence[Key] = (),
    version: Version = None,
    codec: CodecName | None = None,
    plaintext_ok: str | None = None,
) -> Steps[list[Any]]:
    """Write entries, and return the keys of those that were not written. All values are checked first."""
    wanted = core.tags(tags)
    lifetime = core.lifetime(ttl, stale)
    drafts = {
        key: core.draft(
            key,
            core.entry_name(key, version),
            value,
            lifetime if len(items) == 1 else core.lifetime(ttl, stale),
            tags=wanted,
            codec=codec,
            plaintext_ok=plaintext_ok,
        )
        for key, value in items.items()
    }
    names = [draft.name for draft in drafts.values()]
    if not names:
        return []
    core.forget(names)
    try:
        done = yield ops.write(core.shelf, list(drafts.values()), core.clock())
        failed = [name for name, is_done in zip(names, done, strict=True) if not is_done]
        if failed:
            # What was there before must not be taken for what was to be written.
            yield ops.delete(core.shelf, failed)
    except OUTAGE as error:
        core.owed.add(names=tuple(names))
        core.outage(error)
        return list(drafts)
    finally:
        core.forget(names)
    core.note_tampered()
    core.stats.count("written", sum(done))
    core.stats.count("bytes_written", sum(len(draft.payload) for draft in drafts.values()))
    return [key for key, is_done in zip(drafts, done, strict=True) if not is_done]


def delete_many(core: Core, keys: Sequence[Key], version: Version) -> Steps[int]:
    """Delete entries and return how many there were, whether they counted or not."""
    names = [core.entry_name(key, version) for key in keys]
    if not names:
        return 0
    core.forget(names)
    try:
        count = yield ops.delete(core.shelf, names)
    except OUTAGE as error:
        core.owed.add(names=tuple(names))
        core.outage(error)
        return 0
    finally:
        core.forget(names)
    core.stats.count("deleted", count)
    return int(count)


def invalidate(core: Core, tags: Sequence[Key] | None) -> Steps[bool]:
    """End the entries with one of these tags, or all; return whether the server has heard of it."""
    wanted = None if tags is None else core.tags(tags)
    if wanted == ():
        return True
    names = core.shelf.stamp_names(wanted or ())
    core.forget(names if wanted is None else names[1:])
    try:
        yield ops.invalidate(core.shelf, wanted)
    except OUTAGE as error:
        core.owed.add(tags=wanted or (), everything=wanted is None)
        core.outage(error)
        return False
    finally:
        core.forget(names if wanted is None else names[1:])
    return True


# Changing


def amend(
    core: Core, name: bytes, change: Callable[[Entry | None], Draft | None], tags: Sequence[bytes] = ()
) -> Steps[bool]:
    """Replace an entry by what `change` makes of it, atomically."""
    core.forget([name])
    try:
        done = yield ops.amend(core.shelf, name, change, core.clock, tags=tags)
    except OUTAGE as error:
        core.outage(error)
        return False
    finally:
        core.forget([name])
    core.note_tampered()
    if done:
        core.stats.count("written")
    return bool(done)


def incr_version(core: Core, key: Key, by: int, version: Version) -> Steps[int | None]:
    """Move an entry to a later version and return that; ``None`` if there is no entry. Three round trips.

    Not atomic: for a moment both versions are there. The TTL and the tags stay.
    """
    now_at = core.settings.version if version is None else version
    if type(now_at) is not int or type(by) is not int:
        raise ConfigurationError("only a version that is a number can be counted up")
    name, later = core.entry_name(key, now_at), core.entry_name(key, now_at + by)
    try:
        (entry,) = yield ops.read(core.shelf, [name], core.clock())
        core.note_tampered()
        if entry is None or not core.is_fresh(entry):
            return None
        draft = redraft(later, entry, entry.payload, entry.fresh_ms, entry.until_ms)
        core.forget([name, later])
        done = yield ops.write(core.shelf, [draft], core.clock())
        yield ops.delete(core.shelf, [name])
    except OUTAGE as error:
        core.outage(error)
        return None
    finally:
        core.forget([name, later])
    return now_at + by if done[0] else None


def redraft(name: bytes, entry: Entry, payload: bytes, fresh_ms: int, until_ms: int) -> Draft:
    """Return an entry as it was, with another payload and lifetime."""
    return Draft(
        name,
        payload,
        fresh_ms,
        until_ms,
        tags=tuple(tag for tag, _ in entry.tags),
        delta_ms=entry.delta_ms,
        is_negative=entry.is_negative,
        is_secret=entry.is_secret,
    )
