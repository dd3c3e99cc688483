"""Listing: every own name of a namespace, a page at a time, so that long work can show how far it is.

On a server that offers SCAN it walks over all keys and keeps the own ones; elsewhere, and where names are
hidden, it asks the registry shard by shard. No command looks at more than 250 keys or one shard.
"""

from __future__ import annotations

from collections.abc import Iterable

from tenantkv.errors import ForbiddenCommandError
from tenantkv.ops import registry
from tenantkv.ops.effects import Command, Operation
from tenantkv.ops.registry import RESERVED, SHARDS, Registrar
from tenantkv.ops.registry_cover import PLAIN

_PAGE = 250
# Stands for the run of a server that does not tell.
_UNTOLD = "?"


class Listing:
    """Finds own names, each once, without those that tenantkv keeps for its registry.

    Args:
        registrar: the client's registry, if on.

    Attributes:
        source: ``"scan"`` or ``"registry"``; empty before the first page.
        is_over: whether there are no more pages.
        count: how many names were found.

    Example:
        >>> while not listing.is_over:  # doctest: +SKIP
        ...     names = client.run(listing.page(time.time()))
    """

    def __init__(self, registrar: Registrar | None) -> None:
        self._registrar = registrar
        self._cursor = 0
        self._server = ""
        self._seen: set[bytes] = set()
        hides = registrar is not None and registrar.cover is not PLAIN
        self.source = "registry" if hides else ""
        self.is_over = False

    @property
    def count(self) -> int:
        """How many names were found."""
        return len(self._seen)

    @property
    def progress(self) -> float:
        """How much of the way is done, from 0 to 1; an estimate."""
        if self.is_over:
            return 1.0
        return way_done(self.source, self._cursor)

    def page(self, now: float) -> Operation[list[bytes]]:
        """Return names that were not told before. At most a few round trips.

        Args:
            now: Unix seconds.

        Raises:
            ForbiddenCommandError: the server has no SCAN, and no registry is on.
        """
        if self.source != "registry":
            # Only the first may be absent: from then on an error is one.
            is_first = not self.source
            page = yield Command(("SCAN", self._cursor, "COUNT", _PAGE), absent_ok=is_first)
            if page is not None:
                self.source = "scan"
                yield from self._move_on(int(page[0]))
                return self._fresh(page[1])
            self.source = "registry"
        if self._registrar is None:
            raise ForbiddenCommandError(
                "SCAN",
                "this server does not offer it, so your keys cannot be listed.",
                "Turn the registry on (TENANTKV_REGISTRY=1), in the programs that write as well.",
            )
        names = yield from registry.read_shards([self._cursor], self._registrar, now)
        self._cursor += 1
        self.is_over = self._cursor >= SHARDS
        return self._fresh(names)

    def _move_on(self, cursor: int) -> Operation[None]:
        self._cursor = cursor
        if cursor and not self._server:
            self._server = yield from run_of_server()
        elif not cursor and self._server:
            run = yield from run_of_server()
            if run != self._server:
                # Another server by now, which counts its keys in another order: some may have been missed.
                self._server = run
                return
        self.is_over = cursor == 0

    def _fresh(self, names: Iterable[bytes]) -> list[bytes]:
        new = [
            name for name in dict.fromkeys(names) if name not in self._seen and not name.startswith(RESERVED)
        ]
        self._seen.update(new)
        return new


def way_done(source: str, cursor: int) -> float:
    """Return how much of the way to all names is done, from 0 to 1; an estimate.

    Args:
        source: ``"scan"`` or ``"registry"``.
        cursor: of SCAN, or the number of a shard.
    """
    if source == "registry":
        return cursor / SHARDS
    # SCAN counts up with the order of its bits turned round.
    return sum(2.0 ** -(bit + 1) for bit in range(cursor.bit_length()) if cursor >> bit & 1)


def run_of_server() -> Operation[str]:
    """What names this run of the server, in which alone a cursor of SCAN has a meaning."""
    return (yield from _told("server", b"run_id")) or _UNTOLD


def memory_of_server() -> Operation[tuple[int, int]]:
    """How many bytes the server uses, and how many it may use at the most; 0 for what it does not tell."""
    text = yield Command(("INFO", "memory"), absent_ok=True)
    found = {}
    for line in text.splitlines() if isinstance(text, bytes) else ():
        key, _, value = line.partition(b":")
        if key in (b"used_memory", b"maxmemory") and value.strip().isdigit():
            found[key] = int(value)
    return found.get(b"used_memory", 0), found.get(b"maxmemory", 0)


def _told(section: str, field: bytes) -> Operation[str]:
    text = yield Command(("INFO", section), absent_ok=True)
    for line in text.splitlines() if isinstance(text, bytes) else ():
        key, _, value = line.partition(b":")
        if key == field:
            return str(value.strip().decode("ascii", "replace"))
    return ""


__all__ = ["Listing", "memory_of_server", "run_of_server", "way_done"]
