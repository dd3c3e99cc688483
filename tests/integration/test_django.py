"""`TenantCache` among neighbours, during outages, in threads, tasks, loops and after a fork."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from asgiref.sync import async_to_sync
from django.conf import settings

from tenantkv import Keyring, Namespace, PlaintextRefusedError, Secret
from tenantkv.contrib.django import TenantCache, get_redis_connection, loops, signals
from tenantkv.contrib.django.ground import UnpicklableError
from tenantkv.contrib.django.loops import YOUTH
from tenantkv.contrib.django.stores import forget_stores
from tenantkv.errors import ForbiddenCommandError
from tests import sockets
from tests.cutting_proxy import CuttingProxy
from tests.neighbourhood import wait_for
from tests.sealers import flip
from tests.servers import RealServer, start_server, start_tcp

if not settings.configured:
    settings.configure(USE_TZ=False)

SESSION = "django.contrib.sessions.cache" + "s3ss10nk3y" * 3
RAN: list[str] = []


def ran(what: str) -> str:
    RAN.append(what)
    return what


def about(seconds: int) -> Any:
    """What is left of so many seconds on a machine that may stand still meanwhile."""
    return pytest.approx(seconds, abs=3)


class Planted:
    """What runs code where it is unpickled."""

    def __reduce__(self) -> Any:
        return ran, ("planted",)


_PATIENCES = {"patience", "socket_timeout", "socket_connect_timeout"}


class World:
    """One tenant's caches on a server, and a neighbour who knows all names."""

    def __init__(self, url: str, raw: Any) -> None:
        self.url, self.raw = url, raw
        self.namespace = Namespace(Keyring.generate(os.urandom(96)))

    def cache(self, url: str | None = None, **options: Any) -> TenantCache:
        """Return a cache as another process would have it: it shares nothing with those made before."""
        outer = {name: options.pop(name) for name in list(options) if name.isupper()}
        forget_stores()
        options.setdefault("namespace", self.namespace)
        if url is None and self.raw is not None and not _PATIENCES.intersection(options):
            # A machine that stands still for half a second is no outage; those have tests of their own.
            options["patience"] = 5.0
        return TenantCache(url or self.url, {**outer, "OPTIONS": options})

    def wire(self, key: str, cache: str = "django") -> bytes:
        return self.namespace.wire_name(f"tkv:cache:{{{cache}}}v1::1:{key}".encode())

    def wire_names(self) -> list[bytes]:
        return [name for name in self.raw.execute_command("operatorKEYS", "*")]


@pytest.fixture
def world(shared_server: RealServer) -> World:
    return World(shared_server.url, shared_server.operator())


# Neighbours


def writes() -> dict[str, Callable[[Any, bytes, bytes], object]]:
    return {
        "pickle": lambda raw, name, other: raw.set(name, pickle.dumps(Planted())),
        "coded pickle": lambda raw, name, other: raw.set(name, b"\3" + pickle.dumps(Planted())),
        "swapped": lambda raw, name, other: raw.set(name, raw.get(other)),
        "number": lambda raw, name, other: raw.set(name, 7),
        "junk": lambda raw, name, other: raw.set(name, os.urandom(80)),
        "empty": lambda raw, name, other: raw.set(name, b""),
        "bomb": lambda raw, name, other: raw.set(name, b"\xc1\x01\x01" + zlib.compress(b"\0" * 10_000_000)),
        "flipped": lambda raw, name, other: raw.set(name, flip(raw.get(name))),
        "cut": lambda raw, name, other: raw.set(name, raw.get(name)[:-3]),
        "list": lambda raw, name, other: (raw.delete(name), raw.rpush(name, "x")),
        "hash": lambda raw, name, other: (raw.delete(name), raw.hset(name, "x", "y")),
    }


