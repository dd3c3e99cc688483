"""Celery with real workers on the shared profile, beside neighbours with the same names."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
import redis
from celery import Celery, chord, group, signature

from tenantkv.contrib.celery.transport import Transport
from tests.integration.celery_place import ROOT, Tool, tool
from tests.neighbourhood import wait_for
from tests.servers import start_tcp


@pytest.fixture(scope="module")
def server():
    running = start_tcp("shared")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    return tmp_path_factory.mktemp("celery")


@pytest.fixture(scope="module")
def one(server, logs):
    """A tool with a prefork worker."""
    with tool(server, logs, "one") as place:
        place.start("-c", "2", "-E", pool="prefork")
        yield place


@pytest.fixture(scope="module")
def two(server, logs):
    """Another tool, which has chosen the same names for everything."""
    with tool(server, logs, "two") as place:
        place.start("-c", "2", "-E", pool="prefork")
        yield place


@pytest.fixture(scope="module")
def stock(server):
    """A tool on stock Celery, as most of the neighbours are: nobody works for it."""
    url = server.tcp_url + "/0"
    app = Celery("tool", broker=url, backend=url, set_as_current=False)
    yield app
    app.close()


def sig(place: Tool, task: str, *args: object, **options: object):
    return signature(f"celery_tool.{task}", args=args, app=place.app, **options)


def test_two_tools_with_the_same_names_never_meet(one, two, stock):
    foreign = stock.send_task("celery_tool.who", ["stock"])
    results = [(place, place.call("who", f"{place.name}{n}")) for n in range(20) for place in (one, two)]
    for place, result in results:
        assert result.get(timeout=20)[0] == place.name
    assert all(place.ran(f"{place.name}{n}") == 1 for n in range(20) for place in (one, two))
    # Nobody took the neighbour's task, and nobody answered it.
    assert redis.Redis(port=one.server.port).llen("celery") == 1
    assert foreign.state == "PENDING"


def test_workflows(one):
    assert one.call("third_time").get(timeout=20) == 2
    adds = [sig(one, "add", n, n) for n in range(5)]
    assert group(adds).apply_async().get(timeout=20) == [0, 2, 4, 6, 8]
    assert chord(adds)(sig(one, "total")).get(timeout=20) == 20
    chain = sig(one, "add", 1, 1) | sig(one, "add", 10) | sig(one, "add", 100)
    assert chain.apply_async().get(timeout=20) == 112
    nested = chord([group(adds), sig(one, "add", 1, 1)], app=one.app)(sig(one, "total"))
    assert nested.get(timeout=20) == 22
    assert one.call("add", 1, 2, countdown=0.5, priority=9).get(timeout=20) == 3
    with pytest.raises(ValueError, match="with care"):
        one.call("fail", "care").get(timeout=20)


def test_a_chord_that_is_called_again_ends_again(one):
    for number in range(5):
        body = sig(one, "who", f"again{number}", immutable=True)
        frozen = chord([sig(one, "add", 1, 2), sig(one, "add", 3, 4)], body, app=one.app)
        frozen.freeze()
        for times in (1, 2, 3):
            frozen.apply_async()
            wait_for("its body", lambda n=number, t=times: one.ran(f"again{n}") == t)


def test_remote_control_and_events_stay_at_home(one, two):
    seen: list[dict] = []
    with one.app.connection_for_read() as connection:
        receiver = one.app.events.Receiver(connection, handlers={"*": seen.append})
        thread = threading.Thread(target=lambda: receiver.capture(limit=None, timeout=None), daemon=True)
        thread.start()
        wait_for("a heartbeat", lambda: seen)
        assert two.call("who", "not-for-one").get(timeout=20)[0] == "two"
        result = one.call("who", "for-one")
        assert result.get(timeout=20)[0] == "one"
        wait_for(
            "its events",
            lambda: any(e["type"] == "task-succeeded" and e["uuid"] == result.id for e in seen),
        )
        receiver.should_stop = True
    assert "not-for-one" not in str(seen)
    for place in (one, two):
        assert len(place.app.control.ping(timeout=1)) == 1
    stats = one.app.control.inspect(timeout=1).stats()
    assert one.namespace.keyring.prefix not in str(stats)
    assert one.namespace.keyring.dump(compact=True) not in str(stats)


def test_one_question_to_workers_does_not_delay_the_next(one, monkeypatch):
    """Each has a queue for its replies, and the wait for the last one's may be under way still."""
    monkeypatch.setattr(Transport, "brpop_timeout", 60)
    with one.app.connection_for_write() as connection:
        for _ in range(3):
            inspect = one.app.control.inspect(connection=connection, timeout=0.5)
            inspect.ping()
            patient = one.app.control.inspect(["worker@host"], connection=connection, timeout=20)
            assert patient.ping() == {"worker@host": {"ok": "pong"}}


