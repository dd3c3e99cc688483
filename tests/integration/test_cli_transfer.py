"""``tenantkv export`` and ``import`` as processes: everything comes back, and nothing that was changed."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli_program import Program, neighbours_names
from tests.neighbourhood import wait_for
from tests.servers import RealServer

BINARY = b"name\xff\x00\x1b[2J"


@pytest.fixture(params=["shared", pytest.param("open", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest) -> RealServer:
    return request.getfixturevalue(f"{request.param}_server")


@pytest.fixture
def program(tmp_path: Path, server: RealServer) -> Program:
    return Program(tmp_path, server.url)


@pytest.fixture
def client(program: Program) -> Iterator[Any]:
    with program.connect() as kv:
        yield kv


def fill(client: Any) -> None:
    client.set("s", "hello", ex=5000)
    client.set(BINARY, bytes(range(256)))
    client.hset("h", mapping={"a": "1", "b": "2"})
    client.rpush("l", *range(200))
    client.sadd("set", 1, 2, 3)
    client.zadd("z", {"m": 1.5})
    client.xadd("x", {"f": "v"}, id="1-1")
    # Longer than a frame, so that it goes in parts; and not to be compressed.
    client.set("long", os.urandom(3_500_000))
    client.queue("work").send("message")


def contents(program: Program, server: RealServer) -> dict[bytes, tuple[bytes, bool]]:
    """Return the tenant's keys but for the registry: serialized value, and whether it expires."""
    prefix = program.namespace.wire_prefix
    return {
        name: (value, expiry > 0)
        for (_, name), (value, expiry) in server.dump().items()
        if name.startswith(prefix) and b"__tenantkv__" not in name
    }


@pytest.mark.parametrize("server", ["shared", "open"], indirect=True)
def test_there_and_back(program: Program, client: Any, server: RealServer) -> None:
    fill(client)
    neighbours = neighbours_names(server)
    before = contents(program, server)
    report = program.json("export", "all.tkv")
    path = program.home / "all.tkv"
    assert report["keys"] == len(before) and report["bytes"] == path.stat().st_size
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and not (program.home / "all.tkv.part").exists()
    text = path.read_bytes()
    assert b"hello" not in text and BINARY not in text and program.ring.prefix.encode() not in text
    assert program.json("clear", "--yes")["deleted"] > 0
    assert program.json("clear", "--only", "queue:work", "--yes")["deleted"] > 0
    client.set("s", "newer")
    dry = program.json("import", "all.tkv", "--dry-run")
    assert dry["keys"] == len(before) and dry["made"] == 0 and client.get("h2") is None
    # What was written anew, and the list of hidden names, which `clear` leaves.
    there = len(contents(program, server))
    kept = program.json("import", "all.tkv", code=3)
    assert kept["made"] == len(before) - there and kept["kept"] == there and client.get("s") == b"newer"
    again = program.json("import", "all.tkv", "--overwrite")
    assert again["made"] == len(before) and again["failed"] == 0
    assert contents(program, server) == before
    assert 4000 < client.ttl("s") <= 5000
    assert client.queue("work").receive(visibility=60).value == "message"
    assert set(neighbours) <= server.dump_keys()
    assert {key["name"] for key in program.json("keys", "[shlzx]*")["keys"]} >= {
        "s",
        "h",
        "l",
        "set",
        "z",
        "x",
    }


def test_sealed_values_and_hidden_names(tmp_path: Path, shared_server: RealServer) -> None:
    program = Program(tmp_path, shared_server.url, {"seal": "yes", "names": "hidden"})
    with program.connect() as kv:
        kv.set("user:7", "Ada", ex=1000)
        kv.hset("session", mapping={"pin": "4711"})
        assert program.json("export", "all.tkv", "--pattern", "user:*")["keys"] == 1
        assert program.json("export", "rest.tkv")["keys"] == 2
        assert program.json("clear", "--yes")["deleted"] == 2
        assert program.json("import", "rest.tkv")["made"] == 2
        assert kv.get("user:7") == b"Ada" and kv.hgetall("session") == {b"pin": b"4711"}
        assert sorted(kv.keys()) == [b"session", b"user:7"]


def test_what_expired_meanwhile_is_left_out(program: Program, client: Any) -> None:
    client.set("short", "x", px=1500)
    client.set("long", "x")
    assert program.json("export", "a.tkv")["keys"] == 2
    wait_for("its end", lambda: not client.exists("short"))
    report = program.json("import", "a.tkv", "--overwrite")
    assert (report["made"], report["expired"]) == (1, 1) and not client.exists("short")


def test_another_namespace_or_child(program: Program, client: Any, tmp_path: Path) -> None:
    client.set("a", 1)
    program.json("export", "a.tkv")
    place = tmp_path / "other"
    place.mkdir()
    other = Program(place, program.url)
    for who, words in ((other, []), (program, ["--child", "web"])):
        done = who.run("import", str(program.home / "a.tkv"), *words)
        assert done.returncode == 1 and b"another namespace or child" in done.stderr
    assert not other.shows_a_secret(done)


