"""``tenantkv key reseal``: seal every value anew that an older key has sealed, so that it can be retired."""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenantkv.cli import output
from tenantkv.cli.client import add_child_argument, context_argument, without_url
from tenantkv.cli.progress import Bar
from tenantkv.config import resolve

if TYPE_CHECKING:
    from tenantkv.keyring import Key
    from tenantkv.namespace import Namespace
    from tenantkv.ops.reseal import Resealing
    from tenantkv.ops.reseal_tally import Problem

FAILURE = 1
LEFT = 3

_EPILOG = """\
examples:
  tenantkv key reseal --dry-run         what is there to do, and may the old key be retired?
  tenantkv key reseal
  tenantkv key reseal --child web       the values of a child; each child by itself
  tenantkv key reseal --context 'jobs:*=jobs' --json

After 'tenantkv key promote', on the server that the environment names. Programs may go on working: a
value is replaced only while it is still the one that was read, and its TTL stays. Interrupted (Ctrl-C), it
goes on where it stopped when it is run again. Streams cannot be changed in place and are counted; the keys
of caches, locks and queues (tkv:...) are renewed by use and skipped. Values that do not open are left
alone.

Exit codes: 0 done and nothing is left, 1 refused or failed, 2 wrong usage, 3 done and something is left,
130 interrupted.
"""


@dataclass(frozen=True, slots=True)
class KeyLeftReport:
    """What still carries a key's id.

    Attributes:
        id: of the keyring's key, or ``unknown`` for all that it does not have.
        state: ``primary``, ``active``, ``retired`` or ``unknown``.
        unopened: values that do not open where they stand.
        streams: fields of entries of streams, which open and cannot be replaced.
        changing: values that others kept changing.
    """

    id: str
    state: str
    unopened: int
    streams: int
    changing: int


@dataclass(frozen=True, slots=True)
class SkippedReport:
    """Keys of a primitive.

    Attributes:
        primitive: ``cache``, ``lock``, ``queue`` ...
        keys: how many.
        immortal: how many of them have no TTL.
        longest_ttl: of the others, in seconds.
    """

    primitive: str
    keys: int
    immortal: int
    longest_ttl: float


