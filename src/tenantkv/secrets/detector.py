"""The detector: one value in, at most one finding out.

What it costs is bounded by what it looks at: all of a value up to 64 KB, and of a longer one its first
48 KB and last 16 KB, where headers, settings and credentials stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tenantkv.commands.globs import glob_regex
from tenantkv.secrets import shapes
from tenantkv.secrets.dull import is_dull
from tenantkv.secrets.fields import RULES, find_field, whole_value
from tenantkv.secrets.formats import find_format, mask_of
from tenantkv.secrets.formats_table import FORMATS, MARKS, OTHERS
from tenantkv.secrets.names import NONE, classify, classify_path, has_hint, may_say

MAX_SCANNED_BYTES = 65536
TAIL_BYTES = 16384

# Shorter than any secret that can be told from a word or a number.
_SHORTEST = 6
# A key's own name says something about a value that is one string, not about a document.
_LONGEST_NAMED = 640
_SHORTEST_FORMAT = 20

# A run that is not in most values.
_SHORTEST_RUN = 12

_NOTHING: frozenset[str] = frozenset()

Scannable = bytes | bytearray | memoryview | str | int | float


class Finding(NamedTuple):
    """What a value looks like; never the value or a part of it.

    Attributes:
        rule: the rule that it meets, such as ``github-token``.
        tier: 1 a known format, 2 a name and a value, 3 high entropy.
        offset: where in the value, in bytes.
        is_field: whether it is the field's name that looks like a secret; do not print it then.
    """

    rule: str
    tier: int
    offset: int = 0
    is_field: bool = False


@dataclass(frozen=True, slots=True)
class Allowance:
    """Keys whose values may look like a secret.

    Attributes:
        name: a glob over the keys' own names, as Redis understands it.
        rule: the rule that does not count there; ``*`` for all.
        reason: why, for whoever reads the settings later.
    """

    name: str
    rule: str = "*"
    reason: str = ""

    def __post_init__(self) -> None:
        if self.rule != "*" and self.rule not in rules():
            raise ValueError(f"no rule is named {self.rule!r}; there are: {', '.join(sorted(rules()))}")


def rules() -> dict[str, int]:
    """Return every rule's name and its tier."""
    found = {row.rule: 1 for row in FORMATS} | {rule: 1 for rule, *_ in MARKS}
    return found | {rule: tier for rule, (tier, _) in OTHERS.items()}


