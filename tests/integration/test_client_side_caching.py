"""redis-py's client-side cache through our connections: own names in the cache, wire names in the pushes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
import redis

import tenantkv
from tenantkv import Keyring, Namespace
from tenantkv.errors import ConfigurationError
from tests.servers import RealServer, start_tcp

cache_module = pytest.importorskip("redis.cache", reason="redis-py 5.1 brought the client-side cache")


@pytest.fixture(autouse=True)
def any_version_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    # redis-py admits Redis 7.4 and later only; the mechanism is there since 6.0.
    from redis.connection import CacheProxyConnection

    monkeypatch.setattr(CacheProxyConnection, "MIN_ALLOWED_VERSION", "6.0.0")


# redis-py's caching connection wants a host and a port, so unix sockets will not do.
@pytest.fixture
def tcp_server() -> Iterator[RealServer]:
    server = start_tcp()
    yield server
    server.stop()


@pytest.fixture
def shared_tcp_server() -> Iterator[RealServer]:
    server = start_tcp("shared")
    yield server
    server.stop()


def connect(server: RealServer, namespace: Namespace) -> tenantkv.TenantRedis:
    return tenantkv.connect(
        server.tcp_url,
        namespace=namespace,
        protocol=3,
        cache_config=cache_module.CacheConfig(),
    )


def test_a_value_is_cached_and_a_change_by_others_is_seen(tcp_server: RealServer) -> None:
    namespace = Namespace(Keyring.generate(os.urandom(96)))
    kv, writer = connect(tcp_server, namespace), tenantkv.connect(tcp_server.url, namespace=namespace)
    writer.set("a", 1)
    assert kv.get("a") == b"1"
    cache = kv.get_cache()
    assert cache is not None and cache.size == 1
    assert all(b"a" in key.redis_keys or "a" in key.redis_keys for key in cache.collection)
    before = tcp_server.operator().info("commandstats")["cmdstat_get"]["calls"]
    assert kv.get("a") == b"1"
    assert tcp_server.operator().info("commandstats")["cmdstat_get"]["calls"] == before
    writer.set("a", 2)
    deadline = time.monotonic() + 5
    while kv.get("a") != b"2":
        assert time.monotonic() < deadline, "the invalidation was not understood"
    kv.close()


def test_a_neighbours_key_of_the_same_name_changes_nothing(tcp_server: RealServer) -> None:
    ours, theirs = (Namespace(Keyring.generate(os.urandom(96))) for _ in range(2))
    kv = connect(tcp_server, ours)
    neighbour = tenantkv.connect(tcp_server.url, namespace=theirs)
    kv.set("a", 1)
    assert kv.get("a") == b"1"
    neighbour.set("a", 2)
    tcp_server.operator().set("a", 3)
    assert kv.get("a") == b"1"
    assert kv.get_cache().size == 1
    kv.close()


def test_a_cached_pool_serves_one_namespace(tcp_server: RealServer) -> None:
    kv = connect(tcp_server, Namespace(Keyring.generate(os.urandom(96))))
    with pytest.raises(ConfigurationError, match="client-side cache"):
        kv.child("customer-17")
    kv.close()


def test_where_the_server_does_not_allow_it_the_error_says_so(shared_tcp_server: RealServer) -> None:
    kv = connect(shared_tcp_server, Namespace(Keyring.generate(os.urandom(96))))
    with pytest.raises(redis.ResponseError, match=r"(?i)unknown command"):
        kv.get("a")
