"""``tenantkv keys``, ``get``, ``set`` and their kin, ``usage``, ``clear``, ``exec``, ``shell``: as processes,
on a server with the shared profile, where names come from the registry, and on an open one.
"""

from __future__ import annotations

import base64
import json
import os
import pty
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tenantkv.cli.main import main
from tenantkv.ops.queue_keys import queue_keys
from tests.cli_program import Program, neighbours_names
from tests.neighbourhood import wait_for
from tests.servers import RealServer

HOSTILE = b"evil\x1b]0;title\x07\x1b[2J\xff"
TOKEN = b"ghp_" + b"x1Y2" * 9
COMMANDS = [
    *("keys", "get", "set", "ttl", "expire", "del", "rename", "type", "dump", "load"),
    *("usage", "clear", "exec", "shell", "acl", "export", "import"),
]


BOTH = pytest.mark.parametrize("server", ["shared", "open"], indirect=True)


@pytest.fixture(params=["shared", pytest.param("open", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest) -> RealServer:
    return request.getfixturevalue(f"{request.param}_server")


@pytest.fixture
def program(tmp_path: Path, server: RealServer) -> Program:
    return Program(tmp_path, server.url)


@pytest.fixture
def sealed(tmp_path: Path, shared_server: RealServer) -> Program:
    return Program(tmp_path, shared_server.url, {"seal": "yes"})


@pytest.fixture
def client(program: Program) -> Iterator[Any]:
    with program.connect() as kv:
        yield kv


class TestKeys:
    @BOTH
    def test_own_keys_and_no_others(self, program: Program, client: Any, server: RealServer) -> None:
        neighbours_names(server)
        client.set("user:1", "x" * 300, ex=100)
        client.set("user:2", "x")
        client.hset("page:1", mapping={str(n): "y" * 50 for n in range(100)})
        client.set(HOSTILE, "z")
        report = program.json("keys")
        assert {os.fsencode(key["name"]) for key in report["keys"]} == {
            b"user:1",
            b"user:2",
            b"page:1",
            HOSTILE,
        }
        assert report["source"] == ("registry" if server.profile else "scan")
        by_name = {key["name"]: key for key in report["keys"]}
        assert by_name["user:1"]["ttl"] == pytest.approx(100, abs=60) and by_name["user:2"]["ttl"] is None
        assert by_name["page:1"]["type"] == "hash" and by_name["page:1"]["bytes"] > 1000
        largest = program.json("keys", "--sort", "size", "--limit", "1")
        assert [key["name"] for key in largest["keys"]] == ["page:1"] and largest["total"] == 4
        immortal = program.json("keys", "user:*", "--immortal")
        assert [key["name"] for key in immortal["keys"]] == ["user:2"]
        assert program.run("keys", "user:*", "--null").stdout == b"user:1\0user:2\0"
        table = program.run("keys")
        assert b"\x1b" not in table.stdout and rb"\x1b]0;title\x07" in table.stdout
        assert not program.shows_a_secret(table) and b"neighbour" not in table.stdout

    def test_a_child_is_by_itself(self, program: Program, client: Any) -> None:
        client.set("parent", 1)
        client.child("web").child("a").set("grandchild", 1)
        report = program.json("keys", "--child", "web", "--child", "a")
        assert [key["name"] for key in report["keys"]] == ["grandchild"] and report["child"] == ["web", "a"]
        assert [key["name"] for key in program.json("keys")["keys"]] == ["parent"]

    def test_no_registry_yet(self, tmp_path: Path, shared_server: RealServer) -> None:
        program = Program(tmp_path, shared_server.url)
        done = program.run("keys")
        assert done.returncode == 0 and b"TENANTKV_REGISTRY=1" in done.stderr
        program.environ["TENANTKV_REGISTRY"] = "0"
        done = program.run("keys")
        assert done.returncode == 1 and b"TENANTKV_REGISTRY=1" in done.stderr
        assert b"Traceback" not in done.stderr


class TestValues:
    def test_there_and_back(self, program: Program) -> None:
        value = bytes(range(256)) * 10
        assert program.run("set", "a", "--ttl", "50", stdin=value).returncode == 0
        assert program.run("get", "a").stdout == value
        assert 0 < program.json("ttl", "a")["ttl"] <= 50
        assert program.json("expire", "a", "--never")["changed"] == 1
        assert program.json("ttl", "a")["ttl"] is None
        assert program.json("rename", "a", "b")["changed"] == 1
        assert program.json("type", "b")["type"] == "string"
        dumped = program.run("dump", "b").stdout
        assert program.json("load", "c", "--ttl", "9", stdin=dumped)["changed"] == 1
        assert program.run("load", "c", stdin=dumped).returncode == 3
        assert program.run("get", "c").stdout == value
        assert base64.b64decode(program.json("dump", "b")["dump"]) == dumped
        assert program.json("del", "b", "c", "nothing")["changed"] == 2
        assert program.json("get", "b", code=3)["value"] is None
        assert program.json("type", "b", code=3)["type"] == "none"
        assert program.run("rename", "b", "c").returncode == 3
        assert program.run("expire", "b", "5").returncode == 3
        assert program.run("dump", "b").returncode == 3

    def test_every_type_is_shown(self, program: Program, client: Any) -> None:
        client.hset("h", mapping={"f": "v", "g": HOSTILE})
        client.rpush("l", *range(250))
        client.sadd("s", "m")
        client.zadd("z", {"m": 1.5})
        client.xadd("x", {"f": "v"}, id="1-1")
        assert program.json("get", "z")["value"] == [["m", "1.5"]]
        assert program.json("get", "s")["value"] == [["m"]]
        assert program.json("get", "x")["value"] == [["1-1", "f", "v"]]
        report = program.json("get", "l", "--limit", "230")
        assert report["size"] == 250 and report["value"] == [[str(n)] for n in range(230)]
        assert len(program.json("get", "l", "--limit", "0")["value"]) == 250
        shown = program.run("get", "h")
        assert b"\x1b" not in shown.stdout and rb"\x1b[2J" in shown.stdout
        assert program.run("get", "h", "f").stdout == b"v"

    def test_what_looks_like_a_secret_is_refused(self, program: Program) -> None:
        refused = program.run("set", "conf", stdin=TOKEN)
        assert refused.returncode == 1 and b"github-token" in refused.stderr
        assert b"--seal" in refused.stderr and b"tenantkv.Secret" not in refused.stderr
        assert TOKEN not in refused.stderr + refused.stdout
        field = program.run("set", "conf", "--field", "f", stdin=TOKEN)
        assert field.returncode == 1 and b"--plaintext-ok" in field.stderr
        assert program.json("type", "conf", code=3)["type"] == "none"
        assert program.run("set", "conf", "--plaintext-ok", "a sample", stdin=TOKEN).returncode == 0
        assert program.run("set", "conf", "--seal", "--line", stdin=TOKEN + b"\n").returncode == 0
        hidden = program.run("get", "conf")
        assert hidden.returncode == 1 and b"--reveal" in hidden.stderr and TOKEN not in hidden.stdout
        assert program.run("get", "conf", "--reveal").stdout == TOKEN
        report = program.json("get", "conf")
        assert report["sealed"] == 1 and TOKEN.decode() not in report["value"]
        assert TOKEN not in program.run("exec", "--", "GET", "conf").stdout
        assert program.run("exec", "--reveal", "--", "GET", "conf").stdout == TOKEN

    def test_a_sealed_namespace(self, sealed: Program) -> None:
        assert sealed.run("set", "h", "--field", "pin", stdin=TOKEN).returncode == 0
        assert sealed.json("get", "h")["value"] == [["pin", f"(sealed, {len(TOKEN)} bytes)"]]
        assert sealed.json("get", "h", "--reveal")["value"] == [["pin", TOKEN.decode()]]
        with sealed.connect() as kv:
            kv.sadd("s", "one", "two")
            shown = sealed.run("shell", stdin=b"SMEMBERS s\nHGETALL h\nEVAL 'return 1' 0\n").stdout
            assert shown.count(b"(sealed, ") == 3 and b"one" not in shown and TOKEN not in shown
            kv.using(names="plain").execute_command("RESTORE", "h2", 0, kv.dump("h"))
        moved = sealed.run("get", "h2", "--reveal")
        assert moved.returncode == 1 and b"does not open" in moved.stderr

    def test_values_never_come_from_the_command_line(self, program: Program) -> None:
        assert program.run("set", "a", "field", "value").returncode == 2
        done = program.run("set", "a", "value")
        assert done.returncode == 1 and b"standard input" in done.stderr and b"--field" in done.stderr
        assert program.run("get", "a").returncode == 3
        assert program.run("keys", "--url", "redis://:word@host").returncode == 2
        assert program.run("keys", "--limit", "-1").returncode == 2

    def test_names_of_tenantkvs_own_are_not_written(self, program: Program, client: Any) -> None:
        client.set("a", 1)
        dumped = program.run("dump", "a").stdout
        for words in (
            ["set", "tkv:x"],
            ["load", "tkv:x"],
            ["rename", "a", "tkv:x"],
            ["exec", "SET", "tkv:x", "1"],
        ):
            done = program.run(*words, stdin=dumped)
            assert done.returncode == 1 and b"refused" in done.stderr, words
        assert client.get("a") == b"1"

    def test_a_huge_value(self, program: Program) -> None:
        value = b"v" * 5_000_000
        assert program.run("set", "huge", stdin=value).returncode == 0
        assert program.run("get", "huge").stdout == value
        shown = on_a_terminal(program, "get", "huge")
        assert "(5000000 bytes)" in shown and len(shown) < 10_000


class TestUsage:
    def test_what_keys_cost(self, program: Program, client: Any, tmp_path: Path) -> None:
        with client.pipeline(transaction=False) as lot:
            for number in range(300):
                lot.set(f"user:{number}", "x" * 50, ex=1000)
            lot.set("<script>alert(1)</script>:1", "y")
            lot.set(HOSTILE, "z" * 10_000)
            lot.execute()
        first = program.json("usage", "--sample", "0")
        groups = {group["segment"]: group for group in first["groups"]}
        assert first["keys"] == first["measured"] == 302 and first["immortal_keys"] == 2
        assert groups["user"]["keys"] == 300 and groups["user"]["immortal_keys"] == 0
        assert sum(group["bytes"] for group in first["groups"]) == first["bytes"]
        assert os.fsencode(first["biggest"][0]["name"]) == HOSTILE
        (program.home / "old.json").write_text(json.dumps({**first, "taken": first["taken"] - 86400 * 2}))
        client.rpush("queue:mail", *["m" * 1000] * 400)
        later = program.json("usage", "--since", "old.json", "--sample", "50")
        assert 0 < later["measured"] < 302 and later["keys"] == 303
        assert later["growth"]["keys_a_day"] == pytest.approx(0.5, rel=0.1)
        assert later["growth"]["immortal_bytes_a_day"] > 100_000
        done = program.run("usage", "--since", "old.json", "--html", "report.html")
        assert done.returncode == 0 and b"never expires" in done.stdout and b"####" in done.stdout
        assert b"\x1b" not in done.stdout and not program.shows_a_secret(done)
        page = (program.home / "report.html").read_text()
        assert "<script" not in page and "http:" not in page and "https:" not in page and "src=" not in page
        assert "<svg" in page and "&lt;script&gt;" in page and "\x1b" not in page

    def test_an_empty_namespace_and_a_foreign_report(self, program: Program) -> None:
        assert program.json("usage")["keys"] == 0
        assert program.run("usage", "--html", "r.html").returncode == 0
        (program.home / "no.json").write_text("[1]")
        done = program.run("usage", "--since", "no.json")
        assert done.returncode == 1 and b"is no report" in done.stderr


class TestClear:
    @pytest.fixture
    def full(self, client: Any, server: RealServer) -> dict[bytes, bytes]:
        client.set("plain:1", 1)
        client.set("plain:2", 1)
        client.set("queue:thumbs", "a plain key that is called so")
        client.cache("pages", ttl=60).set("front", "html")
        client.cache("other", ttl=60).set("front", "html")
        client.queue("thumbs").send("work")
        client.queue("mail").send("work")
        client.child("web").set("theirs", 1)
        return neighbours_names(server)

    @BOTH
    def test_never_a_neighbour_and_never_the_queue(
        self, program: Program, client: Any, server: RealServer, full: dict[bytes, bytes]
    ) -> None:
        before = server.dump_keys()
        asked = program.run("clear")
        assert asked.returncode == 1 and b"--yes" in asked.stderr
        dry = program.json("clear", "--dry-run")
        assert dry["deleted"] == 0 and dry["found"] >= 4 and dry["kept"]["queue"] > 0
        assert server.dump_keys() == before
        report = program.json("clear", "--yes")
        assert report["deleted"] == dry["found"]
        assert set(full) <= server.dump_keys() and client.child("web").get("theirs") == b"1"
        assert client.get("plain:1") is None and client.cache("pages", ttl=60).get("front") is None
        for name in ("thumbs", "mail"):
            assert client.queue(name).receive(visibility=60) is not None

    def test_only(self, program: Program, client: Any, server: RealServer, full: dict[bytes, bytes]) -> None:
        assert program.json("clear", "--only", "plain:[1]", "--yes")["names"] == ["plain:1"]
        assert program.json("clear", "--only", "*queue*", "--yes")["names"] == ["queue:thumbs"]
        caches = program.json("clear", "--only", "cache:pages", "--yes")
        assert caches["found"] >= 1 and all("{pages}" in name for name in caches["names"])
        assert client.cache("other", ttl=60).get("front") == "html"
        queue = set(queue_keys(program.namespace, "thumbs").core)
        gone = program.json("clear", "--only", "queue:thumbs", "--yes")
        assert gone["source"] == "name" and {os.fsencode(name) for name in gone["names"]} <= queue
        assert client.queue("thumbs").receive(visibility=60) is None
        assert client.queue("mail").receive(visibility=60) is not None
        assert client.get("plain:2") == b"1" and set(full) <= server.dump_keys()
        for words in (["queue"], ["queue:"], ["tkv:*"], ["tkv:queue:x"]):
            refused = program.run("clear", "--only", *words, "--yes")
            assert refused.returncode == 1, words

    def test_a_person_is_asked(self, program: Program, client: Any) -> None:
        client.set("a", 1)
        assert "nothing was deleted" in on_a_terminal(program, "clear", typed=b"no\n")
        assert client.get("a") == b"1"
        assert "1 key deleted" in on_a_terminal(program, "clear", typed=b"yes\n")
        assert client.get("a") is None


class TestExecAndShell:
    def test_one_command(self, program: Program, server: RealServer) -> None:
        neighbours_names(server)
        assert program.run("exec", "--", "SET", "a", "1").stdout == b"OK"
        assert program.run("exec", "--stdin", "--", "SET", "b", stdin=b"\x00\xff").returncode == 0
        assert program.run("exec", "--", "GET", "b").stdout == b"\x00\xff"
        assert json.loads(program.run("exec", "--json", "--", "MGET", "a", "no").stdout) == ["1", None]
        assert program.run("exec", "--", "KEYS", "*").stdout.count(b"\n") == 2
        wrong = program.run("exec", "--", "LPUSH", "a", "1")
        assert wrong.returncode == 1 and b"WRONGTYPE" in wrong.stdout
        for words in (["FLUSHDB"], ["flushall"], ["CONFIG", "GET", "*"], ["SUBSCRIBE", "c"], ["NOSUCH"]):
            refused = program.run("exec", "--", *words)
            assert refused.returncode == 1 and b"refused" in refused.stderr, words
        secret = program.run("exec", "--", "SET", "t", TOKEN)
        assert secret.returncode == 1 and TOKEN not in secret.stdout + secret.stderr
        assert len([name for name in server.dump_keys() if name.startswith(b"neighbour")]) == 3

    def test_lines_of_a_program(self, program: Program) -> None:
        typed = b'SET a 1\nMULTI\nINCR a\nEXEC\nSET "b c" "\\x00\\n"\nGET "b c"\nWATCH a\nexit\nSET z 1\n'
        done = program.run("shell", stdin=typed)
        assert done.returncode == 0 and b'"QUEUED"\n1) (number) 2\n' in done.stdout
        assert b'"\\x00\\n"' in done.stdout
        assert program.json("type", "z", code=3)["type"] == "none"
        failed = program.run("shell", stdin=b'GET "x\nLPUSH a 1\nFLUSHALL\nGET a\n')
        assert failed.returncode == 1 and failed.stdout.endswith(b'"2"\n')
        assert b"unbalanced" in failed.stderr and b"refused" in failed.stderr

    @pytest.mark.parametrize("has_extra", [True, False])
    def test_a_person(self, program: Program, has_extra: bool) -> None:
        if has_extra:
            pytest.importorskip("prompt_toolkit")
        else:
            # A package that is not there, as far as the program can see.
            place = program.home / "without" / "prompt_toolkit"
            place.mkdir(parents=True)
            (place / "__init__.py").write_text("raise ImportError('not installed')")
            program.environ["PYTHONPATH"] = f"{place.parent}:{program.environ['PYTHONPATH']}"
        shown = on_a_terminal(program, "shell", typed=b"SET pin 4711\rGET pin\rexit\r", enter=b"default>")
        assert '"4711"' in shown
        files = list((program.home / ".local").rglob("history-*")) if has_extra else []
        for file in files:
            assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
            text = file.read_text()
            assert "SET pin" in text and "GET pin" in text and "4711" not in text
        assert len(files) == int(has_extra)

    def test_an_interrupt_ends_the_command_only(self, program: Program, server: RealServer) -> None:
        leader, follower = pty.openpty()
        program.environ["PROMPT_TOOLKIT_NO_CPR"] = "1"
        process = program.start("shell", "--no-history", stdin=follower, stdout=follower, stderr=follower)
        os.close(follower)
        read_until(leader, b"default>")
        os.write(leader, b"BLPOP nothing 0\r")
        wait_for("a client that blocks", lambda: server.operator().info("clients")["blocked_clients"])
        process.send_signal(signal.SIGINT)
        read_until(leader, b"Interrupted.")
        os.write(leader, b"ECHO still-here\r")
        read_until(leader, b'"still-here"')
        os.write(leader, b"exit\r")
        with pytest.raises(OSError):
            while os.read(leader, 65536):
                pass
        os.close(leader)
        assert process.wait(timeout=60) == 0


class TestBadInput:
    @pytest.mark.parametrize("words", [["keys"], ["exec", "PING"]])
    def test_no_server(self, tmp_path: Path, words: list[str]) -> None:
        program = Program(tmp_path, f"unix://{tmp_path}/nothing")
        done = program.run(*words)
        assert done.returncode == 1 and done.stderr.startswith(b"tenantkv: the server: ")
        assert b"Traceback" not in done.stderr and not program.shows_a_secret(done)

    def test_no_url(self, tmp_path: Path) -> None:
        program = Program(tmp_path, "")
        done = program.run("keys")
        assert done.returncode == 1 and b"TENANTKV_URL" in done.stderr

    def test_another_kind_of_server(self, tmp_path: Path) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(16)
            stop = threading.Event()
            thread = threading.Thread(target=answer_like_the_web, args=(listener, stop))
            thread.start()
            program = Program(tmp_path, f"redis://:word@127.0.0.1:{listener.getsockname()[1]}")
            done = program.run("keys")
            stop.set()
            thread.join()
        assert done.returncode == 1 and done.stderr.startswith(b"tenantkv: the server: ")
        assert b"Traceback" not in done.stderr and b"word" not in done.stderr

    def test_a_full_disk(self, tmp_path: Path, shared_server: RealServer) -> None:
        program = Program(tmp_path, shared_server.url)
        with program.connect() as kv:
            kv.set("a", "x")
        with open("/dev/full", "wb") as full:
            for words in (["keys"], ["get", "a"], ["exec", "GET", "a"], ["usage", "--json"]):
                done = program.run(*words, stdout=full)
                assert done.returncode == 1 and b"No space left" in done.stderr, words
                assert done.stderr.count(b"\n") == 1

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_help_has_an_example(self, command: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        shown = capsys.readouterr().out
        assert ended.value.code == 0 and f"  tenantkv {command}" in shown and "example" in shown
        assert "--namespace" in shown and "--child" in shown

    def test_an_interrupt(self, tmp_path: Path, shared_server: RealServer) -> None:
        program = Program(tmp_path, shared_server.url)
        process = program.start("exec", "--", "BLPOP", "nothing", "0", stdout=-1, stderr=-1)
        wait_for("a client that blocks", lambda: shared_server.operator().info("clients")["blocked_clients"])
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130 and errors == b""


def read_until(leader: int, wanted: bytes) -> bytes:
    shown = b""
    deadline = time.monotonic() + 60
    while wanted not in shown:
        assert time.monotonic() < deadline and select.select([leader], [], [], 60)[0], shown
        shown += os.read(leader, 65536)
    return shown


def answer_like_the_web(listener: socket.socket, stop: threading.Event) -> None:
    listener.settimeout(0.1)
    while not stop.is_set():
        try:
            peer, _ = listener.accept()
        except OSError:
            continue
        with peer:
            peer.settimeout(5)
            peer.recv(65536)
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def on_a_terminal(program: Program, *words: str, typed: bytes = b"", enter: bytes = b"") -> str:
    """Run on a pseudo-terminal; type when `enter` (or a question) has been shown; return what was shown."""
    leader, follower = pty.openpty()
    environ = {**program.environ, "TERM": "xterm"}
    program.environ, before = environ, program.environ
    process = program.start(*words, stdin=follower, stdout=follower, stderr=follower, start_new_session=True)
    program.environ = before
    os.close(follower)
    shown, pending = b"", [typed] if not enter else [line + b"\r" for line in typed.split(b"\r") if line]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and select.select([leader], [], [], 60)[0]:
        try:
            part = os.read(leader, 65536)
        except OSError:  # Linux says EIO when the other end is closed.
            break
        shown += part
        if b"\x1b[6n" in part:
            os.write(leader, b"\x1b[1;1R")  # Where the cursor is, as a terminal tells.
        if pending and pending[0] and ((enter or b"Type yes") in part):
            os.write(leader, pending.pop(0))
    os.close(leader)
    process.wait(timeout=60)
    return shown.decode(errors="replace")
