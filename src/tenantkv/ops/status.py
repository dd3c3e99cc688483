"""How a tenant's part of a server fares: what was seen, what changed since, and what is too much.

Pure. `status_look` has the operations that ask, `status_alarms` says what is beyond its threshold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
class BrokerQueue:
    """A queue of Celery's, or a channel of Channels'.

    Attributes:
        name: its own name; ``*!`` are the channels of single processes together, and ``?`` those whose
            messages tell no name.
        depth: messages that wait there.
        oldest_age: seconds since the oldest was sent; ``None`` without one, or if it is not genuine or large.
        lost: how many more should wait there, as far as anybody counts.
    """

    name: str
    depth: int
    oldest_age: float | None = None
    lost: int = 0


@dataclass(frozen=True, slots=True)
class BrokerState:
    """What a framework keeps in the namespace.

    Attributes:
        kind: ``celery`` or ``channels``.
        queues: by name; of Channels those that hold something.
        unacked: messages that workers hold, running and waiting for their ETA.
        lapsed: of these, how many whose worker has given no sign of life for a minute.
    """

    kind: str
    queues: tuple[BrokerQueue, ...]
    unacked: int = 0
    lapsed: int = 0

    def key(self, queue: BrokerQueue) -> str:
        """Return what a queue is called among all queues."""
        return f"{self.kind}:{queue.name}"


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
        brokers: what Celery and Channels keep here, if they do.
    """

    time: float
    latency: Latency
    load: Load
    own: Own | None = None
    own_note: str = ""
    queues: tuple[QueueState, ...] = ()
    locks: tuple[LockState, ...] = ()
    brokers: tuple[BrokerState, ...] = ()

    @property
    def depths(self) -> dict[str, int]:
        """How deep each queue is; Celery's ``reports`` is called ``celery:reports``."""
        found = {queue.name: queue.depth for queue in self.queues}
        found.update((each.key(queue), queue.depth) for each in self.brokers for queue in each.queues)
        return found


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
    known = before.depths
    return Change(
        seconds=seconds,
        evicted=max(0, new.evicted - old.evicted),
        rejected=max(0, new.rejected - old.rejected),
        expired=max(0, new.expired - old.expired),
        hit_rate=hits / (hits + misses) if hits >= 0 and misses >= 0 and hits + misses else None,
        commands_per_second=max(0, new.commands - old.commands) / seconds,
        depths={name: depth - known[name] for name, depth in now.depths.items() if name in known},
    )


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which values on to warn, and from which on it is serious.

    Attributes:
        queue_depth: messages that are to be worked on, in one queue.
        queue_age: seconds for which the oldest has been ready.
        queue_dead: dead letters.
        unacked: messages that Celery's workers hold.
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
    unacked: Levels = (1000, 10_000)
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


class Trend:
    """The depths of queues over the latest looks."""

    def __init__(self, depths: Mapping[str, Sequence[int]] | None = None) -> None:
        self.depths: dict[str, list[int]] = {name: list(each) for name, each in (depths or {}).items()}

    def note(self, depths: Mapping[str, int]) -> None:
        """Add a look; queues that are no longer there are forgotten."""
        self.depths = {name: [*self.depths.get(name, []), now][-_HISTORY:] for name, now in depths.items()}

    def growth(self, name: str) -> int:
        """Return how much a queue has grown without ever becoming less deep; 0 for too few looks."""
        depths = self.depths.get(name, [])
        start = len(depths) - 1
        while start > 0 and depths[start - 1] <= depths[start]:
            start -= 1
        return depths[-1] - depths[start] if len(depths) - start >= _GROWING_LOOKS else 0