@dataclass(frozen=True, slots=True)
class ResealReport:
    """What was done. Counts are of values, if not said otherwise.

    Attributes:
        namespace: the label.
        child: the path of children.
        fingerprint: names the identity whose values they are.
        primary: the key that they are sealed with now.
        dry_run: whether nothing was changed.
        source: where names came from: ``scan`` or ``registry``.
        key_names: how many keys were looked at.
        resealed: sealed anew; in a dry run: would be.
        merged: of these, members of sets that had been added again since the promotion.
        current: sealed with the primary already.
        plain: not sealed.
        plugins: in the form of a plug-in (Celery), by another key than the primary.
        left: by key, what still carries its id.
        unneeded: older keys that no value needs that was looked at.
        skipped: keys of primitives.
        problems: keys with values that were not sealed anew, a thousand at the most.
        unlisted: how many more there are.
    """

    namespace: str
    child: tuple[str, ...]
    fingerprint: str
    primary: str
    dry_run: bool
    source: str
    key_names: int
    resealed: int
    merged: int
    current: int
    plain: int
    plugins: int
    left: tuple[KeyLeftReport, ...]
    unneeded: tuple[str, ...]
    skipped: tuple[SkippedReport, ...]
    problems: tuple[Problem, ...]
    unlisted: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``key reseal``."""
    parser.description = "Seal every value anew that an older key has sealed."
    parser.epilog = _EPILOG
    parser.add_argument("--dry-run", action="store_true", help="look and count, and change nothing")
    add_child_argument(parser)
    parser.add_argument(
        "--context",
        metavar="GLOB=NAME",
        action="append",
        default=[],
        type=context_argument,
        help="as in connect(contexts={GLOB: NAME}); give it again for more",
    )
    parser.add_argument("--hidden-names", action="store_true", help="as in connect(names='hidden')")
    parser.add_argument("--registry", action="store_true", help="as in connect(registry=True)")
    parser.add_argument(
        "--state", metavar="FILE", help="where to note how far it is; beside the keyring if left out"
    )
    parser.add_argument("--restart", action="store_true", help="begin anew after an interruption")


def run(arguments: argparse.Namespace) -> int:
    """Run ``key reseal``."""
    # Here, as the other actions of 'key' need no server.
    from redis.exceptions import RedisError

    from tenantkv.cli.reseal_state import StateFile
    from tenantkv.reseal import resealing

    try:
        client = _connect(arguments)
        state = None if arguments.dry_run else StateFile(client.namespace, arguments.state)
        start = None if state is None or arguments.restart else state.load()
        if start is not None:
            output.note("Going on where the last run stopped.")
        contexts = dict(arguments.context)
        work = resealing(client, contexts=contexts, is_dry=arguments.dry_run, start=start)
        _do(client, work, state)
    except RedisError as error:
        # Its text is free of wire names.
        output.fail(f"the server: {error}")
        return FAILURE
    report = describe(client.namespace, work, dry_run=arguments.dry_run)
    if arguments.json:
        output.print_json(report)
    else:
        output.print_table(_rows(report))
        _advise(report)
    return LEFT if report.left else 0


def _connect(arguments: argparse.Namespace) -> Any:
    from tenantkv.transport.connect import connect

    if resolve(environ=os.environ, namespace=arguments.namespace).url_source == "default":
        raise without_url("so nothing can be resealed")
    client = connect(
        namespace=arguments.namespace,
        names="hidden" if arguments.hidden_names else None,
        registry=True if arguments.registry else None,
    )
    for name in arguments.child:
        client = client.child(name)
    return client


def _do(client: Any, work: Resealing, state: Any) -> None:
    bar = Bar()
    try:
        while client.run(work.step(time.time())):
            bar.show(work.progress, f"{work.tally.keys} keys, {work.tally.resealed} resealed")
            if state is not None:
                state.save(work.checkpoint, now=time.monotonic())
    except BaseException:
        bar.clear()
        if state is not None:
            state.save(work.checkpoint, now=float("inf"))
            if state.path is not None:
                output.note(f"Stopped. Run it again to go on from there ({state.path}).")
        raise
    bar.clear()
    if state is not None:
        state.remove()


def describe(namespace: Namespace, work: Resealing, *, dry_run: bool) -> ResealReport:
    """Return the report of work that is done."""
    tally = work.tally
    keys = namespace.root.keys
    states: dict[str, str] = {key.id: key.state for key in keys}
    left = tuple(
        KeyLeftReport(key_id, states.get(key_id, "unknown"), each.unopened, each.streams, each.changing)
        for key_id, each in sorted(tally.left.items())
        if each
    )
    needed = {each.id for each in left}
    is_done = not (dry_run and tally.resealed)
    return ResealReport(
        namespace=namespace.root.namespace,
        child=namespace.path,
        fingerprint=namespace.fingerprint,
        primary=namespace.root.primary.id,
        dry_run=dry_run,
        source=work.checkpoint.source,
        key_names=tally.keys,
        resealed=tally.resealed,
        merged=tally.merged,
        current=tally.current,
        plain=tally.plain,
        plugins=tally.plugins,
        left=left,
        unneeded=tuple(key.id for key in _older(keys) if key.id not in needed) if is_done else (),
        skipped=tuple(
            SkippedReport(name, each.keys, each.immortal, max(each.longest_ms, 0) / 1000)
            for name, each in sorted(tally.skipped.items())
        ),
        problems=tuple(tally.problems),
        unlisted=tally.unlisted,
    )


def _older(keys: tuple[Key, ...]) -> list[Key]:
    """Return the active keys that were added before the primary; a newer one waits for its promotion."""
    primary = next(at for at, key in enumerate(keys) if key.state == "primary")
    return [key for key in keys[:primary] if key.state == "active"]


def _rows(report: ResealReport) -> list[tuple[str, str]]:
    done = "would be sealed anew" if report.dry_run else "sealed anew"
    rows = [
        ("keys", f"{report.key_names} looked at, listed by {report.source}"),
        ("values", f"{report.resealed} {done}, with {report.primary}"),
        ("", f"{report.current} sealed with it already, {report.plain} not sealed"),
    ]
    if report.merged:
        rows.append(("", f"{report.merged} members of sets had been added again, and are one again"))
    for each in report.left:
        counts = (
            (each.unopened, "do not open where they stand"),
            (each.streams, "in streams, which cannot be changed in place"),
            (each.changing, "kept changing"),
        )
        told = "; ".join(f"{count} {what}" for count, what in counts if count)
        rows.append((f"left {each.id}", f"{each.state}: {told}"))
    for skipped in report.skipped:
        ttl = f"the last expires in {skipped.longest_ttl:.0f} s" if skipped.longest_ttl else ""
        immortal = f"{skipped.immortal} without a TTL" if skipped.immortal else ""
        told = ", ".join(filter(None, (f"{skipped.keys} keys", ttl, immortal)))
        rows.append((f"skipped {skipped.primitive}", told))
    if report.plugins:
        rows.append(("skipped", f"{report.plugins} messages of a plug-in, which use renews"))
    return rows


_ADVICE = {
    "unopened": "Forged, moved or expired; or sealed in a context: then give it with --context GLOB=NAME.",
    "stream": "Let the streams be trimmed (XTRIM), or read the entries and add them to a new stream.",
    "changing": "Run it again.",
}


def _advise(report: ResealReport) -> None:
    """Say what is to be done now, on standard error."""
    for reason, advice in _ADVICE.items():
        names = [each for each in report.problems if each.reason.startswith(reason)]
        for each in names[:10]:
            output.note(f"{each.name[:200]!r} ({each.type}): {each.values} {each.reason}")
        if len(names) > 10:
            output.note(f"... and more; --json lists {len(names)}")
        if names:
            output.note(advice)
    if report.skipped or report.plugins:
        output.note(
            "What was skipped may need an older key until it has expired or was used; retire it no earlier."
        )
    if report.unneeded:
        output.note(
            f"No value that was looked at needs {', '.join(report.unneeded)}. Once every program uses the "
            "new key and each child was resealed (--child): tenantkv key retire ID"
        )
