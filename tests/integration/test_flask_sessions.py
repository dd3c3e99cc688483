"""Flask-Session's sessions beside neighbours, and through outages."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator

import flask
import pytest
import redis

import tenantkv
from tenantkv import ConfigurationError, Keyring, Namespace
from tenantkv.contrib.flask import TenantKV, TenantSessions
from tests.neighbourhood import Neighbourhood, neighbourhood
from tests.proxy import Proxy
from tests.servers import RealServer, start_tcp

SECRET = "ghp_" + "a1B2" * 9


@pytest.fixture
def place(shared_server) -> Iterator[Neighbourhood]:
    with neighbourhood(shared_server) as place:
        # {"name": "admin"} in msgpack, under the name that Flask-Session's own backend would ask for.
        place.plant(lambda client: client.set("session:same", b"\x81\xa4name\xa5admin"))
        yield place


def site(client, **config) -> flask.Flask:
    app = flask.Flask("site")
    app.config.update(SESSION_TYPE="tenantkv", **config)
    TenantKV(app, client=client)

    @app.post("/login/<name>")
    def login(name):
        app.session_interface.regenerate(flask.session)
        flask.session["name"] = name
        flask.session["seen"] = []
        return "ok"

    @app.get("/me")
    def me():
        return str(flask.session.get("name"))

    @app.post("/see/<what>")
    def see(what):
        # A change within, which nobody announces.
        flask.session["seen"].append(what)
        return str(flask.session["seen"])

    @app.post("/logout")
    def logout():
        flask.session.clear()
        return "bye"

    return app


def sid_of(browser) -> str | None:
    cookie = browser.get_cookie("session")
    return cookie.value if cookie else None


def entries(place) -> list[bytes]:
    names = (place.namespace.wire_name(name) for name in place.own_names())
    return sorted(name for name in names if not name.endswith(b"stamp"))


def test_log_in_use_and_log_out(place):
    app = site(place.kv)
    browser, other = app.test_client(), app.test_client()
    assert browser.get("/me").text == "None" and sid_of(browser) is None
    browser.post("/login/ada")
    other.post("/login/bob")
    assert (browser.get("/me").text, other.get("/me").text) == ("ada", "bob")
    assert [browser.post(f"/see/{what}").text for what in "ab"] == ["['a']", "['a', 'b']"]
    assert len(entries(place)) == 2
    old = sid_of(browser)
    browser.post("/logout")
    assert sid_of(browser) is None and browser.get("/me").text == "None"
    browser.set_cookie("session", old)
    assert browser.get("/me").text == "None"
    # What was cleared for all counts for none.
    assert app.session_interface.cache.clear() and other.get("/me").text == "None"


def test_nothing_of_a_session_shows_on_the_server(place):
    browser = site(place.kv).test_client()
    browser.post(f"/login/{SECRET}")
    assert browser.get("/me").text == SECRET
    sid = sid_of(browser)
    assert sid
    for (_, name), (value, expiry) in place.server.dump().items():
        if place.namespace.own_name(name) is None:
            continue
        assert sid.encode() not in name and b"session" not in name
        assert SECRET.encode() not in value and sid.encode() not in value
        assert expiry > 0


def test_an_id_that_nobody_gave_out_is_not_taken_over(place):
    browser = site(place.kv).test_client()
    for chosen in ("same", "a" * 43, "x" * 3000, "ü\N{SNOWMAN}", "../../x"):
        browser.set_cookie("session", chosen)
        assert browser.get("/me").text == "None"
        browser.post("/login/ada")
        assert sid_of(browser) not in (chosen, None)
    before = sid_of(browser)
    browser.post("/login/ada")
    # Logging in again, with regenerate(): another id, and the old one is over.
    assert sid_of(browser) != before
    browser.set_cookie("session", before)
    assert browser.get("/me").text == "None"


class Exploit:
    def __init__(self, mark) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


DAMAGE = {
    "forged": lambda raw, name, mark: raw.set(name, b"\x81\xa4name\xa5admin"),
    "pickle": lambda raw, name, mark: raw.set(name, pickle.dumps(Exploit(mark))),
    "flipped": lambda raw, name, mark: raw.setrange(name, 40, b"\x00\xff\x00"),
    "truncated": lambda raw, name, mark: raw.set(name, raw.get(name)[:-1]),
    "list": lambda raw, name, mark: (raw.delete(name), raw.rpush(name, "x")),
    "bomb": lambda raw, name, mark: raw.set(name, b"\xc1\x12\x01" + bytes(3_000_000)),
    "deleted": lambda raw, name, mark: raw.delete(name),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_a_neighbour_writes_is_no_session(place, tmp_path, damage):
    browser = site(place.kv).test_client()
    browser.post("/login/ada")
    raw = place.server.operator()
    for name in entries(place):
        DAMAGE[damage](raw, name, tmp_path / "mark")
    assert browser.get("/me").text == "None"
    assert not (tmp_path / "mark").exists()
    browser.post("/login/ada")
    assert browser.get("/me").text == "ada"


def test_a_session_is_nobody_else_s(place):
    app = site(place.kv)
    ada, admin = app.test_client(), app.test_client()
    ada.post("/login/ada")
    mine = entries(place)
    admin.post("/login/admin")
    (theirs,) = set(entries(place)) - set(mine)
    raw = place.server.operator()
    raw.set(mine[0], raw.get(theirs))
    assert ada.get("/me").text == "None" and admin.get("/me").text == "admin"


def test_what_can_be_replayed_is_one_s_own_older_session(place):
    app = site(place.kv)
    browser = app.test_client()
    browser.post("/login/ada")
    (name,) = entries(place)
    raw = place.server.operator()
    old, sid = raw.get(name), sid_of(browser)
    browser.post("/logout")
    raw.set(name, old)
    assert browser.get("/me").text == "None"
    # Only for who still has the cookie, and until all sessions are cleared; see docs.
    browser.set_cookie("session", sid)
    assert browser.get("/me").text == "ada"
    app.session_interface.cache.clear()
    assert browser.get("/me").text == "None"


def test_lifetimes(place):
    app = site(place.kv, PERMANENT_SESSION_LIFETIME=1000)
    browser = app.test_client()
    browser.post("/login/ada")
    cache, key = app.session_interface.cache, f"session:{sid_of(browser)}"
    assert 999 < cache.ttl(key) <= 1000
    # A visitor who changes nothing keeps the session alive, once some of its lifetime is over.
    cache.touch(key, 960)
    browser.get("/me")
    assert cache.ttl(key) < 961
    cache.touch(key, 900)
    browser.get("/me")
    assert cache.ttl(key) > 990
    app.config["SESSION_REFRESH_EACH_REQUEST"] = False
    cache.touch(key, 900)
    browser.get("/me")
    assert cache.ttl(key) < 901


@pytest.mark.parametrize("changes", [False, True], ids=["read", "changed"])
def test_a_session_that_ended_meanwhile_does_not_come_back(place, changes):
    app = site(place.kv, PERMANENT_SESSION_LIFETIME=1000)
    cache = app.session_interface.cache

    @app.get("/slow")
    def slow():
        # As another request of the same browser does, that logs out.
        cache.delete(f"session:{sid_of(browser)}")
        if changes:
            flask.session["more"] = 1
        return str(flask.session["name"])

    browser = app.test_client()
    browser.post("/login/ada")
    cache.touch(f"session:{sid_of(browser)}", 500)
    assert browser.get("/slow").text == "ada"
    assert browser.get("/me").text == "None" and entries(place) == []


def test_another_format_is_no_session(place):
    browser = site(place.kv).test_client()
    browser.post("/login/ada")
    later = site(place.kv, SESSION_SERIALIZATION_FORMAT="json").test_client()
    later.set_cookie("session", sid_of(browser))
    # Flask-Session reads its other format too, but no pickle is ever what somebody else wrote.
    assert later.get("/me").text == "ada"


def test_through_settings_of_flask_session(place):
    app = flask.Flask("site")
    app.config.update(SESSION_REDIS=place.kv, SESSION_KEY_PREFIX="s:")
    app.session_interface = TenantSessions(app)

    @app.get("/")
    def index():
        flask.session["n"] = flask.session.get("n", 0) + 1
        return str(flask.session["n"])

    browser = app.test_client()
    assert [browser.get("/").text for _ in range(3)] == ["1", "2", "3"]
    app.config.update(SESSION_REDIS=redis.Redis())
    with pytest.raises(ConfigurationError, match="SESSION_REDIS"):
        TenantSessions(app)
    app.config.update(SESSION_REDIS=None, TENANTKV_URL="nonsense://")
    with pytest.raises(ConfigurationError):
        TenantSessions(app)


@pytest.fixture(scope="module")
def tcp_server() -> Iterator[RealServer]:
    server = start_tcp("shared")
    yield server
    server.stop()


class Away:
    """A site behind a proxy."""

    def __init__(self, server: RealServer, proxy: Proxy) -> None:
        self.namespace = Namespace(Keyring.generate(os.urandom(96)))
        self.kv = tenantkv.connect(proxy.url, namespace=self.namespace)
        self.app = site(self.kv)
        self.breaker = self.app.session_interface.cache._wire.breaker
        self._server, self.proxy = server, proxy

    def leave(self) -> None:
        self.proxy.target = 1
        self.proxy.cut_all()

    def come_back(self) -> None:
        self.proxy.target = self._server.port
        self.breaker._again_at = 0.0


@pytest.fixture
def away(tcp_server) -> Iterator[Away]:
    with Proxy(tcp_server.port) as proxy:
        yield Away(tcp_server, proxy)


def test_an_outage_logs_nobody_out(away, caplog):
    browser = away.app.test_client()
    browser.post("/login/ada")
    sid = sid_of(browser)
    away.leave()
    assert browser.get("/me").text == "None"
    assert browser.post("/login/eve").status_code == 200
    assert sid_of(browser) == sid
    newcomer = away.app.test_client()
    newcomer.post("/login/bob")
    # There is nothing behind a cookie.
    assert sid_of(newcomer) is None
    away.come_back()
    assert browser.get("/me").text == "ada"
    assert "not answered" in caplog.text


def test_who_logs_out_during_an_outage_is_logged_out(away):
    browser = away.app.test_client()
    browser.post("/login/ada")
    sid = sid_of(browser)
    away.leave()
    browser.post("/logout")
    assert sid_of(browser) is None
    away.come_back()
    browser.set_cookie("session", sid)
    assert browser.get("/me").text == "None"


def test_the_server_goes_within_a_request(away):
    @away.app.post("/change")
    def change():
        flask.session["name"] = "admin"
        away.leave()
        return "ok"

    @away.app.post("/leave")
    def leave():
        flask.session.clear()
        away.leave()
        return "ok"

    browser = away.app.test_client()
    browser.post("/login/ada")
    assert browser.post("/change").status_code == 200
    away.come_back()
    # Neither what was to be replaced nor what was lost.
    assert browser.get("/me").text == "None"
    browser.post("/login/ada")
    sid = sid_of(browser)
    assert browser.post("/leave").status_code == 200
    away.come_back()
    browser.set_cookie("session", sid)
    assert browser.get("/me").text == "None"


def test_a_server_that_hangs_costs_one_time_out(away, tcp_server):
    browser = away.app.test_client()
    browser.post("/login/ada")
    os.kill(tcp_server.pid, signal.SIGSTOP)
    try:
        # Without a time-out of its own this would never end.
        assert browser.get("/me").text == "None"
        away.breaker._again_at += 60
        accepted = away.proxy.accepted
        for _ in range(50):
            assert browser.get("/me").text == "None"
        assert away.proxy.accepted == accepted
    finally:
        os.kill(tcp_server.pid, signal.SIGCONT)
