"""From Celery's URL and options to a namespaced pool and a sealer.

====================================  ==================================================================
``tenantkv://``                       where ``TENANTKV_URL`` and its kin say
``tenantkv://user:pw@host:port/0``    a server
``tenantkv+rediss://host:port/0``     the same with TLS, which verifies
``tenantkv+socket:///path``           a unix socket, also ``tenantkv+unix``; ``?virtual_host=0`` or ``?db=0``
``tenantkv+sentinel://a;b;c``         Sentinels; ``master_name`` and ``sentinel_kwargs`` are options
====================================  ==================================================================

The query takes what `tenantkv.connect` takes, and ``child``. Pure but for the keyring's file and the
environment; no round trip.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from urllib.parse import parse_qsl, urlencode

from tenantkv.config import URL_VARIABLES
from tenantkv.errors import ConfigurationError
from tenantkv.namespace import Namespace
from tenantkv.protection import Protection
from tenantkv.transport.connect import _CLASSES, Target, target
from tenantkv.urls import redact_url

#: Names of options that say whose names are spoken; all the others are kombu's or a connection's.
IDENTITY = ("child", "identity", "keyring", "namespace", "placement")

# Messages have envelopes of their own, whatever becomes of the tenant's other values and names.
_OURS = Protection(plaintext="off")

# The namespaces that `configure` was given, by fingerprint, for this process and its forks.
_configured: dict[str, Namespace] = {}


def remember(namespace: Namespace) -> None:
    """Keep a namespace, so that options can name it by its fingerprint."""
    _configured[namespace.fingerprint] = namespace


@dataclass(frozen=True, slots=True)
class Server:
    """Whose names are spoken, and where.

    Attributes:
        found: URL, namespace and connection arguments.
        sentinel: ``min_other_sentinels`` and the arguments for connections to Sentinels.
    """

    found: Target
    sentinel: Mapping[str, Any]

    @property
    def namespace(self) -> Namespace:
        """Whose names."""
        return self.found.namespace

    @property
    def db(self) -> int:
        """The database's number."""
        return self.found.settings.server.db

    def child(self, name: str) -> Server:
        """Return the same server with the names of a sub-tenant."""
        return replace(self, found=replace(self.found, namespace=self.namespace.child(name)))

    def pool(self, *, hook: type[Any] | None = None, **options: Any) -> Any:
        """Return a pool for this server.

        Args:
            hook: mixed into the connections' class.
            options: more arguments for the pool and its connections.
        """
        from tenantkv.transport.pool import NamespacedConnectionPool

        arguments = {**self.found.options, **options, "namespace": self.namespace}
        if self.found.settings.kind == "sentinel":
            return self._sentinel_pool(hook, arguments)
        arguments["connection_class"] = _with(hook, _CLASSES[self.found.scheme])
        if self.found.scheme == "unix":
            for name in ("socket_keepalive", "socket_keepalive_options", "host", "port"):
                arguments.pop(name, None)
        return NamespacedConnectionPool(**arguments)

    def _sentinel_pool(self, hook: type[Any] | None, arguments: dict[str, Any]) -> Any:
        from redis.backoff import NoBackoff
        from redis.retry import Retry
        from redis.sentinel import Sentinel

        from tenantkv.transport.sentinel import (
            NamespacedSentinelConnection,
            NamespacedSentinelPool,
            NamespacedSentinelSSLConnection,
            sentinel_arguments,
            server_options,
        )

        url = self.found.settings.server
        sentinel_options = dict(self.sentinel)
        least = sentinel_options.pop("min_other_sentinels", 0)
        asked = {**sentinel_arguments(self.found, Retry(NoBackoff(), 0)), **sentinel_options}
        sentinel = Sentinel(list(url.hosts), min_other_sentinels=least, sentinel_kwargs=asked)
        secure = url.scheme == "rediss"
        found = NamespacedSentinelSSLConnection if secure else NamespacedSentinelConnection
        arguments["connection_class"] = _with(hook, found)
        return NamespacedSentinelPool(url.service, sentinel, **server_options(arguments))  # type: ignore[no-untyped-call]


def _with(hook: type[Any] | None, connection_class: type[Any]) -> type[Any]:
    if hook is None:
        return connection_class
    return type(f"Watched{connection_class.__name__}", (hook, connection_class), {})


