"""``tenantkv celery``: the queues and workers of a Celery application on its broker."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from tenantkv.cli import output
from tenantkv.errors import ConfigurationError

if TYPE_CHECKING:
    from tenantkv.contrib.celery.report import QueueReport

_EPILOG = """\
examples:
  tenantkv celery status                             depths, what workers hold, who answers
  tenantkv celery queues --child celery --json       of an application configured with child="celery"
  tenantkv celery workers                            who answers within a second
  tenantkv celery purge reports                      remove what waits in that queue
  tenantkv celery migrate celery --from redis://old/0 --task tool.add
                                                     move waiting messages of stock Celery here

migrate moves only the tasks that are named: on an open broker anybody may have planted others.
Exit codes: 0 done, 1 refused, failed, or messages were lost.
"""

_ACTIONS = ("status", "queues", "workers", "purge", "migrate")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``celery``."""
    parser.description = "Show and clear the queues of a Celery application, and move old ones here."
    parser.epilog = _EPILOG
    parser.add_argument("action", choices=_ACTIONS, help="what to do")
    parser.add_argument("queues", metavar="QUEUE", nargs="*", help="queues; all if left out, but for purge")
    parser.add_argument(
        "--url", default="tenantkv://", help="the broker, as broker_url (default: %(default)s)"
    )
    parser.add_argument("--child", help="the sub-tenant that the application was configured with")
    parser.add_argument("--wait", type=float, default=1.0, metavar="SECONDS", help="for workers' answers")
    parser.add_argument("--from", dest="source", metavar="URL", help="migrate: the old broker, redis://...")
    parser.add_argument("--task", action="append", default=[], help="migrate: a task to move; repeatable")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run ``celery``."""
    try:
        from tenantkv.contrib.celery import report
    except ImportError as error:
        raise ConfigurationError("this needs Celery: pip install 'tenantkv[celery]'") from error
    options = {"child": arguments.child} if arguments.child else {}
    with report.channel_of(arguments.url, **options) as channel:
        if arguments.action == "status":
            return _status(report.status(channel, patience=arguments.wait), arguments)
        if arguments.action == "queues":
            return _queues(report.queues(channel, arguments.queues), arguments)
        if arguments.action == "workers":
            return _print(report.workers(channel, patience=arguments.wait), arguments)
        if not arguments.queues:
            raise ConfigurationError(f"{arguments.action} needs the name of a queue")
        if arguments.action == "purge":
            done = {name: report.purge(channel, name) for name in arguments.queues}
            return _print([f"{name}: {count} removed" for name, count in done.items()], arguments)
        return _migrate(report, channel, arguments)


def _status(found: Any, arguments: argparse.Namespace) -> int:
    if arguments.json:
        output.print_json(found)
        return _verdict(found.queues)
    _queues(found.queues, arguments)
    output.print_text(f"held by workers: {found.unacked}, of these lapsed: {found.lapsed}")
    names = ", ".join(map(output.clean, found.workers)) or "none"
    output.print_text(f"workers that answer: {names}")
    return _verdict(found.queues)


def _queues(found: list[QueueReport], arguments: argparse.Namespace) -> int:
    if arguments.json:
        output.print_json(found)
        return _verdict(found)
    rows = [("queue", "waiting", "lost", "oldest")]
    for each in found:
        age = "" if each.oldest is None else f"{each.oldest:.0f} s"
        rows.append((each.name, str(each.waiting), str(each.lost), age))
    output.print_table(rows)
    return _verdict(found)


def _verdict(found: list[QueueReport]) -> int:
    return 1 if any(each.lost for each in found) else 0


def _migrate(report: Any, channel: Any, arguments: argparse.Namespace) -> int:
    if not arguments.source:
        raise ConfigurationError("migrate needs --from, the URL of the old broker")
    import redis

    source = redis.Redis.from_url(arguments.source)
    lines = []
    for name in arguments.queues:
        moved, left = report.migrate(source, channel, name, tasks=arguments.task)
        lines.append(f"{name}: {moved} moved, {left} left")
    return _print(lines, arguments)


def _print(lines: list[str], arguments: argparse.Namespace) -> int:
    if arguments.json:
        output.print_json(lines)
    else:
        for line in lines:
            output.print_text(output.clean(line))
    return 0
