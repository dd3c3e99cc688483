"""``tenantkv keys``: one's own keys, with type, size, TTL and idle time."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tenantkv.cli import output
from tenantkv.cli.client import (
    add_target_arguments,
    as_text,
    natural,
    own_name,
    seconds,
    size,
    talking,
)
from tenantkv.cli.progress import Bar
from tenantkv.ops.listing import Listing
from tenantkv.ops.registry import matching
from tenantkv.ops.usage import LOT, Measure, measure

_EPILOG = """\
examples:
  tenantkv keys
  tenantkv keys 'user:*' --sort size --limit 20
  tenantkv keys --immortal                  keys without a TTL, which stay until they are evicted
  tenantkv keys 'tmp:*' --null | xargs -0 tenantkv del

The pattern is a glob of own names. On a server without SCAN names come from the registry, which the
programs that write have to keep as well (TENANTKV_REGISTRY=1). Looking at a key does not count as a use.
"""

_ORDERS: dict[str, Callable[[Measure], Any]] = {
    "name": lambda each: each.name,
    "size": lambda each: -(each.bytes or 0),
    # Soonest first, immortal ones last.
    "ttl": lambda each: float("inf") if each.ttl is None else each.ttl,
    "idle": lambda each: -(each.idle or 0.0),
}


@dataclass(frozen=True, slots=True)
class KeyReport:
    """One key.

    Attributes:
        name: its own name; bytes that are not UTF-8 appear as lone surrogates.
        type: such as ``string``.
        bytes: estimated memory on the server; ``None`` if it does not tell.
        ttl: seconds left; ``None`` for an immortal key.
        idle: seconds since somebody last used it; ``None`` if the server does not tell.
    """

    name: str
    type: str
    bytes: int | None
    ttl: float | None
    idle: float | None


@dataclass(frozen=True, slots=True)
class KeysReport:
    """Keys of a namespace.

    Attributes:
        namespace: the label.
        child: the path of children.
        source: where names came from: ``scan`` or ``registry``.
        pattern: the glob.
        total: how many keys match.
        keys: those that are shown.
    """

    namespace: str
    child: tuple[str, ...]
    source: str
    pattern: str
    total: int
    keys: tuple[KeyReport, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``keys``."""
    parser.description = "List your own keys."
    parser.epilog = _EPILOG
    parser.add_argument("pattern", metavar="PATTERN", nargs="?", default="*", help="a glob; all if left out")
    parser.add_argument("--sort", choices=tuple(_ORDERS), default="name", help="by what; name if left out")
    parser.add_argument("--immortal", action="store_true", help="only keys without a TTL")
    parser.add_argument("--type", metavar="TYPE", help="only keys of that type, such as hash")
    parser.add_argument(
        "--limit", metavar="N", type=natural, default=100, help="show at most N; 0 for all; 100 if left out"
    )
    parser.add_argument(
        "-0", "--null", action="store_true", help="names only, each ended by a zero byte, for xargs -0"
    )
    add_target_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run ``keys``."""
    with talking(arguments) as client:
        report = describe(
            client,
            pattern=own_name(arguments.pattern),
            sort=arguments.sort,
            immortal=arguments.immortal,
            kind=arguments.type,
            limit=0 if arguments.null else arguments.limit,
        )
    if arguments.json:
        output.print_json(report)
    elif arguments.null:
        sys.stdout.buffer.write(b"".join(os.fsencode(key.name) + b"\0" for key in report.keys))
    else:
        _print(report)
    return 0


def describe(
    client: Any,
    *,
    pattern: bytes = b"*",
    sort: str = "name",
    immortal: bool = False,
    kind: str | None = None,
    limit: int = 0,
) -> KeysReport:
    """Return what keys there are. Measures only as many as it has to."""
    with Bar() as bar:
        source, names = list_names(client, bar, pattern)
        is_measured_first = sort != "name" or immortal or kind is not None
        names.sort()
        wanted = names if is_measured_first or not limit else names[:limit]
        found = measure_all(client, wanted, bar)
    if immortal:
        found = [each for each in found if each.ttl is None]
    if kind is not None:
        found = [each for each in found if each.type == kind.lower()]
    found.sort(key=_ORDERS[sort])
    return KeysReport(
        namespace=client.namespace.root.namespace,
        child=client.namespace.path,
        source=source,
        pattern=as_text(pattern),
        total=len(found) if is_measured_first else len(names),
        keys=tuple(
            KeyReport(as_text(each.name), each.type, each.bytes, each.ttl, each.idle)
            for each in (found[:limit] if limit else found)
        ),
    )


def list_names(client: Any, bar: Bar, pattern: bytes = b"*") -> tuple[str, list[bytes]]:
    """Return where names came from, and those that match."""
    listing = Listing(client.registrar)
    names: list[bytes] = []
    while not listing.is_over:
        names += matching(client.run(listing.page(time.time())), pattern)
        bar.show(listing.progress, f"{listing.count} keys listed")
    if listing.source == "registry" and not listing.count:
        output.note(
            "The registry lists no key. This server offers no SCAN: keys are listed only if the programs "
            "that write them keep the registry (registry=True or TENANTKV_REGISTRY=1)."
        )
    return listing.source, names


def measure_all(client: Any, names: Sequence[bytes], bar: Bar) -> list[Measure]:
    """Measure keys, a lot in each round trip."""
    found: list[Measure] = []
    for start in range(0, len(names), LOT):
        found += client.run(measure(names[start : start + LOT]))
        bar.show(start / len(names), f"{start} of {len(names)} keys measured")
    return found


def _print(report: KeysReport) -> None:
    rows = [("NAME", "TYPE", "SIZE", "TTL", "IDLE")]
    rows += [
        (
            key.name[:200],
            key.type,
            size(key.bytes),
            "none" if key.ttl is None else seconds(key.ttl),
            seconds(key.idle),
        )
        for key in report.keys
    ]
    if report.keys:
        output.print_table(rows)
    if report.total > len(report.keys):
        output.note(f"{len(report.keys)} of {output.counted(report.total, 'key')}; --limit 0 shows all")
    elif not report.keys:
        output.note("No key matches.")
