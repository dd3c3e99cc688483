"""Sealed values and hidden names through the real clients, on real servers.

What a tenant reads is what a tenant without seals reads: the same commands go to two namespaces of one
server, one sealed and one not, in both worlds, both protocols, decoded and not, one by one, in pipelines
and in transactions. What stands on the server meanwhile holds no value (and no name) in clear.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis import cluster as redis_cluster

import tenantkv
from tenantkv import Keyring, Namespace
from tenantkv.commands.decisions import DECISIONS, values_of
from tenantkv.commands.table import find_rule
from tenantkv.errors import (
    ForbiddenCommandError,
    OpenError,
    PlaintextRefusedError,
    RefusedError,
    UnknownKeyError,
)
from tenantkv.rotation import add_key, promote
from tenantkv.secret import Secret
from tests.contract.test_sealing_server import NEWER, STORIES, words
from tests.neighbourhood import wait_for
from tests.servers import RealServer, installed, start_server, start_tcp
from tests.shapes import SETUP, SHAPES, Shape, name_of
from tests.topologies import start_cluster, start_sentinel
from tests.twins import alike, async_outcome, of_reply, outcome

TOKEN = "ghp_" + "Ab3dEf6hIj" * 4
PASSWORD = "tr0ub4dor-" + "99xk"
ONE_CONTEXT = {"*": "all"}

# They tell of stored bytes, or give them to scripts.
OF_STORED_BYTES = {"OBJECT ENCODING", "EVAL", "EVAL_RO", "OBJECT REFCOUNT"}
# They make key names of patterns or in scripts.
NOT_WITH_HIDDEN_NAMES = {"KEYS", "SCAN", "EVAL", "EVAL_RO", "EVALSHA", "EVALSHA_RO", "SORT", "SORT_RO"}


@pytest.fixture
def namespace() -> Namespace:
    return Namespace(Keyring.generate(os.urandom(96)))


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def protocol(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(
    params=[pytest.param(False, id="straight"), pytest.param(True, id="crossed", marks=pytest.mark.slow)]
)
def decode(request: pytest.FixtureRequest, protocol: int) -> bool:
    """Bytes in RESP2 and text in RESP3; the other way round takes long and proves more of the same."""
    return bool(request.param) is not (protocol == 3)


class Pair:
    """One server, and two tenants with the same keys: sealed and plain."""

    def __init__(self, server: RealServer, namespace: Namespace, **options: Any) -> None:
        said = {name: options.pop(name) for name in ("seal", "names", "mode", "contexts") if name in options}
        self.server = server
        self.homes = {
            "sealed": namespace.child("sealed"),
            "plain": namespace.child("plain"),
        }
        said = {"seal": True, "contexts": ONE_CONTEXT, **said}
        self.sealed = tenantkv.connect(server.url, namespace=self.homes["sealed"], **said, **options)
        self.plain = tenantkv.connect(server.url, namespace=self.homes["plain"], plaintext="off", **options)
        self._setup: list[Shape] | None = None

    def setup(self) -> None:
        if self._setup is None:
            self._setup = [command for command in SETUP if not is_refused(self, command)]
        self.server.flush()
        for client in (self.sealed, self.plain):
            with client.pipeline(transaction=False) as pipeline:
                for command in self._setup:
                    pipeline.execute_command(*command)
                pipeline.execute()

    def stored(self) -> bytes:
        """Return all that the server holds of the sealed tenant, names and values, as one run of bytes."""
        start = self.homes["sealed"].wire_prefix
        return b"\n".join(
            name + b" " + value
            for (_, name), (value, _) in self.server.dump().items()
            if name.startswith(start)
        )

    def close(self) -> None:
        self.sealed.close()
        self.plain.close()


def offers(client: Any, name: str) -> bool:
    """Whether a server has a command."""
    word = name.partition(" ")[0]
    return word.lower() in client.execute_command("COMMAND INFO", word)


@pytest.fixture
def pair(any_server: RealServer, namespace: Namespace, protocol: int, decode: bool) -> Iterator[Pair]:
    made = Pair(any_server, namespace, protocol=protocol, decode_responses=decode)
    yield made
    made.close()


def is_refused(pair: Pair, shape: Shape) -> bool:
    connection = pair.sealed.connection_pool.get_connection()
    try:
        connection.pack_command(*shape)
    except RefusedError:
        return True
    finally:
        pair.sealed.connection_pool.release(connection)
    return False


class TestEveryCommand:
    def test_answers_as_in_clear(self, any_server: RealServer, namespace: Namespace, protocol: int) -> None:
        # Decoded with the one and not with the other; the stories have both with both.
        pair = Pair(any_server, namespace, protocol=protocol, decode_responses=protocol == 3)
        compared = 0
        for shape in SHAPES:
            if name_of(shape) in OF_STORED_BYTES or is_refused(pair, shape):
                continue
            pair.setup()
            ours = outcome(pair.sealed.execute_command, *shape)
            theirs = outcome(pair.plain.execute_command, *shape)
            assert alike(name_of(shape), ours, theirs), (shape, ours, theirs)
            compared += 1
        pair.close()
        assert compared > 120

    def test_with_hidden_names(self, any_server: RealServer, namespace: Namespace) -> None:
        pair = Pair(any_server, namespace, names="hidden", protocol=3, registry=False)
        compared = 0
        for shape in SHAPES:
            if name_of(shape) in OF_STORED_BYTES | NOT_WITH_HIDDEN_NAMES or is_refused(pair, shape):
                continue
            pair.setup()
            ours = outcome(pair.sealed.execute_command, *shape)
            theirs = outcome(pair.plain.execute_command, *shape)
            if name_of(shape) == "XREADGROUP" and ours[0] == theirs[0] == "error":
                # The server says which key has no such group, by the name that it knows.
                assert type(ours[1]) is type(theirs[1])
                continue
            assert alike(name_of(shape), ours, theirs), (shape, ours, theirs)
            compared += 1
        assert compared > 110
        pair.close()

    def test_every_row_of_the_value_table_was_among_them(self, any_server: RealServer) -> None:
        """Of those that this server offers, but for what has tests of its own."""
        lines = [line for story in [*STORIES.values(), NEWER] for line in story.strip().splitlines()]
        done = {name_of(tuple(words(line))) for line in lines} | {name_of(shape) for shape in SHAPES}
        rows = {each.name for each in DECISIONS.values() if each.what in ("sealed", "context")}
        client = any_server.operator()
        offered = {name for name in rows if offers(client, name)}
        assert offered - done <= {"PUBLISH", "SPUBLISH"}, offered - done

    @pytest.mark.parametrize("story", STORIES)
    @pytest.mark.parametrize(
        "said",
        [
            pytest.param({}, id="sealed"),
            pytest.param({"names": "hidden"}, id="hidden"),
            pytest.param({"mode": "sign"}, id="signed", marks=pytest.mark.slow),
        ],
    )
    def test_stories(
        self, any_server: RealServer, namespace: Namespace, protocol: int, story: str, said: Any
    ) -> None:
        pair = Pair(any_server, namespace, protocol=protocol, **said)
        told: set[bytes] = set()
        for line in STORIES[story].strip().splitlines():
            command = words(line)
            ours = outcome(pair.sealed.execute_command, *command)
            theirs = outcome(pair.plain.execute_command, *command)
            assert alike(name_of(tuple(command)), ours, theirs), (line, ours, theirs)
            told |= {value for value, _, _ in values_of(command, find_rule(command)) if len(value) > 4}
            stored = pair.stored()
            assert said.get("mode") == "sign" or not [value for value in told if value in stored]
        pair.close()

    @pytest.mark.parametrize("story", STORIES)
    @pytest.mark.parametrize("transaction", [False, True], ids=["pipeline", "multi"])
    def test_stories_at_once(self, pair: Pair, story: str, transaction: bool) -> None:
        commands = [words(line) for line in STORIES[story].strip().splitlines()]
        # An unknown command would abort the transaction.
        known = {name: offers(pair.server.operator(), name) for name in {name_of(tuple(c)) for c in commands}}
        commands = [command for command in commands if known[name_of(tuple(command))]]
        replies = []
        for client in (pair.sealed, pair.plain):
            with client.pipeline(transaction=transaction) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                replies.append(pipeline.execute(raise_on_error=False))
        for command, ours, theirs in zip(commands, *replies, strict=True):
            assert alike(name_of(tuple(command)), of_reply(ours), of_reply(theirs)), (command, ours, theirs)

    @pytest.mark.parametrize("story", STORIES)
    async def test_stories_asyncio(
        self, any_server: RealServer, namespace: Namespace, protocol: int, story: str
    ) -> None:
        sealed = tenantkv.asyncio.connect(
            any_server.url, namespace=namespace.child("a"), protocol=protocol, seal=True, contexts=ONE_CONTEXT
        )
        plain = tenantkv.asyncio.connect(
            any_server.url, namespace=namespace.child("b"), protocol=protocol, plaintext="off"
        )
        commands = [words(line) for line in STORIES[story].strip().splitlines()]
        commands = [c for c in commands if offers(any_server.operator(), name_of(tuple(c)))]
        for command in commands:
            ours = await async_outcome(sealed.execute_command, *command)
            theirs = await async_outcome(plain.execute_command, *command)
            assert alike(name_of(tuple(command)), ours, theirs), (command, ours, theirs)
        any_server.flush()
        for transaction in (False, True):
            replies = []
            for client in (sealed, plain):
                async with client.pipeline(transaction=transaction) as pipeline:
                    for command in commands:
                        pipeline.execute_command(*command)
                    replies.append(await pipeline.execute(raise_on_error=False))
            for command, ours, theirs in zip(commands, *replies, strict=True):
                assert alike(name_of(tuple(command)), of_reply(ours), of_reply(theirs)), command
        await sealed.aclose()
        await plain.aclose()

    def test_newer_commands(self, namespace: Namespace, protocol: int) -> None:
        newest = max(installed(), key=lambda b: (b.product == "valkey", b.version))
        server = start_server(binary=newest.path)
        try:
            pair = Pair(server, namespace, protocol=protocol)
            for line in NEWER.strip().splitlines():
                command = words(line)
                if not offers(server.operator(), name_of(tuple(command))):
                    continue
                ours = outcome(pair.sealed.execute_command, *command)
                theirs = outcome(pair.plain.execute_command, *command)
                if name_of(tuple(command)) != "HRANDFIELD":
                    assert alike(name_of(tuple(command)), ours, theirs), (line, ours, theirs)
            pair.close()
        finally:
            server.stop()


class TestSecretsInAnUnsealedNamespace:
    def test_as_any_value(
        self, any_server: RealServer, namespace: Namespace, protocol: int, decode: bool
    ) -> None:
        kv: Any = tenantkv.connect(
            any_server.url, namespace=namespace, protocol=protocol, decode_responses=decode
        )
        value: Any = PASSWORD if decode else PASSWORD.encode()
        x: Any = "x" if decode else b"x"

        def own(text: str) -> Any:
            return text if decode else text.encode()

        kv.set("a", Secret(PASSWORD))
        kv.mset({"b": Secret(PASSWORD), "c": "x"})
        assert kv.get("a") == value and kv.mget("a", "b", "c", "none") == [value, value, x, None]
        assert kv.set("a", Secret(PASSWORD), get=True) == value and kv.getset("a", Secret(PASSWORD)) == value
        assert kv.getex("a") == value
        kv.hset("h", mapping={"f": Secret(PASSWORD), "g": "x"})
        assert kv.hget("h", "f") == value and kv.hgetall("h") == {own("f"): value, own("g"): x}
        assert kv.hmget("h", "f", "g") == [value, x]
        assert dict(kv.hscan_iter("h")) == {own("f"): value, own("g"): x}
        kv.rpush("l", Secret(PASSWORD), "x", Secret(PASSWORD))
        assert kv.lrange("l", 0, -1) == [value, x, value]
        assert kv.lpop("l") == value and kv.blpop(["none", "l"], 1) in ((own("l"), x), [own("l"), x])
        assert tuple(kv.brpop("l", 1)) == (own("l"), value)
        kv.sadd("s", Secret(PASSWORD), "x")
        assert kv.smembers("s") == {value, x} and kv.sismember("s", Secret(PASSWORD))
        assert not kv.sismember("s", PASSWORD + "!") and set(kv.sscan_iter("s")) == {value, x}
        kv.execute_command("ZADD", "z", 1, Secret(PASSWORD), 2, "x")
        assert [member for member, _ in kv.zrange("z", 0, -1, withscores=True)] == [value, x]
        assert kv.zscore("z", Secret(PASSWORD)) == 1.0
        kv.xadd("st", {"f": Secret(PASSWORD), "g": "x"})
        assert kv.xrange("st")[0][1] == {own("f"): value, own("g"): x}
        kv.xgroup_create("st", "group", 0)
        for reply in (kv.xread({"st": 0}), kv.xreadgroup("group", "me", {"st": ">"})):
            assert value in str(reply) if decode else repr(value) in repr(reply)
        assert PASSWORD.encode() not in b"".join(value for value, _ in any_server.dump().values())
        with kv.pipeline() as pipeline:
            pipeline.set("a", Secret(PASSWORD)).get("a").hget("h", "g").get("c")
            assert pipeline.execute() == [True, value, x, x]
        assert kv.using(seal=True).get("a") == value
        kv.close()

    def test_per_call_sealing(self, any_server: RealServer, namespace: Namespace) -> None:
        kv = tenantkv.connect(any_server.url, namespace=namespace)
        sealing = kv.using(seal=True)
        sealing.set("a", TOKEN)
        sealing.hset("h", "password", PASSWORD)
        assert kv.get("a") == TOKEN.encode() and kv.hget("h", "password") == PASSWORD.encode()
        with pytest.raises(PlaintextRefusedError):
            kv.set("a", TOKEN)
        with pytest.raises(PlaintextRefusedError):
            kv.pipeline().set("b", 1).set("a", TOKEN).execute()
        assert not kv.exists("b")
        kv.using(plaintext_ok="a sample").set("b", TOKEN)
        assert any_server.operator().get(namespace.wire_name(b"b")) == TOKEN.encode()
        # A sealed client does not take what lies in clear.
        with pytest.raises(OpenError):
            sealing.get("b")
        kv.close()

    def test_every_client_refuses(self, any_server: RealServer, namespace: Namespace) -> None:
        clients: list[Any] = [
            tenantkv.connect(any_server.url, namespace=namespace),
            tenantkv.connect(any_server.url, namespace=namespace).child("a"),
            redis.Redis(connection_pool=tenantkv.connection_pool(any_server.url, namespace=namespace)),
            tenantkv.connect(any_server.url, namespace=namespace, registry=True),
            tenantkv.connect(any_server.url, namespace=namespace, names="hidden"),
        ]
        for client in clients:
            for write in (
                lambda c=client: c.set("a", TOKEN),
                lambda c=client: c.hset("h", "f", TOKEN),
                lambda c=client: c.pipeline().set("a", TOKEN).execute(),
                lambda c=client: c.pipeline(transaction=False).rpush("l", "x", TOKEN).execute(),
                lambda c=client: c.publish("news", TOKEN),
            ):
                with pytest.raises(redis.ResponseError) as caught:
                    write()
                assert isinstance(caught.value, PlaintextRefusedError) and TOKEN not in str(caught.value)
        assert TOKEN.encode() not in b"".join(value for value, _ in any_server.dump().values())
        for client in clients:
            client.close()


class TestBlockingAndTransactions:
    @pytest.mark.parametrize("names", ["plain", "hidden"])
    def test_blocking_pops(
        self, any_server: RealServer, namespace: Namespace, protocol: int, names: str
    ) -> None:
        kv = tenantkv.connect(
            any_server.url,
            namespace=namespace,
            protocol=protocol,
            seal=True,
            names=names,
            contexts={"q*": "q"},
        )
        kv.rpush("q1", "one", "two", "three")
        kv.zadd("z1", {"low": 1, "high": 9})
        popped: Any = kv.blpop(["none", "q1"], 1)
        assert tuple(popped) == (b"q1", b"one")
        assert (
            kv.blmove("q1", "q2", 1, "LEFT", "RIGHT") == b"two" and kv.brpoplpush("q1", "q2", 1) == b"three"
        )
        assert set(kv.lrange("q2", 0, -1)) == {b"two", b"three"}
        lowest: Any = kv.bzpopmin(["none", "z1"], 1)
        highest: Any = kv.bzpopmax("z1", 1)
        assert list(lowest) == [b"z1", b"low", 1.0] and list(highest) == [b"z1", b"high", 9.0]
        assert kv.blpop("none", 0.05) is None
        if any_server.product != "redis" or any_server.version_info >= (7,):
            kv.rpush("q3", "x")
            assert kv.blmpop(1, 2, "none", "q3", direction="LEFT") == [b"q3", [b"x"]]
        kv.close()

    @pytest.mark.parametrize("names", ["plain", "hidden"])
    def test_watch(self, any_server: RealServer, namespace: Namespace, protocol: int, names: str) -> None:
        kv = tenantkv.connect(any_server.url, namespace=namespace, protocol=protocol, seal=True, names=names)
        kv.set("n", 1)
        tries = []

        def increase(pipeline: Any) -> None:
            now = int(pipeline.get("n"))
            if not tries:
                kv.set("n", 10)
            tries.append(now)
            pipeline.multi()
            pipeline.set("n", now + 1)
            pipeline.get("n")

        assert kv.transaction(increase, "n") == [True, b"11"] and tries == [1, 10]
        with kv.pipeline() as pipeline, pytest.raises(redis.WatchError):
            pipeline.watch("n")
            kv.set("n", 5)
            pipeline.multi()
            pipeline.set("n", 6)
            pipeline.execute()
        assert kv.get("n") == b"5"
        kv.close()

    @pytest.mark.parametrize("names", ["plain", "hidden"])
    def test_streams_with_groups(
        self, any_server: RealServer, namespace: Namespace, protocol: int, names: str
    ) -> None:
        kv: Any = tenantkv.connect(
            any_server.url, namespace=namespace, protocol=protocol, seal=True, names=names
        )
        kv.xgroup_create("st", "g", mkstream=True)
        ids = [kv.xadd("st", {"n": n, "f": "text"}) for n in range(3)]
        expected = [(entry, {b"n": b"%d" % n, b"f": b"text"}) for n, entry in enumerate(ids)]

        def entries(reply: Any) -> Any:
            # A list in RESP2, a dictionary in RESP3 of some versions of redis-py.
            found = reply[b"st"] if isinstance(reply, dict) else dict((n, e) for n, e in reply)[b"st"]
            return (
                found[0] if found and isinstance(found[0], list) and isinstance(found[0][0], tuple) else found
            )

        assert entries(kv.xreadgroup("g", "a", {"st": ">"}, count=2)) == expected[:2]
        assert entries(kv.xreadgroup("g", "a", {"st": "0"})) == expected[:2]
        assert entries(kv.xread({"none": 0, "st": 0})) == expected
        assert kv.xclaim("st", "g", "b", 0, [ids[0]]) == expected[:1]
        assert kv.xautoclaim("st", "g", "c", 0)[1] == expected[:2]
        assert kv.xack("st", "g", ids[0]) == 1 and kv.xrevrange("st", count=1) == expected[2:]
        assert kv.xinfo_stream("st")["first-entry"] in (expected[0], list(expected[0]))
        kv.close()


class TestScans:
    def test_own_names_and_values(self, any_shared_server: RealServer, namespace: Namespace) -> None:
        """On a server without SCAN: names from the registry, which is sealed where names are hidden."""
        for names in ("plain", "hidden"):
            kv = tenantkv.connect(
                any_shared_server.url, namespace=namespace.child(names), seal=True, names=names, registry=True
            )
            own = {b"user:%d" % n for n in range(50)}
            for name in own:
                kv.set(name, b"v" + name)
            kv.hset("user:hash", mapping={f"f{n}": n for n in range(30)})
            assert set(kv.scan_iter("user:*")) == set(kv.keys("user:*")) == own | {b"user:hash"}
            assert set(kv.scan_iter("user:1*")) == {name for name in own if name.startswith(b"user:1")}
            assert kv.dbsize() == 51 and kv.randomkey() in own | {b"user:hash"}
            assert dict(kv.hscan_iter("user:hash", count=3)) == {b"f%d" % n: b"%d" % n for n in range(30)}
            start = kv.namespace.wire_prefix
            dump = any_shared_server.dump().items()
            stored = b" ".join(
                name + b" " + value for (_, name), (value, _) in dump if name.startswith(start)
            )
            if names == "hidden":
                assert b"user:" not in stored
            kv.flushdb()
            assert kv.dbsize() == 0 and not any(kv.exists(name) for name in own)
            kv.close()

    def test_the_refusal_says_what_to_turn_on(
        self, any_shared_server: RealServer, namespace: Namespace
    ) -> None:
        kv = tenantkv.connect(any_shared_server.url, namespace=namespace, names="hidden", registry=False)
        with pytest.raises(ForbiddenCommandError, match="registry"):
            kv.keys("*")
        kv.close()


def received(subscriber: Any, count: int) -> list[Any]:
    found: list[Any] = []

    def look() -> bool:
        message = subscriber.get_message(timeout=0.2)
        if message is not None and message["type"].endswith("message"):
            found.append(message)
        return len(found) >= count

    wait_for("messages", look)
    return found


class TestPubSub:
    @pytest.mark.parametrize("names", ["plain", "hidden"])
    def test_channels_and_patterns(
        self, any_server: RealServer, namespace: Namespace, protocol: int, decode: bool, names: str
    ) -> None:
        kv: Any = tenantkv.connect(
            any_server.url,
            namespace=namespace,
            protocol=protocol,
            decode_responses=decode,
            seal=True,
            names=names,
            plaintext_channels=["open"],
        )
        heard: list[bytes] = []
        with kv.pubsub() as subscriber, any_server.operator().pubsub() as neighbour:
            neighbour.psubscribe("*")
            neighbour.get_message(timeout=1)
            subscriber.subscribe("news", "open")
            subscriber.psubscribe("n*")
            for _ in range(3):
                subscriber.get_message(timeout=1)
            # What anybody may send, first, so that it would be seen.
            channel = namespace.channel_prefix + b"news"
            any_server.operator().publish(channel, "forged")
            kv.publish("news", PASSWORD)
            kv.publish("open", "hello")
            found = received(subscriber, 3)
            data = PASSWORD if decode else PASSWORD.encode()
            assert sorted((m["type"], m["data"]) for m in found[:2]) == [
                ("message", data),
                ("pmessage", data),
            ]
            assert found[2]["data"] == ("hello" if decode else b"hello")
            assert kv.protector.dropped_messages == 2
            wait_for(
                "the neighbour",
                lambda: (
                    heard.append((neighbour.get_message(timeout=0.2) or {}).get("data", b""))
                    or len(heard) > 4
                ),
            )
            texts = [data for data in heard if isinstance(data, bytes)]
            assert b"hello" in texts and not any(PASSWORD.encode() in data for data in texts)
        kv.close()

    def test_a_handler_of_pushes(self, any_server: RealServer, namespace: Namespace) -> None:
        kv: Any = tenantkv.connect(any_server.url, namespace=namespace, protocol=3, seal=True)
        pushes: list[Any] = []
        try:
            subscriber = kv.pubsub(push_handler_func=pushes.append)
        except TypeError:
            pytest.skip("this redis-py has no push handlers")
        subscriber.subscribe("news")
        any_server.operator().publish(namespace.channel_prefix + b"news", "forged")
        kv.publish("news", PASSWORD)

        def look() -> bool:
            subscriber.get_message(timeout=0.1)
            return any(PASSWORD.encode() in push for push in pushes if push)

        wait_for("the push", look)
        assert not any(b"forged" in push for push in pushes if push)
        assert [b"message", b"news", PASSWORD.encode()] in pushes
        subscriber.close()
        kv.close()

    async def test_asyncio(self, any_server: RealServer, namespace: Namespace, protocol: int) -> None:
        kv = tenantkv.asyncio.connect(any_server.url, namespace=namespace, protocol=protocol, seal=True)
        subscriber = kv.pubsub()
        await subscriber.subscribe("news")
        await subscriber.psubscribe("n*")
        any_server.operator().publish(namespace.channel_prefix + b"news", "forged")
        await kv.publish("news", PASSWORD)
        found: list[Any] = []
        deadline = time.monotonic() + 30
        while len(found) < 2 and time.monotonic() < deadline:
            message = await subscriber.get_message(timeout=0.2)
            if message is not None and message["type"].endswith("message"):
                found.append(message["data"])
        assert found == [PASSWORD.encode()] * 2 and kv.protector.dropped_messages == 2
        await subscriber.aclose()
        await kv.aclose()


class TestSharing:
    def test_children_and_views_protect_alike(self, any_server: RealServer, namespace: Namespace) -> None:
        kv: Any = tenantkv.connect(any_server.url, namespace=namespace, seal=True, names="hidden")
        children = [kv.child("a"), kv.child("b"), kv.child("a").child("deep")]
        for client in (kv, *children):
            client.set("k", client.namespace.fingerprint)
        for client in (kv, *children):
            assert client.get("k") == client.namespace.fingerprint.encode()
            assert client.keys("*") == [b"k"]
        # One pool, and each command sealed by whoever spoke.
        assert all(child.connection_pool._pool is kv.connection_pool for child in children[:2])
        values = [
            any_server.operator().get(name) for name in any_server.dump_keys() if b"__tenantkv__" not in name
        ]
        assert len(set(values)) == 4 and all(value and value[:1] == b"\xc1" for value in values)
        kv.close()

    def test_a_pickled_namespace_is_protected(self, any_server: RealServer, tmp_path: Any) -> None:
        path = tmp_path / "keyring.json"
        path.write_text(Keyring.generate(os.urandom(96)).dump())
        path.chmod(0o600)
        kv = tenantkv.connect(any_server.url, keyring=path, seal=True, names="hidden")
        kv.set("a", PASSWORD)
        # What libraries hand to their workers: the arguments of a pool, with the namespace among them.
        data = pickle.dumps(kv.connection_pool.connection_kwargs["namespace"])
        assert b"seal" in data and kv.namespace.keyring.prefix.encode() not in data
        program = (
            "import pickle, sys, tenantkv\n"
            "namespace = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
            "kv = tenantkv.connect(sys.argv[2], namespace=namespace)\n"
            "print(kv.get('a').decode(), namespace.protection)\n"
            "kv.set('b', 'from-there')\n"
        )
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TENANTKV_")}
        done = subprocess.run(
            [sys.executable, "-c", program, data.hex(), any_server.url],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == f"{PASSWORD} Protection(seal=True, names='hidden')"
        assert kv.get("b") == b"from-there"
        assert b"from-there" not in b"".join(value for value, _ in any_server.dump().values())
        kv.close()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_fork_seals_with_nonces_of_its_own(self, any_server: RealServer, namespace: Namespace) -> None:
        kv = tenantkv.connect(any_server.url, namespace=namespace, seal=True)
        kv.set("before", "x")
        pids = []
        for n in range(3):
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    for m in range(20):
                        kv.set(f"child-{n}-{m}", "the same")
                        assert kv.get(f"child-{n}-{m}") == b"the same"
                    status = 0
                finally:
                    os._exit(status)
            pids.append(pid)
        assert all(os.waitpid(pid, 0)[1] == 0 for pid in pids)
        for m in range(20):
            kv.set(f"parent-{m}", "the same")
        nonces = [value[7:31] for value, _ in _strings(any_server)]
        assert len(nonces) == 81 == len(set(nonces))
        assert kv.get("child-2-19") == b"the same"
        kv.close()

    @pytest.mark.parametrize("names", ["plain", "hidden"])
    def test_client_side_caching(
        self, namespace: Namespace, names: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache_module = pytest.importorskip("redis.cache", reason="redis-py 5.1 brought the client-side cache")
        from redis.connection import CacheProxyConnection

        monkeypatch.setattr(CacheProxyConnection, "MIN_ALLOWED_VERSION", "6.0.0")
        server = start_tcp()
        try:
            options = {"namespace": namespace, "seal": True, "names": names}
            writer = tenantkv.connect(server.tcp_url, **options)
            kv: Any = tenantkv.connect(
                server.tcp_url, **options, protocol=3, cache_config=cache_module.CacheConfig()
            )
            if names == "hidden":
                with pytest.raises(ForbiddenCommandError, match="hidden"):
                    kv.get("a")
                return
            writer.set("a", PASSWORD)
            assert kv.get("a") == PASSWORD.encode()
            before = server.operator().info("commandstats")["cmdstat_get"]["calls"]
            assert kv.get("a") == PASSWORD.encode()
            assert server.operator().info("commandstats")["cmdstat_get"]["calls"] == before
            # A neighbour's forgery invalidates the copy; it is not taken.
            server.operator().set(namespace.wire_name(b"a"), "forged")
            # Once only: after any error redis-py's cache waits in vain for the next reply.
            wait_for("the invalidation", lambda: _fails(kv.get, "a"))
            writer.set("a", "new")
            wait_for("the new value", lambda: outcome(kv.get, "a") == ("value", b"new"))
            kv.close()
            writer.close()
        finally:
            server.stop()


def _fails(call: Callable[..., Any], *arguments: Any) -> bool:
    try:
        call(*arguments)
    except OpenError:
        return True
    return False


def _strings(server: RealServer) -> list[tuple[bytes, bytes]]:
    client: Any = server.operator()
    return [(client.get(name) or b"", name) for name in server.dump_keys()]


class TestRotation:
    def test_readers_follow_the_document(self, any_server: RealServer, tmp_path: Any) -> None:
        path = tmp_path / "keyring.json"
        first = Keyring.generate(os.urandom(96), settings={"seal": "yes"})
        path.write_text(first.dump())
        path.chmod(0o600)
        reader, late = (tenantkv.connect(any_server.url, keyring=path) for _ in range(2))
        reader.set("old", "1")
        added = add_key(first, os.urandom(32))
        path.write_text(promote(added, added.keys[-1].id).dump())
        writer = tenantkv.connect(any_server.url, keyring=path)
        assert writer.namespace.protection.seal, "rotation keeps the settings"
        writer.set("new", "2")
        assert (writer.get("old"), late.get("new"), reader.get("new")) == (b"1", b"2", b"2")
        for client in (reader, late, writer):
            client.close()

    def test_a_newer_document_counts_beside_an_older_one(self, any_server: RealServer) -> None:
        """Neither has a file, so nobody can look for what has changed."""
        first = Keyring.generate(os.urandom(96))
        added = add_key(first, os.urandom(32))
        second = promote(added, added.keys[-1].id)
        old = tenantkv.connect(any_server.url, keyring=first, seal=True)
        old.set("old", "1")
        new = tenantkv.connect(any_server.url, keyring=second, seal=True)
        new.set("new", "2")
        stored = any_server.operator().get(new.namespace.wire_name(b"new"))
        assert isinstance(stored, bytes) and stored[3:7].hex() == second.primary.id != first.primary.id
        assert (new.get("old"), new.get("new"), old.get("old")) == (b"1", b"2", b"1")
        with pytest.raises(UnknownKeyError):
            old.get("new")
        for client in (old, new):
            client.close()


@pytest.mark.topology
class TestSentinel:
    def test_sealed_and_hidden(self, namespace: Namespace) -> None:
        with start_sentinel("shared") as topology:
            url = f"sentinel://{topology.url}/{topology.service_name}/0"
            kv = tenantkv.connect(url, namespace=namespace, seal=True, names="hidden")
            kv.set("user:7", PASSWORD)
            assert kv.get("user:7") == PASSWORD.encode() and kv.keys("*") == [b"user:7"]
            with pytest.raises(PlaintextRefusedError):
                kv.using(seal=False).set("a", TOKEN)
            stored = b"".join(name + value for (_, name), (value, _) in topology.primary.dump().items())
            assert PASSWORD.encode() not in stored and b"user:7" not in stored
            kv.close()

            async def again() -> None:
                other = tenantkv.asyncio.connect(url, namespace=namespace, seal=True, names="hidden")
                assert await other.get("user:7") == PASSWORD.encode()
                await other.aclose()

            asyncio.run(again())


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with start_cluster() as running:
        yield running


@pytest.mark.topology
@pytest.mark.parametrize(("names", "placement"), [("plain", "spread"), ("plain", "slot"), ("hidden", "slot")])
class TestCluster:
    def _connect(self, cluster: Any, names: str, placement: Any, **options: Any) -> Any:
        namespace = Namespace(Keyring.generate(os.urandom(96)), placement=placement)
        url = f"redis+cluster://127.0.0.1:{cluster.nodes[0].port}"
        return tenantkv.connect(
            url, namespace=namespace, seal=True, names=names, contexts={"q*": "q"}, registry=False, **options
        )

    def test_sync(self, cluster: Any, names: str, placement: Any) -> None:
        kv = self._connect(cluster, names, placement)
        own = [f"name-{n}" for n in range(60)]
        moved = _moved(cluster)
        for name in own:
            kv.set(name, f"value of {name}")
        assert [kv.get(name) for name in own] == [f"value of {name}".encode() for name in own]
        assert _moved(cluster) == moved, "a slot was computed of another name than goes to the server"
        with kv.pipeline() as pipeline:
            for name in own:
                pipeline.set(name, Secret("new")).get(name)
            assert pipeline.execute() == [True, b"new"] * 60
        assert _moved(cluster) == moved
        kv.hset("h", mapping={"f": "text", "g": 1})
        assert kv.hgetall("h") == {b"f": b"text", b"g": b"1"}
        if placement == "slot":
            kv.rpush("q1", "a", "b")
            assert kv.lmove("q1", "q2") == b"a" and kv.mget(own[:3]) == [b"new"] * 3
            with kv.pipeline(transaction=True) as pipeline:
                # redis-py itself leaves the OK of a cluster's transaction as it is.
                assert pipeline.set("a", "1").get("a").execute() == [b"OK", b"1"]
        start = kv.namespace.wire_prefix
        stored = b"".join(
            name + value
            for node in cluster.nodes
            for (_, name), (value, _) in node.dump().items()
            if name.startswith(start)
        )
        assert b"value of" not in stored and (names == "plain" or b"name-" not in stored)
        kv.close()

    def test_asyncio(self, cluster: Any, names: str, placement: Any) -> None:
        async def work() -> None:
            namespace = Namespace(Keyring.generate(os.urandom(96)), placement=placement)
            url = f"redis+cluster://127.0.0.1:{cluster.nodes[0].port}"
            kv: Any = tenantkv.asyncio.connect(
                url, namespace=namespace, seal=True, names=names, registry=False
            )
            moved = _moved(cluster)
            for n in range(30):
                await kv.set(f"name-{n}", f"value-{n}")
            assert [await kv.get(f"name-{n}") for n in range(30)] == [b"value-%d" % n for n in range(30)]
            pipeline = kv.pipeline()
            for n in range(30):
                pipeline.get(f"name-{n}")
            assert await pipeline.execute() == [b"value-%d" % n for n in range(30)]
            assert _moved(cluster) == moved
            await kv.aclose()

        asyncio.run(work())

    @pytest.mark.parametrize("transaction", [False, True], ids=["pipeline", "multi"])
    def test_errors_of_pipelines_show_no_value(
        self, cluster: Any, names: str, placement: Any, transaction: bool
    ) -> None:
        if transaction and not hasattr(redis_cluster, "TransactionStrategy"):
            pytest.skip("this redis-py has no transactions in a cluster")
        namespace = Namespace(Keyring.generate(os.urandom(96)), placement=placement)
        url = f"redis+cluster://127.0.0.1:{cluster.nodes[0].port}"
        kv: Any = tenantkv.connect(url, namespace=namespace, names=names, registry=False)
        kv.set("text", "x")
        texts = []
        for command in (
            ("LPUSH", "text", PASSWORD),
            ("SREM", "text", PASSWORD),
            ("SETEX", "text", 0, PASSWORD),
        ):
            kv = kv.using(plaintext="off")
            with pytest.raises(redis.ResponseError) as caught:
                kv.pipeline(transaction=transaction).get("text").execute_command(*command).execute()
            texts.append(str(caught.value) + repr(caught.value.args))

        async def again() -> None:
            akv: Any = tenantkv.asyncio.connect(
                url, namespace=namespace, names=names, registry=False, plaintext="off"
            )
            # redis-py would make the first transaction's connections in an event loop of a thread's own.
            await akv.initialize()
            for command in (("LPUSH", "text", PASSWORD), ("SREM", "text", PASSWORD)):
                pipeline = akv.pipeline(transaction=True) if transaction else akv.pipeline()
                pipeline.get("text")
                pipeline.execute_command(*command)
                with pytest.raises(redis.ResponseError) as caught:
                    await pipeline.execute()
                texts.append(str(caught.value) + repr(caught.value.args))
            await akv.aclose()

        asyncio.run(again())
        assert len(texts) == 5 and not [text for text in texts if PASSWORD in text]
        kv.close()

    def test_a_forgery_on_one_node(self, cluster: Any, names: str, placement: Any) -> None:
        kv = self._connect(cluster, names, placement)
        for name in ("a", "b", "c"):
            kv.set(name, "v")
        namespace = kv.namespace
        wire = namespace.wire_name(namespace.hidden_name(b"b") if names == "hidden" else b"b")
        plain = redis.RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port)
        plain.set(wire, "forged")
        replies = kv.pipeline().get("a").get("b").get("c").execute(raise_on_error=False)
        assert replies[::2] == [b"v", b"v"] and isinstance(replies[1], OpenError)
        with pytest.raises(OpenError):
            kv.get("b")
        assert kv.get("a") == b"v"
        plain.close()
        kv.close()


def _moved(cluster: Any) -> int:
    """Return how many commands the nodes sent elsewhere."""
    total = 0
    for node in cluster.nodes:
        stats = node.operator().info("errorstats")
        total += int(stats.get("errorstat_MOVED", {}).get("count", 0))
    return total
