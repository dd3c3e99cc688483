"""A server behind a virtual address: failovers, and replies that never arrive.

A proxy stands for the address. What is safe to repeat is repeated; anything else raises and has been
done once at the most.
"""

from __future__ import annotations

import asyncio
import os

import pytest
import redis

from tenantkv.keyring import Keyring
from tenantkv.namespace import Namespace
from tenantkv.transport import async_connect, connect
from tests.proxy import Proxy
from tests.servers import start_tcp
from tests.topologies import _REPLICATION, wait_until

pytestmark = pytest.mark.topology


# Before redis-py 6 a pipeline is not repeated at all.
REPEATS_PIPELINES = hasattr(redis.retry.Retry, "get_retries")


@pytest.fixture
def namespace():
    return Namespace(Keyring.generate(os.urandom(96)))


@pytest.fixture
def pair():
    """A primary and its replica."""
    primary = start_tcp("shared", extra_config=_REPLICATION)
    replica = start_tcp("shared", extra_config={**_REPLICATION, "replicaof": f"127.0.0.1 {primary.port}"})
    wait_until(
        "replication",
        lambda: replica.operator().info("replication")["master_link_status"] == "up",
    )
    yield primary, replica
    replica.stop()
    primary.stop()


@pytest.fixture
def proxy(pair):
    with Proxy(pair[0].port) as running:
        yield running


@pytest.fixture
def kv(proxy, namespace):
    client = connect.connect(proxy.url, namespace=namespace)
    client.ping()
    yield client
    client.close()


@pytest.fixture
async def akv(proxy, namespace):
    client = async_connect.connect(proxy.url, namespace=namespace)
    await client.ping()
    yield client
    await client.aclose()


def exchange(proxy, pair):
    """Promote the replica, demote the primary, and move the address; connections stay."""
    primary, replica = pair
    replica.command("REPLICAOF", "NO", "ONE")
    primary.command("REPLICAOF", "127.0.0.1", replica.port)
    proxy.target = replica.port


def synced(pair, wire_name):
    wait_until("the replica", lambda: pair[1].operator().exists(wire_name) == 1)


def test_the_address_moves(kv, proxy, pair, namespace):
    assert kv.incr("n") == 1
    synced(pair, namespace.wire_name(b"n"))
    exchange(proxy, pair)
    # The connection still leads to the old primary, which refuses writes now.
    assert kv.incr("n") == 2
    assert kv.get("n") == b"2"
    assert proxy.accepted == 2
    wire = pair[1].dump_keys()
    assert wire == {namespace.wire_name(b"n")}


@pytest.mark.parametrize("transaction", [False, True])
def test_the_address_moves_for_a_pipeline(kv, proxy, pair, namespace, transaction):
    kv.incr("n")
    synced(pair, namespace.wire_name(b"n"))
    exchange(proxy, pair)
    if not REPEATS_PIPELINES:
        with pytest.raises(redis.exceptions.ReadOnlyError):
            kv.pipeline(transaction=transaction).incr("n").execute()
    # Every write in it was refused, so the whole is repeated, on a connection to the new primary.
    assert kv.pipeline(transaction=transaction).get("n").incr("n").incr("n").execute() == [b"1", 2, 3]
    assert proxy.accepted == 2


def test_errors_that_are_returned_do_not_keep_the_old_primary(kv, proxy, pair, namespace):
    kv.incr("n")
    synced(pair, namespace.wire_name(b"n"))
    exchange(proxy, pair)
    pipe = kv.pipeline(transaction=False).incr("n").set("n", 5)
    refused = pipe.execute(raise_on_error=False)
    assert [type(each) for each in refused] == [redis.exceptions.ReadOnlyError] * 2
    assert namespace.keyring.prefix not in repr(refused)
    assert pipe.incr("n").execute(raise_on_error=False) == [2]


async def test_the_address_moves_asyncio(akv, proxy, pair, namespace):
    assert await akv.incr("n") == 1
    synced(pair, namespace.wire_name(b"n"))
    exchange(proxy, pair)
    assert await akv.incr("n") == 2
    assert await akv.get("n") == b"2"
    assert pair[1].dump_keys() == {namespace.wire_name(b"n")}


@pytest.mark.parametrize("transaction", [False, True])
async def test_the_address_moves_for_a_pipeline_asyncio(akv, proxy, pair, namespace, transaction):
    await akv.incr("n")
    synced(pair, namespace.wire_name(b"n"))
    exchange(proxy, pair)
    if not REPEATS_PIPELINES:
        with pytest.raises(redis.exceptions.ReadOnlyError):
            await akv.pipeline(transaction=transaction).incr("n").execute()
    pipe = akv.pipeline(transaction=transaction).get("n").incr("n").incr("n")
    assert await pipe.execute() == [b"1", 2, 3]
    refused = await akv.pipeline(transaction=transaction).incr("n").execute(raise_on_error=False)
    assert refused == [4]


