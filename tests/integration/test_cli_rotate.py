"""``tenantkv rotate`` as processes: every key gets the new prefix, and nothing of a stranger's is taken."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import stat
import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

import tenantkv
import tenantkv.asyncio
from tenantkv.cli.main import main
from tenantkv.errors import PrefixRotatedError
from tenantkv.keyring import Keyring
from tenantkv.namespace import RESERVED, Namespace
from tests.cli_program import SCHEMAS, Done, Program, check
from tests.neighbourhood import wait_for
from tests.servers import RealServer

SETTINGS = {
    "plain": {},
    "sealed": {"seal": "yes", "plaintext_keys": "n"},
    "hidden": {"seal": "yes", "names": "hidden", "bind_ttl": "yes"},
}


@pytest.fixture(params=list(SETTINGS))
def settings(request: pytest.FixtureRequest) -> dict[str, str]:
    return dict(SETTINGS[request.param])


@pytest.fixture
def program(tmp_path: Any, shared_server: RealServer, settings: dict[str, str]) -> Program:
    return Program(tmp_path, shared_server.url, settings)


@pytest.fixture
def client(program: Program) -> Iterator[Any]:
    with program.connect() as kv:
        yield kv


def within(program: Program, *words: str) -> Done:
    """Run in this process, which takes a tenth of the time; kills and two at once need processes."""
    shown, noted = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, program.environ, clear=True),
        contextlib.redirect_stdout(shown),
        contextlib.redirect_stderr(noted),
    ):
        code = main(words)
    texts = (each.getvalue().encode("utf-8", "surrogateescape") for each in (shown, noted))
    return Done(words, code, *texts)


def report(program: Program, *words: str, code: int = 0) -> Any:
    """Run with --json, and return the report, which matches the published schema and shows no prefix."""
    done = within(program, *words, "--json")
    assert done.returncode == code, done.stderr
    assert not shows_a_prefix(program, done)
    found = json.loads(done.stdout)
    check(found, SCHEMAS["rotate"], "rotate")
    return found


def now_in(program: Program) -> Keyring:
    """Return what the keyring's file holds by now."""
    return Keyring.parse((program.home / "k.json").read_text())


def connect_anew(program: Program) -> Any:
    return tenantkv.connect(program.url, keyring=program.home / "k.json", registry=True)


def under(server: RealServer, prefix: str) -> set[bytes]:
    """Return what follows a prefix on the server, but for the registry."""
    head = prefix.encode() + b":"
    names = {name[len(head) :] for name in server.dump_keys() if name.startswith(head)}
    return {name for name in names if not name.startswith(RESERVED)}


def shows_a_prefix(program: Program, *results: Done) -> bool:
    shown = b"".join(done.stdout + done.stderr for done in results)
    rings = [program.ring, now_in(program)]
    prefixes = [ring.prefix for ring in rings] + [ring.former.prefix for ring in rings if ring.former]
    return program.shows_a_secret(*results) or any(prefix.encode() in shown for prefix in prefixes)


def fill(kv: Any) -> None:
    kv.set("s", "hello", ex=5000)
    kv.set(b"\xff\n\x1b", bytes(range(256)))
    kv.hset("h", mapping={"a": "1", "b": "2"})
    kv.rpush("l", *range(250))
    kv.sadd("set", 1, 2, 3)
    kv.zadd("z", {"m": 1.5, "n": float("-inf")})
    kv.xadd("x", {"f": "v"}, id="1-1")
    kv.xgroup_create("x", "group", id="0")
    kv.queue("jobs").send({"job": 1})
    kv.cache("pages").set("home", "<html>", ttl=600)


