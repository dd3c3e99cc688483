"""``tenantkv celery`` on a server with messages, workers and an old broker."""

from __future__ import annotations

import asyncio
import json
import os
import time

import pytest
from celery import Celery

from tenantkv.cli import main as cli
from tenantkv.contrib.channels import TenantChannelLayer
from tests.cli_program import check
from tests.integration.celery_place import tool
from tests.neighbourhood import wait_for
from tests.operating import SCHEMAS
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


def test_status_shows_queues_and_what_workers_hold(one, monkeypatch, capsys):
    def look(*words, code=0):
        assert cli.main(["status", "--over", "0", "--json", *words]) == code
        found = json.loads(capsys.readouterr().out)
        check(found, SCHEMAS["status"], "status")
        return found

    assert look()["snapshot"]["brokers"] == []
    for number in range(3):
        one.call("who", queue="reports", priority=9 if number else 0)
    one.call("who", "hunter2" * 20_000, queue="large")
    one.raw.lpush(one.wire("forged"), "garbage")
    one.raw.hset(one.wire("tkv:celery:ledger"), mapping={"forged": 3, b"\xff\x1b[2J": 1, "unread": "x"})
    before = one.server.dump()
    found = look("--no-usage", "--threshold", "queue-depth=3,", "--threshold", "queue-age=0,", code=1)
    assert one.server.dump() == before
    (broker,) = found["snapshot"]["brokers"]
    forged, large, reports, planted = broker["queues"]
    assert planted["depth"] == 0
    assert (forged["depth"], forged["lost"], forged["oldest_age"]) == (1, 2, None)
    # A large message is not fetched for its age.
    assert (large["depth"], large["oldest_age"]) == (1, None)
    assert (reports["depth"], reports["lost"]) == (3, 0) and 0 <= reports["oldest_age"] < 60
    assert {(each["check"], each["subject"]) for each in found["alarms"]} == {
        ("queue_depth", "celery:reports"),
        ("queue_age", "celery:reports"),
    }
    # What somebody holds, and has held for long without a word.
    one.raw.hset(one.wire("unacked"), mapping={"a": "x", "b": "x"})
    one.raw.zadd(one.wire("unacked_index"), {"a": time.time(), "b": time.time() - 100})
    assert cli.main(["status", "--over", "0", "--no-usage", "--threshold", "unacked=2,"]) == 1
    text = capsys.readouterr().out
    assert "celery workers hold 2 messages" in text and "reports" in text
    (broker,) = look("--no-usage")["snapshot"]["brokers"]
    assert (broker["unacked"], broker["lapsed"]) == (2, 1)


def test_status_of_what_somebody_retyped(one, capsys):
    for name in ("tkv:celery:ledger", "unacked", "unacked_index", "tkv:chan:index"):
        one.raw.set(one.wire(name), "x")
    assert cli.main(["status", "--over", "0", "--no-usage", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["snapshot"]["brokers"] == []


@pytest.mark.parametrize("settings", ["", "seal=yes&names=hidden"])
def test_status_shows_channels(one, monkeypatch, capsys, settings):
    """Also where the tenant's own names are hidden and its values sealed."""
    monkeypatch.setenv("TENANTKV_URL", f"{one.server.tcp_url}?{settings}")
    layer = TenantChannelLayer(one.server.tcp_url, namespace=one.namespace)

    async def send():
        for _ in range(2):
            await layer.send("thumbnails", {"type": "n"})
            await layer.send(await layer.new_channel(), {"type": "n"})
        await layer.group_add("room", "thumbnails")
        await layer.close_pools()

    asyncio.run(send())
    assert cli.main(["status", "--over", "0", "--no-usage", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (broker,) = found["snapshot"]["brokers"]
    assert [(each["name"], each["depth"]) for each in broker["queues"]] == [("*!", 2), ("thumbnails", 2)]
    assert all(0 <= each["oldest_age"] < 60 for each in broker["queues"])
