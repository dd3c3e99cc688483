"""The closed set of things that an operation may ask of its driver.

An operation is a generator: it yields an effect, is sent what came of it, and returns its result. Ids,
randomness and the clock come in as arguments; nothing is yielded in ``finally``.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from tenantkv.ops.scripts import Argument, Call


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
    """Commands and calls of scripts for one round trip, not atomic. Sent back: the list of raw replies.

    Replies that are errors stand in the list. A script that the server does not have is called again
    in a second round trip, behind the others.
    """

    commands: Sequence[Sequence[Argument] | Call]


@dataclass(frozen=True, slots=True)
class Sleep:
    """A pause. Sent back: ``None``."""

    seconds: float


Effect = Command | Batch | Call | Sleep
Result = TypeVar("Result")
Operation = Generator[Effect, Any, Result]

__all__ = ["Argument", "Batch", "Call", "Command", "Effect", "Operation", "Sleep"]
