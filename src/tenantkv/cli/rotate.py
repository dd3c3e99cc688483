"""``tenantkv rotate``: replace the prefix, when somebody else knows it; start, move, finish, or go back."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from tenantkv.cli import output
from tenantkv.cli.client import (
    LEFT,
    add_actions,
    add_json_argument,
    add_namespace_argument,
    context_argument,
)
from tenantkv.cli.confirmation import confirm
from tenantkv.cli.progress import Bar
from tenantkv.cli.rotate_report import RotateReport, print_report, report_of
from tenantkv.config import resolve
from tenantkv.errors import ConfigurationError, ForbiddenCommandError

if TYPE_CHECKING:
    from tenantkv.cli.rotate_place import Place

_EPILOG = """\
examples:
  tenantkv rotate prefix --dry-run      how many keys would have to move?
  tenantkv rotate prefix                1. stop all programs of this namespace; then this, a new prefix
  tenantkv rotate run                   2. every key gets it, with value and TTL
  tenantkv rotate finish                3. the former prefix is forgotten; start the programs again
  tenantkv rotate status                where are we?
  tenantkv rotate abort                 before 'finish': back to the former prefix, with all keys

Between the first step and 'finish' no program can connect: each gets an error that says so. Who knows the
former prefix can put keys there until the end, so only what opens is taken. What is in clear is left, unless
you say --plain GLOB. No prefix is shown. Interrupted, run it again.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 something was left, 130 interrupted.
"""

_ACTIONS = {
    "prefix": "begin: make a new prefix, and keep the one until now as the former",
    "status": "tell whether a prefix is being replaced, and what is left to move",
    "run": "move every key from the former prefix to the new one",
    "finish": "forget the former prefix, if nothing is left under it",
    "abort": "go back: move every key to the former prefix, and forget the new one",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rotate``."""
    parser.description = "Replace the prefix of a namespace, when somebody else knows it."
    parser.epilog = _EPILOG
    for action, subparser in add_actions(parser, _ACTIONS, _EPILOG):
        add_namespace_argument(subparser)
        add_json_argument(subparser)
        if action != "status":
            subparser.add_argument("--yes", action="store_true", help="do not ask")
        if action in ("prefix", "run"):
            subparser.add_argument("--dry-run", action="store_true", help="look and count, change nothing")
        if action in ("run", "abort"):
            subparser.add_argument(
                "--prefer",
                choices=("former", "new"),
                help="of two keys of one name, delete the other one",
            )
        if action in ("run", "finish", "abort"):
            subparser.add_argument(
                "--names-file", metavar="FILE", help="own names, one a line, that the registry may not have"
            )
        if action == "run":
            subparser.add_argument(
                "--plain",
                metavar="GLOB",
                action="append",
                default=[],
                help="take these as they are, though they are in clear; '*' for all; again for more",
            )
            subparser.add_argument(
                "--context",
                metavar="GLOB=NAME",
                action="append",
                default=[],
                type=context_argument,
                help="as in connect(contexts={GLOB: NAME}); give it again for more",
            )
        if action == "finish":
            subparser.add_argument(
                "--leave", action="store_true", help="finish, whatever is left under the former prefix"
            )


def run(arguments: argparse.Namespace) -> int:
    """Run ``rotate``."""
    steps = {"prefix": _begin, "status": _status, "run": _run, "finish": _finish, "abort": _abort}
    report = steps[arguments.action](arguments)
    if arguments.json:
        output.print_json(report)
    else:
        print_report(report)
    return LEFT if report.left else 0


def _begin(arguments: argparse.Namespace) -> RotateReport:
    from tenantkv.cli.adopt_journal import beside
    from tenantkv.cli.rotate_place import Place, keyring_of
    from tenantkv.keyring_rewrite import replace_prefix_at_random
    from tenantkv.namespace import Namespace

    keyring = keyring_of(arguments)
    if keyring.former is not None:
        raise ConfigurationError("the prefix is being replaced already: see 'tenantkv rotate status'")
    if keyring.source is None or keyring.source.startswith("env:"):
        raise ConfigurationError(
            "the keyring is not in a file, and cannot be rewritten: work on a file "
            "(TENANTKV_SECRET_KEYRING_FILE) and print it anew with 'tenantkv init --print-env'"
        )
    if beside(Namespace(keyring)).exists():
        raise ConfigurationError("keys are being adopted: 'tenantkv adopt --finish' or '--undo' first")
    with Place.before(arguments) as place, Bar() as bar:
        found = _count(place)
        bar.clear()
        if not place.seals:
            output.warn(
                "values are not sealed here, so 'rotate run' will ask you to name those to take as they are: "
                "--plain GLOB (if programs seal in code, set TENANTKV_SEAL=1 for this command)"
            )
        if not arguments.dry_run:
            what = "keys" if found < 0 else output.counted(found, "key")
            _confirm(
                arguments,
                f"Replace the prefix of {what}? Until 'rotate finish' no program can connect. All programs "
                "of this namespace have to be stopped.",
            )
            keyring = replace_prefix_at_random(keyring)
        return report_of(arguments, keyring, found=found, names_from=place.names.origin)


