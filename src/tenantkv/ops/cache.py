"""What a cache does on the server. Every value is read together with the stamps under which it counts.

Laws of this file:

1. A hit takes one round trip: MGET of the cache's stamp, the tags' stamps as far as they are known, and
   the values. Only who reads an entry whose tags it has never seen asks once more.
2. Nothing that was computed, or read to be changed, overwrites what came meanwhile: it is stored under a
   lease that writes and deletions end, or swapped for the very bytes that were read.
3. Stamps are read before a value is computed, so what is invalidated meanwhile is never a hit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from tenantkv.ops import cache_stamps
from tenantkv.ops.cache_entry import FOREVER_MS, Entry, server_ttl_ms
from tenantkv.ops.cache_names import Names
from tenantkv.ops.cache_stamps import StampBook
from tenantkv.ops.cache_vault import Vault
from tenantkv.ops.effects import Batch, Call, Command, Operation, Sleep
from tenantkv.ops.scripts import script

#: Keys that one command names at the most; a server does nothing else meanwhile.
PAGE = 500

_HINTS_AT_MOST = 10_000
_ATTEMPTS = 200

# Not repeatable: who asks again may find its own entry and take it for somebody else's.
_SWAP = script("cache_swap")

Blobs = Sequence["bytes | None"]


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry to be written, which gets its stamps on the way.

    Attributes:
        name: the own name of its key.
        payload: the encoded value.
        fresh_ms: see `Entry`.
        until_ms: see `Entry`.
        tags: see `Entry`; without stamps.
        delta_ms: see `Entry`.
        is_negative: see `Entry`.
        is_secret: see `Entry`.
    """

    name: bytes
    payload: bytes
    fresh_ms: int
    until_ms: int
    tags: tuple[bytes, ...] = ()
    delta_ms: int = 0
    is_negative: bool = False
    is_secret: bool = False


class Shelf:
    """One cache's names, stamps and envelopes, and what this process remembers of them.

    Args:
        names: makes own names.
        book: the stamps.
        vault: the envelopes.
        announces: whether writes are told on the cache's stream, for near caches that the server
            does not tell.
    """

    __slots__ = ("announces", "book", "hints", "names", "recent", "vault")

    def __init__(self, names: Names, book: StampBook, vault: Vault, *, announces: bool = False) -> None:
        self.names = names
        self.book = book
        self.vault = vault
        self.announces = announces
        #: Which tags entries had, so that their stamps are read along.
        self.hints: dict[bytes, tuple[bytes, ...]] = {}
        #: What was swapped in last, by name: a guess at what the next swap finds.
        self.recent: dict[bytes, bytes] = {}

    def tags_of(self, names: Iterable[bytes], tags: Iterable[bytes] = ()) -> list[bytes]:
        """Return the tags whose stamps to read along with these entries."""
        wanted = dict.fromkeys(tags)
        if self.hints:
            for name in names:
                wanted.update(dict.fromkeys(self.hints.get(name, ())))
        return list(wanted)

    def judge(self, name: bytes, stamp: bytes | None, body: bytes | None, now_ms: int) -> Entry | None:
        """Return the entry in a body that opened, if it counts, but for its tags."""
        entry = self.vault.read(body)
        if entry is None or stamp is None or entry.stamp != stamp or now_ms >= entry.until_ms:
            return None
        if entry.tags and len(self.hints) < _HINTS_AT_MOST:
            self.hints[name] = tuple(tag for tag, _ in entry.tags)
        return entry

    def stamp_names(self, tags: Iterable[bytes]) -> list[bytes]:
        """Return the names of the cache's stamp and of the tags'."""
        return [self.names.stamp, *map(self.names.tag, tags)]

    def news(self, names: Sequence[bytes]) -> list[Sequence[Any]]:
        """Return the commands that tell near caches of changes, if they are to be told."""
        if not self.announces or not names:
            return []
        fields = [word for name in names for word in (b"k", name)]
        # One trimmed key for all; it ends with the last that could listen.
        return [
            ("XADD", self.names.news, "MAXLEN", "~", 1000, "*", *fields),
            ("PEXPIRE", self.names.news, 86_400_000),
        ]


