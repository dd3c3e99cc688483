"""``tenantkv rotate``: replace the prefix, when somebody else knows it; start, move, finish, or go back."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenantkv.cli import output
from tenantkv.cli.client import (
    LEFT,
    add_actions,
    add_json_argument,
    add_namespace_argument,
    as_text,
    context_argument,
)
from tenantkv.cli.progress import Bar
from tenantkv.config import resolve
from tenantkv.errors import ConfigurationError, ForbiddenCommandError

if TYPE_CHECKING:
    from tenantkv.cli.rotate_place import Place
    from tenantkv.cli.rotate_work import Moving

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
_NEXT = {
    "prefix": "No program can connect now. Next: tenantkv rotate run",
    "run": "Next: tenantkv rotate finish",
    "left": "Something is left under the former prefix. Nothing is lost: see above, and run it again.",
    "finish": "The former prefix is forgotten. Copy the keyring to every host, and start the programs again.",
    "abort": "Everything is as it was, and programs can go on.",
}
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class LeftKey:
    """A key that was left where it is, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class RotateReport:
    """Where the replacement of a prefix is.

    Attributes:
        action: ``prefix``, ``status``, ``run``, ``finish`` or ``abort``.
        dry_run: whether nothing was changed.
        namespace: the label.
        source: where the keyring lies.
        generation: how often it was written.
        fingerprint: names the identity under the prefix in the keyring.
        under_way: whether a prefix is being replaced now.
        is_back: whether keys are on their way back to the prefix that was to be replaced.
        since: when it began; empty if it did not.
        names_from: ``scan``, ``registry`` or ``file``; empty if nobody could tell.
        found: how many keys there were to move; -1 if nobody could tell.
        moved: how many were moved.
        late: how many of them somebody made meanwhile, so that a program must still be at work.
        gone: how many were gone when their turn came.
        dropped: how many were deleted, since the key of that name under the other prefix shall stay.
        left: how many were left as they are.
        problems: the first thousand of them.
    """

    action: str
    dry_run: bool
    namespace: str
    source: str
    generation: int
    fingerprint: str
    under_way: bool
    is_back: bool
    since: str
    names_from: str
    found: int
    moved: int
    late: int
    gone: int
    dropped: int
    left: int
    problems: tuple[LeftKey, ...]


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
        _print(report)
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
        if not arguments.dry_run:
            what = "keys" if found < 0 else f"{found} keys"
            _confirm(
                arguments,
                f"Replace the prefix of {what}? Until 'rotate finish' no program can connect. All programs "
                "of this namespace have to be stopped.",
            )
            keyring = replace_prefix_at_random(keyring)
        return _report(arguments, keyring, found=found, names_from=place.names.origin)


def _status(arguments: argparse.Namespace) -> RotateReport:
    from tenantkv.cli.rotate_place import Place, keyring_of

    keyring = keyring_of(arguments)
    if keyring.former is None or not _has_server(arguments):
        return _report(arguments, keyring, found=-1 if keyring.former else 0)
    with Place.between(arguments, keyring) as place:
        return _report(arguments, keyring, found=_count(place), names_from=place.names.origin)


def _run(arguments: argparse.Namespace) -> RotateReport:
    from tenantkv.cli.rotate_place import Place, keyring_of

    keyring = keyring_of(arguments)
    if keyring.former is None:
        raise ConfigurationError("no prefix is being replaced: 'tenantkv rotate prefix' begins")
    with Place.between(arguments, keyring) as place, _working(arguments, place, Bar()) as bar:
        work = place.moving(bar.show, plain=_plain(arguments, place))
        return _move(arguments, place, work, bar)


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
    with Place.between(arguments, keyring) as place, _working(arguments, place, Bar()):
        return _end(arguments, place)


def _end(arguments: argparse.Namespace, place: Place) -> RotateReport:
    from tenantkv.keyring_rewrite import rewrite_keyring
    from tenantkv.rotation import retire_prefix

    if place.journal.entries:
        raise ConfigurationError("a run was interrupted: run 'tenantkv rotate run' to its end first")
    left = place.left()
    if left and not getattr(arguments, "leave", False):
        why = "it lies under the former prefix"
        return _report(
            arguments, place.keyring, found=len(left), problems=dict.fromkeys(left, why), place=place
        )
    _confirm(arguments, "Forget the former prefix? Nothing under it can be found again.")
    place.mover.drop_registry()
    keyring = rewrite_keyring(place.keyring, retire_prefix)
    return _report(arguments, keyring, found=len(left), place=place)


