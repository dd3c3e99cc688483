"""Random commands: any row of the table, with arguments that are hard to tell from options and patterns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tenantkv.commands.blocking import blocking_time
from tenantkv.commands.table import RULES
from tests.shapes import SHAPES, Shape, name_of, shapes_by_name

#: Commands that hold state on a connection of a pool, close it, wait, or answer by pushes.
NEVER_ALONE = frozenset(
    {"MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH", "QUIT", "HELLO", "AUTH", "ASKING", "WAIT", "WAITAOF"}
    | {"READONLY", "READWRITE", "SUBSCRIBE", "UNSUBSCRIBE", "PSUBSCRIBE", "PUNSUBSCRIBE", "SSUBSCRIBE"}
    | {"SUNSUBSCRIBE", "SELECT", "CLIENT TRACKING", "CLIENT CACHING", "CLIENT NO-TOUCH", "CLIENT SETNAME"}
    | {"CLIENT SETINFO", "CLIENT CAPA", "CLIENT MAINT_NOTIFICATIONS", "COMMAND", "COMMAND DOCS"}
    | {"COMMAND INFO", "COMMAND LIST", "LOLWUT"}
)

COMMANDS = sorted(name for name in RULES if name not in NEVER_ALONE)

OPTION_WORDS = [
    *b"STORE STOREDIST STREAMS BY GET MATCH KEYS COUNT LIMIT GROUP NOACK BLOCK WEIGHTS AGGREGATE".split(),
    *b"DB REPLACE NX XX GT LT EX PX KEEPTTL WITHSCORES WITHVALUES ALPHA ASC DESC ANY TYPE CH".split(),
    *b"FIELDS LEFT RIGHT MIN MAX BEFORE AFTER AND OR NOT # ~ = *".split(),
    *b"store streams by get match limit nosort".split(),
]
NUMBERS = [b"0", b"1", b"2", b"3", b"-1", b"1.5", b"007", b"+1", b" 1", b"1_0", b"99999999999999999999"]
IDS = [b"$", b">", b"-", b"+", b"0-0", b"1-1", b"7-1", b"-inf", b"+inf", b"[a", b"(b"]
NAMES = [
    *(b"str num list nums set set2 ints zset zset2 hash stream geo hll hll2 w_1 none dst a b".split()),
    *(b"* ? w_* [a] a[b-c]d \\ \\* a\\ {t}:a {} : prefix:a STORE STREAMS BY GET KEYS".split()),
    *(b"", b"\x00", b"\xff\xfe", b"a\r\nb", b"*3\r\n$3\r\n", "ключ".encode(), b" ", b"a b", b"->", b"w_*->f"),
]
names = st.sampled_from(NAMES) | st.binary(max_size=4)
words = st.one_of(
    names,
    st.sampled_from(OPTION_WORDS),
    st.sampled_from(NUMBERS),
    st.sampled_from(IDS),
    st.binary(max_size=4),
)


@st.composite
def mutated_shapes(draw: Any) -> Shape:
    """A valid command of which some arguments were replaced, repeated, inserted or dropped."""
    shape = list(draw(st.sampled_from(SHAPES)))
    first = len(name_of(tuple(shape)).split())
    for _ in range(draw(st.integers(0, 3))):
        if len(shape) == first:
            break
        at = draw(st.integers(first, len(shape) - 1))
        change = draw(st.sampled_from(["replace", "replace", "rename", "insert", "drop", "append"]))
        if change == "replace":
            shape[at] = draw(words)
        elif change == "rename":
            shape[at] = draw(names)
        elif change == "insert":
            shape.insert(at, draw(words))
        elif change == "append":
            shape.append(draw(words))
        else:
            del shape[at]
    return tuple(shape)


@st.composite
def free_commands(draw: Any) -> Shape:
    """Any command of the table with any words, mostly as many as it asks for."""
    name = draw(st.sampled_from(COMMANDS))
    head = [word.encode() for word in name.split()]
    rule = RULES[name]
    count = max(0, rule.min_args - (len(head) - 1) + draw(st.integers(-1, 3)))
    rest = draw(st.lists(words, min_size=count, max_size=count))
    return (*head, *rest)


def calm(shape: Shape) -> Shape:
    """Return a command that does not wait: blocking ones get a time of a few milliseconds."""
    name = name_of(shape)
    rule = RULES.get(name)
    if rule is None or not rule.blocks or blocking_time(rule, shape) <= 0.02:
        return shape
    calm_ones = (known for known in shapes_by_name().get(name, ()) if blocking_time(rule, known) <= 0.02)
    return next(calm_ones, (b"PING",))


commands = (mutated_shapes() | free_commands()).map(calm)


@dataclass(frozen=True, slots=True)
class Step:
    """What one tenant does at once.

    Attributes:
        tenant: 0 or 1.
        form: how the commands are sent: single, pipeline or transaction.
        commands: as bytes, one or several.
        spelling: how arguments become Python values; see `spelled`.
    """

    tenant: int
    form: str
    commands: tuple[Shape, ...]
    spelling: int


@st.composite
def steps(draw: Any) -> Step:
    form = draw(st.sampled_from(["single", "single", "pipeline", "transaction"]))
    count = 1 if form == "single" else draw(st.integers(1, 4))
    return Step(
        draw(st.integers(0, 1)),
        form,
        tuple(draw(commands) for _ in range(count)),
        draw(st.integers(0, 5)),
    )


def spelled(shape: Shape, spelling: int) -> tuple[Any, ...]:
    """Return a command as users write it: names in either case, joined or apart, values of many types."""
    head: Any = shape[0]
    rest = shape[1:]
    if spelling in (1, 4) and len(name_of(shape).split()) == 2:
        head, rest = b" ".join(shape[:2]), shape[2:]
    if spelling in (2, 3):
        head = head.lower()
    if spelling in (0, 1, 2) and head.isascii():
        head = head.decode()
    return (head, *(_value(word, spelling + at) for at, word in enumerate(rest)))


def _value(word: bytes, spelling: int) -> Any:
    kind = spelling % 4
    if kind == 1:
        return memoryview(word)
    if kind == 2 and word.isdigit() and str(int(word)).encode() == word:
        return int(word)
    if kind == 2 and word == b"1.5":
        return 1.5
    try:
        return word.decode() if kind == 3 else word
    except UnicodeDecodeError:
        return word
