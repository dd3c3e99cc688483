"""What ``tenantkv rotate`` tells, for programs and for people."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass

from tenantkv.cli import output
from tenantkv.cli.client import as_text
from tenantkv.keyring import Keyring

_NEXT = {
    "prefix": "No program can connect now. Next: tenantkv rotate run",
    "run": "Next: tenantkv rotate finish",
    "left": "Something is left under the former prefix. Nothing is lost: see above, and run it again.",
    "unfinished": "Something is left under the former prefix, so it is not forgotten. Nothing is lost: "
    "'tenantkv rotate run' moves it, and --leave gives it up.",
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


def report_of(
    arguments: argparse.Namespace,
    keyring: Keyring,
    *,
    found: int,
    names_from: str = "",
    problems: Mapping[bytes, str] | None = None,
    counts: Mapping[str, int] | None = None,
) -> RotateReport:
    """Return the report of a step.

    Args:
        arguments: of the command.
        keyring: as it is now.
        found: how many keys there were to move; -1 if nobody can tell.
        names_from: where their names came from.
        problems: what was left, and why.
        counts: what was done.
    """
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
        names_from=names_from,
        found=found,
        **{name: counts.get(name, 0) for name in ("moved", "late", "gone", "dropped")},
        left=len(problems),
        problems=tuple(LeftKey(as_text(name), why) for name, why in list(problems.items())[:1000]),
    )


def print_report(report: RotateReport) -> None:
    """Show a report to people."""
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
        left = "unfinished" if report.action == "finish" else "left"
        output.note(_NEXT[left if report.left else report.action])
