"""Locks, semaphores and rate limiters on every server, sync and asyncio, in both protocols."""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from typing import Any

import fakeredis
import pytest
import redis
from redis.exceptions import LockError, LockNotOwnedError

import tenantkv
from tenantkv import ConfigurationError, Keyring, Namespace
from tenantkv.lock import LeaseLostError
from tenantkv.ops import directory
from tenantkv.ops.lock_places import LONGEST_LEASE


class World:
    """A client of either kind, a neighbour, and what makes asyncio's answers wait for themselves."""

    def __init__(self, kv: Any, neighbour: redis.Redis, loop: asyncio.AbstractEventLoop | None) -> None:
        self.kv = kv
        self.neighbour = neighbour
        self.loop = loop

    def do(self, answer: Any) -> Any:
        if inspect.isawaitable(answer):
            assert self.loop is not None

            async def wait() -> Any:
                return await answer

            return self.loop.run_until_complete(wait())
        return answer

    def wire(self, own: bytes) -> bytes:
        return self.kv.namespace.wire_name(own)

    def key(self, lock: Any, rest: bytes = b"") -> bytes:
        """The name under which the neighbour knows a lock's key."""
        return self.wire(lock._place.key + rest)


@pytest.fixture(params=["memory", "shared"])
def server_kind(request):
    return request.param


@pytest.fixture(params=["sync", "asyncio"])
def kind(request):
    return request.param


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def protocol(request):
    return request.param


@pytest.fixture
def world(request, kind, protocol, server_kind):
    namespace = Namespace(Keyring.generate(bytes(range(96))))
    options: dict[str, Any] = {"namespace": namespace, "protocol": protocol}
    if server_kind == "memory":
        server = fakeredis.FakeServer(version=(7, 0))
        neighbour: Any = fakeredis.FakeRedis(server=server)
        url = "memory://"
        options["server"] = server
    else:
        real = request.getfixturevalue("shared_server")
        real.flush()
        url, neighbour = real.url, redis.Redis.from_url(real.url)
    if kind == "sync":
        kv: Any = tenantkv.connect(url, **options)
        yield World(kv, neighbour, None)
        kv.close()
    else:
        loop = asyncio.new_event_loop()
        kv = tenantkv.asyncio.connect(url, **options)
        yield World(kv, neighbour, loop)
        loop.run_until_complete(kv.aclose())
        loop.close()
    neighbour.close()


# redis-py's lock, as its users know it


def test_a_lock_is_taken_once_and_given_back(world):
    do, kv = world.do, world.kv
    lock, other = kv.lock("job", timeout=10), kv.lock("job", timeout=10)
    assert do(lock.acquire(blocking=False)) is True
    assert do(lock.locked()) is True and do(other.locked()) is True
    assert do(lock.owned()) is True and do(other.owned()) is False
    assert do(other.acquire(blocking=False)) is False
    do(lock.release())
    assert do(lock.locked()) is False
    assert do(other.acquire(blocking_timeout=0.01)) is True
    do(other.release())


def test_waiting_ends_in_time(world):
    do, kv = world.do, world.kv
    lock, other = kv.lock("job", lease=10), kv.lock("job", lease=10, wait=0.05)
    do(lock.acquire())
    assert do(other.acquire()) is False
    assert do(other.acquire(blocking_timeout=0.03)) is False
    assert do(other.take(wait=0.02)) is None
    assert do(kv.lock("job", wait=0).acquire()) is False
    do(lock.release())


def test_a_lock_that_runs_out_is_free_and_no_longer_the_holders(world):
    do, kv = world.do, world.kv
    lock, other = kv.lock("job", timeout=0.05), kv.lock("job", timeout=10, blocking_timeout=5)
    do(lock.acquire())
    assert do(other.acquire()) is True
    assert lock.lost
    with pytest.raises(LeaseLostError):
        lock.check()
    with pytest.raises(LockNotOwnedError):
        do(lock.release())
    # As with redis-py, it is over after that.
    with pytest.raises(LockError):
        do(lock.release())
    assert do(other.owned()) is True
    do(other.release())


