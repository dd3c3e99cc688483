"""What keys cost: measured a lot at a time, and summed up by the first segment of their names.

Nothing that is measured counts as a use of the key, so idle times stay true.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tenantkv.namespace import PRIMITIVES
from tenantkv.ops.effects import Batch, Operation
from tenantkv.ops.registry import SHARDS, shard_key

#: Keys that are measured in one round trip, with four commands each.
LOT = 100
#: Measured of each group at the least, if it has so many.
_FEWEST_OF_GROUP = 20
#: What stands for the segment of a name that has none.
NO_SEGMENT = b"(no segment)"

DAY = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Measure:
    """One key.

    Attributes:
        name: its own name.
        type: as TYPE says.
        bytes: as MEMORY USAGE says, an estimate for large collections; ``None`` where there is no such
            command.
        ttl: seconds left; ``None`` for an immortal key.
        idle: seconds since somebody last used it; ``None`` where the server does not keep that (LFU).
    """

    name: bytes
    type: str
    bytes: int | None
    ttl: float | None
    idle: float | None


@dataclass(slots=True)
class Group:
    """Keys that begin alike.

    Attributes:
        keys: how many there are.
        measured: of how many of them the rest is known.
        bytes: of the measured ones.
        immortal: of the measured ones, without a TTL.
        immortal_bytes: of these.
        fresh_keys: of the measured ones, used within a day.
        fresh_bytes: of these.
        types: how many of the measured ones by type.
    """

    keys: int = 0
    measured: int = 0
    bytes: int = 0
    immortal: int = 0
    immortal_bytes: int = 0
    fresh_keys: int = 0
    fresh_bytes: int = 0
    types: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, measure: Measure) -> None:
        """Count a measured key."""
        size = measure.bytes or 0
        self.measured += 1
        self.bytes += size
        if measure.ttl is None:
            self.immortal += 1
            self.immortal_bytes += size
        if measure.idle is not None and measure.idle < DAY:
            self.fresh_keys += 1
            self.fresh_bytes += size
        count, total = self.types.get(measure.type, (0, 0))
        self.types[measure.type] = (count + 1, total + size)

    def scaled(self, value: int) -> int:
        """Return what a sum over the measured keys amounts to for all."""
        return round(value * self.keys / self.measured) if self.measured else 0


def measure(names: Sequence[bytes]) -> Operation[list[Measure]]:
    """Measure a lot of keys; those that have gone are left out. One round trip."""
    commands = [
        command
        for name in names
        for command in (
            ("TYPE", name),
            ("MEMORY", "USAGE", name),
            ("PTTL", name),
            ("OBJECT", "IDLETIME", name),
        )
    ]
    replies = yield Batch(commands)
    found = []
    for at, name in enumerate(names):
        kind, size, ttl, idle = replies[4 * at : 4 * at + 4]
        if isinstance(kind, Exception):
            raise kind
        if kind == b"none" or ttl == -2:
            continue
        found.append(
            Measure(
                name,
                kind.decode("ascii", "replace"),
                size if isinstance(size, int) else None,
                ttl / 1000 if isinstance(ttl, int) and ttl >= 0 else None,
                float(idle) if isinstance(idle, int) else None,
            )
        )
    return found


def registry_bytes() -> Operation[int]:
    """Return what the registry itself takes. One round trip."""
    replies = yield Batch([("MEMORY", "USAGE", shard_key(shard)) for shard in range(SHARDS)])
    return sum(reply for reply in replies if isinstance(reply, int))


def segment_of(name: bytes) -> bytes:
    """Return the first segment of a name; of a primitive's key what tells which one it is.

    Example:
        >>> segment_of(b"user:7:mail"), segment_of(b"tkv:cache:{pages}v1:front")
        (b'user', b'tkv:cache:{pages}')
    """
    if name.startswith(PRIMITIVES):
        word, _, rest = name[len(PRIMITIVES) :].partition(b":")
        tag, brace, _ = rest.partition(b"}")
        return PRIMITIVES + word + (b":" + tag + brace if brace else b"")
    segment, colon, _ = name.partition(b":")
    return segment if colon else NO_SEGMENT


def choose(
    names: Iterable[bytes], most: int, draw: Callable[[Sequence[bytes], int], Sequence[bytes]]
) -> list[bytes]:
    """Return the names to measure: of each group a share, and a few of each at the least.

    Args:
        names: all names.
        most: about how many to measure; 0 for all.
        draw: draws so many of many, without putting any back.
    """
    listed = list(names)
    if not most or len(listed) <= most:
        return listed
    by_group: dict[bytes, list[bytes]] = defaultdict(list)
    for name in listed:
        by_group[segment_of(name)].append(name)
    # With very many groups, a few of each would be more than was asked for.
    fewest = max(1, min(_FEWEST_OF_GROUP, most // len(by_group)))
    chosen: list[bytes] = []
    for group in by_group.values():
        wanted = max(fewest, len(group) * most // len(listed))
        chosen += group if wanted >= len(group) else draw(group, wanted)
    return chosen[: 2 * most]


def grouped(names: Iterable[bytes], measures: Iterable[Measure]) -> dict[bytes, Group]:
    """Sum up by first segment."""
    groups: dict[bytes, Group] = defaultdict(Group)
    for name in names:
        groups[segment_of(name)].keys += 1
    for each in measures:
        groups[segment_of(each.name)].add(each)
    return dict(groups)


__all__ = ["DAY", "LOT", "Group", "Measure", "choose", "grouped", "measure", "registry_bytes", "segment_of"]
