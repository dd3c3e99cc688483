"""Sentinel and Cluster as real processes on loopback, ended with the test process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis

from tests.servers import OPERATOR_WORD, RENAMED, RealServer, newest_redis, start_tcp

_PATIENCE = 30.0

# A replica that need not wait for others to join its first synchronisation.
_REPLICATION = {
    "repl-diskless-sync": "yes",
    "repl-diskless-sync-delay": "0",
    "repl-ping-replica-period": "1",
}

_CLUSTER = {
    "cluster-enabled": "yes",
    "cluster-config-file": "nodes.conf",
    "cluster-node-timeout": "2000",
}


@dataclass
class Topology:
    """Some servers that end together."""

    servers: list[RealServer]

    def stop(self) -> None:
        for server in self.servers:
            server.stop()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@dataclass
class SentinelTopology(Topology):
    """A primary, a replica, and three Sentinels that look after them.

    Attributes:
        service_name: what the Sentinels call the primary.
        primary: the primary at the start; after a failover it is ``replica``.
        replica: the other one.
        sentinels: the three Sentinels.
    """

    service_name: str
    primary: RealServer
    replica: RealServer
    sentinels: list[RealServer]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """What ``redis.sentinel.Sentinel`` takes."""
        return [("127.0.0.1", sentinel.port) for sentinel in self.sentinels]

    @property
    def url(self) -> str:
        """The Sentinels' addresses as comma-separated host:port."""
        return ",".join(f"{host}:{port}" for host, port in self.addresses)

    def primary_port(self) -> int:
        """Return the port that the Sentinels name now."""
        state = (
            self.sentinels[0]
            .operator()
            .execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", self.service_name)
        )
        return int(state[1])

    def fail_over(self) -> None:
        """Kill the primary and wait until the Sentinels name the replica."""
        self.primary.kill()
        wait_until(
            "the failover",
            lambda: (
                all(
                    int(
                        sentinel.operator().execute_command(
                            "SENTINEL GET-MASTER-ADDR-BY-NAME", self.service_name
                        )[1]
                    )
                    == self.replica.port
                    for sentinel in self.sentinels
                )
                and self.replica.operator().info("replication")["role"] == "master"
            ),
        )