def test_extend_and_reacquire(world):
    do, kv = world.do, world.kv
    lock = kv.lock("job", timeout=10)
    with pytest.raises(LockError):
        do(lock.extend(10))
    do(lock.acquire())
    assert do(lock.extend(10)) is True
    assert 10_000 < world.neighbour.pttl(world.key(lock)) <= 20_000
    assert lock.remaining > 15
    assert do(lock.extend(30, replace_ttl=True)) is True
    assert 20_000 < world.neighbour.pttl(world.key(lock)) <= 30_000
    assert do(lock.reacquire()) is True
    assert 0 < world.neighbour.pttl(world.key(lock)) <= 10_000
    do(lock.release())
    with pytest.raises(LockError):
        do(lock.reacquire())


def test_without_a_timeout_it_is_renewed_and_not_extended(world):
    do, kv = world.do, world.kv
    lock = kv.lock("job")
    do(lock.acquire())
    assert lock.timeout is None
    assert 0 < world.neighbour.pttl(world.key(lock)) <= 30_000
    for act in (lambda: lock.extend(1), lock.reacquire):
        with pytest.raises(LockError):
            do(act())
    do(lock.release())


def test_a_token_of_ones_own_is_handed_on(world):
    do, kv = world.do, world.kv
    first = kv.lock("job", timeout=10)
    assert do(first.acquire(token="worker-1"))
    assert first.local.token == b"worker-1"
    assert b"worker-1" not in world.neighbour.get(world.key(first))
    second = kv.lock("job", timeout=10)
    second.local.token = "worker-1"
    assert do(second.owned())
    do(second.extend(5))
    with pytest.raises(LockNotOwnedError):
        do(second.do_release(b"worker-2"))
    do(second.release())
    assert second.local.token is None
    # The mark of the release: whether it was this one's or a repeat cannot be told, and need not be.
    assert do(first.locked()) is False


def test_the_block_raises_what_redis_pys_raises(world):
    do, kv = world.do, world.kv
    lock = kv.lock("job", timeout=10)
    do(enter(lock))
    with pytest.raises(LockError):
        do(enter(kv.lock("job", timeout=10, blocking_timeout=0.01)))
    world.neighbour.delete(world.key(lock))
    with pytest.raises(LockNotOwnedError):
        do(leave(lock))
    quiet = kv.lock("job", timeout=10, raise_on_release_error=False)
    do(enter(quiet))
    world.neighbour.delete(world.key(quiet))
    do(leave(quiet))


def enter(lock: Any) -> Any:
    return lock.__aenter__() if hasattr(lock, "__aenter__") else lock.__enter__()


def leave(lock: Any) -> Any:
    nothing = (None, None, None)
    return lock.__aexit__(*nothing) if hasattr(lock, "__aexit__") else lock.__exit__(*nothing)


def test_a_lock_given_back_and_taken_again_inside_its_block_is_given_back(world):
    do, kv = world.do, world.kv
    lock = kv.lock("job", timeout=10)
    do(enter(lock))
    do(lock.release())
    do(lock.acquire())
    do(leave(lock))
    assert do(lock.locked()) is False


def test_it_is_redis_pys_class_and_other_classes_are_made_as_asked(world):
    stock = redis.asyncio.lock.Lock if world.loop else redis.lock.Lock
    assert isinstance(world.kv.lock("job"), stock)
    made = world.kv.lock("job", timeout=5, lock_class=stock)
    assert type(made) is stock
    assert world.do(made.acquire())
    world.do(made.release())


# More than redis-py's


def test_the_fencing_number_grows_through_everything(world):
    do, kv = world.do, world.kv
    fences = []
    # Often enough to meet microseconds of fewer digits.
    for deed in (*[lambda _: None] * 30, drop, drop, reset, lambda _: None):
        lock = kv.lock("job", lease=10)
        do(lock.acquire())
        fences.append(lock.fence)
        do(lock.release())
        deed(world.neighbour)
    assert fences == sorted(set(fences))
    assert abs(fences[0] / 1e6 - time.time()) < 3600


def drop(neighbour: redis.Redis) -> None:
    for name in neighbour_keys(neighbour):
        neighbour.delete(name)


