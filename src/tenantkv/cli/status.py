"""``tenantkv status``: how the server and the tenant's part of it fare, against thresholds."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenantkv.cli import output
from tenantkv.cli.client import ServerError, add_target_arguments, talking
from tenantkv.errors import TenantKVError
from tenantkv.ops.status import (
    Change,
    Severity,
    Snapshot,
    Thresholds,
    Trend,
    change,
    parse_thresholds,
)
from tenantkv.ops.status_alarms import Alarm, judge, severity_of

if TYPE_CHECKING:
    from tenantkv.cli.status_source import Source

#: As monitoring programs count.
CODES = {"ok": 0, "warn": 1, "fail": 2}
UNKNOWN = 3
STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}

_EPILOG = """\
examples:
  tenantkv status
  tenantkv status --watch 5
  tenantkv status --threshold queue-depth=100,1000 --threshold memory=0.8,0.9
  tenantkv status --state /run/tool/status.json --json        from cron: what changed since the last run
  tenantkv status --prometheus > /var/lib/node_exporter/tenantkv.prom

Looks and changes nothing: not even what is due in a queue is moved (counting own keys lets the registry tidy
itself; --no-usage). Thresholds are NAME=WARN,FAIL; an empty
one is never reached. Counters are compared with the last run's (--state), or with a look a second before.

  queue-depth=1000,10000   queue-age=,   queue-dead=,   queue-growth=100,1000   unacked=1000,10000
  memory=0.9,0.98   evicted=1,10   rejected=1,   clients=0.8,0.95   blocked=0.5,0.8   latency=0.1,1
  own-bytes=,

The queues of Celery and Channels count too; of an application with a child of its own: --child NAME.

Exit codes: 0 all in order, 1 something to know, 2 serious or no answer, 3 it could not look.
"""


@dataclass(frozen=True, slots=True)
class StatusReport:
    """How things are.

    Attributes:
        severity: of the most serious alarm; ``fail`` if the server does not answer.
        error: why the server could not be asked; empty if it was.
        alarms: what is beyond its threshold.
        snapshot: what was seen; ``None`` if nothing was.
        change: what is new since the look before.
    """

    severity: Severity
    error: str
    alarms: tuple[Alarm, ...]
    snapshot: Snapshot | None
    change: Change


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``status``."""
    parser.description = "Show how the server, and the tenant's part of it, fare."
    parser.epilog = _EPILOG
    add_look_arguments(parser)
    parser.add_argument(
        "--over", metavar="SECONDS", type=float, default=1.0, help="look twice, so far apart (1); 0: once"
    )
    parser.add_argument("--state", metavar="FILE", help="keep what was seen, and compare with the last run")
    parser.add_argument(
        "--watch", metavar="SECONDS", type=float, nargs="?", const=2.0, help="look again so often (2)"
    )
    parser.add_argument("--count", metavar="N", type=int, help="with --watch: so many times")
    parser.add_argument("--prometheus", action="store_true", help="print metrics for Prometheus")
    add_target_arguments(parser)


def add_look_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``status``, ``top`` and ``exporter`` share: what to look at."""
    parser.add_argument(
        "--queue", metavar="NAME", action="append", default=[], help="this queue too; give it again for more"
    )
    parser.add_argument("--usage", action="store_true", default=None, help="count own keys whatever it takes")
    parser.add_argument("--no-usage", action="store_false", dest="usage", help="do not count own keys")
    parser.add_argument(
        "--threshold",
        metavar="NAME=WARN,FAIL",
        action="append",
        default=[],
        help="from which value on; give it again for more",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run ``status``."""
    try:
        limits = parse_thresholds(arguments.threshold)
        with talking(arguments) as client:
            return _look(client, arguments, limits)
    except ServerError as error:
        report = away(str(error))
        show(report, arguments)
        return CODES[report.severity]
    except TenantKVError as error:
        output.fail(str(error))
        return UNKNOWN


def away(why: str) -> StatusReport:
    """Return the report of a server that does not answer."""
    return StatusReport("fail", why, (), None, Change())


class Looker:
    """Looks at a source and judges, comparing with the look before.

    Args:
        source: what to look at.
        limits: what is too much.
        before: the look before.
        trend: the depths of queues until now.
    """

    def __init__(
        self, source: Source, limits: Thresholds, before: Snapshot | None = None, trend: Trend | None = None
    ) -> None:
        self.source = source
        self.limits = limits
        self.before = before
        self.trend = trend or Trend()

    def look(self) -> StatusReport:
        """Return how things are; a server that is away is a report too."""
        from redis.exceptions import RedisError

        try:
            seen = self.source.look()
        except TenantKVError:
            raise
        except (RedisError, OSError) as error:
            return away(f"the server: {error}")
        changed = change(self.before, seen)
        self.before = seen
        self.trend.note(seen.depths)
        alarms = judge(seen, changed, self.trend, self.limits)
        return StatusReport(severity_of(alarms), "", tuple(alarms), seen, changed)


def _look(client: Any, arguments: argparse.Namespace, limits: Thresholds) -> int:
    from tenantkv.cli.status_source import Source, StateFile

    state = StateFile(arguments.state) if arguments.state else None
    before, trend = state.load() if state else (None, Trend())
    looker = Looker(
        Source(client, queues=arguments.queue, usage=arguments.usage), limits, before=before, trend=trend
    )
    if before is None and not state and arguments.watch is None and arguments.over > 0:
        looker.look()
        time.sleep(arguments.over)
    left = arguments.count if arguments.watch is not None else 1
    while True:
        report = looker.look()
        if state and report.snapshot is not None:
            state.save(report.snapshot, looker.trend)
        show(report, arguments)
        left = None if left is None else left - 1
        if arguments.watch is None or (left is not None and left <= 0):
            return CODES[report.severity]
        time.sleep(max(arguments.watch, 0.05))


def show(report: StatusReport, arguments: argparse.Namespace) -> None:
    """Print a report in the form that was asked for."""
    if arguments.prometheus:
        from tenantkv.cli.status_prometheus import render

        output.print_text(render(report.snapshot).rstrip("\n"))
    elif arguments.json and arguments.watch is None:
        output.print_json(report)
    elif arguments.json:
        output.print_text(json.dumps(dataclasses.asdict(report)))
    else:
        if arguments.watch is not None:
            output.print_text(time.strftime("-- %H:%M:%S"))
        print_report(report)
    sys.stdout.flush()


def print_report(report: StatusReport) -> None:
    """Print a report for people."""
    from tenantkv.cli.status_text import alarm_lines, broker_rows, lock_rows, queue_rows, server_rows

    if report.snapshot is None:
        output.print_text(
            f"{output.paint('fail', 'red', sys.stdout)}: {output.clean(report.error or 'no answer')}"
        )
        return
    output.print_table(server_rows(report.snapshot, report.change))
    for rows in (
        queue_rows(report.snapshot.queues, dict(report.change.depths)),
        broker_rows(report.snapshot.brokers, report.change.depths),
        lock_rows(report.snapshot.locks, shows_free=False),
    ):
        if rows:
            output.print_text("")
            output.print_table(rows)
    output.print_text("")
    for severity, text in alarm_lines(report.alarms):
        output.print_text(f"{output.paint(severity, STYLES[severity], sys.stdout)}: {output.clean(text)}")
    if not report.alarms:
        output.print_text(f"{output.paint('ok', 'green', sys.stdout)}: nothing is beyond its threshold")
