"""Stamps: random bytes that say under which state of a cache, or of a tag, an entry was made.

Laws of this file:

1. An entry counts only under the stamps that it carries, all of them. An absent stamp is a miss: a
   counter in its place would begin anew when the server evicts it, and bring old entries back.
2. A stamp is never computed from anything; replacing it by other random bytes is a clear.
3. It lies in an envelope of its own, bound to its name, so that a neighbour can bring back an old
   one at the most, and with it what was valid under that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tenantkv.errors import OpenError
from tenantkv.ops.cache_entry import STAMP_BYTES
from tenantkv.ops.cache_vault import EntrySealer
from tenantkv.ops.effects import Batch, Call, Operation
from tenantkv.ops.scripts import script

# Names of tags that a process remembers; the book is a memory of what was opened, never of what counts.
_KNOWN_AT_MOST = 10_000

# Repeatable: prolonging a life twice is prolonging it once.
KEEP = script("cache_keep", repeatable=True)

Entropy = Callable[[int], bytes]


class StampBook:
    """Opens stamps, and remembers what it opened, so that reading a known one costs a comparison.

    Args:
        sealer: signs and opens them; a `Sealer` or a `LiveSealer`.
        entropy: fresh random bytes.
        lifetime_ms: how long the server keeps a stamp that nobody prolongs.
        keep_every: seconds after which a process that writes prolongs it.
    """

    __slots__ = ("_entropy", "_kept", "_known", "_sealer", "keep_every", "lifetime_ms", "tampered")

    def __init__(self, sealer: EntrySealer, *, entropy: Entropy, lifetime_ms: int, keep_every: float) -> None:
        self._sealer = sealer
        self._entropy = entropy
        self._known: dict[bytes, tuple[bytes, bytes]] = {}
        self._kept: dict[bytes, float] = {}
        self.lifetime_ms = lifetime_ms
        self.keep_every = keep_every
        #: How many stamps did not open.
        self.tampered = 0

    def read(self, name: bytes, blob: bytes | None) -> bytes | None:
        """Return the stamp in what the server holds under a name, or ``None`` if it is none."""
        if blob is None:
            return None
        known = self._known.get(name)
        if known is not None and known[0] == blob:
            return known[1]
        try:
            stamp = self._sealer.open(blob, kind="cache", name=name)
        except OpenError:
            stamp = b""
        if len(stamp) != STAMP_BYTES:
            self.tampered += 1
            return None
        self.learn(name, blob, stamp)
        return stamp

    def read_all(self, names: Sequence[bytes], blobs: Sequence[bytes | None]) -> list[bytes | None]:
        """Return what `read` gives for each."""
        return [self.read(name, blob) for name, blob in zip(names, blobs, strict=True)]

    def known(self, names: Iterable[bytes]) -> list[bytes] | None:
        """Return the stamps seen last under these names, if each was seen."""
        found = [self._known.get(name) for name in names]
        return None if None in found else [pair[1] for pair in found if pair is not None]

    def settled(self, name: bytes, now: float) -> tuple[bytes, bytes] | None:
        """Return what was seen last under a name, and the stamp in it, if it is not time to prolong it."""
        known = self._known.get(name)
        if known is None or now - self._kept.get(name, -1e18) >= self.keep_every:
            return None
        return known

    def learn(self, name: bytes, blob: bytes, stamp: bytes) -> None:
        """Remember a stamp."""
        if len(self._known) >= _KNOWN_AT_MOST:
            self._known.clear()
            self._kept.clear()
        self._known[name] = (blob, stamp)

    def make(self, name: bytes) -> bytes:
        """Return a new stamp in its envelope."""
        stamp = self._entropy(STAMP_BYTES)
        return self._sealer.seal(stamp, kind="cache", name=name)

    def due(self, names: Iterable[bytes], now: float) -> list[bytes]:
        """Return the stamps that this process should prolong with its next write, and note that it does."""
        found = [name for name in names if now - self._kept.get(name, -1e18) >= self.keep_every]
        self._kept.update(dict.fromkeys(found, now))
        return found


def ensure(book: StampBook, names: Sequence[bytes]) -> Operation[list[bytes]]:
    """Return the stamps of these names, as the server has them; those that it lacks are made.

    One round trip if all are there, else two, or three for one that a neighbour replaced.
    """
    found = book.read_all(names, (yield from _read(names)))
    for overwrites in (False, True):
        missing = [name for name, stamp in zip(names, found, strict=True) if stamp is None]
        if not missing:
            break
        condition = () if overwrites else ("NX",)
        made = [("SET", name, book.make(name), "PX", book.lifetime_ms, *condition) for name in missing]
        replies = yield Batch([*made, ("MGET", *names)])
        if isinstance(replies[-1], Exception):
            raise replies[-1]
        found = book.read_all(names, replies[-1])
    # Whoever fights over a stamp with a neighbour gets one that nobody has: its writes are misses.
    return [stamp if stamp is not None else bytes(STAMP_BYTES) for stamp in found]


def _read(names: Sequence[bytes]) -> Operation[list[bytes | None]]:
    (blobs,) = yield Batch([("MGET", *names)])
    if isinstance(blobs, Exception):
        raise blobs
    found: list[bytes | None] = blobs
    return found


def replace(book: StampBook, names: Sequence[bytes], *extra: Sequence[object]) -> Operation[None]:
    """Put new stamps in the place of these: everything that was made under them is gone. One round trip.

    Args:
        book: makes them.
        names: the stamps.
        extra: commands to send along.
    """
    made = [(name, book.make(name)) for name in names]
    commands = [("SET", name, blob, "PX", book.lifetime_ms) for name, blob in made]
    replies = yield Batch([*commands, *extra])  # type: ignore[list-item]
    for (name, blob), reply in zip(made, replies, strict=False):
        if isinstance(reply, Exception):
            raise reply
        # Known at once, so that the next write needs no look.
        book.read(name, blob)


def keep(book: StampBook, names: Sequence[bytes], *, for_ever: bool) -> Call:
    """Return the call that prolongs stamps, and ends their end if an entry is to stay for ever."""
    return Call(KEEP, names, (0 if for_ever else book.lifetime_ms,))
