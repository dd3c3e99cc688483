"""The secret-taint test: prefix and key material in nothing that leaves the process or reaches a person.

And of a sealed namespace with hidden names: no value and no own name in anything that the server tells.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import pickle
import socket
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

import tenantkv
from tenantkv import Keyring, Namespace
from tests.servers import RealServer
from tests.shapes import SETUP, SHAPES
from tests.taint import chain, leaks, secrets_of

BAD = [
    ("NOSUCH", "k"),
    ("GET",),
    ("LPUSH", "str", "x"),
    ("XREADGROUP", "GROUP", "nogroup", "c", "STREAMS", "stream", ">"),
    ("EVAL", "return redis.call('LPUSH', KEYS[1], 1)", 1, "str"),
    ("EVAL", "error(KEYS[1] .. ARGV[1])", 1, "str", "argument"),
    ("EVAL", "return redis.error_reply('no ' .. KEYS[1])", 1, "str"),
    ("EVAL", "this is no Lua", 1, "str"),
    ("EVALSHA", "0" * 40, 1, "str"),
    ("SORT", "str", "BY", "w_*", "GET", "str*"),
    ("RENAME", "nothing", "dst"),
    ("RESTORE", "dst", 0, "no payload"),
    ("SUBSCRIBE", "__keyspace@0__:str"),
    ("FLUSHALL",),
    ("SELECT", 3),
    ("CLUSTER", "KEYSLOT", "str"),
    ("OBJECT", "FREQ", "str"),
    ("COPY", "str", "dst", "DB", 1),
    ("ZUNIONSTORE", "dst", 9, "zset"),
]


@pytest.fixture
def namespace() -> Namespace:
    return Namespace(Keyring.generate(os.urandom(96)))


def shown(error: BaseException) -> str:
    """Everything that an error can put before somebody's eyes."""
    parts = [str(error), repr(error), repr(error.args), repr(getattr(error, "__dict__", {}))]
    # Frames hold wire bytes by necessity; what tracebacks print are lines of code, not values.
    parts.append("".join(traceback.format_exception(type(error), error, error.__traceback__)))
    return "\n".join(parts)


def errors_of(calls: list[Callable[[], Any]]) -> list[BaseException]:
    found: list[BaseException] = []
    for call in calls:
        try:
            call()
        except Exception as error:
            found += chain(error)
    return found


def test_no_exception_shows_a_secret(any_server: RealServer, namespace: Namespace) -> None:
    secrets = secrets_of(namespace.keyring)
    for protocol in (2, 3):
        kv = tenantkv.connect(any_server.url, namespace=namespace, protocol=protocol)
        kv.flushdb()
        for command in SETUP:
            kv.execute_command(*command)

        def in_pipeline(command: Any, transaction: bool, kv: Any = kv) -> Any:
            return kv.pipeline(transaction=transaction).execute_command(*command).get("str").execute()

        calls: list[Callable[[], Any]] = []
        for command in [*BAD, *SHAPES]:
            calls.append(lambda c=command, kv=kv: kv.execute_command(*c))  # type: ignore[misc]
            calls.append(lambda c=command: in_pipeline(c, True))  # type: ignore[misc]
            calls.append(lambda c=command: in_pipeline(c, False))  # type: ignore[misc]
        errors = errors_of(calls)
        assert len(errors) > len(BAD)
        leaking = {type(error).__name__ for error in errors if leaks(shown(error), secrets)}
        assert leaking == set()
        kv.close()


def test_a_lost_server_shows_no_secret(namespace: Namespace) -> None:
    secrets = secrets_of(namespace.keyring)
    retry = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    kv = tenantkv.connect("redis://:hunter2-password@127.0.0.1:1/0", namespace=namespace, retry=retry)
    for error in errors_of([lambda: kv.get("a"), lambda: kv.pipeline().get("a").execute()]):
        assert leaks(shown(error), secrets) == []
        assert "hunter2" not in shown(error)
    assert "hunter2" not in repr(kv) + repr(kv.connection_pool)


