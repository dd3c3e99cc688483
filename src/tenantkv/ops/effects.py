"""The closed set of things that an operation may ask of its driver.

An operation is a generator: it yields an effect, is sent what came of it, and returns its result. Ids,
randomness and the clock come in as arguments; nothing is yielded in ``finally``.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Argument = str | bytes | int | float


@dataclass(frozen=True, slots=True)
class Command:
    """One command in own names. Sent back: the raw reply (bytes, as the protocol gives it).

    A reply that is an error is raised in the operation as the driver's ``ResponseError``, or sent back
    as ``None`` with `absent_ok`, for commands that a server may not have.
    """

    arguments: Sequence[Argument]
    absent_ok: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Commands for one round trip, not atomic. Sent back: the list of raw replies."""

    commands: Sequence[Sequence[Argument]]


Effect = Command | Batch
Result = TypeVar("Result")
Operation = Generator[Effect, Any, Result]
