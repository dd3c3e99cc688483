"""The command table: from the rows to one rule a command, and the way from arguments to their rule."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from tenantkv.commands.channels import rewrite_channel_listing, rewrite_subscription
from tenantkv.commands.core_table import KEY_ROWS
from tenantkv.commands.keyless_table import CHANNEL_ROWS, PASS_ROWS, REFUSALS, REFUSED_FAMILIES
from tenantkv.commands.module_table import MODULE_ROWS
from tenantkv.commands.options import locator, malformed
from tenantkv.commands.replies import SHAPES
from tenantkv.commands.rewriters import REWRITERS, shape_script_load
from tenantkv.commands.rule import Locate, Rule
from tenantkv.errors import ConfigurationError, ForbiddenCommandError, UnknownCommandError
from tenantkv.namespace import Namespace


def _words(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the name and the remaining columns of each row."""
    for words in filter(None, map(str.split, text.splitlines())):
        first_number = next(i for i, word in enumerate(words) if word.isdigit())
        yield " ".join(words[:first_number]), words[first_number:]


def _key_rule(name: str, columns: list[str]) -> Rule:
    # Position columns hold blanks ("1 #2"), flags are the first word of letters that is no parser.
    flags_at = next(i for i in range(2, len(columns)) if set(columns[i]) <= set("rwcib"))
    names = " ".join(columns[1:flags_at])
    shape = columns[flags_at + 1] if len(columns) > flags_at + 1 else ""
    return Rule(
        name,
        "namespace",
        min_args=int(columns[0]),
        names=names,
        flags=columns[flags_at],
        locate=locator(names),
        rewrite=REWRITERS.get(names),
        shape=SHAPES.get(shape),
    )


def _channel_rule(name: str, columns: list[str]) -> Rule:
    subscribes = name.endswith("SUBSCRIBE")
    listing = columns[1] == "channels"
    return Rule(
        name,
        "channel",
        min_args=int(columns[0]),
        names=columns[1],
        flags=columns[2],
        locate=locator(columns[1]),
        rewrite=rewrite_subscription if subscribes else rewrite_channel_listing if listing else None,
        shape=SHAPES.get(columns[3]) if len(columns) > 3 else None,
    )


def _pass_rule(name: str, columns: list[str]) -> Rule:
    special = columns[2] if len(columns) > 2 else ""
    shape = shape_script_load if special == "script_load" else SHAPES.get(special)
    return Rule(
        name,
        "pass",
        min_args=int(columns[0]),
        flags=columns[1],
        rewrite=REWRITERS.get(special),
        shape=shape,
    )


def _refusals() -> Iterator[Rule]:
    for reason, instead, names in REFUSALS:
        for name in names.split(", "):
            yield Rule(name, "refuse", reason=reason, instead=instead)


# Commands whose second word is a part of the name.
_CONTAINER_NAMES = """
ACL CLIENT CLUSTER COMMAND COMMANDLOG CONFIG FUNCTION HIMPORT JSON.DEBUG LATENCY MEMORY MODULE OBJECT
PUBSUB SCRIPT SLOWLOG XGROUP XINFO
"""
_CONTAINERS = frozenset(_CONTAINER_NAMES.split())


def has_subcommands(name: bytes) -> bool:
    """Whether the word after `name` is a part of the command's name, as in ``CLIENT ID``."""
    return name.decode("ascii", "replace").upper() in _CONTAINERS


def _build() -> dict[str, Rule]:
    rules = {rule.name: rule for rule in _refusals()}
    rules.update((name, _key_rule(name, rest)) for name, rest in _words(KEY_ROWS + MODULE_ROWS))
    rules.update((name, _channel_rule(name, rest)) for name, rest in _words(CHANNEL_ROWS))
    rules.update((name, _pass_rule(name, rest)) for name, rest in _words(PASS_ROWS))
    return rules


_rules: dict[str, Rule] = _build()

#: Every rule by its command's name in upper case.
RULES: Mapping[str, Rule] = MappingProxyType(_rules)

# Straight from an argument as libraries write it to its rule, for names of one word.
quick: dict[object, Rule] = {}


def _index(rule: Rule) -> None:
    if " " in rule.name or rule.name in _CONTAINERS or rule.policy == "refuse":
        return
    for name in (rule.name, rule.name.lower()):
        quick[name] = quick[name.encode()] = rule


for _rule in _rules.values():
    _index(_rule)


