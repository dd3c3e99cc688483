"""What is sent again after a lost reply, and what is not: with a proxy that loses replies."""

from __future__ import annotations

import os

import pytest
import redis

import tenantkv
from tenantkv import Keyring, Namespace
from tests.cutting_proxy import CuttingProxy


@pytest.fixture
def proxy(shared_server):
    proxy = CuttingProxy(shared_server.socket_path)
    yield proxy
    proxy.close()


@pytest.fixture
def namespace():
    return Namespace(Keyring.generate(os.urandom(96)))


@pytest.fixture(params=[False, True], ids=["plain", "registry"])
def kv(request, proxy, namespace):
    kv = tenantkv.connect(proxy.url, namespace=namespace, registry=request.param)
    kv.set("warm", "up")
    yield kv
    kv.close()


SAFE = {
    "GET": (lambda kv: kv.get("name"), b"before", b"before"),
    "SET": (lambda kv: kv.set("name", "after"), True, b"after"),
    "SET EX": (lambda kv: kv.set("name", "after", ex=60), True, b"after"),
    "MSET": (lambda kv: kv.mset({"name": "after"}), True, b"after"),
    "EXPIRE": (lambda kv: kv.expire("name", 60), True, b"before"),
    "MGET": (lambda kv: kv.mget("name"), [b"before"], b"before"),
}
UNSAFE = {
    "INCRBY": (lambda kv: kv.incr("count"), lambda kv: kv.get("count") == b"1"),
    "RPUSH": (lambda kv: kv.rpush("list", "x"), lambda kv: kv.llen("list") == 1),
    "LPOP": (lambda kv: kv.lpop("three"), lambda kv: kv.llen("three") == 2),
    "SET": (lambda kv: kv.set("new", 1, nx=True), lambda kv: kv.get("new") == b"1"),
    "APPEND": (lambda kv: kv.append("text", "x"), lambda kv: kv.get("text") == b"x"),
    "DEL": (lambda kv: kv.delete("name"), lambda kv: kv.get("name") is None),
    "EXPIRE": (lambda kv: kv.expire("name", 60, nx=True), lambda kv: kv.ttl("name") > 0),
    "XADD": (lambda kv: kv.xadd("stream", {"a": 1}), lambda kv: kv.xlen("stream") == 1),
    "EVAL": (
        lambda kv: kv.eval("return redis.call('INCR', KEYS[1])", 1, "count"),
        lambda kv: kv.get("count") == b"1",
    ),
    "PUBLISH": (lambda kv: kv.publish("channel", "x"), lambda kv: True),
}


@pytest.mark.parametrize("name", SAFE)
def test_what_is_safe_is_repeated(proxy, kv, name):
    act, answer, value = SAFE[name]
    kv.set("name", "before")
    proxy.cut(name.split()[0].encode(), times=2)
    assert act(kv) == answer
    assert proxy.cuts == 2
    assert kv.get("name") == value


@pytest.mark.parametrize("name", UNSAFE)
def test_what_is_not_safe_is_not_repeated(proxy, kv, name):
    act, once = UNSAFE[name]
    kv.set("name", "x")
    kv.rpush("three", 1, 2, 3)
    proxy.cut(b"\r\n" + name.encode() + b"\r\n")
    with pytest.raises(redis.ConnectionError):
        act(kv)
    assert proxy.cuts == 1
    assert once(kv)
    # The connection comes back, and the mark of the lost reply is gone.
    proxy.cut(b"GET", times=1)
    assert kv.get("name") in (b"x", None)


@pytest.mark.parametrize("transaction", [False, True])
def test_pipelines_are_repeated_only_as_a_whole_that_is_safe(proxy, kv, transaction):
    kv.set("name", "before")
    proxy.cut(b"INCR")
    with pytest.raises(redis.ConnectionError):
        kv.pipeline(transaction=transaction).set("a", 1).incr("count").get("a").execute()
    assert kv.get("count") == b"1"
    proxy.cut(b"GET", times=1)
    pipe = kv.pipeline(transaction=False).set("a", 2).get("a")
    assert pipe.execute() == [True, b"2"]
    assert proxy.cuts == 1


def test_a_transaction_of_safe_commands(proxy, kv):
    """EXEC counts as unsafe, whatever is in it: nobody can tell whether WATCH still held."""
    proxy.cut(b"EXEC")
    with pytest.raises(redis.ConnectionError):
        kv.pipeline().set("a", 1).execute()
    assert kv.get("a") == b"1"


