"""What Django asks of a cache and the primitive does not do by itself, in its steps, for both worlds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tenantkv.cache.core import Core
from tenantkv.cache.driving import Steps
from tenantkv.cache.steps import Key, amend, delete_many
from tenantkv.cache.wire import OUTAGE
from tenantkv.ops import cache as ops
from tenantkv.ops import cache_stamps
from tenantkv.ops.cache import PAGE, Draft, Shelf
from tenantkv.ops.cache_entry import Entry
from tenantkv.ops.effects import Batch, Operation

#: Gives the own name of a structure under the cache's stamp.
Locate = Callable[[bytes, bytes], bytes]


def replace(core: Core, key: Key, value: Any, ttl: float) -> Steps[bool]:
    """Write an entry if there is one that counts (SET XX). Two round trips, atomic."""
    name = core.entry_name(key)
    draft = core.draft(key, name, value, core.lifetime(ttl))

    def change(entry: Entry | None) -> Draft | None:
        return draft if entry is not None and core.is_fresh(entry) else None

    return (yield from amend(core, name, change))


def move(core: Core, old: Key, new: Key) -> Steps[bool]:
    """Put an entry under another key; its TTL stays. Three round trips, not atomic: both are there
    for a moment."""
    names = [core.entry_name(old), core.entry_name(new)]
    try:
        (entry,) = yield ops.read(core.shelf, names[:1], core.clock())
        core.note_tampered()
        if entry is None or not core.is_fresh(entry):
            return False
        draft = Draft(
            names[1],
            entry.payload,
            entry.fresh_ms,
            entry.until_ms,
            delta_ms=entry.delta_ms,
            is_negative=entry.is_negative,
            is_secret=entry.is_secret,
        )
        core.forget(names)
        done = yield ops.write(core.shelf, [draft], core.clock())
        yield ops.delete(core.shelf, names[:1])
    except OUTAGE as error:
        core.outage(error)
        return False
    finally:
        core.forget(names)
    return bool(done[0])


def discard(core: Core, keys: Sequence[str], locate: Locate) -> Steps[int]:
    """Delete entries and structures, and return how many there were. One round trip for 500, as a rule.

    Of a single key it is told whether its entry counted. Of several the server's count is taken, in which
    are those that had ended by a `clear`: nobody reads many values only to delete them.
    """
    names = [core.entry_name(key) for key in keys]
    if not names:
        return 0
    core.forget(names)
    try:
        count = yield _discard(core, names, [key.encode() for key in keys], locate)
    except OUTAGE:
        # Counted, answered and made up for there: the breaker is open, so it waits for nothing.
        return (yield from delete_many(core, keys, None))
    finally:
        core.forget(names)
    core.note_tampered()
    core.stats.count("deleted", count)
    return int(count)


def _discard(core: Core, names: Sequence[bytes], keys: Sequence[bytes], locate: Locate) -> Operation[int]:
    shelf = core.shelf
    count = 0
    for start in range(0, len(names), PAGE):
        lot, places = names[start : start + PAGE], keys[start : start + PAGE]
        known = shelf.book.known([shelf.names.stamp])
        looked = lot if len(names) == 1 else ()
        commands: list[Any] = [
            ("MGET", shelf.names.stamp, *looked),
            ("UNLINK", *lot),
            ("UNLINK", *map(shelf.names.lease, lot)),
        ]
        if known:
            commands.append(("UNLINK", *(locate(known[0], key) for key in places)))
        replies = _checked((yield Batch([*commands, *shelf.news(lot)])), len(commands))
        blobs, there, more = replies[0], replies[1], replies[3:]
        if looked:
            (entry,) = yield from ops.conclude(shelf, looked, (), blobs, core.clock())
            there = int(entry is not None and core.is_fresh(entry))
        (stamp,) = shelf.book.read_all([shelf.names.stamp], blobs[:1])
        has_places = known is not None
        if stamp is not None and (known is None or stamp != known[0]):
            # Somebody cleared the cache since this process looked.
            has_places = True
            more = _checked((yield Batch([("UNLINK", *(locate(stamp, key) for key in places))])), 1)
        # One key, one thing, even where it has a value and is a set.
        count += min(len(lot), there + (more[-1] if has_places else 0))
    return count


def _checked(replies: Sequence[Any], count: int) -> Sequence[Any]:
    for reply in replies[:count]:
        if isinstance(reply, Exception):
            raise reply
    return replies[:count]


def stamp_of(shelf: Shelf) -> Operation[bytes]:
    """Return the cache's stamp, which is made if there is none. One round trip, as a rule."""
    (stamp,) = yield from cache_stamps.ensure(shelf.book, [shelf.names.stamp])
    return stamp


def live(shelf: Shelf, names: Sequence[bytes], now: float) -> Operation[list[bytes]]:
    """Return those of these entries that count. One round trip for 500."""
    entries = yield from ops.read(shelf, names, now)
    return [name for name, entry in zip(names, entries, strict=True) if entry and now * 1000 < entry.fresh_ms]
