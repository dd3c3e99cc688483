"""Where names stand in commands whose options decide.

Laws of this file: options are parsed from left to right and never searched for, because a tenant's
values may spell any option; an unknown option, a second ``STORE`` and a count that is not plain decimal
are refused, since the server might then see names where we see values.
"""

from __future__ import annotations

from collections.abc import Sequence

from tenantkv.commands.rule import Arguments, Locate
from tenantkv.errors import MalformedCommandError


def malformed(arguments: Arguments, reason: str, instead: str = "") -> MalformedCommandError:
    """Return the error for `arguments`; its text repeats the command's name and nothing else."""
    return MalformedCommandError(arguments[0].decode(errors="replace").upper(), reason, instead)


def count_at(arguments: Arguments, position: int) -> int:
    """Return the number of names announced at `position`, at least 1 (0 is the server's to refuse)."""
    text = arguments[position]
    # bytes.isdigit() admits ASCII digits only, so no sign, blank, underscore or Unicode digit passes.
    if not text.isdigit() or len(text) > 9:
        raise malformed(arguments, "the number of keys is not a plain decimal number.")
    return int(text)


def counted(position: int, *fixed: int) -> Locate:
    """Return a locator for a count at `position` with that many names behind it, after `fixed` ones."""

    def locate(arguments: Arguments) -> Sequence[int]:
        last = position + count_at(arguments, position)
        if last >= len(arguments):
            raise malformed(arguments, "it announces more keys than follow.")
        return (*fixed, *range(position + 1, last + 1))

    return locate


def spaced(first: int, last: int, step: int) -> Locate:
    """Return a locator for every `step`-th argument from `first` to `last` (negative: from the end)."""

    def locate(arguments: Arguments) -> Sequence[int]:
        end = len(arguments) + last if last < 0 else last
        if step > 1 and (end - first + 1) % step:
            raise malformed(arguments, f"its arguments do not come in groups of {step}.")
        return range(first, end + 1, step)

    return locate


def locate_script(arguments: Arguments) -> Sequence[int]:
    """EVAL and its kin: a count at 2, which may be zero."""
    return counted(2)(arguments)


def locate_msetex(arguments: Arguments) -> Sequence[int]:
    """MSETEX numkeys key value [key value ...] [options]."""
    last = 1 + 2 * count_at(arguments, 1)
    if last >= len(arguments):
        raise malformed(arguments, "it announces more keys and values than follow.")
    return range(2, last + 1, 2)


def locate_copy(arguments: Arguments) -> Sequence[int]:
    """COPY source destination [REPLACE]; ``DB`` would leave the tenant's database."""
    for word in arguments[3:]:
        if word.upper() == b"DB":
            raise malformed(arguments, "its DB option copies into another database.", "Leave DB out.")
        if word.upper() != b"REPLACE":
            raise malformed(arguments, "it has an unknown option.")
    return 1, 2


def locate_stralgo(arguments: Arguments) -> Sequence[int]:
    """STRALGO LCS KEYS a b, or STRALGO LCS STRINGS a b (Redis 6 only)."""
    options = {b"IDX": 0, b"LEN": 0, b"WITHMATCHLEN": 0, b"MINMATCHLEN": 1, b"STRINGS": 2, b"KEYS": 2}
    found: list[int] = []
    position = 2
    while position < len(arguments):
        word = arguments[position].upper()
        if word not in options:
            raise malformed(arguments, "it has an unknown option.")
        if word == b"KEYS":
            found += [position + 1, position + 2]
        position += 1 + options[word]
    if position > len(arguments):
        raise malformed(arguments, "its last option lacks an argument.")
    return found


_SORT_OPTIONS = {b"ASC": 0, b"DESC": 0, b"ALPHA": 0, b"LIMIT": 2, b"BY": 1, b"GET": 1, b"STORE": 1}


def sort_options(arguments: Arguments) -> list[tuple[bytes, int]]:
    """Return each option of a SORT with the position of its first argument."""
    found: list[tuple[bytes, int]] = []
    position = 2
    while position < len(arguments):
        word = arguments[position].upper()
        if word not in _SORT_OPTIONS:
            raise malformed(arguments, "it has an unknown option.")
        found.append((word, position + 1))
        position += 1 + _SORT_OPTIONS[word]
    if position > len(arguments):
        raise malformed(arguments, "its last option lacks an argument.")
    if sum(word == b"STORE" for word, _ in found) > 1:
        raise malformed(arguments, "it has STORE twice.")
    return found


def locate_sort(arguments: Arguments) -> Sequence[int]:
    """SORT key [BY pattern] [LIMIT offset count] [GET pattern ...] [ASC|DESC] [ALPHA] [STORE key]."""
    return (1, *(at for word, at in sort_options(arguments) if word == b"STORE"))


