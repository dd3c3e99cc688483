"""dramatiq through our client: real worker threads and processes, beside neighbours."""

from __future__ import annotations

import importlib
import os
import sys
import time

import dramatiq
import pytest
import redis
from dramatiq.brokers.redis import RedisBroker

from tests.neighbourhood import EXAMPLES, neighbourhood, wait_for

DRAMATIQ = os.path.join(os.path.dirname(sys.executable), "dramatiq")


@pytest.fixture(params=[False, True], ids=["plain", "registry"])
def place(request, shared_server):
    with neighbourhood(shared_server, registry=request.param) as place:
        place.plant(plant_dramatiq)
        yield place


@pytest.fixture
def module(place, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for name, value in place.environment().items():
        if name.startswith("TENANTKV_"):
            monkeypatch.setenv(name, value)
    sys.modules.pop("dramatiq_tasks", None)
    module = importlib.import_module("dramatiq_tasks")
    yield module
    module.broker.close()
    module.kv.close()


def plant_dramatiq(client):
    broker = RedisBroker(client=client)

    @dramatiq.actor(broker=broker)
    def count_words(*words):
        raise AssertionError("the neighbour's")

    count_words.send("the neighbour's", "words")
    count_words.send_with_options(args=("the neighbour's", "words"), delay=1)
    client.set("words", "the neighbour's")


def test_worker_threads_run_messages(place, module):
    worker = dramatiq.Worker(module.broker, worker_timeout=100, worker_threads=2)
    worker.start()
    try:
        for number in range(10):
            module.count_words.send("x " * number, f"words:{number}")
        module.fail_once.send("twice")
        module.count_words.send_with_options(args=("a b", "delayed"), delay=300)
        module.broker.join("default", timeout=20_000)
        worker.join()
        wait_for("the delayed message", lambda: place.kv.get("delayed") == b"2")
        wait_for("the retried message", lambda: place.kv.get("twice") == b"second time")
    finally:
        worker.stop()
    assert [int(place.kv.get(f"words:{number}")) for number in range(10)] == list(range(10))
    assert place.kv.get("tries:twice") == b"2"


def test_dead_letters_and_flush(place, module):
    @dramatiq.actor(broker=module.broker, max_retries=0, queue_name="doomed")
    def doomed():
        raise ValueError("as planned")

    worker = dramatiq.Worker(module.broker, worker_timeout=100, worker_threads=1)
    worker.start()
    try:
        doomed.send()
        wait_for("the dead letter", lambda: place.kv.zcard("dramatiq:doomed.XQ") == 1)
    finally:
        worker.stop()
    doomed.send()
    module.broker.flush_all()
    assert not [name for name in place.own_names() if name.endswith(b".msgs")]


def test_a_worker_process(place, module, tmp_path):
    command = [DRAMATIQ, "dramatiq_tasks", "--processes", "1", "--threads", "2", "--skip-logging"]
    with place.started(*command, log=tmp_path / "log"):
        place.run(sys.executable, "dramatiq_tasks.py")
        wait_for("the result", lambda: place.kv.get("words") == b"3")


def test_messages_of_a_dead_worker_come_back(place, module):
    """Its own maintenance needs KEYS in a script; the example's stands in for it."""
    module.count_words.send("a b c", "words")
    dead = RedisBroker(client=place.kv, maintenance_chance=0, heartbeat_timeout=50)
    dead.declare_queue("default")
    taken = next(iter(dead.consume("default", timeout=1000)))
    assert taken is not None
    time.sleep(0.1)

    module.broker.heartbeat_timeout = 50
    assert module.requeue_lost(module.broker) == 1
    again = next(iter(dead.consume("default", timeout=1000)))
    assert again is not None
    assert again.message_id == taken.message_id
    assert b"dramatiq:__acks__." + dead.broker_id.encode() not in place.own_names()


def test_its_own_maintenance_is_answered_like_a_server_without_keys(place):
    broker = RedisBroker(client=place.kv, maintenance_chance=1_000_000, heartbeat_timeout=1)
    broker.declare_queue("default")
    place.kv.zadd("dramatiq:__heartbeats__", {"dead": 1})
    with pytest.raises(redis.ResponseError) as raised:
        broker.do_qsize("default")
        next(iter(broker.consume("default", timeout=100)))
    assert place.namespace.keyring.prefix not in str(raised.value)
