"""limits and Flask-Limiter on our storage, with a neighbour who knows every name."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import flask
import limits
import pytest
from limits.aio.strategies import STRATEGIES as ASYNC_STRATEGIES
from limits.storage import storage_from_string
from limits.strategies import STRATEGIES

import tenantkv
from tenantkv import ConfigurationError, Keyring, Namespace
from tenantkv.contrib.limits import AsyncTenantStorage, TenantStorage
from tenantkv.contrib.limits_windows import server_url
from tests.neighbourhood import Neighbourhood, neighbourhood
from tests.proxy import Proxy
from tests.servers import RealServer, start_tcp

THREE = limits.parse("3/hour")
KINDS = [(name, is_async) for name in STRATEGIES for is_async in (False, True)]


@pytest.fixture
def place(any_shared_server) -> Iterator[Neighbourhood]:
    with neighbourhood(any_shared_server) as place:
        place.plant(lambda client: client.set("LIMITER/ada/3/1/hour", 3))
        yield place


class Limiter:
    """One strategy on one storage, called alike in both worlds; asyncio has a new loop for each call."""

    def __init__(self, strategy: str, is_async: bool, url: str, **options) -> None:
        kind = AsyncTenantStorage if is_async else TenantStorage
        self.storage = kind(f"{'async+' if is_async else ''}tenantkv+{url}", **options)
        self._limiter = (ASYNC_STRATEGIES if is_async else STRATEGIES)[strategy](self.storage)
        self._is_async = is_async

    def __getattr__(self, name):
        method = getattr(self._limiter, name, None) or getattr(self.storage, name)
        if not self._is_async:
            return method

        def call(*args, **kwargs):
            async def run():
                return await method(*args, **kwargs)

            return asyncio.run(run())

        return call


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0]}-{'asyncio' if kind[1] else 'sync'}")
def limiter(request, place) -> Limiter:
    return Limiter(*request.param, place.server.url, namespace=place.namespace)


def test_what_limits_promises(limiter, place):
    assert limiter.check() is True
    assert limiter.test(THREE, "ada")
    assert limiter.get_window_stats(THREE, "ada").remaining == 3
    assert [limiter.hit(THREE, "ada") for _ in range(4)] == [True, True, True, False]
    assert not limiter.test(THREE, "ada")
    stats = limiter.get_window_stats(THREE, "ada")
    assert stats.remaining == 0
    # The end of the window lies in the future, and no further than it is long.
    assert 0 < stats.reset_time - place.naive.time()[0] <= 3600 * 33 / 32 + 2
    assert limiter.hit(THREE, "bob") and limiter.hit(THREE, "bob", cost=2)
    assert not limiter.hit(THREE, "bob", cost=4)
    limiter.clear(THREE, "ada")
    assert limiter.hit(THREE, "ada", cost=3)
    assert not limiter.hit(limits.parse("0/hour"), "ada")


def test_no_name_tells_anything_and_all_have_a_ttl(limiter, place):
    limiter.hit(THREE, "203.0.113.7")
    names = place.own_names()
    assert names and all(name.startswith(b"tkv:rate:{") for name in names)
    assert not any(b"203" in name or b"LIMITER" in name for name in names)
    raw = place.server.operator()
    assert all(raw.pttl(place.namespace.wire_name(name)) > 0 for name in names)


def test_reset_forgets_everything_without_keys(limiter, place):
    other = Limiter(
        "fixed-window", False, place.server.url, namespace=Namespace(Keyring.generate(os.urandom(96)))
    )
    other.storage.incr("theirs", 60, 2)
    place._planted = place._foreign()
    for who in ("ada", "bob"):
        assert limiter.hit(THREE, who, cost=3)
    assert limiter.reset() is None
    for who in ("ada", "bob"):
        assert limiter.hit(THREE, who, cost=3)
    assert other.storage.get("theirs") == 2
    # Another process finds out when it looks.
    fresh = TenantStorage(f"tenantkv+{place.server.url}", namespace=place.namespace)
    assert fresh.get(THREE.key_for("ada")) in (0, 3)
    fresh.reset()
    limiter.storage._windows._look_at = 0.0
    assert limiter.hit(THREE, "ada", cost=3)


@pytest.mark.parametrize(
    "write",
    [
        lambda raw, key: raw.delete(key),
        lambda raw, key: raw.set(key, "junk"),
        lambda raw, key: raw.delete(key) and raw.rpush(key, *range(50)),
        lambda raw, key: raw.hset(key, mapping={"n": "-1e9", "1": "-5"}),
        lambda raw, key: raw.hset(key, mapping={"n": "nan", "ids": "x" * 5000}),
        lambda raw, key: raw.hset(key, mapping={"n": "9" * 400, "zzz": "9" * 400}),
        lambda raw, key: raw.persist(key),
        lambda raw, key: raw.hset(key, mapping={str(n): "1" for n in range(500)}),
    ],
    ids=["deleted", "junk", "list", "negative", "nan", "huge", "persisted", "bloated"],
)
def test_a_neighbour_s_writes_cost_no_more_than_the_counts(limiter, place, write):
    limiter.hit(THREE, "ada")
    raw = place.server.operator()
    for name in place.own_names():
        write(raw, place.namespace.wire_name(name))
    answers = [limiter.hit(THREE, "ada") for _ in range(4)]
    # The limit holds again from then on: what he wrote is no more than forgetting.
    assert answers[-1] is False and answers[0] is True
    assert limiter.hit(THREE, "bob")
    assert all(raw.pttl(place.namespace.wire_name(name)) > 0 for name in place.own_names())


def test_a_generation_that_somebody_else_wrote_is_none(place):
    storage = TenantStorage(f"tenantkv+{place.server.url}", namespace=place.namespace)
    storage.reset()
    storage.incr("ada", 60, 2)
    raw = place.server.operator()
    own = [place.namespace.wire_name(name) for name in place.own_names()]
    (wire,) = (name for name in own if raw.type(name) == b"string")
    old = raw.get(wire)
    for forge in (b"junk", old[:-1] + bytes([old[-1] ^ 1]), os.urandom(60)):
        raw.set(wire, forge)
        storage._windows._look_at = 0.0
        assert storage.get("ada") == 2
    raw.delete(wire)
    raw.rpush(wire, 1)
    storage._windows._look_at = 0.0
    assert storage.get("ada") == 2
    storage.reset()
    assert storage.get("ada") == 0
    # An older one that is put back gives older counts back, until their own end; see docs.
    raw.set(wire, old)
    storage._windows._look_at = 0.0
    assert storage.get("ada") == 2


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "asyncio"])
def test_repeating_a_count_whose_reply_was_lost_counts_once(place, is_async):
    from tests.cutting_proxy import CuttingProxy

    proxy = CuttingProxy(place.server.socket_path)
    try:
        limiter = Limiter("fixed-window", is_async, proxy.url, namespace=place.namespace)
        assert limiter.incr("ada", 60) == 1
        proxy.cut(b"EVALSHA")
        assert limiter.incr("ada", 60) == 2
        assert proxy.cuts == 1
    finally:
        proxy.close()


@pytest.fixture(scope="module")
def tcp_server() -> Iterator[RealServer]:
    server = start_tcp("shared")
    yield server
    server.stop()


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "asyncio"])
def test_an_outage_raises_what_limits_expects_and_waits_once(tcp_server, is_async):
    namespace = Namespace(Keyring.generate(os.urandom(96)))
    with Proxy(tcp_server.port) as proxy:
        limiter = Limiter("moving-window", is_async, proxy.url, namespace=namespace, wrap_exceptions=True)
        assert limiter.hit(THREE, "ada")
        os.kill(tcp_server.pid, signal.SIGSTOP)
        try:
            # Without a time-out of its own this would never end.
            with pytest.raises(limits.errors.StorageError) as caught:
                limiter.hit(THREE, "ada")
            assert namespace.keyring.prefix not in repr(caught.value.__cause__)
            # Nobody else asks in this pause, from whichever event loop.
            limiter.storage._breaker._again_at += 60
            accepted = proxy.accepted
            for _ in range(50):
                with pytest.raises(limits.errors.StorageError):
                    limiter.hit(THREE, "ada")
            assert limiter.check() is False
            assert proxy.accepted == accepted
        finally:
            os.kill(tcp_server.pid, signal.SIGCONT)
        limiter.storage._breaker._again_at = 0.0
        assert limiter.check() is True and limiter.hit(THREE, "bob")


def test_flask_limiter_goes_on_in_memory_and_comes_back(tcp_server):
    from flask_limiter import Limiter as FlaskLimiter

    namespace = Namespace(Keyring.generate(os.urandom(96)))
    with Proxy(tcp_server.port) as proxy:
        app = flask.Flask("site")
        limiter = FlaskLimiter(
            lambda: "ada",
            app=app,
            storage_uri=f"tenantkv+{proxy.url}",
            storage_options={"namespace": namespace},
            default_limits=["3/hour"],
            strategy="moving-window",
            in_memory_fallback_enabled=True,
        )

        @app.get("/")
        def index():
            return "ok"

        browser = app.test_client()
        assert [browser.get("/").status_code for _ in range(2)] == [200, 200]
        proxy.target = 1
        proxy.cut_all()
        assert [browser.get("/").status_code for _ in range(4)] == [200, 200, 200, 429]
        assert limiter.storage.check() is False
        proxy.target = tcp_server.port
        limiter.storage._breaker._again_at = 0.0
        assert limiter.storage.check() is True
        limiter.reset()
        assert limiter.storage.get_moving_window(THREE.key_for("ada"), 3, 3600)[1] == 0


def test_uris(place):
    assert storage_from_string("tenantkv+memory://", namespace=place.namespace).check()
    assert isinstance(
        storage_from_string(
            "async+tenantkv://", client=tenantkv.asyncio.connect("memory://", namespace=place.namespace)
        ),
        AsyncTenantStorage,
    )
    assert server_url("tenantkv+rediss://u:p@host:1/2") == "rediss://u:p@host:1/2"
    assert server_url("tenantkv+redis+cluster://host:1") == "redis+cluster://host:1"
    assert server_url(None) is None
    for wrong in ("redis://", "tenantkv"):
        with pytest.raises(limits.errors.ConfigurationError, match="tenantkv://"):
            TenantStorage(wrong)
    with pytest.raises(TypeError, match="patience"):
        TenantStorage("tenantkv://localhost:1", namespace=place.namespace, patience=3).check()
    with pytest.raises(ConfigurationError):
        TenantStorage("tenantkv+memory://?nonsense=1", namespace=place.namespace)


def test_windows_longer_than_a_month(place):
    storage = TenantStorage(f"tenantkv+{place.server.url}", namespace=place.namespace)
    year = limits.parse("2/year")
    assert [STRATEGIES["fixed-window"](storage).hit(year, "a") for _ in range(3)] == [True, True, False]
    with pytest.raises(limits.errors.ConfigurationError, match="fixed-window"):
        STRATEGIES["moving-window"](storage).hit(year, "a")
