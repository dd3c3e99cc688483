"""A three-node Cluster: own names, wire slots, both placements, both worlds.

Every test runs beside a neighbour, another tenant who uses the same names and more; at its end the
neighbour's keys are as they were, and every other key on every node is the test's namespace's.
"""

from __future__ import annotations

import asyncio
import os
import threading

import pytest
import redis
from redis.asyncio import cluster as async_redis_cluster
from redis.crc import key_slot

from tenantkv.errors import ConfigurationError, ForbiddenCommandError, RefusedError
from tenantkv.keyring import Keyring
from tenantkv.namespace import Namespace
from tenantkv.transport import async_connect, connect
from tests.proxy import Proxy
from tests.topologies import Migration, serving, start_cluster

pytestmark = pytest.mark.topology

NEIGHBOUR = {b"neighbour:%d" % n: b"theirs" for n in range(60)}
HAS_TRANSACTIONS = hasattr(redis.cluster, "TransactionStrategy")
NAMES = [f"name-{n}" for n in range(60)]


@pytest.fixture(scope="module")
def cluster():
    with start_cluster() as running:
        yield running


@pytest.fixture(scope="module")
def shared_cluster():
    with start_cluster("shared") as running:
        yield running


@pytest.fixture(params=["spread", "slot"])
def namespace(request):
    return Namespace(Keyring.generate(os.urandom(96)), placement=request.param)


def url(cluster):
    return f"redis+cluster://127.0.0.1:{cluster.nodes[0].port}"


@pytest.fixture
def watched(cluster, namespace):
    """The cluster with a neighbour on it, looked at afterwards."""
    for node in cluster.nodes:
        node.flush()
    for name, value in NEIGHBOUR.items():
        serving(cluster, key_slot(name)).operator().set(name, value)
    yield cluster
    wire = cluster.dump_keys()
    assert set(NEIGHBOUR) <= wire
    for name, value in NEIGHBOUR.items():
        assert serving(cluster, key_slot(name)).operator().get(name) == value
    own = (namespace.wire_prefix, namespace.child("customer-17").wire_prefix)
    assert all(name.startswith(own) for name in wire - set(NEIGHBOUR))


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def kv(request, watched, namespace):
    client = connect.connect(url(watched), namespace=namespace, protocol=request.param)
    yield client
    client.close()


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
async def akv(request, watched, namespace):
    client = async_connect.connect(url(watched), namespace=namespace, protocol=request.param)
    yield client
    await client.aclose()


def test_keys_lie_where_their_wire_names_belong(kv, watched, namespace):
    for name in NAMES:
        assert kv.set(name, name)
    assert [kv.get(name) for name in NAMES] == [name.encode() for name in NAMES]
    wire = {namespace.wire_name(name.encode()) for name in NAMES}
    assert watched.dump_keys() - set(NEIGHBOUR) == wire
    used = [node for node in watched.nodes if wire & node.dump_keys()]
    assert len(used) == (1 if namespace.placement == "slot" else 3)
    assert kv.keyslot("name-1") == key_slot(namespace.wire_name(b"name-1"))
    # No redirect was needed: the slots were right at once.
    assert kv.reinitialize_counter == 0


async def test_keys_lie_where_their_wire_names_belong_asyncio(akv, watched, namespace):
    await asyncio.gather(*(akv.set(name, name) for name in NAMES))
    values = await asyncio.gather(*(akv.get(name) for name in NAMES))
    assert values == [name.encode() for name in NAMES]
    assert watched.dump_keys() - set(NEIGHBOUR) == {namespace.wire_name(name.encode()) for name in NAMES}
    assert akv.reinitialize_counter == 0


def test_listing_and_emptying(kv, watched):
    for name in NAMES:
        kv.set(name, 1)
    own = {name.encode() for name in NAMES}
    tens = {name for name in own if name.startswith(b"name-1")}
    assert set(kv.keys()) == set(kv.scan_iter()) == own
    assert set(kv.keys("name-1*")) == set(kv.scan_iter("name-1*", count=5)) == tens
    assert kv.dbsize() == len(own) and kv.randomkey() in own
    assert kv.namespace_usage().keys == len(own)
    assert kv.flushdb() is True
    assert watched.dump_keys() == set(NEIGHBOUR)


