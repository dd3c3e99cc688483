"""The short way of `set` and `set_many`: entries without tags, in a cache of whose stamp this process knows.

What is written, and what it means, is what `ops.cache.write` writes; only the steps, drafts and effects
that other writes need are left out. Whatever is unusual takes the long way, as if this had not been tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenantkv.cache.core import Core
from tenantkv.cache.sentinels import MISS
from tenantkv.commands.own_scripts import OwnWord
from tenantkv.ops.cache import PAGE
from tenantkv.ops.cache_entry import FOREVER_MS, pack_plain
from tenantkv.secrets import Secret

_SET, _MGET, _UNLINK = OwnWord(b"SET"), OwnWord(b"MGET"), OwnWord(b"UNLINK")


class Parcel:
    """Entries that are ready to be sent.

    Attributes:
        commands: what to send, for one round trip.
    """

    __slots__ = ("_core", "_names", "_size", "_stamp", "commands")

    def __init__(
        self, core: Core, names: list[bytes], commands: list[tuple[Any, ...]], stamp: bytes, size: int
    ) -> None:
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
        if core.shelf.book.read(core.shelf.names.stamp, replies[count][0]) != self._stamp:
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
    stamp_name = shelf.names.stamp
    stamp = shelf.book.settled(stamp_name, now)
    if stamp is None or core.near is not None or shelf.announces or not 0 < len(items) <= PAGE:
        return None
    names: list[bytes] = []
    commands: list[tuple[Any, ...]] = []
    size, now_ms = 0, int(now * 1000)
    lifetime = core.lifetime(ttl)
    is_jittered = len(items) > 1 and core.settings.jitter > 0
    for key, value in items.items():
        if value is MISS or isinstance(value, Secret):
            return None
        if is_jittered:
            lifetime = core.lifetime(ttl)
        fresh_ms, until_ms = lifetime.moments(now)
        if until_ms == FOREVER_MS:
            return None
        name = core.entry_name(key)
        payload = core.payload(key, value)
        blob = shelf.vault.seal_plain(name, pack_plain(payload, stamp, fresh_ms, until_ms), len(payload))
        names.append(name)
        commands.append((_SET, name, blob, b"PX", max(1, until_ms - now_ms)))
        size += len(payload)
    commands.append((_MGET, stamp_name))
    commands.append((_UNLINK, *map(shelf.names.lease, names)))
    return Parcel(core, names, commands, stamp, size)
