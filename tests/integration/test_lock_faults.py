"""Locks where things go wrong: lost replies, interrupts, dead holders, servers that lose data, forks."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import redis
from redis.exceptions import LockError

import tenantkv
from tenantkv import Keyring, Namespace
from tenantkv.lock import LeaseLostError
from tenantkv.lock.taking import async_keeper_of, desk_of
from tenantkv.transport.retry import SafeRetry
from tests.cutting_proxy import CuttingProxy
from tests.topologies import start_cluster

SEED = bytes(range(96))


@pytest.fixture
def namespace():
    return Namespace(Keyring.generate(SEED))


@pytest.fixture
def proxy(shared_server):
    proxy = CuttingProxy(shared_server.socket_path)
    yield proxy
    proxy.close()


@pytest.fixture
def kv(shared_server, namespace):
    kv = tenantkv.connect(shared_server.url, namespace=namespace)
    yield kv
    kv.close()


@pytest.fixture
def faulty(proxy, namespace):
    faulty = tenantkv.connect(proxy.url, namespace=namespace)
    # Scripts and directory are there, so that the next packet is the one that counts.
    with faulty.lock("job", fair=True), faulty.semaphore("api", 2), faulty.read_write_lock("rw").read():
        pass
    with faulty.lock("job"), faulty.read_write_lock("rw").write():
        pass
    yield faulty
    faulty.close()


MAKERS = {
    "lock": lambda client: client.lock("job", lease=10, wait=0),
    "fair": lambda client: client.lock("job", lease=10, wait=0, fair=True),
    "semaphore": lambda client: client.semaphore("api", 2, lease=10, wait=0),
    "reader": lambda client: client.read_write_lock("rw", lease=10, wait=0).read(),
    "writer": lambda client: client.read_write_lock("rw", lease=10, wait=0).write(),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_a_lost_reply_leaves_no_phantom(proxy, faulty, kv, maker):
    lock = MAKERS[maker](faulty)
    proxy.cut(b"EVALSHA", times=2)
    assert lock.acquire() is True
    assert proxy.cuts == 2
    proxy.cut(b"EVALSHA")
    lock.release()
    assert proxy.cuts == 1
    assert MAKERS[maker](kv).acquire() is True


@pytest.mark.parametrize("maker", MAKERS)
def test_a_lost_reply_to_a_release_is_not_a_lost_lease_even_if_another_came_first(
    proxy, faulty, kv, maker, monkeypatch
):
    """The repeat comes after somebody else has taken and given back the lock."""
    lock = MAKERS[maker](faulty)
    lock.acquire()
    plain, others = SafeRetry.call_with_retry, [MAKERS[maker](kv)]

    def meanwhile(self, do, fail, *args, **kwargs):
        while others:
            other = others.pop()
            # The proxy cuts first, and then lets the request through.
            until(other.acquire)
            other.release()
        return plain(self, do, fail, *args, **kwargs)

    with kv.lock("warm"), monkeypatch.context() as patch:
        proxy.cut(b"EVALSHA")
        patch.setattr(SafeRetry, "call_with_retry", meanwhile)
        lock.release()
    assert proxy.cuts == 1 and not others


def test_an_extension_is_not_made_twice(proxy, faulty):
    lock = faulty.lock("job", timeout=10)
    lock.acquire()
    proxy.cut(b"EVALSHA")
    with pytest.raises(redis.ConnectionError):
        lock.extend(10)
    assert lock.owned()
    assert faulty.pttl(lock._place.key) <= 20_000
    proxy.cut(b"EVALSHA")
    # The time from now on is the same twice.
    assert lock.extend(15, replace_ttl=True)
    lock.release()


def test_a_release_that_fails_may_be_tried_again(proxy, faulty, kv):
    lock = faulty.lock("job", lease=10)
    lock.acquire()
    proxy.cut(b"EVALSHA", times=100)
    with pytest.raises(redis.ConnectionError):
        lock.release()
    assert lock.local.token is not None
    assert not desk_of(faulty).keeper._entries
    proxy.cut(b"EVALSHA", times=0)
    lock.release()
    assert kv.lock("job", wait=0).acquire()


def test_a_lock_whose_taking_failed_for_good_is_given_back_in_the_background(proxy, faulty, kv):
    lock = faulty.lock("job", lease=60)
    proxy.cut(b"EVALSHA", times=7)  # the first try and all repeats
    with pytest.raises(redis.ConnectionError):
        lock.acquire()
    waiter = kv.lock("job", wait=30)
    assert waiter.acquire() is True
    waiter.release()


def test_readonly_is_repeated_and_oom_raised(proxy, faulty):
    lock = faulty.lock("job", lease=10)
    proxy.cut(b"EVALSHA", answer=b"-READONLY You can't write against a read only replica.\r\n", times=2)
    assert lock.acquire() is True
    lock.release()
    proxy.cut(b"EVALSHA", answer=b"-LOADING Redis is loading the dataset in memory\r\n", times=2)
    assert lock.acquire() is True
    lock.release()
    proxy.cut(b"EVALSHA", answer=b"-OOM command not allowed when used memory > 'maxmemory'.\r\n")
    with pytest.raises(redis.ResponseError):
        lock.acquire()
    # Nothing is held, and nothing is left to give back.
    assert not desk_of(faulty).keeper._entries
    assert lock.acquire() is True
    lock.release()


# Renewal


def until(what):
    for _ in range(2000):
        if what():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")


def test_a_lease_is_renewed_for_as_long_as_it_is_held(kv):
    lock, other = kv.lock("job", lease=0.3), kv.lock("job", wait=0)
    lock.acquire()
    first = lock.lease._until
    until(lambda: lock.lease._until > first + 0.5)
    assert other.acquire() is False
    lock.check()
    lock.release()
    assert other.acquire() is True
    other.release()


def test_many_leases_are_renewed_by_one_thread(kv):
    locks = [kv.lock(f"job:{number}", lease=0.3) for number in range(20)]
    children = [kv.child(f"c{number}").lock("job", lease=0.3) for number in range(5)]
    before = threading.active_count()
    for lock in locks + children:
        lock.acquire()
    assert threading.active_count() <= before + 1
    ends = [lock.lease._until for lock in locks + children]
    until(lambda: all(x.lease._until > end + 0.3 for x, end in zip(locks + children, ends, strict=True)))
    for lock in locks + children:
        lock.release()
    assert not desk_of(kv).keeper._entries


@pytest.mark.parametrize("deed", ["delete", "replace", "another type"])
def test_the_holder_is_told_when_a_neighbour_takes_the_lease_away(kv, shared_server, deed):
    told: list[object] = []
    lock = kv.lock("job", lease=0.3, on_lost=told.append)
    lock.acquire()
    neighbour = redis.Redis.from_url(shared_server.url)
    key = kv.namespace.wire_name(lock._place.key)
    neighbour.delete(key)
    if deed == "replace":
        neighbour.set(key, "x" * 22, px=10_000)
    elif deed == "another type":
        neighbour.rpush(key, "x")
    until(lambda: told)
    assert lock.lost and told == [lock.lease]
    with pytest.raises(LeaseLostError):
        lock.check()
    # It is never silently made again.
    assert neighbour.type(key) != b"string" or neighbour.get(key) == b"x" * 22
    with pytest.raises(LeaseLostError):
        lock.release()
    assert len(told) == 1
    neighbour.close()


def test_the_holder_is_told_when_the_server_is_away(proxy, namespace):
    faulty = tenantkv.connect(proxy.url, namespace=namespace)
    told: list[object] = []
    lock = faulty.lock("job", lease=0.5, on_lost=told.append)
    lock.acquire()
    proxy.cut(b"EVALSHA", times=10**6)
    until(lambda: lock.lost)
    with pytest.raises(LeaseLostError):
        lock.check()
    until(lambda: told)
    faulty.close()


def test_a_lease_that_is_not_renewed_tells_when_it_runs_out(kv):
    told: list[object] = []
    lock = kv.lock("job", timeout=0.2, on_lost=told.append)
    lock.acquire()
    lock.extend(0.2)
    until(lambda: told)
    assert lock.lost and lock.lease.loss == "it ran out"


def test_a_callback_that_fails_stops_nothing(kv, shared_server):
    def fail(lease):
        raise RuntimeError("oops")

    first, second = kv.lock("one", lease=0.3, on_lost=fail), kv.lock("two", lease=0.3)
    first.acquire()
    second.acquire()
    redis.Redis.from_url(shared_server.url).delete(kv.namespace.wire_name(first._place.key))
    until(lambda: first.lost)
    end = second.lease._until
    until(lambda: second.lease._until > end + 0.3)
    second.release()


def test_a_dead_holders_lock_comes_free(kv, shared_server, namespace):
    program = (
        "import sys, time, tenantkv\n"
        "from tenantkv import Keyring, Namespace\n"
        f"ns = Namespace(Keyring.generate(bytes.fromhex({SEED.hex()!r})))\n"
        "kv = tenantkv.connect(sys.argv[1], namespace=ns)\n"
        "lock = kv.lock('job', lease=0.5)\n"
        "lock.acquire()\n"
        "print(lock.fence, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, shared_server.url], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        fence = int(holder.stdout.readline())
        # It renews: beyond its lease it is still held.
        assert kv.lock("job", wait=1.0).acquire() is False
        holder.send_signal(signal.SIGKILL)
    with kv.lock("job", wait=30) as lock:
        assert lock.fence > fence


def test_a_child_process_renews_nothing_and_may_lock(kv):
    lock = kv.lock("job", lease=0.5)
    lock.acquire()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert not desk_of(kv).keeper._entries
            with kv.lock("other", lease=0.5, wait=5) as mine:
                mine.check()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    lock.check()
    lock.release()


# Waiting


def test_fair_waiters_come_in_order(kv):
    order: list[int] = []

    def work(number):
        with kv.lock("job", fair=True, wait=30):
            order.append(number)

    threads = []
    with kv.lock("job", fair=True) as lock:
        for number in range(6):
            threads.append(threading.Thread(target=work, args=(number,)))
            threads[-1].start()
            until(lambda: kv.zcard(lock._place.key + b":queue") == len(threads))
    for thread in threads:
        thread.join()
    assert order == list(range(6))


def test_a_fair_waiter_that_died_holds_nobody_up(kv, shared_server):
    lock = kv.lock("job", fair=True)
    lock.acquire()
    # As a process leaves it that was killed while it waited.
    kv.run(asking(lock._place, b"d" * 22))
    assert kv.zcard(lock._place.key + b":queue") == 1
    lock.release()
    assert kv.lock("job", fair=True, wait=0).acquire() is False
    assert kv.lock("job", fair=True, wait=30).acquire() is True


def asking(place, token):
    return (yield place.acquire(token, 10_000, waited=True, waits=True))


def test_a_fair_waiter_that_gives_up_leaves_the_queue(kv):
    lock = kv.lock("job", fair=True)
    lock.acquire()
    assert kv.lock("job", fair=True, wait=0.05).acquire() is False
    assert kv.zcard(lock._place.key + b":queue") == 0
    lock.release()


def test_more_waiters_than_connections(shared_server, namespace):
    kv = tenantkv.connect(shared_server.url, namespace=namespace, max_connections=4)
    inside: list[int] = []

    def work(number):
        with kv.lock("job", lease=10, wait=60):
            inside.append(number)
            assert kv.set("x", number)

    with kv.lock("job"):
        threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        until(lambda: not desk_of(kv).keeper.gate.enter())
    for thread in threads:
        thread.join()
    assert sorted(inside) == list(range(12))
    kv.close()


def test_a_client_with_one_connection_waits_too(shared_server, namespace):
    kv = tenantkv.connect(shared_server.url, namespace=namespace, max_connections=1)
    lock = kv.lock("job", timeout=0.2)
    lock.acquire()
    assert kv.lock("job", wait=30).acquire() is True
    kv.close()


def test_readers_that_waited_all_come_in(kv):
    pair = kv.read_write_lock("report", lease=10, wait=30)
    inside = threading.Barrier(4)

    def read():
        with pair.read():
            inside.wait(30)

    writer = pair.write()
    writer.acquire()
    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    writer.release()
    for thread in threads:
        thread.join()
    assert not inside.broken
    with writer:
        assert pair.read(wait=0).acquire() is False


# asyncio


@pytest.fixture
async def akv(shared_server, namespace):
    akv = tenantkv.asyncio.connect(shared_server.url, namespace=namespace)
    yield akv
    await akv.aclose()


async def auntil(what):
    for _ in range(2000):
        if what():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came")


async def test_asyncio_lost_replies(proxy, namespace, akv):
    faulty = tenantkv.asyncio.connect(proxy.url, namespace=namespace)
    async with faulty.lock("job"):
        pass
    lock = faulty.lock("job", lease=10, wait=0)
    proxy.cut(b"EVALSHA", times=2)
    assert await lock.acquire() is True
    proxy.cut(b"EVALSHA")
    await lock.release()
    assert await akv.lock("job", wait=0).acquire()
    await faulty.aclose()


async def test_asyncio_renews_and_tells(akv, shared_server):
    told: list[object] = []

    async def tell(lease):
        await asyncio.sleep(0)
        told.append(lease)

    lock = akv.lock("job", lease=0.3, on_lost=tell)
    await lock.acquire()
    end = lock.lease._until
    await auntil(lambda: lock.lease._until > end + 0.5)
    redis.Redis.from_url(shared_server.url).delete(akv.namespace.wire_name(lock._place.key))
    await auntil(lambda: told)
    assert lock.lost
    with pytest.raises(LeaseLostError):
        await lock.release()
    assert not async_keeper_of(akv)._entries


@pytest.mark.parametrize("fair", [False, True])
async def test_a_cancelled_waiter_leaves_nothing_behind(akv, fair):
    lock = akv.lock("job", fair=fair)
    await lock.acquire()
    waiter = asyncio.create_task(akv.lock("job", fair=fair, lease=60).acquire())
    await asyncio.sleep(0.1)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    await lock.release()
    assert await akv.lock("job", fair=fair, wait=30).acquire()
    assert await akv.get("nothing") is None


async def test_cancelled_while_it_is_granted(proxy, namespace, akv):
    """The server grants, the task is cancelled before it hears of it: it is given back soon."""
    faulty = tenantkv.asyncio.connect(proxy.url, namespace=namespace)
    async with faulty.lock("job"):
        pass
    for delay in (0, 0.0001, 0.0005, 0.001, 0.005):
        task = asyncio.create_task(faulty.lock("job", lease=600).take())
        await asyncio.sleep(delay)
        task.cancel()
        try:
            lease = await task
        except asyncio.CancelledError:
            pass
        else:
            await lease.release()
        async with akv.lock("job", wait=30):
            pass
    await faulty.aclose()


async def test_tasks_share_a_lock_object(akv):
    lock = akv.lock("job", lease=10)
    inside: list[int] = []

    async def work(number):
        async with lock:
            inside.append(number)
            assert len(inside) == 1
            await asyncio.sleep(0.001)
            inside.remove(number)

    await asyncio.gather(*(work(number) for number in range(8)))
    assert await lock.locked() is False


async def test_a_late_task_does_not_give_back_anothers_lease(akv):
    """redis-py #656: both tasks share ``local``, so the late one would release the other's lock."""
    lock = akv.lock("job", timeout=0.1)

    async def late():
        with pytest.raises(LockError):
            async with lock:
                await asyncio.sleep(0.3)

    async def next_one():
        await asyncio.sleep(0.05)
        lock._terms = akv.lock("job", timeout=10)._terms
        async with lock:
            await asyncio.sleep(0.5)
            assert await lock.owned()

    await asyncio.gather(late(), next_one())


