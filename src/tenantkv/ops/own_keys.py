"""KEYS, SCAN, DBSIZE, RANDOMKEY and FLUSHDB for one's own names.

On a server that offers SCAN they walk over the keys of all tenants in pages and keep the own ones;
where it does not, they ask the registry. Neither blocks the server for long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tenantkv.commands.options import scan_options
from tenantkv.errors import ForbiddenCommandError
from tenantkv.ops import registry
from tenantkv.ops.effects import Batch, Command, Operation
from tenantkv.ops.registry import RESERVED, Registrar
from tenantkv.ops.registry_cover import PLAIN

PAGE = 1000
_DELETE_AT_ONCE = 500

Pick = Callable[[Sequence[bytes]], bytes]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a namespace holds.

    Attributes:
        keys: how many keys.
        bytes: the sum of ``MEMORY USAGE`` of those that were measured, scaled to all.
        immortal: how many of the measured ones have no TTL, scaled to all.
        source: ``"scan"`` or ``"registry"``.
        measured: how many keys were measured.
    """

    keys: int
    bytes: int
    immortal: int
    source: str
    measured: int


def emulate(words: Sequence[bytes], registrar: Registrar | None, pick: Pick, now: float) -> Operation[Any]:
    """Answer one of the five commands, given as words; the reply in Python's terms, names as bytes.

    Args:
        words: the command.
        registrar: the client's registry, if on.
        pick: draws one of many names.
        now: Unix seconds.

    Raises:
        ForbiddenCommandError: the server has no SCAN, and no registry is on.
    """
    name = words[0].upper()
    if name == b"SCAN":
        return (yield from _scan(list(words), registrar, now))
    source, names = yield from _all_names(name.decode(), registrar, now)
    if name == b"FLUSHDB":
        yield from _delete(names, source, registrar, now)
        return True
    names = _visible(names)
    if name == b"KEYS":
        return registry.matching(names, words[1])
    if name == b"DBSIZE":
        return len(names)
    return pick(names) if names else None


def _visible(names: Sequence[bytes]) -> list[bytes]:
    return [name for name in names if not name.startswith(RESERVED)]


def _all_names(command: str, registrar: Registrar | None, now: float) -> Operation[tuple[str, list[bytes]]]:
    """All names, the reserved ones among them, and their source: ``"scan"`` or ``"registry"``."""
    hidden = registrar is not None and registrar.cover is not PLAIN
    page = None if hidden else (yield Command(("SCAN", 0, "COUNT", PAGE), absent_ok=True))
    if page is None:
        known = _registry_or_refuse(command, registrar)
        # Who empties a namespace wants nothing left, not even what may be about to be written, or was
        # written by a host whose clock is ahead.
        grace = -registry.GRACE if command == "FLUSHDB" else None
        return "registry", (yield from registry.read_all(known, now, grace=grace))
    names = dict.fromkeys(page[1])
    while page[0] != b"0":
        page = yield Command(("SCAN", page[0], "COUNT", PAGE))
        names.update(dict.fromkeys(page[1]))
    return "scan", list(names)


def _registry_or_refuse(command: str, registrar: Registrar | None) -> Registrar:
    if registrar is None:
        raise ForbiddenCommandError(
            command,
            "this server offers no SCAN, so it cannot list your keys.",
            "Connect with registry=True: your keys are then listed from an index of their own.",
        )
    return registrar


def _scan(words: list[bytes], registrar: Registrar | None, now: float) -> Operation[tuple[int, list[bytes]]]:
    """SCAN from the registry: one shard a call, and its number as the cursor."""
    known = _registry_or_refuse("SCAN", registrar)
    options = {word: words[at] for word, at in scan_options(words)}
    shard = int(words[1]) if words[1].isdigit() else registry.SHARDS
    if shard >= registry.SHARDS:
        return 0, []
    names = registry.matching(
        (yield from registry.read_shards([shard], known, now)), options.get(b"MATCH", b"*")
    )
    if b"TYPE" in options and names:
        types = yield Batch([("TYPE", name) for name in names])
        wanted = options[b"TYPE"].lower()
        names = [name for name, kind in zip(names, types, strict=True) if kind == wanted]
    return (shard + 1) % registry.SHARDS, names


def _delete(names: Sequence[bytes], source: str, registrar: Registrar | None, now: float) -> Operation[None]:
    for start in range(0, len(names), _DELETE_AT_ONCE):
        # One key a command: in a Cluster the keys of one command must share a slot.
        yield Batch([("UNLINK", name) for name in names[start : start + _DELETE_AT_ONCE]])
    if registrar is not None:
        registrar.forget(names)
    if source == "registry":
        # Name by name and not the shards themselves: others may be writing meanwhile.
        yield from registry.drop(names, now, PLAIN if registrar is None else registrar.cover)


def usage(
    registrar: Registrar | None,
    sample: Callable[[Sequence[bytes]], Sequence[bytes]],
    now: float,
) -> Operation[Usage]:
    """Measure the namespace: its keys, their memory and how many never expire.

    Args:
        registrar: the client's registry, if on.
        sample: chooses the names to measure; two commands each, 250 names a round trip.
        now: Unix seconds.
    """
    source, found = yield from _all_names("NAMESPACE_USAGE", registrar, now)
    names = _visible(found)
    chosen = sample(names)
    size = immortal = measured = timed = 0
    for start in range(0, len(chosen), 250):
        lot = chosen[start : start + 250]
        replies = yield Batch(
            [command for name in lot for command in (("MEMORY", "USAGE", name), ("TTL", name))]
        )
        for memory, ttl in zip(replies[::2], replies[1::2], strict=True):
            if isinstance(memory, int):
                size += memory
                measured += 1
            # -2: the key has gone meanwhile.
            if isinstance(ttl, int) and ttl != -2:
                timed += 1
                immortal += ttl == -1
    count = len(names)
    return Usage(
        count,
        round(size * count / measured) if measured else 0,
        round(immortal * count / timed) if timed else 0,
        source,
        measured,
    )
