"""One of many computes an entry: leases between processes. Stamps are read before, see `ops.cache`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tenantkv.ops import cache_stamps
from tenantkv.ops.cache import Blobs, Draft, Shelf, conclude, keeping, seal
from tenantkv.ops.cache_entry import Entry, server_ttl_ms
from tenantkv.ops.effects import Batch, Call, Command, Operation, Sleep
from tenantkv.ops.scripts import script

# Who waits looks again after a share of the time that it has waited, within these bounds.
_SHORTEST_WAIT, _LONGEST_WAIT, _WAIT_SHARE = 0.002, 0.1, 0.25
# A lease that lasts longer is none of ours: nobody computes for that long.
_LONGEST_LEASE_MS = 3_600_000
# Repeatable: the second time the lease has ended, and nothing is done.
_STORE = script("cache_store", repeatable=True)


class Claim(NamedTuple):
    """What came of asking for the lease to compute an entry.

    Attributes:
        entry: what is there already, if anything.
        is_mine: whether the lease is held.
        stamps: of the cache and of the tags, as they were before computing.
    """

    entry: Entry | None
    is_mine: bool
    stamps: Sequence[bytes]


def claim(
    shelf: Shelf, name: bytes, tags: Sequence[bytes], token: bytes, lease_ms: int, now: float
) -> Operation[Claim]:
    """Ask for the lease to compute an entry, and look at the entry again. One round trip, mostly.

    Args:
        shelf: the cache.
        name: the entry's own name.
        tags: which it will have.
        token: random; says whose lease it is.
        lease_ms: how long the lease lasts if its holder dies.
        now: seconds since 1970.
    """
    lease = shelf.names.lease(name)
    asked = list(tags)
    stamp_names = shelf.stamp_names(asked)
    replies = yield Batch(
        [
            ("SET", lease, token, "NX", "PX", lease_ms),
            ("MGET", *stamp_names, name, lease),
            ("PTTL", lease),
        ]
    )
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    _, blobs, left = replies
    # By the lease itself and not by the reply to SET, which may be that to its second try.
    is_mine = blobs[-1] == token
    if not is_mine and not 0 <= left <= _LONGEST_LEASE_MS:
        # Nobody of ours made that; or it ended just now, and is as free.
        yield Command(("SET", lease, token, "PX", lease_ms))
        is_mine = True
    (entry,) = yield from conclude(shelf, [name], asked, blobs[:-1], now)
    stamps = shelf.book.read_all(stamp_names, blobs[: len(stamp_names)])
    if is_mine and None in stamps:
        stamps = yield from cache_stamps.ensure(shelf.book, stamp_names)  # type: ignore[assignment]
    return Claim(entry, is_mine, [stamp or b"" for stamp in stamps])


def await_other(
    shelf: Shelf,
    name: bytes,
    tags: Sequence[bytes],
    token: bytes,
    lease_ms: int,
    clock: Callable[[], float],
    patience: float,
) -> Operation[Claim]:
    """Wait until whoever has the lease has stored the entry, or has lost it.

    It looks again rather than being woken: each process waits with one thread or task for a key, few
    looks do (after a quarter of the time waited so far, at most every 0.1 s), and none of the
    few connections is held meanwhile.

    Returns:
        A claim with the entry, or one that is ours, or neither when `patience` seconds are over.
    """
    begun = clock()
    asked = list(tags)
    lease = shelf.names.lease(name)
    while True:
        waited = clock() - begun
        if not 0 <= waited < patience:
            return Claim(None, False, ())
        pause = min(max(waited * _WAIT_SHARE, _SHORTEST_WAIT), _LONGEST_WAIT)
        yield Sleep(min(pause, patience - waited))
        blobs: Blobs = yield Command(("MGET", *shelf.stamp_names(asked), name, lease))
        now = clock()
        (entry,) = yield from conclude(shelf, [name], asked, blobs[:-1], now)
        if entry is not None:
            return Claim(entry, False, ())
        if blobs[-1] is None:
            claimed = yield from claim(shelf, name, tags, token, lease_ms, now)
            if claimed.is_mine or claimed.entry is not None:
                return claimed


def store(shelf: Shelf, draft: Draft, claimed: Claim, token: bytes, now: float) -> Operation[bool]:
    """Store what was computed, unless it was written, deleted or taken over meanwhile. One round trip."""
    stamp_names = shelf.stamp_names(draft.tags)
    ttl = server_ttl_ms(draft.until_ms, now)
    call = Call(
        _STORE,
        (draft.name, shelf.names.lease(draft.name)),
        (token, seal(shelf, draft, claimed.stamps), ttl or 0),
    )
    replies = yield Batch([call, *shelf.news([draft.name]), *keeping(shelf, stamp_names, now, [draft])])
    if isinstance(replies[0], Exception):
        raise replies[0]
    return bool(replies[0])


def release(shelf: Shelf, name: bytes, token: bytes) -> Operation[None]:
    """Give the lease back without storing anything. One round trip."""
    yield Call(_STORE, (name, shelf.names.lease(name)), (token, b"", 0))
