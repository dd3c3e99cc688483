"""The state of things as Prometheus reads it: text, one metric after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tenantkv.ops.status import BrokerState, LockState, QueueState, Snapshot

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[Mapping[str, str], float]


def render(seen: Snapshot | None, *, seconds: float | None = None) -> str:
    """Return the metrics of a look.

    Args:
        seen: the look; ``None`` if the server cannot be reached.
        seconds: how long it took, for exporters.
    """
    families: list[tuple[str, str, str, Sequence[Sample]]] = [
        ("up", "gauge", "Whether the server answers.", [({}, float(seen is not None))])
    ]
    if seconds is not None:
        families.append(("scrape_seconds", "gauge", "How long looking took.", [({}, seconds)]))
    lines: list[str] = []
    for name, kind, told, samples in families:
        lines += _family(name, kind, told, samples)
    for name, kind, told, samples in _families(seen) if seen is not None else ():
        lines += _family(name, kind, told, samples)
    return "\n".join(lines) + "\n"


def _families(seen: Snapshot) -> Iterator[tuple[str, str, str, Sequence[Sample]]]:
    load, latency = seen.load, seen.latency
    yield (
        "server_info",
        "gauge",
        "The server's product, version and role.",
        [({"product": load.product, "version": load.version, "role": load.role}, 1.0)],
    )
    quantiles = {"0.5": latency.median, "0.95": latency.p95, "0.99": latency.p99, "1": latency.longest}
    yield (
        "ping_seconds",
        "gauge",
        "How long PINGs took, by quantile.",
        [({"quantile": name}, value) for name, value in quantiles.items()],
    )
    for name, kind, told, value in (
        ("server_uptime_seconds", "gauge", "Since the server was started.", load.uptime),
        ("server_memory_bytes", "gauge", "Memory that all tenants use.", load.memory_bytes),
        ("server_memory_limit_bytes", "gauge", "maxmemory; 0 is no limit.", load.memory_limit_bytes),
        ("server_clients", "gauge", "Connections of all tenants.", load.clients),
        ("server_clients_limit", "gauge", "maxclients; 0 if it is not told.", load.clients_limit),
        ("server_blocked_clients", "gauge", "Connections that wait for something.", load.blocked_clients),
        ("server_keys", "gauge", "Keys of all tenants in this database.", load.keys),
        ("server_evicted_keys_total", "counter", "Keys evicted, of all tenants.", load.evicted),
        ("server_expired_keys_total", "counter", "Keys expired, of all tenants.", load.expired),
        ("server_rejected_connections_total", "counter", "Connections refused.", load.rejected),
        ("server_keyspace_hits_total", "counter", "Reads that found a key, of all tenants.", load.hits),
        ("server_keyspace_misses_total", "counter", "Reads that found none, of all tenants.", load.misses),
        ("server_commands_total", "counter", "Commands of all tenants.", load.commands),
    ):
        yield name, kind, told, [({}, float(value))]
    if seen.own is not None:
        yield "own_keys", "gauge", "Keys of this tenant.", [({}, float(seen.own.keys))]
        yield "own_bytes", "gauge", "Their memory, from a sample.", [({}, float(seen.own.bytes))]
        yield (
            "own_immortal_keys",
            "gauge",
            "Those without a TTL, from a sample.",
            [({}, float(seen.own.immortal))],
        )
    yield from _queue_families([queue for queue in seen.queues if queue.exists])
    yield from _broker_families(seen.brokers)
    yield from _lock_families(seen.locks)


def _queue_families(queues: Sequence[QueueState]) -> Iterator[tuple[str, str, str, Sequence[Sample]]]:
    states = ("ready", "delayed", "in_flight", "dead", "waiting", "overdue")
    yield (
        "queue_messages",
        "gauge",
        "Messages by where they are; overdue ones are in flight too.",
        [({"queue": each.name, "state": at}, float(getattr(each, at))) for each in queues for at in states],
    )
    ages = [({"queue": each.name}, each.oldest_age or 0.0) for each in queues]
    yield "queue_oldest_age_seconds", "gauge", "For how long the oldest ready message has been ready.", ages
    paused = [({"queue": each.name}, float(each.is_paused)) for each in queues]
    yield "queue_paused", "gauge", "Whether receiving is suspended.", paused
    for name, told in (
        ("sent", "Messages sent."),
        ("acknowledged", "Messages acknowledged."),
        ("lost", "Messages that the server lost."),
    ):
        counts = [({"queue": each.name}, float(getattr(each, name))) for each in queues]
        yield f"queue_{name}_total", "counter", told, counts


def _broker_families(brokers: Sequence[BrokerState]) -> Iterator[tuple[str, str, str, Sequence[Sample]]]:
    found = [
        ({"broker": broker.kind, "queue": queue.name}, queue) for broker in brokers for queue in broker.queues
    ]
    depths = [(labels, float(queue.depth)) for labels, queue in found]
    yield "broker_messages", "gauge", "Messages that wait in a queue of Celery's or Channels'.", depths
    ages = [(labels, queue.oldest_age or 0.0) for labels, queue in found]
    yield "broker_oldest_age_seconds", "gauge", "Since the oldest of these was sent.", ages
    lost = [(labels, float(queue.lost)) for labels, queue in found]
    yield "broker_lost", "gauge", "Messages that should wait in a queue and do not.", lost
    for name, told in (
        ("unacked", "Messages that Celery's workers hold."),
        ("lapsed", "Those of workers without a sign of life for a minute."),
    ):
        counts = [({"broker": each.kind}, float(getattr(each, name))) for each in brokers]
        yield f"broker_{name}", "gauge", told, counts


def _lock_families(locks: Sequence[LockState]) -> Iterator[tuple[str, str, str, Sequence[Sample]]]:
    def labels(lock: LockState) -> dict[str, str]:
        return {"primitive": lock.primitive, "name": lock.name}

    holders = [(labels(lock), float(lock.holders)) for lock in locks]
    yield "lock_holders", "gauge", "How many hold a lock, read/write lock or semaphore.", holders
    waited = [(labels(lock), float(lock.is_waited)) for lock in locks]
    yield "lock_waited", "gauge", "Whether somebody waits for it.", waited
    left = [(labels(lock), lock.left or 0.0) for lock in locks]
    yield "lock_left_seconds", "gauge", "Until the last lease ends, if it is not renewed.", left


def _family(name: str, kind: str, told: str, samples: Iterable[Sample]) -> Iterator[str]:
    found = list(samples)
    if not found:
        return
    whole = f"tenantkv_{name}"
    yield f"# HELP {whole} {told}"
    yield f"# TYPE {whole} {kind}"
    for labels, value in found:
        inside = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
        shown = f"{value:.6f}".rstrip("0").rstrip(".")
        yield f"{whole}{{{inside}}} {shown}" if inside else f"{whole} {shown}"


def _escape(text: str) -> str:
    """Write a label's value: names are a tenant's, with any character in them."""
    # What is no UTF-8 has been read as lone surrogates, which have no bytes.
    whole = text.encode("utf-8", "backslashreplace").decode()
    return whole.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
