"""Django's cache, sessions and locks on a shared server: settings alone make them safe.

::

    backend.py      TenantCache: Django's cache API; coroutines.py: its asyncio half
    lifetimes.py    ... and of django-redis's: ttl, expire, persist ...
    patterns.py     ... keys, iter_keys, delete_pattern
    structures.py   ... sets and hashes; sorted_sets.py; places.py: where they lie and how they are reached
    options.py      what LOCATION and OPTIONS may say
    stores.py       what all instances of a backend share in a process; loops.py: for each event loop
    steps.py        what the cache primitive does not do by itself
    reports.py      log lines, signals and counters of what went wrong; signals.py
    locks.py        locks without a database
    sessions.py     a session engine that outlasts an outage
    site.py         all settings of a site at once: settings()
    checks.py       manage.py check; apps.py, management/: for INSTALLED_APPS

Nothing here needs settings to be imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tenantkv.contrib.django.backend import TenantCache
from tenantkv.contrib.django.site import settings

if TYPE_CHECKING:
    from tenantkv.transport.client import TenantRedis

__all__ = ["TenantCache", "get_redis_connection", "settings"]


def get_redis_connection(alias: str = "default", write: bool = True) -> TenantRedis:
    """Return a client for the namespace of a cache, as django-redis's function of that name does.

    It is the tenant's whole namespace and not the cache alone, and has the patience of
    `tenantkv.connect`. What it raises during an outage is the caller's.

    Args:
        alias: of a cache whose backend is `TenantCache`.
        write: for django-redis's callers; there is one server.

    Raises:
        NotImplementedError: the cache has another backend.
    """
    from django.core.cache import caches

    backend: Any = caches[alias]
    if not isinstance(backend, TenantCache):
        raise NotImplementedError(f"the cache {alias!r} is of another backend than TenantCache")
    client: TenantRedis = backend.client.get_client(write)
    return client
