"""Flask on a shared server: settings alone make caches, sessions and limiters safe.

::

    extension.py    TenantKV: app.extensions["tenantkv"] with kv, cache, lock, queue, rate_limit
    caching.py      TenantCache: for Flask-Caching
    sessions.py     TenantSessions: for Flask-Session

Each needs no more than the library that it is for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenantkv.contrib.flask.caching import TenantCache
    from tenantkv.contrib.flask.extension import Tenant, TenantKV
    from tenantkv.contrib.flask.sessions import TenantSessions

__all__ = ["Tenant", "TenantCache", "TenantKV", "TenantSessions"]

_HOMES = {
    "Tenant": "extension",
    "TenantCache": "caching",
    "TenantKV": "extension",
    "TenantSessions": "sessions",
}


def __getattr__(name: str) -> Any:
    # Flask-Caching and Flask-Session are not everybody's.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
