"""``tenantkv adopt`` as processes: nothing is lost, nobody else's keys are touched, and it can be undone."""

from __future__ import annotations

import os
import resource
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tenantkv
from tests.cli_program import Program
from tests.neighbourhood import wait_for
from tests.servers import RealServer
from tests.topologies import start_sentinel

STRIP = ("--strip", "mytool:")
FROM = ("--from", "mytool:*", *STRIP, "--yes")
BINARY = b"mytool:\xff\n\x1b[2J"


Dump = dict[bytes, tuple[bytes, bool]]


def old(server: RealServer) -> Any:
    """Return the client of a program from before there was a namespace, which is a stranger's too."""
    return server.operator()


def fill(kv: Any) -> None:
    kv.set("mytool:s", "hello", ex=5000)
    kv.set(BINARY, bytes(range(256)))
    kv.hset("mytool:h", mapping={"a": "1", "b": "2"})
    kv.rpush("mytool:l", *range(350))
    kv.sadd("mytool:set", 1, 2, 3)
    kv.zadd("mytool:z", {"m": 1.5, "n": float("-inf")})
    kv.xadd("mytool:x", {"f": "v"}, id="1-1")
    kv.sadd("mytool:big", *(f"member {number}" for number in range(900)))
    kv.set("mytool:n", 7)
    kv.mset({"neighbour:1": "theirs", "mytoo": "theirs", "mytool2:s": "theirs"})


def names_file(program: Program, server: RealServer) -> tuple[str, ...]:
    names = [name for _, name in server.dump() if name.startswith(b"mytool:")]
    (program.home / "names").write_bytes(b"\0".join(names))
    return ("--names-file", "names", "--null", *STRIP, "--yes")


def outside(server: RealServer, program: Program, *, without: bytes = b"") -> Dump:
    """Return all keys outside of the namespace, or those that do not begin with a text either."""
    found = {
        name: (value, expiry > 0)
        for (_, name), (value, expiry) in server.dump().items()
        if not name.startswith(program.namespace.wire_prefix)
    }
    return {name: each for name, each in found.items() if not (without and name.startswith(without))}


def own_names(client: Any) -> set[bytes]:
    """Return the names of own keys but for those of the lock that two operators share."""
    names = client.keys()
    return {name for name in names if not name.startswith(b"tkv:")}


@pytest.fixture(params=["plain", "sealed", "hidden"])
def settings(request: pytest.FixtureRequest) -> dict[str, str]:
    return {
        "plain": {},
        "sealed": {"seal": "yes", "plaintext_keys": "n"},
        "hidden": {"seal": "yes", "names": "hidden", "bind_ttl": "yes"},
    }[request.param]


@pytest.fixture
def server(shared_server: RealServer) -> RealServer:
    return shared_server


@pytest.fixture
def program(tmp_path: Path, server: RealServer, settings: dict[str, str]) -> Program:
    return Program(tmp_path, server.url, settings)


@pytest.fixture
def client(program: Program) -> Iterator[Any]:
    with program.connect() as kv:
        yield kv


def check_copies(kv: Any) -> None:
    assert kv.get("s") == b"hello" and 4900 < kv.ttl("s") <= 5000
    assert kv.get(BINARY[7:]) == bytes(range(256)) and kv.ttl(BINARY[7:]) == -1
    assert kv.hgetall("h") == {b"a": b"1", b"b": b"2"}
    assert kv.lrange("l", 0, -1) == [b"%d" % number for number in range(350)]
    assert kv.smembers("set") == {b"1", b"2", b"3"} and kv.scard("big") == 900
    assert sorted(kv.zrange("z", 0, -1, withscores=True)) == [(b"m", 1.5), (b"n", float("-inf"))]
    assert kv.xrange("x") == [(b"1-1", {b"f": b"v"})]
    assert kv.get("n") == b"7"