@pytest.mark.parametrize("seal", [False, True])
@pytest.mark.parametrize("what", writes())
def test_what_a_neighbour_writes_is_a_miss(
    world: World, what: str, seal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "YOUTH", 0)
    cache = world.cache(seal=seal)
    cache.set("n", 5)
    cache.set("other", ["admin"])
    RAN.clear()
    writes()[what](world.raw, world.wire("n"), world.wire("other"))
    assert cache.get("n", "nothing") == "nothing"
    assert cache.get_many(["n", "other"]) == {"other": ["admin"]}
    assert "n" not in cache
    assert not cache.touch("n")
    assert cache.ttl("n") == 0
    with pytest.raises(ValueError):
        cache.incr("n")
    with pytest.raises(ValueError):
        cache.incr_version("n")
    assert asyncio.run(cache.aget("n", "nothing")) == "nothing"
    assert cache.add("n", 6) and cache.get("n") == 6
    assert RAN == []
    if what not in ("list", "hash"):
        # Those a server leaves out of MGET.
        assert cache.stats["tampered"] > 0


def test_it_is_told_and_tells_no_secret(world: World, caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []

    def receive(sender: Any, **what: Any) -> None:
        told.append((sender, what["name"], what["count"]))

    signals.value_rejected.connect(receive)
    try:
        cache = world.cache()
        cache.set("a", 1)
        world.raw.set(world.wire("a"), b"planted")
        assert [cache.get("a") for _ in range(20)] == [None] * 20
    finally:
        signals.value_rejected.disconnect(receive)
    assert told == [(TenantCache, "django", 1)]
    assert cache.stats["tampered"] == 20
    lines = [record.getMessage() for record in caplog.records if record.name == "tenantkv.contrib.django"]
    assert len(lines) == 1 and "planted" not in lines[0]


def test_what_was_cleared_does_not_come_back(world: World) -> None:
    cache = world.cache()
    cache.set("a", "old")
    kept = world.raw.get(world.wire("a"))
    assert cache.clear()
    world.raw.set(world.wire("a"), kept)
    assert cache.get("a") is None
    assert cache.delete("a") is False


def test_sessions_are_sealed_and_their_names_hidden(world: World) -> None:
    cache = world.cache()
    cache.set(SESSION, {"_auth_user_id": "1", "note": "an-ordinary-word"}, 60)
    assert cache.get(SESSION)["_auth_user_id"] == "1"
    names = world.wire_names()
    assert not any(b"s3ss10n" in name or b"sessions" in name for name in names)
    assert not any(b"an-ordinary-word" in (world.raw.get(name) or b"") for name in names)
    assert cache.get_many([SESSION, "x"]) == {SESSION: cache.get(SESSION)}
    assert cache.ttl(SESSION) == about(60)
    # A session of another key is nobody's.
    first = next(name for name in names if b"}h1:" in name)
    cache.set(SESSION + "x", {"_auth_user_id": "2"}, 60)
    second = next(name for name in world.wire_names() if b"}h1:" in name and name != first)
    world.raw.set(second, world.raw.get(first))
    assert cache.get(SESSION + "x") is None
    cache.clear()
    assert cache.get(SESSION) is None


def test_another_tenants_caches_are_left_alone(world: World) -> None:
    other = World(world.url, world.raw)
    mine, theirs = world.cache(), other.cache()
    mine.set("a", 1)
    theirs.set("a", 2)
    mine.clear()
    assert (mine.get("a"), theirs.get("a")) == (None, 2)


def test_a_forged_set_is_empty_and_a_wrong_type_goes(world: World) -> None:
    cache = world.cache()
    cache.sadd("s", "a", ("b", 1))
    cache.zadd("z", {"a": 1.0})
    cache.hset("h", "f", [1])
    (s, z, h) = (next(n for n in world.wire_names() if n.endswith(f":1:{k}".encode())) for k in "szh")
    world.raw.sadd(s, pickle.dumps(Planted()))
    world.raw.zadd(z, {pickle.dumps(Planted()): 9})
    world.raw.hset(h, "f", pickle.dumps(Planted()))
    RAN.clear()
    assert cache.smembers("s") == set() and cache.zrange("z", 0, -1) == [] and cache.hget("h", "f") is None
    assert RAN == [] and cache.stats["tampered"] >= 3
    for name in (s, z, h):
        world.raw.delete(name)
        world.raw.set(name, "text")
    assert cache.smembers("s") == set() and cache.sadd("s", 1) == 1 and cache.smembers("s") == {1}
    assert cache.zadd("z", {"b": 2}) == 1 and cache.hset("h", "g", 3) == 1
    assert cache.hgetall("h") == {"g": 3}


# Values


def test_plaintext_secrets_are_refused_unless_sealed(world: World) -> None:
    token = {"access_token": "ghp_" + "x1Y2" * 9}
    cache = world.cache()
    with pytest.raises(PlaintextRefusedError):
        cache.set("a", token)
    with pytest.raises(PlaintextRefusedError):
        cache.set_many({"a": token, "b": 1})
    with pytest.raises(PlaintextRefusedError):
        asyncio.run(cache.aset("a", token))
    assert cache.get_many(["a", "b"]) == {}
    assert cache.set("a", Secret(token["access_token"]))
    assert cache.get("a").reveal() == token["access_token"]
    assert world.cache(seal=True).set("b", token)
    assert world.cache(plaintext_ok="a sample").set("c", token)
    # What is sealed anyway is not looked at.
    assert cache.set(SESSION, token)


def test_what_is_too_large_is_not_stored_and_nothing_old_stays(world: World) -> None:
    cache = world.cache(largest_bytes=1000)
    assert cache.set("a", "small")
    assert not cache.set("a", "x" * 2000)
    assert cache.get("a") is None
    assert cache.set_many({"b": 1, "c": "x" * 2000}) == ["c"]
    assert cache.get_many(["b", "c"]) == {"b": 1}
    assert asyncio.run(cache.aset_many({"d": 1, "e": "x" * 2000})) == ["e"]
    assert cache.stats["refused"] >= 3


def test_what_cannot_be_pickled_is_the_callers_mistake(world: World) -> None:
    cache = world.cache()
    for write in (
        lambda: cache.set("a", lambda: 1),
        lambda: cache.add("a", lambda: 1),
        lambda: cache.set_many({"a": lambda: 1}),
        lambda: cache.sadd("a", lambda: 1),
        lambda: asyncio.run(cache.aset("a", lambda: 1)),
    ):
        with pytest.raises(UnpicklableError):
            write()
        with pytest.raises(pickle.PicklingError):
            write()


def test_time_outs(world: World) -> None:
    cache = world.cache(longest_ttl=1000, TIMEOUT=None)
    cache.set("default", 1)
    cache.set("none", 1, None)
    cache.set("fraction", 1, 0.75)
    assert (cache.ttl("default"), cache.ttl("none"), cache.ttl("missing")) == (about(1000), about(1000), 0)
    assert 0 < cache.pttl("fraction") <= 750
    assert cache.set("gone", 1, 0) and cache.get("gone") is None
    assert cache.expire("none", 50) and cache.ttl("none") == about(50)
    assert cache.persist("none") and cache.ttl("none") == about(1000)
    assert cache.incr("none") == 2 and cache.ttl("none") == about(1000)
    cache.expire("none", 77)
    assert cache.incr_version("none") == 2 and cache.ttl("none", version=2) == about(77)
    forever = world.cache(allow_forever=True)
    forever.set("none", 1, None)
    assert forever.ttl("none") is None and world.raw.ttl(world.wire("none")) == -1


@pytest.mark.filterwarnings("ignore::django.core.cache.CacheKeyWarning")
def test_caches_by_name_and_prefix(world: World) -> None:
    one, again = world.cache(), world.cache()
    prefixed, named = world.cache(KEY_PREFIX="shop {1}"), world.cache(name="pages")
    for cache in (one, prefixed, named):
        cache.set("a", 1)
        cache.set("a", 2, version=2)
    assert one.clear()
    assert again.get("a") is None and again.get("a", version=2) is None
    assert prefixed.get("a") == 1 and named.get("a", version=2) == 2


# django-redis's way with keys, and clients


def test_patterns_need_the_registry_where_scan_is_gone(world: World, open_server: RealServer) -> None:
    with pytest.raises(ForbiddenCommandError, match="registry"):
        world.cache().keys("*")
    for cache in (world.cache(registry=True), World(open_server.url, None).cache()):
        cache.set_many({"a*": 1, "ab": 2, "b": 3})
        cache.add("added", 1)
        cache.set("ab", 2, version=2)
        assert cache.keys("a*") == ["a*", "ab", "added"] and cache.keys("a[*]") == ["a*"]
        assert list(cache.iter_keys("a?", version=2)) == ["ab"]
        assert cache.delete_pattern("a*") == 3 and cache.keys("*") == ["b"]
        cache.clear()
        assert cache.keys("*") == []


def test_the_namespaced_client(world: World) -> None:
    from django.test import override_settings

    backend = "tenantkv.contrib.django.TenantCache"
    ours = {"BACKEND": backend, "LOCATION": world.url, "OPTIONS": {"namespace": world.namespace}}
    local = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    with override_settings(CACHES={"default": ours, "local": local}):
        kv = get_redis_connection("default")
        kv.set("a", 1)
        assert world.raw.get(world.namespace.wire_name(b"a")) == b"1"
        assert kv.connection_pool.connection_kwargs["socket_timeout"] == 5.0
        with pytest.raises(NotImplementedError):
            get_redis_connection("local")


def test_locks(world: World) -> None:
    from django.test import override_settings
    from redis.exceptions import LockError

    from tenantkv.contrib.django.locks import alock, lock, locked

    cache = world.cache()
    first, second = cache.lock("a", timeout=30), cache.lock("a", timeout=30)
    assert first.acquire(blocking=False) and not second.acquire(blocking=False)
    cache.clear()
    assert not second.acquire(blocking=False)
    first.release()
    assert second.acquire(blocking=False)
    second.release()

    ours = {"BACKEND": "tenantkv.contrib.django.TenantCache", "LOCATION": world.url}
    with override_settings(CACHES={"default": {**ours, "OPTIONS": {"namespace": world.namespace}}}):

        @locked("import:{0}", wait=0)
        def work(name: str) -> str:
            with pytest.raises(LockError), lock(f"import:{name}", wait=0):
                pass
            return name

        @locked("import:{name}", wait=0)
        async def awork(name: str) -> str:
            with pytest.raises(LockError):
                async with alock(f"import:{name}", wait=0):
                    pass
            return name

        assert work("feed") == "feed"
        assert asyncio.run(awork(name="feed")) == "feed"


# Threads, tasks, loops, processes


def test_one_of_twenty_threads_computes(world: World) -> None:
    cache = world.cache(single_flight=True)
    started = threading.Barrier(20)
    computed: list[int] = []

    def compute() -> int:
        computed.append(1)
        threading.Event().wait(0.2)
        return 7

    def ask() -> None:
        started.wait()
        values.append(TenantCache(world.url, {"OPTIONS": options}).get_or_set("a", compute, 60))

    values: list[int] = []
    options = {"single_flight": True, "namespace": world.namespace}
    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values == [7] * 20 and computed == [1]
    assert cache.get("a") == 7 and cache.ttl("a") == about(60)


async def test_a_hundred_tasks_compute_once(world: World) -> None:
    cache = world.cache(single_flight=True)
    computed: list[int] = []

    await grown_up(cache)

    async def compute() -> int:
        computed.append(1)
        await asyncio.sleep(0.05)
        return 7

    assert await asyncio.gather(*(cache.aget_or_set("a", compute) for _ in range(100))) == [7] * 100
    assert computed == [1]
    assert await world.cache().aget_or_set("b", compute) == 7


def connections(world: World) -> int:
    return int(world.raw.info("stats")["total_connections_received"])


def calls(world: World, command: str) -> int:
    return int(world.raw.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])