ONCE = [
    pytest.param(lambda kv: kv.incr("x"), b"string", id="incr"),
    pytest.param(lambda kv: kv.rpush("x", "item"), b"list", id="rpush"),
    pytest.param(lambda kv: kv.append("x", "a"), b"string", id="append"),
    pytest.param(lambda kv: kv.hincrby("x", "f"), b"hash", id="hincrby"),
    pytest.param(lambda kv: kv.xadd("x", {"f": 1}), b"stream", id="xadd"),
    pytest.param(lambda kv: kv.set("x", 1, nx=True), b"string", id="set-nx"),
    pytest.param(lambda kv: kv.eval("return redis.call('INCR', KEYS[1])", 1, "x"), b"string", id="eval"),
]
AGAIN = [
    pytest.param(lambda kv: kv.set("x", 1), True, id="set"),
    pytest.param(lambda kv: kv.get("y"), b"1", id="get"),
    pytest.param(lambda kv: kv.hget("z", "f"), b"0", id="hget"),
    pytest.param(lambda kv: kv.mget("y", "y"), [b"1", b"1"], id="mget"),
    pytest.param(lambda kv: kv.exists("y"), 1, id="exists"),
]


def length(server, wire_name):
    """Return how often the one write of `ONCE` was done."""
    operator = server.operator()
    kind = operator.type(wire_name)
    if kind == b"string":
        value = operator.get(wire_name)
        return len(value) if value.strip(b"a") == b"" else int(value)
    if kind == b"hash":
        return int(operator.hget(wire_name, "f"))
    return {b"list": operator.llen, b"stream": operator.xlen}[kind](wire_name)


@pytest.mark.parametrize(("call", "kind"), ONCE)
def test_what_is_not_safe_to_repeat_is_not_repeated(call, kind, kv, proxy, pair, namespace):
    proxy.cut_reply()
    with pytest.raises(redis.ConnectionError):
        call(kv)
    assert not proxy.will_cut
    assert pair[0].operator().type(namespace.wire_name(b"x")) == kind
    assert length(pair[0], namespace.wire_name(b"x")) == 1
    assert kv.ping()


@pytest.mark.parametrize(("call", "kind"), ONCE)
async def test_what_is_not_safe_to_repeat_is_not_repeated_asyncio(call, kind, akv, proxy, pair, namespace):
    proxy.cut_reply()
    with pytest.raises(redis.ConnectionError):
        await call(akv)
    assert not proxy.will_cut
    assert length(pair[0], namespace.wire_name(b"x")) == 1
    assert await akv.ping()


@pytest.mark.parametrize(("call", "expected"), AGAIN)
def test_what_is_safe_to_repeat_is_repeated(call, expected, kv, proxy):
    kv.set("y", 1)
    kv.hset("z", "f", 0)
    proxy.cut_reply()
    assert call(kv) == expected
    assert not proxy.will_cut


@pytest.mark.parametrize(("call", "expected"), AGAIN)
async def test_what_is_safe_to_repeat_is_repeated_asyncio(call, expected, akv, proxy):
    await akv.set("y", 1)
    await akv.hset("z", "f", 0)
    proxy.cut_reply()
    assert await call(akv) == expected
    assert not proxy.will_cut


@pytest.mark.parametrize("after_bytes", [0, 4])
@pytest.mark.parametrize("transaction", [False, True])
def test_a_pipeline_is_done_once(kv, proxy, pair, namespace, transaction, after_bytes):
    """Also when the INCR was answered and only the harmless GET behind it was not."""
    pipe = kv.pipeline(transaction=transaction).incr("x").get("x")
    proxy.cut_reply(after_bytes)
    with pytest.raises(redis.ConnectionError):
        pipe.execute()
    assert not proxy.will_cut
    assert length(pair[0], namespace.wire_name(b"x")) == 1


@pytest.mark.parametrize("after_bytes", [0, 4])
@pytest.mark.parametrize("transaction", [False, True])
async def test_a_pipeline_is_done_once_asyncio(akv, proxy, pair, namespace, transaction, after_bytes):
    pipe = akv.pipeline(transaction=transaction).incr("x").get("x")
    proxy.cut_reply(after_bytes)
    with pytest.raises(redis.ConnectionError):
        await pipe.execute()
    assert not proxy.will_cut
    assert length(pair[0], namespace.wire_name(b"x")) == 1


def test_a_pipeline_after_one_that_was_answered_is_repeated(kv, proxy):
    kv.pipeline(transaction=False).incr("x").get("x").execute()
    proxy.cut_reply()
    assert kv.get("x") == b"1"


def test_connections_that_were_closed_while_idle(kv, proxy, pair, namespace):
    kv.set("x", 1)
    proxy.cut_all()
    assert kv.incr("x") == 2
    proxy.cut_all()
    assert kv.pipeline().incr("x").execute() == [3]
    assert length(pair[0], namespace.wire_name(b"x")) == 3


async def test_connections_that_were_closed_while_idle_asyncio(akv, proxy, pair, namespace):
    await akv.set("x", 1)
    proxy.cut_all()
    await asyncio.sleep(0.05)
    assert await akv.incr("x") == 2
    proxy.cut_all()
    await asyncio.sleep(0.05)
    assert await akv.pipeline().incr("x").execute() == [3]
    assert length(pair[0], namespace.wire_name(b"x")) == 3
