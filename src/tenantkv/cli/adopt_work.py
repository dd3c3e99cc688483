"""How keys are adopted: copied and read back, noticed when they change, finished or undone; a lot at a time.

Laws of this file:

1. What is about to be made stands in the journal before it is made, so that a run that was killed knows its
   own half-made keys from those of others. A key that was there before is never replaced.
2. A copy counts only after it was read back.
3. An original is deleted only while it is the one whose copy was read back (WATCH), and if a copy is there.
4. A copy is deleted only if nobody has changed it, and the original is there.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tenantkv.cli.adopt_journal import Entry, Journal
from tenantkv.cli.adopt_source import Source
from tenantkv.errors import TenantKVError
from tenantkv.ops.adopt import (
    CannotCopyError,
    Seen,
    look,
    making,
    own_name_of,
    same_time,
    same_value,
    send,
)
from tenantkv.ops.clearing import delete
from tenantkv.ops.transfer import LOT_BYTES, NEVER, sizes

_ATTEMPTS = 5
# Keys in one lot: two writes of the journal, which wait for the disk, are shared by so many.
_LOT = 500
_TAKEN = "the namespace has a key of that name already"
_CHANGING = "it kept changing: run it again"
_BOTH = "the original and the copy were both changed since: delete one of them"

Show = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Original:
    """A key that is there, and what it becomes."""

    name: bytes
    own: bytes
    seen: Seen
    #: What the journal says of it; ``None`` if it is new.
    entry: Entry | None

    @property
    def noted(self) -> tuple[Any, ...]:
        """What the journal has said of it."""
        entry = self.entry or Entry(self.own)
        return self.name, entry.own, entry.original, entry.copy, entry.expires_at_ms


class Adoption:
    """One run.

    Args:
        client: the namespace's.
        source: the connection without a namespace.
        journal: what was done before.
        show: is told how far it is.

    Attributes:
        counts: ``copied``, ``again`` (copied anew, as it had changed), ``current`` (copied before), ``gone``
            (originals that are no longer there), ``finished``, ``undone``.
        problems: originals that were left as they are, and why.
    """

    def __init__(self, client: Any, source: Source, journal: Journal, show: Show) -> None:
        self.counts: Counter[str] = Counter()
        self.problems: dict[bytes, str] = {}
        self._client = client
        self._source = source
        self._journal = journal
        self._show = show
        self._seals = client.namespace.protection.seal

    def copy(self, names: Sequence[bytes], strip: bytes) -> None:
        """Copy keys, or copy them again if they have changed since."""
        wanted = self._own_names(names, strip)
        for at, lot in self._lots(list(wanted)):
            self._copy_lot(lot, wanted)
            self._show(at / len(wanted), f"{self.counts['copied'] + self.counts['again']} keys copied")

    def check(self, names: Sequence[bytes], strip: bytes) -> None:
        """Only look which originals are there, and what stands in their way."""
        wanted = self._own_names(names, strip)
        for at, lot in self._lots(list(wanted)):
            found = self._source.run(look(lot, _now_ms(), elements=self._seals))
            copies = self._client.run(look([wanted[name] for name in lot], _now_ms(), elements=False))
            for name, seen, copy in zip(lot, found, copies, strict=True):
                if seen is None:
                    self.counts["gone"] += 1
                elif copy is not None and name not in self._journal.entries:
                    self.problems[name] = _TAKEN
                elif seen.problem and self._seals:
                    self.problems[name] = seen.problem
            self._show(at / len(wanted), f"{at} keys looked at")

    def finish(self) -> None:
        """Delete the originals whose copies were read back; copy those again that have changed."""
        self._journal.record("finish")
        wanted = {name: entry.own for name, entry in self._journal.entries.items()}
        for at, lot in self._lots(list(wanted)):
            # One key that changes keeps a whole lot from being deleted, so then each goes alone.
            for name in self._finish_lot(lot, wanted):
                if not any(not self._finish_lot([name], wanted) for _ in range(_ATTEMPTS)):
                    self.problems[name] = _CHANGING
            self._show(at / len(wanted), f"{self.counts['finished']} originals deleted")

    def undo(self) -> None:
        """Delete the copies that nobody has changed and whose originals are there."""
        names = list(self._journal.entries)
        for at, lot in self._lots(names):
            self._undo_lot(lot)
            self._show(at / len(names), f"{self.counts['undone']} copies deleted")

    def _own_names(self, names: Sequence[bytes], strip: bytes) -> dict[bytes, bytes]:
        """Return the own name of each original that can have one."""
        wanted: dict[bytes, bytes] = {}
        taken = {entry.own: name for name, entry in self._journal.entries.items()}
        for name in names:
            entry = self._journal.entries.get(name)
            own, problem = own_name_of(name, strip) if entry is None else (entry.own, "")
            if not self._source.is_outside(name):
                problem = "it is in the namespace already"
            elif taken.setdefault(own, name) != name:
                problem = "another one gets the same name"
            if problem:
                self.problems[name] = problem
            else:
                wanted[name] = own
        return wanted

    def _lots(self, names: list[bytes]) -> Iterator[tuple[int, list[bytes]]]:
        """Yield lots that are not too long for one round trip, and how many names come up to their end."""
        done, lot, room = 0, list[bytes](), LOT_BYTES
        for start in range(0, len(names), _LOT):
            some = names[start : start + _LOT]
            for name, size in zip(some, self._source.run(sizes(some)), strict=True):
                if lot and (size > room or len(lot) >= _LOT):
                    done += len(lot)
                    yield done, lot
                    lot, room = [], LOT_BYTES
                lot.append(name)
                room -= size
        if lot:
            yield done + len(lot), lot

    # Copying

    def _copy_lot(self, names: list[bytes], wanted: dict[bytes, bytes]) -> None:
        found = self._steady(names)
        originals = []
        for name in names:
            seen = found.get(name)
            if seen is None:
                self.counts["gone"] += name not in self.problems
                continue
            originals.append(Original(name, wanted[name], seen, self._journal.entries.get(name)))
        self._make(originals)

    def _steady(self, names: list[bytes], *, elements: bool = False) -> dict[bytes, Seen | None]:
        """Look at originals so that nobody changes one meanwhile; those that kept changing are problems."""
        self._source.watch(names)
        found = self._source.run(look(names, _now_ms(), elements=elements or self._seals))
        if self._source.is_unchanged(names[0]):
            return dict(zip(names, found, strict=True))
        alone: dict[bytes, Seen | None] = {}
        for name in names:
            for _ in range(_ATTEMPTS):
                self._source.watch([name])
                (seen,) = self._source.run(look([name], _now_ms(), elements=elements or self._seals))
                if self._source.is_unchanged(name):
                    alone[name] = seen
                    break
            else:
                self.problems[name] = _CHANGING
        return alone

    def _make(self, originals: list[Original]) -> None:
        """Make the copies that are not there, or no longer what the original is; read back and note them."""
        owns = [each.own for each in originals]
        copies = self._client.run(look(owns, _now_ms(), elements=False)) if owns else []
        due = [each for each, copy in zip(originals, copies, strict=True) if self._is_due(each, copy)]
        if not due:
            return
        self._journal.record("intent", [(each.name, each.own) for each in due])
        refused, failed = self._write(due)
        self._read_back([each for each in due if each.name not in refused and each.name not in failed])
        # Nothing was made of these. Of those that the server did not take, a part may be there.
        unmade = [(each.name,) for each in due if each.name in refused and each.entry is None]
        self._journal.record("dropped", unmade)
        self._journal.record("copied", [each.noted for each in due if each.name in refused and each.entry])
        self.problems.update({**refused, **failed})

    def _is_due(self, original: Original, copy: Seen | None) -> bool:
        entry, seen = original.entry, original.seen
        if entry is None:
            if copy is not None:
                self.problems[original.name] = _TAKEN
            return copy is None
        if copy is None or not entry.original:
            return True
        if not self._is_changed(entry, seen, copy):
            self.counts["current"] += 1
            return False
        if copy.version != entry.copy:
            self.problems[original.name] = _BOTH
            return False
        return True

    def _write(self, due: list[Original]) -> tuple[dict[bytes, str], dict[bytes, str]]:
        """Make keys; those of which nothing was made and those that failed on the server, and why."""
        refused: dict[bytes, str] = {}
        failed: dict[bytes, str] = {}
        lot: list[tuple[Original, list[tuple[Any, ...]]]] = []
        for each in due:
            try:
                lot.append((each, self._commands(each)))
            except CannotCopyError as error:
                refused[each.name] = str(error)
        try:
            self._send(lot, refused, failed)
        except TenantKVError:
            # One value was refused before anything was sent: which one?
            for one in lot:
                try:
                    self._send([one], refused, failed)
                except TenantKVError as error:
                    refused[one[0].name] = str(error)
        return refused, failed

    def _commands(self, original: Original) -> list[tuple[Any, ...]]:
        seen, is_new = original.seen, original.entry is None
        if self._seals or seen.dump is None:
            return list(making(original.own, seen, replace=not is_new))
        ttl = 0 if seen.expires_at_ms == NEVER else max(1, seen.expires_at_ms - _now_ms())
        return [("RESTORE", original.own, ttl, seen.dump, *(() if is_new else ("REPLACE",)))]

    def _send(
        self,
        lot: list[tuple[Original, list[tuple[Any, ...]]]],
        refused: dict[bytes, str],
        failed: dict[bytes, str],
    ) -> None:
        commands = [words for _, some in lot for words in some]
        replies = iter(self._client.run(send(commands)) if commands else ())
        for original, some in lot:
            for reply in [next(replies) for _ in some]:
                if isinstance(reply, Exception) and "BUSYKEY" in str(reply):
                    # Somebody else has made it in between, and it stays theirs.
                    refused[original.name] = _TAKEN
                elif isinstance(reply, Exception):
                    failed[original.name] = str(reply)

    def _read_back(self, made: list[Original]) -> None:
        if not made:
            return
        owns = [each.own for each in made]
        copies = self._client.run(look(owns, _now_ms(), elements=self._seals))
        odd = [at for at, each in enumerate(made) if copies[at] and not same_value(each.seen, copies[at])]
        if odd and not self._seals:
            # Equal values may have other dumps, as sets have in another order.
            again = self._client.run(look([owns[at] for at in odd], _now_ms(), elements=True))
            full = self._steady([made[at].name for at in odd], elements=True)
            for at, copy in zip(odd, again, strict=True):
                copies[at] = copy
                seen = full.get(made[at].name)
                if seen is not None and seen.version == made[at].seen.version:
                    made[at] = Original(made[at].name, made[at].own, seen, made[at].entry)
        good = []
        for each, copy in zip(made, copies, strict=True):
            seen = each.seen
            if copy is None and NEVER < seen.expires_at_ms <= _now_ms():
                self.counts["gone"] += 1
            elif copy is None or not same_value(seen, copy):
                self.problems[each.name] = "its copy is not the same: run it again"
            elif not same_time(seen.expires_at_ms, copy.expires_at_ms):
                self.problems[each.name] = "its copy has another TTL: run it again"
            else:
                good.append((each.name, each.own, seen.version, copy.version, seen.expires_at_ms))
                self.counts["again" if each.entry is not None and each.entry.original else "copied"] += 1
        self._journal.record("copied", good)

    # Finishing

    def _finish_lot(self, names: list[bytes], wanted: dict[bytes, bytes]) -> list[bytes]:
        """Delete what may go, and copy again what has changed; the names to look at once more."""
        self._source.watch(names)
        found = self._source.run(look(names, _now_ms(), elements=False))
        copies = self._client.run(look([wanted[name] for name in names], _now_ms(), elements=False))
        gone, ready, changed = [], [], []
        for name, seen, copy in zip(names, found, copies, strict=True):
            entry = self._journal.entries[name]
            if seen is None:
                gone.append(name)
            elif copy is None or self._is_changed(entry, seen, copy):
                changed.append(name)
            else:
                ready.append(name)
        # Done by a run that was killed before it could say so, or expired, or deleted by somebody.
        self._journal.record("finished", [(name,) for name in gone])
        self.counts["gone"] += len(gone)
        retry: list[bytes] = []
        if ready and not self._source.delete(ready):
            retry = ready
        elif ready:
            self._journal.record("finished", [(name,) for name in ready])
            self.counts["finished"] += len(ready)
        if changed:
            self._copy_lot(changed, wanted)
            retry = retry + [name for name in changed if name not in self.problems]
        return retry

    @staticmethod
    def _is_changed(entry: Entry, seen: Seen, copy: Seen) -> bool:
        """Whether an original is not what was copied, or its TTL is another and the copy as it was."""
        if entry.original != seen.version:
            return True
        return copy.version == entry.copy and not same_time(entry.expires_at_ms, seen.expires_at_ms)

    # Undoing

    def _undo_lot(self, names: list[bytes]) -> None:
        entries = [self._journal.entries[name] for name in names]
        found = self._source.run(look(names, _now_ms(), elements=False))
        copies = self._client.run(look([each.own for each in entries], _now_ms(), elements=False))
        done, due = [], []
        for name, entry, seen, copy in zip(names, entries, found, copies, strict=True):
            if copy is None:
                done.append(name)
            elif seen is None:
                self.problems[name] = "the original is gone, so the copy stays"
            elif entry.original and copy.version != entry.copy:
                self.problems[name] = "the copy was changed since, so it stays"
            else:
                due.append(name)
        owns = [self._journal.entries[name].own for name in due]
        if owns:
            self.counts["undone"] += self._client.run(delete(owns, self._client.registrar, time.time()))
        self._journal.record("undone", [(name,) for name in [*done, *due]])


def _now_ms() -> int:
    return int(time.time() * 1000)
