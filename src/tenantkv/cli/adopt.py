"""``tenantkv adopt``: move keys from before there was a namespace into it, and back until it is finished."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenantkv.cli import output
from tenantkv.cli.client import LEFT, add_target_arguments, as_text, own_name, talking
from tenantkv.cli.confirmation import confirm
from tenantkv.cli.progress import Bar
from tenantkv.errors import ConfigurationError

if TYPE_CHECKING:
    from tenantkv.cli.adopt_code import Pattern
    from tenantkv.cli.adopt_journal import Journal
    from tenantkv.cli.adopt_source import Source

_EPILOG = """\
examples:
  tenantkv adopt --from 'mytool:*' --strip 'mytool:' --dry-run
  tenantkv adopt --from 'mytool:*' --strip 'mytool:'     mytool:user:7 is copied to user:7
  tenantkv adopt --names-file names.txt                  where the server has no SCAN
  tenantkv adopt --from-code src/ --begins 'mytool:' --fill user_id=1-500 --strip 'mytool:' --dry-run
  tenantkv adopt --finish                                delete the originals
  tenantkv adopt --undo                                  or delete the copies instead

Copies stay beside their originals until --finish, so old programs go on working; run it again to copy what
they have changed since. Stop them, run it once more, start the new ones, look, and finish. A pattern matches
other tenants' keys as well as yours: look at the names in the dry run. Interrupted, run it again.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 done and something was left, 130 interrupted.
"""

_SHOWN = 10
_MOST_NAMES_BYTES = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Problem:
    """An original that was left as it is, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class FoundPattern:
    """A pattern of names in the code.

    Attributes:
        glob: what matches the names.
        gaps: what the code puts into its gaps.
        places: where it stands, as ``file:line``, the first ten.
    """

    glob: str
    gaps: tuple[str, ...]
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AdoptReport:
    """What was done.

    Attributes:
        namespace: the label.
        child: the path of children.
        action: ``copy``, ``finish`` or ``undo``.
        dry_run: whether nothing was changed.
        state: the file that says what was done; it is gone when nothing is left to finish or undo.
        found: how many originals were named.
        copied: how many were copied and read back.
        again: how many were copied once more, since they had changed.
        current: how many had been copied before and are as they were.
        gone: how many are no longer there, or never were.
        finished: how many originals were deleted.
        undone: how many copies were deleted.
        left: how many were left as they are.
        waiting: how many copies wait for --finish or --undo.
        names: in a dry run, the first names of originals.
        problems: the first thousand of what was left.
        patterns: what was found in the code, of ``--from-code``.
    """

    namespace: str
    child: tuple[str, ...]
    action: str
    dry_run: bool
    state: str
    found: int
    copied: int
    again: int
    current: int
    gone: int
    finished: int
    undone: int
    left: int
    waiting: int
    names: tuple[str, ...]
    problems: tuple[Problem, ...]
    patterns: tuple[FoundPattern, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``adopt``."""
    parser.description = "Move keys without a namespace, or with an older prefix, into the namespace."
    parser.epilog = _EPILOG
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--from",
        metavar="GLOB",
        dest="pattern",
        help="copy the keys that it matches, as the server names them",
    )
    what.add_argument(
        "--names-file", metavar="FILE", help="copy the keys named in it, one a line; - for stdin"
    )
    what.add_argument(
        "--from-code", metavar="PATH", help="copy the keys whose names stand in the source files there"
    )
    what.add_argument("--finish", action="store_true", help="delete the originals of what was copied")
    what.add_argument("--undo", action="store_true", help="delete the copies, where nobody has changed them")
    parser.add_argument("--strip", metavar="TEXT", default="", help="what to take off the beginning of names")
    parser.add_argument("--begins", metavar="TEXT", default="", help="with what names in the code begin")
    parser.add_argument(
        "--fill",
        metavar="NAME=VALUES",
        action="append",
        default=[],
        help="what the code puts there: NAME=1-500, NAME=a,b,c or NAME=@FILE; give it again for more",
    )
    parser.add_argument("--null", action="store_true", help="names in the file end with a NUL, not a newline")
    parser.add_argument("--dry-run", action="store_true", help="tell what would be done, and change nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--state", metavar="FILE", help="where to note what is done; beside the keyring if left out"
    )
    add_target_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run ``adopt``."""
    from tenantkv.cli.adopt_source import check_pattern

    action = "finish" if arguments.finish else "undo" if arguments.undo else "copy"
    if arguments.pattern is not None:
        check_pattern(own_name(arguments.pattern))
    listed = _read_names(arguments) if arguments.names_file is not None else None
    patterns, fills = _read_code(arguments)
    unknown: list[Pattern] = []
    with _working(arguments, action) as (client, source, journal), Bar() as bar:
        names = list(journal.entries)
        if action == "copy":
            if journal.is_finishing:
                raise ConfigurationError("originals are being deleted already: go on with --finish")
            if arguments.from_code is not None:
                names, unknown = _names_in_code(arguments, source, patterns, fills)
            else:
                names = listed if listed is not None else source.find(own_name(arguments.pattern or ""))
        elif action == "undo" and journal.is_finishing:
            raise ConfigurationError("originals were deleted already: go on with --finish")
        source.allow([*names, *journal.entries])
        if names and not arguments.dry_run and not arguments.yes:
            bar.clear()
            _confirm(names, action)
        counts, problems = _do(arguments, action, client, source, journal, names, bar)
        problems.update({each.glob: _say_fill(each) for each in unknown})
        report = AdoptReport(
            namespace=client.namespace.root.namespace,
            child=client.namespace.path,
            action=action,
            dry_run=arguments.dry_run,
            state=str(journal.path),
            found=len(names),
            **{name: counts[name] for name in ("copied", "again", "current", "gone", "finished", "undone")},
            left=len(problems),
            waiting=len(journal.entries),
            names=tuple(as_text(name) for name in names[:1000]) if arguments.dry_run else (),
            problems=tuple(Problem(as_text(name), why) for name, why in list(problems.items())[:1000]),
            patterns=tuple(
                FoundPattern(as_text(each.glob), tuple(each.gaps), tuple(each.places[:10]))
                for each in patterns
            ),
        )
    if arguments.json:
        output.print_json(report)
    else:
        _print(report)
    return LEFT if report.left else 0


def _read_code(arguments: argparse.Namespace) -> tuple[list[Pattern], dict[str, list[str]]]:
    from tenantkv.cli.adopt_code import find_patterns, read_fills

    if arguments.from_code is None:
        if arguments.begins or arguments.fill:
            raise ConfigurationError("--begins and --fill go with --from-code")
        return [], {}
    return find_patterns(arguments.from_code, arguments.begins), read_fills(arguments.fill)


def _names_in_code(
    arguments: argparse.Namespace, source: Source, patterns: list[Pattern], fills: dict[str, list[str]]
) -> tuple[list[bytes], list[Pattern]]:
    from tenantkv.cli.adopt_code import names_of, own_glob

    if not arguments.json:
        for pattern in patterns:
            output.note(f"{as_text(pattern.glob)}  {pattern.places[0]}")
    return names_of(patterns, fills, lambda: source.find_if_possible(own_glob(arguments.begins)))


def _say_fill(pattern: Pattern) -> str:
    return "this server cannot list such names: say " + " ".join(
        f"--fill '{gap}=VALUES'" for gap in pattern.gaps
    )


@contextmanager
def _working(arguments: argparse.Namespace, action: str) -> Iterator[tuple[Any, Source, Journal]]:
    """Give what one run works with, when no other one is at work, here or elsewhere."""
    from tenantkv.cli.adopt_journal import Journal
    from tenantkv.cli.adopt_source import Source

    with talking(arguments) as client:
        source = Source(client.namespace.wire_prefix, arguments.namespace)
        with nullcontext() if arguments.dry_run else _alone(client):
            try:
                journal = Journal(
                    client.namespace, arguments.state, make=action == "copy", dry=arguments.dry_run
                )
                try:
                    yield client, source, journal
                finally:
                    journal.close()
            finally:
                source.close()


@contextmanager
def _alone(client: Any) -> Iterator[None]:
    """Hold the lock that keeps operators on other hosts out."""
    lock = client.lock("tenantkv adopt", lease=60, renew=True)
    if not lock.acquire(blocking=False):
        raise ConfigurationError(
            "another 'tenantkv adopt' is at work in this namespace; try again in a minute"
        )
    try:
        yield
    finally:
        # Lost, it says so; what was done so far is done and noted.
        lock.release()


def _do(
    arguments: argparse.Namespace,
    action: str,
    client: Any,
    source: Source,
    journal: Journal,
    names: list[bytes],
    bar: Bar,
) -> tuple[Counter[str], dict[bytes, str]]:
    from tenantkv.cli.adopt_work import Adoption

    work = Adoption(client, source, journal, bar.show)
    if arguments.dry_run:
        if action == "copy":
            work.check(names, own_name(arguments.strip))
        return work.counts, work.problems
    try:
        if action == "copy":
            work.copy(names, own_name(arguments.strip))
        elif action == "finish":
            work.finish()
        else:
            work.undo()
    except BaseException:
        bar.clear()
        output.note(f"Stopped. Run it again to go on from there ({journal.path}).")
        raise
    return work.counts, work.problems


def _read_names(arguments: argparse.Namespace) -> list[bytes]:
    if arguments.names_file == "-":
        text = sys.stdin.buffer.read(_MOST_NAMES_BYTES)
    else:
        text = Path(arguments.names_file).read_bytes()
    parts = text.split(b"\0") if arguments.null else [line.removesuffix(b"\r") for line in text.split(b"\n")]
    return list(dict.fromkeys(part for part in parts if part))


def _confirm(names: list[bytes], action: str) -> None:
    told = {
        "copy": f"Copy {output.counted(len(names), 'key')} into the namespace?",
        "finish": f"Delete {output.counted(len(names), 'original')}, of which the namespace has copies?",
        "undo": f"Delete the copies of {output.counted(len(names), 'key')}?",
    }[action]
    unasked = f"this concerns {output.counted(len(names), 'key')}; say --yes, or --dry-run to see them"
    confirm(told, unasked=unasked, names=names)


def _print(report: AdoptReport) -> None:
    if report.dry_run:
        for name in report.names[:_SHOWN]:
            output.print_text(output.clean(name[:200]))
        if report.found > _SHOWN:
            output.print_text(f"... and {report.found - _SHOWN} more")
        output.print_text(
            f"{output.counted(report.found, 'key')}, {report.gone} of them not there; nothing was changed"
        )
    else:
        counts = (
            (report.copied, "copied and read back"),
            (report.again, "copied again, as they had changed"),
            (report.current, "copied before"),
            (report.gone, "no longer there"),
            (report.finished, "originals deleted"),
            (report.undone, "copies deleted"),
        )
        told = "; ".join(f"{count} {what}" for count, what in counts if count)
        output.print_text(told or "nothing to do")
    for problem in report.problems[:_SHOWN]:
        output.note(f"left: {problem.name[:200]}: {problem.reason}")
    if report.left > _SHOWN:
        output.note(f"... and {report.left - _SHOWN} more; --json lists a thousand")
    if report.waiting and not report.dry_run:
        output.note(f"{report.waiting} copies wait for --finish or --undo ({report.state}).")
