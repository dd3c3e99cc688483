"""The near cache: entries that this process has seen, until the server says that they have changed.

Laws of this file:

1. Nothing is served beyond `trusted_until`, which a listener prolongs for as long as it hears from the
   server; a listener that lost its connection empties the store before it trusts again.
2. Who reads from the server says so first (`begin`), and the entry is kept only if no invalidation came in
   between (`finish`): it may be quicker than the reply, since it comes on another connection.
3. What callers may change is not shared: it is decoded anew for each.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Literal

from tenantkv.cache.sentinels import MISS
from tenantkv.cache.settings import Near
from tenantkv.cache.values import decode, is_immutable
from tenantkv.ops.cache_entry import FOREVER_MS, Entry
from tenantkv.ops.cache_names import Names

#: How a near cache learns of changes: from the server, from the cache's stream, or not (yet) at all.
NearMode = Literal["server", "stream", "off"]

_monotonic = time.monotonic
# About what Python keeps for an entry beside its value.
_OVERHEAD_BYTES = 400


class _Kept:
    __slots__ = ("entry", "expires", "is_shared", "is_used", "size", "tags", "value")

    def __init__(
        self, entry: Entry, value: Any, expires: float, tags: frozenset[bytes], size: int, is_shared: bool
    ) -> None:
        self.entry = entry
        self.value = value if is_shared else None
        self.expires = expires
        self.tags = tags
        self.size = size
        self.is_shared = is_shared
        self.is_used = False


class NearStore:
    """The entries, and whether they may be trusted. Threads may share it.

    Attributes:
        mode: how it learns of changes.
        epoch: how often it was emptied.
        trusted_until: on the clock of `time.monotonic`.

    Args:
        settings: how much it holds.
        names: of the cache whose entries it keeps.
        early: share of the early refresh, so that this process takes part in it.
        uniform: a random number from 0 to 1.
    """

    def __init__(self, settings: Near, names: Names, *, early: float, uniform: Callable[[], float]) -> None:
        self.settings = settings
        self.mode: NearMode = "off"
        self.epoch = 0
        self.trusted_until = 0.0
        self._names = names
        self._tag_heads = (names.base + b"tag:", names.base + b"htag:")
        self._early = early
        self._uniform = uniform
        self._forget()

    def get(self, name: bytes) -> Any:
        """Return the value of an entry, or `MISS`."""
        kept = self._entries.get(name)
        if kept is None:
            return MISS
        now = _monotonic()
        if now >= kept.expires or now >= self.trusted_until:
            return MISS
        kept.is_used = True
        return kept.value if kept.is_shared else decode(kept.entry)

    def kept(self, name: bytes) -> Any:
        """Return the value of an entry that may be out of date, while the server is away, or `MISS`."""
        kept = self._entries.get(name)
        if kept is None or time.time() * 1000 >= kept.entry.until_ms:
            return MISS
        return kept.value if kept.is_shared else decode(kept.entry)

    def begin(self, name: bytes) -> object:
        """Note that an entry is being read, and return a token for `finish`."""
        token = (self.epoch, next(self._numbers))
        pending = self._pending
        if len(pending) > self.settings.entries:
            # Of reads that failed; whoever is still reading does not keep what it gets.
            pending.clear()
        pending[name] = token
        return token

    def finish(self, name: bytes, token: object, entry: Entry, value: Any) -> None:
        """Keep an entry that was read, unless it changed meanwhile."""
        now = time.time()
        expires = self._life(entry, now)
        if expires <= 0 or value is MISS:
            self._pending.pop(name, None)
            return
        tags = frozenset(self._names.tag(tag) for tag, _ in entry.tags)
        size = len(entry.payload) + len(name) + _OVERHEAD_BYTES
        kept = _Kept(entry, value, _monotonic() + expires, tags, size, is_immutable(entry, value))
        with self._lock:
            if self._pending.pop(name, None) != token or size > self.settings.largest_bytes:
                return
            old = self._entries.pop(name, None)
            self._size += size - (old.size if old else 0)
            self._entries[name] = kept
            self._make_room()

    def _life(self, entry: Entry, now: float) -> float:
        """Return the seconds for which an entry is kept: to the moment at which it is refreshed early."""
        left = math.inf if entry.fresh_ms == FOREVER_MS else entry.fresh_ms / 1000 - now
        if entry.delta_ms and self._early:
            left += entry.delta_ms / 1000 * self._early * math.log(1.0 - self._uniform())
        return min(left, self.settings.staleness) if self.mode == "stream" else left

    def _make_room(self) -> None:
        """Remove the oldest that nobody used since they were last passed over."""
        settings, entries = self.settings, self._entries
        while len(entries) > settings.entries or self._size > settings.largest_bytes:
            name = next(iter(entries))
            kept = entries.pop(name)
            if kept.is_used:
                kept.is_used = False
                entries[name] = kept
            else:
                self._size -= kept.size

    # Changes

    def drop(self, name: bytes) -> None:
        """Forget what lies under an own name; all of it for a stamp."""
        if name == self._names.stamp:
            self.clear()
            return
        with self._lock:
            if name.startswith(self._tag_heads):
                self._pending.clear()
                for each in [n for n, kept in self._entries.items() if name in kept.tags]:
                    self._size -= self._entries.pop(each).size
                return
            self._pending.pop(name, None)
            kept = self._entries.pop(name, None)
            if kept is not None:
                self._size -= kept.size

    def drop_all(self, names: Iterable[bytes] | None) -> None:
        """Forget what lies under some own names; everything for ``None``."""
        if names is None:
            self.clear()
            return
        for name in names:
            self.drop(name)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self.epoch += 1
            self._pending.clear()
            self._entries.clear()
            self._size = 0

    def begin_trust(self, mode: NearMode) -> None:
        """Start anew, as a listener hears of all changes from now on."""
        self.clear()
        self.mode = mode
        self.prolong(_monotonic())

    def prolong(self, heard_at: float) -> None:
        """Note that the listener knows of all changes up to a moment, on the clock of `time.monotonic`."""
        self.trusted_until = heard_at + self.settings.staleness

    def end_trust(self) -> None:
        """Serve nothing, as the listener hears of no changes; what is there is kept for an outage."""
        self.trusted_until = 0.0
        self.mode = "off"
        self._pending.clear()

    def reset_after_fork(self) -> None:
        """Be empty and untrusted: the child of a fork has no listener."""
        self._forget()
        self.mode = "off"
        self.trusted_until = 0.0

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._entries: dict[bytes, _Kept] = {}
        self._pending: dict[bytes, object] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<NearStore {self.mode} entries={len(self)} bytes={self._size}>"
