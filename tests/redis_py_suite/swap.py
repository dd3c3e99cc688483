"""Gives the fixtures of redis-py's tests our clients: in their conftest, and nowhere else.

Their test files stay as they are. What a test builds by itself from redis-py's classes, rather than
through a fixture, stays redis-py's too.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

import redis
from redis import asyncio as aredis
from redis.backoff import NoBackoff

from tenantkv.keyring import Keyring
from tenantkv.namespace import Namespace
from tenantkv.ops.registry import Registrar
from tenantkv.transport.async_client import AsyncTenantRedis
from tenantkv.transport.async_connection import (
    AsyncNamespacedConnection,
    AsyncNamespacedSSLConnection,
    AsyncNamespacedUnixDomainSocketConnection,
)
from tenantkv.transport.async_pool import AsyncNamespacedConnectionPool
from tenantkv.transport.client import TenantRedis
from tenantkv.transport.connection import (
    NamespacedConnection,
    NamespacedSSLConnection,
    NamespacedUnixDomainSocketConnection,
)
from tenantkv.transport.pool import NamespacedConnectionPool
from tenantkv.transport.retry import AsyncSafeRetry, SafeRetry

#: How our client is set up; each has other code below it.
#: direct: a pool of its own. child: a view of a shared pool. registry: commands of our own ride along.
#: slot: the whole namespace behind one hash tag.
WORLDS = ("direct", "child", "registry", "slot")

# Our policy without its waits: their tests take the server away and look at the clock.
_WAITS = NoBackoff()
_RETRIES = 3

_SYNC = {
    redis.Connection: NamespacedConnection,
    redis.SSLConnection: NamespacedSSLConnection,
    redis.UnixDomainSocketConnection: NamespacedUnixDomainSocketConnection,
}
_ASYNC = {
    aredis.Connection: AsyncNamespacedConnection,
    aredis.SSLConnection: AsyncNamespacedSSLConnection,
    aredis.UnixDomainSocketConnection: AsyncNamespacedUnixDomainSocketConnection,
}


def awkward_namespace(world: str) -> Namespace:
    """Return a new namespace whose prefix holds each of the characters that base64 has beside letters."""
    while True:
        keyring = Keyring.generate(os.urandom(96))
        if all(character in keyring.prefix for character in "+/="):
            return Namespace(keyring, placement="slot" if world == "slot" else "spread")


class Outside(ModuleType):
    """A module with some of its names replaced, as a conftest sees it."""

    def __init__(self, module: ModuleType, **replaced: Any) -> None:
        super().__init__(module.__name__)
        self.__dict__.update(replaced)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class Swap:
    """Makes our clients in the place of redis-py's.

    Args:
        world: one of `WORLDS`.
    """

    def __init__(self, world: str) -> None:
        self.world = world
        self.namespace = awkward_namespace(world)
        #: The namespace that the clients speak for.
        self.spoken = self.namespace.child("suite") if world == "child" else self.namespace

    def pool(self, **options: Any) -> Any:
        """Stand in for ``redis.ConnectionPool``."""
        options.setdefault("retry", SafeRetry(_WAITS, _RETRIES))
        kind = options.pop("connection_class", redis.Connection)
        return self._dressed(NamespacedConnectionPool(_SYNC[kind], namespace=self.namespace, **options))

    def async_pool(self, **options: Any) -> Any:
        """Stand in for ``redis.asyncio.ConnectionPool``."""
        options.setdefault("retry", AsyncSafeRetry(_WAITS, _RETRIES))
        kind = options.pop("connection_class", aredis.Connection)
        return self._dressed(AsyncNamespacedConnectionPool(_ASYNC[kind], namespace=self.namespace, **options))

    def _dressed(self, pool: Any) -> Any:
        if self.world == "registry":
            pool.registrars[self.namespace] = Registrar()
        if self.world != "child":
            return pool
        view = pool.view(self.spoken)
        # Closing a view leaves the shared connections open, and here nobody else would close them:
        # subscriptions of one test would be counted in the next.
        view.disconnect = pool.disconnect
        return view

    def into_conftest(self, conftest: Any) -> None:
        """Change what the fixtures of ``tests/conftest.py`` make."""
        make = conftest._get_client

        def get_client(cls: Any, *args: Any, **kwargs: Any) -> Any:
            return make(TenantRedis if cls is redis.Redis else cls, *args, **kwargs)

        conftest._get_client = get_client
        conftest.redis = Outside(redis, ConnectionPool=self.pool)

    def into_async_conftest(self, conftest: Any) -> None:
        """Change what the fixtures of ``tests/test_asyncio/conftest.py`` make."""
        conftest.redis = Outside(aredis, ConnectionPool=self.async_pool, Redis=AsyncTenantRedis)
