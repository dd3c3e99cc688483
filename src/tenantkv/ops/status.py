"""How a tenant's part of a server fares: what was seen, what changed since, and what is beyond its threshold.

Pure. `status_look` has the operations that ask.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal

from tenantkv.errors import ConfigurationError

Severity = Literal["ok", "warn", "fail"]
#: From which value on to warn, and from which on it is serious; ``None``: never.
Levels = tuple[float | None, float | None]

# Looks at a queue that must all have found more than the one before.
_GROWING_LOOKS = 4
_HISTORY = 12


@dataclass(frozen=True, slots=True)
class Latency:
    """How long PINGs took, in seconds."""

    count: int
    median: float
    p95: float
    p99: float
    longest: float


@dataclass(frozen=True, slots=True)
class Load:
    """What the server says of itself; it is everybody's.

    Attributes:
        product: ``redis`` or ``valkey``.
        version: the product's.
        role: ``master`` or ``slave``.
        run_id: differs after a restart, when counters begin anew.
        uptime: seconds.
        memory_bytes, memory_limit_bytes: used, and at the most; 0 is no limit.
        clients, clients_limit, blocked_clients: connections.
        evicted, rejected, expired, hits, misses, commands: counted since its start.
        keys: of all tenants, in this database.
    """

    product: str
    version: str
    role: str
    run_id: str
    uptime: int
    memory_bytes: int
    memory_limit_bytes: int
    clients: int
    clients_limit: int
    blocked_clients: int
    evicted: int
    rejected: int
    expired: int
    hits: int
    misses: int
    commands: int
    keys: int

    @property
    def memory_share(self) -> float | None:
        """Memory used, of what may be used; ``None`` without a limit."""
        return self.memory_bytes / self.memory_limit_bytes if self.memory_limit_bytes else None


@dataclass(frozen=True, slots=True)
class Own:
    """What is this tenant's.

    Attributes:
        keys: how many keys.
        bytes: their memory, from a sample.
        immortal: how many have no TTL, from a sample.
        source: ``scan`` or ``registry``.
        measured: how many keys the sample had.
    """

    keys: int
    bytes: int
    immortal: int
    source: str
    measured: int


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue, looked at without touching it.

    Attributes:
        name: its own name.
        exists: whether there is anything of it.
        ready, delayed, in_flight, dead, waiting: messages; waiting ones stand behind others of their group.
        overdue: of those in flight, how many are past their visibility timeout.
        oldest_age: for how long the oldest ready message has been ready, in seconds; ``None`` if none is.
        is_paused: whether receiving is suspended.
        sent, acknowledged, lost: messages, since its ledger began.
    """

    name: str
    exists: bool
    ready: int = 0
    delayed: int = 0
    in_flight: int = 0
    dead: int = 0
    waiting: int = 0
    overdue: int = 0
    oldest_age: float | None = None
    is_paused: bool = False
    sent: int = 0
    acknowledged: int = 0
    lost: int = 0

    @property
    def depth(self) -> int:
        """Messages that are to be worked on: ready ones, and those behind others of their group."""
        return self.ready + self.waiting


