"""The secret-taint test: prefix and key material in nothing that leaves the process or reaches a person."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import pickle
import subprocess
import sys
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
