"""Celery on a shared server: ``tenantkv.contrib.celery.configure(app)``, or settings alone.

::

    __init__.py     configure(), counters()
    register.py     what kombu loads to know tenantkv:// (entry point)
    server.py       from a URL and options to a namespaced pool
    options.py      transport options and their defaults
    transport.py    the broker: kombu's transport
    channel.py      ... its channel: sending, taking, bindings
    qos.py          ... what a worker holds
    keeper.py       ... leases, lapsed claims, upkeep
    claims.py       ... the scripts in lua/ and what they are called with
    backend.py      the result backend (entry point), and its consumer
    chords.py       ... chords
    client.py       clients that seal and open at the Redis value
    messages.py     the envelope around a message
    drops.py        counters of what was dropped
    settings.py     what configure() sets

This module imports neither Celery nor kombu: kombu imports the package while it starts.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tenantkv.contrib.celery.drops import counters

if TYPE_CHECKING:
    from tenantkv.keyring import Keyring
    from tenantkv.namespace import Namespace

__all__ = ["configure", "counters"]


def configure(
    app: Any,
    url: str = "tenantkv://",
    *,
    keyring: Keyring | str | os.PathLike[str] | None = None,
    namespace: Namespace | str | None = None,
    child: str | None = None,
    seal: bool = True,
    **options: Any,
) -> Any:
    """Give a Celery application its broker, results and settings for a shared server.

    What the application was told before stays as it is, except for its broker and result backend. No
    round trip.

    Args:
        app: the application.
        url: ``tenantkv://`` for the environment's server, or one of the forms in ``docs/celery.md``.
        keyring: as for `tenantkv.connect`.
        namespace: as for `tenantkv.connect`.
        child: keep everything in this sub-tenant of the namespace, so that clearing anything else of the
            tenant's never touches it.
        seal: ``False`` signs messages instead, and refuses those that look like secrets.
        options: transport options, such as ``visibility_timeout``.

    Returns:
        The application.

    Raises:
        ConfigurationError: the URL, the keyring or an option cannot be used.
        KeyringError: there is no keyring, or it cannot be trusted.
    """
    from tenantkv.contrib.celery.settings import apply

    identity = {"keyring": keyring, "namespace": namespace, "child": child}
    return apply(app, url, identity=identity, seal=seal, options=options)
