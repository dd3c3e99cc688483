"""``tenantkv queue``: list, look into, purge, redrive, pause and resume queues."""

from __future__ import annotations

import argparse
import base64
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenantkv.cli import output
from tenantkv.cli.client import add_actions, add_target_arguments, talking
from tenantkv.cli.status_confirm import confirm
from tenantkv.errors import ConfigurationError
from tenantkv.ops.status import QueueState

if TYPE_CHECKING:
    from tenantkv.queue import Queue, QueueSettings
    from tenantkv.queue.message import Peeked

_EPILOG = """\
examples:
  tenantkv queue ls                              depths and ages of all queues that were used
  tenantkv queue ls thumbs mails --json
  tenantkv queue peek thumbs --where dead --reveal
  tenantkv queue redrive thumbs --most 100       put dead letters back, the oldest first
  tenantkv queue pause thumbs                    receivers get nothing until: tenantkv queue resume thumbs
  tenantkv queue purge thumbs --dead --yes

'ls' changes nothing. The others move what is due, as every call of a queue does. Values are shown with
--reveal only. Queues have hidden names, so 'ls' knows those that have noted themselves in the directory;
others it shows when they are named.
"""

_ACTIONS = {
    "ls": "list queues: depths, ages, what was lost",
    "peek": "look at messages without receiving them",
    "purge": "remove all messages, or the dead letters",
    "redrive": "put dead letters back",
    "pause": "have receivers get nothing",
    "resume": "end a pause",
}


@dataclass(frozen=True, slots=True)
class MessageReport:
    """A message, looked at.

    Attributes:
        id: the message's.
        where: ``ready``, ``delayed``, ``in_flight`` or ``dead``.
        when: ready since, due, in flight until or dead since; Unix seconds by the server's clock.
        deliveries: how often it was delivered.
        why: of a dead letter, the word it was buried with.
        is_readable: whether it opens.
        value: with ``--reveal``; bytes as ``{"base64": ...}``.
    """

    id: str
    where: str
    when: float
    deliveries: int
    why: str
    is_readable: bool
    value: Any = None


