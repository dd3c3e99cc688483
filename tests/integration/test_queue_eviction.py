"""A neighbour floods an evicting server: what the queue loses is noticed and counted, never silent."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tenantkv.queue import Outgoing, Queue
from tests.neighbourhood import Neighbourhood, wait_for
from tests.servers import RealServer, start_server

BYTES = 10 * 1024 * 1024


@pytest.fixture(scope="module")
def small_server() -> Iterator[RealServer]:
    server = start_server("shared", extra_config={"maxmemory": str(BYTES), "maxmemory-policy": "allkeys-lru"})
    yield server
    server.stop()


@pytest.fixture
def place(small_server: RealServer) -> Iterator[Neighbourhood]:
    small_server.flush()
    place = Neighbourhood(small_server, registry=False)
    yield place
    place.close()


class Storm:
    """A neighbour that writes keys of its own, as fast as it can, until told to stop."""

    def __init__(self, server: RealServer) -> None:
        self._client = redis.Redis(unix_socket_path=server.socket_path)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._blow, daemon=True)

    def __enter__(self) -> Storm:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def _blow(self) -> None:
        value, number = os.urandom(1000), 0
        while not self._stop.is_set():
            with self._client.pipeline(transaction=False) as lot:
                for _ in range(200):
                    number += 1
                    lot.set(f"flood:{number}", value)
                lot.execute()


def evicted(place: Neighbourhood, part: int, queue: Queue) -> bool:
    return not place.server.operator().exists(place.namespace.wire_name(queue.core.keys.core[part]))


def test_what_a_storm_takes_is_counted(place: Neighbourhood) -> None:
    losses: list[Any] = []
    queue = Queue(place.kv, "idle", on_loss=losses.append)
    queue.send_many([os.urandom(500) for _ in range(300)])
    queue.send_many([Outgoing(b"later", delay=3600)] * 7)
    with Storm(place.server):
        wait_for("the storm to take the messages", lambda: evicted(place, 2, queue), 60)
    queue.receive()
    (loss,) = losses
    assert loss.missing == 307 and (loss.is_whole or loss.parts["messages"] == 307)
    assert queue.metrics().ready == 0
    # And it goes on as if it were new.
    queue.send("after")
    assert queue.receive().value == "after"  # type: ignore[union-attr]
    assert len(losses) == 1


def test_a_busy_queue_loses_nothing_silently(place: Neighbourhood) -> None:
    losses: list[Any] = []
    queue = Queue(place.kv, "busy", on_loss=losses.append)
    sent = received = 0
    with Storm(place.server):
        for _ in range(60):
            queue.send_many([os.urandom(200) for _ in range(20)])
            sent += 20
            got = queue.receive_many(15)
            received += len(got)
            queue.ack_many(got)
    while got := queue.receive_many(100):
        received += len(got)
        queue.ack_many(got)
    # What was taken between its delivery and its acknowledgement is told as lost, although it arrived.
    told = received + sum(loss.missing for loss in losses)
    assert sent <= told <= sent + 15 * len(losses)


def test_keys_in_use_outlive_a_storm_that_takes_others(place: Neighbourhood) -> None:
    """With the touches of `kept_alive` the queue is younger than anything else that can be evicted."""
    kept = Queue(place.kv, "kept", on_loss="raise")
    left = Queue(place.kv, "left", on_loss=lambda _: None)
    for queue in (kept, left):
        queue.send_many([os.urandom(500) for _ in range(100)])
    client = redis.Redis(unix_socket_path=place.server.socket_path)
    value = os.urandom(1000)
    with kept.kept_alive(every=0.05):
        # Slowly enough for the server's clock of a second to tell old from young: a moderate storm.
        stop = threading.Event()
        number = 0
        while not evicted(place, 2, left):
            number += 1
            client.set(f"slow:{number}", value)
            if number % 100 == 0:
                stop.wait(0.015)
            assert number < 400_000, "the untouched queue was never evicted"
    client.close()
    assert kept.metrics().ready == 100 and left.receive() is None
