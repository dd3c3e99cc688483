"""Flask-Caching, cachelib and the extension beside neighbours, on a server with the shared profile."""

from __future__ import annotations

import datetime
import os
import pickle
import signal
from collections.abc import Iterator

import flask
import pytest
import redis
from flask_caching import Cache
from redis.backoff import NoBackoff
from redis.retry import Retry

import tenantkv
from tenantkv import ConfigurationError, Keyring, Namespace
from tenantkv.contrib.cachelib import TenantCache, UnpicklableError
from tenantkv.contrib.flask import TenantKV
from tenantkv.errors import PlaintextRefusedError
from tests.neighbourhood import Neighbourhood, neighbourhood
from tests.servers import RealServer, start_tcp

OURS = "tenantkv.contrib.flask.TenantCache"
WORDS = {"seal": True}


class Exploit:
    """A pickle that leaves a mark when it is loaded."""

    def __init__(self, mark) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def place(shared_server) -> Iterator[Neighbourhood]:
    with neighbourhood(shared_server) as place:
        place.plant(lambda client: client.set("flask_cache_key", "the neighbour's"))
        yield place


def make(place, **config) -> tuple[flask.Flask, Cache]:
    app = flask.Flask("site")
    TenantKV(app, client=place.kv)
    return app, Cache(app, config={"CACHE_TYPE": OURS, **config})


@pytest.fixture(params=[{}, WORDS], ids=["signed", "sealed"])
def pair(request, place):
    return make(place, CACHE_OPTIONS=request.param)


def test_flask_caching_s_api(pair):
    app, cache = pair
    with app.app_context():
        assert cache.set("key", {"a": (1, 2), "b": datetime.date(2026, 1, 1)}, timeout=50)
        assert cache.get("key") == {"a": (1, 2), "b": datetime.date(2026, 1, 1)}
        assert cache.add("key", 2) is False and cache.add("new", 2) is True
        assert cache.set_many({"a": 1, "b": 2}, timeout=datetime.timedelta(seconds=30)) == ["a", "b"]
        assert cache.get_many("a", "b", "c") == [1, 2, None]
        assert cache.get_dict("a", "b") == {"a": 1, "b": 2}
        assert cache.has("a") and not cache.has("c")
        assert cache.delete("a") is True and cache.delete("a") is False
        assert cache.delete_many("b", "key") == ["b", "key"]
        assert (
            cache.cache.inc("hits") == 1 and cache.cache.inc("hits", 4) == 5 and cache.cache.dec("hits") == 4
        )
        assert cache.set("over", 1, timeout=-5) and cache.get("over") is None
        assert cache.set("none", None) and cache.get("none") is None and cache.has("none")
        with pytest.raises(pickle.PicklingError):
            cache.set("lambda", lambda: 1)
        assert cache.cache.unlink("hits", "nothing") == 1


def test_views_memoize_and_clear(pair, place):
    app, cache = pair
    calls = []

    @app.get("/page")
    @cache.cached(timeout=60)
    def page():
        calls.append("page")
        return f"page {len(calls)}"

    @cache.memoize(60)
    def square(number):
        calls.append(number)
        return number * number

    browser = app.test_client()
    assert {browser.get("/page").text for _ in range(3)} == {"page 1"}
    with app.app_context():
        assert [square(3), square(3), square(4)] == [9, 9, 16] and calls == ["page", 3, 4]
        cache.delete_memoized(square, 3)
        assert [square(3), square(4)] == [9, 16] and calls == ["page", 3, 4, 3]
        other = TenantCache(place.kv, "other")
        other.set("key", "stays")
        assert cache.clear() is True
        assert square(4) == 16 and calls[-1] == 4
        assert other.get("key") == "stays"
    assert browser.get("/page").text == f"page {len(calls)}"


def test_time_outs_follow_the_ceiling(place):
    cache = TenantCache(place.kv, "c", default_timeout=0)
    cache.set("a", 1)
    cache.set("b", 1, timeout=0.5)
    assert 29 * 86_400 < cache.cache.ttl("a") <= 30 * 86_400
    assert 0 < cache.cache.ttl("b") <= 0.5
    forever = TenantCache(place.kv, "c", default_timeout=0, allow_forever=True)
    forever.set("c", 1)
    assert cache.cache.ttl("c") == float("inf")
    short = TenantCache(place.kv, "s", default_timeout=300, longest_ttl=10)
    short.set("a", 1)
    assert short.cache.ttl("a") <= 10