async def test_listing_and_emptying_asyncio(akv, watched):
    for name in NAMES:
        await akv.set(name, 1)
    own = {name.encode() for name in NAMES}
    assert set(await akv.keys()) == {name async for name in akv.scan_iter(count=5)} == own
    assert await akv.dbsize() == len(own) and await akv.randomkey() in own
    assert (await akv.namespace_usage()).keys == len(own)
    assert await akv.flushdb() is True
    assert watched.dump_keys() == set(NEIGHBOUR)


MULTI_KEY = [
    pytest.param(lambda kv: kv.mget("a", "b", "zset"), [b"1", b"2", None], id="mget"),
    pytest.param(lambda kv: kv.mset({"x": 1, "y": 2}), True, id="mset"),
    pytest.param(lambda kv: kv.rename("a", "x"), True, id="rename"),
    pytest.param(lambda kv: kv.sunionstore("x", "s1", "s2"), 3, id="sunionstore"),
    pytest.param(lambda kv: kv.sinter("s1", "s2"), {b"m2"}, id="sinter"),
    pytest.param(lambda kv: kv.zunionstore("x", ["z1", "z2"]), 2, id="zunionstore"),
    pytest.param(lambda kv: kv.lmove("l1", "l2"), b"i1", id="lmove"),
    pytest.param(lambda kv: kv.blpop(["nothing", "l1"], 1), (b"l1", b"i1"), id="blpop"),
    pytest.param(lambda kv: kv.pfmerge("x", "p1", "p2"), True, id="pfmerge"),
    pytest.param(lambda kv: kv.bitop("OR", "x", "a", "b"), 1, id="bitop"),
    pytest.param(lambda kv: kv.copy("a", "x"), True, id="copy"),
    pytest.param(lambda kv: kv.sort("l1", alpha=True, store="x"), 1, id="sort-store"),
    pytest.param(
        lambda kv: kv.eval("return {KEYS[1], redis.call('GET', KEYS[2])}", 2, "a", "b"),
        [b"a", b"2"],
        id="eval",
    ),
    pytest.param(lambda kv: kv.msetnx({"a": 1, "new": 2}), False, id="msetnx"),
    pytest.param(lambda kv: kv.execute_command("TOUCH", "a", "b"), 2, id="touch"),
    pytest.param(lambda kv: kv.smove("s1", "s2", "m1"), True, id="smove"),
]


def fill(kv):
    """Return the commands that `MULTI_KEY` stands on, one after the other."""
    yield kv.set("a", 1)
    yield kv.set("b", 2)
    yield kv.sadd("s1", "m1", "m2")
    yield kv.sadd("s2", "m2", "m3")
    yield kv.zadd("z1", {"m": 1})
    yield kv.zadd("z2", {"n": 2})
    yield kv.rpush("l1", "i1")
    yield kv.pfadd("p1", 1)
    yield kv.xadd("st", {"f": 1})


@pytest.mark.parametrize(("call", "expected"), MULTI_KEY)
def test_commands_with_several_keys(call, expected, watched, namespace):
    kv = connect.connect(url(watched), namespace=namespace)
    list(fill(kv))
    if namespace.placement == "slot":
        reply = call(kv)
        assert (tuple(reply) if isinstance(expected, tuple) else reply) == expected
    else:
        with pytest.raises(redis.exceptions.RedisClusterException, match="placement='slot'"):
            call(kv)
    kv.close()


@pytest.mark.parametrize(("call", "expected"), MULTI_KEY)
async def test_commands_with_several_keys_asyncio(call, expected, watched, namespace):
    akv = async_connect.connect(url(watched), namespace=namespace)
    for command in fill(akv):
        await command
    if namespace.placement == "slot":
        reply = await call(akv)
        assert (tuple(reply) if isinstance(expected, tuple) else reply) == expected
    else:
        with pytest.raises(redis.exceptions.RedisClusterException, match="placement='slot'"):
            await call(akv)
    await akv.aclose()


