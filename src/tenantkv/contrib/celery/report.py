"""What `tenantkv celery` shows and does; functions that return report objects.

The queues of a broker are those of its ledger: every queue that ever got a message and was not deleted.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis

from tenantkv.contrib.celery import claims, register, stock
from tenantkv.contrib.celery.client import as_bytes
from tenantkv.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class QueueReport:
    """One queue.

    Attributes:
        name: its own name.
        waiting: how many messages it holds.
        lost: how many it should hold and does not.
        oldest: seconds since the oldest was sent; ``None`` without messages, or if that is not genuine.
    """

    name: str
    waiting: int
    lost: int
    oldest: float | None


@dataclass(frozen=True, slots=True)
class StatusReport:
    """A broker.

    Attributes:
        queues: its queues.
        unacked: how many messages workers hold.
        lapsed: how many of these have not been renewed for the visibility timeout.
        workers: the names of the workers that answered.
    """

    queues: list[QueueReport]
    unacked: int
    lapsed: int
    workers: list[str]


@contextmanager
def channel_of(url: str, **options: Any) -> Iterator[Any]:
    """Lend a channel of a broker.

    Args:
        url: as ``broker_url``.
        options: transport options.
    """
    # For a kombu that was loaded without entry points.
    assert register.TRANSPORT
    with stock.Connection(url, transport_options=options) as connection:
        yield connection.default_channel


def queues(channel: Any, names: Iterable[str] = ()) -> list[QueueReport]:
    """Return a report for each queue; for those of the ledger if none is named. Three round trips a queue."""
    with channel.conn_or_acquire() as client:
        ledger = {name.decode(): count for name, count in client.hgetall(claims.LEDGER).items()}
        return [_queue(channel, client, name, ledger) for name in (names or sorted(ledger))]


def _queue(channel: Any, client: Any, name: str, ledger: dict[str, bytes]) -> QueueReport:
    lists = channel.lists_of(name)
    with client.pipeline(transaction=False) as pipe:
        for each in lists:
            pipe.llen(each)
        for each in lists:
            pipe.lindex(each, -1)
        replies = pipe.execute()
    waiting = sum(replies[: len(lists)])
    sealed = [
        opened[1]
        for each, blob in zip(lists, replies[len(lists) :], strict=True)
        if blob and (opened := channel.sealer.open(blob, "list", each.encode())) is not None
    ]
    due = int(ledger.get(name, waiting))
    oldest = round(time.time() - min(sealed), 1) if sealed else None
    return QueueReport(name, waiting, max(0, due - waiting), oldest)


def status(channel: Any, *, patience: float = 1.0) -> StatusReport:
    """Return a report of a broker.

    Args:
        channel: of the broker.
        patience: seconds to wait for the workers' answers.
    """
    with channel.conn_or_acquire() as client:
        unacked = client.hlen(channel.names.unacked)
        lapsed = client.zcount(channel.names.index, "-inf", time.time() - channel.options.visibility_timeout)
    return StatusReport(queues(channel), unacked, lapsed, workers(channel, patience=patience))


def workers(channel: Any, *, patience: float = 1.0) -> list[str]:
    """Return the names of the workers that answer within `patience` seconds."""
    from celery.app.control import Control

    client = channel.connection.client
    app = _application(client.hostname, client.transport_options)
    # A connection of its own: kombu's pools are the process's, and know applications by their URLs only.
    control: Any = Control(app)
    control.mailbox.producer_pool = None
    with app.connection_for_write() as connection:
        answers: Any = control.ping(timeout=patience, connection=connection)
    app.close()
    return sorted(name for answer in answers or () for name in answer)


def _application(url: str, options: Any) -> Any:
    from celery import Celery

    app: Any = Celery("tenantkv", broker=url, set_as_current=False)
    app.conf.broker_transport_options = dict(options)
    app.conf.broker_url = url if url.startswith("tenantkv") else f"tenantkv+{url}"
    return app


def purge(channel: Any, name: str) -> int:
    """Remove the messages that wait in a queue; return how many there were."""
    return int(channel.queue_purge(name))


def migrate(
    source: redis.Redis, channel: Any, queue: str, *, tasks: Iterable[str], limit: int | None = None
) -> tuple[int, int]:
    """Move the messages of a queue of stock Celery into ours; return how many were moved, and left.

    The source is open to strangers, so only messages of the named tasks are moved, and these should be
    tasks that may run with any arguments. A message is put here before it is removed there: what is
    interrupted may leave one in both.

    Args:
        source: a plain client of the old broker.
        channel: of the new one.
        queue: the queue, of the same name in both.
        tasks: the tasks whose messages are moved.
        limit: the most messages.
    """
    admitted = set(tasks)
    if not admitted:
        raise ConfigurationError("name the tasks whose messages are moved: others may have been planted")
    moved = left = 0
    for name in channel.lists_of(queue):
        # Oldest first, and those that are left stay in their order.
        for blob in reversed(_stored(source, name)):
            message = _message(blob)
            if message is None or message["headers"].get("task") not in admitted or moved == limit:
                left += 1
                continue
            channel._put(queue, message)
            source.lrem(name, -1, as_bytes(blob).decode("utf-8", "surrogateescape"))
            moved += 1
    return moved, left


def _stored(source: Any, name: str) -> list[bytes]:
    found: list[bytes] = source.lrange(name, 0, -1)
    return found


def _message(blob: bytes) -> dict[str, Any] | None:
    """Return a message of stock kombu, if it is one."""
    try:
        message = stock.loads(blob)
        if isinstance(message["headers"], dict) and isinstance(message["properties"], dict):
            return dict(message)
    except (ValueError, KeyError, TypeError):
        pass
    return None
