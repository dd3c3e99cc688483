"""``tenantkv usage``: what one's own keys cost, by first segment of their names and by type."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from tenantkv.cli import output
from tenantkv.cli.client import (
    add_target_arguments,
    as_text,
    is_cluster,
    natural,
    own_name,
    seconds,
    size,
    talking,
)
from tenantkv.cli.keys import list_names, measure_all
from tenantkv.cli.progress import Bar
from tenantkv.cli.usage_report import GroupReport, Growth, KeyCost, TypeReport, UsageReport
from tenantkv.errors import ConfigurationError
from tenantkv.ops.listing import memory_of_server
from tenantkv.ops.usage import Group, Measure, choose, grouped, registry_bytes

_EPILOG = """\
examples:
  tenantkv usage
  tenantkv usage 'user:*' --top 20
  tenantkv usage --json > monday.json           and some days later:
  tenantkv usage --since monday.json            what has grown, and what that means
  tenantkv usage --html report.html             charts in one file that needs no network

Sizes are the server's estimates (MEMORY USAGE) of a sample of the keys, scaled to all: --sample 0 measures
each of them. Looking at a key does not count as a use of it.
"""

_BAR = 24
_DAYS_THAT_MATTER = 3650
# Seconds; the growth of an hour says little of a day's.
_SHORT = 3600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``usage``."""
    parser.description = "Show what your keys cost, by first segment of their names and by type."
    parser.epilog = _EPILOG
    parser.add_argument("pattern", metavar="PATTERN", nargs="?", default="*", help="a glob; all if left out")
    parser.add_argument(
        "--sample",
        metavar="N",
        type=natural,
        default=10_000,
        help="measure about N keys; 0 for all; else 10000",
    )
    parser.add_argument("--top", metavar="N", type=natural, default=10, help="rows of each table; else 10")
    parser.add_argument("--since", metavar="FILE", help="an earlier report (--json), to compare with")
    parser.add_argument("--html", metavar="FILE", help="also write a page with charts")
    add_target_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run ``usage``."""
    before = None if arguments.since is None else _earlier(arguments.since)
    with talking(arguments) as client:
        report = describe(
            client,
            pattern=own_name(arguments.pattern),
            sample=arguments.sample,
            top=arguments.top,
            before=before,
        )
    if arguments.html:
        from tenantkv.cli.report_html import render

        # The page has key names in it, which are nobody else's business.
        with open(arguments.html, "w", encoding="utf-8", opener=_private) as file:
            file.write(render(report))
    if arguments.json:
        output.print_json(report)
    else:
        _print(report)
        if arguments.html:
            output.note(f"Charts: {arguments.html}")
    return 0


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def describe(
    client: Any,
    *,
    pattern: bytes = b"*",
    sample: int = 10_000,
    top: int = 10,
    before: dict[str, Any] | None = None,
) -> UsageReport:
    """Return what the keys cost."""
    with Bar() as bar:
        source, names = list_names(client, bar, pattern)
        measures = measure_all(client, choose(names, sample, random.sample), bar)
        index = client.run(registry_bytes()) if source == "registry" or pattern == b"*" else 0
        # A Cluster has several servers, whose memory is not one.
        used, most = (0, 0) if is_cluster(client) else client.run(memory_of_server())
    groups = grouped(names, measures)
    kept = sorted(groups.items(), key=lambda pair: -pair[1].scaled(pair[1].bytes))
    total = sum(group.scaled(group.bytes) for group in groups.values())
    is_timed = not measures or any(each.idle is not None for each in measures)
    now = time.time()
    report = UsageReport(
        namespace=client.namespace.root.namespace,
        child=client.namespace.path,
        taken=round(now, 3),
        source=source,
        pattern=as_text(pattern),
        keys=len(names),
        measured=len(measures),
        bytes=total,
        registry_bytes=index,
        server_bytes=used,
        server_limit=most,
        immortal_keys=sum(group.scaled(group.immortal) for group in groups.values()),
        immortal_bytes=sum(group.scaled(group.immortal_bytes) for group in groups.values()),
        day_keys=sum(group.scaled(group.fresh_keys) for group in groups.values()) if is_timed else None,
        day_bytes=sum(group.scaled(group.fresh_bytes) for group in groups.values()) if is_timed else None,
        groups=_group_reports(kept, top),
        types=_type_reports(groups.values()),
        biggest=tuple(map(_cost, sorted(measures, key=lambda each: -(each.bytes or 0))[:top])),
        immortal=tuple(
            map(
                _cost,
                sorted(
                    (each for each in measures if each.ttl is None and not each.name.startswith(b"tkv:")),
                    key=lambda each: -(each.bytes or 0),
                )[:top],
            )
        ),
        growth=None,
    )
    return report if before is None else report.grown_since(before)


def _group_reports(groups: Sequence[tuple[bytes, Group]], top: int) -> tuple[GroupReport, ...]:
    shown = [_group_report(as_text(segment), group) for segment, group in groups[: max(top, 1)]]
    rest = groups[max(top, 1) :]
    if rest:
        scaled = [_group_report("", group) for _, group in rest]
        shown.append(
            GroupReport(
                f"({len(rest)} others)",
                sum(each.keys for each in scaled),
                sum(each.bytes for each in scaled),
                sum(each.immortal_keys for each in scaled),
                sum(each.immortal_bytes for each in scaled),
            )
        )
    return tuple(shown)


def _group_report(segment: str, group: Group) -> GroupReport:
    return GroupReport(
        segment,
        group.keys,
        group.scaled(group.bytes),
        group.scaled(group.immortal),
        group.scaled(group.immortal_bytes),
    )


def _type_reports(groups: Any) -> tuple[TypeReport, ...]:
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for group in groups:
        for kind, (keys, amount) in group.types.items():
            sums[kind][0] += group.scaled(keys)
            sums[kind][1] += group.scaled(amount)
    ordered = sorted(sums.items(), key=lambda pair: -pair[1][1])
    return tuple(TypeReport(kind, keys, amount) for kind, (keys, amount) in ordered)


def _cost(measure: Measure) -> KeyCost:
    return KeyCost(as_text(measure.name), measure.type, measure.bytes or 0, measure.ttl, measure.idle)


def _earlier(path: str) -> dict[str, Any]:
    with open(path, "rb") as file:
        text = file.read()
    try:
        document = json.loads(text)
        if all(isinstance(document[name], (int, float)) for name in ("taken", "keys", "bytes")):
            return dict(document)
    except (ValueError, KeyError, TypeError):
        pass
    raise ConfigurationError(f"{path} is no report that 'tenantkv usage --json' has written")


# Printing


def _print(report: UsageReport) -> None:
    estimate = "" if report.measured >= report.keys else f", estimated from {report.measured}"
    rows = [
        ("keys", f"{report.keys}, listed by {report.source}"),
        ("memory", f"{size(report.bytes)}{estimate}"),
    ]
    if report.registry_bytes:
        rows.append(("registry", f"{size(report.registry_bytes)}, the index of your names"))
    if report.server_bytes:
        rows.append(("server", _server(report)))
    if report.keys:
        share = _share(report.immortal_bytes, report.bytes)
        rows.append(
            ("immortal", f"{report.immortal_keys} keys, {size(report.immortal_bytes)} ({share}): no TTL")
        )
    rows += [("growth", line) for line in meaning(report)]
    output.print_table(rows)
    if not report.keys:
        return
    largest = max(group.bytes for group in report.groups)
    _print_section(
        ("SEGMENT", "KEYS", "SIZE", "SHARE", "IMMORTAL", ""),
        [
            (
                group.segment[:60],
                str(group.keys),
                size(group.bytes),
                _share(group.bytes, report.bytes),
                str(group.immortal_keys),
                plot(group.bytes, largest),
            )
            for group in report.groups
        ],
    )
    _print_section(
        ("TYPE", "KEYS", "SIZE", "SHARE"),
        [
            (each.type, str(each.keys), size(each.bytes), _share(each.bytes, report.bytes))
            for each in report.types
        ],
    )
    _print_costs("BIGGEST KEY", report.biggest)
    _print_costs("BIGGEST IMMORTAL KEY", report.immortal)


def _server(report: UsageReport) -> str:
    text = f"{size(report.server_bytes)} used"
    if report.server_limit:
        used = _share(report.server_bytes, report.server_limit)
        text += (
            f" of {size(report.server_limit)} ({used}); yours are {_share(report.bytes, report.server_limit)}"
        )
    return text


def meaning(report: UsageReport) -> list[str]:
    """Return in words what the growth of a day is and leads to."""
    lines = []
    if report.keys and report.day_keys is not None:
        lines.append(
            f"at most {report.day_keys} keys, {size(report.day_bytes)} a day: so much was used in the last "
            f"24 hours, written or read"
            if report.day_keys
            else "nothing was used within a day"
        )
    growth = report.growth
    if growth is None:
        return lines
    lines.append(
        f"{growth.keys_a_day:+.0f} keys, {_signed(growth.bytes_a_day)} a day, measured over "
        f"{seconds(growth.seconds)}"
        + (", which is too short to tell much" if growth.seconds < _SHORT else "")
    )
    if growth.days_to_limit is not None and growth.days_to_limit < _DAYS_THAT_MATTER:
        lines.append(
            f"at this pace your keys alone fill the rest of the server in {growth.days_to_limit:.0f} days; "
            "from then on each new key evicts one, yours or another tenant's"
        )
    if growth.immortal_bytes_a_day > 0:
        lines.append(
            f"{_signed(growth.immortal_bytes_a_day)} a day of it never expires: give those keys a TTL, or "
            "they only leave by eviction"
        )
    return lines


def _signed(count: float) -> str:
    return f"{'-' if count < 0 else '+'}{size(abs(count))}"


def plot(value: int, largest: int) -> str:
    """Return a bar of plain characters."""
    return "#" * max(1 if value else 0, round(_BAR * value / largest)) if largest else ""


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"


def _print_costs(title: str, keys: Sequence[KeyCost]) -> None:
    if keys:
        _print_section(
            (title, "TYPE", "SIZE", "TTL", "IDLE"),
            [
                (
                    key.name[:100],
                    key.type,
                    size(key.bytes),
                    "none" if key.ttl is None else seconds(key.ttl),
                    seconds(key.idle),
                )
                for key in keys
            ],
        )


def _print_section(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    sys.stdout.write("\n")
    output.print_table([head, *rows])


__all__ = ["Growth", "UsageReport", "add_arguments", "describe", "meaning", "plot", "run"]