def reset(neighbour: redis.Redis) -> None:
    for name in neighbour_keys(neighbour):
        if name.endswith(b":fence"):
            neighbour.set(name, "12")


def neighbour_keys(neighbour: redis.Redis) -> list[bytes]:
    # The shared profile has no KEYS; the names are those of one lock.
    namespace = Namespace(Keyring.generate(bytes(range(96))))
    base = namespace.wire_name(b"tkv:lock:{" + namespace.hidden_name(b"lock:job") + b"}")
    return [base + rest for rest in (b"", b":fence", b":released", b":wake", b":queue", b":alive")]


def test_a_fence_ahead_of_the_clock_is_gone_on_from_and_a_forged_one_ignored(world):
    do, kv = world.do, world.kv
    lock = kv.lock("job", lease=10)
    do(lock.acquire())
    do(lock.release())
    ahead = lock._place.fence
    future = int((time.time() + 1000) * 1e6)
    world.neighbour.set(world.wire(ahead), future)
    do(lock.acquire())
    assert lock.fence == future + 1
    do(lock.release())
    as_long = ("0" * 16, "1" + "x" * 15, "1" + " " * 15, "z" * 16, "0x" + "7" * 14, "-" + "1" * 15)
    for forged in ("9" * 18, "-5", "nan", "inf", "x", "0x10", "9" * 400, *as_long):
        world.neighbour.set(world.wire(ahead), forged)
        do(lock.acquire())
        assert abs(lock.fence / 1e6 - time.time()) < 900
        do(lock.release())


def test_keys_tell_nothing_and_all_expire(world):
    do, kv = world.do, world.kv
    lock = kv.lock("quarterly-layoffs", fair=True)
    do(lock.acquire())
    do(kv.lock("quarterly-layoffs", wait=0, fair=True).acquire())
    do(lock.release())
    base = lock._place.key
    assert base == b"tkv:lock:{" + kv.namespace.hidden_name(b"lock:quarterly-layoffs") + b"}"
    for rest in (b"", b":fence", b":released", b":wake", b":queue", b":alive"):
        assert world.neighbour.ttl(world.wire(base + rest)) != -1
    shown = kv.lock("plain", hidden=False)
    assert shown._place.key == b"tkv:lock:{plain}"


def test_the_same_lock_may_be_entered_again_only_on_request(world):
    do, kv = world.do, world.kv

    async def asyncio_nested() -> None:
        lock = kv.lock("job", lease=10, reentrant=True)
        async with lock:
            async with lock:
                assert await lock.owned()
            assert await lock.owned()
        assert not await lock.locked()

    if world.loop:
        do(asyncio_nested())
    else:
        lock = kv.lock("job", lease=10, reentrant=True)
        with lock:
            with lock:
                assert lock.owned()
            assert lock.owned()
        assert not lock.locked()
    once = kv.lock("job", lease=10)
    do(once.acquire())
    assert do(once.acquire(blocking=False)) is False
    do(once.release())


def test_readers_share_and_writers_do_not(world):
    do, kv = world.do, world.kv
    pair = kv.read_write_lock("report", lease=10, wait=0)
    first, second, writer = pair.read(), pair.read(), pair.write()
    assert do(first.acquire()) and do(second.acquire())
    assert do(writer.acquire()) is False
    assert do(first.owned()) and do(first.locked()) and not do(writer.owned())
    do(first.release())
    assert do(writer.acquire()) is False
    assert do(second.extend(5))
    do(second.release())
    assert do(writer.acquire())
    assert do(first.acquire()) is False and do(pair.write().acquire()) is False
    fence = writer.fence
    do(writer.release())
    assert do(first.acquire())
    assert first.fence == fence
    world.neighbour.delete(world.wire(first._place.key))
    with pytest.raises(LeaseLostError):
        do(first.release())


