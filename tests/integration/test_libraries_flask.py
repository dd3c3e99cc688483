"""Flask-Session, Flask-Caching and limits in one application, beside neighbours."""

from __future__ import annotations

import importlib
import sys

import flask
import pytest
import redis
from flask_caching import Cache
from flask_session import Session

from tests.neighbourhood import EXAMPLES, neighbourhood


def plant_flask(client):
    client.set("cache:view//slow", "the neighbour's")
    client.set("session:same", b"\x81\xa4user\xa5admin")  # {"user": "admin"} in msgpack
    client.set("computed", 100)
    client.set("flask_cache_key", "the neighbour's")


@pytest.fixture
def place(shared_server):
    with neighbourhood(shared_server, registry=True) as place:
        place.plant(plant_flask)
        yield place


@pytest.fixture
def application(place, monkeypatch):
    """The example, as a server would import it."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for name, value in place.environment().items():
        if name.startswith("TENANTKV_"):
            monkeypatch.setenv(name, value)
    sys.modules.pop("flask_app", None)
    module = importlib.import_module("flask_app")
    yield module
    module.kv.close()


def test_sessions(application, place):
    browser, another = application.app.test_client(), application.app.test_client()
    assert [browser.get("/visits").json["visits"] for _ in range(3)] == [1, 2, 3]
    assert another.get("/visits").json["visits"] == 1
    assert len([name for name in place.own_names() if name.startswith(b"session:")]) == 2
    assert all(place.kv.ttl(name) > 0 for name in place.kv.keys("session:*"))
    browser.post("/logout")
    assert len(place.kv.keys("session:*")) == 1
    assert browser.get("/visits").json["visits"] == 1


def test_a_cached_view_and_clear(application, place):
    browser = application.app.test_client()
    assert [browser.get("/slow").text for _ in range(2)] == ["computed 1 times"] * 2
    browser.get("/visits")
    assert browser.post("/clear").text == "True"
    assert browser.get("/slow").text == "computed 2 times"
    # Sessions and counters have other names and stay.
    assert browser.get("/visits").json["visits"] == 2


def test_a_rate_limit(application):
    browser = application.app.test_client()
    answers = [browser.get("/limited").status_code for _ in range(7)]
    assert answers == [200] * 5 + [429] * 2


def test_a_cache_by_itself(place):
    app = flask.Flask("test")
    cache = Cache(app, config={"CACHE_TYPE": "RedisCache", "CACHE_REDIS_HOST": place.kv})
    with app.app_context():
        assert cache.set("key", {"a": [1, 2]}, timeout=50)
        assert cache.get("key") == {"a": [1, 2]}
        assert cache.add("key", 2) is False
        assert cache.set_many({"a": 1, "b": 2})
        assert cache.get_many("a", "b", "c") == [1, 2, None]
        assert cache.get_dict("a", "b") == {"a": 1, "b": 2}
        assert cache.delete("a")
        assert cache.delete_many("b", "key")
        assert cache.has("b") is False
        cache.set("counter", 1)
        assert cache.cache.inc("counter", 2) == 3

        @cache.memoize(50)
        def square(number):
            return place.kv.incr("calls") and number * number

        assert [square(3), square(3), square(4)] == [9, 9, 16]
        assert place.kv.get("calls") == b"2"
        cache.delete_memoized(square, 3)
        assert [square(3), square(4)] == [9, 16]
        assert place.kv.get("calls") == b"3"
        assert cache.clear()
        assert square(4) == 16
        # Flask-Caching's usual prefix is "flask_cache_", so clear() took no more than that.
        assert place.kv.get("calls") == b"4"


def test_clear_without_the_registry_is_refused(shared_server):
    with neighbourhood(shared_server) as place:
        place.plant(plant_flask)
        app = flask.Flask("test")
        config = {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_HOST": place.kv, "CACHE_KEY_PREFIX": "c:"}
        cache = Cache(app, config=config)
        with app.app_context():
            cache.set("key", 1)
            with pytest.raises(redis.ResponseError, match="registry=True"):
                cache.clear()
            assert cache.get("key") == 1


def test_a_session_that_somebody_forged_for_a_neighbour_is_not_ours(place):
    app = flask.Flask("test")
    app.config.update(SESSION_TYPE="redis", SESSION_REDIS=place.kv, SECRET_KEY="x")
    Session(app)

    @app.get("/")
    def index():
        return str(flask.session.get("user"))

    browser = app.test_client()
    browser.set_cookie("session", "same")
    assert browser.get("/").text == "None"
    place.kv.set("session:same", place.naive.get("session:same"))
    assert browser.get("/").text == "admin"


def test_sessions_and_cache_through_a_childs_client(place):
    child = place.kv.child("customer-17")
    app = flask.Flask("test")
    cache = Cache(app, config={"CACHE_TYPE": "RedisCache", "CACHE_REDIS_HOST": child})
    with app.app_context():
        cache.set("key", "the child's")
    assert child.keys() == [b"flask_cache_key"]
    assert place.kv.keys() == []
    child.flushdb()