def test_own_hash_tags_work(kv, watched, namespace):
    assert kv.mset({"{tag}a": 1, "{tag}b": 2})
    assert kv.mget("{tag}a", "{tag}b") == [b"1", b"2"]
    assert kv.keyslot("{tag}a") == kv.keyslot("{tag}b")


def test_commands_that_are_split_by_slot(kv):
    assert kv.mset_nonatomic({name: name for name in NAMES})
    assert kv.mget_nonatomic(NAMES) == [name.encode() for name in NAMES]
    assert kv.exists(*NAMES, "nothing") == len(NAMES)
    assert kv.touch(*NAMES[:5]) == kv.unlink(*NAMES[:5]) == 5
    assert kv.delete(*NAMES) == len(NAMES) - 5


async def test_commands_that_are_split_by_slot_asyncio(akv):
    assert await akv.mset_nonatomic({name: name for name in NAMES})
    assert await akv.mget_nonatomic(NAMES) == [name.encode() for name in NAMES]
    assert await akv.exists(*NAMES, "nothing") == len(NAMES)
    assert await akv.delete(*NAMES) == len(NAMES)


def test_pipelines(kv):
    with kv.pipeline() as pipe:
        for name in NAMES:
            pipe.set(name, name).get(name)
        assert pipe.execute() == [each for name in NAMES for each in (True, name.encode())]
        assert pipe.execute() == [] and len(pipe) == 0
        pipe.lpush("name-1", 1).get("name-2")
        with pytest.raises(redis.ResponseError, match="Command # 1") as caught:
            pipe.execute()
        assert "name-1" not in str(caught.value) or "WRONGTYPE" in str(caught.value)
        replies = pipe.lpush("name-1", 1).get("name-2").execute(raise_on_error=False)
        assert isinstance(replies[0], redis.ResponseError) and replies[1] == b"name-2"
        assert pipe.mset_nonatomic({"x": 1}).delete("x").execute() == [True, 1]


async def test_pipelines_asyncio(akv):
    async with akv.pipeline() as pipe:
        for name in NAMES:
            pipe.set(name, name).get(name)
        assert await pipe.execute() == [each for name in NAMES for each in (True, name.encode())]
        assert await pipe.execute() == []
        pipe.lpush("name-1", 1).get("name-2")
        with pytest.raises(redis.ResponseError, match="Command # 1"):
            await pipe.execute()
        replies = await pipe.lpush("name-1", 1).get("name-2").execute(raise_on_error=False)
        assert isinstance(replies[0], redis.ResponseError) and replies[1] == b"name-2"


def test_a_refusal_in_a_pipeline_comes_before_any_byte(kv, watched):
    before = watched.dump_keys()
    for refused in (("FLUSHALL",), ("FLUSHDB",), ("NO.SUCH", "x"), ("SET", "x")):
        pipe = kv.pipeline().set("a", 1).set("b", 1).set("c", 1)
        pipe.execute_command(*refused)
        with pytest.raises(RefusedError):
            pipe.execute()
    assert watched.dump_keys() == before
    assert kv.pipeline().set("a", 1).execute() == [True]


async def test_a_refusal_in_a_pipeline_comes_before_any_byte_asyncio(akv, watched):
    before = watched.dump_keys()
    for refused in (("FLUSHALL",), ("FLUSHDB",), ("NO.SUCH", "x"), ("SET", "x")):
        pipe = akv.pipeline().set("a", 1).set("b", 1).set("c", 1)
        pipe.execute_command(*refused)
        with pytest.raises(RefusedError):
            await pipe.execute()
    assert watched.dump_keys() == before
    assert await akv.pipeline().set("a", 1).execute() == [True]


