"""From a URL and a keyring to a client or pool, with the defaults that a shared server asks for."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode

from redis.connection import parse_url

from tenantkv.errors import ConfigurationError
from tenantkv.keyring import Keyring
from tenantkv.keyring_store import load_keyring
from tenantkv.namespace import Namespace, Placement
from tenantkv.protection import OPTIONS, Protection
from tenantkv.transport.client import TenantRedis
from tenantkv.transport.connection import (
    NamespacedConnection,
    NamespacedSSLConnection,
    NamespacedUnixDomainSocketConnection,
)
from tenantkv.transport.pool import NamespacedConnectionPool
from tenantkv.transport.redis_py import no_maintenance_notifications
from tenantkv.transport.retry import default_retry

if TYPE_CHECKING:
    from tenantkv.config import Settings
    from tenantkv.transport.cluster import TenantRedisCluster

#: Seconds. The health check lies far below the ten minutes after which such servers close an idle
#: connection, and also below what NAT gateways allow.
SHARED_DEFAULTS: dict[str, Any] = {
    "socket_timeout": 5.0,
    "socket_connect_timeout": 5.0,
    "health_check_interval": 60,
}


class EmbeddedServerWarning(UserWarning):
    """No URL was given, so a private server of this process's own is in use."""


@dataclass(frozen=True, slots=True)
class Target:
    """Whose names are spoken, and where.

    Attributes:
        settings: the settings, with the URL.
        namespace: the tenant's.
        options: arguments for a connection pool: the shared defaults, the URL's, the caller's.
        scheme: ``redis``, ``rediss`` or ``unix``: which connection class it takes.
    """

    settings: Settings
    namespace: Namespace
    options: dict[str, Any]
    scheme: str


def target(
    url: str | None,
    *,
    keyring: Keyring | str | os.PathLike[str] | None,
    namespace: Namespace | str | None,
    placement: Placement | None,
    registry: bool | None,
    profile: str | None,
    options: dict[str, Any],
) -> Target:
    """Resolve settings and identity; the one place where both worlds' `connect` begin.

    Raises:
        ConfigurationError: the URL or an argument has no meaning.
        KeyringError: there is no keyring, or it cannot be trusted.
    """
    # Here and not above: `import tenantkv` alone reads no URL.
    from tenantkv.config import resolve

    label = namespace if isinstance(namespace, str) else None
    settings = resolve(
        url,
        environ=os.environ,
        namespace=label,
        placement=placement,
        registry=registry,
        profile=profile,
    )
    options = dict(options)
    asked = {name: options.pop(name) for name in OPTIONS & options.keys()}
    asked = {
        **dict(settings.protection),
        **{name: value for name, value in asked.items() if value is not None},
    }
    if not isinstance(namespace, Namespace):
        found = load_keyring(keyring, namespace=settings.namespace)
        namespace = Namespace(found, placement=settings.placement, protection=settings.protect(found, asked))
    elif keyring is not None:
        raise ConfigurationError("give either keyring= or a Namespace, not both")
    elif asked or settings.protection:
        asked = {**dict(settings.protection), **asked}
        namespace = namespace.protected(Protection.of(namespace.protection, **asked))
    if not settings.is_registry_chosen and namespace.protection.names == "hidden":
        # Nothing else could list them.
        settings = replace(settings, registry=True)
    redis_url = settings.redis_url
    if settings.kind == "embedded":
        redis_url = _embedded_url(settings)
    from_url: dict[str, Any] = dict(parse_url(redis_url)) if redis_url else {}
    from_url.pop("connection_class", None)
    if "timeout" in from_url:
        # redis-py's name for it, in URLs that were written for its BlockingConnectionPool.
        from_url["pool_wait"] = from_url.pop("timeout")
    scheme = redis_url.partition("://")[0]
    merged = {**SHARED_DEFAULTS, **no_maintenance_notifications(), **from_url, **options}
    if scheme != "unix":
        merged.setdefault("socket_keepalive", True)
    return Target(settings, namespace, merged, scheme)


def _embedded_url(settings: Settings) -> str:
    if settings.url_source == "default":
        warnings.warn(
            "no server URL is set (TENANTKV_URL, TOOL_REDIS_URI or REDIS_URL), so tenantkv uses a "
            "private server that ends with this process; pass embedded:// to say that you mean it",
            EmbeddedServerWarning,
            stacklevel=4,
        )
    # Only here, as most processes talk to a server that runs already.
    from tenantkv.embedded import shared_server

    query = {"profile": settings.profile} if settings.profile else {}
    path = settings.server.path
    server = shared_server(f"embedded://{path}" + (f"?{urlencode(query)}" if query else ""))
    return server.url