def check_values(kv: Any) -> None:
    assert kv.get("s") == b"hello" and 4900 < kv.ttl("s") <= 5000
    assert kv.get(b"\xff\n\x1b") == bytes(range(256))
    assert kv.hgetall("h") == {b"a": b"1", b"b": b"2"}
    assert kv.lrange("l", 0, -1) == [b"%d" % number for number in range(250)]
    assert kv.smembers("set") == {b"1", b"2", b"3"} and kv.zscore("z", "n") == float("-inf")
    assert kv.xrange("x") == [(b"1-1", {b"f": b"v"})] and len(kv.xinfo_groups("x")) == 1
    assert kv.cache("pages").get("home") == "<html>"
    message = kv.queue("jobs").receive(wait=30)
    assert message is not None and message.value == {"job": 1}
    message.ack()


def test_every_key_gets_the_new_prefix(
    program: Program, client: Any, shared_server: RealServer, settings: dict[str, str]
) -> None:
    fill(client)
    client.child("web").set("page", "child's")
    shared_server.operator().set("neighbour", "theirs")
    lease = client.lock("held", lease=600)
    assert lease.acquire()
    old_names = under(shared_server, program.ring.prefix)
    dry = report(program, "rotate", "prefix", "--dry-run")
    assert (dry["under_way"], dry["found"]) == (False, len(old_names)) and now_in(program) == program.ring
    asked = within(program, "rotate", "prefix")
    assert asked.returncode == 1 and b"--yes" in asked.stderr and now_in(program) == program.ring
    begun = program.run("rotate", "prefix", "--yes")
    assert begun.returncode == 0 and now_in(program).former is not None
    refused = within(program, "get", "s")
    assert refused.returncode == 1 and b"rotate run" in refused.stderr
    with pytest.raises(PrefixRotatedError):
        connect_anew(program)
    assert report(program, "rotate", "status")["found"] == len(old_names)
    early = within(program, "rotate", "finish", "--yes")
    assert early.returncode == 3 and now_in(program).former is not None and b"rotate run" in early.stderr
    words = ("rotate", "run", "--yes", *(() if settings else ("--plain", "*")))
    looked = report(program, *words, "--dry-run")
    assert (looked["found"], looked["moved"]) == (len(old_names), 0)
    moved = report(program, *words)
    assert (moved["moved"], moved["left"], moved["late"]) == (len(old_names), 0, 0)
    again = report(program, *words)
    assert (again["found"], again["moved"]) == (0, 0)
    done = report(program, "rotate", "finish", "--yes")
    ring = now_in(program)
    assert not done["under_way"] and ring.former is None and ring.prefix != program.ring.prefix
    assert stat.S_IMODE((program.home / "k.json").stat().st_mode) == 0o600
    assert under(shared_server, ring.prefix) == old_names
    assert not any(name.startswith(program.ring.prefix.encode()) for name in shared_server.dump_keys())
    assert shared_server.operator().get("neighbour") == b"theirs"
    assert not (program.home / "default.rotate").exists()
    with connect_anew(program) as kv:
        check_values(kv)
        assert kv.child("web").get("page") == b"child's"
        # The lease moved along; who holds it finds that it is gone, and nobody gets it before its end.
        assert not kv.lock("held", lease=600).acquire(blocking=False)
        assert {b"s", b"h", b"\xff\n\x1b"} <= set(kv.keys())
    assert not shows_a_prefix(program, dry_run(program), asked, begun, refused, early)


def dry_run(program: Program) -> Done:
    return within(program, "rotate", "prefix", "--dry-run")


