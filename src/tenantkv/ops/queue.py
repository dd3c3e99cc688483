"""What is asked of a queue, as operations: each is one script, and whoever waits sleeps on a wake list.

Laws of this file: every request has a number in a lane of its own, so it is safe to repeat; nothing polls
(a wait ends by a token, by what falls due, or by the slice after which the keys are touched again).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tenantkv.ops.effects import Call, Command, Operation
from tenantkv.ops.queue_ids import PLAIN_LENGTH
from tenantkv.ops.queue_keys import QueueKeys
from tenantkv.ops.queue_scripts import queue_script
from tenantkv.ops.scripts import Argument

#: More in one request would hold the server for longer than a millisecond, or overflow Lua's stack.
MOST_AT_ONCE = 500
#: Redrives and looks.
PAGE = 100

Heads = Callable[[], tuple[Argument, ...]]
#: id, envelope, due ("", "+ms", "ms"), dedupe member
Entry = tuple[bytes, bytes, bytes, bytes]
#: id and receipt number
Held = tuple[bytes, int]


@dataclass(frozen=True, slots=True)
class Waiting:
    """How an operation waits.

    Attributes:
        deadline: until when, on `clock`.
        slice: the longest single wait; then the keys are touched again.
        clock: seconds that only grow.
        lost: what a lost connection raises; a wait that one ends is as good as a token.
    """

    deadline: float
    slice: float
    clock: Callable[[], float]
    lost: tuple[type[Exception], ...]

    @property
    def left(self) -> float:
        """Seconds."""
        return self.deadline - self.clock()


@dataclass(slots=True)
class Report:
    """What every reply begins with.

    Attributes:
        incarnation: differs when the queue was lost, or its ledger.
        now_ms: the server's time.
        unfinished: messages that are neither acknowledged nor dead.
        losses: by structure, how many entries are fewer (or, below zero, more) than the ledger says.
        rest: what the script answered.
    """

    incarnation: bytes
    now_ms: int
    unfinished: int
    losses: dict[str, int]
    rest: list[Any] = field(repr=False)


def read_report(reply: Any) -> Report:
    """Return a script's reply in parts."""
    incarnation, now_ms, unfinished, losses, *rest = reply
    found: dict[str, int] = {}
    if losses:
        for pair in losses.decode().split(","):
            name, _, count = pair.partition("=")
            found[name] = int(float(count))
    return Report(incarnation, int(now_ms), int(unfinished), found, rest)


def ask(
    name: str, keys: Sequence[bytes], head: tuple[Argument, ...], *arguments: Argument
) -> Operation[Report]:
    """Run one of the queue's scripts. One round trip."""
    reply = yield Call(queue_script(name), keys, (*head, *arguments))
    return read_report(reply)