DAMAGE = {
    "pickle": lambda raw, name, mark: raw.set(name, b"!" + pickle.dumps(Exploit(mark))),
    "bare pickle": lambda raw, name, mark: raw.set(name, pickle.dumps(Exploit(mark))),
    "junk": lambda raw, name, mark: raw.set(name, b"junk"),
    "flipped": lambda raw, name, mark: raw.setrange(name, 30, b"\xff\x00"),
    "integer": lambda raw, name, mark: raw.set(name, 7),
    "list": lambda raw, name, mark: (raw.delete(name), raw.rpush(name, "x")),
    "hash": lambda raw, name, mark: (raw.delete(name), raw.hset(name, "x", "y")),
    "bomb": lambda raw, name, mark: raw.set(name, b"\xc1\x12\x01" + bytes(3_000_000)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_a_neighbour_plants_is_a_miss(pair, place, tmp_path, damage, caplog):
    app, cache = pair
    raw = place.server.operator()
    with app.app_context():
        cache.set("key", "ours")
        for name in place.own_names():
            DAMAGE[damage](raw, place.namespace.wire_name(name), tmp_path / "mark")
        assert cache.get("key") is None
        assert cache.get_many("key") == [None]
        assert not (tmp_path / "mark").exists()
        # What has another type cannot be told from what is not there.
        if damage not in ("list", "hash"):
            assert cache.cache.cache.stats.tampered >= 1 and "not ours" in caplog.text
        assert cache.set("key", "again") and cache.get("key") == "again"


def test_what_is_moved_is_a_miss(pair, place):
    app, cache = pair
    raw = place.server.operator()
    with app.app_context():
        cache.set("admin", True)
        cache.set("user", False)
        wires = sorted(n for n in map(place.namespace.wire_name, place.own_names()) if b"v1:" in n)
        first, second = (raw.get(wire) for wire in wires)
        raw.set(wires[0], second)
        raw.set(wires[1], first)
        assert cache.get_many("admin", "user") == [None, None]
        # A neighbour's values are of other keys, even from the same name.
        TenantCache(place.other, "flask_cache_").set("admin", "theirs")
        raw.set(wires[0], raw.get(place.other.namespace.wire_name(wires[0][45:])))
        place._planted = place._foreign()
        assert cache.get("admin") is None


def test_secrets_are_refused_unless_sealed(place):
    secret = "ghp_" + "a1B2" * 9
    app, cache = make(place)
    with app.app_context(), pytest.raises(PlaintextRefusedError):
        cache.set("token", secret)
    app, cache = make(place, CACHE_OPTIONS=WORDS)
    with app.app_context():
        assert cache.set("token", secret) and cache.get("token") == secret
    assert not any(secret.encode() in value for value, _ in place.server.dump().values())


def test_what_is_too_large_is_not_stored_and_hides_nothing_older(place, caplog):
    cache = TenantCache(place.kv, "c", largest_bytes=1000)
    assert cache.set("a", "old") and cache.set("a", "x" * 2000) is False
    assert cache.get("a") is None and "too large" in caplog.text
    assert cache.set_many({"a": 1, "b": "x" * 2000, "c": 3}) == ["a", "c"]
    assert cache.add("d", "x" * 2000) is False


def test_settings_that_contradict_each_other(place, monkeypatch):
    wrong = {
        "CACHE_REDIS_PASSWORD": "x",
        "CACHE_REDIS_PORT": 1234,
        "CACHE_ARGS": ["x"],
        "CACHE_REDIS_HOST": "localhost",
        "CACHE_KEY_PREFIX": b"x",
        "CACHE_OPTIONS": {"sealed": True},
    }
    for name, value in wrong.items():
        with pytest.raises(ConfigurationError):
            make(place, **{name: value})
    with pytest.raises(ConfigurationError, match="no 'sealed'; it takes"):
        make(place, CACHE_OPTIONS={"sealed": True})
    with pytest.raises(ConfigurationError, match="contradict"):
        make(place, CACHE_REDIS_URL=place.server.url, CACHE_REDIS_HOST=place.kv)
    with pytest.raises(ConfigurationError, match="no namespace"):
        TenantCache(redis.Redis())
    app = flask.Flask("site")
    app.config.update(TENANTKV_URL="memory://")
    with pytest.raises(ConfigurationError, match="beside a client"):
        TenantKV(app, client=place.kv)
    app.config.update(TENANTKV_OPTIONS="x")
    with pytest.raises(ConfigurationError, match="is a dict"):
        TenantKV(app)
    app.config.update(TENANTKV_OPTIONS={"namespace": place.namespace}, TENANTKV_CACHE={"tll": 3})
    with pytest.raises(ConfigurationError, match="'tll'"):
        TenantKV(app)
    with pytest.raises(TypeError):
        TenantCache(place.kv, default_timeout="300")


def test_a_key_prefix_is_the_cache_s_name(place):
    app, first = make(place, CACHE_KEY_PREFIX="shop: {a}")
    second = Cache(app, config={"CACHE_TYPE": OURS, "CACHE_KEY_PREFIX": "blog"})
    third = Cache(app, config={"CACHE_TYPE": OURS, "CACHE_REDIS_HOST": place.kv, "CACHE_KEY_PREFIX": "blog"})
    with app.app_context():
        first.set("key", 1)
        second.set("key", 2)
        assert first.clear() and first.get("key") is None and second.get("key") == 2 == third.get("key")


def test_a_server_of_its_own_by_url(place):
    app = flask.Flask("site")
    app.config.update(TENANTKV_OPTIONS={"namespace": place.namespace})
    cache = Cache(
        app, config={"CACHE_TYPE": OURS, "CACHE_REDIS_URL": place.server.url, "CACHE_OPTIONS": WORDS}
    )
    with app.app_context():
        assert cache.set("key", 1) and cache.get("key") == 1


def test_the_extension(place):
    tenant = TenantKV()
    app, other = flask.Flask("one"), flask.Flask("two")
    app.config.update(
        TENANTKV_URL=place.server.url,
        TENANTKV_OPTIONS={"namespace": place.namespace},
        TENANTKV_CACHE={"name": "mine", "ttl": 60},
    )
    tenant.init_app(app)
    with app.app_context():
        assert tenant.cache.set("key", 1) and tenant.cache.name == "mine"
        assert app.extensions["tenantkv"].cache.get("key") == 1
        with tenant.lock("report", lease=30, wait=1) as lock:
            assert lock.fence
        sent = tenant.queue("jobs").send({"n": 1})
        assert sent and tenant.queue("jobs").receive().value == {"n": 1}
        assert [bool(tenant.rate_limit("x", 1, per=60).hit()) for _ in range(2)] == [True, False]
        assert tenant.kv.namespace == place.namespace
    with other.app_context(), pytest.raises(ConfigurationError, match="init_app"):
        tenant.cache
    assert place.namespace.keyring.prefix not in repr(app.extensions["tenantkv"])


@pytest.fixture(scope="module")
def tcp_server() -> Iterator[RealServer]:
    server = start_tcp("shared")
    yield server
    server.stop()


def test_an_outage_is_a_miss_and_waits_once(tcp_server, caplog):
    namespace = Namespace(Keyring.generate(os.urandom(96)))
    app = flask.Flask("site")
    TenantKV(app, client=tenantkv.connect(tcp_server.tcp_url, namespace=namespace))
    cache = Cache(app, config={"CACHE_TYPE": OURS})

    @app.get("/page")
    @cache.cached(timeout=60)
    def page():
        return "page"

    browser = app.test_client()
    assert browser.get("/page").text == "page"
    os.kill(tcp_server.pid, signal.SIGSTOP)
    try:
        with app.app_context():
            # Without a time-out of its own this would never end, and without a breaker it would take minutes.
            for _ in range(300):
                assert browser.get("/page").text == "page"
            assert cache.set("a", 1) is False and cache.get("a") is None and cache.add("a", 1) is False
            assert cache.cache.inc("a") is None and cache.delete_many("a", "b") == []
            assert cache.clear() is False and cache.has("a") is False
    finally:
        os.kill(tcp_server.pid, signal.SIGCONT)
    assert "not answered" in caplog.text and len(caplog.records) < 30
    with app.app_context():
        cache.cache.cache._wire.breaker._again_at = 0.0
        assert cache.set("a", 2) and cache.get("a") == 2
    loud = TenantCache(tenantkv.connect("redis://127.0.0.1:1", namespace=namespace), on_outage="raise")
    with pytest.raises(redis.ConnectionError):
        loud.get("a")


@pytest.fixture
def mortal_server() -> Iterator[RealServer]:
    server = start_tcp("shared")
    yield server
    server.stop()


def test_a_view_answers_in_an_outage(mortal_server, place):
    app = flask.Flask("site")
    # It gives up at once, where the usual client tries for some seconds.
    options = {"namespace": place.namespace, "retry": Retry(NoBackoff(), 0), "socket_timeout": 30.0}
    tenant = TenantKV(app, client=tenantkv.connect(mortal_server.tcp_url, **options))
    cache = Cache(app, config={"CACHE_TYPE": OURS, "CACHE_OPTIONS": {"timeout": 30.0}})

    @app.get("/page")
    @cache.cached(timeout=60)
    def page():
        return "page"

    @app.get("/report")
    def report():
        with tenant.lock("report", lease=30, wait=5):
            return f"{tenant.kv.incr('reports')}"

    @app.post("/mail")
    def mail():
        tenant.queue("mails").send({"to": "ada"})
        return "sent"

    @app.errorhandler(redis.RedisError)
    def away(error):
        return "Not now.", 503, {"Retry-After": "5"}

    browser = app.test_client()
    asked = (lambda: browser.get("/page"), lambda: browser.get("/report"), lambda: browser.post("/mail"))
    assert [ask().text for ask in asked] == ["page", "1", "sent"]
    mortal_server.kill()
    answers = [ask() for ask in asked]
    assert [answer.status_code for answer in answers] == [200, 503, 503]
    assert [answer.headers.get("Retry-After") for answer in answers] == [None, "5", "5"]


def test_unpicklable_tells_nothing_of_the_value(place):
    cache = TenantCache(place.kv, "c")
    with pytest.raises(UnpicklableError) as caught:
        cache.set("a", [lambda: "tr0ub4dor"])
    assert "tr0ub4dor" not in str(caught.value)
    with pytest.raises(TypeError):
        cache.set("word", "x") and cache.inc("word")