def test_no_repr_shows_a_secret(shared_server: RealServer, namespace: Namespace) -> None:
    secrets = secrets_of(namespace.keyring)
    kv = tenantkv.connect(shared_server.url, namespace=namespace, registry=True)
    kv.set("a", 1)
    child = kv.child("customer-17")
    connection = kv.connection_pool.get_connection()
    akv = tenantkv.asyncio.connect(shared_server.url, namespace=namespace)
    objects = [
        kv, child, akv, kv.connection_pool, child.connection_pool, akv.connection_pool, connection,
        connection.session, namespace, namespace.keyring, child.namespace, kv.pipeline(), kv.pubsub(),
        kv.lock("a"), kv.connection_pool.connection_kwargs, namespace.keyring.keys, kv.__dict__,
        kv.register_script("return 1"),
    ]  # fmt: skip
    secrets.update(secrets_of(child.namespace.keyring))
    for each in objects:
        assert leaks(repr(each) + str(each) + f"{each}", secrets) == [], type(each)
    kv.connection_pool.release(connection)


def test_no_pickle_holds_a_secret(shared_server: RealServer, namespace: Namespace) -> None:
    secrets = secrets_of(namespace.keyring)
    kv = tenantkv.connect(shared_server.url, namespace=namespace)
    kv.set("a", 1)
    wanted = [
        namespace,
        namespace.child("c"),
        {"namespace": kv.connection_pool.connection_kwargs["namespace"]},
    ]
    for each in wanted:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            data = pickle.dumps(each, protocol)
            assert leaks(data, secrets) == []
            assert namespace.keyring.naming not in data
    for secret_bearing in (namespace.keyring, namespace.keyring.keys[0]):
        with pytest.raises(TypeError):
            pickle.dumps(secret_bearing)


def test_no_log_and_no_warning_shows_a_secret(open_server: RealServer, namespace: Namespace) -> None:
    secrets = secrets_of(namespace.keyring)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    before = logging.getLogger().level
    logging.getLogger().setLevel(logging.DEBUG)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for protocol in (2, 3):
                _all_shapes(open_server.url, namespace, protocol)
                asyncio.run(_pushes(open_server.url, namespace, protocol))
    finally:
        logging.getLogger().removeHandler(handler)
        logging.getLogger().setLevel(before)
    assert leaks(stream.getvalue(), secrets) == []
    assert leaks(" ".join(str(warning.message) for warning in caught), secrets) == []


def _all_shapes(url: str, namespace: Namespace, protocol: int) -> None:
    kv = tenantkv.connect(url, namespace=namespace, protocol=protocol)
    for command in [*SETUP, *SHAPES, *BAD]:
        try:
            kv.execute_command(*command)
        except redis.RedisError:
            continue
    with kv.pubsub() as subscriber:
        subscriber.subscribe("news")
        subscriber.psubscribe("n*", "__keyspace@0__:s*")
        kv.publish("news", "x")
        for _ in range(6):
            subscriber.get_message(timeout=0.1)
    kv.close()


async def _pushes(url: str, namespace: Namespace, protocol: int) -> None:
    akv = tenantkv.asyncio.connect(url, namespace=namespace, protocol=protocol)
    subscriber = akv.pubsub()
    await subscriber.subscribe("news")
    await akv.publish("news", "x")
    for _ in range(3):
        await subscriber.get_message(timeout=0.1)
    await subscriber.aclose()
    await akv.aclose()


def test_no_channel_name_shows_a_secret(any_server: RealServer, namespace: Namespace) -> None:
    secrets = secrets_of(namespace.keyring)
    kv = tenantkv.connect(any_server.url, namespace=namespace)
    operator = any_server.operator()
    operator.config_set("notify-keyspace-events", "KEA")
    with kv.pubsub() as subscriber, operator.pubsub() as neighbour:
        neighbour.psubscribe("*")
        subscriber.subscribe("news", "__keyevent@0__:set")
        subscriber.psubscribe("n*", "__keyspace@0__:own*")
        for _ in range(4):
            subscriber.get_message(timeout=1)
        kv.publish("news", "x")
        kv.execute_command("SPUBLISH", "shard", "x") if any_server.version_info >= (7, 0) else None
        listed = operator.execute_command("PUBSUB", "CHANNELS", "*")
        assert any(name.endswith(b":news") for name in listed)
        assert leaks(repr(listed), secrets) == []
        heard = [message for message in (neighbour.get_message(timeout=0.3) for _ in range(6)) if message]
        published = [m for m in heard if m["type"] == "pmessage" and not m["channel"].startswith(b"__key")]
        assert published and leaks(repr(published), secrets) == []
    operator.config_set("notify-keyspace-events", "")


