"""The short way of `set` and `set_many`: entries without tags, in a cache of whose stamp this process knows.

What is written, and what it means, is what `ops.cache.write` writes; only the steps, drafts and effects
that other writes need are left out. Whatever is unusual takes the long way, as if this had not been tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenantkv.cache.core import Core
from tenantkv.cache.sentinels import MISS
from tenantkv.commands.own_batch import EntryBatch
from tenantkv.ops.cache import PAGE
from tenantkv.ops.cache_entry import FOREVER_MS, pack_plain
from tenantkv.ops.cache_vault import Vault
from tenantkv.secrets import Secret


class Parcel:
    """Entries that are ready to be sent.

    Attributes:
        commands: what to send, for one round trip.
    """

    __slots__ = ("_core", "_names", "_size", "_stamp", "commands")

    def __init__(self, core: Core, names: list[bytes], commands: EntryBatch, stamp: bytes, size: int) -> None:
        self.commands = commands
        self._core = core
        self._names = names
        self._stamp = stamp
        self._size = size

    def is_taken(self, replies: list[Any]) -> bool:
        """Say whether the server took all of it, under the stamp that counts; count."""
        core, count = self._core, len(self._names)
        for reply in replies:
            if isinstance(reply, Exception):
                return False
        if core.shelf.book.read(core.shelf.names.stamp, replies[-1]) != self._stamp:
            # Somebody cleared the cache since.
            return False
        core.stats.wrote(count, self._size)
        return True

    def lose(self, error: Exception) -> None:
        """Note that the server did not hear of it; raise `error` where that is what was asked for."""
        self._core.owed.add(names=tuple(self._names))
        self._core.outage(error)


def parcel(core: Core, items: Mapping[Any, Any], ttl: float | None) -> Parcel | None:
    """Return entries as they are to be sent, or ``None`` if they have to take the long way.

    Raises:
        CodecError: the codec cannot bring a value back as it is.
        RefusedError: one is too large, or looks like a secret (`PlaintextRefusedError`).
    """
    shelf, now = core.shelf, core.clock()
    settled = shelf.book.settled(shelf.names.stamp, now)
    if settled is None or core.near is not None or shelf.announces or not 0 < len(items) <= PAGE:
        return None
    if len(items) == 1:
        ((key, value),) = items.items()
        return _one(core, key, value, ttl, settled[1], now)
    return _many(core, items, ttl, settled[1], now)


def _one(core: Core, key: Any, value: Any, ttl: float | None, stamp: bytes, now: float) -> Parcel | None:
    """Do what `_many` does for one entry: most writes are, and have no use for its lists."""
    fresh_ms, until_ms = core.moments(ttl, now)
    if until_ms == FOREVER_MS or value is MISS or isinstance(value, Secret):
        return None
    shelf, name = core.shelf, core.entry_name(key)
    payload = core.payload(key, value)
    blob = shelf.vault.seal_plain(name, pack_plain(payload, stamp, fresh_ms, until_ms))
    leases = (shelf.names.lease(name),) if core.ends_leases else ()
    batch = EntryBatch(((name, blob, max(1, until_ms - int(now * 1000))),), shelf.names.stamp, leases)
    return Parcel(core, [name], batch, stamp, len(payload))


def _many(core: Core, items: Mapping[Any, Any], ttl: float | None, stamp: bytes, now: float) -> Parcel | None:
    is_jittered = core.settings.jitter > 0
    fresh_ms, until_ms = core.moments(ttl, now)
    if until_ms == FOREVER_MS:
        return None
    shelf, names = core.shelf, core.entry_names(list(items))
    bodies: list[bytes] = []
    lives: list[int] = []
    size, now_ms = 0, int(now * 1000)
    for key, value in items.items():
        if value is MISS or isinstance(value, Secret):
            return None
        if is_jittered:
            fresh_ms, until_ms = core.moments(ttl, now)
        payload = core.payload(key, value)
        bodies.append(pack_plain(payload, stamp, fresh_ms, until_ms))
        lives.append(max(1, until_ms - now_ms))
        size += len(payload)
    leases = list(map(shelf.names.lease, names)) if core.ends_leases else ()
    batch = EntryBatch(
        list(zip(names, _seal(shelf.vault, names, bodies), lives, strict=True)), shelf.names.stamp, leases
    )
    return Parcel(core, names, batch, stamp, size)


def _seal(vault: Vault, names: list[bytes], bodies: list[bytes]) -> list[bytes]:
    """Return bodies in their envelopes: one by one where each may be compressed."""
    if not vault.compresses:
        return vault.seal_page(names, bodies)
    return [vault.seal_plain(name, body) for name, body in zip(names, bodies, strict=True)]
