"""The values of keys, page by page: which are to be sealed anew, and their replacement; see `reseal.py`."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tenantkv.commands.own_scripts import REPLACING_EVAL, REPLACING_EVALSHA
from tenantkv.envelope import LARGEST_VALUE_BYTES, Sealer
from tenantkv.envelope_header import Kind, read_header_unverified
from tenantkv.errors import OpenError
from tenantkv.ops.effects import Batch, Call, Operation
from tenantkv.ops.reseal_tally import UNKNOWN, Problem, Tally
from tenantkv.ops.scripts import script

KINDS: dict[bytes, Kind] = {
    b"string": "kv",
    b"hash": "hash",
    b"list": "list",
    b"set": "set",
    b"zset": "set",
    b"stream": "stream",
}
#: Keys that are read in one round trip, and swapped in another.
LOT = 32
PAGE_ELEMENTS = 64
PAGE_BYTES = 64 * 1024
#: How often a page is read again in which others changed something meanwhile.
ATTEMPTS = 5

_SWAPS_AT_ONCE = 32
# Of a name in the report, in bytes. Anybody can plant longer ones, and many.
_LONGEST_NAME = 1024
# Longer ones are none of ours.
_LONGEST_BYTES = LARGEST_VALUE_BYTES + 64
# As HEAD in lua/reseal_swap.lua.
_HEAD_BYTES = 64
# A key is given up that has grown to so many times its size, and then so many elements.
_PATIENCE = 4
_PATIENCE_FOR_SMALL = 10_000
_TOLD_TWICE = frozenset({b"hash", b"set", b"zset"})
_READ = script("reseal_read", repeatable=True)
_SWAP = script("reseal_swap", repeatable=True)

# What was read and what shall be: where, old, new, and the old one's key.
_Swap = tuple[Any, bytes, bytes, str]


class _QuietCall(Call):
    """A call that the registry does not hear of: it would take the hidden name for an own one."""

    __slots__ = ()

    @property
    def by_digest(self) -> tuple[Any, ...]:
        return REPLACING_EVALSHA, self.script.sha, len(self.keys), *self.keys, *self.arguments

    @property
    def whole(self) -> tuple[Any, ...]:
        return REPLACING_EVAL, self.script.body, len(self.keys), *self.keys, *self.arguments


@dataclass(slots=True)
class Walk:
    """One key on its way from the first page to the last.

    Attributes:
        name: the own name.
        key: what stands for it on the server.
        sealer: whose envelopes its values have.
        kind: of these; by the type if left out.
        names: what may stand in their seals: a context, and the own name.
        cursor: of the page to read.
        alone: whether that page is too long to be read together with others.
        again: whether this is the second walk over a list, from its end.
        attempts: how often that page was read.
        type: of the key, as of the last page.
        size: how many elements it has, likewise.
        most: how many elements are looked at, and no more: others may add faster than we read.
        seen: how many were looked at.
        done: how many were sealed anew.
        done_before: the same, when its page was read for the first time.
        current: how many the primary has sealed, among those that were looked at.
        plain: how many are not sealed.
        problems: how many values were left, by reason.
    """

    name: bytes
    key: bytes
    sealer: Sealer
    kind: Kind | None
    names: tuple[bytes, ...]
    cursor: bytes = b"0"
    alone: bool = False
    again: bool = False
    attempts: int = 0
    type: bytes = b""
    size: int = 0
    most: int = 0
    seen: int = 0
    done: int = 0
    done_before: int = 0
    current: int = 0
    plain: int = 0
    problems: dict[str, int] = field(default_factory=dict)

    def note(self, reason: str, count: int = 1) -> None:
        self.problems[reason] = self.problems.get(reason, 0) + count


class Walks:
    """The keys that are on their way, a few of which move on by a page with each lot.

    Args:
        ids: the document's id of each of the namespace's keys.
        path: of children, for the report.
        is_dry: look and count, and change nothing.
        tally: where everything is counted.
    """

    def __init__(self, ids: Mapping[str, str], path: tuple[str, ...], tally: Tally, *, is_dry: bool) -> None:
        self._ids = ids
        self._path = path
        self._is_dry = is_dry
        self._walks: deque[Walk] = deque()
        self.tally = tally

    def __len__(self) -> int:
        return len(self._walks)

    def add(self, walk: Walk) -> None:
        """Let a key wait for its turn."""
        self._walks.append(walk)

    def do_lot(self) -> Operation[None]:
        """Read a page of each of some keys, and swap what is to be swapped: one or two round trips."""
        lot = [self._walks.popleft()]
        while self._walks and len(lot) < LOT and not (lot[0].alone or self._walks[0].alone):
            lot.append(self._walks.popleft())
        try:
            pages = yield Batch([_read(walk) for walk in lot])
            wanted = [self._look(walk, page) for walk, page in zip(lot, pages, strict=True)]
            swapped = yield from self._swap(lot, wanted)
        except BaseException:
            # Not lost for whoever goes on with this object after a failure.
            self._walks.extendleft(reversed(lot))
            raise
        more = [
            walk
            for walk, page, swaps, results in zip(lot, pages, wanted, swapped, strict=True)
            if self._settle(walk, page, swaps, results)
        ]
        self._walks.extendleft(reversed(more))

    def _look(self, walk: Walk, page: Any) -> list[_Swap | str]:
        """Return for each envelope of a page the swap to make, or the id of the key if there is none."""
        if isinstance(page, Exception):
            raise page
        if walk.type not in (b"", page[0]):
            # Somebody else has put another type in its place, which the script has begun to read.
            walk.again, walk.cursor = False, b"0"
        walk.type = page[0]
        kind = walk.kind or KINDS.get(page[0])
        found: list[_Swap | str] = []
        for where, old in zip(page[6::2], page[7::2], strict=True):
            key_id = self._id_of(old)
            at_field = where if kind in ("hash", "stream") else b""
            new = None if kind is None else _anew(walk, old, kind, at_field)
            if new is None:
                found.append(key_id)
            elif walk.type == b"string":
                found.append((len(old), old[:_HEAD_BYTES], new, key_id))
            else:
                found.append((where, old, new, key_id))
        return found

    def _swap(self, lot: list[Walk], wanted: list[list[_Swap | str]]) -> Operation[list[list[int]]]:
        calls: list[Call] = []
        owners: list[int] = []
        for number, (walk, found) in enumerate(zip(lot, wanted, strict=True)):
            swaps = [each for each in found if not isinstance(each, str)]
            if self._is_dry or walk.type == b"stream":
                continue
            for start in range(0, len(swaps), _SWAPS_AT_ONCE):
                parts = [part for swap in swaps[start : start + _SWAPS_AT_ONCE] for part in swap[:3]]
                calls.append(_QuietCall(_SWAP, [walk.key], [walk.type, *parts]))
                owners.append(number)
        results: list[list[int]] = [[] for _ in lot]
        replies = (yield Batch(calls)) if calls else []
        for number, reply in zip(owners, replies, strict=True):
            if isinstance(reply, Exception):
                raise reply
            results[number] += reply
        return results

    def _settle(self, walk: Walk, page: Any, found: list[_Swap | str], results: list[int]) -> bool:
        """Count a page and go on to the next; whether there is one."""
        onward = _cursor(page[1])
        size, seen, current, plugins = page[2:6]
        if onward == b"alone":
            walk.alone = True
            return True
        swaps = [each for each in found if not isinstance(each, str)]
        if self._is_dry and walk.type != b"stream":
            results = [1] * len(swaps)
        done = sum(result > 0 for result in results)
        merged = results.count(2)
        self.tally.resealed += done
        self.tally.merged += merged
        walk.done += done
        walk.attempts += 1
        if 0 in results and walk.attempts < ATTEMPTS:
            return True
        self._count_left(walk, found, results)
        if not walk.again:
            # Of a page that was read again, what was sealed anew before does not count once more.
            walk.current += max(0, current - (walk.done - done - walk.done_before))
            walk.plain += seen - current - plugins - len(found)
            self.tally.plugins += plugins
        walk.seen += seen
        walk.most = walk.most or _PATIENCE * size + _PATIENCE_FOR_SMALL
        walk.size, walk.done_before = size - merged, walk.done
        walk.attempts, walk.alone = 0, False
        return self._go_on(walk, onward)

    def _count_left(self, walk: Walk, found: list[_Swap | str], results: list[int]) -> None:
        if not walk.again:
            for each in found:
                if isinstance(each, str):
                    self._leave(walk, each, "unopened")
        swaps = [each for each in found if not isinstance(each, str)]
        if walk.type == b"stream":
            for swap in swaps:
                self._leave(walk, swap[3], "streams")
        for swap, result in zip(swaps, results, strict=False):
            if result == 0:
                self._leave(walk, swap[3], "changing")

    def _leave(self, walk: Walk, key_id: str, reason: str) -> None:
        self.tally.leave(key_id, reason)
        walk.note(reason)

    def _go_on(self, walk: Walk, onward: bytes) -> bool:
        was_whole = walk.cursor == b"0" and onward == b"0"
        walk.cursor = onward
        is_list_again = walk.type == b"list" and not (was_whole or walk.again or self._is_dry)
        if walk.seen > walk.most and (onward != b"0" or is_list_again):
            self._leave(walk, UNKNOWN, "changing")
        elif onward != b"0":
            return True
        elif is_list_again:
            # Once more from the end: elements that left at the beginning have moved the others towards it,
            # past the place of the walk. They do not do that to a walk from the other end.
            walk.again, walk.cursor = True, b"-1"
            return True
        self._end(walk)
        return False

    def _end(self, walk: Walk) -> None:
        self.tally.plain += walk.plain
        if walk.type in _TOLD_TWICE:
            # The server may tell an element twice, and the new one for an old one that it has told.
            walk.current = max(0, walk.size - walk.done - walk.plain - sum(walk.problems.values()))
        self.tally.current += walk.current
        for reason, count in walk.problems.items():
            name = walk.name[:_LONGEST_NAME].decode("utf-8", "surrogateescape")
            self.tally.list_problem(Problem(name, self._path, walk.type.decode(), reason, count))

    def _id_of(self, blob: bytes) -> str:
        header = read_header_unverified(blob)
        return UNKNOWN if header is None else self._ids.get(header.key_id, UNKNOWN)


def _read(walk: Walk) -> Call:
    primary = bytes.fromhex(walk.sealer.keyring.primary.id)
    settings = (PAGE_ELEMENTS, PAGE_BYTES, _LONGEST_BYTES, int(walk.alone))
    return _QuietCall(_READ, [walk.key], [primary, walk.type, walk.cursor, *settings])


def _anew(walk: Walk, old: bytes, kind: Kind, at_field: bytes) -> bytes | None:
    """Return a value's new envelope, or ``None`` if the old one does not open."""
    for name in walk.names:
        try:
            return walk.sealer.reseal(old, kind=kind, name=name, field=at_field)
        except OpenError:
            continue
    return None


def _cursor(raw: Any) -> bytes:
    return raw if isinstance(raw, bytes) else b"%d" % raw


__all__ = ["KINDS", "Walk", "Walks"]
