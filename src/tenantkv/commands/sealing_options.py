"""Where values stand in commands, and what options mean for a sealed value.

Laws of this file: as in `options.py`, options are parsed from left to right and never searched for, and
an unknown one is refused, since behind it the server might see a value where we see a field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from tenantkv.commands.options import count_at, malformed
from tenantkv.commands.rule import Arguments
from tenantkv.commands.value_table import OPTION_REFUSALS
from tenantkv.errors import ForbiddenCommandError

# Positions of a value, of its key and of its field; 0, where the command stands, means none.
Place = tuple[int, int, int]
Layout = Callable[[Arguments], Sequence[Place]]
Choice = Callable[[Arguments], str]

NOTHING = "-"
_UNKNOWN = "it has an unknown option."
_CUT = "its last option lacks an argument."
_PAIRS = "its arguments do not pair."
_EXPIRIES = {b"EX": 1, b"PX": 1, b"EXAT": 1, b"PXAT": 1}


def walk(arguments: Arguments, position: int, takes: Mapping[bytes, int]) -> dict[bytes, int]:
    """Return each option from `position` to the end with where its first argument stands."""
    found: dict[bytes, int] = {}
    position = min(position, len(arguments))
    while position < len(arguments):
        word = arguments[position].upper()
        if word not in takes:
            raise malformed(arguments, _UNKNOWN)
        found[word] = position + 1
        position += 1 + takes[word]
    if position > len(arguments):
        raise malformed(arguments, _CUT)
    return found


def _refused(arguments: Arguments, choice: str) -> ForbiddenCommandError:
    _, reason, instead = OPTION_REFUSALS[choice]
    return ForbiddenCommandError(arguments[0].decode(errors="replace").upper(), reason, instead)


# ---- layouts: where values stand


def fixed(value: int, field: int = 0) -> Layout:
    """Return a layout for one value."""
    places = ((value, 1, field),)
    return lambda _arguments: places


def onward(first: int) -> Layout:
    """Return a layout for values from `first` to the end."""
    return lambda arguments: [(at, 1, 0) for at in range(first, len(arguments))]


def paired(first: int, *, with_key: bool) -> Layout:
    """Return a layout for every second argument from `first`, behind its field or its key."""

    def places(arguments: Arguments) -> Sequence[Place]:
        if not (len(arguments) - first) % 2:
            raise malformed(arguments, _PAIRS)
        positions = range(first, len(arguments), 2)
        if with_key:
            return [(at, at - 1, 0) for at in positions]
        return [(at, 1, at - 1) for at in positions]

    return places


def place_msetex(arguments: Arguments) -> Sequence[Place]:
    """MSETEX numkeys key value [key value ...] [options]."""
    end = 2 + 2 * count_at(arguments, 1)
    if end > len(arguments):
        raise malformed(arguments, "it announces more keys and values than follow.")
    return [(at, at - 1, 0) for at in range(3, end, 2)]


_HSETEX = {**_EXPIRIES, b"FNX": 0, b"FXX": 0, b"NX": 0, b"XX": 0, b"KEEPTTL": 0}
_HGETEX = {**_EXPIRIES, b"PERSIST": 0}


def announced(arguments: Arguments, takes: Mapping[bytes, int], step: int) -> range:
    """Return where the words behind ``FIELDS count`` stand, `step` for each of count."""
    position, found = 2, range(0)
    while position < len(arguments):
        word = arguments[position].upper()
        if word == b"FIELDS":
            if found or position + 1 >= len(arguments):
                raise malformed(arguments, "it does not say its FIELDS once.")
            first = position + 2
            found = range(first, first + step * count_at(arguments, position + 1))
            position = found.stop
        elif word in takes:
            position += 1 + takes[word]
        else:
            raise malformed(arguments, _UNKNOWN)
    if position > len(arguments):
        raise malformed(arguments, "it announces more than follows.")
    return found


def place_hsetex(arguments: Arguments) -> Sequence[Place]:
    """HSETEX key [options] FIELDS count field value [field value ...]."""
    return [(at + 1, 1, at) for at in announced(arguments, _HSETEX, 2)[::2]]


def announced_fields(arguments: Arguments) -> Sequence[bytes]:
    """Return the fields that HGETDEL or HGETEX asks for."""
    where = announced(arguments, _HGETEX, 1)
    return arguments[where.start : where.stop]


_ZADD = frozenset({b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR"})
_SCORE = re.compile(rb"\s*[+-]?(?:[0-9.]|inf)", re.IGNORECASE)


def place_zadd(arguments: Arguments) -> Sequence[Place]:
    """ZADD key [options] score member [score member ...]."""
    first = 2
    while first < len(arguments) and arguments[first].upper() in _ZADD:
        first += 1
    if first == len(arguments) or (len(arguments) - first) % 2:
        raise malformed(arguments, "its scores and members do not pair.")
    if not _SCORE.match(arguments[first]):
        raise malformed(arguments, "it has an unknown option, or a score that is none.")
    return [(at, 1, 0) for at in range(first + 1, len(arguments), 2)]


def place_geoadd(arguments: Arguments) -> Sequence[Place]:
    """GEOADD key [options] longitude latitude member [...]."""
    first = 2
    while first < len(arguments) and arguments[first].upper() in (b"NX", b"XX", b"CH"):
        first += 1
    return [(at, 1, 0) for at in range(first + 2, len(arguments), 3)]


_XADD = {b"NOMKSTREAM": 0, b"KEEPREF": 0, b"DELREF": 0, b"ACKED": 0, b"LIMIT": 1, b"IDMPAUTO": 1, b"IDMP": 2}
_ENTRY_ID = re.compile(rb"\*|\d+(?:-(?:\d+|\*))?")


def xadd_options(arguments: Arguments) -> tuple[int, list[bytes]]:
    """Return where the id of an XADD stands, and its options."""
    position = 2
    found: list[bytes] = []
    while position < len(arguments):
        word = arguments[position].upper()
        if word in (b"MAXLEN", b"MINID"):
            exactness = arguments[position + 1 : position + 2] in ([b"="], [b"~"])
            position += 2 + exactness
        elif word in _XADD:
            position += 1 + _XADD[word]
        elif _ENTRY_ID.fullmatch(word):
            return position, found
        else:
            # The server would take it for an id and refuse it, or for an option that we do not know.
            raise malformed(arguments, "it has an unknown option, or an id that is none.")
        found.append(word)
    raise malformed(arguments, "it has no id.")


def place_xadd(arguments: Arguments) -> Sequence[Place]:
    """XADD key [options] id field value [field value ...]."""
    first = xadd_options(arguments)[0] + 2
    if first >= len(arguments) or not (len(arguments) - first) % 2:
        raise malformed(arguments, "its fields and values do not pair.")
    return [(at, 1, at - 1) for at in range(first, len(arguments), 2)]


def place_script(arguments: Arguments) -> Sequence[Place]:
    """EVAL script count key ... argument ...; arguments go by the first key's name."""
    first = 3 + count_at(arguments, 2)
    return [(at, 3 if first > 3 else 0, 0) for at in range(first, len(arguments))]


