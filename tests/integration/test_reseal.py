"""Resealing on real servers: after it the old key can be retired, and nothing that others did is lost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

import tenantkv
from tenantkv import Keyring, Namespace, sealing
from tenantkv.ops import reseal_values
from tenantkv.ops.reseal import Resealing
from tenantkv.reseal import resealing
from tenantkv.rotation import add_key, promote, retire
from tenantkv.transport.drivers import drive, exchange
from tests.neighbourhood import wait_for
from tests.servers import RealServer
from tests.topologies import ClusterTopology, start_cluster

MANY = 700


class Tenant:
    """One tenant before, during and after a rotation; each client is of a program of its own."""

    def __init__(self, server: Any, *, placement: Any = "spread", **options: Any) -> None:
        self.server = server
        self.placement = placement
        self.options = {"seal": True, **options}
        self.old = Keyring.generate(os.urandom(96))
        added = add_key(self.old, os.urandom(32))
        self.new = promote(added, added.keys[-1].id)
        self.end = retire(self.new, self.old.primary.id)
        self._clients: list[Any] = []

    def connect(self, ring: Keyring, **options: Any) -> Any:
        # Sealers are shared in a process, and these are several programs.
        for known in sealing._sealers.values():
            known.clear()
        space = Namespace(ring, placement=self.placement)
        url = self.server.url
        if isinstance(self.server, ClusterTopology):
            url = url.replace("redis://", "redis+cluster://")
        client = tenantkv.connect(url, namespace=space, **{**self.options, **options})
        self._clients.append(client)
        return client

    def wire(self, name: str) -> bytes:
        return Namespace(self.old).wire_name(name.encode())

    def close(self) -> None:
        for client in self._clients:
            client.close()


@pytest.fixture
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., Tenant]]:
    made: list[Tenant] = []

    def make(server: Any, **options: Any) -> Tenant:
        made.append(Tenant(server, **options))
        return made[-1]

    yield make
    for tenant in made:
        tenant.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterTopology]:
    with start_cluster() as running:
        yield running


def finish(client: Any, work: Resealing) -> Resealing:
    while client.run(work.step(time.time())):
        pass
    return work


def fill(kv: Any) -> None:
    kv.set("s", "v", px=100_000)
    kv.set("empty", "")
    kv.set("long", b"x" * 2_000_000)
    kv.hset("h", mapping={f"f{number}": f"v{number}" for number in range(MANY)})
    kv.hset("small", mapping={"a": "1"})
    kv.rpush("l", *[f"e{number}" for number in range(MANY)])
    kv.expire("l", 100)
    kv.sadd("set", *[f"e{number}" for number in range(MANY)])
    kv.sadd("alone", "only")
    kv.expire("alone", 100)
    kv.zadd("z", {f"e{number}": number / 3 for number in range(MANY)})
    kv.zadd("far", {"a": float("inf"), "b": -1e300, "c": 0.1 + 0.2})


def check(kv: Any) -> None:
    assert kv.get("s") == b"v" and 0 < kv.pttl("s") <= 100_000
    assert kv.get("empty") == b"" and kv.get("long") == b"x" * 2_000_000
    assert kv.hgetall("h") == {b"f%d" % number: b"v%d" % number for number in range(MANY)}
    assert kv.hgetall("small") == {b"a": b"1"}
    assert kv.lrange("l", 0, -1) == [b"e%d" % number for number in range(MANY)] and kv.ttl("l") > 0
    assert kv.smembers("set") == {b"e%d" % number for number in range(MANY)}
    assert kv.smembers("alone") == {b"only"} and kv.ttl("alone") > 0
    assert dict(kv.zrange("z", 0, -1, withscores=True)) == {
        b"e%d" % number: number / 3 for number in range(MANY)
    }
    assert kv.zrange("far", 0, -1, withscores=True) == [
        (b"b", -1e300),
        (b"c", 0.1 + 0.2),
        (b"a", float("inf")),
    ]


VALUES = 3 + MANY + 1 + MANY + MANY + 1 + MANY + 3


@pytest.mark.parametrize("names", ["plain", "hidden"])
def test_the_old_key_can_be_retired(any_server: RealServer, make: Callable[..., Tenant], names: str) -> None:
    tenant = make(any_server, names=names, registry=names == "hidden")
    fill(tenant.connect(tenant.old))
    kv = tenant.connect(tenant.new)
    work = finish(kv, resealing(kv))
    registered = 10 if names == "hidden" else 0
    assert (work.tally.keys, work.tally.resealed) == (10, VALUES + registered)
    assert (work.tally.current, work.tally.plain, work.tally.left) == (0, 0, {})
    assert work.progress == 1.0
    last = tenant.connect(tenant.end)
    check(last)
    assert len(last.keys()) == 10
    again = finish(kv, resealing(kv)).tally
    assert (again.resealed, again.current) == (0, VALUES + registered)


@pytest.mark.parametrize("names", ["plain", "hidden"])
def test_without_scan(shared_server: RealServer, make: Callable[..., Tenant], names: str) -> None:
    tenant = make(shared_server, names=names, registry=True)
    fill(tenant.connect(tenant.old))
    kv = tenant.connect(tenant.new)
    work = finish(kv, resealing(kv))
    assert work.checkpoint.source == "registry" and work.tally.left == {}
    check(tenant.connect(tenant.end))
    without = tenant.connect(tenant.new, names="plain", registry=False)
    with pytest.raises(tenantkv.RefusedError, match="registry"):
        finish(without, resealing(without))


def test_ttls_of_fields(any_server: RealServer, make: Callable[..., Tenant]) -> None:
    tenant = make(any_server)
    old = tenant.connect(tenant.old)
    old.hset("h", mapping={"dies": "1", "stays": "2"})
    try:
        old.execute_command("HPEXPIRE", "h", 90_000, "FIELDS", 1, "dies")
    except redis.ResponseError:
        has_ttls = False
    else:
        has_ttls = True
    kv = tenant.connect(tenant.new)
    assert finish(kv, resealing(kv)).tally.resealed == 2
    last = tenant.connect(tenant.end)
    assert last.hgetall("h") == {b"dies": b"1", b"stays": b"2"}
    if has_ttls:
        first, second = last.execute_command("HPTTL", "h", "FIELDS", 2, "dies", "stays")
        assert 0 < first <= 90_000 and second == -1


def test_a_dry_run_changes_nothing(open_server: RealServer, make: Callable[..., Tenant]) -> None:
    tenant = make(open_server)
    fill(tenant.connect(tenant.old))
    kv = tenant.connect(tenant.new)
    before = open_server.dump()
    assert finish(kv, resealing(kv, is_dry=True)).tally.resealed == VALUES
    assert open_server.dump() == before


def test_streams_are_counted_and_primitives_skipped(
    open_server: RealServer, make: Callable[..., Tenant]
) -> None:
    tenant = make(open_server)
    old = tenant.connect(tenant.old)
    for number in range(100):
        old.xadd("events", {"a": str(number), "b": "x"})
    raw = redis.Redis(unix_socket_path=open_server.socket_path)
    raw.set(tenant.wire("tkv:cache:{a}v1:b"), old.sealer.seal(b"x", kind="cache", name=b"b"), px=50_000)
    raw.set(tenant.wire("tkv:lock:{a}"), b"x")
    raw.set(tenant.wire("task"), b"\x01" + old.sealer.seal(b"x", kind="celery", name=b"task"))
    before = open_server.dump()
    kv = tenant.connect(tenant.new)
    tally = finish(kv, resealing(kv)).tally
    assert open_server.dump() == before
    assert tally.resealed == 0 and tally.left[tenant.old.primary.id].streams == 200
    assert [(each.name, each.reason, each.values) for each in tally.problems] == [("events", "streams", 200)]
    cache, lock = tally.skipped["cache"], tally.skipped["lock"]
    assert (cache.keys, cache.immortal, lock.keys, lock.immortal) == (1, 0, 1, 1)
    assert 0 < cache.longest_ms <= 50_000 and tally.plugins == 1
    raw.close()


def test_single_secrets_contexts_and_signatures(open_server: RealServer, make: Callable[..., Tenant]) -> None:
    tenant = make(open_server, seal=False)
    old = tenant.connect(tenant.old)
    old.set("token", tenantkv.Secret("hidden-word"))
    old.set("page", "in clear")
    signed = tenant.connect(tenant.old, seal=True, mode="sign")
    signed.set("signed", "readable")
    contexts = {"jobs:*": "jobs"}
    tenant.connect(tenant.old, seal=True, contexts=contexts).rpush("jobs:todo", "a", "b")
    kv = tenant.connect(tenant.new)
    blind = finish(kv, resealing(kv, is_dry=True)).tally
    assert blind.resealed == 2 and blind.left[tenant.old.primary.id].unopened == 2
    tally = finish(kv, resealing(kv, contexts=contexts)).tally
    assert (tally.resealed, tally.plain, tally.left) == (4, 1, {})
    last = tenant.connect(tenant.end)
    assert (last.get("token"), last.get("page")) == (b"hidden-word", b"in clear")
    assert tenant.connect(tenant.end, seal=True, mode="sign").get("signed") == b"readable"
    moved = tenant.connect(tenant.end, seal=True, contexts=contexts)
    assert moved.lmove("jobs:todo", "jobs:done") == b"a" and moved.lrange("jobs:done", 0, -1) == [b"a"]


def test_a_childs_values_are_reported_by_the_documents_key(
    open_server: RealServer, make: Callable[..., Tenant]
) -> None:
    tenant = make(open_server)
    old = tenant.connect(tenant.old)
    old.set("mine", "1")
    old.child("web").set("s", "v")
    old.child("web").xadd("x", {"a": "b"})
    kv = tenant.connect(tenant.new)
    web = kv.child("web")
    tally = finish(web, resealing(web)).tally
    assert tally.resealed == 1 and list(tally.left) == [tenant.old.primary.id]
    assert tally.problems[0].child == ("web",)
    last = tenant.connect(tenant.end)
    assert last.child("web").get("s") == b"v"
    with pytest.raises(tenantkv.OpenError):
        last.get("mine")


# Others meanwhile


def in_between(kv: Any, work: Resealing, act: Callable[[], object]) -> Resealing:
    """Finish, with something done by somebody else after each reading and before its replacement."""

    def swap(commands: list[Any]) -> list[Any]:
        if any(reseal_values._SWAP.sha in words or reseal_values._SWAP.body in words for words in commands):
            act()
        return exchange(kv.connection_pool, commands)

    while drive(partial(swap), work.step(time.time())):
        pass
    return work


RACES: dict[str, tuple[Callable[[Any], object], Callable[[Any], object], Callable[[Any], object], Any]] = {
    "set": (lambda kv: kv.set("k", "1"), lambda kv: kv.set("k", "2"), lambda kv: kv.get("k"), b"2"),
    "gone": (lambda kv: kv.set("k", "1"), lambda kv: kv.delete("k"), lambda kv: kv.get("k"), None),
    "type": (
        lambda kv: kv.set("k", "1"),
        lambda kv: (kv.delete("k"), kv.rpush("k", "2")),
        lambda kv: kv.lrange("k", 0, -1),
        [b"2"],
    ),
    "field": (
        lambda kv: kv.hset("k", mapping={"a": "1", "b": "1"}),
        lambda kv: (kv.hset("k", "a", "2"), kv.hdel("k", "b")),
        lambda kv: kv.hgetall("k"),
        {b"a": b"2"},
    ),
    "pushed": (
        lambda kv: kv.rpush("k", "1", "2", "3"),
        lambda kv: kv.lpush("k", "0"),
        lambda kv: kv.lrange("k", -3, -1),
        [b"1", b"2", b"3"],
    ),
    "popped": (
        lambda kv: kv.rpush("k", "1", "2", "3"),
        lambda kv: kv.llen("k") == 3 and kv.lpop("k"),
        lambda kv: kv.lrange("k", 0, -1),
        [b"2", b"3"],
    ),
    "removed": (
        lambda kv: kv.sadd("k", "1", "2"),
        lambda kv: kv.spop("k") if kv.scard("k") == 2 else None,
        lambda kv: kv.scard("k"),
        1,
    ),
    "scored": (
        lambda kv: kv.zadd("k", {"1": 1}),
        lambda kv: kv.zadd("k", {"1": 7}),
        lambda kv: kv.zrange("k", 0, -1, withscores=True),
        [(b"1", 7.0)],
    ),
}


@pytest.mark.parametrize("race", RACES)
def test_what_changed_since_it_was_read_stays(
    open_server: RealServer, make: Callable[..., Tenant], race: str
) -> None:
    write, change, read, expected = RACES[race]
    tenant = make(open_server)
    write(tenant.connect(tenant.old))
    kv = tenant.connect(tenant.new)
    changes: list[object] = []
    in_between(kv, resealing(kv), lambda: changes.append(change(kv)))
    assert changes, "the race did not happen"
    # And once more without anybody in between, after which nothing may need the old key.
    assert finish(kv, resealing(kv)).tally.left == {}
    assert read(tenant.connect(tenant.end)) == expected


@pytest.mark.parametrize("kind", ["string", "list", "hash"])
def test_a_page_in_which_something_changed_is_read_again(
    open_server: RealServer, make: Callable[..., Tenant], kind: str
) -> None:
    tenant = make(open_server)
    old = tenant.connect(tenant.old)
    old.set("string", "1")
    old.rpush("list", "1", "2", "3")
    old.hset("hash", mapping={"a": "1", "b": "2"})
    # A program that has not heard of the new key yet.
    stale = sealing.LiveSealer(tenant.old)
    raw = redis.Redis(unix_socket_path=open_server.socket_path)
    wire, times = tenant.wire(kind), [0]

    def act() -> None:
        times[0] += 1
        if times[0] > 1:
            return
        if kind == "string":
            raw.set(wire, stale.seal(b"0", kind="kv", name=b"string"))
        elif kind == "list":
            raw.lpush(wire, stale.seal(b"0", kind="list", name=b"list"))
        else:
            raw.hset(wire, "a", stale.seal(b"0", kind="hash", name=b"hash", field=b"a"))

    kv = tenant.connect(tenant.new)
    assert in_between(kv, resealing(kv), act).tally.left == {}
    last = tenant.connect(tenant.end)
    found = {
        "string": partial(last.get, "string"),
        "list": partial(last.lindex, "list", 0),
        "hash": partial(last.hget, "hash", "a"),
    }
    assert times[0] >= 2 and found[kind]() == b"0"
    assert last.lrange("list", -3, -1) == [b"1", b"2", b"3"] and last.hget("hash", "b") == b"2"
    raw.close()


def test_a_value_that_is_always_changed_is_counted(
    open_server: RealServer, make: Callable[..., Tenant]
) -> None:
    tenant = make(open_server)
    old = tenant.connect(tenant.old)
    old.set("k", "0")
    kv = tenant.connect(tenant.new)
    # A program that has not heard of the new key yet.
    stale = sealing.LiveSealer(tenant.old)
    raw = redis.Redis(unix_socket_path=open_server.socket_path)
    tally = in_between(
        kv, resealing(kv), lambda: raw.set(tenant.wire("k"), stale.seal(b"1", kind="kv", name=b"k"))
    ).tally
    assert tally.resealed == 0 and tally.left[tenant.old.primary.id].changing == 1
    assert kv.get("k") == b"1"
    raw.close()


def test_elements_that_move_between_two_pages_are_not_missed(
    open_server: RealServer, make: Callable[..., Tenant]
) -> None:
    tenant = make(open_server)
    tenant.connect(tenant.old).rpush("l", *[str(number) for number in range(500)])
    kv = tenant.connect(tenant.new)
    finish(kv, in_between(kv, resealing(kv), lambda: kv.lpop("l", 7)))
    left = kv.llen("l")
    assert 0 < left < 500
    expected = [b"%d" % number for number in range(500 - left, 500)]
    assert tenant.connect(tenant.end).lrange("l", 0, -1) == expected


def test_many_writers_lose_nothing(
    open_server: RealServer, make: Callable[..., Tenant], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reseal_values, "PAGE_ELEMENTS", 8)
    monkeypatch.setattr(reseal_values, "LOT", 3)
    tenant = make(open_server)
    old = tenant.connect(tenant.old)
    names = [f"k{number}" for number in range(60)]
    for name in names:
        old.set(name, "0")
        old.hset("h", name, "0")
        old.zadd("z", {name: 0})
        old.rpush("l", name)
    kv = tenant.connect(tenant.new)
    stop = threading.Event()
    popped: list[bytes] = []
    pushed = [name.encode() for name in names]
    written: dict[str, bytes] = {}

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            name = names[number % len(names)]
            written[name] = b"%d" % number
            kv.set(name, number)
            kv.hset("h", name, number)
            kv.zadd("z", {name: number})
            kv.rpush("l", number)
            pushed.append(b"%d" % number)
            if number % 2:
                popped.append(kv.lpop("l"))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        runs = 0
        while len(written) < len(names) or runs < 3:
            finish(kv, resealing(kv))
            runs += 1
    finally:
        stop.set()
        writer.join()
    assert finish(kv, resealing(kv)).tally.left == {}
    last = tenant.connect(tenant.end)
    assert {name: last.get(name) for name in names} == written
    assert {field.decode(): value for field, value in last.hgetall("h").items()} == written
    scores = {member.decode(): b"%d" % score for member, score in last.zrange("z", 0, -1, withscores=True)}
    assert scores == written
    assert popped + last.lrange("l", 0, -1) == pushed


# Hostile neighbours


def test_forgeries_stay_as_they_are_and_are_counted(
    open_server: RealServer, make: Callable[..., Tenant]
) -> None:
    tenant = make(open_server)
    old = tenant.connect(tenant.old)
    for name in ("a", "b", "mine"):
        old.set(name, f"value of {name}")
    old.hset("h", mapping={"f": "1", "g": "2"})
    old.rpush("l", "1", "2")
    old.sadd("set", "1")
    raw = redis.Redis(unix_socket_path=open_server.socket_path)
    ours = bytes.fromhex(tenant.old.primary.id)
    envelope = raw.get(tenant.wire("a"))
    assert isinstance(envelope, bytes)
    # Swapped, changed, cut, made up, and of a key that nobody has.
    raw.set(tenant.wire("b"), envelope)
    raw.set(tenant.wire("c"), envelope[:-1] + bytes([envelope[-1] ^ 1]))
    raw.set(tenant.wire("d"), b"\xc1\x11\x00" + ours + bytes(60))
    raw.set(tenant.wire("e"), b"\xc1\x11\x00abcd" + bytes(60))
    raw.hset(tenant.wire("h"), "f", raw.hget(tenant.wire("h"), "g"))
    raw.execute_command("LSET", tenant.wire("l"), 0, envelope)
    raw.sadd(tenant.wire("set"), envelope)
    raw.set(tenant.wire("short"), b"\xc1")
    raw.set(tenant.wire("huge"), b"\xc1\x11\x00" + ours + bytes(70_000_000))
    for _ in range(300):
        raw.rpush(tenant.wire("flood"), b"\xc1\x11\x00" + os.urandom(64))
    before = open_server.dump()
    kv = tenant.connect(tenant.new)
    tally = finish(kv, resealing(kv)).tally
    assert tally.resealed == 2 + 1 + 1 + 1
    assert tally.left[tenant.old.primary.id].unopened == 7
    assert tally.left["unknown"].unopened == 301 and len(tally.left) == 2
    touched = {"a", "mine", "h", "l", "set"}
    changed = {name for name, value in open_server.dump().items() if value != before[name]}
    assert changed == {(0, tenant.wire(name)) for name in touched}
    last = tenant.connect(tenant.end)
    assert (last.get("a"), last.get("mine")) == (b"value of a", b"value of mine")
    assert last.hget("h", "g") == b"2" and last.lindex("l", 1) == b"2" and last.sismember("set", "1")
    listed = {each.name for each in tally.problems if each.reason == "unopened"}
    assert listed == {"b", "c", "d", "e", "h", "l", "set", "huge", "flood"}
    raw.close()


def test_a_key_whose_type_changes_all_the_time(open_server: RealServer, make: Callable[..., Tenant]) -> None:
    tenant = make(open_server)
    old = tenant.connect(tenant.old)
    old.rpush("k", *[str(number) for number in range(300)])
    old.set("other", "1")
    raw = redis.Redis(unix_socket_path=open_server.socket_path)
    wire, turns = tenant.wire("k"), [0]

    def spoil() -> None:
        turns[0] += 1
        raw.delete(wire)
        blobs = [b"\xc1\x11\x00" + os.urandom(64) for _ in range(300)]
        if turns[0] % 2:
            raw.hset(wire, mapping={blob: blob for blob in blobs})
        else:
            raw.rpush(wire, *blobs)

    kv = tenant.connect(tenant.new)
    work = resealing(kv)

    def swap(commands: list[Any]) -> list[Any]:
        spoil()
        return exchange(kv.connection_pool, commands)

    for _ in range(5000):
        if not drive(swap, work.step(time.time())):
            break
    else:
        pytest.fail("a neighbour can keep it from ending")
    assert kv.get("other") == b"1"
    raw.close()


def test_a_forged_registry(shared_server: RealServer, make: Callable[..., Tenant]) -> None:
    tenant = make(shared_server, names="hidden", registry=True)
    tenant.connect(tenant.old).set("a", "1")
    raw = redis.Redis(unix_socket_path=shared_server.socket_path)
    shards = [name for name in shared_server.dump_keys() if b"registry" in name]
    assert len(shards) == 1
    raw.zadd(shards[0], {b"\xc1\x13\x00" + os.urandom(40): 1, b"planted": 2})
    kv = tenant.connect(tenant.new)
    tally = finish(kv, resealing(kv)).tally
    assert (tally.resealed, tally.plain, tally.left["unknown"].unopened) == (2, 1, 1)
    assert tenant.connect(tenant.end).keys() == [b"a"]
    raw.close()


def test_asyncio(open_server: RealServer, make: Callable[..., Tenant]) -> None:
    tenant = make(open_server)
    fill(tenant.connect(tenant.old))

    async def work() -> int:
        from tenantkv.asyncio import connect

        for known in sealing._sealers.values():
            known.clear()
        kv: Any = connect(open_server.url, namespace=Namespace(tenant.new), seal=True)
        doing = resealing(kv)
        while await kv.run(doing.step(time.time())):
            pass
        await kv.aclose()
        return doing.tally.resealed

    assert asyncio.run(work()) == VALUES
    check(tenant.connect(tenant.end))


@pytest.mark.parametrize("placement", ["spread", "slot"])
def test_a_cluster(cluster: ClusterTopology, make: Callable[..., Tenant], placement: str) -> None:
    for node in cluster.nodes:
        node.flush()
    tenant = make(cluster, placement=placement)
    fill(tenant.connect(tenant.old))
    kv = tenant.connect(tenant.new)
    work = finish(kv, resealing(kv))
    assert (work.tally.keys, work.tally.resealed, work.tally.left) == (10, VALUES, {})
    check(tenant.connect(tenant.end))


# The command


class Program:
    """``tenantkv`` in an environment with a keyring in a file."""

    def __init__(self, directory: Path, url: str) -> None:
        directory.mkdir(mode=0o700)
        self.directory = directory
        self.path = directory / "default.json"
        self.environ = {
            "HOME": str(directory),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(tenantkv.__file__).parents[1]),
            "TENANTKV_SECRET_KEYRING_FILE": str(self.path),
            "TENANTKV_URL": url,
        }

    def write(self, ring: Keyring) -> None:
        self.path.write_text(ring.dump())
        self.path.chmod(0o600)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tenantkv", "key", *words],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *words: str, code: int = 0) -> tuple[str, str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, err.decode()
        return out.decode(), err.decode()

    def states(self) -> list[Path]:
        return list(self.directory.glob("*.reseal"))


def test_the_whole_road(open_server: RealServer, make: Callable[..., Tenant], tmp_path: Path) -> None:
    tenant = make(open_server)
    tenant.connect(tenant.old).set("a", "1")
    tenant.connect(tenant.old).child("web").set("b", "2")
    program = Program(tmp_path / "keys", open_server.url)
    program.write(tenant.old)
    new = json.loads(program.run("add", "--json")[0])["id"]
    # The new one waits for its promotion, and must not be named as one that nothing needs.
    assert json.loads(program.run("reseal", "--json")[0])["unneeded"] == []
    assert "reseal" in program.run("promote", new)[1]
    dry = json.loads(program.run("reseal", "--dry-run", "--json")[0])
    assert (dry["resealed"], dry["dry_run"], dry["unneeded"]) == (1, True, [])
    out, err = program.run("reseal")
    assert "1 sealed anew" in out and f"needs {tenant.old.primary.id}" in err and "retire" in err
    child = json.loads(program.run("reseal", "--child", "web", "--json")[0])
    assert (child["resealed"], child["child"], child["primary"]) == (1, ["web"], new)
    done = json.loads(program.run("reseal", "--dry-run", "--json")[0])
    assert (done["resealed"], done["current"], done["unneeded"]) == (0, 1, [tenant.old.primary.id])
    program.run("retire", tenant.old.primary.id)
    assert program.states() == []
    ring = Keyring.parse(program.path.read_text())
    last = tenant.connect(ring)
    assert (last.get("a"), last.child("web").get("b")) == (b"1", b"2")


def test_what_is_left_is_told(open_server: RealServer, make: Callable[..., Tenant], tmp_path: Path) -> None:
    tenant = make(open_server)
    tenant.connect(tenant.old).xadd("events", {"a": "b"})
    raw = redis.Redis(unix_socket_path=open_server.socket_path)
    raw.set(tenant.wire("bad\x1b[31m"), b"\xc1\x11\x00" + bytes.fromhex(tenant.old.primary.id) + bytes(60))
    program = Program(tmp_path / "keys", open_server.url)
    program.write(tenant.new)
    out, err = program.run("reseal", code=3)
    assert "1 do not open" in out and "1 in streams" in out and "XTRIM" in err and "--context" in err
    assert "\x1b" not in out + err and tenant.old.prefix not in out + err
    report = json.loads(program.run("reseal", "--json", code=3)[0])
    assert report["left"] == [
        {"id": tenant.old.primary.id, "state": "active", "unopened": 1, "streams": 1, "changing": 0}
    ]
    assert {each["name"] for each in report["problems"]} == {"events", "bad\x1b[31m"}
    raw.close()


def test_interrupted_and_gone_on_with(
    open_server: RealServer, make: Callable[..., Tenant], tmp_path: Path
) -> None:
    tenant = make(open_server)
    many = 20_000
    with tenant.connect(tenant.old).pipeline(transaction=False) as lot:
        for number in range(many):
            lot.set(f"name-{number}", "v")
        lot.execute()
    program = Program(tmp_path / "keys", open_server.url)
    program.write(tenant.new)
    process = program.start("reseal", "--json")
    (state,) = wait_for("the state", program.states)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"") and b"Run it again" in err
    assert state.stat().st_mode & 0o777 == 0o600
    text = state.read_text()
    assert "name" not in text and tenant.old.prefix not in text
    out_text, err_text = program.run("reseal", "--json")
    assert "Going on" in err_text
    report = json.loads(out_text)
    # Of a page of names that it was at, some had been done.
    assert report["resealed"] + report["current"] == report["key_names"] >= many
    assert program.states() == []
    last = tenant.connect(tenant.end)
    with last.pipeline(transaction=False) as lot:
        for number in range(many):
            lot.get(f"name-{number}")
        assert set(lot.execute()) == {b"v"}


def test_refusals(shared_server: RealServer, make: Callable[..., Tenant], tmp_path: Path) -> None:
    tenant = make(shared_server)
    program = Program(tmp_path / "keys", shared_server.url)
    program.write(tenant.new)
    assert "registry" in program.run("reseal", code=1)[1]
    program.run("reseal", "--context", "no-equals-sign", code=2)
    program.environ["TENANTKV_URL"] = f"unix://{tmp_path}/no.sock"
    assert "the server" in program.run("reseal", code=1)[1]
    del program.environ["TENANTKV_URL"]
    assert "no server URL" in program.run("reseal", code=1)[1]
    assert "example" in program.run("reseal", "--help")[0]
