"""RQ through our client: real workers in real processes, beside neighbours with the same queues."""

from __future__ import annotations

import datetime
import os
import sys
import warnings

import pytest
import redis
import rq
from rq.job import Job
from rq.registry import FailedJobRegistry, FinishedJobRegistry, ScheduledJobRegistry

from tests.neighbourhood import EXAMPLES, neighbourhood, wait_for

RQ = os.path.join(os.path.dirname(sys.executable), "rq")


@pytest.fixture(params=[False, True], ids=["plain", "registry"])
def place(request, shared_server, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    with neighbourhood(shared_server, registry=request.param) as place:
        yield place


def plant_rq(client):
    """What a neighbour with the same queue has: waiting jobs, and the names of what we will write."""
    queue = rq.Queue("reports", connection=client)
    queue.enqueue("rq_jobs.fail", "the neighbour's", job_id="same-id")
    queue.enqueue("rq_jobs.fail", "the neighbour's")
    client.set("rq:job:other-job:dependents", "the neighbour's")
    client.set("rq:clean_registries:reports", "the neighbour's")


def worker(*more):
    return [RQ, "worker", "--connection-class", "tenantkv.TenantRedis", *more, "reports"]


def test_a_worker_process_runs_jobs_beside_a_neighbour(place, tmp_path):
    place.plant(plant_rq)
    queue = rq.Queue("reports", connection=place.kv)
    assert queue.count == 0

    good = queue.enqueue("rq_jobs.count_words", "one two three", job_id="same-id")
    bad = queue.enqueue("rq_jobs.fail", "as planned")
    again = queue.enqueue("rq_jobs.fail", "twice", retry=rq.Retry(max=1))
    after = queue.enqueue("rq_jobs.count_words", "four five", depends_on=good)
    command = worker("--url", place.server.url, "--burst")
    with place.started(*command, log=tmp_path / "log") as process:
        assert process.wait(60) == 0

    assert good.get_status(refresh=True) == "finished"
    assert good.return_value() == 3
    assert after.return_value() == 2
    assert bad.get_status(refresh=True) == "failed"
    assert "as planned" in getattr(bad.latest_result(), "exc_string", "")
    assert again.get_status(refresh=True) == "failed"
    again.refresh()
    assert again.retries_left == 0
    assert set(FailedJobRegistry(queue=queue).get_job_ids()) == {bad.id, again.id}
    assert good.id in FinishedJobRegistry(queue=queue).get_job_ids()
    assert FailedJobRegistry(queue=queue).requeue(bad.id).get_status() == "queued"
    assert queue.job_ids == [bad.id]


def test_empty_and_delete_stay_at_home(place):
    """They build key names in Lua."""
    place.plant(plant_rq)
    queue = rq.Queue("reports", connection=place.kv)
    for number in range(3):
        queue.enqueue("rq_jobs.count_words", "x", job_id=f"job-{number}")
    queue.enqueue("rq_jobs.count_words", "x", job_id="same-id")

    assert queue.empty() == 4
    assert not Job.exists("same-id", connection=place.kv)
    assert Job.exists("same-id", connection=place.naive)

    queue.enqueue("rq_jobs.count_words", "x")
    queue.delete()
    assert place.own_names() == set()
    assert rq.Queue.all(connection=place.kv) == []


def test_scheduled_jobs_with_the_scheduler_in_a_process_of_its_own(place, tmp_path):
    place.plant(plant_rq)
    queue = rq.Queue("reports", connection=place.kv)
    job = queue.enqueue_in(datetime.timedelta(seconds=1), "rq_jobs.count_words", "a b c d")
    assert job.id in ScheduledJobRegistry(queue=queue).get_job_ids()

    command = worker("--url", place.server.url, "--with-scheduler")
    with place.started(*command, log=tmp_path / "log"):
        wait_for("the scheduled job", lambda: job.get_status(refresh=True) == "finished")
        assert job.return_value() == 4
        (found,) = rq.Worker.all(connection=place.kv)
        assert found.queue_names() == ["reports"]
        assert rq.Worker.all(connection=place.naive) == []
    # The worker went down in good order and signed off.
    assert rq.Worker.all(connection=place.kv) == []


def test_workers_take_orders_over_pubsub(place, tmp_path):
    from rq.command import send_shutdown_command

    place.plant(plant_rq)
    rq.Queue("reports", connection=place.kv).enqueue("rq_jobs.count_words", "x")
    with place.started(*worker("--url", place.server.url), log=tmp_path / "log") as process:
        (found,) = wait_for("the worker", lambda: rq.Worker.all(connection=place.kv))
        # A neighbour who knows the worker's name cannot stop it.
        send_shutdown_command(place.naive, found.name)
        send_shutdown_command(place.other, found.name)
        with pytest.raises(AssertionError):
            wait_for("an end", lambda: process.poll() is not None, patience=1.5)
        send_shutdown_command(place.kv, found.name)
        assert process.wait(30) == 0


def test_a_worker_pool_rebuilds_connections_in_its_processes(place, tmp_path):
    place.plant(plant_rq)
    queue = rq.Queue("reports", connection=place.kv)
    jobs = [queue.enqueue("rq_jobs.count_words", "x " * number) for number in range(6)]
    command = [RQ, "worker-pool", "--connection-class", "tenantkv.TenantRedis"]
    command += ["--url", place.server.url, "-n", "2", "--burst", "reports"]
    with place.started(*command, log=tmp_path / "log") as process:
        assert process.wait(60) == 0
    assert [job.return_value() for job in jobs] == list(range(6))


def test_a_worker_in_this_process(place):
    place.plant(plant_rq)
    queue = rq.Queue("reports", connection=place.kv)
    job = queue.enqueue("rq_jobs.count_words", "in process")
    with warnings.catch_warnings():
        # RQ says so itself where a server has no CLIENT.
        warnings.simplefilter("ignore")
        worker = rq.SimpleWorker(["reports"], connection=place.kv)
        assert worker.work(burst=True)
    assert job.return_value() == 2


def test_the_registry_lists_what_rq_wrote(place):
    place.plant(plant_rq)
    rq.Queue("reports", connection=place.kv).enqueue("rq_jobs.count_words", "x", job_id="listed")
    if place.registry:
        assert set(place.kv.scan_iter()) == place.own_names()
        assert b"rq:job:listed" in place.kv.keys("rq:job:*")
    else:
        with pytest.raises(redis.ResponseError, match="registry"):
            place.kv.keys("*")


def test_the_example(place, tmp_path):
    place.plant(plant_rq)
    with place.started(*worker("--url", place.server.url), log=tmp_path / "log"):
        assert place.run(sys.executable, "rq_jobs.py").split()[-1] == "3"


def test_a_spawn_worker_fails_closed(place, tmp_path):
    """It writes the connection's arguments into a program's text, where a namespace cannot stand."""
    place.plant(plant_rq)
    job = rq.Queue("reports", connection=place.kv).enqueue("rq_jobs.count_words", "x")
    command = worker("--url", place.server.url, "--burst", "-w", "rq.worker.SpawnWorker")
    with place.started(*command, log=tmp_path / "log") as process:
        process.wait(60)
    assert job.get_status(refresh=True) == "failed"