@pytest.mark.parametrize("settings", [SETTINGS["sealed"]], indirect=True, ids=["sealed"])
class TestSealed:
    @pytest.fixture
    def settings(self, request: pytest.FixtureRequest) -> dict[str, str]:
        return dict(request.param)

    def test_what_a_stranger_plants_is_left(
        self, program: Program, client: Any, shared_server: RealServer
    ) -> None:
        """Whoever knows the former prefix forges, moves and plants values of each type, before and during."""
        stranger = shared_server.operator()
        old = program.ring.prefix.encode() + b":"
        client.set("good", "mine")
        client.set("moved", "mine")
        client.set("n", 7)
        stranger.copy(old + b"moved", old + b"elsewhere")
        report(program, "rotate", "prefix", "--yes")
        stranger.set(old + b"moved", b"forged")
        stranger.set(old + b"clear", b"forged")
        stranger.hset(old + b"hash", b"role", b"admin")
        stranger.sadd(old + b"set", b"forged")
        stranger.zadd(old + b"zset", {b"forged": 1})
        stranger.xadd(old + b"stream", {b"a": b"forged"})
        planted = [b"moved", b"elsewhere", b"clear", b"hash", b"set", b"zset", b"stream", b"n"]
        (program.home / "names").write_bytes(b"\n".join([b"good", *planted]))
        found = report(program, "rotate", "run", "--yes", "--names-file", str(program.home / "names"), code=3)
        assert found["moved"] == 1 and found["left"] == len(planted)
        assert {each["name"].encode() for each in found["problems"]} == set(planted)
        new = now_in(program).prefix
        assert under(shared_server, new) == {b"good"}
        assert under(shared_server, program.ring.prefix) == set(planted)
        # The counter is in clear by a rule of ours, and has to be asked for.
        taken = report(
            program,
            "rotate",
            "run",
            "--yes",
            "--names-file",
            str(program.home / "names"),
            "--plain",
            "n",
            code=3,
        )
        assert taken["moved"] == 1 and taken["left"] == len(planted) - 1
        finish = ("rotate", "finish", "--yes", "--names-file", str(program.home / "names"))
        assert report(program, *finish, code=3)["left"] == len(planted) - 1
        assert not report(program, *finish, "--leave")["under_way"]
        with connect_anew(program) as kv:
            assert kv.get("good") == b"mine" and kv.get("n") == b"7" and kv.get("moved") is None

    def test_killed_half_way_nothing_is_lost_or_unread(
        self, program: Program, client: Any, shared_server: RealServer
    ) -> None:
        check_kill(program, client, shared_server, 4000)

    def test_a_run_that_was_killed_before_it_had_read(
        self, program: Program, client: Any, shared_server: RealServer
    ) -> None:
        """The next one reads what that one had moved, and finishing before is refused."""
        from tenantkv.cli.adopt_journal import Journal
        from tenantkv.rotation import sides

        client.mset({"good": "mine", "bad": "mine", "later": "mine", "made-way": "mine"})
        report(program, "rotate", "prefix", "--yes")
        former, new = (Namespace(each) for each in sides(now_in(program)))
        journal = Journal(new, str(program.home / "default.rotate"), make=True, command="rotate")
        journal.record("intent", [(name, name) for name in (b"good", b"bad", b"later")])
        journal._file.close()
        stranger = shared_server.operator()
        stranger.set(former.wire_name(b"bad"), b"forged")
        for name in (b"good", b"bad"):
            stranger.rename(former.wire_name(name), new.wire_name(name))
        # It had made room for one that a stranger had planted beside another that had moved before.
        aside = new.wire_name(b"__tenantkv__:aside:made-way")
        stranger.rename(former.wire_name(b"made-way"), aside)
        journal = Journal(new, str(program.home / "default.rotate"), make=True, command="rotate")
        journal.record("intent", [(b"made-way", b"made-way")])
        journal._file.close()
        refused = within(program, "rotate", "finish", "--leave", "--yes")
        assert refused.returncode == 1 and b"was interrupted" in refused.stderr
        found = report(program, "rotate", "run", "--yes", code=3)
        assert [each["name"] for each in found["problems"]] == ["bad"]
        assert under(shared_server, new.keyring.prefix) == {b"good", b"later", b"made-way"}
        assert not stranger.exists(aside)
        assert stranger.get(former.wire_name(b"bad")) == b"forged"

    def test_back_again(self, program: Program, client: Any, shared_server: RealServer) -> None:
        fill(client)
        names = under(shared_server, program.ring.prefix)
        report(program, "rotate", "prefix", "--yes")
        (program.home / "names").write_bytes(b"s\nh\n")
        assert (
            report(program, "rotate", "run", "--yes", "--names-file", str(program.home / "names"))["moved"]
            == 2
        )
        going = now_in(program).prefix
        back = report(program, "rotate", "abort", "--yes")
        assert not back["under_way"] and back["moved"] == 2
        ring = now_in(program)
        assert (ring.fingerprint, ring.former, ring.generation) == (program.ring.fingerprint, None, 4)
        assert under(shared_server, ring.prefix) == names and under(shared_server, going) == set()
        check_values(client)
        assert within(program, "rotate", "abort", "--yes").returncode == 1

    def test_two_keys_of_one_name(self, program: Program, client: Any, shared_server: RealServer) -> None:
        client.mset({"a": "former", "b": "former"})
        report(program, "rotate", "prefix", "--yes")
        report(program, "rotate", "run", "--yes")
        # A program that nobody had stopped.
        shared_server.operator().copy(f"{now_in(program).prefix}:a", f"{program.ring.prefix}:a", replace=True)
        client.set("a", "late")
        taken = report(program, "rotate", "run", "--yes", code=3)
        assert taken["left"] == 1 and "--prefer" in taken["problems"][0]["reason"]
        assert report(program, "rotate", "run", "--yes", "--prefer", "former")["moved"] == 1
        client.set("b", "late")
        assert report(program, "rotate", "run", "--yes", "--prefer", "new")["dropped"] == 1
        # What a stranger planted takes the place of nothing, whatever is preferred.
        shared_server.operator().set(program.namespace.wire_name(b"b"), b"forged")
        forged = report(program, "rotate", "run", "--yes", "--prefer", "former", code=3)
        assert forged["moved"] == 0 and forged["problems"][0]["name"] == "b"
        assert not any(b":aside:" in name for name in shared_server.dump_keys())
        report(program, "rotate", "finish", "--yes", code=3)
        shared_server.operator().delete(program.namespace.wire_name(b"b"))
        report(program, "rotate", "finish", "--yes")
        with connect_anew(program) as kv:
            assert kv.mget("a", "b") == [b"late", b"former"]

    def test_programs_that_still_write(self, program: Program, client: Any) -> None:
        """What they wrote is found, and they are told to start again."""
        written: list[bytes] = []
        is_over = threading.Event()

        def write() -> None:
            while not is_over.is_set():
                name = b"late:%d" % len(written)
                client.set(name, name)
                written.append(name)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            wait_for("a few keys", lambda: len(written) > 50)
            report(program, "rotate", "prefix", "--yes")
            within(program, "rotate", "run", "--yes")
        finally:
            is_over.set()
            thread.join()
        wait_for("the program to be told", lambda: is_told(client))
        assert report(program, "rotate", "run", "--yes")["left"] == 0
        report(program, "rotate", "finish", "--yes")
        with connect_anew(program) as kv:
            assert kv.mget(written) == written and set(kv.keys()) >= set(written)

    def test_other_commands_say_where_we_are(self, program: Program, client: Any) -> None:
        fill(client)
        report(program, "rotate", "prefix", "--yes")
        shown, audited = within(program, "show"), within(program, "doctor", "--json")
        assert shown.returncode == 0 and b"tenantkv rotate status" in shown.stdout
        found = {each["check"]: each["severity"] for each in json.loads(audited.stdout)["findings"]}
        assert found["identity.rotation"] == "fail" and found["server.eviction"] == "warn"
        refused = within(program, "get", "user:1")
        assert refused.returncode == 1 and b"rotate run" in refused.stderr
        assert not shows_a_prefix(program, shown, audited, refused)

    def test_two_operators(self, program: Program, client: Any) -> None:
        values = {b"key:%d" % number: b"%d" % number for number in range(1500)}
        client.mset(values)
        report(program, "rotate", "prefix", "--yes")
        both = [program.start("rotate", "run", "--yes", stdout=-1, stderr=-1) for _ in range(2)]
        ended = [(process.communicate(timeout=60), process.returncode) for process in both]
        assert any(code == 0 for _, code in ended)
        for (_, errors), code in ended:
            assert code == 0 or (code == 1 and b"another 'tenantkv rotate' is at work" in errors)
        report(program, "rotate", "finish", "--yes")
        with connect_anew(program) as kv:
            assert kv.mget(list(values)) == list(values.values())

    def test_steps_at_the_wrong_time(self, program: Program, client: Any) -> None:
        for step in ("run", "finish", "abort"):
            done = within(program, "rotate", step, "--yes")
            assert done.returncode == 1 and b"no prefix is being replaced" in done.stderr
        (program.home / f"default.{program.namespace.fingerprint}.adopt").touch(mode=0o600)
        adopting = within(program, "rotate", "prefix", "--yes")
        assert adopting.returncode == 1 and b"adopt --finish" in adopting.stderr
        (program.home / f"default.{program.namespace.fingerprint}.adopt").unlink()
        report(program, "rotate", "prefix", "--yes")
        twice = within(program, "rotate", "prefix", "--yes")
        assert twice.returncode == 1 and b"already" in twice.stderr
        # Keys can be rotated meanwhile.
        assert within(program, "key", "add").returncode == 0 and now_in(program).former is not None
        del program.environ["TENANTKV_URL"]
        assert report(program, "rotate", "status")["found"] == -1
        nowhere = within(program, "rotate", "run", "--yes")
        assert nowhere.returncode == 1 and b"no server URL" in nowhere.stderr
        assert b"export TENANTKV_URL=" in nowhere.stderr

    @pytest.mark.slow
    def test_many_keys(self, program: Program, client: Any, shared_server: RealServer) -> None:
        check_kill(program, client, shared_server, 100_000)