@pytest.mark.parametrize("key", ["a", SESSION], ids=["value", "session"])
@pytest.mark.parametrize("single_flight", [False, True])
def test_a_write_ends_leases_where_somebody_may_hold_one(world: World, single_flight: bool, key: str) -> None:
    cache = world.cache(single_flight=single_flight)
    cache.set(key, 1)
    for write in (lambda: cache.set(key, 2), lambda: cache.set_many({key: 3, key + "b": 4})):
        before = [calls(world, command) for command in ("set", "get", "unlink")]
        assert write() in (True, [])
        after = [calls(world, command) for command in ("set", "get", "unlink")]
        grown = [now - then for now, then in zip(after, before, strict=True)]
        assert grown[1:] == [1, int(single_flight and key == "a")]


def test_a_value_written_meanwhile_is_not_overwritten_by_a_computed_one(world: World) -> None:
    cache = world.cache(single_flight=True)
    cache.set("other", 1)

    def compute() -> str:
        assert cache.set("a", "written")
        return "computed"

    assert cache.get_or_set("a", compute, 60) == "computed"
    assert cache.get("a") == "written"


def test_a_loop_for_each_request_opens_no_connections(world: World) -> None:
    cache = world.cache()
    cache.set("a", 1)
    before = connections(world)
    for _ in range(20):
        assert async_to_sync(cache.aget_many)(["a", "b"]) == {"a": 1}
        assert asyncio.run(cache.aget("a")) == 1
    assert connections(world) == before