def test_copied_finished_and_nobody_else_touched(program: Program, client: Any, server: RealServer) -> None:
    kv = old(server)
    fill(kv)
    before = outside(server, program)
    words = names_file(program, server)
    dry = program.json("adopt", *words, "--dry-run")
    assert (dry["found"], dry["copied"], dry["left"]) == (9, 0, 0) and own_names(client) == set()
    done = program.json("adopt", *words)
    assert (done["copied"], done["left"], done["waiting"]) == (9, 0, 9)
    check_copies(client)
    assert outside(server, program) == before
    state = Path(done["state"])
    assert stat.S_IMODE(state.stat().st_mode) == 0o600 and b"mytool" not in state.read_bytes()
    again = program.json("adopt", *words)
    assert (again["copied"], again["again"], again["current"]) == (0, 0, 9)
    finished = program.json("adopt", "--finish", "--yes")
    assert (finished["finished"], finished["left"], finished["waiting"]) == (9, 0, 0)
    assert outside(server, program) == outside(server, program, without=b"mytool:")
    assert outside(server, program) == {n: v for n, v in before.items() if not n.startswith(b"mytool:")}
    assert not state.exists()
    check_copies(client)
    assert len(own_names(client)) == 9
    nothing = program.run("adopt", "--undo", "--yes")
    assert nothing.returncode == 1 and b"nothing to finish or undo" in nothing.stderr


@pytest.mark.parametrize("settings", [{}, {"seal": "yes"}], indirect=True, ids=["plain", "sealed"])
class TestAdopt:
    @pytest.fixture
    def settings(self, request: pytest.FixtureRequest) -> dict[str, str]:
        return dict(request.param)

    def test_undone(self, program: Program, client: Any, server: RealServer) -> None:
        kv = old(server)
        fill(kv)
        before = outside(server, program)
        client.set("mine", "stays")
        program.json("adopt", *names_file(program, server))
        client.set("s", "written by a new program")
        kv.delete("mytool:h")
        report = program.json("adopt", "--undo", "--yes", code=3)
        assert (report["undone"], report["left"], report["waiting"]) == (7, 2, 2)
        reasons = {each["name"]: each["reason"] for each in report["problems"]}
        assert "changed since" in reasons["mytool:s"] and "is gone" in reasons["mytool:h"]
        assert own_names(client) == {b"mine", b"s", b"h"} and client.hget("h", "a") == b"1"
        assert client.get("s") == b"written by a new program"
        del before[b"mytool:h"]
        assert outside(server, program) == before

    def test_writers_meanwhile(self, program: Program, client: Any, server: RealServer) -> None:
        kv = old(server)
        fill(kv)
        words = names_file(program, server)
        program.json("adopt", *words)
        kv.rpush("mytool:l", "more")
        kv.persist("mytool:s")
        again = program.json("adopt", *words)
        assert (again["again"], again["current"], again["left"]) == (2, 7, 0)
        assert client.lindex("l", -1) == b"more" and client.ttl("s") == -1
        kv.hset("mytool:h", "a", "newer")
        kv.zadd("mytool:z", {"m": 2})
        client.zadd("z", {"m": 3})
        client.delete("n")
        report = program.json("adopt", "--finish", "--yes", code=3)
        assert (report["finished"], report["again"], report["left"]) == (8, 2, 1)
        assert client.hget("h", "a") == b"newer" and client.get("n") == b"7"
        assert (
            report["problems"][0]["name"] == "mytool:z" and "both changed" in report["problems"][0]["reason"]
        )
        assert kv.zscore("mytool:z", "m") == 2 and client.zscore("z", "m") == 3
        refused = program.run("adopt", "--undo", "--yes"), program.run("adopt", *words)
        for done in refused:
            assert done.returncode == 1 and b"go on with --finish" in done.stderr
        kv.delete("mytool:z")
        last = program.json("adopt", "--finish", "--yes")
        assert (last["gone"], last["waiting"]) == (1, 0) and client.zscore("z", "m") == 3

    def test_own_keys_are_never_replaced(self, program: Program, client: Any, server: RealServer) -> None:
        kv = old(server)
        kv.mset({"mytool:a": "old", "mytool:b": "old", "mytool:tkv:lock": "old", "mytool:": "old"})
        client.set("a", "mine")
        report = program.json("adopt", *names_file(program, server), code=3)
        assert (report["copied"], report["left"], report["waiting"]) == (1, 3, 1)
        assert client.get("a") == b"mine" and client.get("b") == b"old"
        program.json("adopt", "--finish", "--yes")
        assert kv.exists("mytool:a", "mytool:b", "mytool:tkv:lock", "mytool:") == 3
        wire = program.namespace.wire_name(b"a")
        (program.home / "names").write_bytes(wire + b"\n")
        inside = program.run("adopt", "--names-file", "names", "--yes")
        assert inside.returncode == 3 and b"in the namespace already" in inside.stderr
        assert client.get("a") == b"mine"

    def test_interrupted_and_gone_on(
        self, program: Program, client: Any, server: RealServer, settings: dict[str, str]
    ) -> None:
        check_kill(program, client, server, 5000, signal.SIGKILL if settings else signal.SIGINT)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"seal": "yes"}], indirect=True, ids=["plain", "sealed"])