@dataclass(frozen=True, slots=True)
class LockState:
    """A lock, read/write lock or semaphore.

    Attributes:
        primitive: ``lock``, ``rwlock`` or ``semaphore``.
        name: its own name.
        holders: how many hold it.
        mode: ``free``, ``held``, ``read``, ``write``, or ``foreign``: what stands there is no lease.
        left: seconds until the last lease ends, if it is not renewed; ``None`` if nobody holds it.
        fence: the last fencing number; ``None`` if none is known.
        holder: eight characters that differ from lease to lease and tell nothing; empty if free.
        is_waited: whether somebody waits for it.
    """

    primitive: str
    name: str
    holders: int = 0
    mode: str = "free"
    left: float | None = None
    fence: int | None = None
    holder: str = ""
    is_waited: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One look.

    Attributes:
        time: when, in Unix seconds by this machine's clock.
        latency: of the server's answers.
        load: the server.
        own: what is this tenant's; ``None`` if that was not measured.
        own_note: why not.
        queues, locks: by name.
    """

    time: float
    latency: Latency
    load: Load
    own: Own | None = None
    own_note: str = ""
    queues: tuple[QueueState, ...] = ()
    locks: tuple[LockState, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """What changed between two looks.

    Attributes:
        seconds: between them; 0 if there was no look before, or the server was restarted since.
        evicted, rejected, expired: how many.
        hit_rate: of the reads of all tenants in between; ``None`` if there were none.
        commands_per_second: of all tenants.
        depths: by queue, how much deeper it is.
    """

    seconds: float = 0.0
    evicted: int = 0
    rejected: int = 0
    expired: int = 0
    hit_rate: float | None = None
    commands_per_second: float | None = None
    depths: Mapping[str, int] = field(default_factory=dict)


def change(before: Snapshot | None, now: Snapshot) -> Change:
    """Return what changed; nothing if there is nothing to compare with."""
    if before is None or before.load.run_id != now.load.run_id or before.time >= now.time:
        return Change()
    old, new = before.load, now.load
    seconds = now.time - before.time
    hits, misses = new.hits - old.hits, new.misses - old.misses
    known = {queue.name: queue.depth for queue in before.queues}
    return Change(
        seconds=seconds,
        evicted=max(0, new.evicted - old.evicted),
        rejected=max(0, new.rejected - old.rejected),
        expired=max(0, new.expired - old.expired),
        hit_rate=hits / (hits + misses) if hits >= 0 and misses >= 0 and hits + misses else None,
        commands_per_second=max(0, new.commands - old.commands) / seconds,
        depths={queue.name: queue.depth - known[queue.name] for queue in now.queues if queue.name in known},
    )


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which values on to warn, and from which on it is serious.

    Attributes:
        queue_depth: messages that are to be worked on, in one queue.
        queue_age: seconds for which the oldest has been ready.
        queue_dead: dead letters.
        queue_growth: how much deeper a queue has become over at least four looks, none of which found it
            less deep than the one before.
        memory: share of maxmemory.
        evicted, rejected: since the look before.
        clients, blocked: share of the connections that the server takes.
        latency: the median of PINGs, in seconds.
        own_bytes: memory of this tenant's.
    """

    queue_depth: Levels = (1000, 10_000)
    queue_age: Levels = (None, None)
    queue_dead: Levels = (None, None)
    queue_growth: Levels = (100, 1000)
    memory: Levels = (0.90, 0.98)
    evicted: Levels = (1, 10)
    rejected: Levels = (1, None)
    clients: Levels = (0.80, 0.95)
    blocked: Levels = (0.50, 0.80)
    latency: Levels = (0.1, 1.0)
    own_bytes: Levels = (None, None)


def parse_thresholds(words: Iterable[str]) -> Thresholds:
    """Return thresholds with some changed by ``name=warn,fail``; an empty one is never reached.

    Raises:
        ConfigurationError: there is no such threshold, or a value is no number.

    Example:
        >>> parse_thresholds(["queue-depth=50,", "memory=0.5,0.6"]).queue_depth
        (50.0, None)
    """
    known = {each.name for each in fields(Thresholds)}
    changes: dict[str, Levels] = {}
    for word in words:
        shown, _, text = word.partition("=")
        name = shown.strip().replace("-", "_")
        if name not in known:
            listed = ", ".join(sorted(each.replace("_", "-") for each in known))
            raise ConfigurationError(f"there is no threshold {shown[:40]!r}; there are {listed}")
        first, _, second = text.partition(",")
        changes[name] = (_level(first, shown), _level(second, shown))
    return Thresholds(**changes)