def test_no_process_argument_and_no_file_shows_a_secret(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    for name in [name for name in environment if name.startswith(("TENANTKV_", "TOOL_", "REDIS_"))]:
        environment.pop(name)

    def cli(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "tenantkv", *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        return done.stdout + done.stderr

    output = cli("init") + cli("init", "--json") + cli("show") + cli("show", "--json")
    path = next((tmp_path / "config" / "tenantkv").glob("*.json"))
    secrets = secrets_of(Keyring.parse(path.read_text()))
    assert leaks(output, secrets) == []
    program = (
        "import json, os, pathlib, tenantkv\n"
        "kv = tenantkv.connect('embedded://?profile=shared', registry=True); kv.set('a', 1)\n"
        "texts = []\n"
        "for entry in pathlib.Path('/proc').glob('[0-9]*'):\n"
        "    try: texts.append((entry / 'cmdline').read_bytes().decode('latin-1'))\n"
        "    except OSError: pass\n"
        "texts.append(json.dumps(dict(os.environ)))\n"
        "print(json.dumps(texts))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    texts = json.loads(done.stdout)
    assert any("redis" in text or "valkey" in text for text in texts[:-1])
    assert leaks("\n".join(texts), secrets) == []
    elsewhere = [found for found in tmp_path.rglob("*") if found.is_file() and found != path]
    assert all(leaks(found.read_bytes(), secrets) == [] for found in elsewhere)


def test_the_watch_sees_a_leak(namespace: Namespace) -> None:
    secrets = secrets_of(namespace.keyring)
    assert leaks(f"GET {namespace.wire_prefix.decode()}a", secrets) == ["prefix"]
    assert leaks(repr({"naming": namespace.keyring.naming}), secrets) == ["naming"]


# What the server tells everybody: its dump, its replication stream, its channels and its logs.

CONTENT = "content-that-nobody-else-reads"
OWN_NAME = "own-name-that-nobody-else-knows"


def _with_everything(kv: Any) -> None:
    """Write a value into each kind of key, and make the server note slow and forbidden commands."""
    name = OWN_NAME
    kv.set(name, CONTENT)
    kv.hset(f"{name}:hash", mapping={"f": CONTENT})
    kv.rpush(f"{name}:list", CONTENT, CONTENT)
    kv.sadd(f"{name}:set", CONTENT)
    kv.zadd(f"{name}:zset", {CONTENT: 1})
    kv.xadd(f"{name}:stream", {"f": CONTENT})
    kv.xgroup_create(f"{name}:stream", "group", 0)
    kv.xreadgroup("group", "me", {f"{name}:stream": ">"})
    with kv.pipeline() as pipeline:
        pipeline.set(f"{name}:2", CONTENT, ex=1000).get(f"{name}:2").setnx(f"{name}:3", CONTENT).execute()
    kv.set(f"{name}:2", CONTENT, px=1_000_000)
    kv.publish("news", CONTENT)
    kv.getset(name, CONTENT)
    kv.mset({f"{name}:{n}": CONTENT for n in range(5, 9)})
    assert kv.get(name) == CONTENT.encode()
    assert kv.lrange(f"{name}:list", 0, -1) == [CONTENT.encode()] * 2


def _rdb(server: RealServer) -> bytes:
    """Return the file that the server writes, uncompressed so that nothing hides in it."""
    operator: Any = server.operator()
    operator.config_set("rdbcompression", "no")
    # A save in the background, as after a SYNC, excludes one in the foreground.
    deadline = time.monotonic() + 30
    while operator.info("persistence")["rdb_bgsave_in_progress"] and time.monotonic() < deadline:
        time.sleep(0.02)
    operator.execute_command("SAVE")
    where = Path(operator.config_get("dir")["dir"]) / operator.config_get("dbfilename")["dbfilename"]
    return where.read_bytes()


class _Replica:
    """A neighbour who asks for the replication stream, as anybody may where SYNC is not forbidden."""

    def __init__(self, server: RealServer) -> None:
        server.operator().config_set("rdbcompression", "no")
        server.operator().config_set("repl-diskless-sync", "no")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        self._socket.connect(server.socket_path)
        self._socket.sendall(b"SYNC\r\n")
        self.heard = b""
        # The size of the dump, and the dump, before the stream begins.
        self.until(lambda: b"$" in self.heard and self.heard.count(b"\n", self.heard.index(b"$")) >= 1)
        start = self.heard.index(b"$")
        end = self.heard.index(b"\r\n", start)
        size = int(self.heard[start + 1 : end])
        self.until(lambda: len(self.heard) >= end + 2 + size)

    def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            received = self._socket.recv(65536)
            assert received, "the server ended the replication"
            self.heard += received

    def close(self) -> None:
        self._socket.close()


@pytest.mark.parametrize("names", ["hidden", "plain"])
def test_what_the_server_tells_everybody(any_server: RealServer, names: str) -> None:
    keyring = Keyring.generate(os.urandom(96))
    # The prefix is an address, which everybody may see; what is taken for secret is the rest.
    secrets = {form: what for form, what in secrets_of(keyring).items() if what != "prefix"}
    operator = any_server.operator()
    operator.config_set("slowlog-log-slower-than", 0)
    operator.config_set("slowlog-max-len", 10_000)
    operator.execute_command("SLOWLOG", "RESET")
    kv = tenantkv.connect(any_server.url, namespace=Namespace(keyring), seal=True, names=names, registry=True)
    replica = _Replica(any_server)
    told: dict[str, bytes] = {}
    try:
        with kv.pubsub() as subscriber, operator.pubsub() as neighbour:
            subscriber.subscribe("news")
            subscriber.get_message(timeout=1)
            neighbour.psubscribe("*")
            neighbour.get_message(timeout=1)
            _with_everything(kv)
            told["PUBSUB CHANNELS"] = repr(operator.execute_command("PUBSUB", "CHANNELS", "*")).encode()
            heard = [neighbour.get_message(timeout=0.3) for _ in range(4)]
            told["PSUBSCRIBE *"] = repr([message for message in heard if message]).encode()
        # The server notes whose command it refused, with the key's or the channel's name.
        acl = _refused_by_acl(any_server, kv)
        told["ACL LOG"] = acl
        operator.set("the-end", "of-the-stream")
        replica.until(lambda: b"of-the-stream" in replica.heard)
        told["SYNC"] = replica.heard
        told["SLOWLOG GET"] = repr(operator.execute_command("SLOWLOG", "GET", 10_000)).encode()
        told["RDB"] = _rdb(any_server)
    finally:
        replica.close()
        operator.config_set("slowlog-log-slower-than", 10_000)
        kv.close()
    # Each of them tells something, or the test looked at nothing.
    assert b"of-the-stream" in told["RDB"] and b"SLOWLOG" not in told["SYNC"]
    assert told["SYNC"].count(keyring.prefix.encode()) > 10 < told["RDB"].count(keyring.prefix.encode())
    assert b"SET" in told["SLOWLOG GET"] and b"key" in told["ACL LOG"] and len(told["PUBSUB CHANNELS"]) > 30
    assert b"pmessage" in told["PSUBSCRIBE *"]
    for what, text in told.items():
        assert leaks(text, secrets) == [], what
        assert CONTENT.encode() not in text, what
        if names == "hidden":
            assert OWN_NAME.encode() not in text, what
    if names == "plain":
        assert OWN_NAME.encode() in told["SYNC"], "the test would not have seen a name"


def _refused_by_acl(server: RealServer, kv: Any) -> bytes:
    """Run the same commands as a user who may touch nothing, and return what the server noted."""
    operator = server.operator()
    operator.execute_command("ACL", "LOG", "RESET")
    operator.execute_command(
        "ACL", "SETUSER", "nobody", "on", ">nobody", "+@all", "~nothing", "resetchannels"
    )
    refused = tenantkv.connect(
        server.url, namespace=kv.namespace, username="nobody", password="nobody", registry=False
    )
    for call in (
        lambda: refused.set(OWN_NAME, CONTENT),
        lambda: refused.hset(OWN_NAME, "f", CONTENT),
        lambda: refused.publish("news", CONTENT),
        lambda: refused.pipeline().rpush(OWN_NAME, CONTENT).execute(),
    ):
        with pytest.raises(redis.ResponseError):
            call()
    refused.close()
    log = repr(operator.execute_command("ACL", "LOG", 100)).encode()
    operator.execute_command("ACL", "DELUSER", "nobody")
    return log


def test_a_client_without_seals_would_have_been_seen(open_server: RealServer) -> None:
    """The same look at a namespace that is not sealed finds the content in each place."""
    kv = tenantkv.connect(open_server.url, namespace=Namespace(Keyring.generate(os.urandom(96))))
    replica = _Replica(open_server)
    _with_everything(kv)
    open_server.operator().set("the-end", "of-the-stream")
    replica.until(lambda: b"of-the-stream" in replica.heard)
    replica.close()
    assert CONTENT.encode() in replica.heard and CONTENT.encode() in _rdb(open_server)
    assert OWN_NAME.encode() in replica.heard
    kv.close()