def _abort(arguments: argparse.Namespace) -> RotateReport:
    from tenantkv.cli.rotate_place import Place, keyring_of
    from tenantkv.keyring_rewrite import rewrite_keyring
    from tenantkv.rotation import turn_back

    keyring = keyring_of(arguments)
    if keyring.former is None:
        raise ConfigurationError("no prefix is being replaced: there is nothing to abort")
    _confirm(arguments, "Go back to the former prefix, which somebody else may know?")
    arguments.yes = True
    with Place.between(arguments, keyring) as place, _working(arguments, place, Bar()):
        # What was moved and not read goes back to where it came from.
        place.journal.record("dropped", [(name,) for name in place.journal.entries])
        keyring = rewrite_keyring(keyring, turn_back)
    with Place.between(arguments, keyring) as place, _working(arguments, place, Bar()) as bar:
        moved = _move(arguments, place, place.moving(bar.show, plain=["*"]), bar)
        return moved if moved.left else _ended(moved, _end(arguments, place))


def _ended(moved: RotateReport, ended: RotateReport) -> RotateReport:
    from dataclasses import replace

    if ended.left:
        return replace(moved, left=ended.left, problems=ended.problems)
    return replace(moved, under_way=False, is_back=False, generation=ended.generation)


def _move(arguments: argparse.Namespace, place: Place, work: Moving, bar: Bar) -> RotateReport:
    names = place.wanted()
    is_dry = getattr(arguments, "dry_run", False)
    if not is_dry:
        bar.clear()
        _confirm(arguments, f"Move {len(names)} keys? All programs of this namespace have to be stopped.")
        work.run(names)
    return _report(
        arguments,
        place.keyring,
        found=len(names),
        names_from=place.names.origin,
        problems=work.problems,
        counts=work.counts,
    )


@contextmanager
def _working(arguments: argparse.Namespace, place: Place, bar: Bar) -> Iterator[Bar]:
    """Keep others out while the work lasts, and say how to go on if it is stopped."""
    with bar:
        if getattr(arguments, "dry_run", False):
            yield bar
            return
        with place.alone():
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


def _report(
    arguments: argparse.Namespace,
    keyring: Any,
    *,
    found: int,
    names_from: str = "",
    problems: dict[bytes, str] | None = None,
    counts: dict[str, int] | None = None,
    place: Place | None = None,
) -> RotateReport:
    counts, problems, former = counts or {}, problems or {}, keyring.former
    return RotateReport(
        action=arguments.action,
        dry_run=getattr(arguments, "dry_run", False),
        namespace=keyring.namespace,
        source=keyring.source or "",
        generation=keyring.generation,
        fingerprint=keyring.fingerprint,
        under_way=former is not None,
        is_back=former is not None and former.is_back,
        since="" if former is None else former.since,
        names_from=names_from or (place.names.origin if place is not None else ""),
        found=found,
        **{name: counts.get(name, 0) for name in ("moved", "late", "gone", "dropped")},
        left=len(problems),
        problems=tuple(LeftKey(as_text(name), why) for name, why in list(problems.items())[:1000]),
    )


def read_names(path: str | None) -> list[bytes] | None:
    """Return the names in a file, one a line; ``None`` if there is none."""
    if path is None:
        return None
    text = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    return list(dict.fromkeys(line for line in text.split(b"\n") if line))


def _confirm(arguments: argparse.Namespace, question: str) -> None:
    if arguments.yes:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{question} Say --yes")
    output.note(f"{question} Type yes:")
    if sys.stdin.readline().strip().lower() != "yes":
        raise ConfigurationError("nothing was done")


def _print(report: RotateReport) -> None:
    direction = "going back" if report.is_back else "under way"
    found = "nobody can tell how many" if report.found < 0 else str(report.found)
    rows = [("prefix", f"{direction} since {report.since}" if report.under_way else "not being replaced")]
    if report.names_from or report.found < 0:
        rows.append(("keys", f"{found}, listed by {report.names_from or 'nobody'}"))
    if report.action in ("run", "abort"):
        rows.append(("moved", str(report.moved)))
        rows += [(word, str(count)) for word in ("gone", "dropped") if (count := getattr(report, word))]
    output.print_table(rows)
    for problem in report.problems[:_SHOWN]:
        output.note(f"left: {problem.name[:200]}: {problem.reason}")
    if report.left > _SHOWN:
        output.note(f"... and {report.left - _SHOWN} more; --json lists a thousand")
    if report.late:
        output.note(
            f"{report.late} keys were made meanwhile: a program is still at work. Stop it, run again."
        )
    if report.found < 0 and not report.dry_run:
        output.note("This server lists no keys: 'tenantkv rotate run --names-file FILE' takes own names.")
    if not report.dry_run and report.action in _NEXT:
        output.note(_NEXT["left" if report.left else report.action])
