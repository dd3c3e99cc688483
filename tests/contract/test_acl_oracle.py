"""A tenant as an ACL user who may touch nothing but the tenant's names: the server finds every stray.

Each shape of `tests/shapes.py` goes through our client in several forms, and the answer is compared
with that of a plain client on an empty database of the same server. NOPERM anywhere fails, and so does
a change of any key outside the tenant's prefix.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import redis

import tenantkv
from tenantkv import Keyring, Namespace
from tenantkv.commands.table import RULES
from tenantkv.transport import async_client, async_pool, client, pool, redis_py
from tests.servers import RealServer
from tests.shapes import SETUP, SHAPES, Shape, name_of
from tests.twins import Outcome, alike, async_outcome, contents, of_reply, outcome, snapshot

# Databases: the tenant and a neighbour in 0, and a plain client alone in 9.
PLAIN = 9

# Form of sending, protocol, and whether our lean paths are on.
CASES = [
    ("single", 2, True),
    ("single", 3, True),
    ("single", 3, False),
    ("lower case", 3, True),
    ("pipeline", 2, True),
    ("pipeline", 3, False),
    ("transaction", 2, True),
    ("transaction", 3, True),
    ("transaction", 2, False),
    ("asyncio", 2, True),
    ("asyncio", 3, True),
    ("asyncio", 2, False),
]

# What servers deny although it stays inside.
DENIED = {
    "SORT BY and GET": "servers from 7.0 on cannot tell which keys a pattern will reach, so they want a "
    "user with access to all keys for it, whatever the pattern is",
    "XREADGROUP GROUP STREAMS": "the key spec takes the group's name for the word STREAMS, and so the "
    "words behind it for keys",
    "PSUBSCRIBE": "a pattern must be the very pattern of the ACL rule, so only PSUBSCRIBE * passes",
}


def is_denied(shape: Shape) -> bool:
    if shape[0] in (b"SORT", b"SORT_RO"):
        return bool({b"BY", b"GET"} & set(shape))
    return shape[0] == b"XREADGROUP" and shape.count(b"STREAMS") > 1


def says_denied(text: str) -> bool:
    return "NOPERM" in text or "ermission" in text


def confine(server: RealServer, namespace: Namespace) -> None:
    """Make the user `tenant`, confined to one namespace."""
    keys, channels = namespace.wire_prefix.decode(), namespace.channel_prefix.decode()
    rules = f"reset on >word ~{keys}* +@all -@admin"
    if server.knows_channel_rules:
        rules += f" resetchannels &{channels}*"
    server.command("ACL", "SETUSER", "tenant", *rules.split())


@cache
def offered(server: RealServer) -> frozenset[str]:
    return frozenset(name.upper() for name in server.operator().command())


class Stage:
    """One server with a confined tenant, a neighbour who uses the same names, and a plain twin."""

    def __init__(self, server: RealServer, protocol: int) -> None:
        self.server = server
        self.namespace = Namespace(Keyring.generate(os.urandom(96)))
        self.options: dict[str, Any] = {
            "namespace": self.namespace,
            "username": "tenant",
            "password": "word",
            "protocol": protocol,
        }
        confine(server, self.namespace)
        self.outside = server.operator()
        self.plain = server.plain(database=PLAIN, protocol=protocol)
        self.reader = redis.Redis(unix_socket_path=server.socket_path, db=PLAIN, protocol=2)
        self.tenant = tenantkv.connect(server.url, **self.options)

    def set_up(self) -> None:
        """Give tenant, neighbour and twin the same keys under the same own names."""
        self.outside.execute_command("FLUSHALL")
        prefix = self.namespace.wire_prefix
        for side, start in ((self.outside, prefix), (self.outside, b""), (self.plain, b"")):
            with side.pipeline(transaction=False) as lot:
                for name, *rest in SETUP:
                    # The key is the first argument, but behind XGROUP CREATE.
                    at = 1 if name == b"XGROUP" else 0
                    rest[at] = start + rest[at]
                    lot.execute_command(name, *rest)
                lot.execute()
        self.neighbour = self.others()

    def others(self) -> dict[bytes, Any]:
        """Return every key of the tenant's database that is not the tenant's."""
        prefix = self.namespace.wire_prefix
        found = snapshot(self.outside)
        return {name: value for name, value in found.items() if not name.startswith(prefix)}

    def same_keys(self) -> bool:
        """Whether the tenant's keys are those that the plain client left behind."""
        prefix = self.namespace.wire_prefix
        own = [name for name in snapshot(self.outside) if name.startswith(prefix)]
        return contents(self.outside, own, prefix) == contents(self.reader, snapshot(self.reader))

    def close(self) -> None:
        self.tenant.close()
        self.plain.close()
        self.reader.close()


