"""Versions of libraries with a trap for tenants of a shared server, and what the trap is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Trap:
    """One row.

    Attributes:
        package: its name on the package index.
        below: the first release without it.
        severity: how bad.
        what: what happens.
        remedy: what to do.
        since: the first release with it.
        unless: a package that makes up for it.
    """

    package: str
    below: Version
    severity: Literal["warn", "fail"]
    what: str
    remedy: str
    since: Version = (0,)
    unless: str = ""


TRAPS: tuple[Trap, ...] = (
    Trap("redis", (5,), "fail", "tenantkv needs redis-py 5 or newer", "install redis>=5"),
    Trap(
        "cryptography", (42,), "fail", "tenantkv needs cryptography 42 or newer", "install cryptography>=42"
    ),
    Trap(
        "redis",
        (7, 5),
        "warn",
        "RESP3 over a unix socket fails on maintenance notifications; tenantkv switches them off, clients of other libraries do not",
        "use redis-py 8, or protocol=2",
        since=(7, 4),
    ),
    Trap(
        "kombu",
        (5, 7),
        "warn",
        "health checks of connections do nothing with redis-py 7 and newer, so an idle worker may hang after the server closed its connection",
        "install celery[redis]>=5.7",
    ),
    Trap(
        "celery",
        (5, 7),
        "warn",
        "tenantkv's transport is tested with Celery 5.7",
        "install celery[redis]>=5.7,<5.8",
    ),
    Trap(
        "python-socketio",
        (5, 14),
        "fail",
        "messages from the shared server are unpickled (CVE-2025-61765): a neighbour can run code here",
        "install python-socketio>=5.14",
    ),
    Trap(
        "flask-session",
        (0, 7),
        "fail",
        "sessions from the shared server are unpickled: a neighbour can run code here",
        "install flask-session>=0.8 with SESSION_SERIALIZATION_FORMAT='msgpack'",
    ),
    Trap(
        "diskcache",
        (99,),
        "warn",
        "values are pickled (CVE-2025-69872); harmless on a directory of your own, not on a shared one",
        "keep its directory private",
    ),
)

#: Packages whose versions are shown.
SHOWN = (
    "tenantkv",
    "redis",
    "hiredis",
    "cryptography",
    "django",
    "django-redis",
    "celery",
    "kombu",
    "channels",
    "flask",
    "flask-caching",
    "flask-session",
    "rq",
)