def test_a_writer_that_waits_keeps_new_readers_out(world):
    do, kv = world.do, world.kv
    pair = kv.read_write_lock("report", lease=10, wait=0)
    reader, writer = pair.read(), pair.write()
    do(reader.acquire())
    place = writer._place
    assert isinstance(do(kv.run(asking(place, b"w" * 22, waits=True))), int)
    assert do(pair.read().acquire()) is False
    # Repeated, it is still a reader.
    assert do(kv.run(asking(reader._place, reader.local.token, waits=True))) == b"0"
    do(kv.run(leaving(place, b"w" * 22)))
    assert do(pair.read().acquire())


def asking(place: Any, token: bytes, *, waits: bool) -> Any:
    return (yield place.acquire(token, 10_000, waited=False, waits=waits))


def leaving(place: Any, token: bytes) -> Any:
    return (yield place.leave(token))


def test_a_semaphore_has_so_many_places(world):
    do, kv = world.do, world.kv
    five = kv.semaphore("api", 2, lease=10, wait=0.02)
    first, second = do(five.take()), do(five.take())
    assert do(five.taken()) == 2
    assert do(five.take()) is None
    do(first.release())
    third = do(five.take())
    assert third.token not in (first.token, second.token)
    for lease in (second, third):
        do(lease.release())
    assert do(five.taken()) == 0
    with pytest.raises(LockError):
        do(first.release())
    assert do(five.acquire(wait=0))
    do(five.release())
    with pytest.raises(LockError):
        do(five.release())


def test_places_of_the_dead_come_back(world):
    do, kv = world.do, world.kv
    one = kv.semaphore("api", 1, lease=0.05, renew=False)
    first = do(one.take())
    second = do(kv.semaphore("api", 1, lease=10, wait=5).take())
    with pytest.raises(LeaseLostError):
        do(first.release())
    do(second.extend(5))
    assert second.remaining > 10
    do(second.release())


def test_a_rate_limit_counts_and_says_when_there_is_room(world):
    do, kv = world.do, world.kv
    limit = kv.rate_limit("login", 3, per=1000)
    assert [bool(do(limit.hit("anna"))) for _ in range(4)] == [True, True, True, False]
    refused = do(limit.hit("anna"))
    assert refused.remaining == 0
    assert 1000 <= refused.retry_after <= refused.reset_after <= 1000 * 33 / 32 + 1
    assert do(limit.hit("bert")).remaining == 2
    assert do(limit.peek("bert")) and do(limit.peek("bert")).remaining == 2
    assert do(limit.hit("bert", cost=3)).allowed is False
    assert do(limit.hit("bert", cost=2)).allowed is True
    do(limit.reset("anna"))
    assert do(limit.hit("anna")).remaining == 2


def test_a_rate_limit_slides(world):
    do, kv = world.do, world.kv
    limit = kv.rate_limit("login", 2, per=0.064)
    assert do(limit.hit()) and do(limit.hit())
    refused = do(limit.hit())
    while not refused:
        time.sleep(refused.retry_after)
        refused = do(limit.hit())
    key = world.wire(limit._key(b""))
    assert world.neighbour.hlen(key) <= 3
    assert 0 < world.neighbour.pttl(key) <= 100


# The directory


def test_used_names_are_listed(world):
    do, kv = world.do, world.kv
    # A namespace that is equal to one of another test's shares its memory.
    directory._memories.clear()
    fresh = kv.for_namespace(Namespace(Keyring.generate(bytes(range(1, 97)))))
    do(fresh.lock("rebuild").acquire())
    do(fresh.semaphore("api", 3).acquire())
    do(fresh.lock(b"\xff\x00").acquire())
    found = do(fresh.run(directory.entries(fresh.namespace, fresh.sealer, time.time())))
    assert [(entry.primitive, entry.name) for entry in found] == [
        *(("lock", b"rebuild"), ("lock", b"\xff\x00"), ("semaphore", b"api")),
    ]
    key = fresh.namespace.wire_name(directory.KEY)
    stored = world.neighbour.hgetall(key)
    assert len(stored) == 3 and not any(b"rebuild" in part for pair in stored.items() for part in pair)
    fields = list(stored)
    world.neighbour.hset(key, fields[0], stored[fields[1]])
    world.neighbour.hset(key, fields[2], b"forged")
    found = do(fresh.run(directory.entries(fresh.namespace, fresh.sealer, time.time())))
    assert len(found) == 1
    world.neighbour.delete(key)
    world.neighbour.rpush(key, "another type")
    assert do(fresh.run(directory.entries(fresh.namespace, fresh.sealer, time.time()))) == []
    noting = directory.note(fresh.namespace, fresh.sealer, "queue", b"thumbs", time.time())
    do(fresh.run(noting))
    (only,) = do(fresh.run(directory.entries(fresh.namespace, fresh.sealer, time.time())))
    assert (only.primitive, only.name) == ("queue", b"thumbs")