@dataclass(frozen=True, slots=True)
class DoneReport:
    """What was done to a queue.

    Attributes:
        queue: its own name.
        action: ``purge``, ``drop_dead``, ``redrive``, ``pause`` or ``resume``.
        messages: how many it concerned; 0 for pauses.
    """

    queue: str
    action: str
    messages: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``queue``."""
    parser.description = "List, look into, purge, redrive, pause and resume queues."
    parser.epilog = _EPILOG
    for action, subparser in add_actions(parser, _ACTIONS, _EPILOG):
        if action == "ls":
            subparser.add_argument("names", metavar="QUEUE", nargs="*", help="these too, listed or not")
        else:
            subparser.add_argument("name", metavar="QUEUE", help="the queue's own name")
        _add_options(subparser, action)
        add_target_arguments(subparser)


def _add_options(parser: argparse.ArgumentParser, action: str) -> None:
    if action == "peek":
        parser.add_argument(
            "--where",
            choices=("ready", "delayed", "in_flight", "dead"),
            default="ready",
            help="which messages; ready ones if left out",
        )
        parser.add_argument("-n", "--most", metavar="N", type=int, default=10, help="how many; 10")
        parser.add_argument("--start", metavar="N", type=int, default=0, help="leave out so many before")
        parser.add_argument("--reveal", action="store_true", help="show values")
    if action == "redrive":
        parser.add_argument("--most", metavar="N", type=int, help="how many at the most")
        parser.add_argument(
            "--id", metavar="ID", action="append", help="this message; give it again for more"
        )
    if action == "purge":
        parser.add_argument("--dead", action="store_true", help="only dead letters")
        parser.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace) -> int:
    """Run ``queue``."""
    with talking(arguments) as client:
        if arguments.action == "ls":
            return _list(client, arguments)
        queue = open_queue(client, arguments.name)
        if arguments.action == "peek":
            return _peek(queue, arguments)
        return _act(queue, arguments)


def states(client: Any, names: list[str]) -> tuple[QueueState, ...]:
    """Return queues: those that are named, and those of the directory; it changes nothing."""
    from tenantkv.cli.status_source import Source

    return Source(client, queues=names).queues()


def open_queue(client: Any, name: str) -> Queue:
    """Return a queue that exists.

    Raises:
        ConfigurationError: there is nothing of it on the server.
    """
    from tenantkv.cli.status_source import known_queues

    found = {state.name: state for state in states(client, [name])}
    if not found[name].exists:
        raise ConfigurationError(
            f"there is no queue {name!r} on the server; there are: {known_queues(list(found.values()))}"
        )
    queue: Queue = client.queue(name, _lenient(), on_loss=lambda loss: output.warn(str(loss)))
    return queue


def _lenient() -> QueueSettings:
    """Return settings under which our calls bury, drop and forget nothing that the queue's own would keep.

    A queue's settings are its programs'; every call says those of its caller.
    """
    from tenantkv.queue import QueueSettings
    from tenantkv.queue.settings import DAY

    return QueueSettings(
        max_deliveries=1_000_000, max_messages=1_000_000_000, max_dead=10_000_000, retention=365 * DAY
    )


def _list(client: Any, arguments: argparse.Namespace) -> int:
    from tenantkv.cli.status_text import queue_rows

    found = states(client, arguments.names)
    if arguments.json:
        output.print_json(list(found))
    elif found:
        output.print_table(queue_rows(found))
    else:
        output.note("No queue has noted itself in the directory; name those that you look for.")
    return 0


def _peek(queue: Queue, arguments: argparse.Namespace) -> int:
    found = queue.peek(arguments.where, count=arguments.most, start=arguments.start)
    reports = [describe(each, arguments.where, reveal=arguments.reveal) for each in found]
    if arguments.json:
        output.print_json(reports)
        return 0
    rows = [_row(report, reveal=arguments.reveal) for report in reports]
    if rows:
        output.print_table([("ID", "WHEN", "DELIVERIES", "WHY", "VALUE"), *rows])
    else:
        output.note(f"No message is {arguments.where.replace('_', ' ')}.")
    return 0


def describe(each: Peeked, where: str, *, reveal: bool) -> MessageReport:
    """Return the report of a message."""
    value = jsonable(each.value) if reveal and each.is_readable else None
    return MessageReport(each.id, where, each.when, each.deliveries, each.why, each.is_readable, value)


def jsonable(value: Any) -> Any:
    """Return a value as JSON can write it."""
    if isinstance(value, (bytes, bytearray)):
        return {"base64": base64.b64encode(value).decode()}
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        # A pickled value: what it is, as a program would show it.
        return repr(value)
    return value


def _row(report: MessageReport, *, reveal: bool) -> tuple[str, ...]:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(report.when))
    shown = json.dumps(report.value, ensure_ascii=False) if reveal else "(--reveal shows it)"
    return (
        report.id,
        when,
        str(report.deliveries),
        report.why,
        shown if report.is_readable else "(unreadable)",
    )


def _act(queue: Queue, arguments: argparse.Namespace) -> int:
    action, messages = arguments.action, 0
    if action == "purge":
        what = "all dead letters of" if arguments.dead else "every message, also those being worked on, of"
        confirm(f"remove {what} queue {queue.name!r}", yes=arguments.yes)
        action = "drop_dead" if arguments.dead else "purge"
        messages = queue.drop_dead() if arguments.dead else queue.purge()
    elif action == "redrive":
        messages = queue.redrive(most=arguments.most, ids=arguments.id)
    elif action == "pause":
        queue.pause()
    else:
        queue.resume()
    report = DoneReport(queue.name, action, messages)
    if arguments.json:
        output.print_json(report)
    else:
        output.print_text(output.clean(_told(report)))
    return 0


def _told(report: DoneReport) -> str:
    queue, count = f"queue {report.queue!r}", report.messages
    return {
        "purge": f"{queue}: {output.counted(count, 'message')} removed",
        "drop_dead": f"{queue}: {output.counted(count, 'dead letter')} removed",
        "redrive": f"{queue}: {output.counted(count, 'dead letter')} put back",
        "pause": f"{queue}: paused; what is being worked on goes on",
        "resume": f"{queue}: resumed",
    }[report.action]
