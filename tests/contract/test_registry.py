"""The registry on real servers: what a client lists without SCAN is what an open server would list."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import redis

import tenantkv
from tenantkv import Keyring, Namespace
from tenantkv.ops.clearing import delete
from tenantkv.ops.registry import RESERVED, SHARDS, Registrar, shard_key, shard_of


@pytest.fixture
def namespace():
    return Namespace(Keyring.generate(os.urandom(96)))


@pytest.fixture
def kv(shared_server, namespace):
    kv = tenantkv.connect(shared_server.url, namespace=namespace, registry=True)
    yield kv
    kv.close()


@pytest.fixture
async def akv(shared_server, namespace):
    akv = tenantkv.asyncio.connect(shared_server.url, namespace=namespace, registry=True)
    yield akv
    await akv.aclose()


@pytest.fixture(params=["shared", "open", "memory"])
def either(request, namespace):
    """The same client where SCAN is missing, where it is there, and on fakeredis."""
    if request.param == "memory":
        fakeredis = pytest.importorskip("fakeredis")
        pytest.importorskip("lupa")
        kv = tenantkv.connect("memory://", namespace=namespace, registry=True, server=fakeredis.FakeServer())
    else:
        server = request.getfixturevalue(f"{request.param}_server")
        kv = tenantkv.connect(server.url, namespace=namespace, registry=True)
    yield kv
    kv.close()


def refresh_of(kv, seconds):
    """Have a client register anew after `seconds`, rather than five minutes."""
    kv.connection_pool.registrars[kv.namespace] = Registrar(refresh=seconds)


def operators_view(server, namespace):
    """The tenant's names as the operator finds them, without the registry's own."""
    prefix = namespace.wire_prefix
    names = {name[len(prefix) :] for name in server.dump_keys() if name.startswith(prefix)}
    return {name for name in names if not name.startswith(RESERVED)}


def write_everything(kv):
    """Names by every way in which a client creates them."""
    kv.set("string", 1)
    kv.mset({"a*b": 1, "a[b": 2, "a?c": 3})
    kv.hset("hash", "f", 1)
    kv.rpush("list", 1, 2)
    kv.zadd("zset", {"m": 1})
    kv.xadd("stream", {"a": 1})
    kv.sadd("set1", 1, 2)
    kv.sadd("set2", 2, 3)
    kv.sunionstore("union", "set1", "set2")
    kv.rename("string", "renamed")
    kv.copy("renamed", "copied")
    kv.lmove("list", "moved")
    kv.pipeline().set("in-multi", 1).incr("in-multi-2").execute()
    kv.pipeline(transaction=False).set("in-pipeline", 1).set(b"\xff\x00\r\n", 1).execute()
    kv.eval("redis.call('SET', KEYS[1], 1)", 1, "by-script")
    kv.register_script("return redis.call('INCR', KEYS[1])")(keys=["by-sha"])
    kv.set("", "the empty name")
    kv.lock("lock", timeout=60, lock_class=redis.lock.Lock).acquire()
    for number in range(300):
        kv.set(f"many:{number}", number, ex=1000)


def test_lists_as_an_open_server_does(either):
    kv = either
    write_everything(kv)
    everything = set(kv.keys())
    assert {b"renamed", b"copied", b"by-script", b"", b"\xff\x00\r\n", b"lock"} <= everything
    assert b"string" not in everything
    assert len(everything) == 300 + 21
    assert sorted(kv.scan_iter(count=7)) == sorted(everything)
    assert kv.dbsize() == len(everything)
    assert kv.randomkey() in everything
    assert set(kv.keys("many:1?")) == {b"many:1%d" % n for n in range(10)}
    assert set(kv.keys(r"a\[b")) == {b"a[b"}
    assert set(kv.scan_iter("many:[12]?")) == {b"many:%d" % n for n in range(10, 30)}
    assert set(kv.scan_iter(_type="hash")) == {b"hash"}
    assert set(kv.scan_iter("s*", _type="SET")) == {b"set1", b"set2"}
    usage = kv.namespace_usage()
    assert usage.keys == len(everything)
    assert usage.immortal == len(everything) - 301
    assert kv.flushdb() is True
    assert (kv.keys(), kv.dbsize(), kv.randomkey()) == ([], 0, None)
    kv.set("again", 1)
    assert kv.keys() == [b"again"]


def test_the_operator_finds_what_we_list(kv, shared_server, namespace):
    write_everything(kv)
    assert set(kv.scan_iter()) == operators_view(shared_server, namespace)
    kv.flushdb()
    assert shared_server.dump_keys() == set()


def clock_of(kv, seconds):
    """Have a client register as on a host whose clock is `seconds` ahead."""

    class Elsewhere(Registrar):
        def asides(self, names, now):
            return super().asides(names, now + seconds)

    kv.connection_pool.registrars[kv.namespace] = Elsewhere()


@pytest.mark.parametrize("seconds", [5, 0, -5])
@pytest.mark.parametrize("way", ["flushdb", "delete"])
def test_clearing_leaves_nothing_of_a_host_with_another_clock(kv, shared_server, namespace, seconds, way):
    clock_of(kv, seconds)
    names = [f"n:{number}" for number in range(300)]
    for name in names:
        kv.set(name, 1)
    with tenantkv.connect(shared_server.url, namespace=namespace, registry=True) as other:
        if way == "flushdb":
            other.flushdb()
        else:
            assert other.run(delete(other.keys(), other.registrar, time.time())) == len(names)
    assert shared_server.dump_keys() == set()


def test_listing_drops_what_is_gone_and_registers_nothing(kv, namespace, shared_server):
    class Reader(Registrar):
        def asides(self, names, now):
            pytest.fail(f"who only lists and clears registers {list(names)}")

    clock_of(kv, -15)
    for number in range(300):
        kv.set(f"n:{number}", 1)
    kv.delete(*(f"n:{number}" for number in range(1, 300)))
    with tenantkv.connect(shared_server.url, namespace=namespace, registry=True) as other:
        other.connection_pool.registrars[namespace] = Reader()
        assert other.keys() == [b"n:0"]
        assert registered(kv) == 1
        other.flushdb()
    assert shared_server.dump_keys() == set()


def test_text_clients_and_resp3(shared_server, namespace):
    for options in ({"decode_responses": True}, {"protocol": 3}, {"protocol": 3, "decode_responses": True}):
        kv = tenantkv.connect(shared_server.url, namespace=namespace, registry=True, **options)
        kv.set("ä", 1)
        expected = "ä" if options.get("decode_responses") else "ä".encode()
        assert kv.keys() == [expected]
        assert list(kv.scan_iter("ä")) == [expected]
        kv.flushdb()
        kv.close()


async def test_asyncio_lists_the_same(akv, kv, shared_server, namespace):
    await akv.set("string", 1)
    pipe = akv.pipeline()
    pipe.set("in-multi", 1)
    pipe.rpush("list", 1)
    await pipe.execute()
    await akv.eval("redis.call('SET', KEYS[1], 1)", 1, "by-script")
    expected = operators_view(shared_server, namespace)
    assert len(expected) == 4
    assert set(await akv.keys()) == expected
    assert {name async for name in akv.scan_iter("*", count=3)} == expected
    assert await akv.dbsize() == 4
    assert await akv.randomkey() in expected
    assert (await akv.namespace_usage()).keys == 4
    # Another client of the same tenant lists them too.
    assert set(kv.keys()) == expected
    assert await akv.flushdb() is True
    assert kv.keys() == []


def test_without_the_registry_the_refusal_tells_how_to_turn_it_on(shared_server, namespace):
    kv = tenantkv.connect(shared_server.url, namespace=namespace)
    for act in (kv.keys, kv.scan, kv.dbsize, kv.randomkey, kv.flushdb, kv.namespace_usage):
        with pytest.raises(redis.ResponseError, match="registry=True"):
            act()
    kv.close()


def test_expired_and_deleted_keys_disappear(kv, monkeypatch):
    kv.set("brief", 1, px=30)
    kv.set("deleted", 1)
    kv.set("stays", 1)
    kv.delete("deleted")
    time.sleep(0.05)
    assert kv.keys() == [b"stays"]
    kv.set("deleted", 2)
    monkeypatch.setattr("tenantkv.ops.registry.GRACE", -2.0)
    assert set(kv.keys()) == {b"stays", b"deleted"}
    listed = {member for shard in range(SHARDS) for member in kv.zrange(shard_key(shard), 0, -1)}
    assert listed == {b"stays", b"deleted"}


def registered(kv):
    return sum(kv.zcard(shard_key(shard)) for shard in range(SHARDS))


def test_stale_names_leave_with_the_writes_alone(kv, monkeypatch):
    """Nobody lists anything; 8000 short-lived names, of which some 100 live at any time."""
    monkeypatch.setattr("tenantkv.ops.registry.GRACE", -2.0)
    for number in range(8000):
        kv.set(f"session:{number}", 1, ex=100)
        if number >= 100:
            kv.delete(f"session:{number - 100}")
    assert registered(kv) < 4000


def test_names_that_live_long_do_not_hide_stale_ones_behind_them(kv, monkeypatch):
    monkeypatch.setattr("tenantkv.ops.registry.GRACE", -2.0)
    for number in range(3000):
        kv.set(f"old:{number}", 1)
    for number in range(9000):
        kv.set(f"brief:{number}", 1)
        kv.delete(f"brief:{number}")
    assert registered(kv) < 3000 + 4500
    assert len(kv.keys("old:*")) == 3000


def test_an_evicted_shard_is_rebuilt(kv, shared_server, namespace):
    refresh_of(kv, 0.2)
    names = [f"n:{number}" for number in range(500)]
    for name in names:
        kv.set(name, 1)
    shard = shard_of(b"n:1")
    shared_server.operator().delete(namespace.wire_prefix + shard_key(shard))
    # The process that wrote them still knows them, and repairs the registry while it lists.
    assert len(kv.keys()) == 500
    other = tenantkv.connect(shared_server.url, namespace=namespace, registry=True)
    assert len(other.keys()) == 500

    shared_server.operator().delete(namespace.wire_prefix + shard_key(shard))
    assert len(other.keys()) < 500
    time.sleep(0.25)
    # The next refresh of one name notices; then each of them comes back with its next write.
    for name in names * 2:
        kv.set(name, 2)
    assert len(other.keys()) == 500
    other.close()


def test_a_flushed_server_is_noticed(kv, shared_server):
    refresh_of(kv, 0.1)
    kv.mset({f"n:{number}": 1 for number in range(200)})
    shared_server.flush()
    assert kv.keys() == []
    time.sleep(0.15)
    kv.mset({f"n:{number}": 1 for number in range(200)})
    assert kv.dbsize() == 200


def test_the_capacity_is_a_bound(kv, monkeypatch):
    monkeypatch.setattr("tenantkv.ops.registry._SHARD_CAPACITY", 20)
    for number in range(6000):
        kv.set(f"n:{number}", 1)
    assert registered(kv) < SHARDS * 20 * 3
    # The newest of each shard are listed.
    assert b"n:5999" in set(kv.keys())


def test_a_lost_connection_forgets_what_may_not_have_arrived(kv, shared_server):
    kv.set("a", 1)
    connection = kv.connection_pool.get_connection()
    connection.send_command("SET", "lost", 1)
    assert connection.session.next_is_aside()
    connection.disconnect()
    kv.connection_pool.release(connection)
    registrar = kv.connection_pool.registrars[kv.namespace]
    assert b"lost" not in registrar.known_names(shard_of(b"lost"))


def test_a_raw_transaction_is_registered_with_the_next_write(kv):
    with kv.client() as single:
        single.execute_command("MULTI")
        single.set("inside", 1)
        single.execute_command("EXEC")
    kv.set("after", 1)
    assert set(kv.keys()) == {b"inside", b"after"}


def test_children_and_siblings_have_registries_of_their_own(kv):
    child = kv.child("customer")
    child.set("same", 1)
    kv.set("same", 1)
    kv.set("only-the-parents", 1)
    assert child.keys() == [b"same"]
    child.flushdb()
    assert child.keys() == []
    assert set(kv.keys()) == {b"same", b"only-the-parents"}


PLANTS = {
    "names": lambda op, key: op.zadd(key, {"victim": 1, "lock:x": 2, "mine": 3}),
    "wrong type": lambda op, key: op.set(key, "a string"),
    "a list": lambda op, key: op.rpush(key, "a"),
    "junk": lambda op, key: op.zadd(key, {b"\xff\xfe\x00": 1, b"": 2, b"\r\n*1\r\n": "inf", b"x" * 5000: 4}),
    "reserved": lambda op, key: op.zadd(key, {RESERVED + b"registry:01": 1, key: 2}),
    "huge": lambda op, key: op.zadd(key, {f"planted:{n}": n for n in range(3000)}),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_tampering_never_reaches_a_foreign_key_or_breaks_a_write(kv, shared_server, namespace, plant):
    operator = shared_server.operator()
    for number in range(100):
        kv.set(f"own:{number}", 1)
    operator.mset({"victim": "the neighbour's", "lock:x": "the neighbour's"})
    before = operator.dump("victim")
    for shard in range(SHARDS):
        key = namespace.wire_prefix + shard_key(shard)
        operator.delete(key)
        PLANTS[plant](operator, key)
    for number in range(100, 300):
        assert kv.set(f"own:{number}", 1) is True
    assert kv.pipeline().set("own:300", 1).incr("own:301").execute() == [True, 1]
    assert {name for name in set(kv.keys()) if not name.startswith(b"own:")} == set()
    assert set(kv.scan_iter()) <= operators_view(shared_server, namespace)
    assert len(set(kv.keys())) == len(kv.keys())
    kv.flushdb()
    assert operator.dump("victim") == before
    assert operator.get("lock:x") == b"the neighbour's"
    kv.set("after", 1)
    assert b"after" in set(kv.keys())


def test_two_processes(kv, shared_server, namespace):
    program = (
        "import tenantkv\n"
        "kv = tenantkv.connect(registry=True)\n"
        "for number in range(200): kv.set(f'theirs:{number}', 1)\n"
        "kv.delete('theirs:0')\n"
        "print(len(kv.keys()))\n"
    )
    kv.mset({f"ours:{number}": 1 for number in range(50)})
    environment = {
        **os.environ,
        "TENANTKV_URL": shared_server.url,
        "TENANTKV_SECRET_KEYRING": namespace.keyring.dump(compact=True),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "249"
    assert len(kv.keys("theirs:*")) == 199
    assert set(kv.keys()) == operators_view(shared_server, namespace)


def test_globs_agree_with_the_server(kv, open_server, namespace):
    names = ["a", "ab", "a*", "a?", "a[b]", "a\\b", "b-c", "bc", "", "ä", "x\ny", "aaab", "^a", "a-z"]
    patterns = ["*", "a*", "a?", "a\\*", "a\\?", "a[*b]", "a[^b]", "a[[]b]", "[a-b]*", "[^a]*", "*b"]
    patterns += ["", "?", "a\\\\b", "[b-a]*", "a[", "a[b", "x?y", "*a*a*b", "[\\^]a", "a[-z", "[z-a]*", "\\"]
    theirs = tenantkv.connect(open_server.url, namespace=namespace)
    for client in (kv, theirs):
        client.mset(dict.fromkeys(names, 1))
    for pattern in patterns:
        assert set(kv.keys(pattern)) == set(theirs.keys(pattern)), pattern
    theirs.close()


def test_the_registry_expires_and_is_small(kv, shared_server, namespace):
    for number in range(2000):
        kv.set(f"some:name:{number}", 1)
    operator = shared_server.operator()
    sizes = []
    for shard in range(SHARDS):
        key = namespace.wire_prefix + shard_key(shard)
        assert 0 < operator.ttl(key) <= 30 * 24 * 3600
        sizes.append(operator.memory_usage(key))
    assert sum(sizes) / 2000 < 150
