"""Commands through a `SealPlan`: what is sealed as what, how replies open, and what is refused."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tenantkv.commands.decisions import DECISIONS, all_decisions, decide, members_of
from tenantkv.commands.rule import Rule
from tenantkv.commands.sealing import SealPlan, values_of
from tenantkv.commands.table import RULES, find_rule
from tenantkv.commands.value_table import CLEAR_ROWS, OPTION_REFUSALS, REFUSED
from tenantkv.errors import ForbiddenCommandError, MalformedCommandError, RefusedError
from tests.naming import shown
from tests.property.strategies import free_commands, mutated_shapes
from tests.sealers import NotOpenedError, TaggingSealer
from tests.shapes import OTHER_SHAPES, SHAPES, Shape
from tools.write_sealed_commands import PAGE, group_of, page_parts

# Each form of a command once more, where `tests/shapes.py` has only what the oldest server understands.
MORE_SHAPES = """
BLMOVEM list list LEFT RIGHT 0 COUNT 2 BULK
DELEX str
HSETEX hash FNX KEEPTTL FIELDS 2 f v EX w
LMOVEM list list LEFT RIGHT COUNT 2 OBO
MSETEX 2 str FIELDS num 2 NX EX 10
PUBLISH channel message
SPUBLISH channel message
SDIFFCARD 1 set
SUNIONCARD 1 set LIMIT 1
SUBSCRIBE channel
PUBSUB CHANNELS *
XADD stream MAXLEN ~ 10 LIMIT 5 NOMKSTREAM KEEPREF IDMP producer 7 * f v
XADD stream MINID = 1-1 1-* MAXLEN 5
"""


def words(text: str) -> list[bytes]:
    return [word.encode() for word in shlex.split(text)]


ALL_SHAPES = [
    *SHAPES,
    *OTHER_SHAPES,
    *(tuple(words(line)) for line in filter(None, MORE_SHAPES.splitlines())),
]


def plan(**options: Any) -> SealPlan:
    return SealPlan(TaggingSealer(), **options)


def apply(text: str, **options: Any) -> tuple[list[bytes], Any]:
    command = words(text)
    return plan(**options).apply(command, find_rule(command))


def named(text: str) -> set[str]:
    return set(text.split())


def sealed(text: str, **options: Any) -> str:
    """Return a command with its seals, the random numbers left out."""
    return re.sub(rb"\|\d+\|", b"|", b" ".join(apply(text, **options)[0])).decode()


def opened(text: str, reply: Any, **options: Any) -> Any:
    return apply(text, **options)[1](reply)


def kv(value: bytes, key: bytes, kind: bytes = b"kv", field: bytes = b"") -> bytes:
    return b"<%b|%b|%b|0|%b>" % (kind, key, field, value)


def member(value: bytes, key: bytes) -> bytes:
    return b"<set|%b||=|%b>" % (key, value)


# ---- the table


def test_every_command_with_names_has_exactly_one_decision() -> None:
    counts = Counter(decision.name for decision in all_decisions())
    named = {rule.name for rule in RULES.values() if rule.policy in ("namespace", "channel")}
    # Other tests may have declared commands.
    assert {name for name in named - counts.keys() if "-" not in name and name in _TABLE} == set()
    assert counts.keys() - named == set()
    assert [name for name, count in counts.items() if count > 1] == []


_TABLE = frozenset(RULES)


def test_every_family_has_members() -> None:
    families = [name for _, _, names in REFUSED for name in names.split() if name.endswith("*")]
    assert families and all(members_of(family) for family in families)


def test_what_is_clear_belongs_to_a_refused_or_opaque_command() -> None:
    names = [line.split()[0].replace("|", " ") for line in filter(None, CLEAR_ROWS.splitlines())]
    assert {DECISIONS[name].what for name in names} == {"refuse", "opaque"}
    assert len(names) == len(set(names))


def test_refusals_say_why_and_what_instead() -> None:
    for decision in DECISIONS.values():
        if decision.what in ("refuse", "context"):
            assert decision.reason.endswith(".") and decision.instead.endswith("."), decision.name


def test_each_type_has_one_kind() -> None:
    kinds: dict[str, set[str]] = {}
    for name, decision in DECISIONS.items():
        if decision.what in ("sealed", "context"):
            kinds.setdefault(group_of(name), set()).add(decision.kind)
    assert kinds == {
        "Any key": {"kv"},
        "Strings": {"kv"},
        "Hashes": {"hash"},
        "Lists": {"list"},
        "Sets": {"set"},
        "Sorted sets": {"set"},
        "Streams": {"stream"},
        "Channels": {"chan"},
    }


def test_which_replies_are_opened_and_which_arguments_sealed() -> None:
    """The table once more, from the side of the data: what each command gives and takes."""
    moving = [each for each in DECISIONS.values() if each.what in ("sealed", "context")]
    silent = {each.name for each in moving if each.form is None and each.choice is None}
    assert silent == named(
        "MSET MSETEX MSETNX PSETEX SETEX SETNX HMSET HSET HSETEX HSETNX LPUSH LPUSHX LSET RPUSH RPUSHX "
        "SADD SISMEMBER SMISMEMBER SREM SMOVE SDIFFCARD SDIFFSTORE SINTERCARD SINTERSTORE SUNIONCARD "
        "SUNIONSTORE ZADD ZINCRBY ZMSCORE ZRANK ZREM ZREVRANK ZSCORE ZDIFFSTORE ZINTERCARD ZINTERSTORE "
        "ZUNIONSTORE COPY RENAME RENAMENX PUBLISH SPUBLISH"
    )
    takers = {each.name for each in moving if each.layout is not None}
    no_values = named(
        "COPY RENAME RENAMENX SDIFFCARD SDIFFSTORE SINTERCARD SINTERSTORE SUNIONCARD SUNIONSTORE "
        "ZDIFFSTORE ZINTERCARD ZINTERSTORE ZUNIONSTORE"
    )
    assert takers == (silent - no_values) | {"SET", "GETSET", "XADD"}


def test_every_sealed_or_context_command_has_a_shape() -> None:
    shaped = {find_rule(list(shape)).name for shape in ALL_SHAPES}
    wanted = {name for name, decision in DECISIONS.items() if decision.what in ("sealed", "context")}
    assert wanted - shaped == set()


# ---- every shape


@pytest.mark.parametrize("shape", ALL_SHAPES, ids=lambda shape: b" ".join(shape).decode()[:60])
def test_every_shape(shape: Shape) -> None:
    command = list(shape)
    rule = find_rule(command)
    decision = decide(rule)
    together = plan(contexts={b"*": b"all"})
    names = rule.locate(command) if rule.locate else ()
    if (decision.what == "refuse" and names) or _option_refused(command):
        with pytest.raises(ForbiddenCommandError) as caught:
            together.apply(command, rule)
        assert caught.value.command == rule.name and caught.value.reason and caught.value.instead
        if rule.locate is not None and b"BY" not in command and b"GET" not in command:
            assert plan(plaintext_keys=[b"*"]).apply(command, rule) == (command, None)
        return
    result, opener = together.apply(command, rule)
    assert command == list(shape), "the caller's words were changed"
    assert len(result) == len(command)
    for position in names:
        assert result[position] == command[position], "a name was changed"
    changed = [at for at, (old, new) in enumerate(zip(command, result, strict=True)) if old != new]
    _assert_sealed_as_decided(command, result, changed, rule)
    if opener is not None:
        harmless_replies: list[Any] = [None, 0, [], RefusedError("X", "an error object")]
        for harmless in harmless_replies:
            assert opener(harmless) is harmless or opener(harmless) == harmless
    if rule.policy != "channel":
        assert plan(plaintext_keys=[b"*"]).apply(command, rule) == (command, None)


def _option_refused(command: list[bytes]) -> bool:
    upper = [word.upper() for word in command]
    if upper[0] == b"DELEX":
        return len(upper) > 2
    return b"BYLEX" in upper or (
        upper[0] in (b"SSCAN", b"ZSCAN") and upper[3:4] == [b"MATCH"] and upper[4] != b"*"
    )


def _assert_sealed_as_decided(
    command: list[bytes], result: list[bytes], changed: list[int], rule: Rule
) -> None:
    decision = decide(rule)
    places = decision.layout(command) if decision.layout else ()
    assert changed == sorted(value for value, _, _ in places)
    for value, key, field in places:
        name = command[key] if rule.policy == "channel" else b"all"
        at = b"<%b|%b|%b|" % (decision.kind.encode(), name, command[field] if field else b"")
        assert result[value].startswith(at)
        assert result[value].endswith(b"|%b>" % command[value])
        assert (b"|=|" in result[value]) == (decision.kind == "set")


SEALED = {
    "SET k v": "SET k <kv|k||v>",
    "set k GET get eX 5": "set k <kv|k||GET> get eX 5",
    "SET EX EX": "SET EX <kv|EX||EX>",
    "SETEX k 5 v": "SETEX k 5 <kv|k||v>",
    "MSET a 1 b 2": "MSET a <kv|a||1> b <kv|b||2>",
    "MSETEX 2 a 1 b 2 EX 5": "MSETEX 2 a <kv|a||1> b <kv|b||2> EX 5",
    "HSET h f v g v": "HSET h f <hash|h|f|v> g <hash|h|g|v>",
    "HSETNX h f v": "HSETNX h f <hash|h|f|v>",
    "HSETEX h FXX FIELDS 2 FIELDS 1 EX 2": "HSETEX h FXX FIELDS 2 FIELDS <hash|h|FIELDS|1> EX <hash|h|EX|2>",
    "HSETEX h EX 5 FIELDS 1 f v": "HSETEX h EX 5 FIELDS 1 f <hash|h|f|v>",
    "RPUSH l a a": "RPUSH l <list|l||a> <list|l||a>",
    "LSET l 0 a": "LSET l 0 <list|l||a>",
    "SADD s a b": "SADD s <set|s||=|a> <set|s||=|b>",
    "SMISMEMBER s a b": "SMISMEMBER s <set|s||=|a> <set|s||=|b>",
    "ZADD z 1 a": "ZADD z 1 <set|z||=|a>",
    "ZADD z nx gt CH 1 NX 2 INCR": "ZADD z nx gt CH 1 <set|z||=|NX> 2 <set|z||=|INCR>",
    "ZADD z INCR 1 a": "ZADD z INCR 1 <set|z||=|a>",
    "ZINCRBY z 1 a": "ZINCRBY z 1 <set|z||=|a>",
    "ZRANK z a WITHSCORE": "ZRANK z <set|z||=|a> WITHSCORE",
    "ZMSCORE z a b": "ZMSCORE z <set|z||=|a> <set|z||=|b>",
    "XADD x * f v": "XADD x * f <stream|x|f|v>",
    "XADD x MAXLEN 5 * MAXLEN MINID": "XADD x MAXLEN 5 * MAXLEN <stream|x|MAXLEN|MINID>",
    "XADD x minid ~ 1-1 limit 5 1-* f v": "XADD x minid ~ 1-1 limit 5 1-* f <stream|x|f|v>",
    "XADD x 1-1 f v f w": "XADD x 1-1 f <stream|x|f|v> f <stream|x|f|w>",
    "XADD x nomkstream 5-5 f v": "XADD x nomkstream 5-5 f <stream|x|f|v>",
    "XADD x MAXLEN = 5 IDMP * * 5 f v": "XADD x MAXLEN = 5 IDMP * * 5 f <stream|x|f|v>",
    "SMOVE s s a": "SMOVE s s <set|s||=|a>",
    "PUBLISH c m": "PUBLISH c <chan|c||m>",
}


@pytest.mark.parametrize(("command", "expected"), SEALED.items())
def test_what_is_sealed_as_what(command: str, expected: str) -> None:
    assert sealed(command) == expected


MALFORMED = [
    "HSET h f v g",
    "HMSET h f v g",
    "MSET a 1 b",
    "MSETEX 2 a 1 b",
    "MSETEX x a 1",
    "ZADD z NX 1",
    "ZADD z NX GT",
    "ZADD z 1 a 2",
    "ZADD z NEW 1 a 2",
    "XADD x NEWOPTION 5 f v",
    "XADD x MAXLEN 5 f",
    "XADD x * f v g",
    "XADD x * f v -1",
    "XADD x -1 f v",
    "SET k v NEWOPTION",
    "SET k v EX",
    "HSETEX h FIELDS 2 f v g",
    "HSETEX h FIELDS 1 f v FIELDS 1 f v",
    "HSETEX h FIELDS 1 f v w x",
    "HSETEX h EX 1 FIELDS +1 f v",
    "HGETEX h NEW FIELDS 1 f",
    "HGETDEL h FIELDS 2 f",
    "HSCAN h 0 NEW",
    "SSCAN s 0 MATCH",
    "ZRANGE z 0 1 LIMIT 0",
    "ZRANGE z 0 1 NEW",
    "ZUNION 1 z WEIGHTS",
]


@pytest.mark.parametrize("command", MALFORMED)
def test_what_cannot_be_parsed_is_refused(command: str) -> None:
    with pytest.raises(MalformedCommandError):
        apply(command)


OPTIONS = {
    "SET k v IFEQ v": "IFEQ",
    "SET k v EX 5 ifne v": "IFNE",
    "DELEX k IFEQ v": "IFEQ",
    "DELEX k IFDNE 0": "IFDNE",
    "ZRANGE z - + BYLEX": "BYLEX",
    "ZRANGE z + - REV LIMIT 0 1 bylex": "BYLEX",
    "ZRANGESTORE z z - + BYLEX": "BYLEX",
    "SSCAN s 0 COUNT 5 MATCH a*": "MATCH",
    "ZSCAN z 0 MATCH a*": "MATCH",
    "XADD x IDMPAUTO p * f v": "IDMPAUTO",
}


@pytest.mark.parametrize(("command", "option"), OPTIONS.items())
def test_options_that_look_at_values_are_refused(command: str, option: str) -> None:
    with pytest.raises(ForbiddenCommandError) as caught:
        apply(command)
    assert caught.value.instead
    assert any(option in what for what, _, _ in OPTION_REFUSALS.values())
    # In clear, the server may look.
    assert apply(command, plaintext_keys=[b"*"]) == (words(command), None)


def test_options_are_not_searched_for_among_values() -> None:
    assert sealed("SET k IFEQ") == "SET k <kv|k||IFEQ>"
    assert apply("SSCAN s 0 COUNT MATCH")[1] is not None
    assert apply("ZUNION 2 WITHSCORES BYLEX", contexts={b"*": b"all"})[1]([member(b"a", b"all")]) == [b"a"]
    assert apply("HRANDFIELD WITHVALUES 2")[1] is None
    assert sealed("XADD x * IDMPAUTO v") == "XADD x * IDMPAUTO <stream|x|IDMPAUTO|v>"


# ---- replies

A, B = member(b"a", b"z"), member(b"b", b"z")
ENTRY = [b"1-1", [b"f", kv(b"v", b"x", b"stream", b"f"), b"f", kv(b"w", b"x", b"stream", b"f")]]
CLEAR_ENTRY = [b"1-1", [b"f", b"v", b"f", b"w"]]
FIELD, OTHER = kv(b"v", b"h", b"hash", b"f"), kv(b"w", b"h", b"hash", b"g")

REPLIES: list[tuple[str, Any, Any]] = [
    ("GET k", kv(b"v", b"k"), b"v"),
    ("GET k", None, None),
    ("SET k v GET", kv(b"old", b"k"), b"old"),
    ("GETEX k EX 5", kv(b"", b"k"), b""),
    ("MGET a b", [kv(b"1", b"a"), None], [b"1", None]),
    ("HGET h f", FIELD, b"v"),
    ("HMGET h f none g", [FIELD, None, OTHER], [b"v", None, b"w"]),
    ("HGETDEL h FIELDS 2 f g", [FIELD, OTHER], [b"v", b"w"]),
    ("HGETEX h EX 5 FIELDS 2 f g", [FIELD, None], [b"v", None]),
    ("HGETALL h", [b"f", FIELD, b"g", OTHER], [b"f", b"v", b"g", b"w"]),
    ("HGETALL h", {b"f": FIELD, b"g": OTHER}, {b"f": b"v", b"g": b"w"}),
    ("HRANDFIELD h 2 WITHVALUES", [b"f", FIELD], [b"f", b"v"]),
    ("HRANDFIELD h 2 WITHVALUES", [[b"f", FIELD]], [[b"f", b"v"]]),
    ("HSCAN h 0 MATCH f*", [b"0", [b"f", FIELD]], [b"0", [b"f", b"v"]]),
    ("LRANGE l 0 -1", [kv(b"a", b"l", b"list")] * 2, [b"a", b"a"]),
    ("LPOP l", kv(b"a", b"l", b"list"), b"a"),
    ("LPOP l 2", [kv(b"a", b"l", b"list")], [b"a"]),
    ("BLPOP k l 0", [b"l", kv(b"a", b"l", b"list")], [b"l", b"a"]),
    ("LMPOP 2 k l LEFT", [b"l", [kv(b"a", b"l", b"list")]], [b"l", [b"a"]]),
    ("BLMPOP 0 1 l LEFT COUNT 2", [b"l", [kv(b"a", b"l", b"list")]], [b"l", [b"a"]]),
    ("LMOVE l l LEFT RIGHT", kv(b"a", b"l", b"list"), b"a"),
    ("LMOVEM l l LEFT RIGHT", [kv(b"a", b"l", b"list")], [b"a"]),
    ("SMEMBERS z", {A, B}, {b"a", b"b"}),
    ("SMEMBERS z", [A, B], [b"a", b"b"]),
    ("SPOP z", A, b"a"),
    ("SRANDMEMBER z -5", [A, A], [b"a", b"a"]),
    ("SSCAN z 0", [b"7", [A]], [b"7", [b"a"]]),
    ("SUNION z", {A}, {b"a"}),
    ("ZRANGE z 0 -1", [A, B], [b"a", b"b"]),
    ("ZRANGE z 0 -1 WITHSCORES", [A, b"1", B, b"2"], [b"a", b"1", b"b", b"2"]),
    ("ZRANGE z 0 -1 WITHSCORES", [[A, 1.0], [B, 2.0]], [[b"a", 1.0], [b"b", 2.0]]),
    ("ZRANGEBYSCORE z 1 2 LIMIT 0 1 WITHSCORES", [A, b"1"], [b"a", b"1"]),
    ("ZREVRANGE z 0 -1 WITHSCORES", [[A, 1.0]], [[b"a", 1.0]]),
    ("ZRANDMEMBER z", A, b"a"),
    ("ZRANDMEMBER z 2 WITHSCORES", [A, b"1"], [b"a", b"1"]),
    ("ZPOPMIN z", [A, 1.0], [b"a", 1.0]),
    ("ZPOPMAX z 2", [[A, 1.0]], [[b"a", 1.0]]),
    ("BZPOPMIN y z 0", [b"z", A, b"1"], [b"z", b"a", b"1"]),
    ("ZMPOP 2 y z MIN", [b"z", [[A, b"1"]]], [b"z", [[b"a", b"1"]]]),
    ("BZMPOP 0 1 z MAX", [b"z", [[A, 1.0]]], [b"z", [[b"a", 1.0]]]),
    ("ZSCAN z 0 MATCH *", [b"0", [A, b"1"]], [b"0", [b"a", b"1"]]),
    ("ZUNION 1 z WITHSCORES", [A, b"1"], [b"a", b"1"]),
    ("ZINTER 1 z WEIGHTS 2 AGGREGATE MAX", [A], [b"a"]),
    ("XRANGE x - +", [ENTRY], [CLEAR_ENTRY]),
    ("XREAD STREAMS y x 0 0", [[b"x", [ENTRY]]], [[b"x", [CLEAR_ENTRY]]]),
    ("XREAD STREAMS x 0", {b"x": [ENTRY]}, {b"x": [CLEAR_ENTRY]}),
    (
        "XREADGROUP GROUP g c STREAMS x 0",
        [[b"x", [ENTRY, [b"2-1", None]]]],
        [[b"x", [CLEAR_ENTRY, [b"2-1", None]]]],
    ),
    ("XREADGROUP GROUP g c CLAIM 5 STREAMS x >", {b"x": [[*ENTRY, 7, 1]]}, {b"x": [[*CLEAR_ENTRY, 7, 1]]}),
    ("XCLAIM x g c 0 1-1", [None, ENTRY], [None, CLEAR_ENTRY]),
    ("XCLAIM x g c 0 1-1 JUSTID", [b"1-1"], [b"1-1"]),
    ("XAUTOCLAIM x g c 0 0", [b"0-0", [ENTRY], [b"2-1"]], [b"0-0", [CLEAR_ENTRY], [b"2-1"]]),
    ("XAUTOCLAIM x g c 0 0 JUSTID", [b"0-0", [b"1-1"], []], [b"0-0", [b"1-1"], []]),
    ("XINFO STREAM x", [b"length", 1, b"first-entry", ENTRY], [b"length", 1, b"first-entry", CLEAR_ENTRY]),
    ("XINFO STREAM x", {b"last-entry": ENTRY, b"groups": 0}, {b"last-entry": CLEAR_ENTRY, b"groups": 0}),
    ("XINFO STREAM x FULL", {b"entries": [ENTRY], b"groups": []}, {b"entries": [CLEAR_ENTRY], b"groups": []}),
]


@pytest.mark.parametrize(("command", "reply", "expected"), REPLIES, ids=lambda value: shown(value)[:50])
def test_replies_open(command: str, reply: Any, expected: Any) -> None:
    assert opened(command, reply) == expected


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("GET k", b"plain"),
        ("GET k", kv(b"v", b"other")),
        ("GET k", kv(b"v", b"k", b"list")),
        ("HGET h g", FIELD),
        ("HMGET h g f", [FIELD, OTHER]),
        ("HGETALL h", [b"g", FIELD]),
        ("MGET b a", [kv(b"1", b"a"), None]),
        ("LRANGE l 0 -1", [kv(b"a", b"l", b"list"), b"plain"]),
        ("LRANGE l 0 -1", b"no list"),
        ("HGETALL h", b"no map"),
        ("BLPOP l 0", [b"l", b"plain"]),
        ("ZRANGE z 0 -1 WITHSCORES", [b"plain", b"1"]),
        ("ZPOPMIN z 2", [[b"plain", 1.0]]),
        ("XRANGE y - +", [ENTRY]),
        ("XREAD STREAMS x 0", {b"x": [[b"1-1", [b"g", ENTRY[1][1]]]]}),
    ],
    ids=str,
)
def test_what_belongs_elsewhere_raises_and_is_not_handed_on(command: str, reply: Any) -> None:
    with pytest.raises(NotOpenedError):
        opened(command, reply)


def test_a_reply_is_not_changed_in_place() -> None:
    reply = [b"f", FIELD]
    opened("HGETALL h", reply)
    assert reply == [b"f", FIELD]


# ---- contexts and plaintext keys


@pytest.mark.parametrize(
    "command",
    [
        "RENAME a b",
        "RENAMENX a b",
        "COPY a b REPLACE",
        "LMOVE a b LEFT RIGHT",
        "RPOPLPUSH a b",
        "SMOVE a b m",
        "SINTERSTORE a a b",
        "SDIFF a b",
        "SINTERCARD 2 a b",
        "ZUNIONSTORE a 1 b",
        "ZRANGESTORE a b 0 1",
    ],
)
def test_values_move_within_one_context_only(command: str) -> None:
    for options in (
        {},
        {"contexts": {b"a": b"one", b"b": b"two"}},
        {"plaintext_keys": [b"a"]},
        {"plaintext_keys": [b"b"], "contexts": {b"*": b"all"}},
    ):
        with pytest.raises(ForbiddenCommandError, match="context"):
            apply(command, **options)
    for options in ({"contexts": {b"?": b"all"}}, {"contexts": {b"b": b"a"}}):
        apply(command, **options)
    assert apply(command, plaintext_keys=[b"a", b"b"]) == (words(command), None)


def test_one_key_alone_is_one_context() -> None:
    assert opened("LMOVE l l LEFT RIGHT", kv(b"a", b"l", b"list")) == b"a"
    assert apply("RENAME a a")[1] is None


def test_the_first_context_that_matches_counts() -> None:
    contexts = {b"jobs:urgent": b"urgent", b"jobs:*": b"jobs"}
    assert sealed("RPUSH jobs:urgent v", contexts=contexts) == "RPUSH jobs:urgent <list|urgent||v>"
    assert sealed("RPUSH jobs:x v", contexts=contexts) == "RPUSH jobs:x <list|jobs||v>"
    assert sealed("RPUSH other v", contexts=contexts) == "RPUSH other <list|other||v>"
    assert opened(
        "BLPOP jobs:x jobs:urgent 0", [b"jobs:urgent", kv(b"v", b"urgent", b"list")], contexts=contexts
    )


def test_commands_of_many_keys_treat_each_key_by_itself() -> None:
    options = {"plaintext_keys": [b"n:*", b"exact", b"[xy]?"]}
    assert sealed("MSET n:1 1 a 2 exact 3 exactly 4 x1 5", **options) == (
        "MSET n:1 1 a <kv|a||2> exact 3 exactly <kv|exactly||4> x1 5"
    )
    assert opened("MGET n:1 a", [b"1", kv(b"2", b"a")], **options) == [b"1", b"2"]
    assert opened("BLPOP n:l l 0", [b"n:l", b"plain"], **options) == [b"n:l", b"plain"]
    assert opened("BLPOP n:l l 0", [b"l", kv(b"v", b"l", b"list")], **options) == [b"l", b"v"]
    assert opened("XREAD STREAMS n:x x 0 0", {b"n:x": [CLEAR_ENTRY], b"x": [ENTRY]}, **options) == {
        b"n:x": [CLEAR_ENTRY],
        b"x": [CLEAR_ENTRY],
    }
    assert apply("DEL n:1 a", **options) == (words("DEL n:1 a"), None)
    assert apply("INCR n:1", **options) == (words("INCR n:1"), None)
    with pytest.raises(ForbiddenCommandError):
        apply("BITOP AND n:1 n:2 a", **options)


def test_a_sort_may_not_read_sealed_keys_through_its_patterns() -> None:
    options = {"plaintext_keys": [b"nums", b"w_*"]}
    for allowed in (
        "SORT nums",
        "SORT nums BY nosort GET #",
        "SORT nums BY w_* GET w_x*->f",
        "SORT_RO nums BY w_*",
    ):
        assert apply(allowed, **options) == (words(allowed), None)
    for refused in (
        "SORT nums GET *",
        "SORT nums GET w*",
        "SORT nums BY v_*",
        "SORT nums STORE dst",
        "SORT other",
    ):
        with pytest.raises(ForbiddenCommandError):
            apply(refused, **options)


def test_scripts_and_dumps_are_opaque() -> None:
    for text in ("EVAL code 1 k v", "EVALSHA sha 0 v", "RESTORE k 0 dump", "DUMP k"):
        assert apply(text) == (words(text), None)


def test_commands_without_names_pass() -> None:
    for text in ("PING hello", "ECHO hello", "TIME", "MULTI", "SCRIPT LOAD code", "HIMPORT PREPARE set f"):
        assert apply(text) == (words(text), None)


def test_a_command_that_a_user_declared_is_refused_unless_in_clear() -> None:
    rule = Rule("MYMODULE.PUT", "namespace", min_args=1, names="1", locate=lambda _words: (1,))
    command = words("MYMODULE.PUT k v")
    with pytest.raises(ForbiddenCommandError, match="plaintext_keys"):
        plan().apply(command, rule)
    assert plan(plaintext_keys=[b"k"]).apply(command, rule) == (command, None)
    assert values_of(command, rule) == [(b"v", b"k", b"")]


# ---- messages


def test_messages_open_by_their_own_channel() -> None:
    message = kv(b"m", b"c", b"chan")
    assert plan().open_message([b"message", b"c", message]) == [b"message", b"c", b"m"]
    assert plan().open_message([b"smessage", b"c", message]) == [b"smessage", b"c", b"m"]
    assert plan().open_message([b"pmessage", b"?", b"c", message]) == [b"pmessage", b"?", b"c", b"m"]


def test_messages_that_do_not_open_are_dropped_and_counted() -> None:
    ours = plan()
    for channel, message in ((b"c", b"plain"), (b"d", kv(b"m", b"c", b"chan")), (b"c", kv(b"m", b"c"))):
        assert ours.open_message([b"message", channel, message]) is None
        assert ours.open_message([b"smessage", channel, message]) is None
        assert ours.open_message([b"pmessage", b"*", channel, message]) is None
    assert ours.dropped_messages == 9
    assert "dropped_messages=9" in repr(ours)


def test_the_servers_own_messages_pass() -> None:
    for push in (
        [b"subscribe", b"c", 1],
        [b"unsubscribe", None, 0],
        [b"pong", b""],
        [b"invalidate", [b"key"]],
        [b"message", b"__keyevent@0__:set", b"key"],
        [b"pmessage", b"__keyspace@0__:*", b"__keyspace@0__:key", b"set"],
        [b"pmessage", b"__keyevent@*__:set", b"__keyevent@0__:set", b"key"],
        b"PONG",
        None,
    ):
        assert plan().open_message(push) == push


def test_a_channel_that_only_looks_like_the_servers_is_not_believed() -> None:
    """Such a channel has the tenant's prefix; whoever guesses that can publish there."""
    ours = plan()
    assert ours.open_message([b"pmessage", b"*", b"__keyspace@0__:key", b"forged"]) is None
    assert ours.open_message([b"smessage", b"__keyspace@0__:key", b"forged"]) is None


