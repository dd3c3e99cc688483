"""``tenantkv status`` as a process: what it sees, when it raises an alarm, and that it changes nothing."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import tenantkv
from tests.cli_program import Program, check
from tests.neighbourhood import wait_for
from tests.operating import SCHEMAS, help_has_an_example, note, report
from tests.servers import RealServer, start_server
from tests.topologies import start_cluster, start_sentinel

HOSTILE = 'evil"\\\n\x1b[2J\u202e'
ONCE = ("--over", "0")


@pytest.fixture
def program(tmp_path: Path, shared_server: RealServer) -> Program:
    return Program(tmp_path, shared_server.url)


@pytest.fixture
def kv(program: Program) -> Iterator[Any]:
    with program.connect() as client:
        yield client


def fill(kv: Any, name: str = "thumbs", **options: Any) -> Any:
    queue = kv.queue(name, **options)
    queue.send_many([{"page": number} for number in range(12)])
    queue.send("later", delay=1000)
    queue.bury(queue.receive())
    queue.receive()
    note(kv, "queue", name)
    return queue


def test_what_is_seen(program: Program, kv: Any, shared_server: RealServer) -> None:
    fill(kv)
    kv.set("a", "1", ex=100)
    with kv.lock("rebuild", lease=30), kv.semaphore("api", 5), kv.read_write_lock("report").read():
        found = report(program, "status", *ONCE)
    seen = found["snapshot"]
    (queue,) = seen["queues"]
    assert {name: queue[name] for name in ("ready", "delayed", "in_flight", "dead", "sent")} == {
        "ready": 10,
        "delayed": 1,
        "in_flight": 1,
        "dead": 1,
        "sent": 13,
    }
    assert {(each["name"], each["mode"], each["holders"]) for each in seen["locks"]} == {
        ("rebuild", "held", 1),
        ("api", "held", 1),
        ("report", "read", 1),
    }
    assert seen["load"]["version"] == shared_server.version and seen["latency"]["count"] == 20
    assert seen["own"]["source"] == "registry" and seen["own"]["keys"] > 5
    assert found["severity"] == "ok"


def test_on_every_server(tmp_path: Path, any_server: RealServer) -> None:
    program = Program(tmp_path, any_server.url)
    with program.connect() as kv:
        fill(kv)
        with kv.lock("rebuild"):
            seen = report(program, "status", *ONCE)["snapshot"]
    assert seen["queues"][0]["ready"] == 10 and seen["locks"][0]["mode"] == "held"
    assert seen["own"]["source"] == "scan" and seen["load"]["product"] == any_server.product


def test_looking_changes_nothing(program: Program, kv: Any, shared_server: RealServer) -> None:
    queue = kv.queue("thumbs", visibility=0.05, max_deliveries=1)
    queue.send_many(["a", "b"])
    queue.receive()
    # After it, which would move what is due.
    queue.send("due", delay=0.01)
    with kv.lock("rebuild"):
        pass
    note(kv, "queue", "thumbs")
    time.sleep(0.1)
    before = {name: value for name, (value, _) in shared_server.dump().items()}
    # Counting own keys reads the registry, which then tidies itself.
    found = report(program, "status", *ONCE, "--no-usage")
    after = {name: value for name, (value, _) in shared_server.dump().items()}
    # The delivery is over and the delayed message due, and a queue's own calls would see to both.
    assert found["snapshot"]["queues"][0]["overdue"] == 1 and found["snapshot"]["queues"][0]["delayed"] == 1
    assert after == before


def test_alarms_and_exit_codes(program: Program, kv: Any) -> None:
    fill(kv)
    warned = report(program, "status", *ONCE, "--threshold", "queue-depth=10,100", code=1)
    assert [(each["check"], each["subject"], each["severity"]) for each in warned["alarms"]] == [
        ("queue_depth", "thumbs", "warn")
    ]
    report(program, "status", *ONCE, "--threshold", "queue-depth=1,10", "--no-usage", code=2)
    assert program.run("status", "--threshold", "nonsense=1").returncode == 3
    done = program.run("status", *ONCE, "--threshold", "queue-dead=1,")
    assert done.returncode == 1 and b"warn: queue 'thumbs' has 1 dead letters" in done.stdout


def test_queues_that_are_named(program: Program, kv: Any) -> None:
    kv.queue("unlisted").send("x")
    found = report(program, "status", *ONCE, "--queue", "unlisted", "--queue", "nothing")
    assert [(each["name"], each["exists"]) for each in found["snapshot"]["queues"]] == [
        ("unlisted", True),
        ("nothing", False),
    ]


def test_evictions_since_the_last_run(tmp_path: Path) -> None:
    server = start_server("shared", extra_config={"maxmemory": "4mb"})
    try:
        program = Program(tmp_path, server.url)
        words = ("status", "--state", "state.json", "--threshold", "memory=,", "--no-usage")
        report(program, *words)
        for number in range(100):
            server.operator().set(f"n{number}", b"x" * 100_000)
        found = report(program, *words, code=2)
        assert found["change"]["evicted"] >= 10 and found["alarms"][0]["check"] == "evicted"
        assert report(program, *words)["change"]["evicted"] == 0
    finally:
        server.stop()


def test_hostile_names(program: Program, kv: Any) -> None:
    fill(kv, HOSTILE)
    with kv.lock(HOSTILE), kv.lock(b"\xff\x00"):
        names = {each["name"] for each in report(program, "status", *ONCE)["snapshot"]["locks"]}
        shown = program.run("status", *ONCE).stdout
        metrics = program.run("status", *ONCE, "--prometheus").stdout.decode()
    assert HOSTILE in names and "\udcff\x00" in names
    assert b"\x1b" not in shown and "\u202e" not in shown.decode()
    families = {family.name for family in text_string_to_metric_families(metrics)}
    assert "tenantkv_lock_holders" in families


def test_forged_and_replaced_keys(program: Program, kv: Any, shared_server: RealServer) -> None:
    fill(kv)
    lock, semaphore = kv.lock("rebuild").take(), kv.semaphore("api", 2).take()
    try:
        for key in shared_server.dump_keys():
            if (
                not key.startswith(program.namespace.wire_prefix + b"__tenantkv__")
                and b"directory" not in key
            ):
                shared_server.operator().set(key, "nonsense", ex=60)
        found = report(program, "status", *ONCE, code=None)
    finally:
        for lease in (lock, semaphore):
            with contextlib.suppress(tenantkv.LeaseLostError):
                lease.release()
    assert {each["mode"] for each in found["snapshot"]["locks"]} <= {"held", "foreign"}
    assert found["snapshot"]["queues"][0]["ready"] == 0


def test_watching_goes_on_while_the_server_is_away(tmp_path: Path) -> None:
    server = start_server("shared")
    program = Program(tmp_path, server.url)
    watching = program.start(
        *("status", "--watch", "0.2", "--json", "--no-usage"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert watching.stdout is not None
    try:
        first = json.loads(watching.stdout.readline())
        check(first, SCHEMAS["status"], "status")
        server.kill()
        while (found := json.loads(watching.stdout.readline()))["snapshot"] is not None:
            pass
        assert first["severity"] == "ok" and found["severity"] == "fail" and found["error"]
    finally:
        watching.kill()
        watching.wait()
        server.stop()


def test_watching_so_many_times(program: Program) -> None:
    done = program.run("status", "--watch", "0.05", "--count", "3", "--no-usage")
    assert done.returncode == 0 and done.stdout.count(b"-- ") == 3


def test_no_server(program: Program) -> None:
    program.environ["TENANTKV_URL"] = "redis://127.0.0.1:1"
    assert report(program, "status", *ONCE, code=2)["snapshot"] is None
    done = program.run("status", *ONCE, "--prometheus")
    assert done.returncode == 2 and done.stdout.endswith(b"\ntenantkv_up 0\n")
    del program.environ["TENANTKV_URL"]
    assert program.run("status").returncode == 3
    program.environ["TENANTKV_SECRET_KEYRING_FILE"] = "/nonexistent"
    program.environ["TENANTKV_URL"] = "redis://127.0.0.1:1"
    assert program.run("status").returncode == 3


def test_half_the_commands_missing(tmp_path: Path) -> None:
    for gone, code in ((["MEMORY", "OBJECT", "SCAN", "TTL"], 0), (["TIME", "EVAL", "EVALSHA"], 2)):
        server = start_server(extra_config={"rename-command": [f'{name} ""' for name in gone]})
        try:
            place = tmp_path / gone[0]
            place.mkdir()
            found = report(Program(place, server.url), "status", *ONCE, "--queue", "q", code=code)
            assert bool(found["error"]) == (code == 2)
        finally:
            server.stop()


def test_a_reader_that_goes_away(program: Program) -> None:
    watching = program.start(
        "status", "--watch", "0.05", "--no-usage", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert watching.stdout is not None and watching.stderr is not None
    watching.stdout.readline()
    watching.stdout.close()
    wait_for("the end of a program without a reader", lambda: watching.poll() is not None)
    assert watching.returncode == 1 and b"Traceback" not in watching.stderr.read()


@pytest.mark.topology
def test_a_cluster(tmp_path: Path) -> None:
    with start_cluster() as cluster:
        program = Program(tmp_path, cluster.url.replace("redis://", "redis+cluster://"))
        with tenantkv.connect(program.url, keyring=program.ring) as kv:
            fill(kv)
            lock, semaphore = kv.lock("rebuild").take(), kv.semaphore("api", 2).take()
            seen = report(program, "status", *ONCE)["snapshot"]
            assert seen["load"]["role"] == "3 primaries" and seen["load"]["keys"] >= 6
            assert seen["queues"][0]["ready"] == 10 and seen["own"]["keys"] >= 6
            assert {each["mode"] for each in report(program, "lock", "ls")} == {"held"}
            assert report(program, "lock", "break", "rebuild", "--yes")["ended"]
            report(program, "queue", "purge", "thumbs", "--yes")
            checks = {each["check"] for each in report(program, "doctor", "--no-files", code=2)["findings"]}
            assert "server.eviction" in checks
            semaphore.release()
            with contextlib.suppress(tenantkv.LeaseLostError):
                lock.release()


@pytest.mark.topology
def test_sentinels(tmp_path: Path) -> None:
    with start_sentinel() as sentinel:
        program = Program(tmp_path, f"sentinel://{sentinel.url}/{sentinel.service_name}/0")
        assert report(program, "status", *ONCE)["snapshot"]["load"]["role"] == "master"
        found = report(program, "doctor", "--no-files", "--only", "server", code=None)["findings"]
        (role,) = [each for each in found if each["check"] == "server.role"]
        assert role["severity"] == "ok"


def test_help() -> None:
    help_has_an_example("status")
