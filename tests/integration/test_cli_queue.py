"""``tenantkv queue`` as a process: what it lists and shows, and what its actions do and do not do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli_program import Program, neighbours_names
from tests.operating import help_has_an_example, note, report
from tests.servers import RealServer, start_server

SECRET = "tr0ub4dor-and-3"
HOSTILE = "evil\x1b[2J\u202e\n"


@pytest.fixture
def server(shared_server: RealServer) -> RealServer:
    return shared_server


@pytest.fixture
def program(tmp_path: Path, server: RealServer) -> Program:
    return Program(tmp_path, server.url)


@pytest.fixture
def kv(program: Program) -> Iterator[Any]:
    with program.connect() as client:
        yield client


@pytest.fixture
def queue(kv: Any) -> Any:
    queue = kv.queue("thumbs", seal=True)
    queue.send_many([{"password": SECRET, "page": number} for number in range(5)])
    for _ in range(2):
        queue.bury(queue.receive(), why="broken")
    note(kv, "queue", "thumbs")
    return queue


@pytest.mark.usefixtures("queue")
def test_listing(program: Program) -> None:
    (found,) = report(program, "queue", "ls")
    assert (found["name"], found["ready"], found["dead"], found["sent"]) == ("thumbs", 3, 2, 5)
    listed = report(program, "queue", "ls", "nothing")
    assert [(each["name"], each["exists"]) for each in listed] == [("nothing", False), ("thumbs", True)]
    assert b"thumbs" in program.run("queue", "ls").stdout


def test_nothing_to_list(program: Program) -> None:
    assert report(program, "queue", "ls") == []
    done = program.run("queue", "ls")
    assert done.returncode == 0 and b"No queue has noted itself" in done.stderr


@pytest.mark.usefixtures("queue")
def test_values_show_only_when_asked_for(program: Program) -> None:
    found = report(program, "queue", "peek", "thumbs", "-n", "2")
    assert [each["value"] for each in found] == [None, None] and found[0]["is_readable"]
    for words in (("--json",), ()):
        assert SECRET.encode() not in program.run("queue", "peek", "thumbs", *words).stdout
        assert SECRET.encode() in program.run("queue", "peek", "thumbs", "--reveal", *words).stdout
    (dead, _) = report(program, "queue", "peek", "thumbs", "--where", "dead")
    assert dead["why"] == "broken" and dead["where"] == "dead"
    assert report(program, "queue", "peek", "thumbs", "--where", "delayed") == []


def test_hostile_values_and_names(program: Program, kv: Any) -> None:
    kv.queue(HOSTILE).send({"text": HOSTILE})
    note(kv, "queue", HOSTILE)
    shown = program.run("queue", "ls").stdout + program.run("queue", "peek", HOSTILE, "--reveal").stdout
    assert b"\x1b" not in shown and "\u202e" not in shown.decode()
    (found,) = report(program, "queue", "peek", HOSTILE, "--reveal")
    assert found["value"] == {"text": HOSTILE}


def test_any_kind_of_value(program: Program, kv: Any) -> None:
    queue = kv.queue("odd", pickle=True)
    queue.send_many([b"\xff\x00", {1, 2}, None, "x" * 200_000])
    found = report(program, "queue", "peek", "odd", "--reveal")
    assert [each["value"] for each in found[:3]] == [{"base64": "/wA="}, "{1, 2}", None]
    assert len(found[3]["value"]) == 200_000


def test_what_does_not_open(program: Program, kv: Any, queue: Any, server: RealServer) -> None:
    body = program.namespace.wire_name(queue.core.keys.core[2])
    for message_id in server.operator().hkeys(body):
        server.operator().hset(body, message_id, b"forged")
    assert {each["is_readable"] for each in report(program, "queue", "peek", "thumbs", "--reveal")} == {False}


def test_pausing(program: Program, queue: Any) -> None:
    assert report(program, "queue", "pause", "thumbs")["action"] == "pause"
    assert queue.receive() is None and report(program, "queue", "ls")[0]["is_paused"]
    report(program, "queue", "resume", "thumbs")
    assert queue.receive() is not None


def test_redriving(program: Program, queue: Any) -> None:
    dead = [each.id for each in queue.peek("dead")]
    assert report(program, "queue", "redrive", "thumbs", "--id", dead[1])["messages"] == 1
    assert [each.id for each in queue.peek("dead")] == [dead[0]]
    assert report(program, "queue", "redrive", "thumbs", "--most", "10")["messages"] == 1
    assert queue.metrics().ready == 5


def test_purging_asks(program: Program, queue: Any, server: RealServer) -> None:
    theirs = neighbours_names(server)
    done = program.run("queue", "purge", "thumbs")
    assert done.returncode == 1 and b"say --yes" in done.stderr and queue.metrics().ready == 3
    assert report(program, "queue", "purge", "thumbs", "--dead", "--yes")["messages"] == 2
    assert queue.metrics().ready == 3 and queue.metrics().dead == 0
    assert report(program, "queue", "purge", "thumbs", "--yes")["messages"] == 3
    assert queue.metrics().ready == 0
    assert all(server.operator().get(name) == value for name, value in theirs.items())


def test_a_queue_keeps_its_own_bounds(program: Program, kv: Any) -> None:
    """Looking with other settings must not bury what the queue's own would deliver again."""
    queue = kv.queue("patient", visibility=0.05, max_deliveries=1000)
    queue.send("x")
    for _ in range(8):
        assert queue.receive(wait=5) is not None
    report(program, "queue", "peek", "patient")
    report(program, "queue", "pause", "patient")
    report(program, "queue", "resume", "patient")
    assert queue.receive(wait=5) is not None and queue.metrics().dead == 0


def test_a_queue_that_does_not_exist_is_not_made(program: Program, server: RealServer) -> None:
    for words in (("peek",), ("pause",), ("resume",), ("redrive",), ("purge", "--yes")):
        done = program.run("queue", words[0], "typo", *words[1:])
        assert done.returncode == 1 and b"there is no queue 'typo'" in done.stderr
    assert not any(b"tkv:queue" in name for name in server.dump_keys())


def test_losses_are_told(program: Program, kv: Any, queue: Any, server: RealServer) -> None:
    server.operator().delete(program.namespace.wire_name(queue.core.keys.core[3]))
    done = program.run("queue", "peek", "thumbs")
    assert done.returncode == 0 and b"warning: queue 'thumbs'" in done.stderr


def test_bad_input(program: Program) -> None:
    assert program.run("queue").returncode == 2 and program.run("queue", "peek").returncode == 2
    assert program.run("queue", "ls", "x" * 1000).returncode in (0, 1)
    assert program.run("queue", "peek", "").returncode == 1
    program.environ["TENANTKV_URL"] = "redis://127.0.0.1:1"
    done = program.run("queue", "ls")
    assert done.returncode == 1 and b"the server" in done.stderr and b"Traceback" not in done.stderr


def test_a_server_without_scripts(tmp_path: Path) -> None:
    server = start_server(extra_config={"rename-command": ['EVAL ""', 'EVALSHA ""']})
    try:
        done = Program(tmp_path, server.url).run("queue", "ls", "q")
        assert done.returncode == 1 and b"Traceback" not in done.stderr
    finally:
        server.stop()


def test_help() -> None:
    for words in ((), ("ls",), ("peek",), ("purge",), ("redrive",), ("pause",), ("resume",)):
        help_has_an_example("queue", *words)