def test_plaintext_channels() -> None:
    options = {"plaintext_channels": [b"news:*"], "plaintext_keys": [b"*"]}
    assert sealed("PUBLISH news:x m", **options) == "PUBLISH news:x m"
    assert sealed("PUBLISH c m", **options) == "PUBLISH c <chan|c||m>"
    assert plan(**options).open_message([b"message", b"news:x", b"m"]) == [b"message", b"news:x", b"m"]


# ---- what would be stored in clear

CLEAR = {
    "SET k v": [("v", "k", "")],
    "MSET a 1 b 2": [("1", "a", ""), ("2", "b", "")],
    "HSET h f v g w": [("v", "h", "f"), ("w", "h", "g")],
    "ZADD z NX 1 a": [("a", "z", "")],
    "XADD x * f v": [("v", "x", "f")],
    "XADD x IDMPAUTO p * f v": [("v", "x", "f")],
    "PUBLISH c m": [("m", "c", "")],
    "SMOVE a b m": [("m", "a", "")],
    "APPEND k v": [("v", "k", "")],
    "SETRANGE k 5 v": [("v", "k", "")],
    "LINSERT l BEFORE a b": [("b", "l", "")],
    "PFADD p a b": [("a", "p", ""), ("b", "p", "")],
    "GEOADD g NX 1 2 a 3 4 b": [("a", "g", ""), ("b", "g", "")],
    "JSON.SET j $.password v": [("v", "j", "$.password")],
    "JSON.MSET j $ v k $.x w": [("v", "j", "$"), ("w", "k", "$.x")],
    "EVAL code 2 a b v w": [("v", "a", ""), ("w", "a", "")],
    "EVALSHA sha 0 v": [("v", "", "")],
    "TOPK.ADD t a": [("a", "t", "")],
    "SISMEMBER s a": [],
    "SREM s a": [],
    "LREM l 0 a": [],
    "ZSCORE z a": [],
    "DELIFEQ k v": [],
    "GET k": [],
    "DEL k": [],
    "PING v": [],
    # What cannot be parsed is the server's to refuse or not; all of it might be a value.
    "ZADD z NEWOPTION 1 a 2": [("NEWOPTION", "z", ""), ("1", "z", ""), ("a", "z", ""), ("2", "z", "")],
}