def test_a_full_directory_makes_room(world, monkeypatch):
    do, kv = world.do, world.kv
    monkeypatch.setattr(directory, "CAPACITY", 3)
    for number in range(6):
        name = b"%d" % number
        do(kv.run(directory.note(kv.namespace, kv.sealer, "lock", name, time.time())))
    key = world.wire(directory.KEY)
    assert 1 <= world.neighbour.hlen(key) <= 3
    world.neighbour.hset(key, mapping={f"flood{number}": "x" for number in range(50)})
    do(kv.run(directory.note(kv.namespace, kv.sealer, "lock", b"last", time.time())))
    assert world.neighbour.hlen(key) == 1


# Hostile neighbours

PLANTS = {
    "deleted": lambda neighbour, key: neighbour.delete(key),
    "a list": lambda neighbour, key: (neighbour.delete(key), neighbour.rpush(key, "x")),
    "a hash": lambda neighbour, key: (neighbour.delete(key), neighbour.hset(key, "x", "y")),
    "a sorted set": lambda neighbour, key: (neighbour.delete(key), neighbour.zadd(key, {"x": 1e300})),
    "text without a TTL": lambda neighbour, key: (neighbour.delete(key), neighbour.set(key, "x")),
    "text with a long TTL": lambda neighbour, key: (
        neighbour.delete(key),
        neighbour.set(key, "x" * 1000, px=int(LONGEST_LEASE * 2000)),
    ),
    "empty text": lambda neighbour, key: neighbour.set(key, "", px=10_000),
}
RESTS = [b"", b":fence", b":released", b":wake", b":queue", b":alive"]


@pytest.mark.parametrize("rest", RESTS, ids=lambda rest: rest.decode() or "lock")
@pytest.mark.parametrize("plant", PLANTS)
def test_whatever_is_planted_the_next_one_gets_the_lock(world, plant, rest):
    do, kv = world.do, world.kv
    for fair in (False, True):
        holder = kv.lock("job", lease=10, fair=fair)
        do(holder.acquire())
        PLANTS[plant](world.neighbour, world.key(holder, rest))
        other = kv.lock("job", lease=10, wait=0, fair=fair)
        if rest == b"":
            # The lease is lost: it is known to be at the next look, and the next one gets the lock.
            assert do(holder.owned()) is False
            assert do(other.acquire()) is True
            assert other.fence > holder.fence
            with pytest.raises(LeaseLostError):
                do(holder.release())
        else:
            assert do(other.acquire()) is False
            do(holder.release())
            assert do(other.acquire()) is True
        do(other.release())


@pytest.mark.parametrize("plant", PLANTS)
def test_whatever_is_planted_at_the_wake_list_waiters_come_to_their_end(world, plant):
    do, kv = world.do, world.kv
    holder = kv.lock("job", timeout=0.2)
    do(holder.acquire())
    waiter = kv.lock("job", timeout=5, blocking_timeout=10)
    PLANTS[plant](world.neighbour, world.key(holder, b":wake"))
    assert do(waiter.acquire()) is True
    do(waiter.release())


def test_a_flooded_wake_list_costs_no_more_than_a_look(world):
    do, kv = world.do, world.kv
    holder = kv.lock("job", timeout=0.2)
    do(holder.acquire())
    world.neighbour.rpush(world.key(holder, b":wake"), *range(1000))
    waiter = kv.lock("job", timeout=5, blocking_timeout=10)
    assert do(waiter.acquire()) is True
    do(waiter.release())
    assert world.neighbour.llen(world.key(holder, b":wake")) <= 1


