"""The short way of `add`, `touch` and `incr`: entries without tags, under the stamp that this process knows.

One read and one swap, as `ops.cache.amend` does them; only its effects and their driver are left out.
Whatever is unusual, and whoever was not the quickest, takes the long way, as if this had not been tried:
so nothing is counted here before that is decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenantkv.cache.aio_wire import AsyncWire
from tenantkv.cache.changes import Change
from tenantkv.cache.core import LOOK, Core
from tenantkv.cache.driving import adrive, drive
from tenantkv.cache.steps import amend
from tenantkv.cache.wire import MGET, OUTAGE, Wire
from tenantkv.ops import cache as ops
from tenantkv.ops.cache_entry import server_ttl_ms, unpack


class Swap:
    """A change of an entry in the short way.

    Attributes:
        read: the command that reads the cache's stamp and the entry.

    Args:
        core: the cache.
        change: of one of its entries.
    """

    __slots__ = ("_change", "_core", "read")

    def __init__(self, core: Core, change: Change) -> None:
        self._core = core
        self._change = change
        self.read = (MGET, core.shelf.names.stamp, change.name)

    def take(self, blobs: Sequence[bytes | None]) -> Any:
        """Return the command that swaps the entry; ``None`` for no change, `LOOK` for the long way."""
        core, change = self._core, self._change
        shelf, blob, entry = core.shelf, blobs[1], None
        stamp = shelf.book.recall(shelf.names.stamp, blobs[0])
        if stamp is None:
            return LOOK
        if blob is not None:
            body = shelf.vault.opener(blob, "cache", change.name)
            entry = None if body is None else unpack(body)
            if entry is None or entry.tags:
                return LOOK
            if entry.stamp != stamp or int(core.clock() * 1000) >= entry.until_ms:
                entry = None
        draft = change.make(entry)
        if draft is None:
            return None
        ttl = server_ttl_ms(draft.until_ms, core.clock())
        if ttl is None:
            # For ever, and so must the stamp be.
            return LOOK
        return ops.swap(shelf, draft, (stamp,), blob, ttl).by_digest

    def is_done(self, reply: Any) -> bool:
        """Say whether that replaced what was read; count."""
        if reply != 1:
            return False
        self._core.stats.count("written")
        return True


def _swap(core: Core, change: Change) -> Swap | None:
    """Return a change in the short way, or ``None`` if it has to take the long one."""
    shelf = core.shelf
    if core.near is not None or shelf.announces or change.tags or change.name in shelf.hints:
        return None
    return Swap(core, change) if shelf.book.settled(shelf.names.stamp, core.clock()) else None


def swap(core: Core, wire: Wire, change: Change) -> bool:
    """Change an entry atomically, and return whether it was: two round trips if nobody interferes."""
    short = _swap(core, change) if wire.is_clear else None
    if short is not None:
        try:
            command = short.take(wire.read(short.read))
            if command is None:
                return False
            if command is not LOOK and short.is_done(wire.write([command])[0]):
                return True
        except OUTAGE as error:
            core.outage(error)
            return False
    return drive(amend(core, change.name, change.make, change.tags), wire.run)


async def aswap(core: Core, wire: AsyncWire, change: Change) -> bool:
    """See `swap`."""
    short = _swap(core, change) if wire.is_clear else None
    if short is not None:
        try:
            command = short.take(await wire.read(short.read))
            if command is None:
                return False
            if command is not LOOK and short.is_done((await wire.write([command]))[0]):
                return True
        except OUTAGE as error:
            core.outage(error)
            return False
    return await adrive(amend(core, change.name, change.make, change.tags), wire.run)
