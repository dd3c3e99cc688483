"""The directory: which locks, semaphores and queues a namespace has used, so that they can be listed.

Their keys have hidden names, and the server may offer no SCAN. So each process notes a name when it first
uses it, and at most once an hour from then on::

    tkv:directory    hash: <primitive>:<hidden name> to a sealed {"primitive", "name", "seen"}

An entry says that the name was used, not that there is something under it now: who lists asks the server
about each. Noting is for convenience and never in the way: a lost, full, forged or evicted directory costs
a listing, until the processes that still use their names note them again.

How a shell notes (one round trip an hour, before its own first one; errors are not the caller's)::

    memory = memory_of(namespace)  # one `DirectoryMemory` for each namespace of this process
    if memory.take(primitive, name, time.monotonic()):
        client.run(directory.note(namespace, client.sealer, "queue", name, time.time()))
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol
from weakref import WeakKeyDictionary

from tenantkv.errors import OpenError
from tenantkv.namespace import PRIMITIVES, Namespace
from tenantkv.ops.effects import Batch, Call, Command, Operation
from tenantkv.ops.scripts import script

KEY = PRIMITIVES + b"directory"
#: Seconds between two notes of a name by one process.
REFRESH = 3600.0
#: Seconds after which an entry that nobody has renewed is no longer listed, and the key's TTL.
LIFETIME = 30 * 24 * 3600
#: Entries; beyond, a new one takes the place of some other.
CAPACITY = 4096

_NOTE = script("directory_note", repeatable=True)
# What one process remembers; beyond, it notes its names once more.
_MEMORY = 4096
_PAGE = 200
# A hash that somebody filled is read so far and no further.
_PAGES_AT_MOST = 4 * CAPACITY // _PAGE


class Sealing(Protocol):
    """What is needed of a sealer."""

    def seal(self, value: bytes, *, kind: Literal["registry"], name: bytes, field: bytes) -> bytes:
        """See `tenantkv.sealing.LiveSealer.seal`."""
        ...

    def open(self, blob: bytes, *, kind: Literal["registry"], name: bytes, field: bytes) -> bytes:
        """See `tenantkv.sealing.LiveSealer.open`."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One name that was used.

    Attributes:
        primitive: ``"lock"``, ``"semaphore"``, ``"queue"``, ...
        name: as its user called it.
        seen: when a process last noted it, in Unix seconds by its own clock.
    """

    primitive: str
    name: bytes
    seen: float


class DirectoryMemory:
    """What one process has noted of one namespace. Safe among threads: single dict operations."""

    __slots__ = ("_fresh_until",)

    def __init__(self) -> None:
        self._fresh_until: dict[tuple[str, bytes], float] = {}

    def take(self, primitive: str, name: bytes, now: float) -> bool:
        """Whether a name is to be noted; then it counts as noted for an hour.

        Args:
            primitive: see `Entry`.
            name: see `Entry`.
            now: monotonic seconds.
        """
        known = self._fresh_until
        if known.get((primitive, name), 0.0) > now:
            return False
        if len(known) >= _MEMORY:
            known.clear()
        known[primitive, name] = now + REFRESH
        return True


# Gone with its namespace.
_memories: WeakKeyDictionary[Namespace, DirectoryMemory] = WeakKeyDictionary()


def memory_of(namespace: Namespace) -> DirectoryMemory:
    """Return what this process has noted of a namespace."""
    memory = _memories.get(namespace)
    if memory is None:
        # Of two threads that come at once one wins, and both use its memory.
        memory = _memories.setdefault(namespace, DirectoryMemory())
    return memory


def field_of(namespace: Namespace, primitive: str, name: bytes) -> bytes:
    """Return the field under which a name stands; it tells the primitive and nothing of the name."""
    start = primitive.encode() + b":"
    return start + namespace.hidden_name(start + name)


def note(namespace: Namespace, sealer: Sealing, primitive: str, name: bytes, now: float) -> Operation[None]:
    """Write a name into the directory. One round trip, safe to repeat; what the server says is ignored.

    Args:
        namespace: whose directory.
        sealer: seals the entry.
        primitive: see `Entry`.
        name: see `Entry`.
        now: Unix seconds.
    """
    field = field_of(namespace, primitive, name)
    text = name.decode("utf-8", "surrogateescape")
    entry = json.dumps({"primitive": primitive, "name": text, "seen": int(now)}, separators=(",", ":"))
    sealed = sealer.seal(entry.encode(), kind="registry", name=KEY, field=field)
    # A batch, in which errors are replies: a refused note is not the caller's trouble.
    yield Batch([Call(_NOTE, [KEY], [field, sealed, LIFETIME, CAPACITY])])


def entries(
    namespace: Namespace, sealer: Sealing, now: float, *, primitive: str | None = None
) -> Operation[list[Entry]]:
    """Read the directory: entries that open, lie where they belong and are not stale, sorted by name.

    One round trip for each 200 entries, at most 82. What does not open was not written by this
    namespace, and is passed over.

    Args:
        namespace: whose directory.
        sealer: opens the entries.
        now: Unix seconds.
        primitive: only entries of this one.
    """
    found: dict[bytes, Entry] = {}
    cursor: bytes = b"0"
    for _ in range(_PAGES_AT_MOST):
        # Sent back as nothing where somebody put another type in the hash's place.
        reply = yield Command(("HSCAN", KEY, cursor, "COUNT", _PAGE), absent_ok=True)
        if reply is None:
            break
        cursor, flat = reply
        for field, blob in zip(flat[::2], flat[1::2], strict=True):
            for entry in _opened(namespace, sealer, field, blob):
                if entry.seen > now - LIFETIME and primitive in (None, entry.primitive):
                    found[field] = entry
        if cursor == b"0":
            break
    return sorted(found.values(), key=lambda entry: (entry.primitive, entry.name))


def _opened(namespace: Namespace, sealer: Sealing, field: bytes, blob: bytes) -> Iterator[Entry]:
    try:
        raw = json.loads(sealer.open(blob, kind="registry", name=KEY, field=field))
        entry = Entry(raw["primitive"], raw["name"].encode("utf-8", "surrogateescape"), float(raw["seen"]))
    except (OpenError, ValueError, KeyError, TypeError, AttributeError):
        return
    if field == field_of(namespace, entry.primitive, entry.name):
        yield entry