def test_one_asyncio_client_on_two_loops(shared_server, namespace):
    akv = tenantkv.asyncio.connect(shared_server.url, namespace=namespace)

    async def work():
        async with akv.lock("job", lease=0.3) as lock:
            end = lock.lease._until
            await auntil(lambda: lock.lease._until > end)
        await akv.connection_pool.disconnect()

    for _ in range(2):
        asyncio.run(work())


# Cluster


@pytest.fixture(scope="module")
def cluster():
    with start_cluster() as cluster:
        yield cluster


def test_all_of_it_on_a_cluster(cluster, namespace):
    kv = tenantkv.connect_cluster(cluster.url.replace("redis://", "redis+cluster://"), namespace=namespace)
    with kv.lock("job", lease=0.5) as lock:
        end = lock.lease._until
        for fair in (False, True):
            assert kv.lock("job", fair=fair, wait=0.1).acquire() is False
        until(lambda: lock.lease._until > end)
    with kv.semaphore("api", 2), kv.read_write_lock("rw").write():
        pass
    with kv.read_write_lock("rw").read():
        assert kv.rate_limit("login", 2, per=60).hit()
    got = []

    def work():
        with kv.lock("job", wait=30):
            got.append(1)

    with kv.lock("job"), kv.child("x").lock("job", wait=0):
        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.1)
    thread.join()
    assert got
    kv.close()


async def test_all_of_it_on_an_asyncio_cluster(cluster, namespace):
    akv = tenantkv.asyncio.connect(cluster.url.replace("redis://", "redis+cluster://"), namespace=namespace)
    async with akv.lock("job", lease=0.5) as lock:
        end = lock.lease._until
        assert await akv.lock("job", fair=True, wait=0.1).acquire() is False
        await auntil(lambda: lock.lease._until > end)
    async with akv.semaphore("api", 2), akv.read_write_lock("rw").write():
        assert await akv.rate_limit("login", 2, per=60).hit()
    await akv.aclose()