async def grown_up(cache: TenantCache) -> None:
    """Make the running loop worth connections of its own."""
    for _ in range(YOUTH):
        await cache.aget("nothing")


async def test_coroutines_are_native(world: World) -> None:
    # A busy machine is no outage.
    cache = world.cache(patience=30.0)
    await grown_up(cache)
    await cache.aset_many({f"k{n}": n for n in range(100)})
    before = calls(world, "mget"), connections(world)
    found = await cache.aget_many([f"k{n}" for n in range(100)])
    assert len(found) == 100 and calls(world, "mget") == before[0] + 1
    await cache.aset("n", 0, 1000)
    await asyncio.gather(*(cache.aincr("n") for _ in range(50)))
    assert await cache.aget("n") == 50 and 900 < cache.ttl("n") <= 1000
    threads = threading.active_count()
    between = connections(world)
    for _ in range(200):
        # As Django does: an instance for each task.
        await asyncio.create_task(
            TenantCache(world.url, {"OPTIONS": {"patience": 30.0, "namespace": world.namespace}}).aget("n")
        )
    assert connections(world) == between
    assert threading.active_count() == threads


def test_connections_end_with_their_loop(world: World) -> None:
    cache = world.cache()
    cache.set("a", 1)
    clients = int(world.raw.info("clients")["connected_clients"])

    async def often() -> list[Any]:
        return [await cache.aget("a") for _ in range(YOUTH + 2)]

    before = connections(world)
    for _ in range(10):
        assert set(asyncio.run(often())) == {1}
        assert set(async_to_sync(often)()) == {1}
        loop = asyncio.new_event_loop()
        assert set(loop.run_until_complete(often())) == {1}
        # Closed without a word, as tests do.
        loop.close()
    assert set(asyncio.run(often())) == {1}
    # One for each loop that lived on, so not all of these were served by threads.
    assert connections(world) - before == 31
    wait_for("all closed", lambda: int(world.raw.info("clients")["connected_clients"]) <= clients)
    assert len(cache._store._loops) == 0


