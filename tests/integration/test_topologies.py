"""The test topologies themselves, with plain redis-py."""

from __future__ import annotations

import pytest
import redis
from redis.cluster import RedisCluster
from redis.sentinel import Sentinel

from tests.servers import start_tcp
from tests.topologies import start_cluster, start_sentinel, wait_until

pytestmark = pytest.mark.topology


@pytest.mark.parametrize("profile", [None, "shared"])
def test_sentinel_fails_over(profile):
    with start_sentinel(profile) as topology:
        sentinel = Sentinel(topology.addresses, socket_timeout=2)
        assert sentinel.discover_master("main") == ("127.0.0.1", topology.primary.port)
        client = sentinel.master_for("main", socket_timeout=2)
        client.set("k", "v")
        assert client.wait(1, 5000) == 1

        topology.fail_over()

        assert topology.primary_port() == topology.replica.port
        wait_until("the new primary", lambda: client.get("k") == b"v")
        assert client.set("k", "w")


@pytest.mark.parametrize("profile", [None, "shared"])
def test_cluster_serves_every_slot(profile):
    with start_cluster(profile) as topology:
        client = RedisCluster.from_url(topology.url)
        names = [f"name-{n}" for n in range(50)]
        for name in names:
            client.set(name, name)
        assert [client.get(name) for name in names] == [name.encode() for name in names]
        assert topology.dump_keys() == {name.encode() for name in names}
        assert all(node.dump_keys() for node in topology.nodes)
        client.close()


def test_a_server_on_a_tcp_port():
    server = start_tcp("shared")
    client = redis.Redis.from_url(server.tcp_url)
    assert client.ping()
    client.close()
    server.stop()
