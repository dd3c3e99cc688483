"""``tenantkv top``: the server, queues and locks, live in the terminal."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tenantkv.cli import output
from tenantkv.cli.client import add_target_arguments, talking
from tenantkv.cli.status import STYLES, Looker, StatusReport, add_look_arguments
from tenantkv.cli.status_text import alarm_lines, broker_rows, lock_rows, queue_rows, server_rows
from tenantkv.ops.status import QueueState, parse_thresholds

_EPILOG = """\
examples:
  tenantkv top
  tenantkv top --every 5 --queue thumbs
  tenantkv top --count 3 | cat               three times, without a screen

The deepest queues come first, and locks only while they are held. Ctrl-C ends it. With the package rich
installed (pip install 'tenantkv[cli]') it is drawn in tables; --plain does without.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``top``."""
    parser.description = "Show the server, queues and locks, live."
    parser.epilog = _EPILOG
    add_look_arguments(parser)
    parser.add_argument("--every", metavar="SECONDS", type=float, default=2.0, help="2 if left out")
    parser.add_argument("--count", metavar="N", type=int, help="end after so many looks")
    parser.add_argument("--plain", action="store_true", help="do not use rich")
    add_target_arguments(parser, json=False)


Show = Callable[[StatusReport], None]


def run(arguments: argparse.Namespace) -> int:
    """Run ``top``."""
    from tenantkv.cli.status_source import Source

    limits = parse_thresholds(arguments.threshold)
    every = max(arguments.every, 0.05)
    with talking(arguments) as client:
        source = Source(client, queues=arguments.queue, usage=arguments.usage, names_every=10.0)
        looker = Looker(source, limits)
        left = arguments.count
        with _screen(plain=arguments.plain) as show:
            while True:
                show(looker.look())
                left = None if left is None else left - 1
                if left is not None and left <= 0:
                    return 0
                time.sleep(every)


@contextmanager
def _screen(*, plain: bool) -> Iterator[Show]:
    """Give what shows a report: by rich, by redrawing a terminal, or one below the other."""
    if not sys.stdout.isatty():
        yield _print_frame
        return
    rich = None if plain else _rich()
    if rich is not None:
        with rich() as show:
            yield show
        return
    # The other screen, so that what stood there before comes back.
    sys.stdout.write("\x1b[?1049h\x1b[?25l")
    try:
        yield _redraw
    finally:
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()


def _print_frame(report: StatusReport) -> None:
    output.print_text("\n".join(frame(report)) + "\n")
    sys.stdout.flush()


def _redraw(report: StatusReport) -> None:
    # Each line is cut off by its own end of line, so nothing flickers as with a cleared screen.
    lines = "".join(f"{line}\x1b[K\n" for line in frame(report))
    sys.stdout.write(f"\x1b[H{lines}\x1b[J")
    sys.stdout.flush()


def frame(report: StatusReport) -> list[str]:
    """Return a report as lines, cleaned and painted."""
    head = time.strftime("tenantkv top  %Y-%m-%d %H:%M:%S")
    lines = [f"{head}  {output.paint(report.severity, STYLES[report.severity], sys.stdout)}", ""]
    if report.snapshot is None:
        return [*lines, output.clean(report.error)]
    for rows in tables(report):
        lines += [*_columns(rows), ""]
    for severity, text in alarm_lines(report.alarms):
        lines.append(f"{output.paint(severity, STYLES[severity], sys.stdout)}: {output.clean(text)}")
    return lines


def tables(report: StatusReport) -> list[list[tuple[str, ...]]]:
    """Return what there is to show: the server, queues by depth, held locks."""
    seen = report.snapshot
    assert seen is not None
    found = [
        server_rows(seen, report.change),
        queue_rows(by_depth(seen.queues), dict(report.change.depths)),
        broker_rows(seen.brokers, report.change.depths),
        lock_rows(seen.locks, shows_free=False),
    ]
    return [rows for rows in found if rows]


def by_depth(queues: Iterable[QueueState]) -> list[QueueState]:
    """Return queues, the deepest first."""
    return sorted(queues, key=lambda queue: (-queue.depth, -queue.in_flight, queue.name))


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    cleaned = [[output.clean(cell) for cell in row] for row in rows]
    count = max(map(len, cleaned))
    widths = [max((len(row[at]) for row in cleaned if at < len(row)), default=0) for at in range(count)]
    return ["  ".join(cell.ljust(widths[at]) for at, cell in enumerate(row)).rstrip() for row in cleaned]


def _rich() -> Any:
    """Return a context that shows reports by rich; ``None`` where that is not installed."""
    try:
        from rich.console import Group
        from rich.live import Live
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return None

    def draw(report: StatusReport) -> Any:
        # As text, for what users have named may look like rich's markup.
        parts: list[Any] = [
            Text(time.strftime("tenantkv top  %H:%M:%S  ")).append(report.severity, STYLES[report.severity])
        ]
        if report.snapshot is None:
            return Group(*parts, Text(output.clean(report.error), "red"))
        for at, rows in enumerate(tables(report)):
            table = Table(*([] if at == 0 else rows[0]), show_header=at > 0, header_style="bold", box=None)
            for row in rows if at == 0 else rows[1:]:
                table.add_row(*[Text(output.clean(cell)) for cell in row])
            parts += [Text(""), table]
        parts.append(Text(""))
        for severity, text in alarm_lines(report.alarms):
            parts.append(Text(f"{severity}: {output.clean(text)}", STYLES[severity]))
        return Group(*parts)

    @contextmanager
    def screen() -> Iterator[Show]:
        with Live(screen=True, auto_refresh=False) as live:
            yield lambda report: live.update(draw(report), refresh=True)

    return screen
