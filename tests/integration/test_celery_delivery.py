"""At least once: workers that are killed, stopped or busy, connections that are cut, data that is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

import pytest
from celery import Celery

from tenantkv.contrib.celery import configure, drops
from tests.integration.celery_place import tool
from tests.neighbourhood import wait_for
from tests.proxy import Proxy
from tests.servers import start_tcp


@pytest.fixture(scope="module")
def server():
    running = start_tcp("shared")
    yield running
    running.stop()


def kill(worker):
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


def test_the_tasks_of_a_killed_worker_return(server, tmp_path):
    with tool(server, tmp_path, visibility_timeout=2) as one:
        first = one.start("-c", "1", pool="prefork")
        result = one.call("hold", "killed", 2.0)
        # One that it has fetched and not begun, too.
        prefetched = one.call("who", "prefetched")
        wait_for("the task to begin", lambda: one.ran("killed", "began") == 1)
        wait_for("the other to be fetched", lambda: one.raw.hlen(one.wire("unacked")) == 2)
        kill(first)
        one.start(name="second")
        assert prefetched.get(timeout=30)[1] == "prefetched"
        assert result.get(timeout=30) is True  # redelivered
        assert one.ran("killed", "began") == 2
        wait_for("the acknowledgements", lambda: not one.raw.hlen(one.wire("unacked")))


def test_a_long_eta_is_not_redelivered(server, tmp_path):
    # Long enough for the workers' signs of life on a busy machine.
    with tool(server, tmp_path, visibility_timeout=2) as one:
        one.start_all(names=("a", "b"))
        results = [one.call("who", f"eta{n}", countdown=4) for n in range(10)]
        # A task that lasts, in a worker that does nothing else meanwhile.
        results.append(one.call("hold", "lasting", 4.0))
        for result in results:
            result.get(timeout=30)
        assert [one.ran(f"eta{n}") for n in range(10)] == [1] * 10
        assert one.ran("lasting", "began") == 1
        assert "redelivered" not in one.log("a") + one.log("b")


def test_a_worker_that_is_stopped_gives_back_what_it_fetched(server, tmp_path):
    with tool(server, tmp_path, visibility_timeout=3600) as one:
        worker = one.start()
        later = [one.call("who", f"later{n}", countdown=3600) for n in range(5)]
        soon = one.call("who", "soon", countdown=2)
        wait_for("all to be fetched", lambda: one.raw.hlen(one.wire("unacked")) == 6)
        worker.terminate()
        worker.wait(30)
        assert one.raw.hlen(one.wire("unacked")) == one.raw.zcard(one.wire("unacked_index")) == 0
        assert one.raw.llen(one.wire("celery")) == 6
        one.start(name="second")
        assert soon.get(timeout=30)[1] == "soon"
        assert all(result.state == "PENDING" for result in later)


def test_claims_that_were_evicted_are_put_back(server, tmp_path):
    with tool(server, tmp_path, visibility_timeout=2) as one:
        first = one.start()
        result = one.call("who", "evicted", countdown=3)
        wait_for("the claim", lambda: one.raw.hlen(one.wire("unacked")) == 1)
        one.raw.delete(one.wire("unacked"), one.wire("unacked_index"))
        wait_for("it to be back", lambda: one.raw.hlen(one.wire("unacked")) == 1)
        assert one.raw.zcard(one.wire("unacked_index")) == 1
        kill(first)
        one.start(name="second")
        assert result.get(timeout=30)[1] == "evicted"


def test_a_lost_queue_is_told(server, tmp_path):
    with tool(server, tmp_path, visibility_timeout=2) as one:
        for number in range(7):
            one.call("who", f"lost{number}")
        one.raw.delete(one.wire("celery"))
        one.start()
        assert one.call("who", "found").get(timeout=30)[1] == "found"
        wait_for("the log", lambda: "7 messages or entries are gone from the server" in one.log("worker"))


def test_who_takes_the_last_message_need_not_ask_again(server, tmp_path):
    with tool(server, tmp_path) as one, one.app.connection_for_read() as connection:
        channel, bell = connection.default_channel, one.wire("tkv:celery:bell:celery")

        def claim():
            channel._claim = ""
            reply = channel.call(channel._claim_call(["celery"]))
            return reply and reply[2:]

        for number in range(2):
            one.call("who", f"last{number}")
        assert one.raw.llen(bell) == 2
        assert [claim(), claim()] == [[], [b"last"]]
        # Nothing rings for messages that were taken, and the next one rings.
        assert one.raw.llen(bell) == 0
        one.call("who", "next")
        assert one.raw.llen(bell) == 1
        assert [claim(), claim()] == [[b"last"], None]


def test_a_queue_has_a_bound(server, tmp_path):
    with tool(server, tmp_path, queue_bound=3) as one:
        for _ in range(3):
            one.call("who", queue="small")
        with pytest.raises(Exception, match="holds 3 messages"):
            one.call("who", queue="small", retry=False)
        assert one.raw.llen(one.wire("small")) == 3


def test_a_server_that_lost_everything_is_served_again(tmp_path):
    server = start_tcp("shared")
    try:
        with tool(server, tmp_path, visibility_timeout=2, upkeep_interval=1) as one:
            one.start("-E")
            assert one.call("who", "before").get(timeout=20)[1] == "before"
            server.flush()
            assert one.call("who", "after").get(timeout=20)[1] == "after"
            assert len(one.app.control.ping(timeout=1)) == 1
            wait_for("the bindings", lambda: one.raw.exists(one.wire("_kombu.binding.celery")))
    finally:
        server.stop()


def test_an_idle_worker_outlives_the_servers_time_out(tmp_path):
    server = start_tcp("shared", extra_config={"timeout": "1"})
    try:
        with tool(server, tmp_path) as one:
            one.start("-E")
            assert one.call("who", "before").get(timeout=20)[1] == "before"
            time.sleep(3)
            began = time.monotonic()
            result = one.call("who", "after")
            assert result.get(timeout=20)[1] == "after"
            assert len(one.app.control.ping(timeout=2)) == 1
            print(f"{time.monotonic() - began:.2f} s")
    finally:
        server.stop()


@contextlib.contextmanager
def trouble(*what, every):
    """Do harm now and then, as long as the block lasts."""
    stop = threading.Event()

    def run():
        while not stop.wait(every):
            for each in what:
                each()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def send(place, number, patience=60.0):
    """Send a task as a program does that tries again until it is told that it was sent."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return place.call("count", f"n{number}")
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("tasks", "every"),
    [(100, 0.1), pytest.param(10_000, 1.0, marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
)
def test_every_task_runs_whatever_happens_to_the_connections(server, tmp_path, tasks, every):
    with Proxy(server.port) as proxy, tool(server, tmp_path, url=proxy.url, visibility_timeout=3) as one:
        workers = one.start_all(names=("w0", "w1"))

        def replace():
            """Kill a worker, now and then."""
            if tasks > 1000 and len(workers) < 8:
                kill(workers.pop(0))
                workers.append(one.start(name=f"w{len(workers)}-{time.monotonic()}"))

        with trouble(proxy.cut_all, every=every), trouble(replace, every=10):
            for number in range(tasks):
                send(one, number)
                time.sleep(0.005)
        missing = set(range(tasks))

        def gone():
            values = one.kv.mget([f"ran:n{n}" for n in sorted(missing)])
            missing.difference_update([n for n, v in zip(sorted(missing), values, strict=True) if v])
            return not missing

        wait_for("every task to run", gone, patience=300 if tasks > 1000 else 60)
        runs = sum(int(v) for v in one.kv.mget([f"ran:n{n}" for n in range(tasks)]))
        print(f"{tasks} tasks, {runs - tasks} duplicates, {proxy.accepted} connections")


def test_a_result_arrives_although_the_notices_have_stopped(server, tmp_path):
    """The caller's subscription is half open: nobody says so, and nothing comes any more."""
    with tool(server, tmp_path) as one, Proxy(server.port) as proxy:
        one.start()
        app = Celery("tool", set_as_current=False)
        configure(app, f"tenantkv+{proxy.url}", namespace=one.namespace)
        result = app.send_task("celery_tool.hold", ["silent", 2.0])
        consumer = app.backend.result_consumer
        consumer.consume_from(result.id)
        # The server forgets the subscription, the caller does not know.
        consumer._pubsub.unsubscribe(app.backend.get_key_for_task(result.id))
        assert result.get(timeout=30) is False
        app.close()


def test_the_log_tells_of_drops_by_powers_of_two(caplog):
    drops.note("stale")
    before = len(caplog.records)
    for _ in range(100):
        drops.note("stale")
    assert 5 <= len(caplog.records) - before <= 8
