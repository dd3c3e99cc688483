"""A primary that dies under load: the client follows, does nothing twice, and writes nowhere else.

Redis replicates asynchronously: a write that was acknowledged just before the primary died may be gone
afterwards, whatever the client does. So these tests do not ask for every acknowledged write, but for
every one that was acknowledged after the failover, and for none that was done twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import threading
import time

import pytest
import redis

from tenantkv.keyring import Keyring
from tenantkv.namespace import Namespace
from tenantkv.transport import async_connect, connect
from tenantkv.transport.client import TenantRedis
from tenantkv.transport.pool import NamespacedConnectionPool
from tests.topologies import start_sentinel, wait_until

pytestmark = pytest.mark.topology

THREADS = 4
# Sentinels declare the primary dead after one second and vote; on a busy machine they may vote twice.
PATIENCE = 20.0


@pytest.fixture
def namespace():
    return Namespace(Keyring.generate(os.urandom(96)))


@pytest.fixture
def topology():
    with start_sentinel("shared") as running:
        yield running


def url(topology):
    return f"sentinel://{topology.url}/{topology.service_name}/0"


class Log:
    """What the writers of one test saw."""

    def __init__(self):
        self.acknowledged: list[tuple[float, str]] = []
        self.failed: list[tuple[float, str, Exception]] = []

    def after(self, moment: float) -> list[str]:
        return [item for when, item in self.acknowledged if when > moment]


def test_the_pool_is_a_namespaced_one(topology, namespace):
    kv = connect.connect(url(topology), namespace=namespace)
    assert isinstance(kv, TenantRedis)
    assert isinstance(kv.connection_pool, NamespacedConnectionPool)
    assert kv.set("a", 1) and kv.get("a") == b"1"
    child = kv.child("customer-17")
    child.set("a", 2)
    assert (kv.get("a"), child.get("a")) == (b"1", b"2")
    assert kv.connection_pool._is_lean or os.environ.get("TENANTKV_LEAN") == "0"
    names = topology.primary.dump_keys()
    assert names == {namespace.wire_name(b"a"), namespace.child("customer-17").wire_name(b"a")}
    for secret in (namespace.keyring.prefix, namespace.wire_prefix.decode()):
        assert secret not in repr(kv) + repr(kv.connection_pool)
    kv.close()


def test_a_bounded_pool_waits(topology, namespace):
    kv = connect.connect(url(topology), namespace=namespace, max_connections=2, pool_wait=0.05)
    held = [kv.connection_pool.get_connection() for _ in range(2)]
    with pytest.raises(redis.exceptions.MaxConnectionsError):
        kv.get("a")
    for connection in held:
        kv.connection_pool.release(connection)
    assert kv.get("a") is None
    kv.close()


def test_a_service_that_nobody_knows(topology, namespace):
    kv = connect.connect(
        f"sentinel://{topology.url}/nobody/0",
        namespace=namespace,
        retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),
    )
    with pytest.raises(redis.sentinel.MasterNotFoundError, match="'nobody': no Sentinel answers") as info:
        kv.get("a")
    # The error is a sentence, without redis-py's clients and their arguments.
    assert topology.url.partition(",")[0] in str(info.value) and "<redis" not in str(info.value)


async def test_no_sentinel_answers(namespace):
    with socket.socket() as bound:
        # Bound and not listening, so that connections to it are refused.
        bound.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{bound.getsockname()[1]}"
        never = redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0)
        akv = async_connect.connect(f"sentinel://{place}/service/0", namespace=namespace, retry=never)
        with pytest.raises(redis.asyncio.sentinel.MasterNotFoundError, match="no Sentinel answers") as info:
            await akv.get("a")
        assert place in str(info.value) and "<redis" not in str(info.value)
        await akv.aclose()


def test_the_primary_dies_under_load(topology, namespace):
    kv = connect.connect(url(topology), namespace=namespace, socket_timeout=1.0)
    kv.set("before", "there")
    assert kv.wait(1, 5000) == 1
    log, stop = Log(), threading.Event()
    writers = [
        threading.Thread(target=_write, args=(kv, log, f"t{number}", stop)) for number in range(THREADS)
    ]
    for writer in writers:
        writer.start()
    wait_until("the load", lambda: len(log.acknowledged) > 200)
    topology.fail_over()
    elected = time.monotonic()
    wait_until(
        "every writer",
        lambda: {item[:2] for item in log.after(elected)} == {f"t{n}" for n in range(THREADS)},
    )
    stop.set()
    for writer in writers:
        writer.join(PATIENCE)
    moments = sorted(when for when, _ in log.acknowledged)
    pause = max(later - earlier for earlier, later in itertools.pairwise(moments))
    print(f"no write for {pause:.2f} s, {len(log.failed)} failed writes")
    assert pause < PATIENCE
    _check(topology, namespace, log, elected, kv.lrange("list", 0, -1), kv.get("before"))
    kv.close()


def _write(kv, log, name, stop):
    """Append unique items; an item whose push failed is never sent again by us."""
    number = 0
    while not stop.is_set():
        number += 1
        item = f"{name}-{number}"
        try:
            if number % 3:
                kv.rpush("list", item)
            else:
                with kv.pipeline(transaction=number % 2 == 0) as pipe:
                    pipe.set(f"{name}-last", number).rpush("list", item).execute()
        except redis.RedisError as error:
            log.failed.append((time.monotonic(), item, error))
        else:
            log.acknowledged.append((time.monotonic(), item))
        time.sleep(0.001)


async def test_the_primary_dies_under_load_asyncio(topology, namespace):
    kv = async_connect.connect(url(topology), namespace=namespace, socket_timeout=1.0)
    await kv.set("before", "there")
    assert await kv.wait(1, 5000) == 1
    log, stop = Log(), asyncio.Event()
    tasks = [asyncio.create_task(_awrite(kv, log, f"t{number}", stop)) for number in range(THREADS)]
    while len(log.acknowledged) < 200:
        await asyncio.sleep(0.01)
    await asyncio.to_thread(topology.fail_over)
    elected = time.monotonic()
    deadline = elected + PATIENCE
    while {item[:2] for item in log.after(elected)} != {f"t{n}" for n in range(THREADS)}:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    stop.set()
    await asyncio.gather(*tasks)
    items, before = await kv.lrange("list", 0, -1), await kv.get("before")
    _check(topology, namespace, log, elected, items, before)
    await kv.aclose()


async def _awrite(kv, log, name, stop):
    number = 0
    while not stop.is_set():
        number += 1
        item = f"{name}-{number}"
        try:
            if number % 3:
                await kv.rpush("list", item)
            else:
                async with kv.pipeline(transaction=number % 2 == 0) as pipe:
                    await pipe.set(f"{name}-last", number).rpush("list", item).execute()
        except redis.RedisError as error:
            log.failed.append((time.monotonic(), item, error))
        else:
            log.acknowledged.append((time.monotonic(), item))
        await asyncio.sleep(0.001)


def _check(topology, namespace, log, elected, items, before):
    assert before == b"there", "what the replica had confirmed is still there"
    assert len(items) == len(set(items)), "nothing was appended twice"
    missing = {item.encode() for item in log.after(elected)} - set(items)
    assert not missing, "what was acknowledged after the failover is there"
    wire = topology.replica.dump_keys()
    assert wire and all(name.startswith(namespace.wire_prefix) for name in wire)
    for _, _, error in log.failed:
        assert namespace.keyring.prefix not in f"{error!r}{error}"


def test_connections_leave_a_former_primary(topology, namespace):
    """The old primary lives on as a replica: it answers, but READONLY."""
    kv = connect.connect(url(topology), namespace=namespace, max_connections=4)
    single = connect.connect(url(topology), namespace=namespace, max_connections=1)
    held = [kv.connection_pool.get_connection() for _ in range(3)]
    for connection in held:
        kv.connection_pool.release(connection)
    single.set("a", 1)
    kv.wait(1, 5000)
    topology.sentinels[0].operator().execute_command("SENTINEL FAILOVER", topology.service_name)
    wait_until("the failover", lambda: topology.primary_port() == topology.replica.port)
    wait_until(
        "the demotion",
        lambda: topology.primary.operator().info("replication")["role"] == "slave",
    )
    # A refused write was not done, so it is repeated, although INCR is not in general.
    for number in range(8):
        assert kv.incr("a") == 2 + number
    ports = {c.port for c in kv.connection_pool._available_connections if c._sock is not None}
    assert ports == {topology.replica.port}
    # A pipeline is not repeated, but a connection that was refused a write is not used again.
    with contextlib.suppress(redis.RedisError):
        single.pipeline(transaction=False).incr("b").execute()
    assert single.pipeline(transaction=False).incr("b").execute()[0] in (1, 2)
    kv.close()
    single.close()
