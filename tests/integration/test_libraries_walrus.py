"""walrus through our pool: its own Database class, and one that is ours too."""

from __future__ import annotations

import threading
import time

import pytest
import redis
import walrus

import tenantkv
from tests.neighbourhood import neighbourhood


class OwnDatabase(tenantkv.TenantRedis, walrus.Database):  # type: ignore[misc]
    """With KEYS, SCAN and the like for one's own names, where the registry is on."""

    cache, lock, rate_limit = walrus.Database.cache, walrus.Database.lock, walrus.Database.rate_limit


@pytest.fixture(params=[walrus.Database, OwnDatabase])
def db(request, place):
    return request.param(connection_pool=place.pool())


@pytest.fixture
def place(shared_server):
    with neighbourhood(shared_server, registry=True) as place:
        place.plant(plant_walrus)
        yield place


def plant_walrus(client):
    client.hset("user:id.1", "name", "the neighbour's")
    client.sadd("user:all", "user:id.9")
    client.set("cache:key", "the neighbour's")
    client.set("lock:report", "the neighbour's")
    client.rpush("numbers", *range(100))
    client.set("user:_sequence", 100)


def test_containers(db):
    numbers = db.List("numbers")
    numbers.extend([1, 2, 3])
    assert list(numbers) == [b"1", b"2", b"3"]
    assert numbers[-1] == b"3"
    people = db.Hash("people")
    people.update(huey=1, mickey=2)
    assert dict(people.search("h*")) == {b"huey": b"1"}
    scores = db.ZSet("scores")
    scores.add({"a": 1, "b": 2, "c": 3})
    assert scores[:2] == [b"a", b"b"]
    assert list(scores.search("b*")) == [(b"b", 2.0)]
    one, two = db.Set("one"), db.Set("two")
    one.add(1, 2)
    two.add(2, 3)
    assert one & two == {b"2"}
    assert sorted(one.unionstore("both", two)) == [b"1", b"2", b"3"]
    array = db.Array("array")
    array.extend(["a", "b", "c"])  # Lua
    assert array.pop(0) == b"a"
    assert list(array) == [b"b", b"c"]
    assert db.HyperLogLog("visitors").add("x")


def test_streams(db):
    stream = db.Stream("events")
    first = stream.add({"a": 1})
    stream.add({"a": 2})
    assert [key for key, _ in stream.read(count=1)] == [first]
    group = db.consumer_group("workers", ["events"])
    group.create()
    group.set_id("0-0")
    ((name, messages),) = group.read(count=5)
    assert name == b"events"
    assert len(messages) == 2
    assert group.events.ack(first) == 1
    assert group.read(block=50) == []


def test_models(db):
    class User(walrus.Model):  # type: ignore[misc]
        __database__ = db
        __namespace__ = ""
        name = walrus.TextField(primary_key=True)
        age = walrus.IntegerField(index=True)
        bio = walrus.TextField(fts=True)

    class Note(walrus.Model):  # type: ignore[misc]
        __database__ = db
        text = walrus.TextField()
        tags = walrus.ListField()

    for name, age in (("huey", 3), ("zaizee", 5), ("mickey", 9)):
        User.create(name=name, age=age, bio=f"{name} likes fish")
    assert User.load("huey").age == 3
    assert sorted(user.name for user in User.query(User.age >= 5)) == ["mickey", "zaizee"]
    assert [user.name for user in User.query(User.age >= 3, order_by=User.age)] == [
        "huey",
        "zaizee",
        "mickey",
    ]
    assert len(list(User.query(User.bio.search("fish")))) == 3
    note = Note.create(text="a")
    note.tags.extend(["x", "y"])
    assert list(Note.load(note.get_id()).tags) == [b"x", b"y"]
    User.load("huey").delete()
    assert User.count() == 2
    assert sorted(user.name for user in User.all()) == ["mickey", "zaizee"]


def test_cache_counter_rate_limit_and_lock(db):
    cache = db.cache("cache")
    assert cache.get("key") is None
    cache.set("key", {"a": 1}, 60)
    assert cache.get("key") == {"a": 1}
    calls = []

    @cache.cached(timeout=60)
    def compute(number):
        calls.append(number)
        return number * 2

    assert [compute(2), compute(2)] == [4, 4]
    assert calls == [2]
    assert db.counter("hits").incr() == 1
    limit = db.rate_limit("api", limit=2, per=60)
    assert [limit.limit("me") for _ in range(3)] == [False, False, True]
    lua_limit = db.rate_limit_lua("api2", limit=2, per=60)
    assert [lua_limit.limit("me") for _ in range(3)] == [False, False, True]
    order = []

    def work(number):
        with db.lock("report", ttl=5000):
            order.append(number)
            time.sleep(0.05)
            order.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert order[::2] == order[1::2]


def test_transactions(db):
    with db.atomic() as transaction:
        transaction.pipe.set("a", 1)
        transaction.pipe.incr("a")
    assert db.get("a") == b"2"
    assert db.pipeline().set("b", 1).get("b").execute() == [True, b"1"]


def test_what_lists_keys(place):
    """Cache.flush(), iteration and search() ask for KEYS and SCAN; our class has them."""
    stock = walrus.Database(connection_pool=place.pool())
    own = OwnDatabase(connection_pool=place.pool())
    for db in (stock, own):
        db.cache("cache").set("key", 1, 60)
    with pytest.raises(redis.ResponseError):
        stock.cache("cache").flush()
    assert list(own.cache("cache").keys()) == ["cache:key"]
    own.set("user", 1)
    assert list(own.search("us*")) == [b"user"]
    assert set(own) == place.own_names()
    assert len(own) == 2
    own.cache("cache").flush()
    assert list(own) == [b"user"]


def test_autocomplete(place):
    own = OwnDatabase(connection_pool=place.pool())
    complete = own.autocomplete("titles")
    for title in ("testing python", "testing walrus", "other"):
        complete.store(title)
    assert sorted(complete.search("tes")) == ["testing python", "testing walrus"]
    complete.flush()
    assert place.own_names() == set()
