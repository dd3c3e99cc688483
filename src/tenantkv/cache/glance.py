"""The short way of `get_many`: what usual hits, and what is not there, need not pay for.

It answers as `ops.cache.read` and `Core.taken` do. Entries with tags, those past their TTL and those that
cannot be read are left over, and take the long way from the replies that are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tenantkv.cache.core import Core
from tenantkv.cache.sentinels import MISS
from tenantkv.cache.values import decode_plain
from tenantkv.errors import CodecError
from tenantkv.ops.cache import PAGE, conclude
from tenantkv.ops.cache_entry import Entry, read_plain_each
from tenantkv.ops.effects import Operation


class Glance:
    """A look at several entries, whose replies have come with one MGET.

    Attributes:
        names: what to ask for, behind the cache's stamp.
        found: the values that are there, by key.
        left: the replies that need a longer look, by name.

    Args:
        core: the cache.
        keys: its entries' keys, by their own names.
    """

    __slots__ = ("_core", "_keys", "_stamp", "found", "left")

    def __init__(self, core: Core, keys: dict[bytes, Any]) -> None:
        self._core = core
        self._keys = keys
        self._stamp: bytes | None = None
        self.found: dict[Any, Any] = {}
        self.left: dict[bytes, bytes | None] = {}

    @property
    def names(self) -> tuple[bytes, ...]:
        """The own names of the cache's stamp and of the entries."""
        return self._core.shelf.names.stamp, *self._keys

    def take(self, blobs: Sequence[bytes | None]) -> None:
        """Take the replies; count hits and misses."""
        core, keys, found, left = self._core, self._keys, self.found, self.left
        shelf = core.shelf
        self._stamp = blobs[0]
        stamp = shelf.book.read(shelf.names.stamp, blobs[0]) or b""
        now_ms = int(core.clock() * 1000)
        size = 0
        there: dict[bytes, Any] = keys
        values = [blob for blob in blobs[1:] if blob is not None]
        if len(values) < len(keys):
            there = {name: keys[name] for name, blob in zip(keys, blobs[1:], strict=True) if blob is not None}
        misses = len(keys) - len(there)
        payloads = read_plain_each(shelf.vault.open_page(list(there), values), stamp, now_ms)
        # One by one until the value is there, as what lies in between may be large.
        for (name, key), blob, payload in zip(there.items(), values, payloads, strict=True):
            if payload is not None:
                try:
                    found[key] = decode_plain(payload)
                except CodecError:
                    pass
                else:
                    size += len(payload)
                    continue
            # The usual is done with; to find out what else it is, it is opened once more.
            if shelf.vault.open(name, blob) is not None and stamp:
                left[name] = blob
            else:
                misses += 1
        core.count_hits(len(found), size)
        if misses:
            core.stats.count("misses", misses)
        core.note_tampered()

    def look(self) -> Operation[list[Entry | None]]:
        """Return the entries that are left over, as far as they count. Mostly no round trip."""
        blobs = [self._stamp, *self.left.values()]
        return conclude(self._core.shelf, list(self.left), (), blobs, self._core.clock())

    def take_left(self, entries: Iterable[Entry | None]) -> None:
        """Take what `look` gave."""
        core, found = self._core, self.found
        for name, entry in zip(self.left, entries, strict=True):
            value = core.taken(name, entry)
            if value is not MISS:
                found[self._keys[name]] = value
        # In the order in which they were asked for, like all others.
        self.found = {key: found[key] for key in self._keys.values() if key in found}
        core.note_tampered()


def glance(core: Core, keys: Sequence[Any], version: int | str | None) -> Glance | None:
    """Return a look at entries, or ``None`` if they have to take the long way."""
    if core.near is not None or not 0 < len(keys) <= PAGE:
        return None
    by_name = dict(zip(core.entry_names(keys, version), keys, strict=True))
    hints = core.shelf.hints
    if hints and not hints.keys().isdisjoint(by_name):
        return None
    return Glance(core, by_name)