def _status(arguments: argparse.Namespace) -> RotateReport:
    from tenantkv.cli.rotate_place import Place, keyring_of

    keyring = keyring_of(arguments)
    if keyring.former is None or not _has_server(arguments):
        return report_of(arguments, keyring, found=-1 if keyring.former else 0)
    with Place.between(arguments, keyring) as place:
        return report_of(arguments, keyring, found=_count(place), names_from=place.names.origin)


def _run(arguments: argparse.Namespace) -> RotateReport:
    from tenantkv.cli.rotate_place import Place, keyring_of

    keyring = keyring_of(arguments)
    if keyring.former is None:
        raise ConfigurationError("no prefix is being replaced: 'tenantkv rotate prefix' begins")
    with Place.between(arguments, keyring) as place:
        plain = _plain(arguments, place)
        if arguments.dry_run:
            return report_of(arguments, keyring, found=len(place.wanted()), names_from=place.names.origin)
        with _working(place) as bar:
            return _move(arguments, place, plain, bar)


def _plain(arguments: argparse.Namespace, place: Place) -> list[str]:
    """Return which values are taken in clear; all on the way back from where nobody else could write."""
    plain: list[str] = getattr(arguments, "plain", [])
    if place.keyring.former is not None and place.keyring.former.is_back:
        return ["*"]
    if not place.seals and not plain:
        raise ConfigurationError(
            "this namespace does not seal its values, so whoever knows the former prefix may have changed "
            "them, and nobody can tell: --plain '*' takes all as they are (if programs seal in code, with "
            "connect(seal=True), set TENANTKV_SEAL=1 here)"
        )
    return plain


def _finish(arguments: argparse.Namespace) -> RotateReport:
    from tenantkv.cli.rotate_place import Place, keyring_of

    keyring = keyring_of(arguments)
    if keyring.former is None:
        raise ConfigurationError("no prefix is being replaced: there is nothing to finish")
    with Place.between(arguments, keyring) as place, _working(place):
        return _end(arguments, place)


def _end(arguments: argparse.Namespace, place: Place) -> RotateReport:
    from tenantkv.keyring_rewrite import rewrite_keyring
    from tenantkv.rotation import retire_prefix

    if place.journal.entries:
        raise ConfigurationError("a run was interrupted: run 'tenantkv rotate run' to its end first")
    left = place.left()
    if left and not getattr(arguments, "leave", False):
        why = "it lies under the former prefix"
        return report_of(
            arguments,
            place.keyring,
            found=len(left),
            names_from=place.names.origin,
            problems=dict.fromkeys(left, why),
        )
    if not place.lists_keys() and not getattr(arguments, "leave", False):
        raise ConfigurationError(
            "this server lists no keys, so nobody can tell what is left under the former prefix: name your "
            "keys with 'tenantkv rotate run --names-file', and finish with --leave"
        )
    _confirm(arguments, "Forget the former prefix? Nothing under it can be found again.")
    place.mover.drop_registry()
    keyring = rewrite_keyring(place.keyring, retire_prefix)
    return report_of(arguments, keyring, found=len(left), names_from=place.names.origin)


def _abort(arguments: argparse.Namespace) -> RotateReport:
    from tenantkv.cli.rotate_place import Place, keyring_of
    from tenantkv.keyring_rewrite import rewrite_keyring
    from tenantkv.rotation import turn_back

    keyring = keyring_of(arguments)
    if keyring.former is None:
        raise ConfigurationError("no prefix is being replaced: there is nothing to abort")
    _confirm(arguments, "Go back to the former prefix, which somebody else may know?")
    arguments.yes = True
    with Place.between(arguments, keyring) as place, _working(place):
        # What was moved and not read goes back to where it came from.
        place.journal.record("dropped", [(name,) for name in place.journal.entries])
        keyring = rewrite_keyring(keyring, turn_back)
    with Place.between(arguments, keyring) as place, _working(place) as bar:
        moved = _move(arguments, place, ["*"], bar)
        return moved if moved.left else _ended(moved, _end(arguments, place))


def _ended(moved: RotateReport, ended: RotateReport) -> RotateReport:
    if ended.left:
        return replace(moved, left=ended.left, problems=ended.problems)
    return replace(moved, under_way=False, is_back=False, generation=ended.generation)


def _move(arguments: argparse.Namespace, place: Place, plain: list[str], bar: Bar) -> RotateReport:
    names = place.wanted()
    bar.clear()
    _confirm(
        arguments,
        f"Move {output.counted(len(names), 'key')}? All programs of this namespace have to be stopped.",
    )
    work = place.moving(bar.show, plain=plain)
    work.run(names)
    return report_of(
        arguments,
        place.keyring,
        found=len(names),
        names_from=place.names.origin,
        problems=work.told,
        counts=work.counts,
    )


@contextmanager
def _working(place: Place) -> Iterator[Bar]:
    """Keep others out while the work lasts, and say how to go on if it is stopped."""
    with Bar() as bar, place.alone():
        try:
            yield bar
        except KeyboardInterrupt:
            bar.clear()
            output.note("Stopped. Every key is where it was or where it goes: run it again to go on.")
            raise


def _count(place: Place) -> int:
    try:
        return len(place.left())
    except ForbiddenCommandError:
        return -1


def _has_server(arguments: argparse.Namespace) -> bool:
    return resolve(environ=os.environ, namespace=arguments.namespace).url_source != "default"


def _confirm(arguments: argparse.Namespace, question: str) -> None:
    if not arguments.yes:
        confirm(question, unasked=f"{question} Say --yes")