def is_told(client: Any) -> bool:
    """Whether a program that connects anew is told to start again."""
    client.connection_pool.disconnect()
    try:
        client.get("late:0")
    except PrefixRotatedError as error:
        return "start the program again" in str(error)
    return False


def test_programs_in_asyncio_are_told(tmp_path: Any, shared_server: RealServer) -> None:
    program = Program(tmp_path, shared_server.url, {"seal": "yes"})

    async def go() -> None:
        async with tenantkv.asyncio.connect(program.url, keyring=program.ring) as kv:
            await kv.set("a", "mine")
            await asyncio.to_thread(report, program, "rotate", "prefix", "--yes")
            for _ in range(300):
                await kv.connection_pool.disconnect()
                try:
                    await kv.get("a")
                except PrefixRotatedError:
                    return
                await asyncio.sleep(0.1)
            raise AssertionError("it was not told")

    asyncio.run(go())


def test_without_seals_nothing_is_taken_unless_it_is_said(tmp_path: Any, shared_server: RealServer) -> None:
    program = Program(tmp_path, shared_server.url)
    with program.connect() as kv:
        kv.set("a", 1)
    assert b"--plain" in within(program, "rotate", "prefix", "--dry-run").stderr
    report(program, "rotate", "prefix", "--yes")
    refused = within(program, "rotate", "run", "--yes")
    assert refused.returncode == 1 and b"--plain" in refused.stderr
    assert report(program, "rotate", "run", "--yes", "--plain", "*")["moved"] == 1