def single(client: redis.Redis, shape: Shape) -> Outcome:
    return outcome(client.execute_command, *shape)


def lower_case(client: redis.Redis, shape: Shape) -> Outcome:
    return outcome(client.execute_command, shape[0].lower(), *shape[1:])


def among_others(client: redis.Redis, shape: Shape, *, transaction: bool) -> Outcome:
    """Run one shape between two others, so that a wrong pairing of replies shows."""
    with client.pipeline(transaction=transaction) as lot:
        lot.execute_command("LMOVE", "list", "list", "LEFT", "LEFT")
        lot.execute_command(*shape)
        lot.execute_command("BLPOP", "nums", "0.01")
        kind, replies = outcome(lot.execute, False)
    if kind != "value":
        return kind, replies
    assert replies[0] == b"a" and list(replies[2]) == [b"nums", b"3"], replies
    return of_reply(replies[1])


def pipeline(client: redis.Redis, shape: Shape) -> Outcome:
    return among_others(client, shape, transaction=False)


def transaction(client: redis.Redis, shape: Shape) -> Outcome:
    return among_others(client, shape, transaction=True)


class AsyncForm:
    """Runs shapes one by one through one asyncio client."""

    def __init__(self, stage: Stage) -> None:
        self.loop = asyncio.new_event_loop()
        self.client = tenantkv.asyncio.connect(stage.server.url, **stage.options)

    def __call__(self, client: redis.Redis, shape: Shape) -> Outcome:
        if not isinstance(client, tenantkv.TenantRedis):
            return single(client, shape)
        return self.loop.run_until_complete(async_outcome(self.client.execute_command, *shape))

    def close(self) -> None:
        self.loop.run_until_complete(self.client.aclose())
        self.loop.close()


FORMS = {"single": single, "lower case": lower_case, "pipeline": pipeline, "transaction": transaction}


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-RESP{case[1]}-{'lean' if case[2] else 'plain'}")
def staged(
    request: pytest.FixtureRequest, any_server: RealServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Stage, Callable[[redis.Redis, Shape], Outcome]]]:
    form, protocol, lean = request.param
    for module in (async_client, async_pool, client, pool, redis_py):
        monkeypatch.setattr(module, "LEAN", lean)
    stage = Stage(any_server, protocol)
    if form == "asyncio":
        through = AsyncForm(stage)
        yield stage, through
        through.close()
    else:
        yield stage, FORMS[form]
    stage.close()


def test_every_shape_stays_inside(staged: tuple[Stage, Callable[..., Outcome]]) -> None:
    stage, send = staged
    ran, fresh = 0, False
    for shape in SHAPES:
        name = name_of(shape)
        if shape[0].decode() not in offered(stage.server):
            continue
        ran += 1
        if not fresh or send in (pipeline, transaction):
            stage.set_up()
        ours, theirs = send(stage.tenant, shape), send(stage.plain, shape)
        assert stage.others() == stage.neighbour, shape
        fresh = not RULES[name].writes
        if ours[0] != "value" and says_denied(str(ours[1])):
            assert is_denied(shape), (shape, ours)
            fresh = False
            continue
        assert alike(name, ours, theirs), (shape, ours, theirs)
        if RULES[name].writes and name != "SPOP":
            assert stage.same_keys(), shape
    assert ran > 180