def test_a_flooded_queue_is_begun_anew(world):
    do, kv = world.do, world.kv
    lock = kv.lock("job", lease=10, fair=True, wait=0)
    for rest in (b":queue", b":alive"):
        world.neighbour.zadd(world.key(lock, rest), {f"ghost{number}": number for number in range(2000)})
    assert do(lock.acquire())
    do(lock.release())
    # Fewer than are too many, and nobody has heard of them: a few leave with each look.
    world.neighbour.zadd(world.key(lock, b":queue"), {f"ghost{number}": number for number in range(100)})
    looks = 1
    while not do(lock.acquire()):
        looks += 1
    assert looks == 1 or world.neighbour.zcard(world.key(lock, b":queue")) == 0
    do(lock.release())


@pytest.mark.parametrize("how", ["persisted", "prolonged", "stolen", "replayed"])
def test_a_lease_that_somebody_changes(world, how):
    do, kv = world.do, world.kv
    holder = kv.lock("job", lease=10)
    do(holder.acquire())
    key = world.key(holder)
    value = world.neighbour.get(key)
    other = kv.lock("job", lease=10, wait=0)
    if how == "persisted":
        # Immortal is what no lease is: the next one gets it, and the holder is told.
        world.neighbour.persist(key)
        assert do(other.acquire()) is True
        with pytest.raises(LeaseLostError):
            do(holder.release())
        do(other.release())
    elif how == "prolonged":
        world.neighbour.pexpire(key, 100_000)
        assert do(other.acquire()) is False
        do(holder.release())
        assert do(other.acquire()) is True
    elif how == "stolen":
        world.neighbour.set(key, "x" * 22, px=50)
        assert do(holder.owned()) is False
        with pytest.raises(LeaseLostError):
            do(holder.extend(5))
        assert do(kv.lock("job", lease=10, wait=5).acquire()) is True
    else:
        do(holder.release())
        world.neighbour.set(key, value, px=50)
        # It holds nobody up for longer than it says, and nobody owns it.
        assert do(holder.owned()) is False
        assert do(kv.lock("job", lease=10, wait=5).acquire()) is True


@pytest.mark.parametrize("plant", PLANTS)
def test_planted_semaphores_and_windows_begin_anew(world, plant):
    do, kv = world.do, world.kv
    two = kv.semaphore("api", 2, lease=10, wait=0)
    lease = do(two.take())
    PLANTS[plant](world.neighbour, world.wire(two._place.key))
    assert do(two.taken()) == 0
    again = [do(two.take()) for _ in range(3)]
    assert [each is None for each in again] == [False, False, True]
    with pytest.raises(LeaseLostError):
        do(lease.release())
    limit = kv.rate_limit("login", 2, per=60)
    do(limit.hit())
    PLANTS[plant](world.neighbour, world.wire(limit._key(b"")))
    assert [bool(do(limit.hit())) for _ in range(3)] == [True, True, False]


