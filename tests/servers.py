"""Real servers for tests: our own, on unix sockets, ended with the test process.

No test ever talks to a server that it did not start.
"""

from __future__ import annotations

import functools
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import redis

from tenantkv import embedded
from tenantkv.errors import EmbeddedServerError
from tenantkv.transport.redis_py import no_maintenance_notifications

# The secret word of profiles/shared.conf, which stands in front of every renamed command.
OPERATOR_WORD = "operator"
RENAMED = frozenset(
    {"CLIENT", "CONFIG", "DEBUG", "FLUSHALL", "FLUSHDB", "KEYS"}
    | {"MONITOR", "RANDOMKEY", "REPLICAOF", "SCAN", "SHUTDOWN", "SLAVEOF"}
)


class RealServer:
    """A running server, seen from its operator's side.

    Attributes:
        port: its TCP port on 127.0.0.1, or 0.
    """

    def __init__(self, server: embedded.EmbeddedServer, *, port: int = 0) -> None:
        self.server = server
        self.port = port
        self._clients: dict[int, redis.Redis] = {}

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def tcp_url(self) -> str:
        assert self.port, "started without a port: use start_tcp()"
        return f"redis://127.0.0.1:{self.port}"

    @property
    def socket_path(self) -> str:
        return self.server.socket_path

    @property
    def pid(self) -> int:
        return self.server.pid

    @property
    def product(self) -> str:
        return self.server.product

    @property
    def version(self) -> str:
        return self.server.version

    @property
    def version_info(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split(".")[:3])

    @property
    def knows_channel_rules(self) -> bool:
        """Whether users can be confined to channels: not on Redis 6.0."""
        return self.product != "redis" or self.version_info >= (6, 2)

    @property
    def profile(self) -> str | None:
        return self.server.profile

    def operator(self) -> redis.Redis:
        """Return a plain client; on the shared profile it calls ``operatorKEYS`` and so on."""
        return self._operator

    def plain(self, *, database: int = 0, **options: Any) -> redis.Redis:
        """Return a new client of redis-py's own."""
        return plain_client(self.socket_path, db=database, **options)

    def command(self, name: str, *args: Any) -> Any:
        """Call a command by its usual name, renamed or not."""
        renamed = self.profile == "shared" and name.upper() in RENAMED
        return self._operator.execute_command(OPERATOR_WORD + name if renamed else name, *args)

    def dump_keys(self) -> set[bytes]:
        """Return the wire names of all keys, of all databases."""
        return {name for _, name in self._names()}

    def dump(self) -> dict[tuple[int, bytes], tuple[bytes, int]]:
        """Return everything: (database, wire name) to (serialized value, expiry in ms or -1)."""
        found: dict[tuple[int, bytes], tuple[bytes, int]] = {}
        for database, name in self._names():
            client = self._database(database)
            found[database, name] = (
                client.execute_command("DUMP", name),
                self._expiry(client, name),
            )
        return found

    def flush(self) -> None:
        """Remove all keys, scripts, functions and ACL users."""
        self.command("FLUSHALL")
        self._operator.execute_command("SCRIPT FLUSH")
        if self.product != "redis" or self.version_info >= (7,):
            self._operator.execute_command("FUNCTION FLUSH")
        users = set(self._operator.acl_users()) - {"default"}
        if users:
            self._operator.execute_command("ACL DELUSER", *users)

    def kill(self) -> None:
        """End the server like a crash does."""
        os.kill(self.pid, signal.SIGKILL)

    def stop(self) -> None:
        """End the server and close our connections."""
        for client in self._clients.values():
            client.close()
        self.server.stop()

    def __repr__(self) -> str:
        return f"<RealServer {self.product} {self.version} {self.profile or 'open'}>"

    @property
    def _operator(self) -> redis.Redis:
        return self._database(0)

    def _database(self, number: int) -> redis.Redis:
        if number not in self._clients:
            self._clients[number] = redis.Redis(unix_socket_path=self.socket_path, db=number, protocol=2)
        return self._clients[number]

    def _names(self) -> list[tuple[int, bytes]]:
        databases = [int(name[2:]) for name in self._operator.info("keyspace")]
        keys = f"{OPERATOR_WORD}KEYS" if self.profile == "shared" else "KEYS"
        return [
            (number, name)
            for number in databases
            for name in self._database(number).execute_command(keys, "*")
        ]

    def _expiry(self, client: redis.Redis, name: bytes) -> int:
        # PEXPIRETIME does not change while time passes, but only came with 7.0.
        if self.product == "redis" and self.version_info < (7,):
            return 0 if client.execute_command("PTTL", name) > 0 else -1
        return int(client.execute_command("PEXPIRETIME", name))


def start_server(
    profile: str | None = None,
    *,
    binary: str | None = None,
    extra_config: Mapping[str, str | Sequence[str]] | None = None,
) -> RealServer:
    """Start a server on a unix socket only."""
    return RealServer(embedded.start(profile, binary=binary, extra_config=extra_config))


def start_tcp(
    profile: str | None = None,
    *,
    binary: str | None = None,
    extra_config: Mapping[str, str | Sequence[str]] | None = None,
    arguments: Sequence[str] = (),
    span: int = 0,
) -> RealServer:
    """Start a server on a free port of 127.0.0.1 (and on a unix socket, for its operator).

    Args:
        profile: ``"shared"`` or ``None``.
        binary: the program, or ``None`` for the default one.
        extra_config: more directives.
        arguments: more command line arguments.
        span: the distance of a second port that must be free as well (a cluster's bus).
    """
    for attempt in range(5):
        port = free_port(span)
        config = {"bind": "127.0.0.1", "port": str(port), **(extra_config or {})}
        try:
            server = embedded.start(profile, binary=binary, extra_config=config, arguments=arguments)
        except EmbeddedServerError:
            # Somebody took the port between our look and the server's bind.
            if attempt == 4:
                raise
            continue
        return RealServer(server, port=port)
    raise AssertionError("not reached")


def plain_client(path: str, **options: Any) -> redis.Redis:
    """Return a client of redis-py's own for a unix socket; redis-py 7 cannot make one by itself for RESP3."""
    pool = redis.ConnectionPool(
        connection_class=redis.UnixDomainSocketConnection,
        path=path,
        **{**no_maintenance_notifications(), **options},
    )
    client: redis.Redis = redis.Redis.from_pool(pool)
    return client


def free_port(span: int = 0) -> int:
    """Return a TCP port of 127.0.0.1 that nobody uses, with the one ``span`` above it."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            if port + span > 65535:
                continue
            try:
                if span:
                    second.bind(("127.0.0.1", port + span))
            except OSError:
                continue
            return port


@functools.cache
def installed() -> tuple[embedded.ServerBinary, ...]:
    """Return one program for each product and version on this machine, the default one first."""
    found: dict[tuple[str, str], embedded.ServerBinary] = {}
    try:
        paths = [embedded.find_binary(), *embedded.installed_binaries()]
    except EmbeddedServerError:
        return ()
    for path in paths:
        binary = embedded.inspect_binary(path)
        found.setdefault((binary.product, binary.version), binary)
    return tuple(found.values())


def newest_redis() -> str:
    """Return the path of the newest Redis, or of the default program where there is none."""
    candidates = [binary for binary in installed() if binary.product == "redis"]
    if not candidates:
        return embedded.find_binary()
    return max(candidates, key=lambda b: [int(part) for part in b.version.split(".")[:3]]).path
