"""Connections among processes, namespaces and libraries: shared where that is safe, else never."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import threading

import pytest
import redis
from redis import asyncio as aredis
from rq.connections import get_connection_kwargs

import tenantkv
from tenantkv import Keyring, Namespace
from tenantkv.transport.redis_py import CHECKOUT


@pytest.fixture
def namespace():
    return Namespace(Keyring.generate(os.urandom(96)))


@pytest.fixture(params=["plain", "registry"])
def url(request, shared_server):
    return shared_server.url + ("?registry=1" if request.param == "registry" else "")


@pytest.fixture
def connect(url, namespace):
    made = []

    def connect(**options):
        made.append(tenantkv.connect(url, namespace=namespace, **options))
        return made[-1]

    yield connect
    for client in made:
        client.close()


@pytest.fixture
def kv(connect):
    return connect()


# Forks


def _in_child(work):
    """Run `work` in a forked child and return what it returned."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, pickle.dumps(work()))
        except BaseException as error:
            os.write(write, pickle.dumps(repr(error)))
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        result = pipe.read()
    os.waitpid(pid, 0)
    return pickle.loads(result)


def test_a_forked_child_has_connections_of_its_own(kv):
    kv.set("who", "parent")
    mine = kv.connection_pool.get_connection()
    mine.send_command("ECHO", "for the parent")

    def child():
        answers = [kv.echo("for the child"), kv.get("who"), kv.incr("forked")]
        held = kv.connection_pool.get_connection()
        own = held.pid == os.getpid() and held is not mine
        kv.connection_pool.release(mine)  # of the parent's; must not get into the child's pool
        return [*answers, own, mine in kv.connection_pool._available_connections]

    assert _in_child(child) == [b"for the child", b"parent", 1, True, False]
    assert mine.read_response() == b"for the parent"
    kv.connection_pool.release(mine)
    assert kv.incr("forked") == 2


def test_a_fork_while_threads_hold_the_pool(kv):
    """The child must not inherit a lock that nobody in it will release."""
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            kv.get("x")

    threads = [threading.Thread(target=busy) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(5):
            assert _in_child(lambda number=number: kv.echo(str(number))) == str(number).encode()
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _prefork(kv, view, number, results):
    for turn in range(20):
        value = f"{number}-{turn}"
        assert kv.echo(value) == value.encode()
        view.set("same", value)
        kv.incr("prefork")
    results.put(number)


def test_prefork_workers(kv):
    view = kv.child("customer")
    kv.set("same", "the parent's")
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=_prefork, args=(kv, view, number, results)) for number in range(4)]
    for worker in workers:
        worker.start()
    assert sorted(results.get(timeout=20) for _ in workers) == [0, 1, 2, 3]
    for worker in workers:
        worker.join(10)
    assert kv.get("prefork") == b"80"
    assert kv.get("same") == b"the parent's"


# Views


def test_views_share_connections_and_nothing_else(connect):
    kv = connect(max_connections=2)
    children = [kv.child(f"customer-{number}") for number in range(20)]
    wrong = []

    def work(number):
        own = children[number]
        for turn in range(10):
            value = f"{number}-{turn}".encode()
            own.set("same", value)
            if own.get("same") != value:
                wrong.append(number)
            if own.pipeline().get("same").incr("n").execute()[0] != value:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong
    assert len(kv.connection_pool._available_connections) <= 2
    assert kv.get("same") is None
    assert [child.get("n") for child in children] == [b"10"] * 20
    children[0].close()
    assert children[1].get("n") == b"10"


async def test_asyncio_views(url, namespace):
    akv = tenantkv.asyncio.connect(url, namespace=namespace, max_connections=2)
    children = [akv.child(f"async-{number}") for number in range(10)]

    async def work(number):
        own = children[number]
        for turn in range(10):
            value = f"{number}-{turn}".encode()
            await own.set("same", value)
            assert await own.get("same") == value

    await asyncio.gather(*(work(number) for number in range(10)))
    assert await akv.get("same") is None
    assert len(akv.connection_pool._available_connections) <= 2
    await akv.aclose()


def test_a_view_that_watches_does_not_lend_its_watch(kv):
    child = kv.child("customer")
    with child.pipeline() as pipe:
        pipe.watch("same")
        kv.set("same", "the parent's")  # another key, though of the same name
        pipe.multi()
        pipe.set("same", "the child's")
        assert pipe.execute() == [True]
    assert (kv.get("same"), child.get("same")) == (b"the parent's", b"the child's")


# What libraries build from our parts


def test_a_stock_client_on_our_arguments_fails_closed(kv):
    kv.set("name", "value")
    arguments = dict(kv.connection_pool.connection_kwargs)
    with pytest.raises(TypeError):
        redis.Redis(**arguments)
    arguments.pop("path", None)
    with pytest.raises(TypeError, match="namespace"):
        redis.Redis(**arguments)
    with pytest.raises(TypeError, match="namespace"):
        redis.ConnectionPool(**arguments).get_connection(*CHECKOUT)
    with pytest.raises(TypeError):
        aredis.Redis(**arguments)


def test_a_stock_pool_of_our_connection_class_stays_inside(kv, namespace):
    kv.set("name", "value")
    pool = kv.connection_pool
    stock = redis.ConnectionPool(connection_class=pool.connection_class, **pool.connection_kwargs)
    assert redis.Redis(connection_pool=stock).get("name") == b"value"
    own = tenantkv.TenantRedis(connection_pool=stock)
    assert own.get("name") == b"value"
    assert own.namespace == namespace
    blocking = redis.BlockingConnectionPool(connection_class=pool.connection_class, **pool.connection_kwargs)
    assert redis.Redis(connection_pool=blocking).get("name") == b"value"
    # Without the namespace nothing goes out at all.
    bare = {k: v for k, v in pool.connection_kwargs.items() if k not in ("namespace", "registry")}
    client = redis.Redis(connection_pool=redis.ConnectionPool(connection_class=pool.connection_class, **bare))
    with pytest.raises(tenantkv.NamespaceRequiredError):
        client.get("name")
    with pytest.raises(tenantkv.ConfigurationError):
        tenantkv.TenantRedis(connection_pool=client.connection_pool)
    for each in (stock, blocking, client.connection_pool):
        each.disconnect()


def test_a_stock_client_is_no_tenants():
    with pytest.raises(tenantkv.ConfigurationError):
        tenantkv.TenantRedis()
    with pytest.raises(tenantkv.ConfigurationError):
        tenantkv.TenantRedis(connection_pool=redis.ConnectionPool())
    with pytest.raises(tenantkv.ConfigurationError):
        tenantkv.AsyncTenantRedis(connection_pool=aredis.ConnectionPool())


def test_arguments_survive_a_pickle_without_the_secret(kv, namespace):
    text = pickle.dumps(get_connection_kwargs(kv))
    assert namespace.keyring.prefix.encode() not in text
    assert pickle.loads(text)["namespace"] is namespace