def test_what_touches_others_is_refused(kv):
    calls = [kv.flushall, lambda: kv.config_get("*"), lambda: kv.cluster_countkeysinslot(1)]
    for call in calls:
        with pytest.raises(RefusedError) as caught:
            call()
        assert isinstance(caught.value, redis.ResponseError)
    for words in ((), ("",), ("NO.SUCH", "x"), ("GET",), ("EVAL", "return 1", "x")):
        with pytest.raises(RefusedError):
            kv.execute_command(*words)
    assert kv.execute_command(b"SET", b"a", 1) and kv.execute_command("get", "a") == b"1"


def test_several_keys_in_a_pipeline(kv, namespace):
    pipe = kv.pipeline().mset({"a": 1, "b": 2}).mget("a", "b").rename("a", "c").delete("b", "c")
    if namespace.placement == "slot":
        assert pipe.execute() == [True, [b"1", b"2"], True, 2]
    else:
        with pytest.raises(redis.exceptions.RedisClusterException):
            pipe.execute()


@pytest.mark.skipif(not HAS_TRANSACTIONS, reason="since redis-py 6.2")
def test_transactions(kv, namespace):
    with kv.pipeline(transaction=True) as pipe:
        pipe.watch("{t}a")
        assert pipe.get("{t}a") is None
        pipe.multi()
        pipe.set("{t}a", 1).incr("{t}b").lrange("{t}l", 0, -1)
        assert pipe.execute()[1:] == [1, []]
        pipe.watch("{t}a")
        kv.set("{t}a", 2)
        pipe.multi()
        pipe.set("{t}a", 3)
        with pytest.raises(redis.WatchError):
            pipe.execute()
    pipe = kv.pipeline(transaction=True).set("a", 1).set("b", 2).set("c", 3)
    if namespace.placement == "slot":
        assert len(pipe.execute()) == 3
    else:
        with pytest.raises(redis.exceptions.RedisClusterException):
            pipe.execute()


@pytest.mark.skipif(not HAS_TRANSACTIONS, reason="since redis-py 6.2")
async def test_transactions_asyncio(akv):
    async with akv.pipeline(transaction=True) as pipe:
        await pipe.watch("{t}a")
        pipe.multi()
        pipe.set("{t}a", 1).incr("{t}b")
        assert (await pipe.execute())[1:] == [1]
        await pipe.watch("{t}a")
        await akv.set("{t}a", 2)
        pipe.multi()
        pipe.set("{t}a", 3)
        with pytest.raises(redis.WatchError):
            await pipe.execute()


def test_scripts(kv, namespace):
    bump = kv.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert [bump(keys=[name], args=[2]) for name in NAMES[:9]] == [2] * 9
    assert bump(keys=["name-1"], args=[3]) == 5
    sha = kv.script_load("return {KEYS[1], redis.call('GET', KEYS[1])}")
    assert kv.script_exists(sha) == [True]
    assert kv.evalsha(sha, 1, "name-1") == [b"name-1", b"5"]
    assert kv.pipeline().evalsha(sha, 1, "name-1").eval("return 1", 0).execute() == [
        [b"name-1", b"5"],
        1,
    ]
    if namespace.placement == "slot":
        # A script that makes a name by itself stays inside, and finds it on its node.
        assert kv.eval("return redis.call('SET', 'made-' .. ARGV[1], 1)", 0, "here") == b"OK"
        assert kv.get("made-here") == b"1"


async def test_scripts_asyncio(akv):
    bump = akv.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert [await bump(keys=[name], args=[2]) for name in NAMES[:9]] == [2] * 9
    assert await bump(keys=["name-1"], args=[3]) == 5


def messages(get, count):
    found = []
    for _ in range(40):
        message = get()
        if message is not None and message["type"] in ("message", "pmessage", "smessage"):
            found.append((message["channel"], message["data"]))
        if len(found) == count:
            break
    return sorted(found)


def test_pubsub(kv, watched, namespace):
    pubsub = kv.pubsub()
    pubsub.subscribe("news")
    pubsub.psubscribe("new*")
    for _ in range(2):
        pubsub.get_message(timeout=1)
    kv.publish("news", "x")
    got = messages(lambda: pubsub.get_message(timeout=0.1), 2)
    assert got == [(b"news", b"x")] * 2
    seen = {c for node in watched.nodes for c in node.operator().pubsub_channels()}
    assert seen == {namespace.channel_prefix + b"news"}
    pubsub.close()


