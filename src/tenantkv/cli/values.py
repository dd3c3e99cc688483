"""``tenantkv get``, ``ttl``, ``type`` and ``dump``: look at one key; `values_change` has what writes."""

from __future__ import annotations

import argparse
import base64
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from tenantkv.cli import output
from tenantkv.cli.client import LEFT, add_target_arguments, as_text, natural, own_name, seconds, talking
from tenantkv.cli.replies import plain, shown
from tenantkv.errors import ConfigurationError
from tenantkv.ops.effects import Batch, Command
from tenantkv.ops.values import Contents, read


@dataclass(frozen=True, slots=True)
class ValueReport:
    """What a key holds.

    Attributes:
        name: its own name; bytes that are not UTF-8 appear as lone surrogates, here and in the value.
        type: ``none`` if there is no such key.
        ttl: seconds left; ``None`` for an immortal key.
        size: how many elements it has; 1 for a string.
        sealed: how many of the values that were read are sealed and not shown.
        value: a text; for collections a list of lists: field and value; element; member; member and
            score; id and the fields and values of an entry. ``None`` if there is nothing.
    """

    name: str
    type: str
    ttl: float | None
    size: int
    sealed: int
    value: Any


@dataclass(frozen=True, slots=True)
class FactReport:
    """One thing about a key.

    Attributes:
        name: its own name.
        type: as the server says; ``none`` if there is no such key.
        ttl: seconds left; ``None`` for an immortal key and for none.
    """

    name: str
    type: str
    ttl: float | None


@dataclass(frozen=True, slots=True)
class DumpReport:
    """A key in the server's own form.

    Attributes:
        name: its own name.
        dump: what DUMP gives, in base64.
    """

    name: str
    dump: str


class Action(NamedTuple):
    """One of the commands of this module."""

    description: str
    epilog: str
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command that the parser is for."""
    action = ACTIONS[parser.prog.rpartition(" ")[2]]
    parser.description, parser.epilog = action.description, action.epilog
    action.add(parser)
    add_target_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run one of the commands."""
    return ACTIONS[arguments.command].run(arguments)


def add_name(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names a key."""
    parser.add_argument("name", metavar="KEY", help="own name")


# get


def _add_get(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    parser.add_argument("field", metavar="FIELD", nargs="?", help="one field of a hash")
    parser.add_argument("--reveal", action="store_true", help="show sealed values")
    parser.add_argument(
        "--limit",
        metavar="N",
        type=natural,
        default=100,
        help="elements of a collection; 0 for all; else 100",
    )


def _get(arguments: argparse.Namespace) -> int:
    name = own_name(arguments.name)
    with talking(arguments, reveal=arguments.reveal) as client:
        if arguments.field is None:
            found = client.run(read(name, arguments.limit))
        else:
            found = _field(client, name, own_name(arguments.field))
    report = describe(name, found)
    if arguments.json:
        output.print_json(report)
        return LEFT if report.value is None else 0
    if report.value is None:
        output.note("There is no such key or field, or it is of a type that has nothing to show.")
        return LEFT
    if report.sealed and not sys.stdout.isatty():
        raise ConfigurationError("it is sealed: say --reveal to have it written out")
    if found.type == "string":
        _write_value(found.rows[0][0])
        return 0
    output.print_table([tuple(shown(part) for part in row) for row in found.rows])
    if found.size > len(found.rows):
        output.note(f"{len(found.rows)} of {found.size} elements; --limit 0 shows all")
    return 0


def _field(client: Any, name: bytes, field: bytes) -> Contents:
    kind, ttl, value = client.run(several(("TYPE", name), ("PTTL", name), ("HGET", name, field)))
    if isinstance(value, Exception):
        raise value
    rows = [] if value is None else [(value,)]
    # Shown as the one value that it is.
    return Contents("string" if kind == b"hash" else "none", ttl / 1000 if ttl >= 0 else None, 1, rows)


def describe(name: bytes, found: Contents) -> ValueReport:
    """Return the report of what was read."""
    from tenantkv.cli.veil import Veiled

    value: Any = plain(found.rows)
    if found.type == "string":
        value = value[0][0] if value else None
    elif found.type == "none":
        value = None
    sealed = sum(isinstance(part, Veiled) for row in found.rows for part in row)
    return ValueReport(as_text(name), found.type, found.ttl, found.size, sealed, value)


def _write_value(value: bytes) -> None:
    if sys.stdout.isatty():
        output.print_text(shown(value))
    else:
        # Another program gets the very bytes.
        sys.stdout.buffer.write(value)


# ttl and type


def _fact(arguments: argparse.Namespace) -> int:
    name = own_name(arguments.name)
    with talking(arguments) as client:
        kind, ttl = client.run(several(("TYPE", name), ("PTTL", name)))
    for reply in (kind, ttl):
        if isinstance(reply, Exception):
            raise reply
    left = ttl / 1000 if ttl >= 0 else None
    report = FactReport(as_text(name), kind.decode("ascii", "replace"), left)
    is_there = kind != b"none"
    if arguments.json:
        output.print_json(report)
    elif not is_there:
        output.note("There is no such key.")
    elif arguments.command == "type":
        output.print_text(output.clean(report.type))
    elif left is None:
        output.print_text("none: it stays until it is deleted or evicted")
    else:
        output.print_text(seconds(left) if sys.stdout.isatty() else f"{left:.3f}")
    return 0 if is_there else LEFT


# dump


def _dump(arguments: argparse.Namespace) -> int:
    if sys.stdout.isatty() and not arguments.json:
        raise ConfigurationError("a dump is binary: send it to a file or program")
    with talking(arguments) as client:
        data = client.run(one("DUMP", own_name(arguments.name)))
    if data is None:
        output.note("There is no such key.")
        return LEFT
    if arguments.json:
        report = DumpReport(as_text(own_name(arguments.name)), base64.b64encode(data).decode())
        output.print_json(report)
    else:
        sys.stdout.buffer.write(data)
    return 0


def several(*commands: tuple[Any, ...]) -> Any:
    """Send some commands in one round trip: an operation that returns their replies."""
    return (yield Batch(commands))


def one(*words: Any) -> Any:
    """Send one command: an operation that returns its reply."""
    return (yield Command(words))


ACTIONS = {
    "get": Action(
        "Show what a key holds, of whatever type. Sealed values are shown with --reveal only.",
        "examples:\n  tenantkv get user:7\n  tenantkv get session:1 csrf --reveal\n"
        "  tenantkv get picture > picture.png\n\n"
        "Exit codes: 0 shown, 1 refused or failed, 2 wrong usage, 3 there is no such key.\n",
        _add_get,
        _get,
    ),
    "ttl": Action(
        "Show for how long a key stays.",
        "example:\n  tenantkv ttl user:7\n",
        add_name,
        _fact,
    ),
    "type": Action("Show a key's type.", "example:\n  tenantkv type user:7\n", add_name, _fact),
    "dump": Action(
        "Write a key in the server's own form (DUMP) to standard output. Sealed values stay sealed.",
        "example:\n  tenantkv dump board > board.dump\n\nFor several keys with their TTLs: tenantkv export\n",
        add_name,
        _dump,
    ),
}