def test_a_server_that_lists_nothing(tmp_path: Any, shared_server: RealServer) -> None:
    """Without SCAN and registry names have to be given; the keyring has to be in a file."""
    program = Program(tmp_path, shared_server.url, {"seal": "yes"})
    with tenantkv.connect(program.url, keyring=program.ring) as kv:
        kv.set("a", "mine")
    report(program, "rotate", "prefix", "--yes")
    # Nobody could say what would be forgotten.
    blind = within(program, "rotate", "finish", "--yes")
    assert blind.returncode == 1 and b"lists no keys" in blind.stderr and now_in(program).former
    (program.home / "names").write_bytes(b"a\nnot-there\n")
    found = report(program, "rotate", "run", "--yes", "--names-file", str(program.home / "names"))
    assert (found["moved"], found["gone"], found["names_from"]) == (1, 1, "file")
    # What was named is listed from now on, so the way back would find it too.
    assert report(program, "rotate", "abort", "--yes")["moved"] == 1
    with connect_anew(program) as kv:
        assert kv.get("a") == b"mine" and kv.keys() == [b"a"]
    report(program, "rotate", "prefix", "--yes")
    report(program, "rotate", "run", "--yes")
    report(program, "rotate", "finish", "--yes", "--names-file", str(program.home / "names"))
    with connect_anew(program) as kv:
        assert kv.get("a") == b"mine"
    program.environ["TENANTKV_SECRET_KEYRING"] = now_in(program).dump(compact=True)
    inline = within(program, "rotate", "prefix", "--yes")
    assert inline.returncode == 1 and b"is not in a file" in inline.stderr