def test_sharded_pubsub(kv, watched, namespace):
    pubsub = kv.pubsub()
    channels = [f"shard-{n}" for n in range(6)]
    for channel in channels:
        pubsub.ssubscribe(channel)
    for _ in range(len(channels)):
        pubsub.get_sharded_message(timeout=0.2)
    for channel in channels:
        assert kv.spublish(channel, channel) == 1
    got = messages(lambda: pubsub.get_sharded_message(timeout=0.1), len(channels))
    assert got == sorted((channel.encode(), channel.encode()) for channel in channels)
    # Those of an earlier test's namespace may not have gone yet.
    wires = {namespace.channel_prefix + channel.encode() for channel in channels}
    for node in watched.nodes:
        seen = set(node.operator().execute_command("PUBSUB SHARDCHANNELS"))
        here = {wire for wire in wires if serving(watched, key_slot(wire)) is node}
        assert seen & wires == here
        assert not seen & {channel.encode() for channel in channels}
    pubsub.close()


@pytest.mark.skipif(not hasattr(async_redis_cluster, "ClusterPubSub"), reason="since redis-py 8")
async def test_pubsub_asyncio(akv):
    pubsub = akv.pubsub()
    await pubsub.subscribe("news")
    await pubsub.get_message(timeout=1)
    await akv.publish("news", "x")
    found = None
    for _ in range(20):
        found = found or await pubsub.get_message(timeout=0.1)
    assert (found["channel"], found["data"]) == (b"news", b"x")
    await pubsub.aclose()
    sharded = akv.pubsub()
    channels = [f"shard-{n}" for n in range(6)]
    for channel in channels:
        await sharded.ssubscribe(channel)
    for _ in channels:
        await sharded.get_sharded_message(timeout=0.2)
    for channel in channels:
        assert await akv.spublish(channel, channel) == 1
    got = []
    for _ in range(40):
        message = await sharded.get_sharded_message(timeout=0.05)
        if message and message["type"] == "smessage":
            got.append((message["channel"], message["data"]))
    assert sorted(got) == sorted((channel.encode(), channel.encode()) for channel in channels)
    await sharded.aclose()


def test_children(kv, watched, namespace):
    child = kv.child("customer-17")
    assert child.namespace == namespace.child("customer-17")
    for name in NAMES:
        kv.set(name, "parent")
        child.set(name, "child")
    assert {kv.get(name) for name in NAMES} == {b"parent"}
    assert {child.get(name) for name in NAMES} == {b"child"}
    assert child.pipeline().get("name-1").get("name-2").execute() == [b"child"] * 2
    assert kv.pipeline().get("name-1").get("name-2").execute() == [b"parent"] * 2
    assert child.reinitialize_counter == kv.reinitialize_counter == 0
    assert child.nodes_manager is kv.nodes_manager
    child.flushdb()
    child.close()
    assert kv.dbsize() == len(NAMES) and child.dbsize() == 0
    for secret in (namespace.keyring.prefix, child.namespace.keyring.prefix):
        assert secret not in repr((kv, child, kv.get_nodes(), kv.pubsub()))


async def test_children_asyncio(akv, namespace):
    child = akv.child("customer-17")
    await asyncio.gather(*(akv.set(name, "parent") for name in NAMES))
    await asyncio.gather(*(child.set(name, "child") for name in NAMES))
    mixed = await asyncio.gather(*(c.get(name) for name in NAMES for c in (akv, child)))
    assert mixed == [b"parent", b"child"] * len(NAMES)
    assert await child.pipeline().get("name-1").get("name-2").execute() == [b"child"] * 2
    await child.flushdb()
    await child.aclose()
    assert await akv.dbsize() == len(NAMES) and await child.dbsize() == 0