def test_shutdown_stops_nobody_else(one, two, server, logs):
    with tool(server, logs, "three") as three:
        worker = three.start()
        three.app.control.shutdown()
        assert worker.wait(20) == 0
    assert len(one.app.control.ping(timeout=1)) == len(two.app.control.ping(timeout=1)) == 1


def test_revoked_tasks_do_not_run(one):
    result = one.call("who", "revoked", countdown=2)
    one.app.control.revoke(result.id)
    with pytest.raises(Exception, match="revoked"):
        result.get(timeout=20)
    assert one.ran("revoked") == 0


def test_purge_and_forget(one):
    for _ in range(3):
        one.call("who", "purged", queue="nobody-works-here")
    assert one.app.connection_for_read().channel().queue_purge("nobody-works-here") == 3
    result = one.call("add", 1, 1)
    result.get(timeout=20)
    result.forget()
    assert one.app.AsyncResult(result.id).state == "PENDING"


def test_nothing_of_a_task_can_be_read_by_a_neighbour(one, server):
    heard: list[bytes] = []
    listener = redis.Redis(port=server.port, protocol=2).pubsub()
    listener.psubscribe("*")
    stop = threading.Event()

    def listen():
        while not stop.is_set():
            message = listener.get_message(timeout=0.2)
            if message and message["type"] == "pmessage":
                heard.append(message["channel"] + b" " + message["data"])

    thread = threading.Thread(target=listen)
    thread.start()
    time.sleep(0.3)
    waiting = one.call("who", "hunter2-waits", queue="nobody-works-here")
    assert one.call("who", "hunter2-ran").get(timeout=20) == ["one", "hunter2-ran"]
    with pytest.raises(ValueError, match="hunter2"):
        one.call("fail", "hunter2-failed").get(timeout=20)
    one.app.control.ping(timeout=0.5)
    wait_for("what everybody can hear", lambda: len(heard) > 3)
    stop.set()
    thread.join()
    listener.close()
    channels = b"".join(heard)
    prefix = one.namespace.wire_prefix
    stored = b"".join(value for (_, key), (value, _) in server.dump().items() if key.startswith(prefix))
    # No task, no argument, no result, no traceback; and no prefix where everybody looks.
    for word in (b"hunter2", b"celery_tool.who", b"Traceback", b"argsrepr"):
        assert word not in channels
        assert word not in stored
    assert one.namespace.keyring.prefix.encode() not in channels + stored
    assert one.wire("nobody-works-here") in server.dump_keys()
    waiting.forget()


def test_everything_lies_inside_the_namespaces(one, stock, server):
    # Prefixes have 44 characters and a colon.
    outside = {key for key in server.dump_keys() if key[44:45] != b":"}
    # What the stock neighbour has.
    assert all(key == b"celery" or key.startswith(b"_kombu.binding") for key in outside), outside
    assert any(key.startswith(one.namespace.wire_prefix) for key in server.dump_keys())


def test_a_worker_without_its_keyring_stops_with_a_clear_error(one, tmp_path):
    environment = {**one.environment(), "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    del environment["TENANTKV_SECRET_KEYRING"]
    script = (
        "from celery import Celery\n"
        "app = Celery('tool', broker='tenantkv://', backend='tenantkv://')\n"
        "app.worker_main(['worker', '-P', 'solo'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "tenantkv init" in done.stderr + done.stdout


def test_the_example(one, server, tmp_path):
    environment = one.environment()
    environment["PYTHONPATH"] += os.pathsep + str(ROOT / "examples")
    environment["TENANTKV_URL"] = server.tcp_url + "/9"
    log = (tmp_path / "log").open("wb")
    command = [sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "-P", "solo"]
    worker = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        done = subprocess.run(
            [sys.executable, str(ROOT / "examples" / "celery_tasks.py")],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout == "words: 3\n", done.stderr
    finally:
        worker.kill()
        worker.wait()
        log.close()


def test_settings_alone_are_enough(one):
    script = (
        "import sys\n"
        "from celery import Celery\n"
        "app = Celery('tool', broker='tenantkv://', backend='tenantkv://')\n"
        "assert app.send_task('celery_tool.add', [20, 22]).get(timeout=20) == 42\n"
        "assert 'tenantkv.contrib.celery.settings' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=one.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_fork_does_not_share_what_its_parent_waits_on(one):
    assert one.call("add", 1, 1).get(timeout=20) == 2
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if one.call("add", 2, 2).get(timeout=20) == 4 else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert one.call("add", 3, 3).get(timeout=20) == 6