class Detector:
    """Finds out whether a value looks like a secret.

    It holds no state but its settings, and may be shared by threads.

    Args:
        allow: which rules do not count for which keys.
        own: this namespace's prefix and key material as text, which no value may ever hold; no allowance
            counts for them.

    Example:
        >>> Detector().find(b'{"user": "jane", "db_password": "tr0ub4dor"}')
        Finding(rule='named-password', tier=2, offset=18, is_field=False)
        >>> Detector().find(b'{"user": "jane", "password_changed": "2026-01-01"}') is None
        True
    """

    __slots__ = ("_allow", "_own", "_own_in_pieces", "_run")

    def __init__(self, *, allow: Sequence[Allowance] = (), own: Iterable[bytes] = ()) -> None:
        self._allow = tuple((glob_regex(entry.name.encode()), entry.rule) for entry in allow)
        self._own = tuple(own)
        if any(len(secret) < 16 for secret in self._own):
            raise ValueError("own secrets have at least 16 bytes")
        # Where no run of a value is as long as the longest of a secret, that secret is not in it.
        runs = {secret: max(map(len, mask_of(secret).split()), default=0) for secret in self._own}
        self._own_in_pieces = tuple(secret for secret, run in runs.items() if run < _SHORTEST_RUN)
        self._run = mask_of(b"x") * min((run for run in runs.values() if run >= _SHORTEST_RUN), default=1)

    def __repr__(self) -> str:
        return f"Detector(allow={len(self._allow)}, own={len(self._own)})"

    def __reduce__(self) -> str:
        raise TypeError("a Detector knows key material and cannot be pickled")

    def find(self, value: Scannable, *, name: bytes = b"", field: bytes = b"") -> Finding | None:
        """Return what a value looks like, or ``None``.

        Args:
            value: the value as it would be sent; integers and floats cost nothing.
            name: the key's own name.
            field: the hash field, or what else stands beside the value.
        """
        if type(value) is not bytes:
            value = _as_bytes(value)
        if (len(value) < _SHORTEST or value.isdigit()) and len(field) < _SHORTEST_FORMAT:
            return None
        mask = mask_of(value) if len(value) <= MAX_SCANNED_BYTES else None
        if self._own and (own := self._find_own(value, mask)):
            return own
        found = _find(value, name, field, _NOTHING, mask)
        if found is None or not self._allow:
            return found
        return self._without_allowed(found, value, name, field, mask)

    def find_own(self, value: Scannable) -> Finding | None:
        """Return a finding if a value holds this namespace's own prefix or key material."""
        return self._find_own(value if type(value) is bytes else _as_bytes(value), None)

    def _find_own(self, value: bytes, mask: bytes | None) -> Finding | None:
        own = self._own
        if mask is not None and self._run not in mask:
            own = self._own_in_pieces
        for secret in own:
            if secret in value:
                return Finding("own-keyring", 1, value.find(secret))
        return None

    def _without_allowed(
        self, found: Finding | None, value: bytes, name: bytes, field: bytes, mask: bytes | None
    ) -> Finding | None:
        """Look again, without the rules that are allowed for that name."""
        allowed = {rule for pattern, rule in self._allow if pattern.fullmatch(name)}
        if "*" in allowed:
            return None
        if found is None or found.rule not in allowed:
            return found
        return _find(value, name, field, frozenset(allowed), mask)


def _as_bytes(value: Scannable) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return b"" if isinstance(value, (int, float)) else bytes(value)


def _find(
    value: bytes, name: bytes, field: bytes, skip: frozenset[str], mask: bytes | None
) -> Finding | None:
    if len(field) >= _SHORTEST_FORMAT:
        part = field[:MAX_SCANNED_BYTES]
        if known := find_format(part, part.lower(), mask_of(part), skip=skip):
            return Finding(known[0], 1, known[1], is_field=True)
    if mask is not None:
        found = _find_in(value, 0, skip, mask)
    else:
        head, tail = value[: MAX_SCANNED_BYTES - TAIL_BYTES], value[-TAIL_BYTES:]
        found = _find_in(head, 0, skip, mask_of(head)) or _find_in(
            tail, len(value) - TAIL_BYTES, skip, mask_of(tail)
        )
    if found is None and len(value) <= _LONGEST_NAMED and (name or field):
        return _find_by_name(value, name, field, skip)
    return found


def _find_in(data: bytes, offset: int, skip: frozenset[str], mask: bytes) -> Finding | None:
    lowered = data.lower()
    if is_dull(data, lowered, mask):
        return None
    if known := find_format(data, lowered, mask, skip=skip):
        return Finding(known[0], 1, offset + known[1])
    if named := find_field(data, lowered, mask, skip=skip):
        return Finding(named[0], 2, offset + named[1])
    return None


def _find_by_name(value: bytes, name: bytes, field: bytes, skip: frozenset[str]) -> Finding | None:
    # Documents and sentences are no secrets, and most of what is short. A pickle's length may be a space.
    if value[:1] in b"{[<" or (value[:1] < b"\x80" and b" " in value):
        return None
    names = field + b":" + name if field else name
    if not has_hint(names):
        return None
    kind = NONE
    if may_say(names):
        kind = (classify(field) if field else NONE) or (classify_path(name) if name else NONE)
    inside = whole_value(value)
    if kind and RULES[kind] not in skip and shapes.looks_secret(inside, kind):
        return Finding(RULES[kind], 2)
    if "high-entropy" not in skip and shapes.is_token(inside):
        return Finding("high-entropy", 3)
    return None