def read(
    shelf: Shelf, names: Sequence[bytes], now: float, *, tags: Iterable[bytes] = ()
) -> Operation[list[Entry | None]]:
    """Return the entries that count. One round trip for 500, and another for tags not seen before.

    Args:
        shelf: the cache.
        names: the entries' own names.
        now: seconds since 1970.
        tags: which they are likely to have.
    """
    found: list[Entry | None] = []
    for start in range(0, len(names), PAGE):
        lot = names[start : start + PAGE]
        asked = shelf.tags_of(lot, tags)
        stamp_names = shelf.stamp_names(asked)
        blobs: Blobs = yield Command(("MGET", *stamp_names, *lot))
        found += yield from conclude(shelf, lot, asked, blobs, now)
    return found


def conclude(
    shelf: Shelf, names: Sequence[bytes], asked: Sequence[bytes], blobs: Blobs, now: float
) -> Operation[list[Entry | None]]:
    """Return the entries that count, of the replies for stamps and values; the other half of `read`."""
    now_ms = int(now * 1000)
    width = 1 + len(asked)
    stamps = shelf.book.read_all(shelf.stamp_names(asked), blobs[:width])
    entries = [
        shelf.judge(name, stamps[0], shelf.vault.open(name, blob), now_ms)
        for name, blob in zip(names, blobs[width:], strict=True)
    ]
    known = dict(zip(asked, stamps[1:], strict=True))
    unknown = list(dict.fromkeys(tag for e in entries if e for tag, _ in e.tags if tag not in known))
    for start in range(0, len(unknown), PAGE):
        # Read after the value, and so as good: a tag invalidated in between makes it a miss.
        lot = unknown[start : start + PAGE]
        tag_names = [shelf.names.tag(tag) for tag in lot]
        more: Blobs = yield Command(("MGET", *tag_names))
        known.update(zip(lot, shelf.book.read_all(tag_names, more), strict=True))
    return [entry if entry is None or _has_its_tags(entry, known) else None for entry in entries]


def _has_its_tags(entry: Entry, known: dict[bytes, bytes | None]) -> bool:
    return all(known.get(tag) == stamp for tag, stamp in entry.tags)


def seal(shelf: Shelf, draft: Draft, stamps: Sequence[bytes]) -> bytes:
    """Return a draft as what lies on the server."""
    return shelf.vault.seal(draft.name, _entry(draft, stamps))


def _entry(draft: Draft, stamps: Sequence[bytes]) -> Entry:
    return Entry(
        draft.payload,
        stamp=stamps[0],
        tags=tuple(zip(draft.tags, stamps[1:], strict=True)),
        fresh_ms=draft.fresh_ms,
        until_ms=draft.until_ms,
        delta_ms=draft.delta_ms,
        is_negative=draft.is_negative,
        is_secret=draft.is_secret,
    )


def write(shelf: Shelf, drafts: Sequence[Draft], now: float) -> Operation[list[bool]]:
    """Write entries, all with the same tags. One round trip for 500, if the stamps are as this process
    saw them last; not atomic. Whoever computes one of them at the moment will not store it.

    Returns:
        For each whether the server took it.
    """
    written: list[bool] = []
    for start in range(0, len(drafts), PAGE):
        written += yield from _write_page(shelf, drafts[start : start + PAGE], now)
    return written


def _write_page(shelf: Shelf, drafts: Sequence[Draft], now: float) -> Operation[list[bool]]:
    stamp_names = shelf.stamp_names(drafts[0].tags)
    stamps = shelf.book.known(stamp_names)
    if stamps is None:
        stamps = yield from cache_stamps.ensure(shelf.book, stamp_names)
    names = [draft.name for draft in drafts]
    behind: list[Any] = [("UNLINK", *map(shelf.names.lease, names)), *shelf.news(names)]
    behind += keeping(shelf, stamp_names, now, drafts)
    for _ in range(3):
        replies = yield Batch(
            [
                *map(_set, drafts, _seal_page(shelf, drafts, stamps), repeat(now)),
                ("MGET", *stamp_names),
                *behind,
            ]
        )
        done = [not isinstance(reply, Exception) for reply in replies[: len(drafts)]]
        blobs = replies[len(drafts)]
        if isinstance(blobs, Exception):
            raise blobs
        if shelf.book.read_all(stamp_names, blobs) == stamps:
            return done
        # Somebody cleared since: what was written a moment ago counts under no stamp.
        stamps = yield from cache_stamps.ensure(shelf.book, stamp_names)
    return [False] * len(drafts)


def _seal_page(shelf: Shelf, drafts: Sequence[Draft], stamps: Sequence[bytes]) -> list[bytes]:
    """Return drafts as what lies on the server, in less time if all are usual."""
    if len(drafts) == 1 or shelf.vault.compresses or any(draft.is_secret for draft in drafts):
        return [seal(shelf, draft, stamps) for draft in drafts]
    bodies = [_entry(draft, stamps).pack() for draft in drafts]
    return shelf.vault.seal_page([draft.name for draft in drafts], bodies)


