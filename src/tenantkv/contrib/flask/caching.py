"""The backend for Flask-Caching: ``CACHE_TYPE = "tenantkv.contrib.flask.TenantCache"``."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from flask import Flask
from flask_caching.backends.base import BaseCache

from tenantkv.contrib import cachelib
from tenantkv.contrib.flask.extension import connect, given_client, tenant_of
from tenantkv.errors import ConfigurationError

_ELSEWHERE = ("CACHE_REDIS_PORT", "CACHE_REDIS_DB", "CACHE_REDIS_PASSWORD", "CACHE_REDIS_CLUSTER")


class TenantCache(cachelib.TenantCache, BaseCache):
    """Flask-Caching's cache on a shared server.

    ``CACHE_KEY_PREFIX`` is the cache's name, ``CACHE_DEFAULT_TIMEOUT`` its TTL, and ``CACHE_OPTIONS`` has
    what `tenantkv.contrib.cachelib.TenantCache` takes: ``seal``, ``hide_names``, ``near``, ``codec``,
    ``on_outage``, ``timeout`` ... The server is ``CACHE_REDIS_URL``'s, or the extension's.
    """

    @classmethod
    def factory(
        cls, app: Flask, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]
    ) -> TenantCache:
        """Return the backend for an application; what Flask-Caching calls.

        Raises:
            ConfigurationError: a setting has no meaning.
        """
        url, host = config.get("CACHE_REDIS_URL"), config.get("CACHE_REDIS_HOST")
        told = [name for name in _ELSEWHERE if config.get(name)]
        if told:
            raise ConfigurationError(f"{told[0]} says nothing here: CACHE_REDIS_URL or TENANTKV_URL does")
        if args:
            raise ConfigurationError("CACHE_ARGS says nothing here: CACHE_OPTIONS does")
        if url and host is not None:
            raise ConfigurationError("CACHE_REDIS_URL and CACHE_REDIS_HOST contradict each other")
        if url:
            client = connect(app, url)
        elif host is not None:
            client = given_client("CACHE_REDIS_HOST", host)
        else:
            client = tenant_of(app).kv
        return cls(client, **{"name": _name(config.get("CACHE_KEY_PREFIX")), **kwargs})


def _name(prefix: object) -> str:
    """Return the cache's name for a prefix, which may hold what no name does."""
    if not isinstance(prefix, (str, type(None))):
        raise ConfigurationError("CACHE_KEY_PREFIX is text: the cache's name")
    return quote(prefix, safe=":") if prefix else "flask"
