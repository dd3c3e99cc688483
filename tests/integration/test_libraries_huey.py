"""Huey through our pool: a real consumer process, beside neighbours with the same queues."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time

import huey
import pytest
import redis

import tenantkv
from tests.neighbourhood import EXAMPLES, neighbourhood, wait_for

CONSUMER = os.path.join(os.path.dirname(sys.executable), "huey_consumer")


@pytest.fixture(params=[False, True], ids=["plain", "registry"])
def place(request, shared_server):
    with neighbourhood(shared_server, registry=request.param) as place:
        place.plant(plant_huey)
        yield place


def plant_huey(client):
    """What a neighbour with the same queue has; a bare client cannot take it for anything of ours."""
    client.lpush("huey.redis.reports", b"the neighbour's task")
    client.zadd("huey.schedule.reports", {b"the neighbour's schedule": 0})
    client.hset("huey.results.reports", "key", b"the neighbour's result")
    client.set("tries:once", 100)


def tasks(place, monkeypatch):
    """Import the example's module as somebody who enqueues does."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for name, value in place.environment().items():
        if name.startswith("TENANTKV_"):
            monkeypatch.setenv(name, value)
    sys.modules.pop("huey_tasks", None)
    return importlib.import_module("huey_tasks")


def outcome(result, **options):
    """Return a result anew, or "failed"."""
    try:
        return result.get(**options)
    except huey.exceptions.TaskException:
        result.reset()
        return "failed"


@pytest.mark.parametrize("workers", ["thread", "process"])
def test_a_consumer_runs_tasks_beside_a_neighbour(place, tmp_path, monkeypatch, workers):
    module = tasks(place, monkeypatch)
    command = [CONSUMER, "huey_tasks.huey", "-w", "2", "-k", workers, "-s", "1"]
    with place.started(*command, log=tmp_path / "log"):
        assert module.count_words("a b c")(blocking=True, timeout=20) == 3
        result = module.fail_once("once")
        # Retried with its own counter; the neighbour's of the same name stood at 100.
        wait_for("the second try", lambda: place.kv.get("tries:once") == b"2")
        wait_for("its result", lambda: outcome(result) == "second time")
        assert outcome(module.count_words(17), blocking=True, timeout=20) == "failed"
        later = module.count_words.schedule(("a b",), delay=1)
        assert later(blocking=True, timeout=20) == 2
    assert place.kv.get("tries:once") == b"2"


def test_a_consumer_in_threads_of_this_process(place):
    app = huey.RedisHuey("reports", connection_pool=place.pool())
    done = []

    @app.task()
    def note(value):
        done.append(value)
        return value * 2

    results = [note(number) for number in range(5)]
    assert app.pending_count() == 5
    consumer = app.create_consumer(workers=2, check_worker_health=False)
    consumer.start()
    try:
        wait_for("five tasks", lambda: len(done) == 5)
    finally:
        consumer.stop(graceful=True)
    assert sorted(result.get() for result in results) == [0, 2, 4, 6, 8]


def test_every_storage(place):
    """Locks, counters, results, priorities and flush(), which is Huey's clear()."""
    for kind in (huey.RedisHuey, huey.PriorityRedisHuey):
        app = kind("reports", connection_pool=place.pool())
        app.task(name="noop")(lambda: None)()
        assert app.pending_count() == 1
        with app.lock_task("only-one"), pytest.raises(huey.exceptions.TaskLockedException):
            app.lock_task("only-one").__enter__()
        app.put("key", "ours")
        assert app.get("key") == "ours"
        app.storage.flush_all()
        assert app.pending_count() == 0


def test_expiring_results_need_to_list_keys(place):
    """RedisExpireHuey finds its results by SCAN, with a bare client of its own making."""

    class OwnStorage(huey.storage.RedisExpireStorage):  # type: ignore[misc]
        redis_client = tenantkv.TenantRedis

    stock = huey.RedisExpireHuey("reports", connection_pool=place.pool(), expire_time=60)
    stock.put("key", "ours")
    assert stock.get("key", peek=True) == "ours"
    with pytest.raises(redis.ResponseError):
        stock.storage.result_items()
    own = huey.Huey("reports", storage_class=OwnStorage, connection_pool=place.pool(), expire_time=60)
    own.put("key2", "ours")
    if place.registry:
        assert len(own.storage.result_items()) == 2
        own.storage.flush_results()
        assert own.storage.result_items() == {}
    else:
        with pytest.raises(redis.ResponseError, match="registry"):
            own.storage.result_items()


def test_the_example(place, tmp_path):
    with place.started(CONSUMER, "huey_tasks.huey", "-w", "2", log=tmp_path / "log"):
        assert place.run(sys.executable, "huey_tasks.py").split()[-1] == "3"


def test_waiting_consumers_share_a_small_pool(place):
    """Each blocks on the server for a second at a time, and enqueuing goes on meanwhile."""
    app = huey.RedisHuey("reports", connection_pool=place.pool(max_connections=3))
    got = []
    threads = [threading.Thread(target=lambda: got.append(app.storage.dequeue())) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    app.storage.enqueue(b"one")
    app.storage.enqueue(b"two")
    for thread in threads:
        thread.join()
    assert sorted(got) == [b"one", b"two"]
