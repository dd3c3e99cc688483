"""Moving keys between a server and a file: read and made a few at a time, with the time when they expire.

A value travels in the server's own form (DUMP, RESTORE), so sealed values stay sealed, and open again where
the same keyring and own name are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tenantkv.ops.effects import Batch, Operation

#: Keys in one round trip, and how many bytes they may take before there is another one.
LOT = 100
LOT_BYTES = 4 * 1024 * 1024

#: What stands for no expiry.
NEVER = -1


@dataclass(frozen=True, slots=True)
class Record:
    """One key.

    Attributes:
        name: its own name.
        expires_at_ms: Unix milliseconds, or `NEVER`.
        dump: its value, as DUMP gives it.
    """

    name: bytes
    expires_at_ms: int
    dump: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a record: ``made``, ``kept`` (there was a key), ``expired`` or ``failed``."""

    name: bytes
    result: str
    error: str = ""


def sizes(names: Sequence[bytes]) -> Operation[list[int]]:
    """Return about how many bytes each of some keys takes; 0 if nobody knows. One round trip."""
    replies = yield Batch([("MEMORY", "USAGE", name) for name in names])
    return [reply if isinstance(reply, int) else 0 for reply in replies]


def lots(names: Sequence[bytes], taken: Sequence[int]) -> list[list[bytes]]:
    """Put names into lots that are not too long for one round trip."""
    found: list[list[bytes]] = []
    room = 0
    for name, size in zip(names, taken, strict=True):
        if not found or size > room or len(found[-1]) >= LOT:
            found.append([])
            room = LOT_BYTES
        found[-1].append(name)
        room -= size
    return found


def fetch(names: Sequence[bytes], now_ms: int) -> Operation[list[Record]]:
    """Read some keys; those that have gone are left out. One round trip.

    The TTL is read before and after the value: of a key that somebody makes anew in between it is
    the one that goes with neither, so the shorter counts.

    Args:
        names: own names.
        now_ms: Unix milliseconds.
    """
    replies = yield Batch(
        [command for name in names for command in (("PTTL", name), ("DUMP", name), ("PTTL", name))]
    )
    records = []
    for at, name in enumerate(names):
        before, dump, after = replies[3 * at : 3 * at + 3]
        for reply in (before, dump, after):
            if isinstance(reply, Exception):
                raise reply
        if dump is None or after == -2:
            continue
        times = [ttl for ttl in (before, after) if ttl >= 0]
        records.append(Record(name, now_ms + min(times) if times else NEVER, dump))
    return records


def make(records: Iterable[Record], now_ms: int, *, overwrite: bool) -> Operation[list[Outcome]]:
    """Make keys of records, with what is left of their time. One round trip.

    Args:
        records: a lot of them.
        now_ms: Unix milliseconds.
        overwrite: whether a key that is there already is replaced, or kept.
    """
    outcomes: list[Outcome] = []
    due: list[Record] = []
    for record in records:
        if NEVER < record.expires_at_ms <= now_ms:
            outcomes.append(Outcome(record.name, "expired"))
        else:
            due.append(record)
    replace = ("REPLACE",) if overwrite else ()
    commands = [
        (
            "RESTORE",
            record.name,
            0 if record.expires_at_ms == NEVER else record.expires_at_ms - now_ms,
            record.dump,
            *replace,
        )
        for record in due
    ]
    replies = (yield Batch(commands)) if commands else []
    for record, reply in zip(due, replies, strict=True):
        if not isinstance(reply, Exception):
            outcomes.append(Outcome(record.name, "made"))
        elif "BUSYKEY" in str(reply):
            outcomes.append(Outcome(record.name, "kept"))
        else:
            outcomes.append(Outcome(record.name, "failed", str(reply)))
    return outcomes


__all__ = ["LOT", "LOT_BYTES", "NEVER", "Outcome", "Record", "fetch", "lots", "make", "sizes"]