def test_threads_share_few_connections(kv):
    errors = []

    def work(number):
        try:
            for turn in range(30):
                kv.set(f"{number}-{turn}", turn)
                kv.pipeline().get(f"{number}-{turn}").incr(f"n-{number}").get("x").execute()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for node in kv.get_primaries():
        assert len(node.redis_connection.connection_pool._available_connections) <= 16


async def test_tasks_share_few_connections_asyncio(akv, watched):
    await asyncio.gather(*(akv.incr("n") for _ in range(300)))
    await asyncio.gather(*(akv.pipeline().incr("n").set(f"k{n}", 1).execute() for n in range(100)))
    assert await akv.get("n") == b"400"
    for node in akv.get_nodes():
        assert len(node._connections) <= 16


async def test_a_cancelled_task_leaves_nothing_behind_asyncio(akv):
    await akv.set("a", "right")
    for delay in (0, 0.0002, 0.0005, 0.001):
        for _ in range(10):
            tasks = [asyncio.create_task(akv.incr("n")) for _ in range(5)]
            tasks.append(asyncio.create_task(akv.pipeline().incr("n").incr("m").execute()))
            await asyncio.sleep(delay)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert await akv.get("a") == b"right"


# A slot that moves


def test_a_slot_moves(kv, watched):
    kv.set("{m}there", 1)
    move = Migration(watched, kv.keyslot("{m}there"))
    move.begin()
    assert kv.get("{m}there") == b"1"
    assert kv.set("{m}new", 2) and kv.get("{m}new") == b"2" and kv.incr("{m}new") == 3
    assert kv.pipeline().incr("{m}new").get("{m}there").execute() == [4, b"1"]
    move.end()
    assert kv.get("{m}there") == b"1" and kv.get("{m}new") == b"4"
    assert kv.pipeline().incr("{m}new").get("{m}there").execute() == [5, b"1"]
    if HAS_TRANSACTIONS:
        assert kv.pipeline(transaction=True).incr("{m}new").execute() == [6]
    assert set(kv.keys("{m}*")) == {b"{m}there", b"{m}new"}


async def test_a_slot_moves_asyncio(akv, watched):
    await akv.set("{m}there", 1)
    # Several connections to each node, so that ASKING and its command could part.
    await asyncio.gather(*(akv.get("{m}there") for _ in range(20)))
    move = Migration(watched, akv.keyslot("{m}there"))
    move.begin()
    assert await asyncio.gather(*(akv.get("{m}there") for _ in range(10))) == [b"1"] * 10
    assert sorted(await asyncio.gather(*(akv.incr("{m}new") for _ in range(20)))) == list(range(1, 21))
    assert await akv.pipeline().incr("{m}new").get("{m}there").execute() == [21, b"1"]
    move.end()
    assert sorted(await asyncio.gather(*(akv.incr("{m}new") for _ in range(20)))) == list(range(22, 42))
    assert await akv.pipeline().incr("{m}new").get("{m}there").execute() == [42, b"1"]
    assert set(await akv.keys("{m}*")) == {b"{m}there", b"{m}new"}


# Replies that never arrive


@pytest.fixture
def proxies(watched):
    """A proxy in front of each node; clients are told its address instead."""
    running = {node.port: Proxy(node.port) for node in watched.nodes}
    yield running
    for proxy in running.values():
        proxy.stop()


def options(proxies, namespace):
    ports = {port: proxy.port for port, proxy in proxies.items()}
    first = next(iter(proxies.values()))
    return {
        "url": f"redis+cluster://127.0.0.1:{first.port}",
        "namespace": namespace,
        "address_remap": lambda address: (address[0], ports[address[1]]),
        "socket_timeout": 2.0,
    }


def cut(proxies, watched, wire_name, after_bytes=0):
    proxy = proxies[serving(watched, key_slot(wire_name)).port]
    proxy.cut_reply(after_bytes)
    return proxy