def resolve(urls: Iterable[str], options: Mapping[str, Any], *, tls: Any = None) -> Server:
    """Return what a broker's or backend's URL and options amount to.

    Args:
        urls: the URL; of several Sentinels, one each.
        options: transport options; of these `IDENTITY`, ``master_name``, ``sentinel_kwargs`` and
            ``min_other_sentinels`` matter here.
        tls: ``broker_use_ssl`` or ``redis_backend_use_ssl``.

    Raises:
        ConfigurationError: a URL or an option has no meaning, or leads to no server that workers share.
        KeyringError: there is no keyring, or it is not the one that was configured.
    """
    text, child = _translate(list(urls), options, secure=bool(tls))
    if text is None and not any(os.environ.get(name, "").strip() for name in URL_VARIABLES):
        raise ConfigurationError(
            f"no server URL is set (in broker_url, {', '.join(URL_VARIABLES)}), and a private server of one "
            "process is of no use to workers"
        )
    given: dict[str, Any] = dict(tls) if isinstance(tls, Mapping) else {}
    reference = _configured.get(options.get("identity", ""))
    keyring = options.get("keyring")
    if keyring is not None and (not isinstance(keyring, str) or keyring.lstrip()[:1] == "{"):
        # `celery inspect stats` shows the options to everybody who may ask.
        raise ConfigurationError("the option 'keyring' is a file's path; a document has no place in options")
    found = target(
        text,
        keyring=None if reference else keyring,
        namespace=reference or options.get("namespace"),
        placement=None if reference else options.get("placement"),
        registry=False,
        profile=None,
        options=given,
    )
    _check_kind(found)
    child = child or options.get("child")
    namespace = found.namespace
    if child and not reference:
        namespace = namespace.child(str(child))
    identity = options.get("identity")
    if identity and namespace.fingerprint != identity:
        raise ConfigurationError(
            "this process's keyring is not the one that the application was configured with "
            f"(its namespace is {namespace.fingerprint}, and not {identity})"
        )
    if found.scheme == "rediss":
        found.options.setdefault("ssl_cert_reqs", "required")
        if "ssl_ca_certs" not in found.options and (store := missing_store()):
            found.options["ssl_ca_certs"] = store
    server = Target(found.settings, namespace.protected(_OURS), found.options, found.scheme)
    sentinel = dict(options.get("sentinel_kwargs") or {})
    if options.get("min_other_sentinels"):
        sentinel["min_other_sentinels"] = options["min_other_sentinels"]
    return Server(server, sentinel)


def _check_kind(found: Target) -> None:
    kind = found.settings.kind
    if kind == "cluster":
        raise ConfigurationError("kombu has no transport for a Cluster: its queues need one server's lists")
    if kind == "memory":
        raise ConfigurationError("Celery waits on sockets, which memory:// does not have; use embedded://")


def _translate(urls: list[str], options: Mapping[str, Any], *, secure: bool) -> tuple[str | None, str | None]:
    """Return the URL in tenantkv's own spelling, or ``None`` for the environment's, and the child."""
    url = urls[0].removeprefix("tenantkv+")
    scheme, _, rest = url.partition("://")
    location, _, query = rest.partition("?")
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    child = parameters.pop("child", None)
    if "virtual_host" in parameters:
        parameters["db"] = parameters.pop("virtual_host").lstrip("/")
    if scheme == "tenantkv":
        if not location.partition("/")[0]:
            if location.strip("/") or parameters:
                raise ConfigurationError(
                    "a URL without a host takes the environment's server whole: put the database and the "
                    "parameters into TENANTKV_URL (only ?child= may stand in tenantkv://)"
                )
            return None, child
        scheme = "rediss" if secure else "redis"
    elif scheme == "redis" and secure:
        scheme = "rediss"
    elif scheme == "socket":
        scheme = "unix"
    elif scheme.endswith("sentinel"):
        scheme = "rediss+sentinel" if secure else scheme
        location = _sentinels(location, urls[1:], options.get("master_name"))
    return f"{scheme}://{location}" + (f"?{urlencode(parameters)}" if parameters else ""), child


def _sentinels(first: str, others: list[str], service: Any) -> str:
    """Return ``host,host/service/db`` of Sentinels that kombu writes one URL each."""
    hosts, _, path = first.partition("/")
    user, at, address = hosts.rpartition("@")
    addresses = [address]
    for other in others:
        more, _, its_path = other.rpartition("://")[2].partition("?")[0].partition("/")
        addresses.append(more.rpartition("@")[2])
        path = path or its_path
    db = path
    if service is None:
        service, _, db = path.partition("/")
    if not service:
        raise ConfigurationError("Sentinels need the service's name: the transport option 'master_name'")
    return f"{user}{at}{','.join(addresses)}/{service}" + (f"/{db.strip('/')}" if db else "")


def missing_store() -> str | None:
    """Return certifi's certificates, if the system has none of its own and certifi is there."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile or paths.capath or find_spec("certifi") is None:
        return None
    return str(import_module("certifi").where())


def shown(url: str) -> str:
    """Return a URL without its passwords."""
    return ";".join(redact_url(part) if "://" in part else part.rpartition("@")[2] for part in url.split(";"))