def test_a_fork_after_connecting(world: World) -> None:
    cache = world.cache()
    cache.set("a", "parent")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = cache.get("a")
            cache.set("b", "child")
            os.write(writer, str(answer).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"parent"
    os.waitpid(child, 0)
    assert cache.get_many(["a", "b"]) == {"a": "parent", "b": "child"}


# Outages


def every_method(cache: TenantCache) -> list[tuple[str, Callable[[], Any], Any]]:
    return [
        ("get", lambda: cache.get("a", 1), 1),
        ("get_many", lambda: cache.get_many(["a"]), {}),
        ("has_key", lambda: cache.has_key("a"), False),
        ("in", lambda: "a" in cache, False),
        ("set", lambda: cache.set("a", 1), False),
        ("set_many", lambda: cache.set_many({"a": 1}), ["a"]),
        ("add", lambda: cache.add("a", 1), False),
        ("set xx", lambda: cache.set("a", 1, xx=True), False),
        ("touch", lambda: cache.touch("a"), False),
        ("delete", lambda: cache.delete("a"), False),
        ("delete_many", lambda: cache.delete_many(["a"]), None),
        ("clear", lambda: cache.clear(), False),
        ("get_or_set", lambda: cache.get_or_set("a", lambda: 3), 3),
        ("ttl", lambda: cache.ttl("a"), 0),
        ("pttl", lambda: cache.pttl("a"), 0),
        ("expire", lambda: cache.expire("a", 5), False),
        ("persist", lambda: cache.persist("a"), False),
        ("sadd", lambda: cache.sadd("a", 1), 0),
        ("smembers", lambda: cache.smembers("a"), set()),
        ("sunion", lambda: cache.sunion("a", "b"), set()),
        ("smove", lambda: cache.smove("a", "b", 1), False),
        ("spop", lambda: cache.spop("a"), None),
        ("hset", lambda: cache.hset("a", "f", 1), 0),
        ("hgetall", lambda: cache.hgetall("a"), {}),
        ("zadd", lambda: cache.zadd("a", {"m": 1}), 0),
        ("zrange", lambda: cache.zrange("a", 0, -1), []),
        ("zpopmin", lambda: cache.zpopmin("a"), None),
        ("keys", lambda: cache.keys("*"), []),
        ("delete_pattern", lambda: cache.delete_pattern("*"), 0),
        ("session", lambda: cache.get(SESSION), None),
        ("aget", lambda: asyncio.run(cache.aget("a", 1)), 1),
        ("aget_many", lambda: asyncio.run(cache.aget_many(["a"])), {}),
        ("aset", lambda: asyncio.run(cache.aset("a", 1)), False),
        ("aadd", lambda: asyncio.run(cache.aadd("a", 1)), False),
        ("adelete", lambda: asyncio.run(cache.adelete("a")), False),
        ("aget_or_set", lambda: asyncio.run(cache.aget_or_set("a", lambda: 3)), 3),
        ("aclear", lambda: asyncio.run(cache.aclear()), False),
    ]


def check_every_method(cache: TenantCache) -> None:
    _check_every_method(cache)

    async def in_a_loop_of_its_own() -> None:
        await grown_up(cache)
        assert await cache.aget("a", 1) == 1 and await cache.aget_many(["a"]) == {}
        assert await cache.aset("a", 1) is False and await cache.aadd("a", 1) is False
        assert await cache.aset_many({"a": 1}) == ["a"] and await cache.adelete("a") is False
        assert await cache.atouch("a") is False and await cache.ahas_key("a") is False
        assert await cache.aclear() is False and await cache.aget_or_set("a", lambda: 3) == 3
        for call in (cache.aincr, cache.aincr_version):
            with pytest.raises(ValueError, match="not found"):
                await call("a")
        assert len(cache._store._loops) == 1

    asyncio.run(in_a_loop_of_its_own())


def _check_every_method(cache: TenantCache) -> None:
    for name, call, answer in every_method(cache):
        got = call()
        assert got == answer and type(got) is type(answer), (name, got)
    for call in (
        lambda: cache.incr("a"),
        lambda: cache.incr_version("a"),
        lambda: asyncio.run(cache.adecr("a")),
    ):
        with pytest.raises(ValueError, match="not found"):
            call()


def test_a_server_that_is_killed_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    server = start_tcp("shared")
    told: list[int] = []

    def receive(sender: Any, count: int, **_: Any) -> None:
        told.append(count)

    signals.cache_unavailable.connect(receive)
    try:
        world = World(server.tcp_url, None)
        cache = world.cache()
        assert cache.set("a", 1) and cache.get("a") == 1
        server.kill()
        check_every_method(cache)
        assert cache.is_away and told and cache.stats["unavailable"] > 20
    finally:
        signals.cache_unavailable.disconnect(receive)
        server.stop()
    lines = [record for record in caplog.records if record.name == "tenantkv.contrib.django"]
    assert len(lines) == len(told) < 4


def test_every_single_flight_computes_for_itself_without_a_server() -> None:
    cache = World("redis://127.0.0.1:1", None).cache(single_flight=True)
    assert [cache.get_or_set("a", lambda: 3) for _ in range(3)] == [3, 3, 3]
    assert asyncio.run(cache.aget_or_set("a", lambda: 3)) == 3
    check_every_method(cache)


def test_an_outage_can_be_raised() -> None:
    cache = World("redis://127.0.0.1:1", None).cache(on_outage="raise")
    for call in (
        lambda: cache.get("a"),
        lambda: cache.set("a", 1),
        lambda: cache.incr("a"),
        lambda: cache.sadd("a", 1),
        lambda: cache.ttl("a"),
        lambda: asyncio.run(cache.aget("a")),
    ):
        with pytest.raises(redis.exceptions.ConnectionError):
            call()


@contextlib.contextmanager
def hanging() -> Iterator[tuple[str, list[bytes]]]:
    """A server that takes connections and requests, and never answers; and what it was sent."""
    received: list[bytes] = []
    kept: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            kept.append(connection)
            threading.Thread(target=take, args=(connection,), daemon=True).start()

    def take(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := connection.recv(65536):
                received.append(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}", received
        sockets.end(listener)
        for connection in kept:
            connection.close()


def test_a_server_that_hangs_costs_one_time_out() -> None:
    with hanging() as (url, received):
        # The breaker's first pause is longer than this whole test waits for.
        cache = World(url, None).cache(patience=0.05)
        cache._store.main._wire.breaker._again_at = 0
        assert cache.get("a") is None
        asked = len(received)
        cache._store.main._wire.breaker._again_at = float("inf")
        assert [cache.get("a", 2) for _ in range(50)] == [2] * 50
        assert cache.set("a", 1) is False and cache.smembers("a") == set()
        assert len(received) == asked == 1


async def test_a_server_that_hangs_is_one_time_out_for_tasks() -> None:
    with hanging() as (url, received):
        cache = World(url, None).cache(patience=0.05)
        cache._store._loops._calls[asyncio.get_running_loop()] = YOUTH
        assert await cache.aget("a") is None
        asked = len(received)
        cache._store.async_caches().main._wire.breaker._again_at = float("inf")
        assert await asyncio.gather(*(cache.aget("a", 2) for _ in range(50))) == [2] * 50
        assert len(received) == asked == 1


def test_loops_share_what_they_know_of_an_outage(world: World) -> None:
    with hanging() as (url, received):
        cache = World(url, None).cache(patience=0.05)
        assert asyncio.run(cache.aget("a")) is None
        cache._store.main._wire.breaker._again_at = float("inf")
        assert [asyncio.run(cache.aget("a", 2)) for _ in range(20)] == [2] * 20
        assert cache.get("a", 2) == 2
        assert len(received) == 1
    # Nor is a deletion forgotten with the loop in which nobody heard of it.
    cache = world.cache()
    cache.set("a", "old")
    breaker = cache._store.main._wire.breaker
    breaker.fail()
    assert asyncio.run(cache.adelete("a")) is False
    breaker._again_at = 0
    assert asyncio.run(cache.aget("a")) is None


def test_what_was_deleted_during_an_outage_is_gone_after_it(world: World, shared_server: RealServer) -> None:
    proxy = CuttingProxy(shared_server.socket_path)
    try:
        cache = world.cache(proxy.url)
        cache.set("a", "old")
        # Both tries: the request gets through, or neither the reply nor anything else does.
        cache._store.main._wire.breaker.fail()
        assert cache.delete("a") is False
        cache._store.main._wire.breaker._again_at = 0
        assert cache.get("a") is None
    finally:
        proxy.close()


def test_a_lost_reply_counts_once(world: World, shared_server: RealServer) -> None:
    proxy = CuttingProxy(shared_server.socket_path)
    try:
        cache = world.cache(proxy.url)
        cache.set("n", 0)
        cache.incr("n")
        proxy.cut(b"EVALSHA")
        with contextlib.suppress(ValueError):
            cache.incr("n")
        assert proxy.cuts == 1
        assert world.cache().get("n") == 2
        proxy.cut(b"MGET")
        assert world.cache(proxy.url).get("n") == 2
    finally:
        proxy.close()


def test_a_server_that_takes_no_writes_is_no_error(world: World) -> None:
    server = start_server("shared", extra_config={"maxmemory": "1mb", "maxmemory-policy": "noeviction"})
    try:
        cache = World(server.url, None).cache()
        full = [cache.set(f"k{n}", os.urandom(50_000)) for n in range(60)]
        assert False in full
        assert cache.add("other", os.urandom(50_000)) is False
        with pytest.raises(ValueError):
            cache.incr("other", ignore_key_check=True)
        assert cache.get_or_set("another", lambda: 5) == 5
        assert cache.sadd("set", os.urandom(50_000)) == 0
    finally:
        server.stop()


def test_debug_toolbar_like_wrappers_see_own_names(world: World) -> None:
    """django-debug-toolbar replaces methods of the instance by functions."""
    cache = world.cache()
    seen: list[tuple[str, Any]] = []

    def wrap(name: str) -> None:
        original = getattr(cache, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            seen.append((name, args[0]))
            return original(*args, **kwargs)

        setattr(cache, name, wrapper)

    for name in ("get", "set", "aget", "delete", "get_many", "set_many", "incr"):
        wrap(name)
    cache.set("a", 1)
    assert cache.get("a") == 1 and asyncio.run(cache.aget("a")) == 1 and cache.incr("a") == 2
    assert asyncio.run(cache.ahas_key("a"))
    assert [key for _, key in seen if key != "a"] == []


@pytest.mark.parametrize(
    "engine", ["django.contrib.sessions.backends.cache", "tenantkv.contrib.django.sessions"]
)
def test_sessions_in_an_outage(world: World, engine: str) -> None:
    from importlib import import_module

    from django.test import override_settings

    backend = {"BACKEND": "tenantkv.contrib.django.TenantCache", "LOCATION": world.url}
    made = {"default": {**backend, "OPTIONS": {"namespace": world.namespace}}}
    with override_settings(CACHES=made, SESSION_ENGINE=engine):
        from django.core.cache import cache

        store = import_module(engine).SessionStore
        session = store()
        session["user"] = "alice"
        session.save()
        key = session.session_key
        breaker = cache._store.main._wire.breaker
        begun = store(key)
        assert begun["user"] == "alice"
        breaker.fail()
        breaker._again_at = float("inf")
        away = store(key)
        assert away.get("user") is None
        away["note"] = 1
        away.save()
        assert away.session_key
        newcomer = store()
        newcomer["note"] = 2
        newcomer.save()
        assert newcomer.session_key
        if engine.startswith("tenantkv"):
            assert away.session_key == key
            begun["more"] = 1
            begun.save()
        breaker._again_at = 0
        assert store(away.session_key).get("note") is None
        # Nothing of what was there is lost, for whoever still has the old key.
        assert store(key)["user"] == "alice"
