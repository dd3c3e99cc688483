"""Connections that are good guests: on a server that closes what idles, in small pools that wait."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
import redis

import tenantkv
from tenantkv import Keyring, Namespace
from tests.servers import start_tcp

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
#: Seconds after which the server closes an idle connection; it looks once a second.
IDLE = 1
CLOSED_AFTER = 2.4


@pytest.fixture(scope="module")
def impatient_server():
    server = start_tcp("shared", extra_config={"timeout": str(IDLE)})
    yield server
    server.stop()


@pytest.fixture
def namespace():
    return Namespace(Keyring.generate(os.urandom(96)))


@pytest.fixture(params=["tcp", "unix-registry"])
def url(request, impatient_server):
    if request.param == "tcp":
        return impatient_server.tcp_url
    return f"{impatient_server.url}?registry=1"


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


@pytest.fixture
async def akv(url, namespace):
    akv = tenantkv.asyncio.connect(url, namespace=namespace)
    yield akv
    await akv.aclose()


# Idle connections


def test_pooled_connections_survive_the_servers_idle_timeout(kv):
    """INCR must not be sent again, so the dead connection has to be noticed before."""
    assert kv.incr("count") == 1
    with kv.client() as single:
        assert single.incr("count") == 2
        pipe = kv.pipeline().incr("count")
        time.sleep(CLOSED_AFTER)
        assert kv.incr("count") == 3
        assert pipe.execute() == [4]
        assert single.incr("count") == 5


async def test_asyncio_survives_too(akv):
    assert await akv.incr("acount") == 1
    single = akv.client()
    assert await single.incr("acount") == 2
    await asyncio.sleep(CLOSED_AFTER)
    assert await akv.incr("acount") == 3
    assert await single.incr("acount") == 4
    await single.aclose()


def test_a_subscription_survives_and_hears(kv):
    pubsub = kv.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe("news")
    pubsub.get_message(timeout=0.5)
    time.sleep(CLOSED_AFTER)
    assert kv.publish("news", "x") == 1
    assert pubsub.get_message(timeout=2)["data"] == b"x"
    pubsub.close()


def test_health_checks_pair_with_their_own_replies(connect):
    kv = connect(health_check_interval=1)
    kv.set("name", "value")
    for _ in range(2):
        time.sleep(1.05)  # due, and not yet closed
        assert kv.get("name") == b"value"
        assert kv.pipeline().incr("hc").get("name").execute()[1] == b"value"
    assert kv.echo("x") == b"x"


def test_what_a_shared_server_asks_for_is_set(connect, url):
    kv = connect()
    kv.ping()
    connection = kv.connection_pool.get_connection()
    try:
        assert connection.health_check_interval == 60
        assert connection.socket_timeout == connection.socket_connect_timeout == 5
        assert kv.connection_pool.max_connections == 16
        sock = connection._sock
        if sock.family == socket.AF_INET:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    finally:
        kv.connection_pool.release(connection)


# A pool that is used up


def test_an_empty_pool_waits_and_then_says_why(connect):
    kv = connect(max_connections=2, pool_wait=0.2)
    held = [kv.connection_pool.get_connection() for _ in range(2)]
    begun = time.monotonic()
    with pytest.raises(redis.exceptions.MaxConnectionsError, match="all 2 connections"):
        kv.ping()
    assert 0.15 < time.monotonic() - begun < 2
    for connection in held:
        kv.connection_pool.release(connection)
    assert kv.ping()


def test_a_release_wakes_who_waits(connect):
    kv = connect(max_connections=1, pool_wait=10)
    held = kv.connection_pool.get_connection()
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(kv.ping())) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    assert answers == []
    begun = time.monotonic()
    kv.connection_pool.release(held)
    for thread in threads:
        thread.join(5)
    assert answers == [True] * 4
    assert time.monotonic() - begun < 2


def test_many_threads_share_few_connections(connect, impatient_server):
    kv = connect(max_connections=3)
    wrong = []

    def work(number):
        for turn in range(40):
            value = f"{number}-{turn}".encode()
            kv.set(f"thread:{number}", value)
            got = kv.pipeline(transaction=turn % 2 == 0).get(f"thread:{number}").echo(value).execute()
            if got != [value, value] or kv.get(f"thread:{number}") != value:
                wrong.append((number, turn))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong
    pool = kv.connection_pool
    assert len(pool._available_connections) <= 3
    assert not pool._in_use_connections


async def test_an_empty_asyncio_pool_waits_and_then_says_why(url, namespace):
    akv = tenantkv.asyncio.connect(url, namespace=namespace, max_connections=1, pool_wait=0.2)
    held = await akv.connection_pool.get_connection()
    with pytest.raises(redis.exceptions.MaxConnectionsError, match="all 1 connections"):
        await akv.ping()
    waiting = asyncio.gather(*(akv.ping() for _ in range(5)))
    await asyncio.sleep(0.05)
    await akv.connection_pool.release(held)
    assert await waiting == [True] * 5
    await akv.aclose()


async def test_a_turn_that_nobody_takes_goes_to_the_next(url, namespace):
    """A task is cancelled in the very moment in which a connection is handed to it."""
    akv = tenantkv.asyncio.connect(url, namespace=namespace, max_connections=1, pool_wait=1)
    held = await akv.connection_pool.get_connection()
    first, second = (asyncio.create_task(akv.ping()) for _ in range(2))
    await asyncio.sleep(0.05)
    await akv.connection_pool.release(held)
    first.cancel()
    assert await asyncio.wait_for(second, 0.5)
    # Before Python 3.12 wait_for() keeps what it has got and forgets that it was cancelled.
    await asyncio.gather(first, return_exceptions=True)
    await akv.aclose()


async def test_cancelled_tasks_leave_no_dirty_connection(url, namespace):
    akv = tenantkv.asyncio.connect(url, namespace=namespace, max_connections=4)
    wrong = []

    async def work(number):
        for turn in range(30):
            value = f"{number}-{turn}".encode()
            if await akv.echo(value) != value:
                wrong.append(value)
            pair = await akv.pipeline(transaction=turn % 2 == 0).echo(value).echo(b"x").execute()
            if pair != [value, b"x"]:
                wrong.append(value)

    async def cancel_often():
        for turn in range(60):
            task = asyncio.create_task(akv.blpop("nothing", timeout=1) if turn % 3 else work(1000 + turn))
            await asyncio.sleep(0.001 * (turn % 7))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    await asyncio.gather(*(work(number) for number in range(6)), cancel_often())
    assert not wrong
    assert not akv.connection_pool._in_use_connections
    await akv.aclose()


# Blocking commands may take longer than the socket's time-out


BLOCKING: dict = {
    "BLPOP": (lambda kv: kv.blpop("nothing", timeout=1), None),
    "BLMOVE": (lambda kv: kv.blmove("nothing", "nowhere", timeout=1), None),
    "BZPOPMIN": (lambda kv: kv.bzpopmin("nothing", timeout=1), None),
    "XREAD": (lambda kv: kv.xread({"nothing": "$"}, block=1000), []),
    "WAIT": (lambda kv: kv.wait(3, 1000), 0),
}


@pytest.mark.parametrize("name", BLOCKING)
def test_blocking_commands_may_outlast_the_socket_timeout(connect, name):
    kv = connect(socket_timeout=0.3)
    act, nothing = BLOCKING[name]
    begun = time.monotonic()
    assert act(kv) in (nothing, {})
    assert time.monotonic() - begun > 0.9
    # Afterwards the usual patience is back.
    connection = kv.connection_pool.get_connection()
    assert connection._sock.gettimeout() == 0.3
    kv.connection_pool.release(connection)


@pytest.mark.parametrize("name", BLOCKING)
async def test_blocking_commands_for_asyncio(url, namespace, name):
    akv = tenantkv.asyncio.connect(url, namespace=namespace, socket_timeout=0.3)
    act, nothing = BLOCKING[name]
    answer = await act(akv)
    assert answer in (nothing, {})
    await akv.aclose()


def test_a_blocking_command_hears_what_arrives_late(connect):
    kv = connect(socket_timeout=0.3)
    timer = threading.Timer(0.7, lambda: kv.rpush("late", "x"))
    timer.start()
    assert kv.blpop("late", timeout=5) == (b"late", b"x")
    timer.join()
    timer = threading.Timer(0.7, lambda: kv.rpush("late", "y"))
    timer.start()
    assert kv.blpop("late", timeout=0) == (b"late", b"y")
    timer.join()


def test_a_server_that_hangs_is_given_up(connect, impatient_server):
    kv = connect(socket_timeout=0.3, retry=None)
    kv.ping()
    impatient_server.command("CLIENT", "PAUSE", 1500)
    begun = time.monotonic()
    with pytest.raises(redis.TimeoutError):
        kv.get("x")
    assert time.monotonic() - begun < 1.2
    impatient_server.command("CLIENT", "UNPAUSE")
    assert kv.get("x") is None


def test_most_of_this_without_the_lean_paths():
    if os.environ.get("TENANTKV_LEAN") == "0":
        pytest.skip("this is that run")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        [*command, "-k", "tcp and (pool or survive or thread or late or turn)"],
        env={**os.environ, "TENANTKV_LEAN": "0"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
