"""A shared Redis server, safe and pleasant for many tenants who cannot trust each other.

``tenantkv.connect()`` returns a drop-in redis-py client whose every command stays inside the tenant's
namespace; ``tenantkv.asyncio.connect()`` the same for asyncio.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tenantkv import asyncio, commands
from tenantkv.errors import (
    CodecError,
    ConfigurationError,
    EmbeddedServerError,
    EnvelopeError,
    ForbiddenCommandError,
    KeyringError,
    KeyringFormatError,
    KeyringNotFoundError,
    KeyringPermissionError,
    MalformedCommandError,
    NamespaceRequiredError,
    OpenError,
    PlaintextRefusedError,
    PrefixRotatedError,
    RefusedError,
    SealError,
    TenantKVError,
    UnknownCommandError,
    UnknownKeyError,
)
from tenantkv.keyring import Keyring
from tenantkv.keyring_store import load_keyring
from tenantkv.namespace import Namespace
from tenantkv.ops.own_keys import Usage
from tenantkv.protection import Protection
from tenantkv.secret import Secret
from tenantkv.transport.async_client import AsyncTenantRedis
from tenantkv.transport.async_cluster import AsyncTenantRedisCluster
from tenantkv.transport.async_pool import AsyncNamespacedConnectionPool
from tenantkv.transport.client import TenantRedis
from tenantkv.transport.cluster import TenantRedisCluster
from tenantkv.transport.connect import EmbeddedServerWarning, connect, connect_cluster, connection_pool
from tenantkv.transport.connection import (
    NamespacedConnection,
    NamespacedSSLConnection,
    NamespacedUnixDomainSocketConnection,
)
from tenantkv.transport.pool import NamespacedConnectionPool

if TYPE_CHECKING:
    from tenantkv.cache import FOREVER, MISS, AsyncCache, Cache
    from tenantkv.lock import AsyncLease, AsyncLock, Lease, LeaseLostError, Lock
    from tenantkv.queue import (
        AsyncQueue,
        Outgoing,
        Queue,
        QueueError,
        QueueFullError,
        QueueLoss,
        QueueLossWarning,
        QueueLostError,
        QueueSettings,
        ResultLostError,
        ResultTimeoutError,
        StaleReceiptError,
    )
    from tenantkv.secrets import PlaintextWarning

__version__ = "0.1.0"

# Imported when they are first asked for: what they need takes longer than all the rest.
_LATER = {
    "FOREVER": "cache",
    "MISS": "cache",
    "AsyncCache": "cache",
    "AsyncLease": "lock",
    "AsyncLock": "lock",
    "AsyncQueue": "queue",
    "Cache": "cache",
    "Lease": "lock",
    "LeaseLostError": "lock",
    "Lock": "lock",
    "Outgoing": "queue",
    "PlaintextWarning": "secrets",
    "Queue": "queue",
    "QueueError": "queue",
    "QueueFullError": "queue",
    "QueueLoss": "queue",
    "QueueLossWarning": "queue",
    "QueueLostError": "queue",
    "QueueSettings": "queue",
    "ResultLostError": "queue",
    "ResultTimeoutError": "queue",
    "StaleReceiptError": "queue",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'tenantkv' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tenantkv.{_LATER[name]}"), name)


__all__ = [
    "FOREVER",
    "MISS",
    "AsyncCache",
    "AsyncLease",
    "AsyncLock",
    "AsyncNamespacedConnectionPool",
    "AsyncQueue",
    "AsyncTenantRedis",
    "AsyncTenantRedisCluster",
    "Cache",
    "CodecError",
    "ConfigurationError",
    "EmbeddedServerError",
    "EmbeddedServerWarning",
    "EnvelopeError",
    "ForbiddenCommandError",
    "Keyring",
    "KeyringError",
    "KeyringFormatError",
    "KeyringNotFoundError",
    "KeyringPermissionError",
    "Lease",
    "LeaseLostError",
    "Lock",
    "MalformedCommandError",
    "Namespace",
    "NamespaceRequiredError",
    "NamespacedConnection",
    "NamespacedConnectionPool",
    "NamespacedSSLConnection",
    "NamespacedUnixDomainSocketConnection",
    "OpenError",
    "Outgoing",
    "PlaintextRefusedError",
    "PlaintextWarning",
    "PrefixRotatedError",
    "Protection",
    "Queue",
    "QueueError",
    "QueueFullError",
    "QueueLoss",
    "QueueLossWarning",
    "QueueLostError",
    "QueueSettings",
    "RefusedError",
    "ResultLostError",
    "ResultTimeoutError",
    "SealError",
    "Secret",
    "StaleReceiptError",
    "TenantKVError",
    "TenantRedis",
    "TenantRedisCluster",
    "UnknownCommandError",
    "UnknownKeyError",
    "Usage",
    "asyncio",
    "commands",
    "connect",
    "connect_cluster",
    "connection_pool",
    "load_keyring",
]