def place_json(arguments: Arguments) -> Sequence[Place]:
    """JSON.SET key path value ...; the path tells as much as a field's name."""
    return [(at, 1, 2) for at in range(3, len(arguments))]


def place_json_mset(arguments: Arguments) -> Sequence[Place]:
    """JSON.MSET key path value [key path value ...]."""
    return [(at, at - 2, at - 1) for at in range(3, len(arguments), 3)]


LAYOUTS: dict[str, Layout] = {
    "msetex": place_msetex,
    "hsetex": place_hsetex,
    "zadd": place_zadd,
    "geoadd": place_geoadd,
    "xadd": place_xadd,
    "script": place_script,
    "json": place_json,
    "json_mset": place_json_mset,
}


def layout(column: str) -> Layout | None:
    """Compile a column of values; ``None`` where there are none."""
    column = column.lstrip("=")
    if column == NOTHING:
        return None
    if column in LAYOUTS:
        return LAYOUTS[column]
    first, is_range, _ = column.partition("..")
    if is_range and column[-1] in "@^":
        return paired(int(first), with_key=column.endswith("^"))
    if is_range:
        return onward(int(first))
    value, _, field = column.partition("@")
    return fixed(int(value), int(field or 0))


# ---- choices: what options mean for the reply, or a refusal

