"""Transport options: kombu's with the values that a shared server asks for, and our own."""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tenantkv.errors import ConfigurationError

logger = logging.getLogger("tenantkv.contrib.celery")


def keepalive_probes() -> dict[int, int]:
    """Return socket options under which a peer that vanished is noticed within a minute."""
    wanted = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}


#: Seconds. kombu's own: no time-outs, a health check every 25, an hour until a dead worker's tasks return.
#: The health check also bounds how long a half-open connection goes unnoticed.
DEFAULTS: dict[str, Any] = {
    "socket_timeout": 5.0,
    "socket_connect_timeout": 5.0,
    "socket_keepalive": True,
    "health_check_interval": 15,
    "max_connections": 10,
    "visibility_timeout": 300,
    "polling_interval": None,
}

#: Options of our own, beside those that say whose names are spoken (`server.IDENTITY`).
OURS = (
    *("seal", "message_lifetime", "replay_marks", "freshness", "queue_bound"),
    *("lease_interval", "upkeep_interval"),
)

#: kombu's options that are arguments of connections and pools.
_CONNECTION = (
    *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "socket_keepalive_options"),
    *("health_check_interval", "max_connections", "client_name"),
)


@dataclass(frozen=True, slots=True)
class Options:
    """What the transport options say.

    Attributes:
        seal: whether messages are sealed; otherwise they are signed, and stay readable.
        message_lifetime: seconds after which a message that waits in a queue counts no more.
        replay_marks: how many taken messages are remembered on the server, at least; at most twice as
            many, at about 90 bytes each.
        freshness: seconds for which an event or a command to workers counts.
        queue_bound: the most messages of one priority that a queue holds, or ``None``.
        visibility_timeout: seconds after which the messages of a worker that died are given back.
        lease_interval: seconds between renewals, or ``None`` for a share of the visibility timeout.
        upkeep_interval: seconds between looks at whether bindings and queues are still there.
        connection: arguments for connections.
    """

    seal: bool = True
    message_lifetime: float = 7 * 86400.0
    replay_marks: int = 50_000
    freshness: float = 60.0
    queue_bound: int | None = 100_000
    visibility_timeout: float = 300.0
    lease_interval: float | None = None
    upkeep_interval: float = 60.0
    connection: Mapping[str, Any] = field(default_factory=dict)

    @property
    def renewal(self) -> float:
        """Seconds between renewals."""
        return self.lease_interval or min(15.0, self.visibility_timeout / 4)


def with_defaults(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return transport options with our defaults where they say nothing."""
    merged = {**DEFAULTS, **(options or {})}
    merged.setdefault("socket_keepalive_options", keepalive_probes())
    if merged.pop("retry_on_timeout", None):
        logger.warning(
            "the transport option retry_on_timeout is left out: with it, redis-py reconnects within a read "
            "and blocks the worker for ever"
        )
    return merged


def read_options(options: Mapping[str, Any]) -> Options:
    """Return what merged transport options say.

    Raises:
        ConfigurationError: a value has no meaning.
    """
    own = {name: options[name] for name in OURS if name in options}
    connection = {name: options[name] for name in _CONNECTION if options.get(name) is not None}
    found = Options(**own, visibility_timeout=float(options["visibility_timeout"]), connection=connection)
    for name in (
        "message_lifetime",
        "freshness",
        "visibility_timeout",
        "replay_marks",
        "renewal",
        "upkeep_interval",
    ):
        if not getattr(found, name) > 0:
            raise ConfigurationError(f"the transport option {name!r} is more than 0")
    if found.renewal > found.visibility_timeout / 2:
        raise ConfigurationError("lease_interval is at most half of visibility_timeout, or leases lapse")
    wait = connection.get("socket_timeout")
    if wait is not None and float(wait) < 1:
        raise ConfigurationError("socket_timeout is at least 1 second")
    return found