class TestManyKeys:
    @pytest.fixture
    def settings(self, request: pytest.FixtureRequest) -> dict[str, str]:
        return dict(request.param)

    def test_killed_half_way(self, program: Program, client: Any, server: RealServer) -> None:
        check_kill(program, client, server, 100_000, signal.SIGKILL)


def check_kill(program: Program, client: Any, server: RealServer, count: int, blow: signal.Signals) -> None:
    """Stop a run while it copies and one while it deletes, go on each time, and miss nothing."""
    kv = old(server)
    values = {b"mytool:%d" % number: os.urandom(20) for number in range(count)}
    kv.mset(values)  # type: ignore[arg-type]
    kv.mset({f"neighbour:{number}": number for number in range(100)})
    (program.home / "names").write_bytes(b"\n".join(values))
    neighbours = outside(server, program, without=b"mytool:")
    words = ("adopt", "--names-file", "names", *STRIP, "--yes")
    state = program.home / f"default.{program.namespace.fingerprint}.adopt"
    stop(program, words, blow, lambda: state.exists() and state.stat().st_size > count * 20)
    assert all(kv.get(name) == value for name, value in list(values.items())[:: max(1, count // 500)])
    free(client)
    report = program.json(*words)
    assert report["copied"] + report["current"] == count and report["left"] == 0
    assert 0 < report["current"] < count and report["waiting"] == count
    grown = state.stat().st_size
    stop(program, ("adopt", "--finish", "--yes"), blow, lambda: state.stat().st_size > grown + count // 4)
    free(client)
    rest = program.json("adopt", "--finish", "--yes")
    assert rest["finished"] > 0 and rest["left"] == 0 and rest["waiting"] == 0 and not state.exists()
    assert outside(server, program) == neighbours
    names = list(values)
    for start in range(0, count, 1000):
        some = names[start : start + 1000]
        found = client.mget([name.removeprefix(b"mytool:") for name in some])
        assert found == [values[name] for name in some]


def stop(program: Program, words: tuple[str, ...], blow: signal.Signals, is_time: Any) -> None:
    process = program.start(*words, stdout=-1, stderr=-1)
    wait_for("half of the work", is_time)
    process.send_signal(blow)
    _, errors = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("it was done before the blow came")
    if blow == signal.SIGINT:
        assert process.returncode == 130 and b"Run it again" in errors and b"Traceback" not in errors


def free(client: Any) -> None:
    """End the lease of a run that was killed, which otherwise lasts for a minute."""
    from tenantkv.ops.clearing import delete

    names = client.keys()
    client.run(delete([name for name in names if name.startswith(b"tkv:lock:")], None, 0.0))


def test_patterns(tmp_path: Path, open_server: RealServer) -> None:
    program = Program(tmp_path, open_server.url)
    kv = old(open_server)
    fill(kv)
    before = outside(open_server, program)
    for pattern in ("*", "m*", "?ytool:*", "[m]ytool:*", "my*"):
        done = program.run("adopt", "--from", pattern, "--yes")
        assert done.returncode == 1 and b"other tenants" in done.stderr
    asked = program.run("adopt", "--from", "mytool:*")
    assert asked.returncode == 1 and b"this concerns 9 keys; say --yes" in asked.stderr
    shown = program.run("adopt", "--from", "mytool:*", "--dry-run")
    assert (
        b"mytool:h" in shown.stdout and b"\x1b" not in shown.stdout and b"nothing was changed" in shown.stdout
    )
    assert program.json("adopt", *FROM)["copied"] == 9
    assert outside(open_server, program) == before
    with program.connect() as client:
        check_copies(client)
        # Hidden behind a pattern that matches the namespace's own names as well.
        head = program.ring.prefix[:10]
        found = program.json("adopt", "--from", f"{head}*", "--dry-run")
        assert found["found"] == 0
    program.json("adopt", "--finish", "--yes")
    assert not any(name.startswith(b"mytool:") for name in outside(open_server, program))


def test_without_scan(tmp_path: Path, shared_server: RealServer) -> None:
    program = Program(tmp_path, shared_server.url)
    done = program.run("adopt", *FROM)
    assert done.returncode == 1 and b"--names-file" in done.stderr
    both = program.run("adopt", "--finish", "--undo")
    assert both.returncode == 2
    program.environ["TENANTKV_SECRET_KEYRING"] = program.ring.dump(compact=True)
    del program.environ["TENANTKV_SECRET_KEYRING_FILE"]
    old(shared_server).set("mytool:a", 1)
    words = names_file(program, shared_server)
    nowhere = program.run("adopt", *words)
    assert nowhere.returncode == 1 and b"--state FILE" in nowhere.stderr
    assert program.json("adopt", *words, "--state", "state")["copied"] == 1
    assert program.json("adopt", "--undo", "--yes", "--state", "state")["undone"] == 1


def test_two_operators(tmp_path: Path, shared_server: RealServer) -> None:
    program = Program(tmp_path, shared_server.url)
    old(shared_server).set("mytool:a", 1)
    words = names_file(program, shared_server)
    with program.connect() as client, client.lock("tenantkv adopt", lease=60):
        done = program.run("adopt", *words)
        assert done.returncode == 1 and b"another 'tenantkv adopt'" in done.stderr
        assert program.json("adopt", *words, "--dry-run")["found"] == 1
    assert program.json("adopt", *words)["copied"] == 1


def test_a_state_that_was_changed(tmp_path: Path, shared_server: RealServer) -> None:
    program = Program(tmp_path, shared_server.url)
    kv = old(shared_server)
    fill(kv)
    words = names_file(program, shared_server)
    state = Path(program.json("adopt", *words)["state"])
    whole = state.read_bytes()
    before = outside(shared_server, program)
    state.write_bytes(whole[:-30] + bytes([whole[-30] ^ 1]) + whole[-29:])
    changed = program.run("adopt", "--undo", "--yes")
    assert changed.returncode == 1 and b"was changed" in changed.stderr
    state.write_bytes(b"somebody's notes, which are long enough to be no beginning")
    assert b"is no state" in program.run("adopt", "--undo", "--yes").stderr
    state.write_bytes(whole)
    state.chmod(0o644)
    assert b"0600" in program.run("adopt", "--undo", "--yes").stderr
    state.chmod(0o600)
    # The last frame was not written to its end: what it says is found out again.
    state.write_bytes(whole[:-5])
    report = program.json("adopt", *words)
    assert (report["copied"], report["left"]) == (9, 0)
    assert outside(shared_server, program) == before
    # The same when a changed original was copied again: the copy is known to be ours.
    kv.rpush("mytool:l", "more")
    assert program.json("adopt", *words)["again"] == 1
    state.write_bytes(state.read_bytes()[:-5])
    report = program.json("adopt", *words)
    assert (report["copied"], report["current"], report["left"]) == (1, 8, 0)
    assert program.json("adopt", "--undo", "--yes")["undone"] == 9
    assert not program.shows_a_secret(changed)


def test_streams_with_groups(tmp_path: Path, shared_server: RealServer) -> None:
    sealed = Program(tmp_path, shared_server.url, {"seal": "yes"})
    kv = old(shared_server)
    kv.xadd("mytool:x", {"f": "v"})
    kv.xgroup_create("mytool:x", "workers")
    words = names_file(sealed, shared_server)
    for more in ((), ("--dry-run",)):
        report = sealed.json("adopt", *words, *more, code=3)
        assert "consumer groups" in report["problems"][0]["reason"] and report["waiting"] == 0
    place = tmp_path / "other"
    place.mkdir()
    plain = Program(place, shared_server.url)
    (plain.home / "names").write_bytes(b"mytool:x\n")
    assert plain.json("adopt", "--names-file", "names", *STRIP, "--yes")["copied"] == 1
    with plain.connect() as client:
        assert client.xinfo_groups("x")[0]["name"] == b"workers"


def test_values_that_look_like_secrets(tmp_path: Path, shared_server: RealServer) -> None:
    program = Program(tmp_path, shared_server.url, {"seal": "yes", "plaintext_keys": "n*"})
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    old(shared_server).mset({"mytool:n1": token, "mytool:n2": 7, "mytool:s": token})
    report = program.json("adopt", *names_file(program, shared_server), code=3)
    assert (report["copied"], report["left"], report["waiting"]) == (2, 1, 2)
    assert report["problems"][0]["name"] == "mytool:n1" and token not in str(report)
    with program.connect() as client:
        assert client.get("s") == token.encode() and client.incr("n2") == 8


@pytest.mark.parametrize("settings", [{}, {"seal": "yes"}], ids=["plain", "sealed"])
def test_every_server(tmp_path: Path, any_server: RealServer, settings: dict[str, str]) -> None:
    program = Program(tmp_path, any_server.url, settings)
    kv = old(any_server)
    fill(kv)
    has_field_ttls = any_server.product == "valkey" and any_server.version_info >= (9,)
    if has_field_ttls:
        kv.execute_command("HEXPIRE", "mytool:h", 900, "FIELDS", 1, "a")
    assert program.json("adopt", *FROM, "--child", "web")["copied"] == 9
    with program.connect() as parent:
        client = parent.child("web")
        check_copies(client)
        assert own_names(parent) == set()
        if has_field_ttls:
            times = client.execute_command("HTTL", "h", "FIELDS", 2, "a", "b")
            assert 800 < times[0] <= 900 and times[1] == -1
        elsewhere = program.run("adopt", "--finish", "--yes")
        assert elsewhere.returncode == 1 and b"nothing to finish" in elsewhere.stderr
        assert program.json("adopt", "--finish", "--yes", "--child", "web")["finished"] == 9
        check_copies(client)


def test_a_full_disk(tmp_path: Path, shared_server: RealServer) -> None:
    program = Program(tmp_path, shared_server.url)
    kv = old(shared_server)
    kv.mset({f"mytool:{number}:{os.urandom(30).hex()}": number for number in range(1000)})
    before = outside(shared_server, program)
    words = names_file(program, shared_server)
    small = program.run("adopt", *words, preexec_fn=limit_files)
    assert small.returncode == 1 and b"Traceback" not in small.stderr and b"Run it again" in small.stderr
    assert outside(shared_server, program) == before
    report = program.json("adopt", *words)
    assert report["copied"] + report["current"] == 1000 and report["current"] > 0 and report["left"] == 0
    assert program.json("adopt", "--undo", "--yes")["undone"] == 1000
    assert outside(shared_server, program) == before


def limit_files() -> None:
    # A limit of the process's own is what a quota looks like.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))


def test_a_neighbour_who_changes_everything(tmp_path: Path, shared_server: RealServer) -> None:
    """Others know the names of originals: what they do to these is copied, left or told; never a crash."""
    program = Program(tmp_path, shared_server.url, {"seal": "yes"})
    kv = old(shared_server)
    fill(kv)
    words = names_file(program, shared_server)
    program.json("adopt", *words)
    kv.delete("mytool:s")
    kv.sadd("mytool:s", "another type")
    kv.delete("mytool:h")
    kv.rename("mytool:l", "mytool:n")
    wire = program.namespace.wire_name
    copy = kv.get(wire(b"s"))
    # Whoever knows the prefix as well: forged, swapped and deleted copies.
    kv.set(wire(b"s"), b"\xc1" + bytes(60))
    kv.delete(wire(b"z"))
    report = program.json("adopt", *words, code=3)
    reasons = {each["name"]: each["reason"] for each in report["problems"]}
    assert list(reasons) == ["mytool:s"] and "both changed" in reasons["mytool:s"]
    assert (report["again"], report["gone"]) == (2, 2)
    kv.set(wire(b"s"), copy)
    assert program.json("adopt", *words)["again"] >= 1
    with program.connect() as client:
        assert client.smembers("s") == {b"another type"} and client.llen("n") == 350
        assert client.zscore("z", "m") == 1.5 and client.hget("h", "a") == b"1"


CODE = """
def touch(r, user_id):
    r.set("mytool:s", 1)
    r.get(f"mytool:user:{user_id}")
"""


def test_names_in_code(tmp_path: Path, shared_server: RealServer) -> None:
    """Where the server has no SCAN: literal names as they are, patterns with values that somebody gives."""
    program = Program(tmp_path, shared_server.url)
    kv = old(shared_server)
    kv.mset({"mytool:s": 1, **{f"mytool:user:{number}": number for number in range(5)}, "neighbour": 1})
    (program.home / "app.py").write_text(CODE)
    words = ("adopt", "--from-code", "app.py", "--begins", "mytool:", *STRIP)
    dry = program.json(*words, "--dry-run", code=3)
    assert [(each["glob"], each["gaps"], each["places"]) for each in dry["patterns"]] == [
        ("mytool:s", [], ["app.py:3"]),
        ("mytool:user:*", ["user_id"], ["app.py:4"]),
    ]
    assert dry["names"] == ["mytool:s"] and "--fill 'user_id=VALUES'" in dry["problems"][0]["reason"]
    report = program.json(*words, "--fill", "user_id=0-9", "--yes")
    assert (report["copied"], report["gone"], report["left"]) == (6, 5, 0)
    program.json("adopt", "--finish", "--yes")
    with program.connect() as client:
        assert client.mget("s", "user:4") == [b"1", b"4"]
    assert kv.get("neighbour") == b"1"
    for wrong in (
        ("--from-code", "app.py"),
        ("--from-code", "app.py", "--begins", "my"),
        (*FROM, "--fill", "a=1"),
    ):
        assert program.run("adopt", *wrong).returncode == 1


def test_names_in_code_and_scan(tmp_path: Path, open_server: RealServer) -> None:
    program = Program(tmp_path, open_server.url)
    kv = old(open_server)
    kv.mset({"mytool:s": 1, "mytool:user:1": 1, "mytool:user:b": 2, "mytool:other": 3})
    (program.home / "app.py").write_text(CODE)
    words = ("adopt", "--from-code", "app.py", "--begins", "mytool:", *STRIP, "--yes")
    assert program.json(*words)["copied"] == 3
    with program.connect() as client:
        assert sorted(own_names(client)) == [b"s", b"user:1", b"user:b"]


@pytest.mark.topology
def test_by_way_of_sentinels(tmp_path: Path) -> None:
    """Both commands with a connection of their own follow Sentinels to the primary."""
    with start_sentinel("shared") as running:
        program = Program(tmp_path, f"sentinel://{running.url}/{running.service_name}/0")
        kv = running.primary.operator()
        kv.set("mytool:a", "old", ex=5000)
        (program.home / "names").write_bytes(b"mytool:a\n")
        assert program.json("adopt", "--names-file", "names", *STRIP, "--yes")["copied"] == 1
        assert program.json("adopt", "--finish", "--yes")["finished"] == 1
        for step in (("prefix",), ("run", "--plain", "*"), ("finish",)):
            assert program.run("rotate", *step, "--yes").returncode == 0
        with tenantkv.connect(program.url, keyring=program.home / "k.json") as client:
            assert client.get("a") == b"old" and client.ttl("a") > 4000
