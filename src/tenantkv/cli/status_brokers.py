"""What Celery and Channels keep in a namespace, as ``status``, ``top`` and ``exporter`` show it.

Neither has to be installed: what is needed here of the plug-ins imports no framework.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from tenantkv.ops import status_brokers
from tenantkv.ops.status import BrokerQueue, BrokerState
from tenantkv.protection import Protection

#: Seconds without a sign of life after which a claim has lapsed: workers renew every 15, or more often.
LAPSED = 60.0
#: The channels that single processes receive from, which share a list a process.
PROCESSES = "*!"
#: A channel whose messages do not open, and so tell no name.
UNKNOWN = "?"


def look(client: Any, database: int) -> tuple[BrokerState, ...]:
    """Return what there is of Celery and of Channels; nothing of either if it was not used here.

    Two round trips, and one for each fifty queues.

    Args:
        client: the tenant's, for one server.
        database: its number.
    """
    # Messages have envelopes of their own, whatever becomes of the tenant's other values and names.
    plain = client.for_namespace(client.namespace.protected(Protection(plaintext="off")))
    return tuple([*_celery(plain, database), *_channels(plain, database)])


def _celery(client: Any, database: int) -> Iterator[BrokerState]:
    from tenantkv.contrib.celery import claims
    from tenantkv.contrib.celery.messages import MessageSealer

    due = client.run(status_brokers.ledger(claims.LEDGER))
    now = time.time()
    unacked, lapsed = client.run(status_brokers.claims(claims.UNACKED, claims.INDEX, now - LAPSED))
    if not due and not unacked:
        return
    # Somebody may have planted names that are no text.
    lists = [[each.encode("utf-8", "surrogateescape") for each in claims.lists_of(name)] for name in due]
    found = client.run(status_brokers.waiting(lists, status_brokers.LAST))
    sealer = MessageSealer(client.namespace, database)

    def age(names: Sequence[bytes], blobs: Sequence[bytes]) -> float | None:
        pairs = zip(names, blobs, strict=True)
        sent = [sealer.sealed_at(blob, "list", name) for name, blob in pairs if blob]
        return _age([each for each in sent if each is not None], now)

    queues = [
        BrokerQueue(name, each.depth, age(names, each.oldest), max(0, due[name] - each.depth))
        for name, names, each in zip(due, lists, found, strict=True)
    ]
    yield BrokerState("celery", tuple(sorted(queues, key=lambda queue: queue.name)), unacked, lapsed)


def _channels(client: Any, database: int) -> Iterator[BrokerState]:
    from tenantkv.contrib.channels_messages import INDEX, LISTS, Vault

    now = time.time()
    names = client.run(status_brokers.index(INDEX, LISTS, now))
    if not names:
        return
    found = client.run(status_brokers.waiting([[name] for name in names], status_brokers.FIRST))
    vault = Vault(client.namespace, database, 0)
    depths: dict[str, int] = {}
    ages: dict[str, list[float]] = {}
    for name, each in zip(names, found, strict=True):
        if not each.depth:
            continue
        channel, sent = vault.peek(name, each.oldest[0]) or (UNKNOWN, None)
        shown = PROCESSES if "!" in channel else channel
        depths[shown] = depths.get(shown, 0) + each.depth
        ages.setdefault(shown, []).extend([] if sent is None else [sent])
    queues = [BrokerQueue(name, depths[name], _age(ages[name], now)) for name in sorted(depths)]
    yield BrokerState("channels", tuple(queues))


def _age(sent: Sequence[float], now: float) -> float | None:
    return round(max(0.0, now - min(sent)), 1) if sent else None