_CLASSES = {
    "redis": NamespacedConnection,
    "rediss": NamespacedSSLConnection,
    "unix": NamespacedUnixDomainSocketConnection,
}


def connection_pool(
    url: str | None = None,
    *,
    keyring: Keyring | str | os.PathLike[str] | None = None,
    namespace: Namespace | str | None = None,
    placement: Placement | None = None,
    registry: bool | None = None,
    profile: str | None = None,
    **options: Any,
) -> NamespacedConnectionPool:
    """Return a namespaced connection pool, for libraries that make their own client.

    The arguments are those of :func:`connect`. No round trip.

    Example:
        >>> import redis
        >>> pool = connection_pool("memory://", namespace=getfixture("namespace"))
        >>> redis.Redis(connection_pool=pool).set("a", 1)
        True
    """
    found = target(
        url,
        keyring=keyring,
        namespace=namespace,
        placement=placement,
        registry=registry,
        profile=profile,
        options=options,
    )
    return make_pool(found)


def make_pool(found: Target) -> NamespacedConnectionPool:
    """Return the pool for a target that is one server, or a service behind Sentinels."""
    options = {"retry": default_retry(), **found.options, "namespace": found.namespace}
    if found.settings.registry:
        options["registry"] = True
    pool: NamespacedConnectionPool
    if found.settings.kind == "memory":
        from tenantkv.transport.memory import memory_pool

        pool = memory_pool(options)
    elif found.settings.kind == "sentinel":
        from tenantkv.transport.sentinel import sentinel_pool

        pool = sentinel_pool(found, options)
    elif found.settings.kind == "cluster":
        raise ConfigurationError(
            "a cluster has no single connection pool; use tenantkv.connect(), which returns a client"
        )
    else:
        options.setdefault("connection_class", _CLASSES[found.scheme])
        pool = NamespacedConnectionPool(**options)
    return pool


def connect(
    url: str | None = None,
    *,
    keyring: Keyring | str | os.PathLike[str] | None = None,
    namespace: Namespace | str | None = None,
    placement: Placement | None = None,
    registry: bool | None = None,
    profile: str | None = None,
    **options: Any,
) -> TenantRedis:
    """Return a client whose every command stays inside the tenant's namespace.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``, ``sentinel://``, ``redis+cluster://``,
            ``embedded://`` or ``memory://``; otherwise ``TENANTKV_URL``, ``TOOL_REDIS_URI`` or
            ``REDIS_URL``; otherwise an embedded server, with a warning.
        keyring: a keyring, its path or its document; otherwise where ``tenantkv init`` put it.
        namespace: the keyring's label, or a :class:`tenantkv.Namespace`.
        placement: ``"spread"`` (hash tags of your own) or ``"slot"`` (one Cluster slot for all).
        registry: keep an index of own names, to list keys on a server without SCAN.
        profile: ``"shared"`` gives an embedded server the limits of a shared one.
        options: ``seal``, ``mode``, ``names``, ``plaintext``, ``plaintext_keys``, ``contexts``,
            ``allow``, ``accept_plaintext_until``, ``bind_ttl`` ...: see :class:`tenantkv.Protection`;
            and as for ``redis.Redis``: ``decode_responses``, ``protocol``, time-outs, TLS ...

    Returns:
        A :class:`tenantkv.TenantRedis`; for a cluster URL a :class:`tenantkv.TenantRedisCluster`, which
        :func:`connect_cluster` returns with its type.
        No round trip, but for an embedded server that starts and a cluster that is asked for its nodes.

    Raises:
        ConfigurationError: the URL or an argument has no meaning.
        KeyringError: there is no keyring, or it cannot be trusted.
    """
    found = target(
        url,
        keyring=keyring,
        namespace=namespace,
        placement=placement,
        registry=registry,
        profile=profile,
        options=options,
    )
    if found.settings.kind == "cluster":
        from tenantkv.transport.cluster import connect_cluster

        return cast(TenantRedis, connect_cluster(found))
    client = TenantRedis(connection_pool=make_pool(found))
    # The client made the pool, so closing the client closes it.
    client.auto_close_connection_pool = True
    return client


def connect_cluster(url: str | None = None, **arguments: Any) -> TenantRedisCluster:
    """Return a client for a Cluster; the arguments are those of :func:`connect`.

    Raises:
        ConfigurationError: the URL is not one of a Cluster.
    """
    client: object = connect(url, **arguments)
    from tenantkv.transport.cluster import TenantRedisCluster

    if not isinstance(client, TenantRedisCluster):
        raise ConfigurationError("a Cluster's URL begins with redis+cluster:// or rediss+cluster://")
    return client
