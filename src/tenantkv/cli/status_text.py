"""The state of things for people: rows of text, which ``status`` prints and ``top`` redraws."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tenantkv.cli.client import seconds, size
from tenantkv.ops.status import BrokerState, Change, LockState, QueueState, Snapshot
from tenantkv.ops.status_alarms import Alarm

Rows = list[tuple[str, ...]]


def server_rows(seen: Snapshot, changed: Change) -> Rows:
    """Return the server in a few lines."""
    load, latency = seen.load, seen.latency
    share = f" of {size(load.memory_limit_bytes)} ({load.memory_share:.1%})" if load.memory_share else ""
    limit = f" of {load.clients_limit}" if load.clients_limit else ""
    rows: Rows = [
        ("server", f"{load.product} {load.version}, {load.role}, up {seconds(load.uptime)}"),
        (
            "latency",
            f"median {_ms(latency.median)}, 95 % {_ms(latency.p95)}, 99 % {_ms(latency.p99)}, "
            f"longest {_ms(latency.longest)} ({latency.count} PINGs)",
        ),
        ("memory", f"{size(load.memory_bytes)}{share}"),
        ("clients", f"{load.clients}{limit}, {load.blocked_clients} blocked"),
        ("evicted", _counted(load.evicted, changed.evicted, changed.seconds)),
        ("rejected", _counted(load.rejected, changed.rejected, changed.seconds)),
    ]
    rate = "no reads" if changed.hit_rate is None else f"{changed.hit_rate:.1%}"
    if not changed.seconds:
        total = load.hits + load.misses
        rate = f"{load.hits / total:.1%} since its start" if total else "no reads"
    rows.append(("hit rate", f"{rate}, of all tenants"))
    if changed.commands_per_second is not None:
        rows.append(("commands", f"{changed.commands_per_second:.0f}/s, of all tenants"))
    return [*rows, own_row(seen)]


def own_row(seen: Snapshot) -> tuple[str, str]:
    """Return what is this tenant's."""
    own = seen.own
    if own is None:
        return "own keys", f"not counted: {seen.own_note}"
    share = own.bytes / seen.load.memory_bytes if seen.load.memory_bytes else 0.0
    text = f"{own.keys}, about {size(own.bytes)} ({share:.1%} of the memory in use)"
    return "own keys", text + (f", {own.immortal} without a TTL" if own.immortal else "")


def queue_rows(queues: Sequence[QueueState], depths: dict[str, int] | None = None) -> Rows:
    """Return queues as a table with a head."""
    if not queues:
        return []
    rows: Rows = [
        (
            "QUEUE",
            "READY",
            "CHANGE",
            "DELAYED",
            "IN FLIGHT",
            "OVERDUE",
            "DEAD",
            "BEHIND",
            "OLDEST",
            "LOST",
            "",
        )
    ]
    for queue in queues:
        grown = (depths or {}).get(queue.name, 0)
        state = "" if queue.exists else "nothing there"
        rows.append(
            (
                queue.name,
                str(queue.ready),
                f"{grown:+d}" if grown else "",
                str(queue.delayed),
                str(queue.in_flight),
                str(queue.overdue),
                str(queue.dead),
                str(queue.waiting),
                seconds(queue.oldest_age),
                str(queue.lost),
                "paused" if queue.is_paused else state,
            )
        )
    return rows


def broker_rows(brokers: Sequence[BrokerState], depths: Mapping[str, int]) -> Rows:
    """Return the queues of Celery and Channels as a table with a head, and what workers hold."""
    if not brokers:
        return []
    rows: Rows = [("BROKER", "QUEUE", "WAITING", "CHANGE", "UNACKED", "LAPSED", "OLDEST", "LOST")]
    for broker in brokers:
        for queue in broker.queues:
            grown = depths.get(broker.key(queue), 0)
            change = f"{grown:+d}" if grown else ""
            age = seconds(queue.oldest_age)
            lost = str(queue.lost) if broker.kind == "celery" else ""
            rows.append((broker.kind, queue.name, str(queue.depth), change, "", "", age, lost))
        if broker.kind == "celery":
            rows.append(("celery", "", "", "", str(broker.unacked), str(broker.lapsed), "", ""))
    return rows if len(rows) > 1 else []


def lock_rows(locks: Sequence[LockState], *, shows_free: bool = True) -> Rows:
    """Return locks as a table with a head."""
    shown = [lock for lock in locks if shows_free or lock.mode != "free"]
    if not shown:
        return []
    rows: Rows = [("LOCK", "KIND", "STATE", "HOLDERS", "LEFT", "HOLDER", "FENCE", "")]
    for lock in shown:
        rows.append(
            (
                lock.name,
                lock.primitive,
                lock.mode,
                str(lock.holders),
                seconds(lock.left),
                lock.holder,
                "" if lock.fence is None else str(lock.fence),
                "waited for" if lock.is_waited else "",
            )
        )
    return rows


def alarm_lines(alarms: Iterable[Alarm]) -> list[tuple[str, str]]:
    """Return severities and texts."""
    return [(alarm.severity, f"{alarm.text} (threshold {alarm.threshold:g})") for alarm in alarms]


def _ms(value: float) -> str:
    return f"{value * 1000:.2f} ms"


def _counted(total: int, changed: int, over: float) -> str:
    recent = f", {changed:+d} in {over:.0f} s" if over else ""
    return f"{total} since its start{recent}"
