"""Sets of names given as glob patterns."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tenantkv.commands.globs import glob_regex

_SPECIAL = re.compile(rb"[*?\[\\]")


class NameGlobs:
    """The names that match any of some glob patterns.

    Exact names and plain beginnings (``counter:*``), which is what most are, are not worth a regular
    expression and do not get one.
    """

    __slots__ = ("_exact", "_patterns", "_starts")

    def __init__(self, globs: Iterable[bytes]) -> None:
        exact, starts, patterns = set(), [], []
        for glob in globs:
            if not _SPECIAL.search(glob):
                exact.add(glob)
            elif glob.endswith(b"*") and not _SPECIAL.search(glob[:-1]):
                starts.append(glob[:-1])
            else:
                patterns.append(glob_regex(glob))
        self._exact = frozenset(exact)
        self._starts = tuple(starts)
        self._patterns = tuple(patterns)

    def __bool__(self) -> bool:
        return bool(self._exact or self._starts or self._patterns)

    def __contains__(self, name: bytes) -> bool:
        if name in self._exact or name.startswith(self._starts):
            return True
        # Not any(): this is on the way of every command, and mostly there is nothing to go through.
        for pattern in self._patterns:  # noqa: SIM110
            if pattern.fullmatch(name):
                return True
        return False

    def covers(self, start: bytes) -> bool:
        """Whether every name that begins with `start` is surely in the set."""
        return start.startswith(self._starts)
