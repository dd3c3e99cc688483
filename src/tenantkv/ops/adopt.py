"""Adopting keys: which they are, what one holds, and the commands that make it anew under an own name.

The same operations look at an original (driven by the connection without a namespace) and at its copy
(driven by the namespace's client, which opens what it had sealed), so that the two can be compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tenantkv.namespace import OURS
from tenantkv.ops.effects import Argument, Batch, Command, Operation
from tenantkv.ops.transfer import NEVER
from tenantkv.ops.values import read

#: Elements in one command that makes a collection.
_AT_ONCE = 100
_TYPES = frozenset({"string", "hash", "list", "set", "zset", "stream"})
#: Milliseconds by which two readings of the same TTL may differ.
_DRIFT_MS = 3000
#: Characters of a pattern in front of its first glob character.
SHORTEST_HEAD = 3


class CannotCopyError(Exception):
    """A value that cannot be made anew, element by element; its text says why."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A key as it was found.

    Attributes:
        type: as TYPE says.
        expires_at_ms: Unix milliseconds, or `NEVER`.
        version: changes when the value does; equal versions are equal values.
        dump: the server's own form; ``None`` where the server has no DUMP.
        rows: its elements, if they were asked for; ``None`` otherwise.
        field_expiry: of a hash's fields, those that expire: Unix milliseconds.
        problem: why it cannot be made element by element; empty if it can.
    """

    type: str
    expires_at_ms: int
    version: str
    dump: bytes | None = None
    rows: tuple[tuple[bytes, ...], ...] | None = None
    field_expiry: dict[bytes, int] = field(default_factory=dict)
    problem: str = ""


def literal_head(pattern: bytes) -> bytes:
    """Return what stands in a glob in front of its first special character."""
    return pattern[: next((at for at, each in enumerate(pattern) if each in b"*?[\\"), len(pattern))]


def own_name_of(name: bytes, strip: bytes) -> tuple[bytes, str]:
    """Return the own name that a key gets, and why it cannot have it; that is empty if it can."""
    own = name.removeprefix(strip)
    if not own:
        return own, "nothing is left of its name"
    if own.startswith(OURS):
        return own, "its name would begin as those that tenantkv keeps for itself"
    return own, ""


def same_time(first_ms: int, second_ms: int) -> bool:
    """Whether two readings of when a key expires tell the same."""
    if NEVER in (first_ms, second_ms):
        return first_ms == second_ms
    return abs(first_ms - second_ms) <= _DRIFT_MS


def same_value(first: Seen, second: Seen) -> bool:
    """Whether two keys hold the same; by their elements, or by their dumps where these were not read."""
    if first.type != second.type:
        return False
    if first.dump is not None and first.dump == second.dump:
        return True
    if first.rows is None or second.rows is None or first.type not in _TYPES:
        return False
    return bool(_canonical(first) == _canonical(second))


def look(names: Sequence[bytes], now_ms: int, *, elements: bool) -> Operation[list[Seen | None]]:
    """Look at some keys; ``None`` stands for those that are not there.

    One round trip, one more for strings if their elements are wanted, and some for each collection.

    Args:
        names: as the driver's side calls them.
        now_ms: Unix milliseconds.
        elements: whether to read them; read anyway where the server has no DUMP.
    """
    replies = yield Batch(
        [
            words
            for name in names
            for words in (("TYPE", name), ("PTTL", name), ("DUMP", name), ("PTTL", name))
        ]
    )
    found: list[Seen | None] = []
    strings: dict[int, bytes] = {}
    for at, name in enumerate(names):
        kind, before, dump, after = replies[4 * at : 4 * at + 4]
        for reply in (kind, before, after):
            if isinstance(reply, Exception):
                raise reply
        word = kind.decode("ascii", "replace")
        if isinstance(dump, Exception):
            dump = None
        elif dump is None:
            word = "none"
        if word == "none" or after == -2:
            found.append(None)
            continue
        times = [ttl for ttl in (before, after) if ttl >= 0]
        expires = now_ms + min(times) if times else NEVER
        version = "" if dump is None else "d" + hashlib.sha256(dump).hexdigest()[:32]
        seen = Seen(word, expires, version, dump)
        if elements or dump is None:
            if word == "string":
                strings[at] = name
            else:
                seen = yield from _with_elements(seen, name)
        found.append(seen)
    values = (yield Batch([("GET", name) for name in strings.values()])) if strings else []
    for at, value in zip(strings, values, strict=True):
        if isinstance(value, Exception):
            raise value
        old = found[at]
        assert old is not None
        found[at] = None if value is None else _full(old, ((value,),))
    return found


def _with_elements(seen: Seen, name: bytes) -> Operation[Seen]:
    if seen.type not in _TYPES:
        return _full(seen, None, problem=f"values of type {seen.type} cannot be read element by element")
    contents = yield from read(name, 0)
    rows = tuple(tuple(row) for row in contents.rows)
    if seen.type == "stream":
        groups = yield Command(("XINFO", "GROUPS", name), absent_ok=True)
        problem = "a stream with consumer groups" if groups else "" if rows else "a stream without entries"
        return _full(seen, rows, problem=problem and f"{problem} cannot be copied entry by entry")
    expiry: dict[bytes, int] = {}
    if seen.type == "hash" and rows:
        fields = [row[0] for row in rows]
        times = yield Command(("HPEXPIRETIME", name, "FIELDS", len(fields), *fields), absent_ok=True)
        expiry = {each: time for each, time in zip(fields, times or (), strict=False) if time > 0}
    return _full(seen, rows, expiry)


def _full(
    seen: Seen,
    rows: tuple[tuple[bytes, ...], ...] | None,
    expiry: dict[bytes, int] | None = None,
    *,
    problem: str = "",
) -> Seen:
    full = Seen(seen.type, seen.expires_at_ms, seen.version, seen.dump, rows, expiry or {}, problem)
    if seen.version:
        return full
    version = "c" + hashlib.sha256(repr((seen.type, _canonical(full))).encode()).hexdigest()[:32]
    return Seen(seen.type, seen.expires_at_ms, version, None, rows, expiry or {}, problem)


def _canonical(seen: Seen) -> Any:
    rows = seen.rows or ()
    if seen.type == "zset":
        return sorted((member, float(score)) for member, score in rows)
    return sorted(rows) if seen.type in ("hash", "set") else list(rows)


def making(own: bytes, seen: Seen, *, replace: bool) -> Iterator[tuple[Argument, ...]]:
    """Yield the commands that make a key of elements; not atomic.

    Args:
        own: the name it gets.
        seen: the original, with its elements.
        replace: whether there may be a key already.

    Raises:
        CannotCopyError: there is something that elements do not tell.
    """
    if seen.problem or seen.rows is None:
        raise CannotCopyError(seen.problem or "its elements were not read")
    expires = seen.expires_at_ms
    if seen.type == "string":
        # The TTL goes along, since a namespace may bind it into the seal.
        yield ("SET", own, seen.rows[0][0], *(() if expires == NEVER else ("PXAT", expires)))
        return
    if replace:
        yield ("DEL", own)
    if seen.type == "stream":
        for entry in seen.rows:
            yield ("XADD", own, *entry)
    else:
        word = {"hash": "HSET", "list": "RPUSH", "set": "SADD", "zset": "ZADD"}[seen.type]
        for start in range(0, len(seen.rows), _AT_ONCE):
            some = seen.rows[start : start + _AT_ONCE]
            # ZADD wants the score first.
            parts = [part for row in some for part in (reversed(row) if word == "ZADD" else row)]
            yield (word, own, *parts)
    for name, time in seen.field_expiry.items():
        yield ("HPEXPIREAT", own, time, "FIELDS", 1, name)
    if expires != NEVER:
        yield ("PEXPIREAT", own, expires)


def send(commands: Sequence[tuple[Argument, ...]]) -> Operation[list[Any]]:
    """Send commands and return their replies; errors stand among them. One round trip."""
    return (yield Batch(commands))  # type: ignore[no-any-return]


__all__ = [
    "SHORTEST_HEAD",
    "CannotCopyError",
    "Seen",
    "literal_head",
    "look",
    "making",
    "own_name_of",
    "same_time",
    "same_value",
    "send",
]
