"""``tenantkv celery`` on a server with messages, workers and an old broker."""

from __future__ import annotations

import json
import os
import time

import pytest
from celery import Celery

from tenantkv.cli import main as cli
from tests.integration.celery_place import tool
from tests.neighbourhood import wait_for
from tests.servers import start_tcp


@pytest.fixture(scope="module")
def server():
    running = start_tcp("shared")
    yield running
    running.stop()


@pytest.fixture
def one(server, tmp_path, monkeypatch):
    with tool(server, tmp_path) as place:
        for name in [n for n in os.environ if n.startswith(("TENANTKV_", "TOOL_", "REDIS_"))]:
            monkeypatch.delenv(name)
        for name in ("TENANTKV_URL", "TENANTKV_SECRET_KEYRING"):
            monkeypatch.setenv(name, place.environment()[name])
        yield place


def run(capsys, *words):
    code = cli.main(["celery", *words])
    return code, capsys.readouterr().out


def test_queues_status_and_purge(one, capsys):
    for number in range(3):
        one.call("who", queue="reports", priority=9 if number else 0)
    code, text = run(capsys, "queues")
    assert code == 0
    assert [line.split()[:3] for line in text.splitlines()[1:]] == [["reports", "3", "0"]]
    one.raw.rpop(one.wire("reports"))
    code, text = run(capsys, "status", "--json", "--wait", "0.2")
    report = json.loads(text)
    assert code == 1
    assert report["queues"][0]["lost"] == 1 and report["queues"][0]["waiting"] == 2
    assert report["workers"] == []
    code, text = run(capsys, "purge", "reports")
    assert (code, text) == (0, "reports: 2 removed\n")
    assert run(capsys, "purge")[0] == 1


def test_workers_and_what_they_hold(one, capsys):
    one.start()
    one.call("who", "later", countdown=60)
    wait_for("the claim", lambda: one.raw.hlen(one.wire("unacked")))
    code, text = run(capsys, "status", "--wait", "3")
    assert code == 0
    assert "held by workers: 1, of these lapsed: 0" in text
    assert "workers that answer: worker@host" in text
    assert run(capsys, "workers", "--wait", "3")[1] == "worker@host\n"


def test_migrate_moves_what_is_named(one, server, capsys):
    source = server.tcp_url + "/5"
    old = Celery("tool", broker=source, set_as_current=False)
    for number in range(3):
        old.send_task("celery_tool.who", [f"moved{number}"])
    old.send_task("celery_tool.fail", ["planted"])
    raw = one.raw.__class__(port=server.port, db=5, protocol=2)
    raw.lpush("celery", "garbage")
    code, text = run(capsys, "migrate", "celery", "--from", source, "--task", "celery_tool.who")
    assert (code, text) == (0, "celery: 3 moved, 2 left\n")
    assert raw.llen("celery") == 2
    one.start()
    wait_for("all to run", lambda: all(one.ran(f"moved{n}") == 1 for n in range(3)))
    time.sleep(0.1)
    assert run(capsys, "migrate", "celery", "--from", source)[0] == 1
    assert run(capsys, "migrate", "celery")[0] == 1
    raw.close()
    old.close()