@dataclass
class ClusterTopology(Topology):
    """A cluster in which every node is a primary.

    Attributes:
        nodes: the nodes, in the order of their slots.
    """

    nodes: list[RealServer]

    @property
    def url(self) -> str:
        """The first node's address, from which a client finds the others."""
        return self.nodes[0].tcp_url

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [("127.0.0.1", node.port) for node in self.nodes]

    def owner(self, wire: bytes) -> RealServer:
        """Return the primary, of those at the start, that a key belongs to."""
        slot = int(self.nodes[0].operator().execute_command("CLUSTER KEYSLOT", wire))
        ends = [16384 * (number + 1) // len(self.nodes) for number in range(len(self.nodes))]
        return next(node for node, end in zip(self.nodes, ends, strict=True) if slot < end)

    def add_replica(self, primary: RealServer) -> RealServer:
        """Start a replica of a node; return when it has the node's data and all others know it."""
        config = {**_CLUSTER, **_REPLICATION}
        replica = start_tcp(primary.profile, binary=newest_redis(), extra_config=config, span=10000)
        self.servers = [*self.servers, replica]
        operator = replica.operator()
        operator.execute_command("CLUSTER MEET", "127.0.0.1", primary.port)
        known = len(self.servers)
        wait_until("the replica to join", lambda: all(_joined(node, known) for node in self.servers))
        identity = primary.operator().execute_command("CLUSTER MYID")
        operator.execute_command("CLUSTER REPLICATE", identity)
        wait_until("replication", lambda: operator.info("replication")["master_link_status"] == "up")
        return replica

    def dump_keys(self) -> set[bytes]:
        """Return the wire names of all keys on all nodes."""
        return set().union(*(node.dump_keys() for node in self.nodes))


def start_sentinel(
    profile: str | None = None, *, service_name: str = "main", binary: str | None = None
) -> SentinelTopology:
    """Start a primary, a replica and three Sentinels; return when they all know each other."""
    binary = binary or newest_redis()
    started: list[RealServer] = []
    try:
        primary = start_tcp(profile, binary=binary, extra_config=_REPLICATION)
        started.append(primary)
        follow = {**_REPLICATION, "replicaof": f"127.0.0.1 {primary.port}"}
        replica = start_tcp(profile, binary=binary, extra_config=follow)
        started.append(replica)
        wait_until(
            "replication",
            lambda: replica.operator().info("replication")["master_link_status"] == "up",
        )
        config = {"sentinel": _sentinel_lines(service_name, primary.port, profile)}
        for _ in range(3):
            started.append(start_tcp(binary=binary, extra_config=config, arguments=["--sentinel"]))
        sentinels = started[2:]
        wait_until("the Sentinels", lambda: all(_complete(s, service_name) for s in sentinels))
    except BaseException:
        Topology(started).stop()
        raise
    return SentinelTopology(started, service_name, primary, replica, sentinels)


def start_cluster(profile: str | None = None, *, size: int = 3, binary: str | None = None) -> ClusterTopology:
    """Start a cluster of ``size`` primaries; return when all of them find it complete."""
    binary = binary or newest_redis()
    nodes: list[RealServer] = []
    try:
        for _ in range(size):
            nodes.append(start_tcp(profile, binary=binary, extra_config=_CLUSTER, span=10000))
        for number, node in enumerate(nodes):
            slots = range(16384 * number // size, 16384 * (number + 1) // size)
            node.operator().execute_command("CLUSTER ADDSLOTS", *slots)
            # Distinct epochs from the start: otherwise the nodes settle a conflict later.
            node.operator().execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            if number:
                node.operator().execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port)
        wait_until("the cluster", lambda: all(_joined(node, size) for node in nodes))
    except BaseException:
        Topology(nodes).stop()
        raise
    return ClusterTopology(nodes, nodes)


def wait_until(what: str, condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` holds; connection errors mean that it does not hold yet."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except redis.ConnectionError:
            pass
        time.sleep(0.05)
    raise TimeoutError(f"waited {_PATIENCE:.0f} s for {what}")


def _sentinel_lines(service_name: str, port: int, profile: str | None) -> list[str]:
    lines = [
        f"monitor {service_name} 127.0.0.1 {port} 2",
        f"down-after-milliseconds {service_name} 1000",
        f"failover-timeout {service_name} 5000",
    ]
    if profile == "shared":
        lines += [f"rename-command {service_name} {n} {OPERATOR_WORD}{n}" for n in sorted(RENAMED)]
    return lines


def _complete(sentinel: RealServer, service_name: str) -> bool:
    reply = sentinel.operator().execute_command("SENTINEL MASTER", service_name)
    state = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    known = {str(k): v for k, v in state.items()}
    return int(known["num-slaves"]) == 1 and int(known["num-other-sentinels"]) == 2


def _joined(node: RealServer, size: int) -> bool:
    reply = node.operator().execute_command("CLUSTER INFO")
    return reply["cluster_state"] == "ok" and int(reply["cluster_known_nodes"]) == size


def slots(node: RealServer) -> list[tuple[int, int, int]]:
    """Return (first, last, port) of each range of slots."""
    reply = node.operator().execute_command("CLUSTER SLOTS")
    if isinstance(reply, dict):
        return [(first, last, where["primary"][1]) for (first, last), where in reply.items()]
    return [(first, last, primary[1]) for first, last, primary, *_ in reply]


def serving(cluster: ClusterTopology, slot: int) -> RealServer:
    """Return the node that has a slot."""
    port = next(port for first, last, port in slots(cluster.nodes[0]) if first <= slot <= last)
    return next(node for node in cluster.nodes if node.port == port)


class Migration:
    """Moves one slot from the node that has it to the next one, step by step."""

    def __init__(self, cluster: ClusterTopology, slot: int) -> None:
        self.cluster, self.slot = cluster, slot
        self.source = serving(cluster, slot)
        position = cluster.nodes.index(self.source)
        self.target = cluster.nodes[(position + 1) % len(cluster.nodes)]
        self.ids = {
            node.port: node.operator().execute_command("CLUSTER MYID").decode() for node in cluster.nodes
        }

    def begin(self) -> None:
        """From here on the source answers ASK for keys that it does not have."""
        self.target.operator().execute_command(
            "CLUSTER SETSLOT", self.slot, "IMPORTING", self.ids[self.source.port]
        )
        self.source.operator().execute_command(
            "CLUSTER SETSLOT", self.slot, "MIGRATING", self.ids[self.target.port]
        )

    def end(self) -> None:
        """Move the keys; from here on the source answers MOVED."""
        operator = self.source.operator()
        names = operator.execute_command("CLUSTER GETKEYSINSLOT", self.slot, 1000)
        if names:
            operator.execute_command(
                "MIGRATE", "127.0.0.1", self.target.port, "", 0, 5000, "REPLACE", "KEYS", *names
            )
        for node in (self.target, self.source, *self.cluster.nodes):
            node.operator().execute_command("CLUSTER SETSLOT", self.slot, "NODE", self.ids[self.target.port])
