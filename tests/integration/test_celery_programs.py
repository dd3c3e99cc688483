"""What workers do beside running tasks, and Celery's other programs: limits, priorities, beat, Flower."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest
from celery.exceptions import TaskRevokedError, TimeLimitExceeded

from tests.integration.celery_place import tool
from tests.neighbourhood import wait_for
from tests.servers import free_port, start_tcp


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
    """A tool with a prefork worker, which sends events."""
    with tool(server, logs, "one") as place:
        place.start("-c", "2", "-E", pool="prefork")
        yield place


@pytest.fixture(scope="module")
def two(server, logs):
    """Another tool with the same names for everything; its worker is there when a test starts one."""
    with tool(server, logs, "two") as place:
        yield place


def holds_nothing(place):
    return not place.raw.hlen(place.wire("unacked"))


def test_soft_and_hard_time_limits(one):
    assert one.call("patient", "soft", 60, soft_time_limit=1).get(timeout=30) == "too long"
    with pytest.raises(TimeLimitExceeded):
        one.call("hold", "hard", 60, time_limit=1).get(timeout=30)
    assert one.ran("hard", "began") == 1
    assert one.call("add", 1, 2).get(timeout=20) == 3
    wait_for("the acknowledgements", lambda: holds_nothing(one))


def test_a_task_whose_process_is_lost_runs_again(one):
    assert one.call("mortal", "mortal").get(timeout=30) == 2
    assert one.ran("mortal") == 2
    wait_for("the acknowledgements", lambda: holds_nothing(one))


def test_a_task_that_runs_is_terminated(one):
    result = one.call("patient", "terminated", 60)
    wait_for("it to begin", lambda: one.ran("terminated", "began") == 1)
    one.app.control.revoke(result.id, terminate=True, signal="SIGKILL")
    with pytest.raises(TaskRevokedError):
        result.get(timeout=30)
    assert one.call("add", 1, 2).get(timeout=20) == 3


def test_priorities_and_rate_limits(server, logs):
    with tool(server, logs, "three") as place:
        for priority in (9, 6, 3, 0):
            for number in range(2):
                place.call("line_up", f"{priority}{number}", priority=priority)
        worker = place.start()
        order = wait_for("all to run", lambda: len(found := place.kv.lrange("order", 0, -1)) == 8 and found)
        assert order == [b"00", b"01", b"30", b"31", b"60", b"61", b"90", b"91"]

        replies = place.app.control.rate_limit(
            "celery_tool.who", "1/h", reply=True, timeout=20, destination=["worker@host"]
        )
        assert "ok" in str(replies)
        limited = [place.call("who", f"limited{n}") for n in range(3)]
        wait_for("the first", lambda: place.ran("limited0") == 1)
        # Others pass by; what is held back is not redelivered, and returns with the end of its worker.
        assert place.call("add", 1, 2).get(timeout=20) == 3
        assert [place.ran(f"limited{n}") for n in range(3)] == [1, 0, 0]
        worker.terminate()
        worker.wait(30)
        assert place.raw.llen(place.wire("celery")) == 2
        place.start(name="unlimited")
        assert [result.get(timeout=20)[1] for result in limited] == ["limited0", "limited1", "limited2"]
        assert [place.ran(f"limited{n}") for n in range(3)] == [1, 1, 1]


def test_beat_sends_to_its_own_tool(one, two, tmp_path):
    beat = two.launch("beat", "-s", str(tmp_path / "schedule"), name="beat")
    wait_for("beat's tasks", lambda: two.raw.llen(two.wire("celery")) >= 2)
    assert one.ran("tick") == 0
    two.start("-E")
    wait_for("them to run", lambda: two.ran("tick") >= 3)
    beat.terminate()
    assert beat.wait(20) == 0
    assert one.ran("tick") == 0


def test_flower_shows_its_own_tool(one, two):
    pytest.importorskip("flower", reason="flower is not installed")
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"

    def ask(path):
        try:
            with urllib.request.urlopen(f"{url}/{path}", timeout=30) as answer:
                return json.load(answer)
        except (urllib.error.URLError, OSError):
            return None

    flower = one.launch(
        *("flower", "--address=127.0.0.1", f"--port={port}"), name="flower", FLOWER_UNAUTHENTICATED_API="1"
    )
    wait_for("Flower to know the worker", lambda: "worker@host" in (ask("workers?refresh=1") or ()))
    theirs = two.call("who", "theirs")
    ours = one.call("add", 20, 22)
    assert ours.get(timeout=20) == 42
    info = wait_for(
        "Flower to know the task",
        lambda: (found := ask(f"task/info/{ours.id}")) and found["state"] == "SUCCESS" and found,
    )
    assert (info["name"], info["result"]) == ("celery_tool.add", "42")
    assert theirs.id not in (ask("tasks") or {})
    workers = ask("workers?refresh=1")
    assert list(workers) == ["worker@host"]
    assert one.namespace.keyring.prefix not in json.dumps(workers)
    # What Flower can do to workers it does to those of its own tool.
    request = urllib.request.Request(f"{url}/worker/pool/grow/worker@host?n=1", data=b"", method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert "Growing" in json.load(answer)["message"]
    assert flower.poll() is None
