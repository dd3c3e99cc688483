"""One decision a command: what a sealed namespace does with its values, compiled from the value table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from tenantkv.commands.rule import Arguments, Rule
from tenantkv.commands.sealing_options import CHOICES, Choice, Layout, Place, layout
from tenantkv.commands.sealing_replies import FORMS, Form
from tenantkv.commands.table import RULES
from tenantkv.commands.value_table import (
    CLEAR_ROWS,
    CONTEXT_INSTEAD,
    CONTEXT_REASON,
    CONTEXT_ROWS,
    OPAQUE,
    REFUSED,
    SEALED_ROWS,
    UNTOUCHED,
)
from tenantkv.envelope_header import KINDS, Kind
from tenantkv.errors import MalformedCommandError

What = Literal["untouched", "sealed", "context", "opaque", "refuse"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a sealed namespace does with a command.

    Attributes:
        name: the command as in the command table.
        what: see `value_table.py`.
        kind: goes into the seals, where there are any.
        layout: where values stand that are sealed, or ``None``.
        clear: where values stand that the command would store without a seal, or ``None``.
        form: opens the reply, or ``None`` where it has no values.
        choice: says which form, from the options; may refuse; ``None`` where options do not matter.
        reason, instead: the texts of a refusal.
    """

    name: str
    what: What
    kind: Kind = "kv"
    layout: Layout | None = None
    clear: Layout | None = None
    form: Form | None = None
    choice: Choice | None = None
    reason: str = ""
    instead: str = ""


def _names(text: str) -> Iterator[str]:
    return (word.replace("|", " ") for word in text.split())


_KINDS: dict[str, Kind] = {kind: kind for kind in KINDS}


def _rows(text: str, what: What) -> Iterator[Decision]:
    for line in filter(None, text.splitlines()):
        name, kind, values, reply = line.split()
        places = layout(values)
        yield Decision(
            name.replace("|", " "),
            what,
            _KINDS[kind],
            layout=places,
            clear=None if values.startswith("=") else places,
            form=FORMS.get(reply),
            choice=CHOICES.get(reply),
            reason=CONTEXT_REASON if what == "context" else "",
            instead=CONTEXT_INSTEAD if what == "context" else "",
        )


def _clear() -> dict[str, Layout | None]:
    rows = (line.split() for line in filter(None, CLEAR_ROWS.splitlines()))
    return {
        name.replace("|", " "): None if values.startswith("=") else layout(values) for name, values in rows
    }


def members_of(name: str) -> Iterable[str]:
    """Return the commands that a name of the value table stands for, which may be a family."""
    if not name.endswith("*"):
        return (name,)
    return [
        rule.name for rule in RULES.values() if rule.policy != "refuse" and rule.name.startswith(name[:-1])
    ]


def all_decisions() -> Iterator[Decision]:
    """Yield every decision of the value table; a command that stands there twice comes twice."""
    clear = _clear()
    for name in _names(UNTOUCHED):
        yield Decision(name, "untouched")
    yield from _rows(SEALED_ROWS, "sealed")
    yield from _rows(CONTEXT_ROWS, "context")
    for name in _names(OPAQUE):
        yield Decision(name, "opaque", clear=clear.get(name))
    for reason, instead, names in REFUSED:
        for family in _names(names):
            for name in members_of(family):
                if RULES[name].policy != "pass":
                    yield Decision(name, "refuse", clear=clear.get(name), reason=reason, instead=instead)


#: The decision for every command with key names or channels.
DECISIONS: Mapping[str, Decision] = MappingProxyType({each.name: each for each in all_decisions()})

_NAMELESS = Decision("", "untouched")
_UNDECLARED = (
    "it was declared with register(), which does not say where its values stand.",
    "Declare its keys in plaintext_keys.",
)


def decide(rule: Rule) -> Decision:
    """Return the decision for a rule; commands without names are untouched, unknown ones refused."""
    decision = DECISIONS.get(rule.name)
    if decision is not None:
        return decision
    if rule.policy in ("namespace", "channel"):
        reason, instead = _UNDECLARED
        return Decision(rule.name, "refuse", clear=_everything, reason=reason, instead=instead)
    return _NAMELESS


def _everything(arguments: Arguments) -> Sequence[Place]:
    """Take whatever stands behind the first key for a value."""
    return [(at, 1, 0) for at in range(2, len(arguments))]


def values_of(words: Sequence[bytes], rule: Rule) -> list[tuple[bytes, bytes, bytes]]:
    """Return what a command would store, or show to others, in clear if nothing were sealed.

    Never stricter than the server: of a command that cannot be parsed, everything counts as a value.

    Args:
        words: the command in own names.
        rule: its rule.

    Returns:
        For each value: the value, the own name of its key or channel (empty for the arguments of a
        script without keys), and its field (empty where there is none).

    Example:
        >>> from tenantkv.commands.table import RULES
        >>> values_of([b"HSET", b"user:7", b"mail", b"ada@example.org"], RULES["HSET"])
        [(b'ada@example.org', b'user:7', b'mail')]
    """
    places = decide(rule).clear
    if places is None:
        return []
    try:
        found = places(words)
    except MalformedCommandError:
        found = _everything(words)
    return [
        (words[value], words[key] if key else b"", words[field] if field else b"")
        for value, key, field in found
    ]
