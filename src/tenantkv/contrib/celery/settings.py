"""What `configure` sets, and why."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from tenantkv.contrib.celery import register  # noqa: F401 - for a kombu that was loaded without entry points
from tenantkv.contrib.celery.options import read_options, with_defaults
from tenantkv.contrib.celery.server import remember, resolve
from tenantkv.errors import ConfigurationError
from tenantkv.keyring import Keyring
from tenantkv.keyring_store import load_keyring
from tenantkv.namespace import Namespace

#: Celery's setting -> value. Each is set only where the application says nothing itself.
SETTINGS: dict[str, Any] = {
    # Only data, whatever somebody with our keys may send: no pickle.
    "accept_content": ["json", "tenantkv"],
    "result_accept_content": ["json", "tenantkv"],
    "task_serializer": "json",
    "result_serializer": "json",
    "event_serializer": "json",
    # A failover takes five to fifteen seconds, and a maintenance longer; a worker waits.
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    # Connections belong to everybody: a few for a process, and one backend for all its threads. Celery's ten
    # for the broker stay: remote control holds one while it asks for another, so that as many threads as
    # there are connections (Flower has eight) wait for each other for ever.
    "redis_max_connections": 10,
    "result_backend_thread_safe": True,
    # Below the server's idle time-out, and short enough to notice a peer that vanished.
    "redis_socket_timeout": 10.0,
    "redis_socket_connect_timeout": 5.0,
    "redis_socket_keepalive": True,
    "redis_backend_health_check_interval": 10,
    # Results are for those who wait; a day on a server that evicts is a promise that nobody keeps.
    "result_expires": 6 * 3600,
    # Replies and events that nobody fetches go soon.
    "control_queue_ttl": 60.0,
    "event_queue_ttl": 5.0,
    "event_queue_expires": 60.0,
    # Tasks that were fetched and not begun go back when a worker is told to stop.
    "worker_soft_shutdown_timeout": 5.0,
}


def apply(app: Any, url: str, *, identity: Mapping[str, Any], seal: bool, options: dict[str, Any]) -> Any:
    """Set an application up; see `configure`."""
    who = dict(identity)
    namespace = _namespace(who.pop("keyring"), who.pop("namespace"), who.pop("child"), who)
    transport = {**who, **options}
    if namespace is not None:
        # The options go through `inspect stats`, so that they hold a reference only.
        transport["identity"] = namespace.fingerprint
        remember(namespace)
    if not seal:
        transport["seal"] = False
    conf = app.conf
    merged = {**(conf.broker_transport_options or {}), **transport}
    read_options(with_defaults(merged))
    resolve(url.split(";"), merged, tls=conf.broker_use_ssl)
    conf.broker_url = conf.broker_read_url = conf.broker_write_url = url
    conf.result_backend = url
    conf.broker_transport_options = merged
    results = {k: v for k, v in transport.items() if k in ("identity", "child", "keyring", "namespace")}
    results.update({k: v for k, v in transport.items() if k in ("placement", "seal", "master_name")})
    conf.result_backend_transport_options = {**(conf.result_backend_transport_options or {}), **results}
    said = _said(conf)
    for name in SETTINGS.keys() - said:
        conf[name] = SETTINGS[name]
    return app


def _namespace(keyring: Any, namespace: Any, child: str | None, options: dict[str, Any]) -> Namespace | None:
    """Return the namespace that was given, or put into `options` how each process finds it."""
    if isinstance(namespace, Namespace):
        if keyring is not None:
            raise ConfigurationError("give either keyring= or a Namespace, not both")
        return namespace.child(child) if child else namespace
    if isinstance(keyring, Keyring) or (isinstance(keyring, str) and keyring.lstrip()[:1] == "{"):
        found = Namespace(load_keyring(keyring, namespace=namespace or "default"))
        return found.child(child) if child else found
    if keyring is not None:
        options["keyring"] = os.fspath(keyring)
    if namespace is not None:
        options["namespace"] = namespace
    if child is not None:
        options["child"] = child
    return None


def _said(conf: Any) -> set[str]:
    """Return which settings an application says itself, and does not only have as Celery's defaults."""
    prefix = (getattr(conf, "prefix", "") or "").lower()
    names = {str(name).lower() for layer in conf.maps[:-1] for name in layer}
    return names | {name.removeprefix(prefix) for name in names}