# `tests/unit/test_cli_keys.py` does the same without processes.
@pytest.mark.slow
def test_whatever_is_changed_imports_nothing(program: Program, client: Any) -> None:
    fill(client)
    program.json("export", "a.tkv")
    program.json("export", "b.tkv")
    whole, other = (program.home / "a.tkv").read_bytes(), (program.home / "b.tkv").read_bytes()
    program.json("clear", "--yes")
    count = len(client.keys())
    wrong = {
        "empty": b"",
        "text": b"something else\n" * 10,
        "half": whole[: len(whole) // 2],
        "without its end": whole[: whole.rindex(whole[-40:]) - 20],
        "one byte less": whole[:-1],
        "more": whole + b"x",
        "flipped": whole[:2_000_000] + bytes([whole[2_000_000] ^ 1]) + whole[2_000_001:],
        "id of another": whole[:20] + other[20:34] + whole[34:],
        "end of another": whole[:1_500_000] + other[1_500_000:],
        "long frame": whole[:34] + b"\xff\xff\xff\x7f" + whole[38:],
    }
    for what, text in wrong.items():
        (program.home / "c.tkv").write_bytes(text)
        done = program.run("import", "c.tkv")
        assert done.returncode == 1 and b"Traceback" not in done.stderr, what
        assert len(client.keys()) == count, what
    assert program.run("import", "nothing.tkv").returncode == 1
    assert program.run("import", "/dev/stdin", stdin=whole).returncode == 1


def test_an_interrupted_export_goes_on(program: Program, client: Any) -> None:
    with client.pipeline(transaction=False) as lot:
        for number in range(400):
            lot.set(f"k:{number:03}", os.urandom(20_000))
        lot.execute()
    part = program.home / "a.tkv.part"
    process = program.start("export", "a.tkv", stdout=-1, stderr=-1)
    wait_for("a part", lambda: part.exists() and part.stat().st_size > 1_500_000)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("it was done before the interrupt came")
    assert process.returncode == 130 and b"Run it again" in errors and part.exists()
    refused = program.run("import", "a.tkv.part")
    assert refused.returncode == 1 and b"cut off" in refused.stderr
    # And once more by a crash: a frame that was not written to its end.
    os.truncate(part, part.stat().st_size - 7)
    other = program.run("export", "a.tkv", "--pattern", "k:1*")
    assert other.returncode == 1 and b"another pattern" in other.stderr
    report = program.json("export", "a.tkv")
    assert report["keys"] == 400 and report["resumed"] > 20 and not part.exists()
    assert program.json("import", "a.tkv", "--dry-run")["keys"] == 400


def test_a_full_disk(program: Program, client: Any) -> None:
    for number in range(60):
        client.set(f"k:{number:03}", os.urandom(50_000))
    device = program.run("export", "/dev/full")
    assert device.returncode == 1 and b"/dev/full: No space left" in device.stderr
    with open("/dev/full", "wb") as full:
        done = program.run("export", "-", stdout=full)
    assert done.returncode == 1 and b"No space left" in done.stderr and b"Traceback" not in done.stderr
    # A limit of the process's own is what a quota looks like.
    small = program.run("export", "a.tkv", preexec_fn=limit_files)
    assert small.returncode == 1 and b"a.tkv: " in small.stderr and b"Run it again" in small.stderr
    assert not (program.home / "a.tkv").exists()
    report = program.json("export", "a.tkv")
    assert report["keys"] == 60 and 0 < report["resumed"] < 60
    assert program.json("import", "a.tkv", "--dry-run")["keys"] == 60


def limit_files() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_300_000, 2_300_000))


def test_standard_output_and_files_that_are_there(program: Program, client: Any) -> None:
    client.set("a", 1)
    done = program.run("export", "-")
    (program.home / "piped.tkv").write_bytes(done.stdout)
    assert program.json("import", "piped.tkv", "--overwrite")["made"] == 1
    again = program.run("export", "piped.tkv")
    assert again.returncode == 1 and b"exists" in again.stderr
    (program.home / "aim").write_text("precious")
    (program.home / "b.tkv.part").symlink_to("aim")
    assert program.run("export", "b.tkv").returncode == 1
    (program.home / "c.tkv.part").write_text("somebody's notes")
    foreign = program.run("export", "c.tkv")
    assert foreign.returncode == 1 and b"no export" in foreign.stderr
    assert (program.home / "aim").read_text() == "precious"
    assert (program.home / "c.tkv.part").read_text() == "somebody's notes"


def test_two_at_once(program: Program, client: Any) -> None:
    client.set("a", 1)
    part = program.home / "a.tkv.part"
    hold = "import fcntl, sys, time; file = open(sys.argv[1], 'w'); fcntl.flock(file, 2); "
    hold += "print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", hold, str(part)], stdout=-1)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    done = program.run("export", "a.tkv")
    holder.kill()
    holder.communicate()
    assert done.returncode == 1 and b"another export" in done.stderr
    assert program.json("export", "a.tkv")["keys"] == 1


def test_a_key_that_the_server_does_not_take(program: Program, client: Any, server: RealServer) -> None:
    from tenantkv.cli.transfer_file import Frames, Writer, new_id
    from tenantkv.ops.transfer import NEVER, Record

    client.set("good", "x")
    with open(program.home / "a.tkv", "wb") as file:
        writer = Writer(file, Frames(program.namespace, new_id()))
        writer.begin({"created": time.time(), "pattern": "*"})
        good = server.operator().dump(program.namespace.wire_name(b"good"))
        writer.write([Record(b"bad", NEVER, b"no dump"), Record(b"fine", NEVER, good)])
        writer.end()
    report = program.json("import", "a.tkv", code=1)
    assert (report["made"], report["failed"]) == (1, 1) and "payload" in report["errors"][0]