@pytest.mark.parametrize(("command", "expected"), CLEAR.items())
def test_values_that_would_be_in_clear(command: str, expected: list[tuple[str, str, str]]) -> None:
    found = values_of(words(command), find_rule(words(command)))
    assert [tuple(part.decode() for part in each) for each in found] == expected


def test_every_write_that_takes_values_shows_them() -> None:
    """Whoever adds a write to the table says where its values stand, or adds it here."""
    silent = {
        decision.name
        for decision in DECISIONS.values()
        if RULES[decision.name].creates and decision.clear is None and decision.what != "untouched"
    }
    assert silent == NO_VALUES


#: Commands that may create a key from what is on the server already, or from numbers alone.
NO_VALUES = {
    *("COPY", "RENAME", "RENAMENX", "BLMOVE", "BLMOVEM", "BRPOPLPUSH", "LMOVE", "LMOVEM", "RPOPLPUSH"),
    *("SDIFFSTORE", "SINTERSTORE", "SUNIONSTORE", "ZDIFFSTORE", "ZINTERSTORE", "ZRANGESTORE", "ZUNIONSTORE"),
    *("BITFIELD", "BITOP", "SETBIT", "SORT", "PFMERGE", "ARSEEK", "GEORADIUS", "GEORADIUSBYMEMBER"),
    *("GEOSEARCHSTORE", "CMS.MERGE", "TDIGEST.MERGE", "TS.MADD", "TS.CREATERULE"),
    *("DECR", "DECRBY", "HINCRBY", "HINCRBYFLOAT", "INCR", "INCRBY", "INCRBYFLOAT", "INCREX"),
    *(
        "BF.LOAD",
        "BF.LOADCHUNK",
        "BF.RESERVE",
        "CF.LOADCHUNK",
        "CF.RESERVE",
        "CMS.INITBYDIM",
        "CMS.INITBYPROB",
    ),
    *("TDIGEST.ADD", "TDIGEST.CREATE", "TDIGEST.RESET", "TOPK.RESERVE"),
}