def test_forged_counts_do_not_count(world):
    do, kv = world.do, world.kv
    limit = kv.rate_limit("login", 2, per=64)
    do(limit.hit())
    key = world.wire(limit._key(b""))
    current = int(time.time() * 1000 // 2000)
    forged = {
        current + 5: 2,
        current - 60: 2,
        "x": "y",
        current - 1: -7,
        current - 2: "1e9",
        current - 3: "nan",
    }
    world.neighbour.hset(key, mapping={str(name): value for name, value in forged.items()})
    assert do(limit.hit()).allowed is True
    assert do(limit.hit()).allowed is False
    assert set(world.neighbour.hkeys(key)) <= {b"ids", *(b"%d" % (current + step) for step in range(-1, 3))}


@pytest.mark.parametrize("plant", PLANTS)
def test_planted_read_write_locks(world, plant):
    do, kv = world.do, world.kv
    pair = kv.read_write_lock("report", lease=10, wait=0)
    for rest in (b"", b":readers", b":intent", b":fence", b":released"):
        base = pair._key
        PLANTS[plant](world.neighbour, world.wire(base + rest))
        writer, reader = pair.write(), pair.read()
        assert do(writer.acquire()), rest
        do(writer.release())
        PLANTS[plant](world.neighbour, world.wire(base + rest))
        assert do(reader.acquire()), rest
        do(reader.release())


def test_scripts_that_the_server_forgot_are_brought_again(world):
    do, kv = world.do, world.kv
    lock = kv.lock("job", lease=10)
    do(lock.acquire())
    world.neighbour.script_flush()
    do(lock.extend(5))
    world.neighbour.script_flush()
    do(lock.release())


def test_errors_show_no_wire_names_and_no_tokens(world):
    do, kv = world.do, world.kv
    lock = kv.lock("job", timeout=5)
    do(lock.acquire())
    token = lock.local.token
    world.neighbour.delete(world.key(lock))
    with pytest.raises(LeaseLostError) as caught:
        do(lock.release())
    shown = [str(caught.value), repr(caught.value), repr(lock), repr(lock.local.__dict__.get("lease"))]
    shown += [repr(kv.semaphore("a", 1)), repr(kv.rate_limit("a", 1, per=1)), repr(kv.read_write_lock("a"))]
    for text in shown:
        assert kv.namespace.keyring.prefix not in text
        assert token.decode() not in text
    assert caught.value.lock_name == "job"


# Bad input


@pytest.mark.parametrize("wrong", [-1, -0.001, math.nan, math.inf, "soon", LONGEST_LEASE * 2, 0.0001])
def test_leases_that_are_none_are_refused_at_once(world, wrong):
    for make in (
        lambda: world.kv.lock("job", lease=wrong),
        lambda: world.kv.lock("job", timeout=wrong),
        lambda: world.kv.semaphore("api", 2, lease=wrong),
    ):
        with pytest.raises((ConfigurationError, ValueError)):
            make()


def test_arguments_that_have_no_meaning_are_refused_at_once(world):
    kv = world.kv
    for make in (
        lambda: kv.lock("job", lease=5, timeout=5),
        lambda: kv.lock("job", wait=5, blocking_timeout=5),
        lambda: kv.lock("job", wait=5, blocking=False),
        lambda: kv.lock("job", wait=-1),
        lambda: kv.lock("job", wait=math.nan),
        lambda: kv.lock("job", sleep=math.nan),
        lambda: kv.lock(""),
        lambda: kv.lock("a{b", hidden=False),
        lambda: kv.semaphore("api", 0),
        lambda: kv.semaphore("api", True),
        lambda: kv.semaphore("api", 10**9),
        lambda: kv.semaphore("api", 2, wait=-1),
        lambda: kv.rate_limit("login", 0, per=60),
        lambda: kv.rate_limit("login", 1.5, per=60),
        lambda: kv.rate_limit("login", 10, per=0),
        lambda: kv.rate_limit("login", 10, per=math.nan),
        lambda: kv.rate_limit("login", 10, per=math.inf),
        lambda: kv.rate_limit("login", 10, per="minute"),
        lambda: kv.rate_limit("", 10, per=60),
    ):
        with pytest.raises(ConfigurationError):
            make()
    for cost in (-1, 11, 1.5, True):
        with pytest.raises(ConfigurationError):
            world.do(kv.rate_limit("login", 10, per=60).hit(cost=cost))


def test_every_program_has_what_the_scripts_need(any_server):
    kv = tenantkv.connect(any_server.url, namespace=Namespace(Keyring.generate(bytes(range(96)))))
    neighbour = redis.Redis.from_url(any_server.url)
    world = World(kv, neighbour, None)
    test_a_lock_is_taken_once_and_given_back(world)
    test_the_fencing_number_grows_through_everything(world)
    test_readers_share_and_writers_do_not(world)
    test_a_semaphore_has_so_many_places(world)
    test_a_rate_limit_counts_and_says_when_there_is_room(world)
    for rest in RESTS:
        test_whatever_is_planted_the_next_one_gets_the_lock(world, "a list", rest)
    test_a_flooded_queue_is_begun_anew(world)
    kv.close()
    neighbour.close()
