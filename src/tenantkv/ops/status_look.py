"""Looking at the server, at queues and at locks without changing them: a batch each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from tenantkv.commands.own_scripts import READING_EVAL, READING_EVALSHA
from tenantkv.namespace import Namespace
from tenantkv.ops.directory import Entry
from tenantkv.ops.effects import Batch, Call, Command, Operation
from tenantkv.ops.lock_places import LONGEST_LEASE, key_of
from tenantkv.ops.queue_keys import queue_keys
from tenantkv.ops.scripts import script
from tenantkv.ops.status import Latency, Load, LockState, QueueState
from tenantkv.ops.status_info import keys_in, read_info, whole_of

_QUEUE = script("status_queue", repeatable=True)
_HOLDERS = script("status_holders", repeatable=True)
# Calls in one round trip: each takes some microseconds of the server's.
_AT_ONCE = 50


class Look(Call):
    """A call of a script that only reads."""

    __slots__ = ()

    @property
    def by_digest(self) -> tuple[Any, ...]:
        """The command that names the script."""
        return READING_EVALSHA, self.script.sha, len(self.keys), *self.keys, *self.arguments

    @property
    def whole(self) -> tuple[Any, ...]:
        """The command that brings the script along."""
        return READING_EVAL, self.script.body, len(self.keys), *self.keys, *self.arguments


def server(database: int) -> Operation[Load]:
    """Ask the server how it is. One round trip."""
    reply = yield Command(("INFO",))
    return load_of(read_info(reply), database)


def load_of(info: dict[str, str], database: int) -> Load:
    """Return what INFO says."""
    product = "valkey" if "valkey_version" in info else "redis"
    return Load(
        product=product,
        version=info.get(f"{product}_version", ""),
        role=info.get("role", ""),
        run_id=info.get("run_id", ""),
        uptime=whole_of(info, "uptime_in_seconds"),
        memory_bytes=whole_of(info, "used_memory"),
        memory_limit_bytes=whole_of(info, "maxmemory"),
        clients=whole_of(info, "connected_clients"),
        clients_limit=whole_of(info, "maxclients"),
        blocked_clients=whole_of(info, "blocked_clients"),
        evicted=whole_of(info, "evicted_keys"),
        rejected=whole_of(info, "rejected_connections"),
        expired=whole_of(info, "expired_keys"),
        hits=whole_of(info, "keyspace_hits"),
        misses=whole_of(info, "keyspace_misses"),
        commands=whole_of(info, "total_commands_processed"),
        keys=keys_in(info, database),
    )


def merged(loads: Sequence[Load]) -> Load:
    """Return the load of a Cluster: that of its primaries together.

    Args:
        loads: of each, at least one.
    """
    first = loads[0]

    def total(name: str) -> int:
        return sum(int(getattr(load, name)) for load in loads)

    sums: dict[str, Any] = {name: total(name) for name in _SUMS}
    # One node without a limit has none.
    limited = all(load.memory_limit_bytes for load in loads)
    return replace(
        first,
        role=f"{len(loads)} primaries",
        run_id=" ".join(sorted(load.run_id for load in loads)),
        uptime=min(load.uptime for load in loads),
        memory_limit_bytes=total("memory_limit_bytes") if limited else 0,
        **sums,
    )


_SUMS = (
    *("memory_bytes", "clients", "clients_limit", "blocked_clients", "evicted", "rejected", "expired"),
    *("hits", "misses", "commands", "keys"),
)


def latency_of(taken: Sequence[float]) -> Latency:
    """Return the percentiles of some times."""
    ordered = sorted(taken) or [0.0]

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return Latency(len(taken), at(0.5), at(0.95), at(0.99), ordered[-1])


def queues(namespace: Namespace, names: Sequence[str]) -> Operation[tuple[QueueState, ...]]:
    """Look at queues. One round trip for each fifty."""
    calls = [Look(_QUEUE, queue_keys(namespace, name).core[:8]) for name in names]
    replies = yield from _in_lots(calls)
    return tuple(_queue(name, reply) for name, reply in zip(names, replies, strict=True))


def _queue(name: str, reply: Any) -> QueueState:
    if isinstance(reply, Exception):
        raise reply
    if reply is None:
        return QueueState(name, exists=False)
    ready, flight, delayed, dead, groups, paused, oldest, sent, acknowledged, lost, overdue = map(int, reply)
    return QueueState(
        name,
        exists=True,
        ready=ready,
        delayed=delayed,
        in_flight=flight,
        dead=dead,
        waiting=groups,
        overdue=overdue,
        oldest_age=max(0, oldest) / 1000 if ready and oldest >= 0 else None,
        is_paused=bool(paused),
        sent=sent,
        acknowledged=acknowledged,
        lost=lost,
    )


def locks(namespace: Namespace, entries: Sequence[Entry]) -> Operation[tuple[LockState, ...]]:
    """Look at locks, read/write locks and semaphores. One round trip for each eight.

    Args:
        namespace: whose they are.
        entries: which; of other primitives none.
    """
    chosen = [entry for entry in entries if entry.primitive in _READERS]
    commands: list[Any] = []
    for entry in chosen:
        commands += _lock_commands(namespace, entry)
    replies = iter((yield from _in_lots(commands)))
    return tuple(_READERS[entry.primitive](entry, replies) for entry in chosen)


def keys_of(namespace: Namespace, entry: Entry) -> tuple[bytes, ...]:
    """Return the keys under which a lock may stand: hidden and, if it can be, plain."""
    hidden = key_of(namespace, entry.primitive, entry.name)
    if b"{" in entry.name or b"}" in entry.name:
        return (hidden, hidden)
    return hidden, key_of(namespace, entry.primitive, entry.name, hidden=False)


def _lock_commands(namespace: Namespace, entry: Entry) -> list[Any]:
    commands: list[Any] = []
    for key in keys_of(namespace, entry):
        if entry.primitive != "semaphore":
            commands += [("GETRANGE", key, 0, 63), ("PTTL", key), ("GETRANGE", key + b":fence", 0, 31)]
        if entry.primitive == "rwlock":
            commands += [Look(_HOLDERS, [key + b":readers"]), ("EXISTS", key + b":intent")]
        if entry.primitive == "semaphore":
            commands.append(Look(_HOLDERS, [key]))
    return commands


def _exclusive(entry: Entry, replies: Iterator[Any], mode: str) -> LockState:
    value, ttl, fence = next(replies), next(replies), next(replies)
    name = entry.name.decode("utf-8", "surrogateescape")
    number = int(fence) if isinstance(fence, bytes) and fence.isdigit() else None
    if isinstance(value, Exception):
        return LockState(entry.primitive, name, mode="foreign", fence=number)
    left = ttl / 1000 if isinstance(ttl, int) else -1.0
    if not value:
        return LockState(entry.primitive, name, fence=number)
    if not 0 <= left <= LONGEST_LEASE:
        return LockState(entry.primitive, name, mode="foreign", fence=number)
    token: bytes = value.rstrip(b"+")
    return LockState(
        entry.primitive, name, 1, mode, left, number, fingerprint(token), is_waited=value.endswith(b"+")
    )


def fingerprint(token: bytes) -> str:
    """Return eight characters that tell leases apart; a token itself would let its reader end the lease."""
    return hashlib.sha256(b"lease:" + token).hexdigest()[:8]


def _counted(entry: Entry, replies: Iterator[Any], mode: str) -> LockState:
    counts = next(replies)
    name = entry.name.decode("utf-8", "surrogateescape")
    if isinstance(counts, Exception):
        if "WRONGTYPE" not in str(counts):
            raise counts
        return LockState(entry.primitive, name, mode="foreign")
    holders, left_ms = map(int, counts)
    return (
        LockState(entry.primitive, name, holders, mode, left_ms / 1000)
        if holders
        else LockState(entry.primitive, name)
    )


def _lock(entry: Entry, replies: Iterator[Any]) -> LockState:
    return _first([_exclusive(entry, replies, "held") for _ in range(2)])


def _read_write(entry: Entry, replies: Iterator[Any]) -> LockState:
    found = []
    for _ in range(2):
        writing = _exclusive(entry, replies, "write")
        reading = _counted(entry, replies, "read")
        waits = next(replies) == 1
        state = writing if writing.mode != "free" or reading.mode == "free" else reading
        found.append(
            LockState(
                state.primitive,
                state.name,
                state.holders,
                state.mode,
                state.left,
                writing.fence,
                state.holder,
                writing.is_waited or waits,
            )
        )
    return _first(found)


def _semaphore(entry: Entry, replies: Iterator[Any]) -> LockState:
    return _first([_counted(entry, replies, "held") for _ in range(2)])


_READERS = {"lock": _lock, "rwlock": _read_write, "semaphore": _semaphore}


def _first(found: Sequence[LockState]) -> LockState:
    """Of the hidden and the plain form, the one that is in use."""
    return next((state for state in found if state.mode != "free" or state.fence is not None), found[0])


def _in_lots(commands: Sequence[Any]) -> Operation[list[Any]]:
    replies: list[Any] = []
    for start in range(0, len(commands), _AT_ONCE):
        replies += yield Batch(commands[start : start + _AT_ONCE])
    return replies
