"""``tenantkv lock``: who holds which lock, and how to end a lease whose holder is gone."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import Any

from tenantkv.cli import output
from tenantkv.cli.client import LEFT, add_actions, add_target_arguments, own_name, seconds, talking
from tenantkv.cli.status_confirm import confirm
from tenantkv.errors import ConfigurationError
from tenantkv.ops import directory, status_look
from tenantkv.ops.directory import Entry
from tenantkv.ops.status import LockState

_KINDS = ("lock", "rwlock", "semaphore")

_EPILOG = """\
examples:
  tenantkv lock ls
  tenantkv lock ls --held --json
  tenantkv lock break rebuild                the holder is told at its next renewal
  tenantkv lock break api --kind semaphore --yes

HOLDER differs from lease to lease and tells nothing else: who holds a lock is known to its program alone.
A lock whose holder is dead frees itself when its lease ends, so breaking is seldom needed: it lets two work
at the same time if the holder is alive, until it notices. Fencing numbers go on growing.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 nobody held it.
"""


@dataclass(frozen=True, slots=True)
class BreakReport:
    """What was ended.

    Attributes:
        name: the lock's own name.
        primitive: ``lock``, ``rwlock`` or ``semaphore``.
        ended: whether a lease was ended.
        was: what stood there.
    """

    name: str
    primitive: str
    ended: bool
    was: LockState


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lock``."""
    parser.description = "List locks, read/write locks and semaphores, and end leases."
    parser.epilog = _EPILOG
    actions = {"ls": "list locks and who holds them", "break": "end a lease"}
    for action, subparser in add_actions(parser, actions, _EPILOG):
        if action == "ls":
            subparser.add_argument("names", metavar="NAME", nargs="*", help="these too, listed or not")
            subparser.add_argument("--held", action="store_true", help="only those that somebody holds")
        else:
            subparser.add_argument("name", metavar="NAME", help="the lock's own name")
            subparser.add_argument("--yes", action="store_true", help="do not ask")
        subparser.add_argument("--kind", choices=_KINDS, help="lock, read/write lock or semaphore")
        add_target_arguments(subparser)


def run(arguments: argparse.Namespace) -> int:
    """Run ``lock``."""
    with talking(arguments) as client:
        if arguments.action == "ls":
            return _list(client, arguments)
        return _break(client, arguments)


def find(client: Any, names: list[str], kind: str | None) -> tuple[LockState, ...]:
    """Return the locks of the directory, and those that are named."""
    listed = client.run(directory.entries(client.namespace, client.sealer, time.time()))
    entries = {(each.primitive, each.name): each for each in listed if each.primitive in _KINDS}
    for name in names:
        entries.update({(each.primitive, each.name): each for each in named(name, kind)})
    chosen = [each for each in entries.values() if kind in (None, each.primitive)]
    found: tuple[LockState, ...] = client.run(status_look.locks(client.namespace, chosen))
    asked = set(names)
    # Of a name that was given without its kind, only the kinds that there are.
    known = {(each.primitive, each.name.decode("utf-8", "surrogateescape")) for each in listed}
    return tuple(
        each
        for each in found
        if each.name not in asked or each.mode != "free" or (each.primitive, each.name) in known
    )


def named(name: str, kind: str | None) -> list[Entry]:
    """Return a name as whatever it may be."""
    bare = own_name(name)
    if not bare:
        raise ConfigurationError("a lock needs a name")
    return [Entry(each, bare, 0.0) for each in _KINDS if kind in (None, each)]


def _list(client: Any, arguments: argparse.Namespace) -> int:
    from tenantkv.cli.status_text import lock_rows

    found = [
        each
        for each in find(client, arguments.names, arguments.kind)
        if not arguments.held or each.mode != "free"
    ]
    if arguments.json:
        output.print_json(found)
    elif found:
        output.print_table(lock_rows(found))
    else:
        output.note("Nothing is held." if arguments.held else "The directory lists no lock.")
    return 0


def _break(client: Any, arguments: argparse.Namespace) -> int:
    from tenantkv.cli.lock_break import end_lease

    entries = named(arguments.name, arguments.kind)
    states = client.run(status_look.locks(client.namespace, entries))
    held = [(entry, state) for entry, state in zip(entries, states, strict=True) if state.mode != "free"]
    if not held:
        output.note(f"Nobody holds {arguments.name!r}.")
        return LEFT
    if len(held) > 1:
        kinds = ", ".join(entry.primitive for entry, _ in held)
        raise ConfigurationError(f"there are several of that name ({kinds}); say which with --kind")
    entry, state = held[0]
    confirm(f"end {_shown(state)}", yes=arguments.yes)
    ended = client.run(end_lease(client.namespace, entry, state.holder))
    report = BreakReport(state.name, state.primitive, ended, state)
    if arguments.json:
        output.print_json(report)
    elif ended:
        output.print_text(output.clean(f"ended {_shown(state)}"))
    else:
        output.note("It had ended by itself, or somebody else holds it by now: look again.")
    return 0 if ended else LEFT


def _shown(state: LockState) -> str:
    kind = {"rwlock": "read/write lock"}.get(state.primitive, state.primitive)
    if state.mode == "foreign":
        return f"what stands in the place of {kind} {state.name!r} and is no lease"
    holders = f"{state.holders} leases" if state.holders > 1 else f"the lease {state.holder}".rstrip()
    return f"{holders} of {kind} {state.name!r} ({seconds(state.left)} left)"
