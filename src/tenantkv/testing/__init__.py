"""What your own tests need: a private server, an identity for each test, and the loss of everything.

`PrivateServer` works with any test framework; `tenantkv.testing.fixtures` has fixtures for pytest. Nothing
here touches a server that it did not start.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import redis

from tenantkv import embedded
from tenantkv.errors import ConfigurationError
from tenantkv.keyring import ENTROPY_BYTES, Keyring
from tenantkv.keyring_store import INLINE_VARIABLE
from tenantkv.transport.connect import connect

if TYPE_CHECKING:
    from tenantkv.transport.async_client import AsyncTenantRedis
    from tenantkv.transport.client import TenantRedis

#: ``shared`` has the limits and refusals of a shared server, ``open`` has none, and ``memory`` is fakeredis
#: in this process.
Kind = Literal["shared", "open", "memory"]

__all__ = ["Kind", "PrivateServer", "new_keyring"]


def new_keyring() -> Keyring:
    """Return a random identity that lies in no file and shares no key with any other."""
    return Keyring.generate(os.urandom(ENTROPY_BYTES))


class PrivateServer:
    """A server for tests; a context manager that stops it. It ends with this process in any case.

    Args:
        kind: ``"shared"`` is a real server with the limits of a shared one, so that what works in a test
            works there; ``"open"`` is one without; ``"memory"`` is fakeredis, one for all of this process.

    Attributes:
        kind: as given.
        url: where it is, for ``tenantkv.connect()``.

    Raises:
        EmbeddedServerError: there is no server program on this machine.
        ConfigurationError: the kind has no meaning, or fakeredis is not installed.

    Example:
        >>> with PrivateServer("memory") as server, server.client() as kv:
        ...     kv.set("a", 1)
        True
    """

    def __init__(self, kind: Kind = "shared") -> None:
        if kind not in ("shared", "open", "memory"):
            raise ConfigurationError("a private server is 'shared', 'open' or 'memory'")
        self.kind: Kind = kind
        self._server = None if kind == "memory" else embedded.start("shared" if kind == "shared" else None)
        self.url = "memory://" if self._server is None else self._server.url

    def client(self, **options: Any) -> TenantRedis:
        """Return a client with an identity of its own; close it, or use it in ``with``. No round trip.

        Args:
            options: as for :func:`tenantkv.connect`, such as ``seal=True``; ``keyring=`` gives the identity
                of another client. The registry is on, so that ``keys()`` works without ``SCAN``.
        """
        return connect(self.url, **self._options(options))

    def async_client(self, **options: Any) -> AsyncTenantRedis:
        """Return an asyncio client, as `client` does; use it in ``async with``, or ``await kv.aclose()``."""
        from tenantkv.transport.async_connect import connect as async_connect

        return async_connect(self.url, **self._options(options))

    def environ(self, keyring: Keyring | None = None) -> dict[str, str]:
        """Return variables with which ``tenantkv.connect()`` finds this server and an identity, **a secret**.

        For programs that a test starts; for the test's own process see `environment`.
        """
        keyring = keyring or new_keyring()
        return {"TENANTKV_URL": self.url, INLINE_VARIABLE: keyring.dump(compact=True)}

    @contextmanager
    def environment(self, keyring: Keyring | None = None) -> Iterator[Mapping[str, str]]:
        """Have ``tenantkv.connect()`` without arguments find this server while the context lasts."""
        wanted = self.environ(keyring)
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield wanted
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def lose_everything(self) -> None:
        """Delete all keys of all tenants, behind every client's back, as an eviction or a restart does."""
        if self._server is None:
            # Here, as few install it.
            from tenantkv.transport.memory import lose_everything

            lose_everything()
            return
        word = "operatorFLUSHALL" if self.kind == "shared" else "FLUSHALL"
        with redis.Redis(unix_socket_path=self._server.socket_path) as operator:
            operator.execute_command(word)

    def plain(self) -> Any:
        """Return redis-py's own client, which sees wire names: a neighbour that knows no prefix.

        Raises:
            ConfigurationError: the server is fakeredis, which has no neighbours.
        """
        if self._server is None:
            raise ConfigurationError("memory:// has no neighbours; use a server of kind 'shared' or 'open'")
        return redis.Redis(unix_socket_path=self._server.socket_path)

    def stop(self) -> None:
        """End the server, and all of its data. For fakeredis, its data only."""
        if self._server is None:
            self.lose_everything()
        else:
            self._server.stop()

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        options.setdefault("registry", True)
        if "namespace" not in options:
            options.setdefault("keyring", new_keyring())
        return options

    def __enter__(self) -> PrivateServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<PrivateServer {self.kind}>"