_GEORADIUS_OPTIONS = {
    b"WITHCOORD": 0,
    b"WITHDIST": 0,
    b"WITHHASH": 0,
    b"ASC": 0,
    b"DESC": 0,
    b"ANY": 0,
    b"COUNT": 1,
    b"STORE": 1,
    b"STOREDIST": 1,
}


def locate_georadius(arguments: Arguments) -> Sequence[int]:
    """GEORADIUS(BYMEMBER) key ... [options] [STORE key | STOREDIST key]."""
    by_member = arguments[0].upper() == b"GEORADIUSBYMEMBER"
    position = 5 if by_member else 6
    stores: list[int] = []
    while position < len(arguments):
        word = arguments[position].upper()
        if word not in _GEORADIUS_OPTIONS:
            raise malformed(arguments, "it has an unknown option.")
        if word in (b"STORE", b"STOREDIST"):
            stores.append(position + 1)
        position += 1 + _GEORADIUS_OPTIONS[word]
    if position > len(arguments):
        raise malformed(arguments, "its last option lacks an argument.")
    if len(stores) > 1:
        # The server keeps the last one only, and its own key specs name another (redis#15478).
        raise malformed(arguments, "it has STORE or STOREDIST twice.")
    return (1, *stores)


_XREAD_OPTIONS = {b"COUNT": 1, b"BLOCK": 1, b"MAXCOUNT": 1, b"MAXSIZE": 1}
XREADGROUP_OPTIONS = {**_XREAD_OPTIONS, b"GROUP": 2, b"NOACK": 0, b"CLAIM": 1}


def _streams(arguments: Arguments, options: dict[bytes, int]) -> Sequence[int]:
    position = 1
    while position < len(arguments):
        word = arguments[position].upper()
        if word == b"STREAMS":
            rest = len(arguments) - position - 1
            if not rest or rest % 2:
                raise malformed(arguments, "its streams and ids do not pair.")
            return range(position + 1, position + 1 + rest // 2)
        if word not in options:
            raise malformed(arguments, "it has an unknown option.")
        position += 1 + options[word]
    raise malformed(arguments, "it names no STREAMS.")


def locate_xread(arguments: Arguments) -> Sequence[int]:
    """XREAD [options] STREAMS key [key ...] id [id ...]."""
    return _streams(arguments, _XREAD_OPTIONS)


def locate_xreadgroup(arguments: Arguments) -> Sequence[int]:
    """XREADGROUP GROUP group consumer [options] STREAMS key [key ...] id [id ...]."""
    return _streams(arguments, XREADGROUP_OPTIONS)


def scan_options(arguments: Arguments) -> list[tuple[bytes, int]]:
    """Return each option of a SCAN with the position of its argument."""
    found: list[tuple[bytes, int]] = []
    for position in range(2, len(arguments), 2):
        word = arguments[position].upper()
        if word not in (b"MATCH", b"COUNT", b"TYPE"):
            raise malformed(arguments, "it has an unknown option.")
        if position + 1 == len(arguments):
            raise malformed(arguments, "its last option lacks an argument.")
        if any(word == known for known, _ in found):
            raise malformed(arguments, f"it has {word.decode()} twice.")
        found.append((word, position + 1))
    return found


def tracking_options(arguments: Arguments) -> list[tuple[bytes, int]]:
    """Return each option of a CLIENT TRACKING with the position of its argument."""
    takes = {b"PREFIX": 1, b"BCAST": 0, b"OPTIN": 0, b"OPTOUT": 0, b"NOLOOP": 0}
    found: list[tuple[bytes, int]] = []
    position = 3
    while position < len(arguments):
        word = arguments[position].upper()
        if word not in takes:
            reason = "REDIRECT would send invalidations to another connection."
            raise malformed(arguments, reason if word == b"REDIRECT" else "it has an unknown option.")
        found.append((word, position + 1))
        position += 1 + takes[word]
    if position > len(arguments):
        raise malformed(arguments, "its last option lacks an argument.")
    return found


PARSERS: dict[str, Locate] = {
    "script": locate_script,
    "function": locate_script,
    "msetex": locate_msetex,
    "copy": locate_copy,
    "stralgo": locate_stralgo,
    "sort": locate_sort,
    "georadius": locate_georadius,
    "xread": locate_xread,
    "xreadgroup": locate_xreadgroup,
}


def locator(names: str) -> Locate | None:
    """Compile a position column; ``None`` where the command has no names that stand at a place."""
    if names in PARSERS:
        return PARSERS[names]
    if ".." in names:
        span, _, step = names.partition("/")
        first, last = span.split("..")
        return spaced(int(first), int(last), int(step or 1))
    words = names.split()
    if not words or not all(word.lstrip("#").isdigit() for word in words):
        return None
    fixed = tuple(int(word) for word in words if not word.startswith("#"))
    counts = [int(word[1:]) for word in words if word.startswith("#")]
    if counts:
        return counted(counts[0], *fixed)
    return lambda _arguments: fixed
