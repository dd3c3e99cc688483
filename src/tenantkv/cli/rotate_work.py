"""How keys get the other prefix: a lot at a time, read there, and moved back if they do not open.

Laws of this file:

1. Who knows the former prefix can put values there until the end. So what was moved is read under the new
   prefix, where nobody else can change it any more, and it stays there only if it opens. Values in clear
   stay only if somebody said so.
2. What is about to be moved stands in the journal before it is moved, until it was read: of a run that was
   killed, the next one reads that first.
3. Nothing is deleted, but the registry of the former prefix, and what somebody decided between two.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tenantkv.cli.adopt_journal import Journal
from tenantkv.cli.rotate_server import Mover, Prefer
from tenantkv.commands.name_globs import NameGlobs
from tenantkv.errors import TenantKVError
from tenantkv.namespace import PRIMITIVES
from tenantkv.ops import registry
from tenantkv.ops.adopt import look, send
from tenantkv.ops.registry_cover import PLAIN, Cover
from tenantkv.ops.transfer import lots, sizes

# Names whose sizes are asked for at once. A journal's two writes are shared by one lot of these at the most.
_PAGE = 500
# How often to look again for keys that somebody has made meanwhile.
_PASSES = 3

_TAKEN = "there is a key of that name under the new prefix: say with --prefer which of the two shall stay"
_CLEAR = (
    "it does not open, so whoever knows the former prefix may have put it there: --plain takes it as it is"
)
_UNLISTED = "the registry does not have its name, so it cannot be opened: --plain '*' takes it as it is"
_BACK = "it does not open, and there is a key of that name under the former prefix again"

Show = Callable[[float, str], None]


class Names:
    """What lies under the prefix that is left: own names, by what stands on the server for them.

    Own names are ``None`` where they are hidden and the registry does not have them.

    Args:
        source: the client of the namespace under that prefix.
        mover: asks the server for names.

    Attributes:
        origin: where the last names came from: ``scan``, ``registry`` or ``file``.
    """

    def __init__(self, source: Any, mover: Mover) -> None:
        self.origin = ""
        self.cover: Cover = source.registrar.cover
        self._source = source
        self._mover = mover

    def find(self) -> dict[bytes, bytes | None]:
        """Ask the server.

        Raises:
            ForbiddenCommandError: the server has no SCAN, and its registry lists nothing.
        """
        hides = self.cover is not PLAIN
        stored = self._mover.find()
        self.origin = "registry" if stored is None else "scan"
        if stored is not None and not hides:
            return {name: name for name in stored}
        listed = self._source.run(registry.read_all(self._source.registrar, time.time()))
        known = {self.cover.key(own): own for own in listed}
        if stored is None:
            return dict(known)
        return {name: name if name.startswith(PRIMITIVES) else known.get(name) for name in stored}

    def named(self, names: Sequence[bytes]) -> dict[bytes, bytes | None]:
        """Return own names that somebody gave."""
        self.origin = "file"
        return {self.cover.key(own): own for own in names}


class Moving:
    """One run.

    Args:
        names: what lies under the prefix that is left.
        source: the client of the namespace under that prefix.
        target: the client of the namespace under the prefix where keys go.
        mover: moves keys between the two.
        journal: what an earlier run has moved and not yet read.
        plain: globs of own names whose values are taken as they are.
        prefer: which of two keys of one name stays.
        show: is told how far it is.

    Attributes:
        counts: ``moved``, ``gone``, ``dropped``, and ``late``: moved keys that were not there at first.
        problems: names that were left as they are, and why.
    """

    def __init__(
        self,
        names: Names,
        source: Any,
        target: Any,
        mover: Mover,
        journal: Journal,
        *,
        plain: Sequence[str] = (),
        prefer: Prefer | None = None,
        show: Show,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.problems: dict[bytes, str] = {}
        self._names = names
        self._source = source
        self._target = target
        # As strict as can be: whatever the programs take in clear, here it has to be asked for.
        self._reader = target.using(seal=True, plaintext_keys=(), accept_plaintext_until=None)
        self._mover = mover
        self._journal = journal
        self._takes = NameGlobs([glob.encode() for glob in plain])
        self._takes_all = "*" in plain
        self._prefer: Prefer | None = prefer
        self._show = show
        self._own: dict[bytes, bytes] = {}

    @property
    def told(self) -> dict[bytes, str]:
        """The problems by own names, where these are known."""
        return {self._own.get(name, name): why for name, why in self.problems.items()}

    def run(self, names: dict[bytes, bytes | None]) -> None:
        """Move these, and what appears meanwhile."""
        self._read_journal()
        for again in range(_PASSES):
            # Each time, as the registry goes on being kept by whoever still writes.
            self._mover.copy_registry()
            before = self.counts["moved"]
            self._pass(names, is_first=not again)
            if self._names.origin == "file" or self.counts["moved"] == before:
                break
            names = {name: own for name, own in self._names.find().items() if name not in self.problems}

    def _pass(self, names: dict[bytes, bytes | None], *, is_first: bool) -> None:
        stored = list(names)
        for start in range(0, len(stored), _PAGE):
            page = stored[start : start + _PAGE]
            moved = self._move_page(page, names)
            self.counts["moved"] += moved
            self.counts["late"] += 0 if is_first else moved
            self._show((start + len(page)) / len(stored), f"{self.counts['moved']} keys moved")

    def _move_page(self, page: list[bytes], names: dict[bytes, bytes | None]) -> int:
        """Move a page, and read of it what has to open; return how many keys have moved."""
        sure: list[bytes] = []
        doubted: dict[bytes, bytes] = {}
        for name in page:
            own = names[name]
            # What the primitives keep opens, or does not, when they use it.
            if self._takes_all or name.startswith(PRIMITIVES) or (own is not None and own in self._takes):
                sure.append(name)
            elif own is None:
                self.problems[name] = _UNLISTED
            else:
                doubted[name] = own
            if own is not None:
                self._own[name] = own
        moved = self._move(sure, {}) if sure else 0
        if doubted:
            owns = list(doubted.values())
            taken = self._source.run(sizes(owns))
            self._journal.record("intent", [(own, own) for own in owns])
            for lot in lots(list(doubted), taken):
                moved += self._move(lot, doubted)
            self._journal.record("dropped", [(own,) for own in owns])
        if self._names.origin == "file":
            self._register(own for name in page if (own := names[name]) is not None)
        return moved

    def _register(self, owns: Iterable[bytes]) -> None:
        """Note names in the registry that it did not have, so that the way back finds them."""
        commands: list[tuple[Any, ...]] = []
        for own in owns:
            shard = registry.shard_key(registry.shard_of(own))
            commands.append(("ZADD", shard, int(time.time()), self._names.cover.member(shard, own)))
            commands.append(("EXPIRE", shard, registry.LIFETIME))
        self._target.run(send(commands))

    def _move(self, lot: list[bytes], doubted: dict[bytes, bytes]) -> int:
        moved = []
        for name, outcome in zip(lot, self._mover.move(lot, self._prefer), strict=True):
            if outcome == "moved":
                moved.append(name)
            elif outcome == "taken":
                self.problems[name] = _TAKEN
            else:
                self.counts[outcome] += 1
        closed = self._read([doubted[name] for name in moved if name in doubted])
        if self._prefer == "former":
            self._mover.keep([name for name in moved if name not in closed])
        return len(moved) - len(closed)

    def _read(self, owns: list[bytes]) -> set[bytes]:
        """Read what was moved, and move back what does not open; return what stands for that."""
        closed = [name for name in owns if not self._opens([name])] if not self._opens(owns) else []
        stored = [self._names.cover.key(own) for own in closed]
        for name, outcome in zip(stored, self._mover.move_back(stored), strict=True):
            self.problems[name] = _BACK if outcome == "taken" else _CLEAR
        return set(stored)

    def _opens(self, owns: list[bytes]) -> bool:
        if not owns:
            return True
        try:
            found = self._reader.run(look(owns, int(time.time() * 1000), elements=True))
        except TenantKVError:
            return False
        return all(seen is None or seen.rows is not None for seen in found)

    def _read_journal(self) -> None:
        """Read what an earlier run has moved, and perhaps not read any more."""
        owns = list(self._journal.entries)
        for start in range(0, len(owns), _PAGE):
            page = owns[start : start + _PAGE]
            stored = {own: self._names.cover.key(own) for own in page}
            # That run may have been killed when a key had made way and the other had not come.
            self._mover.restore(list(stored.values()))
            for lot in lots(page, self._reader.run(sizes(page))):
                closed = self._read([own for own in lot if own not in self._takes])
                self._mover.keep([stored[own] for own in lot if stored[own] not in closed])
                self._journal.record("dropped", [(own,) for own in lot])


__all__ = ["Moving", "Names", "Show"]
