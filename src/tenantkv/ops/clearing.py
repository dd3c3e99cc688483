"""Clearing: deleting own keys, sorted so that nothing goes that nobody meant.

Laws of this file: the keys of queues, locks and other primitives go only when they are asked for by name;
keys are deleted one a command, by their own names, so a neighbour's can never be among them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tenantkv.commands.globs import glob_regex
from tenantkv.namespace import PRIMITIVES
from tenantkv.ops import registry
from tenantkv.ops.effects import Batch, Operation
from tenantkv.ops.registry import Registrar

#: Keys that go in one round trip.
LOT = 500

_CACHES = PRIMITIVES + b"cache:"
_KNOWN = frozenset(b"cache celery directory lock queue rate rwlock semaphore".split())


def primitive_of(name: bytes) -> str | None:
    """Return which primitive a key belongs to, or ``None`` for a plain one; names can be planted."""
    if not name.startswith(PRIMITIVES):
        return None
    word = name[len(PRIMITIVES) :].partition(b":")[0]
    return word.decode() if word in _KNOWN else "other"


def sort_out(names: Iterable[bytes], only: bytes | None) -> tuple[list[bytes], Counter[str]]:
    """Return the names to delete, and how many of which primitive stay.

    Args:
        names: all own names.
        only: ``None`` for plain keys and caches; what names of caches begin with; or a glob of plain keys.
    """
    chosen: list[bytes] = []
    kept: Counter[str] = Counter()
    pattern = None if only is None or only.startswith(PRIMITIVES) else glob_regex(only)
    for name in names:
        primitive = primitive_of(name)
        if only is None:
            is_chosen = primitive in (None, "cache")
        elif pattern is None:
            is_chosen = name.startswith(only) and name.startswith(_CACHES)
        else:
            is_chosen = primitive is None and pattern.fullmatch(name) is not None
        if is_chosen:
            chosen.append(name)
        elif primitive is not None:
            kept[primitive] += 1
    return chosen, kept


def delete(names: Sequence[bytes], registrar: Registrar | None, now: float) -> Operation[int]:
    """Delete keys and take them out of the registry; how many there were. Two round trips for a lot."""
    replies = yield Batch([("UNLINK", name) for name in names])
    deleted = 0
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
        deleted += reply
    if registrar is not None:
        registrar.forget(names)
        # By name and not the shards themselves: others may be writing meanwhile.
        yield from registry.drop(names, now, registrar.cover)
    return deleted


def existing(names: Sequence[bytes]) -> Operation[list[bytes]]:
    """Return those names that have keys. One round trip."""
    replies = yield Batch([("EXISTS", name) for name in names])
    return [name for name, reply in zip(names, replies, strict=True) if reply == 1]


__all__ = ["LOT", "delete", "existing", "primitive_of", "sort_out"]