def test_a_lost_reply(proxies, watched, namespace):
    kv = connect.connect(**options(proxies, namespace))
    wire = namespace.wire_name(b"n")
    kv.set("n", 0)
    proxy = cut(proxies, watched, wire)
    with pytest.raises(redis.ConnectionError):
        kv.incr("n")
    assert not proxy.will_cut
    assert kv.get("n") == b"1"
    for call in (lambda: kv.get("n") == b"1", lambda: kv.set("n", 1), lambda: kv.exists("n") == 1):
        proxy = cut(proxies, watched, wire)
        assert call() and not proxy.will_cut
    kv.close()


@pytest.mark.parametrize("after_bytes", [0, 4])
def test_a_lost_reply_of_a_pipeline(proxies, watched, namespace, after_bytes):
    """redis-py would repeat every command of the packet, answered or not."""
    kv = connect.connect(**options(proxies, namespace))
    kv.set("n", 0)
    kv.set("other", 0)
    proxy = cut(proxies, watched, namespace.wire_name(b"n"), after_bytes)
    with pytest.raises(redis.ConnectionError):
        kv.pipeline().incr("n").get("n").execute()
    assert not proxy.will_cut
    assert kv.get("n") == b"1"
    proxy = cut(proxies, watched, namespace.wire_name(b"n"))
    assert kv.pipeline().set("n", 4).set("n", 5).get("n").execute() == [True, True, b"5"]
    assert not proxy.will_cut
    kv.get("n")
    proxy = cut(proxies, watched, namespace.wire_name(b"n"))
    with pytest.raises(redis.ConnectionError):
        # Harmless each, but a second time the GET would find what the SET wrote.
        kv.pipeline().get("n").set("n", 5).execute()
    if HAS_TRANSACTIONS:
        kv.get("n")
        proxy = cut(proxies, watched, namespace.wire_name(b"n"))
        with pytest.raises(redis.ConnectionError):
            kv.pipeline(transaction=True).incr("n").execute()
        assert kv.get("n") == b"6"
    kv.close()


async def test_a_lost_reply_asyncio(proxies, watched, namespace):
    akv = async_connect.connect(**options(proxies, namespace))
    wire = namespace.wire_name(b"n")
    await akv.set("n", 0)
    proxy = cut(proxies, watched, wire)
    with pytest.raises(redis.ConnectionError):
        await akv.incr("n")
    assert not proxy.will_cut
    assert await akv.get("n") == b"1"
    proxy = cut(proxies, watched, wire)
    assert await akv.get("n") == b"1" and not proxy.will_cut
    proxy = cut(proxies, watched, wire)
    assert await akv.set("n", 1) and not proxy.will_cut
    await akv.aclose()


@pytest.mark.parametrize("after_bytes", [0, 4])
async def test_a_lost_reply_of_a_pipeline_asyncio(proxies, watched, namespace, after_bytes):
    akv = async_connect.connect(**options(proxies, namespace))
    await akv.set("n", 0)
    proxy = cut(proxies, watched, namespace.wire_name(b"n"), after_bytes)
    with pytest.raises(redis.ConnectionError):
        await akv.pipeline().incr("n").get("n").execute()
    assert not proxy.will_cut
    assert await akv.get("n") == b"1"
    proxy = cut(proxies, watched, namespace.wire_name(b"n"))
    assert await akv.pipeline().set("n", 5).get("n").execute() == [True, b"5"]
    assert not proxy.will_cut
    await akv.aclose()


def test_connections_that_were_closed_while_idle(proxies, namespace):
    kv = connect.connect(**options(proxies, namespace))
    assert kv.incr("n") == 1
    for proxy in proxies.values():
        proxy.cut_all()
    assert kv.incr("n") == 2
    for proxy in proxies.values():
        proxy.cut_all()
    assert kv.pipeline().incr("n").execute() == [3]
    kv.close()


async def test_connections_that_were_closed_while_idle_asyncio(proxies, namespace):
    akv = async_connect.connect(**options(proxies, namespace))
    assert await akv.incr("n") == 1
    for expected in (2, 3):
        for proxy in proxies.values():
            proxy.cut_all()
        await asyncio.sleep(0.05)
        assert await akv.incr("n") == expected
    await akv.aclose()


# A server without SCAN


