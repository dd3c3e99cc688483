"""``tenantkv doctor``: a read-only audit of server, network, settings, files and the code around."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tenantkv.cli import output
from tenantkv.errors import TenantKVError

if TYPE_CHECKING:
    from tenantkv.doctor import Finding, Severity

#: As monitoring programs count.
CODES = {"ok": 0, "warn": 1, "fail": 2}
UNKNOWN = 3

_EPILOG = """\
examples:
  tenantkv doctor
  tenantkv doctor --all --path ~/mytool        with what is in order, and with the code there
  tenantkv doctor --only server,exposure --json
  tenantkv doctor --fail-on fail --accept exposure.copies      in CI
  tenantkv doctor --watch                      look again every minute, and tell what has changed

Changes nothing. On the server it asks which commands exist and never runs the dangerous ones; the prefix
is never sent, and what the server shows is searched here. docs/doctor.md tells what is looked at and why.

Exit codes: 0 all in order, 1 something to know (warn), 2 something to act on (fail), 3 it could not look.
"""


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """What was found.

    Attributes:
        severity: the most serious of those that are not accepted.
        counts: how many findings there are of each severity, and how many are accepted.
        findings: all of them, by family.
    """

    severity: Severity
    counts: dict[str, int]
    findings: tuple[Finding, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``doctor``."""
    parser.description = "Audit the server, the way to it, the settings, the files and the code around."
    parser.epilog = _EPILOG
    parser.add_argument("--all", action="store_true", help="show what is in order as well")
    parser.add_argument("--only", metavar="FAMILY,...", default="", help="only these families of checks")
    parser.add_argument(
        "--accept",
        metavar="CHECK",
        action="append",
        default=[],
        help="this finding is known, such as exposure.copies; give it again for more",
    )
    parser.add_argument(
        "--fail-on",
        choices=("warn", "fail", "never"),
        default="warn",
        help="from which severity on the exit code is not 0; warn if left out",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--path", metavar="DIR", default=".", help="the project's files; . if left out")
    where.add_argument("--no-files", action="store_true", help="do not look at the project's files")
    parser.add_argument("--timeout", metavar="SECONDS", type=float, default=5.0, help="for each reply; 5")
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        type=float,
        nargs="?",
        const=60.0,
        help="look again so often (60 if left out), and tell what has changed",
    )
    parser.add_argument("--namespace", metavar="NAME", help="label, for tenants with several namespaces")
    parser.add_argument(
        "--json", action="store_true", help="print the report as JSON; one a line with --watch"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run ``doctor``."""
    try:
        report = examine(arguments)
        if arguments.watch is not None:
            _watch(report, arguments)
        elif arguments.json:
            output.print_json(report)
        else:
            _print(report, shows_all=arguments.all)
    except TenantKVError as error:
        output.fail(str(error))
        return UNKNOWN
    return exit_code(report, arguments.fail_on)


def examine(arguments: argparse.Namespace) -> DoctorReport:
    """Look, and return what was found."""
    from tenantkv.doctor import Scope, accept, audit, check_families

    scope = Scope(
        environ=os.environ,
        namespace=arguments.namespace,
        path=None if arguments.no_files else Path(arguments.path),
        families=check_families(name for name in arguments.only.split(",") if name),
        timeout=max(arguments.timeout, 0.01),
    )
    return describe(accept(audit(scope), arguments.accept))


def describe(findings: Iterable[Finding]) -> DoctorReport:
    """Return the report of findings."""
    from tenantkv.doctor import verdict

    found = tuple(findings)
    counts = {name: sum(each.severity == name and not each.accepted for each in found) for name in CODES}
    counts["accepted"] = sum(each.accepted for each in found)
    return DoctorReport(verdict(found), counts, found)


def exit_code(report: DoctorReport, fail_on: str) -> int:
    """Return the exit code of a report."""
    code = CODES[report.severity]
    return code if fail_on != "never" and code >= CODES[fail_on] else 0


def _watch(report: DoctorReport, arguments: argparse.Namespace) -> None:
    """Tell what changes, until interrupted."""
    _tell(report, (), arguments)
    while True:
        time.sleep(max(arguments.watch, 0.1))
        before, report = report, examine(arguments)
        _tell(report, before.findings, arguments)


def _tell(report: DoctorReport, before: Iterable[Finding], arguments: argparse.Namespace) -> None:
    if arguments.json:
        output.print_text(json.dumps(dataclasses.asdict(report)))
    elif not before:
        _print(report, shows_all=arguments.all)
    else:
        known = {each.check: each.severity for each in before}
        now = time.strftime("%H:%M:%S")
        for each in report.findings:
            if known.get(each.check, "ok") != each.severity:
                output.print_text(f"{now} {known.get(each.check, 'ok')} -> {each.severity}")
                _show(each)
        gone = known.keys() - {each.check for each in report.findings}
        for check in sorted(check for check in gone if known[check] != "ok"):
            output.print_text(f"{now} {known[check]} -> gone: {check}")
    sys.stdout.flush()


_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


def _print(report: DoctorReport, *, shows_all: bool) -> None:
    family = ""
    for each in report.findings:
        if not shows_all and (each.severity == "ok" or each.accepted):
            continue
        if each.family != family:
            family = each.family
            output.print_text(f"\n{output.paint(family, 'bold', sys.stdout)}")
        _show(each)
    counts = ", ".join(f"{count} {name}" for name, count in report.counts.items() if count)
    output.print_text(f"\n{output.paint(report.severity, _STYLES[report.severity], sys.stdout)}: {counts}")


def _show(each: Finding) -> None:
    mark = output.paint(each.severity.ljust(4), _STYLES[each.severity], sys.stdout)
    accepted = " (accepted)" if each.accepted else ""
    output.print_text(f"{mark} {output.clean(each.title)}  [{each.check}]{accepted}")
    output.print_text(f"       seen: {output.clean(each.evidence)}")
    if each.consequence:
        output.print_text(f"       so:   {output.clean(each.consequence)}")
    if each.remedy:
        output.print_text(f"       do:   {output.clean(each.remedy)}")
