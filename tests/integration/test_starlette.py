"""Sessions for Starlette and FastAPI, and fastapi-cache2's backend, beside neighbours and through outages."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
from collections.abc import Iterator

import fastapi
import httpx
import pytest
from fastapi_cache import FastAPICache
from fastapi_cache.coder import PickleCoder
from fastapi_cache.decorator import cache as cached
from starlette.applications import Starlette
from starlette.middleware import Middleware, sessions
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import tenantkv
from tenantkv import ConfigurationError, Keyring, Namespace
from tenantkv.contrib.fastapi_cache import TenantBackend
from tenantkv.contrib.starlette import TenantSessionMiddleware, regenerate
from tests.neighbourhood import Neighbourhood, neighbourhood
from tests.proxy import Proxy
from tests.servers import RealServer, start_tcp

SECRET = "ghp_" + "a1B2" * 9


@pytest.fixture
def place(shared_server) -> Iterator[Neighbourhood]:
    with neighbourhood(shared_server) as place:
        place.plant(lambda client: client.set("site:x", "the neighbour's"))
        yield place


class Site:
    """A Starlette site and its browsers; each request has an event loop of its own, unless told otherwise."""

    def __init__(self, url: str, namespace: Namespace, **options) -> None:
        self.middleware = TenantSessionMiddleware(
            self._application(), url=url, namespace=namespace, **options
        )

    def _application(self) -> Starlette:
        def login(request: Request) -> PlainTextResponse:
            regenerate(request)
            request.session["name"] = request.path_params["name"]
            request.session["seen"] = []
            return PlainTextResponse("ok")

        def me(request: Request) -> PlainTextResponse:
            return PlainTextResponse(str(request.session.get("name")))

        def see(request: Request) -> PlainTextResponse:
            request.session["seen"].append(request.path_params["what"])
            return PlainTextResponse(",".join(request.session["seen"]))

        async def overtaken(request: Request) -> PlainTextResponse:
            # As another request of the same browser does, that logs out.
            await self.middleware.cache.delete(request.cookies["session"])
            request.session["more"] = 1
            return PlainTextResponse("done")

        def logout(request: Request) -> PlainTextResponse:
            request.session.clear()
            return PlainTextResponse("bye")

        def nothing(request: Request) -> PlainTextResponse:
            return PlainTextResponse("nothing")

        return Starlette(
            routes=[
                Route("/login/{name}", login, methods=["POST"]),
                Route("/me", me),
                Route("/see/{what}", see, methods=["POST"]),
                Route("/logout", logout, methods=["POST"]),
                Route("/nothing", nothing),
                Route("/overtaken", overtaken),
            ]
        )

    def browser(self) -> Browser:
        return Browser(self.middleware)


class Browser:
    def __init__(self, app) -> None:
        self._app = app
        self.cookies: dict[str, str] = {}
        self.last: httpx.Response | None = None

    @property
    def sid(self) -> str | None:
        return self.cookies.get("session")

    def __call__(self, path: str, method: str = "GET") -> str:
        return asyncio.run(self.ask(path, method))

    async def ask(self, path: str, method: str = "GET") -> str:
        transport = httpx.ASGITransport(self._app)
        shown = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        async with httpx.AsyncClient(transport=transport, base_url="http://s") as client:
            self.last = await client.request(method, path, headers={"cookie": shown} if shown else {})
        for cookie in self.last.headers.get_list("set-cookie"):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
            if "Max-Age=0" in cookie:
                del self.cookies[name]
        assert self.last.status_code == 200
        return self.last.text

    def post(self, path: str) -> str:
        return self(path, "POST")


@pytest.fixture
def there(place) -> Site:
    return Site(place.server.url, place.namespace)


def entries(place) -> list[bytes]:
    names = (place.namespace.wire_name(name) for name in place.own_names())
    return sorted(name for name in names if not name.endswith(b"stamp"))


def test_log_in_use_and_log_out(there, place):
    browser, other = there.browser(), there.browser()
    assert browser("/me") == "None" and browser.sid is None
    browser.post("/login/ada")
    other.post("/login/bob")
    assert (browser("/me"), other("/me")) == ("ada", "bob")
    assert browser.last.headers["vary"] == "Cookie" and "set-cookie" not in browser.last.headers
    browser("/nothing")
    # An older Starlette cannot tell whether somebody looked.
    assert ("vary" in browser.last.headers) is not hasattr(sessions, "Session")
    # A change within counts too.
    assert [browser.post(f"/see/{what}") for what in "ab"] == ["a", "a,b"]
    assert len(entries(place)) == 2
    old = browser.sid
    browser.post("/logout")
    assert browser.sid is None and len(entries(place)) == 1
    browser.cookies["session"] = old
    assert browser("/me") == "None"


def test_the_cookie(place):
    site = Site(
        place.server.url,
        place.namespace,
        max_age=60,
        same_site="strict",
        https_only=True,
        domain="s",
        path="/x",
    )
    browser = site.browser()
    browser.post("/login/ada")
    shown = browser.last.headers["set-cookie"]
    for flag in ("path=/x", "Max-Age=60", "httponly", "samesite=strict", "secure", "domain=s"):
        assert flag in shown
    assert place.server.operator().pttl(entries(place)[0]) <= 61_000
    open_end = Site(place.server.url, place.namespace, max_age=None).browser()
    open_end.post("/login/ada")
    assert "Max-Age" not in open_end.last.headers["set-cookie"]


def test_nothing_of_a_session_shows_on_the_server(there, place):
    browser = there.browser()
    browser.post(f"/login/{SECRET}")
    assert browser("/me") == SECRET and browser.sid
    for (_, name), (value, expiry) in place.server.dump().items():
        if place.namespace.own_name(name) is not None:
            assert browser.sid.encode() not in name + value and SECRET.encode() not in value
            assert b"session" not in name and expiry > 0


def test_an_id_that_nobody_gave_out_is_not_taken_over(there):
    browser = there.browser()
    for chosen in ("same", "a" * 43, "x" * 3000, "../../x"):
        browser.cookies = {"session": chosen}
        assert browser("/me") == "None"
        browser.cookies = {}
        browser.post("/login/ada")
        assert browser.sid not in (chosen, None)
    before = browser.sid
    browser.cookies = {"session": before}
    browser.post("/login/ada")
    after = browser.sid
    assert after != before
    browser.cookies = {"session": before}
    assert browser("/me") == "None"
    browser.cookies = {"session": after}
    assert browser("/me") == "ada"


DAMAGE = {
    "forged": lambda raw, name: raw.set(name, b'{"name":"admin"}'),
    "flipped": lambda raw, name: raw.setrange(name, 40, b"\x00\xff\x00"),
    "truncated": lambda raw, name: raw.set(name, raw.get(name)[:-1]),
    "list": lambda raw, name: (raw.delete(name), raw.rpush(name, "x")),
    "deleted": lambda raw, name: raw.delete(name),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_a_neighbour_writes_is_no_session(there, place, damage):
    browser = there.browser()
    browser.post("/login/ada")
    raw = place.server.operator()
    for name in entries(place):
        DAMAGE[damage](raw, name)
    assert browser("/me") == "None"


def test_a_session_is_nobody_else_s(there, place):
    ada, admin = there.browser(), there.browser()
    ada.post("/login/ada")
    (mine,) = entries(place)
    admin.post("/login/admin")
    (theirs,) = set(entries(place)) - {mine}
    raw = place.server.operator()
    old = raw.get(mine)
    raw.set(mine, raw.get(theirs))
    assert ada("/me") == "None" and admin("/me") == "admin"
    # One's own older session can be put back, for who still has the cookie; see docs.
    raw.set(mine, old)
    assert ada("/me") == "ada"


def test_a_session_that_ended_meanwhile_does_not_come_back(there, place):
    browser = there.browser()
    browser.post("/login/ada")
    assert browser("/overtaken") == "done" and entries(place) == []
    assert browser("/me") == "None"


def test_wrong_arguments(place):
    with pytest.raises(ConfigurationError, match="secret_key"):
        TenantSessionMiddleware(Starlette(), secret_key="x")
    client = tenantkv.asyncio.connect("memory://", namespace=place.namespace)
    with pytest.raises(ConfigurationError, match="not both"):
        TenantSessionMiddleware(Starlette(), client, url="memory://")
    with pytest.raises(ConfigurationError, match="not both"):
        TenantBackend(client, url="memory://")
    with pytest.raises(ConfigurationError, match="coder"):
        TenantBackend(client, codec="json")
    with pytest.raises(ConfigurationError, match="no TenantSessionMiddleware"):
        regenerate(Request({"type": "http"}))
    stock = Middleware(sessions.SessionMiddleware, secret_key="x")
    assert stock.cls is not TenantSessionMiddleware


async def test_one_loop_opens_few_connections(place):
    site = Site(place.server.url, place.namespace)
    browser = site.browser()
    await browser.ask("/login/ada", "POST")
    before = place.server.operator().info("stats")["total_connections_received"]
    for _ in range(200):
        assert await browser.ask("/me") == "ada"
    assert place.server.operator().info("stats")["total_connections_received"] == before


def test_fastapi(place):
    app = fastapi.FastAPI()
    app.add_middleware(TenantSessionMiddleware, url=place.server.url, namespace=place.namespace)

    @app.get("/visits")
    async def visits(request: fastapi.Request) -> int:
        request.session["visits"] = request.session.get("visits", 0) + 1
        return request.session["visits"]

    browser = Browser(app)
    assert [browser("/visits") for _ in range(3)] == ["1", "2", "3"]
    # Also where nobody calls regenerate(): an id that somebody else chose gets another in its place.
    chosen = "a" * 43
    browser.cookies = {"session": chosen}
    assert [browser("/visits") for _ in range(2)] == ["1", "2"] and browser.sid not in (chosen, None)


@pytest.fixture(scope="module")
def tcp_server() -> Iterator[RealServer]:
    server = start_tcp("shared")
    yield server
    server.stop()


def test_an_outage_logs_nobody_out_and_waits_once(tcp_server, caplog):
    namespace = Namespace(Keyring.generate(os.urandom(96)))
    with Proxy(tcp_server.port) as proxy:
        site = Site(proxy.url, namespace)
        ada, bob, newcomer = site.browser(), site.browser(), site.browser()
        ada.post("/login/ada")
        bob.post("/login/bob")
        sid, bobs = ada.sid, bob.sid
        os.kill(tcp_server.pid, signal.SIGSTOP)
        try:
            assert ada("/me") == "None"
            # Each request has a loop and connections of its own; what one of them learns counts for all.
            site.middleware._caches._first._wire.breaker._again_at += 60
            accepted = proxy.accepted
            for _ in range(50):
                assert ada("/me") == "None"
            assert proxy.accepted == accepted
        finally:
            os.kill(tcp_server.pid, signal.SIGCONT)
        proxy.target = 1
        proxy.cut_all()
        ada.post("/login/eve")
        newcomer.post("/login/new")
        assert ada.sid == sid and newcomer.sid is None
        bob.post("/logout")
        assert bob.sid is None
        proxy.target = tcp_server.port
        site.middleware._caches._first._wire.breaker._again_at = 0.0
        assert ada("/me") == "ada"
        bob.cookies = {"session": bobs}
        assert bob("/me") == "None"
        assert "not answered" in caplog.text


# fastapi-cache2


@pytest.fixture
def backend(place) -> Iterator[TenantBackend]:
    made = TenantBackend(url=place.server.url, connect={"namespace": place.namespace})
    FastAPICache.reset()
    FastAPICache.init(made, prefix="site", expire=60)
    yield made
    FastAPICache.reset()


@pytest.fixture
def cached_site(backend) -> fastapi.FastAPI:
    app = fastapi.FastAPI()
    app.state.calls = []

    @app.get("/users")
    @cached(namespace="users")
    async def users() -> dict[str, int]:
        app.state.calls.append("users")
        return {"calls": len(app.state.calls)}

    @app.get("/news")
    @cached(namespace="news", expire=30, coder=PickleCoder)
    async def news() -> list[tuple[int, str]]:
        app.state.calls.append("news")
        return [(len(app.state.calls), "a")]

    return app


def test_cached_answers_and_clear(cached_site, place):
    browser = Browser(cached_site)
    first = browser("/users")
    assert browser.last.headers["x-fastapi-cache"] == "MISS"
    assert browser("/users") == first and browser.last.headers["x-fastapi-cache"] == "HIT"
    assert 0 < int(browser.last.headers["cache-control"].partition("=")[2]) <= 60
    assert browser("/news") == browser("/news") == '[[2,"a"]]'
    assert asyncio.run(FastAPICache.clear("users")) == 1
    assert browser("/users") != first and browser("/news") == '[[2,"a"]]'
    asyncio.run(FastAPICache.clear())
    assert browser("/news") == '[[4,"a"]]'
    assert all(
        place.server.operator().pttl(place.namespace.wire_name(name)) > 0 for name in place.own_names()
    )


async def test_the_backend_s_methods(backend):
    await backend.set("site:a:1", b"x", 30)
    ttl, value = await backend.get_with_ttl("site:a:1")
    assert value == b"x" and 0 < ttl <= 30
    assert await backend.get("site:a:1") == b"x" and await backend.get("none") is None
    assert await backend.get_with_ttl("none") == (0, None)
    await backend.set("site:b:1", b"y")
    assert (await backend.get_with_ttl("site:b:1"))[0] > 29 * 86_400
    # A key alone, though FastAPICache.clear() always adds its prefix.
    assert await backend.clear("site", "site:a:1") == 1
    assert await backend.get("site:a:1") is None and await backend.get("site:b:1") == b"y"
    assert await backend.clear("site") == 1 and await backend.get("site:b:1") is None
    assert await backend.clear() == 0
    await backend.set("site:b:1", b"y" * 2_000_000)
    assert await backend.get("site:b:1") is None
    await backend.set("x:" * 400, b"y", 30)
    assert await backend.get("x:" * 400) == b"y"


class Exploit:
    def __init__(self, mark) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_what_a_neighbour_plants_is_a_miss(cached_site, backend, place, tmp_path):
    browser = Browser(cached_site)
    assert browser("/news") == '[[1,"a"]]'
    raw = place.server.operator()
    mark = tmp_path / "mark"
    for blob in (pickle.dumps(Exploit(mark)), b"\xc1\x12\x00" + pickle.dumps(Exploit(mark)), b"", b"7"):
        for name in entries(place):
            if b"v1:" in name:
                raw.set(name, blob)
        calls = len(cached_site.state.calls)
        assert browser("/news") == f'[[{calls + 1},"a"]]'
    for name in entries(place):
        raw.delete(name)
        raw.rpush(name, "x")
    assert browser("/news") == '[[6,"a"]]' and not mark.exists()
    assert backend._caches._first.stats.tampered >= 3


def test_an_outage_is_a_miss(tcp_server):
    namespace = Namespace(Keyring.generate(os.urandom(96)))
    proxy = Proxy(tcp_server.port)
    backend = TenantBackend(url=proxy.url, connect={"namespace": namespace})

    async def both() -> object:
        await backend.set("a", b"x", 30)
        return await backend.get("a")

    assert asyncio.run(both()) == b"x"
    os.kill(tcp_server.pid, signal.SIGSTOP)
    try:
        assert asyncio.run(both()) is None
        backend._caches._first._wire.breaker._again_at += 60
        accepted = proxy.accepted
        for _ in range(50):
            assert asyncio.run(both()) is None
        assert proxy.accepted == accepted
    finally:
        os.kill(tcp_server.pid, signal.SIGCONT)
    backend._caches._first._wire.breaker._again_at = 0.0
    assert asyncio.run(both()) == b"x"
    proxy.stop()