# ---- anything at all


@settings(max_examples=600, deadline=None)
@example((b"MGET",), {})
@example((b"RPUSH", b"0", b"|"), {})
@given(st.one_of(mutated_shapes(), free_commands()), st.sampled_from([{}, {b"*": b"all"}]))
def test_any_command_is_refused_or_keeps_its_names(shape: Shape, contexts: dict[bytes, bytes]) -> None:
    command = list(shape)
    try:
        rule = find_rule(command)
        names = rule.locate(command) if rule.locate else ()
        result, opener = plan(contexts=contexts).apply(command, rule)
    except RefusedError as error:
        assert error.reason
        return
    assert command == list(shape) and len(result) == len(command)
    assert all(result[position] == command[position] for position in names)
    if decide(rule).what in ("sealed", "context"):
        # What would be stored in clear is sealed, each at its place.
        clear = Counter(value for value, _, _ in values_of(command, rule))
        tags = [new for old, new in zip(command, result, strict=True) if old is not new]
        assert sum(clear.values()) <= len(tags)
        # By its end, since names and fields may hold anything, also what separates the parts of a tag.
        for value, count in clear.items():
            assert sum(tag.endswith(b"|%b>" % value) for tag in tags) >= count
    assert opener is None or opener(None) is None


# ---- the page


def test_the_page_says_what_the_table_says() -> None:
    page = PAGE.read_text()
    for name, text in page_parts().items():
        assert f"<!-- {name}:begin -->\n{text}\n<!-- {name}:end -->" in page, f"run {PAGE.stem}'s tool"
