"""What resealing has found and done so far, in a form that can be stored and gone on with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

#: Names that are listed; of more, only the number is known.
LISTED = 1000
#: Stands for every key id that the keyring does not have. Anybody can write any.
UNKNOWN = "unknown"


@dataclass(slots=True)
class KeyLeft:
    """What still carries one key's id.

    Attributes:
        unopened: values that do not open where they stand: forged, moved, expired, or sealed in a context
            that was not given.
        streams: fields of stream entries; these open, and cannot be replaced.
        changing: values that others kept changing meanwhile.
    """

    unopened: int = 0
    streams: int = 0
    changing: int = 0

    def __bool__(self) -> bool:
        return bool(self.unopened or self.streams or self.changing)


@dataclass(frozen=True, slots=True)
class Problem:
    """A key with values that were not sealed anew.

    Attributes:
        name: its own name; bytes that are not UTF-8 as lone surrogates.
        child: the path of children that it belongs to.
        type: the server's word for its type.
        reason: ``"unopened"``, ``"stream"`` or ``"changing"``.
        values: how many.
    """

    name: str
    child: tuple[str, ...]
    type: str
    reason: str
    values: int


@dataclass(slots=True)
class Skipped:
    """Keys of a primitive, whose values are renewed by use.

    Attributes:
        keys: how many.
        immortal: how many of them have no TTL.
        longest_ms: the longest TTL of the others.
    """

    keys: int = 0
    immortal: int = 0
    longest_ms: int = 0


@dataclass(slots=True)
class Tally:
    """Counts of values, but for `keys` and `skipped`.

    Attributes:
        keys: keys that were looked at.
        resealed: sealed anew, or in a dry run: would be.
        merged: of these, members of sets that had been added again since the primary was promoted.
        current: sealed by the primary already.
        plain: not sealed.
        plugins: made by another key than the primary, in the form of a plug-in (Celery).
        left: by key id.
        skipped: by primitive.
        problems: the first thousand keys with values that were not sealed anew.
        unlisted: how many more there are.
    """

    keys: int = 0
    resealed: int = 0
    merged: int = 0
    current: int = 0
    plain: int = 0
    plugins: int = 0
    left: dict[str, KeyLeft] = field(default_factory=dict)
    skipped: dict[str, Skipped] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unlisted: int = 0

    def leave(self, key_id: str, reason: str, count: int = 1) -> None:
        """Count values that still carry a key's id; `reason` is a field of `KeyLeft`."""
        left = self.left.setdefault(key_id, KeyLeft())
        setattr(left, reason, getattr(left, reason) + count)

    def skip(self, primitive: str, ttl_ms: int) -> None:
        """Count a key of a primitive, with what PTTL says of it."""
        skipped = self.skipped.setdefault(primitive, Skipped())
        skipped.keys += 1
        skipped.immortal += ttl_ms == -1
        skipped.longest_ms = max(skipped.longest_ms, ttl_ms)

    def list_problem(self, problem: Problem) -> None:
        """Keep a key's name for the report, as long as there are few."""
        if len(self.problems) < LISTED:
            self.problems.append(problem)
        else:
            self.unlisted += 1

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Tally:
        """Return the tally that was stored."""
        return cls(
            **{
                **document,
                "left": {key: KeyLeft(**left) for key, left in document["left"].items()},
                "skipped": {name: Skipped(**skipped) for name, skipped in document["skipped"].items()},
                "problems": [
                    Problem(**{**problem, "child": tuple(problem["child"])})
                    for problem in document["problems"]
                ],
            }
        )


__all__ = ["LISTED", "UNKNOWN", "KeyLeft", "Problem", "Skipped", "Tally"]
