"""What is beyond its threshold. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tenantkv.ops.status import Change, Levels, Severity, Snapshot, Thresholds, Trend


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


def judge(now: Snapshot, changed: Change, trend: Trend, limits: Thresholds) -> list[Alarm]:
    """Return what is beyond its threshold, the serious first."""
    found = [
        *_server_alarms(now, changed, limits),
        *_queue_alarms(now, trend, limits),
        *_broker_alarms(now, trend, limits),
    ]
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
        yield from _growth(trend, name, shown, limits)


def _broker_alarms(now: Snapshot, trend: Trend, limits: Thresholds) -> Iterator[Alarm]:
    for broker in now.brokers:
        for queue in broker.queues:
            name, shown = broker.key(queue), f"{broker.kind} queue {queue.name!r}"
            yield from _alarm(
                "queue_depth", queue.depth, limits.queue_depth, f"{shown} holds {queue.depth} messages", name
            )
            if queue.oldest_age is not None:
                text = f"the oldest message of {shown} was sent {queue.oldest_age:.0f} s ago"
                yield from _alarm("queue_age", queue.oldest_age, limits.queue_age, text, name)
            yield from _growth(trend, name, shown, limits)
        text = f"{broker.kind} workers hold {broker.unacked} messages"
        yield from _alarm("unacked", broker.unacked, limits.unacked, text, broker.kind)


def _growth(trend: Trend, name: str, shown: str, limits: Thresholds) -> Iterator[Alarm]:
    growth = trend.growth(name)
    if growth:
        text = f"{shown} grows: {growth} messages more over the last looks"
        yield from _alarm("queue_growth", growth, limits.queue_growth, text, name)
