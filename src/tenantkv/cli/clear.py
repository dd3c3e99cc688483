"""``tenantkv clear``: delete one's own keys, and nothing that nobody meant."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import Any

from tenantkv.cli import output
from tenantkv.cli.client import add_target_arguments, as_text, own_name, talking
from tenantkv.cli.confirmation import confirm
from tenantkv.cli.keys import list_names
from tenantkv.cli.progress import Bar
from tenantkv.errors import ConfigurationError
from tenantkv.namespace import PRIMITIVES
from tenantkv.ops.cache_names import Names
from tenantkv.ops.clearing import LOT, delete, existing, sort_out
from tenantkv.ops.queue_keys import queue_keys

_EPILOG = """\
examples:
  tenantkv clear --dry-run                what would go?
  tenantkv clear                          plain keys and caches; asks before it deletes
  tenantkv clear --only 'tmp:*' --yes
  tenantkv clear --only cache             every cache; --only cache:pages for one
  tenantkv clear --only queue:thumbs      that queue with all its messages; this is the only way to it

Queues, Celery's messages, locks and rate limits stay, whatever the pattern is, unless a queue is named as
above. Other tenants' keys cannot be named at all. Stopped with Ctrl-C it leaves the rest as it is.
"""

_GLOBS = frozenset("*?[")
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class ClearReport:
    """What was deleted.

    Attributes:
        namespace: the label.
        child: the path of children.
        only: what was asked for; ``None`` for plain keys and caches.
        dry_run: whether nothing was deleted.
        source: where names came from: ``scan``, ``registry``, or ``name`` for a queue.
        found: how many keys were to go.
        deleted: how many did; others may have been gone already.
        kept: by primitive, how many of its keys stay.
        names: the first of the names that were found.
    """

    namespace: str
    child: tuple[str, ...]
    only: str | None
    dry_run: bool
    source: str
    found: int
    deleted: int
    kept: dict[str, int]
    names: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``clear``."""
    parser.description = "Delete your own keys."
    parser.epilog = _EPILOG
    parser.add_argument(
        "--only", metavar="WHAT", help="cache, cache:NAME, queue:NAME, or a glob of own names such as 'tmp:*'"
    )
    parser.add_argument("--dry-run", action="store_true", help="tell what would go, and delete nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_target_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run ``clear``."""
    with talking(arguments) as client, Bar() as bar:
        source, names, kept = find(client, arguments.only, bar)
        bar.clear()
        is_dry = arguments.dry_run
        if names and not is_dry and not arguments.yes:
            _confirm(client, names, arguments.only)
        deleted = 0 if is_dry else _delete(client, names, bar)
    report = ClearReport(
        namespace=client.namespace.root.namespace,
        child=client.namespace.path,
        only=arguments.only,
        dry_run=is_dry,
        source=source,
        found=len(names),
        deleted=deleted,
        kept=kept,
        names=tuple(as_text(name) for name in names[: 1000 if arguments.json else _SHOWN]),
    )
    if arguments.json:
        output.print_json(report)
    else:
        _print(report)
    return 0


def find(client: Any, only: str | None, bar: Bar) -> tuple[str, list[bytes], dict[str, int]]:
    """Return where names came from, those that are to go, and what stays."""
    word, colon, name = (only or "").partition(":")
    is_literal = only is not None and not _GLOBS & set(only)
    if is_literal and word == "queue":
        if not name:
            raise ConfigurationError("say which queue: --only queue:NAME")
        keys = queue_keys(client.namespace, name)
        own = dict.fromkeys((*keys.core, keys.wake, keys.space, *keys.dedupe, *keys.results))
        return "name", client.run(existing(list(own))), {}
    wanted: bytes | None = None
    if is_literal and word == "cache":
        wanted = PRIMITIVES + b"cache:"
        if colon:
            space = client.namespace
            hidden = space.protection.names == "hidden"
            wanted = Names(name, hide=space.hidden_name, hidden=hidden).base
    elif only is not None:
        wanted = own_name(only)
        if wanted.startswith(PRIMITIVES):
            raise ConfigurationError(
                "a pattern is one of plain keys; say cache:NAME or queue:NAME for what tenantkv keeps itself"
            )
    source, names = list_names(client, bar)
    chosen, kept = sort_out(names, wanted)
    return source, chosen, dict(sorted(kept.items()))


def _confirm(client: Any, names: list[bytes], only: str | None) -> None:
    place = ":".join((client.namespace.root.namespace, *client.namespace.path))
    what = f"--only {only}" if only else "plain keys and caches"
    confirm(
        f"Delete {output.counted(len(names), 'key')} of namespace {place} ({what})?",
        unasked=f"{output.counted(len(names), 'key')} would be deleted; say --yes, or --dry-run to see them",
        names=names,
        declined="deleted",
    )


def _delete(client: Any, names: list[bytes], bar: Bar) -> int:
    deleted = 0
    registrar = client.registrar
    try:
        for start in range(0, len(names), LOT):
            deleted += client.run(delete(names[start : start + LOT], registrar, time.time()))
            bar.show(min(start + LOT, len(names)) / len(names), f"{deleted} keys deleted")
    except BaseException:
        bar.clear()
        output.note(f"Stopped: {deleted} of {len(names)} keys are deleted, and perhaps {LOT} more.")
        raise
    return deleted


def _print(report: ClearReport) -> None:
    if report.dry_run:
        for name in report.names:
            output.print_text(output.clean(name[:200]))
        if report.found > len(report.names):
            output.print_text(f"... and {report.found - len(report.names)} more")
        output.print_text(f"{output.counted(report.found, 'key')} would be deleted")
    else:
        output.print_text(f"{output.counted(report.deleted, 'key')} deleted")
    if report.kept:
        kept = ", ".join(f"{count} of {name}" for name, count in report.kept.items())
        output.note(f"Left alone: {kept}")