def _level(text: str, name: str) -> float | None:
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ConfigurationError(
            f"a threshold is {name}=WARN,FAIL with numbers from 0 on, or nothing for never"
        )
    return value


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something beyond its threshold.

    Attributes:
        check: which threshold.
        severity: ``warn`` or ``fail``.
        subject: the queue; empty for the server.
        value: what was seen.
        threshold: what it has reached.
        text: the same in words.
    """

    check: str
    severity: Severity
    subject: str
    value: float
    threshold: float
    text: str


class Trend:
    """The depths of queues over the latest looks."""

    def __init__(self, depths: Mapping[str, Sequence[int]] | None = None) -> None:
        self.depths: dict[str, list[int]] = {name: list(each) for name, each in (depths or {}).items()}

    def note(self, queues: Iterable[QueueState]) -> None:
        """Add a look; queues that are no longer there are forgotten."""
        self.depths = {
            queue.name: [*self.depths.get(queue.name, []), queue.depth][-_HISTORY:] for queue in queues
        }

    def growth(self, name: str) -> int:
        """Return how much a queue has grown without ever becoming less deep; 0 for too few looks."""
        depths = self.depths.get(name, [])
        start = len(depths) - 1
        while start > 0 and depths[start - 1] <= depths[start]:
            start -= 1
        return depths[-1] - depths[start] if len(depths) - start >= _GROWING_LOOKS else 0


def judge(now: Snapshot, changed: Change, trend: Trend, limits: Thresholds) -> list[Alarm]:
    """Return what is beyond its threshold, the serious first."""
    found = [*_server_alarms(now, changed, limits), *_queue_alarms(now, trend, limits)]
    return sorted(found, key=lambda alarm: alarm.severity != "fail")


def severity_of(alarms: Iterable[Alarm]) -> Severity:
    """Return the most serious severity, ``ok`` of none."""
    seen = {alarm.severity for alarm in alarms}
    return "fail" if "fail" in seen else "warn" if "warn" in seen else "ok"


def _alarm(check: str, value: float, levels: Levels, text: str, subject: str = "") -> Iterator[Alarm]:
    warn, fail = levels
    if fail is not None and value >= fail:
        yield Alarm(check, "fail", subject, value, fail, text)
    elif warn is not None and value >= warn:
        yield Alarm(check, "warn", subject, value, warn, text)


def _server_alarms(now: Snapshot, changed: Change, limits: Thresholds) -> Iterator[Alarm]:
    load, share = now.load, now.load.memory_share
    if share is not None:
        yield from _alarm("memory", share, limits.memory, f"the server uses {share:.1%} of its memory")
    text = f"{changed.evicted} keys were evicted in {changed.seconds:.0f} s, of all tenants"
    yield from _alarm("evicted", changed.evicted, limits.evicted, text)
    text = f"{changed.rejected} connections were refused in {changed.seconds:.0f} s"
    yield from _alarm("rejected", changed.rejected, limits.rejected, text)
    if load.clients_limit:
        for check, count, levels in (
            ("clients", load.clients, limits.clients),
            ("blocked", load.blocked_clients, limits.blocked),
        ):
            part = count / load.clients_limit
            words = "connections are blocked" if check == "blocked" else "connections are in use"
            yield from _alarm(check, part, levels, f"{count} of {load.clients_limit} {words}")
    median = now.latency.median
    yield from _alarm("latency", median, limits.latency, f"the server answers after {median * 1000:.1f} ms")
    if now.own is not None:
        yield from _alarm(
            "own_bytes", now.own.bytes, limits.own_bytes, f"own keys take {now.own.bytes} bytes"
        )


def _queue_alarms(now: Snapshot, trend: Trend, limits: Thresholds) -> Iterator[Alarm]:
    for queue in now.queues:
        name, shown = queue.name, f"queue {queue.name!r}"
        yield from _alarm(
            "queue_depth", queue.depth, limits.queue_depth, f"{shown} holds {queue.depth} messages", name
        )
        if queue.oldest_age is not None:
            text = f"the oldest message of {shown} has been ready for {queue.oldest_age:.0f} s"
            yield from _alarm("queue_age", queue.oldest_age, limits.queue_age, text, name)
        yield from _alarm(
            "queue_dead", queue.dead, limits.queue_dead, f"{shown} has {queue.dead} dead letters", name
        )
        growth = trend.growth(name)
        if growth:
            text = f"{shown} grows: {growth} messages more over the last looks"
            yield from _alarm("queue_growth", growth, limits.queue_growth, text, name)