def test_an_open_server(tmp_path: Any, open_server: RealServer) -> None:
    """With SCAN everything is found, hidden or not, registered or not."""
    program = Program(tmp_path, open_server.url, {"seal": "yes", "names": "hidden"})
    with program.connect() as kv:
        kv.mset({"a": "mine", "b": "mine"})
        open_server.operator().set(program.namespace.wire_name(b"unknown"), b"planted")
    report(program, "rotate", "prefix", "--yes")
    found = report(program, "rotate", "run", "--yes", code=3)
    assert (found["moved"], found["names_from"]) == (2, "scan")
    assert [each["name"] for each in found["problems"]] == ["unknown"]
    assert report(program, "rotate", "finish", "--yes", "--leave")["under_way"] is False
    with connect_anew(program) as kv:
        assert kv.mget("a", "b") == [b"mine", b"mine"]


@pytest.mark.parametrize("url", ["redis+cluster://localhost:1", "memory://"])
def test_other_kinds_of_servers(url: str, tmp_path: Any) -> None:
    program = Program(tmp_path, url)
    done = within(program, "rotate", "prefix", "--yes")
    assert done.returncode == 1 and b"rotate works on" in done.stderr and now_in(program) == program.ring


def check_kill(program: Program, client: Any, server: RealServer, count: int) -> None:
    """Kill a run when half of the keys have moved, go on, and miss nothing."""
    values = {b"key:%d" % number: os.urandom(20) for number in range(count)}
    for start in range(0, count, 1000):
        client.mset(dict(list(values.items())[start : start + 1000]))
    report(program, "rotate", "prefix", "--yes")
    middle = f"{program.ring.prefix}:key:"
    process = program.start("rotate", "run", "--yes", stdout=-1, stderr=-1)
    operator = server.operator()
    names = [middle + str(number) for number in range(0, count, max(1, count // 100))]
    wait_for(
        "half of the work", lambda: operator.exists(*names) < len(names) // 2 or process.poll() is not None
    )
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    free(server)
    ring = now_in(program)
    halves = len(under(server, program.ring.prefix)), len(under(server, ring.prefix))
    assert sum(halves) == count and halves[1] > 0
    rest = report(program, "rotate", "run", "--yes")
    assert rest["moved"] == halves[0] and rest["left"] == 0
    report(program, "rotate", "finish", "--yes")
    assert under(server, program.ring.prefix) == set()
    with connect_anew(program) as kv:
        for start in range(0, count, 1000):
            some = list(values)[start : start + 1000]
            assert kv.mget(some) == [values[name] for name in some]


def free(server: RealServer) -> None:
    """End the lease of a run that was killed, which otherwise lasts for a minute."""
    for name in server.dump_keys():
        if b":tkv:lock:" in name:
            server.operator().delete(name)
