"""The short way of `add`, `touch` and `incr`: entries without tags, under the stamp that this process knows.

One read and one swap, as `ops.cache.amend` does them; only its effects are left out. Where
this process believes that it knows what is there (nothing, or what it wrote last), it swaps at once: a swap
that fails says what is there, so a wrong guess takes no more round trips than the read.

Whatever is unusual, and whoever was not the quickest, takes the long way, as if this had not been tried:
so nothing is counted here before that is decided.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from tenantkv.cache.aio_wire import AsyncWire
from tenantkv.cache.changes import Change
from tenantkv.cache.core import LOOK, Core
from tenantkv.cache.driving import adrive, drive
from tenantkv.cache.steps import amend
from tenantkv.cache.wire import MGET, OUTAGE, Wire
from tenantkv.ops import cache as ops
from tenantkv.ops.cache_entry import server_ttl_ms, unpack

# Of each cache: counters, mostly.
_REMEMBERED_AT_MOST = 250
_LARGEST_REMEMBERED = 250

# Gets the replies of the commands that it yields; gives whether the change was made, or `LOOK`.
Trips = Generator[Any, list[Any], Any]


class Swap:
    """A change of an entry in the short way.

    Args:
        core: the cache.
        change: of one of its entries.
        settled: the cache's stamp in its envelope, and as it is, as far as this process knows.
    """

    __slots__ = ("_change", "_core", "_settled")

    def __init__(self, core: Core, change: Change, settled: tuple[bytes, bytes]) -> None:
        self._core = core
        self._change = change
        self._settled = settled

    def trips(self) -> Trips:
        """Yield what to send, for a round trip each: one if the guess is right, else two."""
        change, shelf = self._change, self._core.shelf
        own = self._settled[0]
        # Taken out: it comes back if it was right.
        blob: Any = None if change.is_new else shelf.recent.pop(change.name, LOOK)
        write: Any = LOOK if blob is LOOK else self._guess(blob)
        if write is LOOK:
            (blobs,) = yield [(MGET, shelf.names.stamp, change.name)]
            if isinstance(blobs, Exception) or blobs[0] != own:
                return LOOK
            reply: Any = blobs[1]
        else:
            (reply,) = yield [write[0]]
            if reply == 1:
                return self._done(write[1])
        if not (reply is None or type(reply) is bytes):
            return LOOK
        write = self._write(reply)
        if write is LOOK:
            return LOOK
        if write is None:
            return False
        (reply,) = yield [write[0]]
        return self._done(write[1]) if reply == 1 else LOOK

    def _guess(self, blob: bytes | None) -> Any:
        """Return what `_write` does, if `blob` should be there; `LOOK` if that cannot be told by a guess."""
        try:
            return self._write(blob) or LOOK
        except Exception:
            # Of what was there; what is there now may be something else.
            return LOOK

    def _write(self, blob: bytes | None) -> Any:
        """Return the command that swaps `blob` for what comes next, and that; ``None`` for no change.

        `LOOK` for what is unusual.
        """
        core, change, shelf = self._core, self._change, self._core.shelf
        own, stamp = self._settled
        entry = self._entry(blob)
        if entry is LOOK:
            return LOOK
        draft = change.make(entry)
        if draft is None:
            return None
        ttl = server_ttl_ms(draft.until_ms, core.clock())
        if ttl is None:
            # For ever, and so must the stamp be.
            return LOOK
        new = ops.seal(shelf, draft, (stamp,))
        return ops.swap(shelf, change.name, new, blob, ttl, under=own).by_digest, new

    def _done(self, new: bytes) -> bool:
        recent = self._core.shelf.recent
        if len(new) <= _LARGEST_REMEMBERED:
            if len(recent) >= _REMEMBERED_AT_MOST:
                recent.clear()
            recent[self._change.name] = new
        self._core.stats.count("written")
        return True

    def _entry(self, blob: bytes | None) -> Any:
        """Return the entry that counts in what lies there, or ``None``; `LOOK` for what is unusual."""
        if blob is None:
            return None
        body = self._core.shelf.vault.opener(blob, "cache", self._change.name)
        entry = None if body is None else unpack(body)
        if entry is None or entry.tags:
            return LOOK
        counts = entry.stamp == self._settled[1] and int(self._core.clock() * 1000) < entry.until_ms
        return entry if counts else None


def _swap(core: Core, change: Change) -> Swap | None:
    """Return a change in the short way, or ``None`` if it has to take the long one."""
    shelf = core.shelf
    if core.near is not None or shelf.announces or change.tags or change.name in shelf.hints:
        return None
    settled = shelf.book.settled(shelf.names.stamp, core.clock())
    return None if settled is None else Swap(core, change, settled)


def swap(core: Core, wire: Wire, change: Change) -> bool:
    """Change an entry atomically, and return whether it was: up to two trips if it is a usual one."""
    short = _swap(core, change) if wire.is_clear else None
    if short is not None:
        try:
            done = drive(short.trips(), wire.write)
        except OUTAGE as error:
            core.outage(error)
            return False
        if done is not LOOK:
            return bool(done)
    return drive(amend(core, change.name, change.make, change.tags), wire.run)


async def aswap(core: Core, wire: AsyncWire, change: Change) -> bool:
    """See `swap`."""
    short = _swap(core, change) if wire.is_clear else None
    if short is not None:
        try:
            done = await adrive(short.trips(), wire.write)
        except OUTAGE as error:
            core.outage(error)
            return False
        if done is not LOOK:
            return bool(done)
    return await adrive(amend(core, change.name, change.make, change.tags), wire.run)
