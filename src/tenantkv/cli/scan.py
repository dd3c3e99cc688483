"""``tenantkv scan``: would these values be refused? Says where and why, and never shows the value."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from tenantkv.cli import output
from tenantkv.secrets import Detector, Finding
from tenantkv.secrets.detector import MAX_SCANNED_BYTES

FOUND = 1
UNREADABLE = 2

_EPILOG = """\
examples:
  tenantkv scan session.json                    one value, as SET would send it
  tenantkv scan --lines access.log              every line is a value of its own
  printenv DATABASE_URL | tenantkv scan - --name config:database

Prints the rule and the line, never the value. Exit codes: 0 nothing would be refused, 1 something would,
2 a file could not be read. Tier 3 is a warning and not refused. docs/secrets.md lists the rules.
"""


@dataclass(frozen=True, slots=True)
class ScanReport:
    """One finding.

    Attributes:
        file: where; ``-`` is standard input.
        line: which line, from 1.
        rule: what it looks like.
        tier: 1 a known format, 2 a name and a value, 3 high entropy.
        refused: whether a write of it would be refused.
    """

    file: str
    line: int
    rule: str
    tier: int
    refused: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``scan``."""
    parser.description = "Tell whether values would be refused as plaintext secrets."
    parser.epilog = _EPILOG
    parser.add_argument("files", metavar="FILE", nargs="+", help="a value; - reads it from standard input")
    parser.add_argument("--lines", action="store_true", help="each line is a value of its own")
    parser.add_argument(
        "--name", metavar="KEY", default="", help="the key's own name, which counts as a hint"
    )
    parser.add_argument("--field", metavar="FIELD", default="", help="the hash field's name, likewise")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run ``scan``."""
    reports: list[ScanReport] = []
    unreadable = False
    for file in arguments.files:
        try:
            reports += _scan(file, arguments)
        except OSError as error:
            output.fail(f"{file}: {error.strerror or error}")
            unreadable = True
    if arguments.json:
        output.print_json(reports)
    else:
        for report in reports:
            _print(report)
    if unreadable:
        return UNREADABLE
    return FOUND if any(report.refused for report in reports) else 0


def _scan(file: str, arguments: argparse.Namespace) -> list[ScanReport]:
    if file == "-":
        return list(_reports(file, sys.stdin.buffer, arguments))
    with open(file, "rb") as stream:
        return list(_reports(file, stream, arguments))


def _reports(file: str, stream: BinaryIO, arguments: argparse.Namespace) -> Iterator[ScanReport]:
    detector = Detector()
    name, field = os.fsencode(arguments.name), os.fsencode(arguments.field)
    if arguments.lines:
        for number, line in enumerate(stream, 1):
            if found := detector.find(line.rstrip(b"\r\n"), name=name, field=field):
                yield _report(file, number, found)
        return
    # A shell's newline at the end is not a part of the value.
    value = stream.read().rstrip(b"\r\n")
    if len(value) > MAX_SCANNED_BYTES:
        output.note(f"{file}: longer than 64 KB: like the client, looks at its first 48 and last 16 KB only")
    if found := detector.find(value, name=name, field=field):
        line_number = 1 if found.is_field else value.count(b"\n", 0, found.offset) + 1
        yield _report(file, line_number, found)


def _report(file: str, line: int, found: Finding) -> ScanReport:
    return ScanReport(file, line, found.rule, found.tier, refused=found.tier < 3)


def _print(report: ScanReport) -> None:
    verdict = "would be refused" if report.refused else "would be warned about"
    output.print_text(
        f"{output.clean(report.file)}:{report.line}: {report.rule} (tier {report.tier}), {verdict}"
    )