def test_a_watch_that_was_lost_fails(proxy, kv):
    with kv.pipeline() as pipe:
        pipe.watch("a")
        proxy.cut(b"EXEC")
        pipe.multi()
        pipe.incr("a")
        with pytest.raises((redis.ConnectionError, redis.WatchError)):
            pipe.execute()
    assert kv.get("a") == b"1"


def test_a_single_connection_client_is_as_careful(proxy, kv):
    with kv.client() as single:
        proxy.cut(b"INCR")
        with pytest.raises(redis.ConnectionError):
            single.incr("count")
        assert single.get("count") == b"1"
        proxy.cut(b"GET", times=2)
        assert single.get("count") == b"1"


def test_a_bare_client_on_our_pool_is_as_careful(proxy, namespace):
    pool = tenantkv.connection_pool(proxy.url, namespace=namespace)
    bare = redis.Redis(connection_pool=pool)
    bare.set("warm", "up")
    proxy.cut(b"INCR")
    with pytest.raises(redis.ConnectionError):
        bare.incr("count")
    assert bare.get("count") == b"1"
    proxy.cut(b"GET", times=2)
    assert bare.get("count") == b"1"
    pool.disconnect()


def test_a_server_that_is_loading_is_asked_again(proxy, kv):
    kv.set("count", 0)
    proxy.cut(b"INCR", answer=b"-LOADING Redis is loading the dataset in memory\r\n", times=2)
    assert kv.incr("count") == 1
    assert proxy.cuts == 2


def test_a_replica_is_asked_again_over_a_new_connection(proxy, kv):
    """Behind a virtual address the next connection finds the new primary; the write was not done."""
    kv.set("count", 0)  # so that the registry knows the name, and the answer below is one for one
    proxy.cut(b"INCR", answer=b"-READONLY You can't write against a read only replica.\r\n", times=2)
    assert kv.incr("count") == 1
    assert proxy.cuts == 2


def test_what_was_never_sent_is_sent(proxy, kv, namespace):
    """The pooled connection died while it was idle, which the checkout sees."""
    for connection in kv.connection_pool._available_connections:
        connection._sock.shutdown(2)
    assert kv.incr("count") == 1


# asyncio


@pytest.fixture(params=[False, True], ids=["plain", "registry"])
async def akv(request, proxy, namespace):
    akv = tenantkv.asyncio.connect(proxy.url, namespace=namespace, registry=request.param)
    await akv.set("warm", "up")
    yield akv
    await akv.aclose()


@pytest.mark.parametrize("name", SAFE)
async def test_asyncio_repeats_what_is_safe(proxy, akv, name):
    act, answer, value = SAFE[name]
    await akv.set("name", "before")
    proxy.cut(name.split()[0].encode(), times=2)
    assert await act(akv) == answer
    assert proxy.cuts == 2
    assert await akv.get("name") == value


@pytest.mark.parametrize("name", UNSAFE)
async def test_asyncio_does_not_repeat_what_is_not(proxy, akv, namespace, name):
    act, once = UNSAFE[name]
    await akv.set("name", "x")
    await akv.rpush("three", 1, 2, 3)
    proxy.cut(b"\r\n" + name.encode() + b"\r\n")
    with pytest.raises(redis.ConnectionError):
        await act(akv)
    assert proxy.cuts == 1
    check = tenantkv.connect(proxy.url, namespace=namespace)
    assert once(check)
    check.close()
    proxy.cut(b"GET", times=1)
    assert await akv.get("name") in (b"x", None)


async def test_asyncio_pipelines(proxy, akv):
    proxy.cut(b"INCR")
    with pytest.raises(redis.ConnectionError):
        await akv.pipeline(transaction=False).set("a", 1).incr("count").get("a").execute()
    assert await akv.get("count") == b"1"
    proxy.cut(b"GET")
    assert await akv.pipeline(transaction=False).set("a", 2).get("a").execute() == [True, b"2"]
    assert proxy.cuts == 1


async def test_asyncio_loading_and_readonly(proxy, akv):
    await akv.set("count", 0)
    proxy.cut(b"INCR", answer=b"-LOADING Redis is loading the dataset in memory\r\n", times=2)
    assert await akv.incr("count") == 1
    proxy.cut(b"INCR", answer=b"-READONLY You can't write against a read only replica.\r\n")
    assert await akv.incr("count") == 2
