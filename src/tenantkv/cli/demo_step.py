"""One step of the demonstration."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was tried.

    Attributes:
        title: what it shows.
        lines: what was done (left) and what came of it (right).
        holds: whether it came out as it should.
    """

    title: str
    lines: tuple[tuple[str, str], ...]
    holds: bool