def find_rule(arguments: list[bytes]) -> Rule:
    """Return the rule of a command given as words.

    Raises:
        UnknownCommandError: the table has no row for it.
        ForbiddenCommandError: it would touch other tenants or the server.
        MalformedCommandError: it has too few arguments.
    """
    name = arguments[0].decode("ascii", "replace").upper()
    if name in _CONTAINERS:
        name = _with_subcommand(name, arguments)
    rule = _rules.get(name)
    if rule is None and " " in name:
        rule = _rules.get(name.split()[0])
    if rule is None or (" " not in rule.name and " " in name and rule.policy != "refuse"):
        raise unknown(name)
    if rule.policy == "refuse":
        raise ForbiddenCommandError(name, rule.reason, rule.instead)
    if len(arguments) <= rule.min_args:
        raise too_few(rule, arguments)
    return rule


def _with_subcommand(name: str, arguments: Sequence[bytes]) -> str:
    if len(arguments) > 1:
        return f"{name} {arguments[1].decode('ascii', 'replace').upper()}"
    return name


def unknown(name: str) -> UnknownCommandError | ForbiddenCommandError:
    """Return the error for a command without a row; families may have a reason of their own."""
    for start, (reason, instead) in REFUSED_FAMILIES.items():
        if name.startswith(start):
            return ForbiddenCommandError(name, reason, instead)
    # What a user mistypes may be a value, so only something like a command's name is repeated.
    shown = name if len(name) <= 40 and name.isprintable() else "the command"
    return UnknownCommandError(
        shown,
        "unknown command: tenantkv does not know where its key names stand.",
        "If it exists, declare it with tenantkv.commands.register(name, keys).",
    )


def too_few(rule: Rule, arguments: Sequence[bytes]) -> Exception:
    """Return the error for a command with too few arguments."""
    needs, has = rule.min_args, len(arguments) - 1
    return malformed(
        [rule.name.encode()], f"wrong number of arguments: it takes at least {needs}, not {has}."
    )


def register(name: str, keys: str, *, flags: str = "wc") -> None:
    """Declare where a command's key names stand, for commands of modules that tenantkv does not know.

    Args:
        name: the command, such as ``"MYMODULE.GET"``.
        keys: positions as in the table: ``"1"``, ``"1 2"``, ``"1..-1"``, ``"1..-2"``, ``"1..-1/2"``
            (every second), ``"#1"`` (a count, then names), ``"1 #2"``.
        flags: ``"r"`` for a command that only reads, ``"w"`` or ``"wc"`` for one that writes.

    Raises:
        ConfigurationError: the command is known already, or a word cannot be read.
    """
    name = name.upper()
    if len(name.split()) != 1:
        raise ConfigurationError("a command that can be declared has a name of one word")
    locate, fewest = _declared(keys)
    if name in _rules or name.split()[0] in _CONTAINERS:
        raise ConfigurationError(f"{name} is in the command table and cannot be declared again")
    if not set(flags) <= set("rwcib"):
        raise ConfigurationError("flags are made of the letters r, w, c, i and b")
    rule = Rule(name, "namespace", min_args=fewest, names=keys, flags=flags, locate=locate)
    _rules[name] = rule
    _index(rule)
    # Scripts may call it too. Imported here, since most processes guard no script.
    from tenantkv.commands.script_guard import declare

    declare(name, keys)


# A range, with a step or without, or places of which the last may be a count.
_POSITIONS = re.compile(r"[1-9]\d*\.\.(?:-?[1-9]\d*)(?:/[1-9]\d*)?|(?:[1-9]\d* )*#?[1-9]\d*", re.ASCII)


def _declared(keys: str) -> tuple[Locate, int]:
    """Return the locator of a position column that a user wrote, and the fewest arguments it needs."""
    locate = locator(keys) if _POSITIONS.fullmatch(keys) else None
    if locate is None:
        raise ConfigurationError(f"{keys!r} does not say where key names stand")
    places = keys.partition("..")[0].split()
    return locate, max(int(place.lstrip("#")) for place in places)


def rewrite(arguments: list[bytes], rule: Rule, namespace: Namespace) -> list[bytes]:
    """Return `arguments` as the server is to see them. Pure; the rule is `find_rule(arguments)`."""
    if rule.rewrite is not None:
        return rule.rewrite(arguments, namespace)
    if rule.locate is None:
        return arguments
    prefix = namespace.channel_prefix if rule.policy == "channel" else namespace.wire_prefix
    wire = list(arguments)
    for position in rule.locate(arguments):
        wire[position] = prefix + wire[position]
    return wire