def wait_for(key: bytes, seconds: float, waiting: Waiting) -> Operation[None]:
    """Sleep until somebody leaves a token, at the most so long."""
    try:
        yield Command((b"BLPOP", key, b"%.3f" % max(seconds, 0.001)))
    except waiting.lost:
        # The next request finds out whether the server is back, and repeats itself until then.
        pass


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many messages a queue may hold, and what happens to more.

    Attributes:
        most: unfinished messages, or 0.
        overflow: ``raise``, ``wait`` or ``drop_oldest``.
        dedupe_ms: for how long ids are remembered.
    """

    most: int
    overflow: str
    dedupe_ms: int


def send(
    keys: QueueKeys, heads: Heads, entries: Sequence[Entry], bounds: Bounds, waiting: Waiting | None
) -> Operation[tuple[Report, dict[int, bytes] | None]]:
    """Send at most `MOST_AT_ONCE` messages, all or none.

    Returns:
        The report, and which entries were duplicates of which ids; ``None`` if the queue was full.
    """
    is_plain, has_dedupe = _kinds(entries)
    words: list[Argument] = [word for entry in entries for word in (entry[:2] if is_plain else entry)]
    form = b"plain" if is_plain else b"full"
    listed = (*keys.core, *keys.dedupe) if has_dedupe else keys.core
    while True:
        left = 0.0 if waiting is None else min(waiting.left, waiting.slice)
        arguments = (bounds.most, bounds.overflow, max(0, int(left * 1000)), bounds.dedupe_ms, form, *words)
        report = yield from ask("send", listed, heads(), *arguments)
        outcome: bytes = report.rest[0]
        if outcome != b"full":
            return report, _pairs(outcome)
        if waiting is None or left <= 0:
            return report, None
        yield from wait_for(keys.space, left, waiting)


def _kinds(entries: Sequence[Entry]) -> tuple[bool, bool]:
    """Whether all entries go the short way, and whether any has a dedupe member."""
    # Lists, as generators take three times as long.
    has_dedupe = any([entry[3] for entry in entries])
    is_plain = not (has_dedupe or any([entry[2] or len(entry[0]) > PLAIN_LENGTH for entry in entries]))
    return is_plain, has_dedupe


def _pairs(outcome: bytes) -> dict[int, bytes]:
    if not outcome:
        return {}
    pairs = (pair.partition(b"=") for pair in outcome.split(b","))
    return {int(float(at)): same for at, _, same in pairs}


@dataclass(slots=True)
class Received:
    """What a receive brought.

    Attributes:
        report: what every reply begins with.
        stale: places of the acknowledgements that came too late.
        receipt: the receipt number of all messages.
        messages: id, envelope, and what is known of earlier deliveries, flat.
    """

    report: Report
    stale: list[int]
    receipt: int
    messages: list[bytes]


def receive(
    keys: QueueKeys,
    heads: Heads,
    done: Sequence[Held],
    count: int,
    visibility_ms: int,
    waiting: Waiting | None,
) -> Operation[Received]:
    """Acknowledge `done`, and receive at most `count` messages, in one round trip if there are any.

    Args:
        keys: the queue's.
        heads: gives the head of each request.
        done: at most `MOST_AT_ONCE`, none twice.
        count: at most `MOST_AT_ONCE`; 0 to acknowledge only.
        visibility_ms: how long the messages stay with their receiver.
        waiting: how to wait if there are none.
    """
    receipts = [word for held in done for word in held]
    stale: list[int] | None = None
    while True:
        left = 0.0 if waiting is None else min(waiting.left, waiting.slice)
        wait_ms = max(0, int(left * 1000)) + 1000 if left > 0 else 0
        report = yield from ask(
            "receive", keys.core, heads(), count, visibility_ms, wait_ms, *(receipts if stale is None else ())
        )
        late, next_ms, receipt, *messages = report.rest
        if stale is None:
            stale = places(late)
        if messages or count == 0 or waiting is None or left <= 0:
            return Received(report, stale, int(receipt), messages)
        if next_ms != 0:
            left = min(left, waiting.left, next_ms / 1000 if next_ms > 0 else left)
            yield from wait_for(keys.wake, left, waiting)


def places(text: bytes) -> list[int]:
    """Return the places that a reply lists."""
    return [int(float(at)) for at in text.split(b",")] if text else []


def settle(
    keys: QueueKeys, heads: Heads, entries: Sequence[tuple[bytes, int, str, Argument]]
) -> Operation[tuple[Report, list[int]]]:
    """End or prolong deliveries: id, receipt number, verb, argument; see ``lua/queue_settle.lua``.

    Returns:
        The report, and the places of those that are over already.
    """
    report = yield from ask("settle", keys.core, heads(), *(word for entry in entries for word in entry))
    return report, places(report.rest[0])


def reply(
    keys: QueueKeys, heads: Heads, held: Held, envelope: bytes, keep_ms: int
) -> Operation[tuple[Report, bool]]:
    """Acknowledge a message and leave its result; says whether the delivery was still under way."""
    listed = (*keys.core, *keys.results, keys.asked(held[0]))
    report = yield from ask("reply", listed, heads(), *held, envelope, keep_ms)
    return report, not report.rest[0]


def result(
    keys: QueueKeys, head: tuple[Argument, ...], message_id: bytes, waiting: Waiting
) -> Operation[tuple[Report, str, bytes]]:
    """Wait for a result: the report, ``done`` ``dead`` ``gone`` or ``pending``, and what goes with it."""
    listed = (*keys.core, *keys.results)
    while True:
        left = min(waiting.left, waiting.slice)
        wait_ms = max(0, int(left * 1000) + 1000) if left > 0 else 0
        report = yield from ask("result", listed, head, message_id, wait_ms)
        state, what = report.rest[0].decode(), bytes(report.rest[1])
        if state != "pending" or left <= 0:
            return report, state, what
        yield from wait_for(keys.asked(message_id), left, waiting)


def redrive(
    keys: QueueKeys, heads: Heads, verb: str, most: int | None, ids: Sequence[bytes] = ()
) -> Operation[tuple[Report | None, int]]:
    """Redrive or drop dead letters, `PAGE` a round trip; says how many."""
    moved, report = 0, None
    chosen = list(ids)
    while most is None or moved < most:
        size = PAGE if most is None else min(PAGE, most - moved)
        page, chosen = chosen[:PAGE], chosen[PAGE:]
        if ids and not page:
            break
        report = yield from ask("redrive", keys.core, heads(), verb, size, *page)
        count = int(float(report.rest[0]))
        moved += count
        if not ids and count < size:
            break
    return report, moved


def touch(keys: QueueKeys) -> Operation[int]:
    """Have the server take the queue's keys for recently used; says how many there are."""
    count: int | None = yield Command((b"TOUCH", *keys.idle), absent_ok=True)
    if count is None:
        # Where nothing is evicted there may be nothing to touch with.
        count = yield Command((b"EXISTS", *keys.idle))
    return int(count or 0)