def test_the_registry_needs_one_slot(cluster):
    spread = Namespace(Keyring.generate(os.urandom(96)))
    for world in (connect, async_connect):
        with pytest.raises(ConfigurationError, match="placement='slot'"):
            world.connect(url(cluster), namespace=spread, registry=True)


def test_the_registry(shared_cluster):
    slot = Namespace(Keyring.generate(os.urandom(96)), placement="slot")
    for node in shared_cluster.nodes:
        node.flush()
    kv = connect.connect(f"{url(shared_cluster)}?registry=yes", namespace=slot)
    for name in NAMES:
        kv.set(name, 1)
    kv.pipeline().set("in-a-pipeline", 1).execute()
    own = {name.encode() for name in (*NAMES, "in-a-pipeline")}
    assert set(kv.keys()) == set(kv.scan_iter()) == own and kv.dbsize() == len(own)
    assert set(kv.keys("name-1*")) == {name for name in own if name.startswith(b"name-1")}
    kv.flushdb()
    # Names that were registered a moment ago leave the registry a little later; their keys are gone.
    assert all(b":__tenantkv__:registry:" in key for key in shared_cluster.dump_keys())
    assert kv.dbsize() == 0
    kv.close()


def test_the_registry_while_a_slot_moves(shared_cluster):
    slot = Namespace(Keyring.generate(os.urandom(96)), placement="slot")
    kv = connect.connect(f"{url(shared_cluster)}?registry=yes", namespace=slot)
    kv.set("before", 1)
    move = Migration(shared_cluster, kv.own_slot)
    move.begin()
    assert kv.set("meanwhile", 1) and kv.get("meanwhile") == b"1"
    move.end()
    assert kv.set("after", 1)
    assert {b"before", b"after"} <= set(kv.keys()) <= {b"before", b"meanwhile", b"after"}
    kv.flushdb()
    kv.close()


async def test_the_registry_asyncio(shared_cluster):
    slot = Namespace(Keyring.generate(os.urandom(96)), placement="slot")
    for node in shared_cluster.nodes:
        node.flush()
    akv = async_connect.connect(f"{url(shared_cluster)}?registry=yes", namespace=slot)
    await asyncio.gather(*(akv.set(name, 1) for name in NAMES))
    own = {name.encode() for name in NAMES}
    assert set(await akv.keys()) == {name async for name in akv.scan_iter()} == own
    await akv.flushdb()
    assert all(b":__tenantkv__:registry:" in key for key in shared_cluster.dump_keys())
    assert await akv.dbsize() == 0
    await akv.aclose()


def test_without_scan_or_registry_the_reason_is_given(shared_cluster):
    for placement in ("spread", "slot"):
        own = Namespace(Keyring.generate(os.urandom(96)), placement=placement)
        kv = connect.connect(url(shared_cluster), namespace=own)
        for call in (kv.keys, kv.scan, kv.dbsize, kv.randomkey, kv.flushdb):
            with pytest.raises(ForbiddenCommandError, match="registry"):
                call()
        kv.close()


# What cannot be reached


def test_nobody_there():
    own = Namespace(Keyring.generate(os.urandom(96)))
    with pytest.raises(redis.exceptions.RedisClusterException) as caught:
        connect.connect("redis+cluster://127.0.0.1:1", namespace=own, socket_connect_timeout=1)
    assert own.keyring.prefix not in str(caught.value)


async def test_nobody_there_asyncio():
    own = Namespace(Keyring.generate(os.urandom(96)))
    akv = async_connect.connect("redis+cluster://127.0.0.1:1", namespace=own)
    with pytest.raises(redis.exceptions.RedisClusterException) as caught:
        await akv.get("a")
    assert isinstance(caught.value, redis.ConnectionError)


def test_a_pool_of_a_cluster_is_refused(cluster):
    own = Namespace(Keyring.generate(os.urandom(96)))
    for world in (connect, async_connect):
        with pytest.raises(ConfigurationError, match="cluster"):
            world.connection_pool(url(cluster), namespace=own)
