"""``tenantkv cache``: what caches hold on the server, and clearing them."""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tenantkv.cli import output
from tenantkv.cli.client import add_actions, add_target_arguments, seconds, size, talking
from tenantkv.cli.status_confirm import confirm
from tenantkv.errors import ConfigurationError, RefusedError
from tenantkv.namespace import PRIMITIVES
from tenantkv.ops.cache_names import Names
from tenantkv.ops.effects import Batch, Operation

_EPILOG = """\
examples:
  tenantkv cache stats                      all caches that can be listed
  tenantkv cache stats pages --json
  tenantkv cache clear pages --yes          end all entries, for everybody at once; one small write
  tenantkv cache clear pages --tag news --tag user:7 --yes

Hits and misses are counted by each process: cache.stats, or its Prometheus collector. What is cleared is not
read any more and goes with its TTL, so the number of entries here falls later. Nothing but the caches' own
entries is touched; queues and locks never are.
"""

_HEAD = PRIMITIVES + b"cache:{"
_SAMPLE = 500


@dataclass(frozen=True, slots=True)
class CacheReport:
    """What a cache holds on the server.

    Attributes:
        name: the cache's; its keyed hash where names are hidden and it was not named.
        is_hidden: whether `name` is such a hash.
        entries: keys with entries, cleared ones among them until their TTL ends; ``None`` if keys cannot be
            listed.
        tags: stamps of tags.
        leases: entries that somebody computes now.
        bytes: memory of all, from a sample.
        shortest_ttl, median_ttl, longest_ttl: of the entries, in seconds, from the sample.
        immortal: entries without a TTL, from the sample.
        has_stamp: whether anything can be read: without it every read is a miss.
        stamp_ttl: for how long that is kept, in seconds.
    """

    name: str
    is_hidden: bool
    entries: int | None
    tags: int
    leases: int
    bytes: int
    shortest_ttl: float | None
    median_ttl: float | None
    longest_ttl: float | None
    immortal: int
    has_stamp: bool
    stamp_ttl: float | None


@dataclass(frozen=True, slots=True)
class ClearedReport:
    """What was cleared.

    Attributes:
        name: the cache's.
        tags: only entries with one of these tags; all if empty.
        cleared: whether the server has heard of it.
    """

    name: str
    tags: tuple[str, ...]
    cleared: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``cache``."""
    parser.description = "Show what caches hold on the server, and clear them."
    parser.epilog = _EPILOG
    actions = {"stats": "show entries, memory and TTLs", "clear": "end all entries"}
    for action, subparser in add_actions(parser, actions, _EPILOG):
        if action == "stats":
            subparser.add_argument("names", metavar="CACHE", nargs="*", help="only these")
        else:
            subparser.add_argument("name", metavar="CACHE", help="the cache's name")
            subparser.add_argument(
                "--tag",
                action="append",
                default=[],
                help="only entries with this tag; give it again for more",
            )
            subparser.add_argument("--yes", action="store_true", help="do not ask")
        subparser.add_argument(
            "--hide-names", action="store_true", default=None, help="as in Cache(..., hide_names=True)"
        )
        add_target_arguments(subparser)


def run(arguments: argparse.Namespace) -> int:
    """Run ``cache``."""
    with talking(arguments) as client:
        if arguments.action == "stats":
            return _stats(client, arguments)
        return _clear(client, arguments)


def names_of(client: Any, cache: str, hide: bool | None) -> Names:
    """Return the names of a cache's keys."""
    hidden = client.namespace.protection.names == "hidden" if hide is None else hide
    return Names(cache, hide=client.namespace.hidden_name, hidden=hidden)


def inspect(client: Any, names: list[str], hide: bool | None) -> tuple[list[CacheReport], str]:
    """Return what caches hold, and why keys could not be listed; empty if they could."""
    try:
        keys = [key for key in client.keys(PRIMITIVES + b"cache:*") if key.startswith(_HEAD)]
        problem = ""
    except RefusedError as error:
        if not names:
            raise
        keys, problem = [], str(error)
    asked = {names_of(client, name, hide).base: name for name in names}
    groups: dict[bytes, list[bytes]] = {base: [] for base in asked}
    for key in keys:
        base = key[: key.find(b"}") + 1]
        if not asked or base in groups:
            groups.setdefault(base, []).append(key)
    reports = []
    for base, members in sorted(groups.items()):
        shown = asked.get(base, base[len(_HEAD) : -1].decode("utf-8", "replace"))
        is_hidden = base not in asked and client.namespace.protection.names == "hidden"
        reports.append(client.run(_measure(shown, base, members, is_hidden=is_hidden, is_listed=not problem)))
    return reports, problem


