"""The queue on a real Cluster: all keys of one in one slot, and a failover in the middle of the work."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.exceptions import RedisError

import tenantkv
from tenantkv.queue import AsyncQueue, Outgoing, Queue
from tenantkv.queue.worker import AsyncWorker, Worker
from tests.neighbourhood import wait_for
from tests.queues import Place
from tests.topologies import ClusterTopology, start_cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterTopology]:
    with start_cluster("shared") as running:
        yield running


@pytest.fixture(params=["sync", "asyncio"])
def place(request: pytest.FixtureRequest, cluster: ClusterTopology) -> Iterator[Place]:
    raw = redis.RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port)
    url = f"redis+cluster://127.0.0.1:{cluster.nodes[0].port}"
    made = Place(url, raw, is_async=request.param == "asyncio")
    yield made
    made.close()
    raw.close()


def test_all_that_a_queue_does(place: Place) -> None:
    queue = place.queue(retry_delay=0.0, max_deliveries=2)
    ids = [queue.send("a").id, *(each.id for each in queue.send_many(["b", "c"]))]
    got = queue.receive_many(2)
    got += queue.receive_many(5, ack=got)
    assert [each.id for each in got] == ids
    queue.ack(got[2])
    queue.send_many([Outgoing(n, group="g") for n in (1, 2)])
    first = queue.receive_many(5)
    assert [each.value for each in first] == [1]
    assert [each.value for each in queue.receive_many(5, ack=first)] == [2]
    queue.send("once", dedupe="order-1")
    assert queue.send("once", dedupe="order-1").is_duplicate
    for _ in range(2):
        queue.retry(queue.receive())
    assert [each.value for each in queue.peek("dead")] == ["once"] and queue.redrive() == 1
    queue.ack(queue.receive())
    queue.send("later", delay=0.3)
    later = queue.receive(wait=30)
    assert later.value == "later"
    queue.give_back([later])
    queue.ack(queue.receive())
    asked = queue.send("work", reply=True)
    queue.reply(queue.receive(), "done")
    assert asked.result(timeout=30) == "done"
    assert queue.touch() >= 1 and not queue.metrics().lost
    keys = place.keys()
    slots = {
        place.operator.keyslot(place.namespace.wire_name(key))
        for key in (*keys.core, *keys.dedupe, *keys.results, keys.asked(asked.id.encode()))
    }
    assert len(slots) == 1


def test_workers_hand_over(place: Place) -> None:
    done: list[int] = []
    if not place.is_async:
        queue = place.queue()
        queue.send_many(range(50))
        Worker(queue, lambda message: done.append(message.value), concurrency=2, drain=True).run()
    else:

        async def main() -> None:
            kv = tenantkv.asyncio.connect(place.url, namespace=place.namespace)
            queue = AsyncQueue(kv, "thumbs", on_loss="raise")
            await queue.send_many(range(50))
            work = AsyncWorker(queue, lambda message: done.append(message.value), concurrency=2, drain=True)
            await work.run()
            await kv.aclose()

        asyncio.run(main())
    assert sorted(done) == list(range(50))
    assert place.queue().metrics().totals["acknowledged"] == 50


def test_one_who_waits_is_woken(cluster: ClusterTopology) -> None:
    place = Place(f"redis+cluster://127.0.0.1:{cluster.nodes[0].port}", None, is_async=False)
    queue, got = place.queue(), []
    waiter = threading.Thread(target=lambda: got.append(queue.receive(wait=60)))
    waiter.start()
    blocked = cluster.owner(place.wire("wake")).operator()
    wait_for("the waiter", lambda: int(blocked.info("clients")["blocked_clients"]) == 1)
    place.queue().send("now")
    waiter.join(timeout=60)
    assert [each.value for each in got] == ["now"]
    place.close()


def test_a_slot_that_has_moved_is_followed(cluster: ClusterTopology, place: Place) -> None:
    queue = place.queue()
    # The client knows the cluster before anything of it changes.
    assert queue.touch() == 0
    source = cluster.owner(place.wire("meta"))
    target = next(node for node in cluster.nodes if node is not source)
    slot = place.operator.keyslot(place.wire("meta"))
    identity = target.operator().execute_command("CLUSTER MYID")
    for node in (target, source, *cluster.nodes):
        node.operator().execute_command("CLUSTER SETSLOT", slot, "NODE", identity)
    queue.send("a")
    got = queue.receive_many(5)
    assert [each.value for each in got] == ["a"]
    assert queue.ack_many(got) == [] and not queue.metrics().lost
    assert target.operator().exists(place.wire("meta"))


class Load:
    """A sender and a worker that go on through whatever happens, and their accounts."""

    def __init__(self, place: Place) -> None:
        self.sent: list[int] = []
        self.handled: list[int] = []
        self.errors: set[str] = set()
        self.losses: list[Any] = []
        self.stopped = threading.Event()
        self._sending, self._working = (
            Queue(place.client(), "load", on_loss=self.losses.append, visibility=2.0) for _ in range(2)
        )
        self.worker = Worker(self._working, lambda message: self.handled.append(message.value))
        targets = (self._send, self.worker.run)
        self._threads = [threading.Thread(target=target, daemon=True) for target in targets]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._threads[0].join(60)
        try:
            wait_for("the rest", lambda: set(self.sent) <= set(self.handled), 60)
        finally:
            self.worker.stop()
            self._threads[1].join(60)

    def _send(self) -> None:
        number = 0
        while not self.stopped.is_set():
            try:
                # Safe to repeat: of the ones that arrived though an error was told, none is sent twice.
                self._sending.send(number, dedupe=str(number))
            except RedisError as error:
                self.errors.add(type(error).__name__)
                time.sleep(0.02)
                continue
            self.sent.append(number)
            number += 1

    def goes_on(self) -> None:
        """Wait until both have done something more."""
        sent, handled = len(self.sent), len(self.handled)
        wait_for("more work", lambda: len(self.sent) > sent + 20 and len(self.handled) > handled + 20, 60)


@pytest.fixture
def small_cluster() -> Iterator[ClusterTopology]:
    with start_cluster("shared", size=3) as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("deed", ["hand over", "kill"])
def test_a_failover_in_the_middle_of_the_work(small_cluster: ClusterTopology, deed: str) -> None:
    cluster = small_cluster
    place = Place(f"redis+cluster://127.0.0.1:{cluster.nodes[0].port}", None, is_async=False)
    primary = cluster.owner(place.wire("meta", "load"))
    replica = cluster.add_replica(primary)
    # A client that knows the cluster as it was, and hears nothing of the failover.
    late = Place(place.url, None, is_async=True)
    late.namespace = place.namespace
    queue = late.queue("load")
    queue.send(-1)
    queue.ack(queue.receive())
    with Load(place) as load:
        load.goes_on()
        if deed == "hand over":
            replica.operator().execute_command("CLUSTER FAILOVER")
        else:
            primary.kill()
        wait_for("the failover", lambda: replica.operator().info("replication")["role"] == "master", 60)
        load.goes_on()
    queue.send(-1)
    queue.ack(queue.receive(wait=30))
    late.close()
    place.close()
    counts = {value: load.handled.count(value) for value in set(load.handled)}
    doubled = [value for value, count in counts.items() if count > 1]
    print(f"{deed}: {len(load.sent)} sent, {len(doubled)} handled twice, errors {load.errors}")
    assert set(load.sent) <= counts.keys() and not load.losses