def test_the_server_does_catch_strays(any_server: RealServer) -> None:
    """The oracle can fail: a plain client as the same user is refused."""
    stage = Stage(any_server, 2)
    bare = redis.Redis(unix_socket_path=any_server.socket_path, username="tenant", password="word")
    with pytest.raises(redis.exceptions.NoPermissionError):
        bare.get("str")
    with pytest.raises(redis.exceptions.NoPermissionError):
        bare.publish("news", "x")
    with pytest.raises(redis.ResponseError, match=r"can't access|No permissions|NOPERM"):
        bare.eval("return redis.call('GET','str')", 0)
    bare.close()
    stage.close()


SCRIPTS = [
    ("return redis.call('GET',KEYS[1])", ["str"], []),
    ("return redis.call('SET','built:'..ARGV[1],KEYS[1])", ["str"], ["x"]),
    ("return redis.call('PUBLISH','news',KEYS[1])", ["str"], []),
    ("local r=redis.call('LMOVE','list','dst','LEFT','LEFT') return {r,KEYS[1],#ARGV}", ["str"], ["a", "b"]),
    ("return redis.pcall('EVAL','return 1',0).err and 1", [], []),
    ("return redis.pcall('FLUSHALL').err and 1", [], []),
]


@pytest.mark.parametrize("protocol", [2, 3])
def test_scripts_stay_inside(any_server: RealServer, protocol: int) -> None:
    stage = Stage(any_server, protocol)
    stage.set_up()
    for text, keys, arguments in SCRIPTS:
        script = stage.tenant.register_script(text)
        reply = script(keys=keys, args=arguments)
        # By its digest, within a transaction, and as its text again.
        with stage.tenant.pipeline() as lot:
            script(keys=keys, args=arguments, client=lot)
            lot.execute()
        if "FLUSHALL" not in text and "'EVAL'" not in text:
            assert reply == stage.plain.eval(text, len(keys), *keys, *arguments)
        else:
            assert reply == 1
    assert stage.others() == stage.neighbour
    assert stage.tenant.get("built:x") == b"str"
    stage.close()


def settle(listener: redis.client.PubSub) -> None:
    """Read acknowledgements until the subscriptions stand; a refusal is raised here."""
    for _ in range(3):
        assert listener.get_message(timeout=2) is None


@pytest.mark.parametrize("protocol", [2, 3])
def test_pubsub_stays_inside(any_server: RealServer, protocol: int) -> None:
    stage = Stage(any_server, protocol)
    with stage.tenant.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe("news", "*")
        listener.psubscribe("*")
        settle(listener)
        assert sorted(stage.tenant.pubsub_channels()) == [b"*", b"news"]
        assert dict(stage.tenant.pubsub_numsub("news", "other")) == {b"news": 1, b"other": 0}
        stage.outside.publish("news", "hostile")
        assert stage.tenant.publish("news", "mine") == 2
        assert stage.tenant.publish("other", "by pattern") == 1
        found = [listener.get_message(timeout=2) for _ in range(3)]
        assert listener.get_message(timeout=0.05) is None
        assert {(m["type"], m["pattern"], m["channel"], m["data"]) for m in found} == {
            ("message", None, b"news", b"mine"),
            ("pmessage", b"*", b"news", b"mine"),
            ("pmessage", b"*", b"other", b"by pattern"),
        }
    stage.close()


@pytest.mark.parametrize("protocol", [2, 3])
def test_watch_sees_the_tenants_key_only(any_server: RealServer, protocol: int) -> None:
    stage = Stage(any_server, protocol)
    stage.set_up()
    with stage.tenant.pipeline() as lot:
        lot.watch("str")
        stage.outside.set("str", "by a neighbour")
        lot.multi()
        lot.get("str")
        assert lot.execute() == [b"hello"]
        lot.watch("str")
        stage.tenant.set("str", "changed")
        lot.multi()
        lot.get("str")
        with pytest.raises(redis.WatchError):
            lot.execute()
    stage.close()