def _measure(
    name: str, base: bytes, keys: list[bytes], *, is_hidden: bool, is_listed: bool
) -> Operation[CacheReport]:
    kinds: dict[str, list[bytes]] = {"entry": [], "tag": [], "lease": [], "other": []}
    for key in keys:
        kinds[kind_of(key[len(base) :])].append(key)
    entries = kinds["entry"]
    chosen = entries if len(entries) <= _SAMPLE else random.sample(entries, _SAMPLE)
    memory: list[int] = []
    ttls: list[int] = []
    for start in range(0, len(chosen), 250):
        lot = chosen[start : start + 250]
        replies = yield Batch([each for key in lot for each in (("MEMORY", "USAGE", key), ("PTTL", key))])
        memory += [each for each in replies[::2] if isinstance(each, int)]
        ttls += [each for each in replies[1::2] if isinstance(each, int) and each != -2]
    (stamp,) = yield Batch([("PTTL", base + b"stamp")])
    timed = sorted(each / 1000 for each in ttls if each >= 0)
    return CacheReport(
        name=name,
        is_hidden=is_hidden,
        entries=len(entries) if is_listed else None,
        tags=len(kinds["tag"]),
        leases=len(kinds["lease"]),
        bytes=round(sum(memory) * len(entries) / len(memory)) if memory else 0,
        shortest_ttl=timed[0] if timed else None,
        median_ttl=timed[len(timed) // 2] if timed else None,
        longest_ttl=timed[-1] if timed else None,
        immortal=round(ttls.count(-1) * len(entries) / len(ttls)) if ttls else 0,
        has_stamp=isinstance(stamp, int) and stamp != -2,
        stamp_ttl=stamp / 1000 if isinstance(stamp, int) and stamp >= 0 else None,
    )


def kind_of(rest: bytes) -> str:
    """Return what a cache's key is, by what stands behind the braces; see `ops/cache_names.py`.

    Example:
        >>> kind_of(b"v1:front"), kind_of(b"htag:x"), kind_of(b"lv1:front"), kind_of(b"news")
        ('entry', 'tag', 'lease', 'other')
    """
    if rest.startswith((b"tag:", b"htag:")):
        return "tag"
    if rest in (b"stamp", b"news"):
        return "other"
    if rest.startswith(b"l"):
        return "lease"
    return "entry" if rest.startswith((b"v", b"h")) else "other"


def _stats(client: Any, arguments: argparse.Namespace) -> int:
    reports, problem = inspect(client, arguments.names, arguments.hide_names)
    if problem:
        output.warn(problem)
    if arguments.json:
        output.print_json(reports)
    elif reports:
        output.print_table(_rows(reports))
    else:
        output.note("There is no cache's key on the server.")
    return 0


def _rows(reports: Iterable[CacheReport]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("CACHE", "ENTRIES", "MEMORY", "TTL", "MEDIAN", "IMMORTAL", "TAGS", "LEASES", "")
    ]
    for each in reports:
        span = f"{seconds(each.shortest_ttl)} to {seconds(each.longest_ttl)}" if each.median_ttl else "-"
        note = "" if each.has_stamp else "nothing can be read: no stamp"
        rows.append(
            (
                each.name + (" (hidden)" if each.is_hidden else ""),
                "?" if each.entries is None else str(each.entries),
                size(each.bytes),
                span,
                seconds(each.median_ttl),
                str(each.immortal),
                str(each.tags),
                str(each.leases),
                note,
            )
        )
    return rows


def _clear(client: Any, arguments: argparse.Namespace) -> int:
    from tenantkv.cache import Cache

    tags = tuple(arguments.tag)
    what = f"entries of cache {arguments.name!r}" + (f" with the tags {', '.join(tags)}" if tags else "")
    cache = Cache(client, arguments.name, hide_names=arguments.hide_names, timeout=None, on_outage="raise")
    confirm(f"end all {what}, for everybody", yes=arguments.yes)
    cleared = cache.invalidate_tag(*tags) if tags else cache.clear()
    report = ClearedReport(arguments.name, tags, bool(cleared))
    if arguments.json:
        output.print_json(report)
    elif cleared:
        output.print_text(output.clean(f"ended all {what}"))
    if not cleared:
        raise ConfigurationError("the server has not heard of it")
    return 0