def _set(draft: Draft, blob: bytes, now: float) -> Sequence[Any]:
    ttl = server_ttl_ms(draft.until_ms, now)
    return ("SET", draft.name, blob) if ttl is None else ("SET", draft.name, blob, "PX", ttl)


def keeping(shelf: Shelf, stamp_names: Sequence[bytes], now: float, drafts: Sequence[Draft]) -> list[Call]:
    """Return the call that keeps the stamps for as long as these entries, if it is time for it."""
    for_ever = any(draft.until_ms == FOREVER_MS for draft in drafts)
    due = list(stamp_names) if for_ever else shelf.book.due(stamp_names, now)
    return [cache_stamps.keep(shelf.book, due, for_ever=for_ever)] if due else []


def delete(shelf: Shelf, names: Sequence[bytes]) -> Operation[int]:
    """Delete entries, and return how many there were. One round trip for 500."""
    count = 0
    for start in range(0, len(names), PAGE):
        lot = names[start : start + PAGE]
        replies = yield Batch([("UNLINK", *lot), ("UNLINK", *map(shelf.names.lease, lot)), *shelf.news(lot)])
        for reply in replies[:2]:
            if isinstance(reply, Exception):
                raise reply
        count += replies[0]
    return count


def invalidate(shelf: Shelf, tags: Sequence[bytes] | None) -> Operation[None]:
    """End everything that has one of these tags; all of the cache for ``None``. One round trip."""
    names = [shelf.names.stamp] if tags is None else [shelf.names.tag(tag) for tag in tags]
    if names:
        yield from cache_stamps.replace(shelf.book, names, *shelf.news(names))


def amend(
    shelf: Shelf,
    name: bytes,
    change: Callable[[Entry | None], Draft | None],
    clock: Callable[[], float],
    *,
    tags: Sequence[bytes] = (),
) -> Operation[bool]:
    """Replace an entry by what `change` makes of it, atomically: two round trips if nobody interferes.

    Args:
        shelf: the cache.
        name: the entry's own name.
        change: gets the entry that counts, or ``None``; gives what to write, or ``None`` for nothing.
        clock: seconds since 1970.
        tags: which the entry is likely to have.

    Returns:
        Whether `change` gave something, and it was written.
    """
    asked = shelf.tags_of([name], tags)
    for attempt in range(_ATTEMPTS):
        if attempt > 5:
            yield Sleep(min(0.05, 0.001 * attempt))
        now = clock()
        blobs: Blobs = yield Command(("MGET", *shelf.stamp_names(asked), name))
        (entry,) = yield from conclude(shelf, [name], asked, blobs, now)
        draft = change(entry)
        if draft is None:
            return False
        stamp_names = shelf.stamp_names(draft.tags)
        stamps = yield from _stamps_for(shelf, entry, draft, stamp_names)
        ttl = server_ttl_ms(draft.until_ms, clock())
        call = swap(shelf, name, seal(shelf, draft, stamps), blobs[-1], ttl)
        replies = yield Batch([call, *shelf.news([name]), *keeping(shelf, stamp_names, now, [draft])])
        if isinstance(replies[0], Exception):
            raise replies[0]
        if replies[0] == 1:
            return True
    return False


def swap(
    shelf: Shelf, name: bytes, new: bytes, seen: bytes | None, ttl: int | None, *, under: bytes | None = None
) -> Call:
    """Return the call that writes an entry if the server still has what was `seen`, for `ttl` milliseconds.

    Its reply is 1 if it did, else what is there; -1 if what has the cache's stamp in it is not `under`.
    """
    keys, arguments = (name, shelf.names.lease(name)), (seen or b"", new, ttl or 0)
    if under is None:
        return Call(_SWAP, keys, arguments)
    return Call(_SWAP, (*keys, shelf.names.stamp), (*arguments, under))


def _stamps_for(
    shelf: Shelf, entry: Entry | None, draft: Draft, names: Sequence[bytes]
) -> Operation[Sequence[bytes]]:
    """Return the stamps of the entry that is changed, so that an invalidation meanwhile ends it too."""
    if entry is not None and tuple(tag for tag, _ in entry.tags) == draft.tags:
        return [entry.stamp, *(stamp for _, stamp in entry.tags)]
    return (yield from cache_stamps.ensure(shelf.book, names))
