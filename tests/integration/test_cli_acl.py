"""The rule of ``tenantkv acl`` on real servers: the tenant can work, and touch or see nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

import tenantkv
from tests.cli_program import Program, neighbours_names
from tests.servers import RealServer

PASSWORD = "correct-horse-battery-staple"


def is_old(server: RealServer) -> bool:
    return server.product == "redis" and server.version_info < (7,)


@pytest.fixture
def program(tmp_path: Path, any_server: RealServer) -> Program:
    program = Program(tmp_path, any_server.url)
    words = ["--redis6"] if is_old(any_server) else []
    report = program.json(
        "acl", "--user", "mytool", "--password", "-", *words, stdin=PASSWORD.encode() + b"\n"
    )
    assert report["has_password"] and PASSWORD not in str(report)
    any_server.operator().execute_command("ACL", "SETUSER", report["user"], *report["rules"])
    return program


def test_the_tenant_can_work(program: Program, any_server: RealServer) -> None:
    kv = program.connect(username="mytool", password=PASSWORD)
    kv.set("a", 1, ex=100)
    kv.mset({"b": 2, "c": 3})
    kv.hset("h", "f", "v")
    kv.xadd("x", {"f": "v"})
    assert kv.get("a") == b"1" and kv.exists("a", "b") == 2
    assert kv.eval("return redis.call('GET', KEYS[1])", 1, "a") == b"1"
    assert kv.register_script("return redis.call('INCR', KEYS[1])")(keys=["a"]) == 2
    with kv.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe("news")
        assert listener.get_message(timeout=2) is None
        assert kv.publish("news", "x") == 1
    with kv.lock("one", lease=5):
        pass
    kv.queue("work").send("x")
    assert kv.queue("work").receive(visibility=60).value == "x"
    cache = kv.cache("pages", ttl=60)
    cache.set("front", "html")
    assert cache.get("front") == "html"
    # Listed by the registry, as SCAN is not allowed.
    assert sorted(kv.keys("[abc]")) == [b"a", b"b", b"c"]
    assert set(kv.scan_iter("h*")) == {b"h"}
    kv.close()


@pytest.mark.slow
def test_the_command_line_works(program: Program, any_server: RealServer) -> None:
    program.environ["TENANTKV_URL"] = f"{any_server.url}?username=mytool&password={PASSWORD}"
    assert program.run("set", "user:1", stdin=b"x").returncode == 0
    keys = program.json("keys")
    assert [key["name"] for key in keys["keys"]] == ["user:1"] and keys["source"] == "registry"
    assert program.json("usage")["bytes"] > 0
    assert program.json("export", "a.tkv")["keys"] == 1
    assert program.json("clear", "--yes")["deleted"] == 1
    assert program.json("import", "a.tkv")["made"] == 1


REFUSAL = r"(?i)noperm|permission|can't access|unknown|not allowed"
STRAYS = [
    ("GET", "neighbour:0"),
    ("SET", "neighbour:0", "mine"),
    ("DEL", "neighbour:1"),
    ("RENAME", "neighbour:0", "x"),
    ("EVAL", "return redis.call('GET', 'neighbour:0')", "0"),
    ("PUBLISH", "news", "forged"),
    ("SUBSCRIBE", "news"),
    ("PSUBSCRIBE", "*"),
    ("PUBSUB", "CHANNELS"),
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("RANDOMKEY",),
    ("DBSIZE",),
    ("FLUSHDB",),
    ("FLUSHALL",),
    ("SWAPDB", "0", "1"),
    ("SCRIPT", "FLUSH"),
    ("FUNCTION", "FLUSH"),
    ("CONFIG", "GET", "*"),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("MONITOR",),
    ("DEBUG", "SLEEP", "0"),
    ("ACL", "LIST"),
    ("SLOWLOG", "GET"),
    ("SHUTDOWN",),
    ("REPLICAOF", "NO", "ONE"),
    ("MIGRATE", "127.0.0.1", "1", "neighbour:0", "0", "10"),
]


def test_the_server_itself_refuses_all_else(program: Program, any_server: RealServer) -> None:
    neighbours = neighbours_names(any_server)
    before = any_server.dump()
    bare = redis.Redis(unix_socket_path=any_server.socket_path, username="mytool", password=PASSWORD)
    for words in STRAYS:
        if is_old(any_server) and words[0] == "FUNCTION":
            continue
        with pytest.raises(
            redis.ResponseError, match=r"(?i)noperm|permission|can't access|unknown|not allowed"
        ):
            bare.execute_command(*words)
    assert any_server.dump() == before and len(neighbours) == 3
    bare.close()


def test_without_a_password_nobody_logs_in(tmp_path: Path, open_server: RealServer) -> None:
    program = Program(tmp_path, open_server.url)
    done = program.run("acl")
    assert done.returncode == 0 and b"cannot log in yet" in done.stderr
    command = done.stdout.decode().split()
    user = f"tenant-{program.namespace.fingerprint}"
    assert command[:3] == ["ACL", "SETUSER", user]
    open_server.operator().execute_command(*command)
    bare = redis.Redis(unix_socket_path=open_server.socket_path, username=user, password="x")
    with pytest.raises(redis.AuthenticationError):
        bare.ping()
    line = program.run("acl", "--format", "file").stdout.decode()
    assert line.startswith(f"user {user} resetchannels on ~") and line.count("\n") == 1


def test_bad_input(tmp_path: Path, open_server: RealServer) -> None:
    program = Program(tmp_path, open_server.url)
    for words, text in (
        (["--user", "a b"], b""),
        (["--user", "x\nACL"], b""),
        (["--password", "-"], b"short"),
        (["--password", "-"], b"with blanks " * 5),
    ):
        done = program.run("acl", *words, stdin=text)
        assert done.returncode == 1 and not program.shows_a_secret(done), words
    assert program.run("acl", "--password", PASSWORD).returncode == 2
    child = program.json("acl", "--child", "web")
    space = tenantkv.Namespace(program.ring).child("web")
    assert f"~{space.wire_prefix.decode()}*" in child["rules"] and program.ring.prefix not in str(child)