_CONDITIONS = frozenset({b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE"})
SET_OPTIONS = {**_EXPIRIES, b"NX": 0, b"XX": 0, b"GET": 0, b"KEEPTTL": 0, **dict.fromkeys(_CONDITIONS, 1)}


def choose_set(arguments: Arguments) -> str:
    """SET key value [options]."""
    if len(arguments) == 3:
        return NOTHING
    found = walk(arguments, 3, SET_OPTIONS)
    if not _CONDITIONS.isdisjoint(found):
        raise _refused(arguments, "set")
    return "value" if b"GET" in found else NOTHING


def choose_delex(arguments: Arguments) -> str:
    """DELEX key [condition value]; without a condition it is a DEL."""
    if walk(arguments, 2, dict.fromkeys(_CONDITIONS, 1)):
        raise _refused(arguments, "delex")
    return NOTHING


def choose_announced_fields(arguments: Arguments) -> str:
    """HGETDEL and HGETEX; refuses what could not be opened afterwards."""
    announced_fields(arguments)
    return "announced_fields"


def choose_hrandfield(arguments: Arguments) -> str:
    """HRANDFIELD key [count [WITHVALUES]]."""
    return "map" if b"WITHVALUES" in walk(arguments, 3, {b"WITHVALUES": 0}) else NOTHING


def choose_zrandmember(arguments: Arguments) -> str:
    """ZRANDMEMBER key [count [WITHSCORES]]."""
    return _scored(walk(arguments, 3, {b"WITHSCORES": 0}))


def choose_hscan(arguments: Arguments) -> str:
    """HSCAN key cursor [options]; fields are not sealed, so MATCH does what it says."""
    found = walk(arguments, 3, {b"MATCH": 1, b"COUNT": 1, b"NOVALUES": 0})
    return NOTHING if b"NOVALUES" in found else "scanned_map"


def choose_sscan(arguments: Arguments) -> str:
    """SSCAN key cursor [options]."""
    _refuse_match(arguments)
    return "scanned"


def choose_zscan(arguments: Arguments) -> str:
    """ZSCAN key cursor [options]."""
    _refuse_match(arguments)
    return "scanned_scored"


def _refuse_match(arguments: Arguments) -> None:
    match = walk(arguments, 3, {b"MATCH": 1, b"COUNT": 1}).get(b"MATCH")
    # What matches everything says nothing of members.
    if match is not None and arguments[match] != b"*":
        raise _refused(arguments, "sscan")


def _scored(found: Mapping[bytes, int]) -> str:
    return "scored" if b"WITHSCORES" in found else "members"


_ZRANGE = {b"BYSCORE": 0, b"BYLEX": 0, b"REV": 0, b"LIMIT": 2, b"WITHSCORES": 0}


def choose_zrange(arguments: Arguments) -> str:
    """ZRANGE key start stop [options]."""
    found = walk(arguments, 4, _ZRANGE)
    if b"BYLEX" in found:
        raise _refused(arguments, "zrange")
    return _scored(found)


def choose_zrangestore(arguments: Arguments) -> str:
    """ZRANGESTORE destination source start stop [options]."""
    if b"BYLEX" in walk(arguments, 5, _ZRANGE):
        raise _refused(arguments, "zrange")
    return NOTHING


def choose_zrangebyscore(arguments: Arguments) -> str:
    """ZRANGEBYSCORE key min max [options] and its reverse."""
    return _scored(walk(arguments, 4, {b"LIMIT": 2, b"WITHSCORES": 0}))


def choose_zrevrange(arguments: Arguments) -> str:
    """ZREVRANGE key start stop [WITHSCORES]."""
    return _scored(walk(arguments, 4, {b"WITHSCORES": 0}))


def choose_combine(arguments: Arguments) -> str:
    """ZUNION, ZINTER and ZDIFF count key ... [options]."""
    count = count_at(arguments, 1)
    return _scored(walk(arguments, 2 + count, {b"WEIGHTS": count, b"AGGREGATE": 1, b"WITHSCORES": 0}))


def choose_xadd(arguments: Arguments) -> str:
    """XADD key [options] id field value ..."""
    if b"IDMPAUTO" in xadd_options(arguments)[1]:
        raise _refused(arguments, "xadd")
    return NOTHING


CHOICES: dict[str, Choice] = {
    "set": choose_set,
    "delex": choose_delex,
    "announced_fields": choose_announced_fields,
    "hrandfield": choose_hrandfield,
    "zrandmember": choose_zrandmember,
    "hscan": choose_hscan,
    "sscan": choose_sscan,
    "zscan": choose_zscan,
    "zrange": choose_zrange,
    "zrangestore": choose_zrangestore,
    "zrangebyscore": choose_zrangebyscore,
    "zrevrange": choose_zrevrange,
    "combine": choose_combine,
    "xadd": choose_xadd,
}
