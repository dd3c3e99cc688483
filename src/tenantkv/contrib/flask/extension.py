"""The extension: one client for each application, and what is made of it."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from flask import Flask, current_app

import tenantkv
from tenantkv.cache import Cache
from tenantkv.contrib.entries import Logged
from tenantkv.errors import ConfigurationError
from tenantkv.lock import Lock
from tenantkv.queue import Queue
from tenantkv.rate_limit import RateLimit

_NAME = "tenantkv"


class Tenant:
    """What an application has on the server: ``app.extensions["tenantkv"]``. Threads may share it.

    Attributes:
        kv: the client.

    Args:
        kv: the client.
        cache: arguments of the cache.
    """

    def __init__(self, kv: Any, cache: dict[str, Any]) -> None:
        self.kv = kv
        self._cache = {"name": "flask", **cache}
        # Nothing is sent, but what has no meaning is found when the program starts.
        self.cache  # noqa: B018

    @cached_property
    def cache(self) -> Cache:
        """A cache, with the settings in ``TENANTKV_CACHE``."""
        settings = dict(self._cache)
        on_event = Logged(str(settings["name"]), settings.pop("on_event", None))
        return Cache(self.kv, settings.pop("name"), on_event=on_event, **settings)

    def lock(self, name: str | bytes, **options: Any) -> Lock:
        """Return a lock, for ``with``; see `tenantkv.lock.Lock`."""
        lock: Lock = self.kv.lock(name, **options)
        return lock

    def queue(self, name: str | bytes, **options: Any) -> Queue:
        """Return a queue; see `tenantkv.queue.Queue`."""
        queue: Queue = self.kv.queue(name, **options)
        return queue

    def rate_limit(self, name: str | bytes, limit: int, *, per: float) -> RateLimit:
        """Return a limiter; see `tenantkv.rate_limit.RateLimit`."""
        limiter: RateLimit = self.kv.rate_limit(name, limit, per=per)
        return limiter

    def __repr__(self) -> str:
        return f"<Tenant {self.kv!r}>"


class TenantKV:
    """The extension; in a view it is the present application's `Tenant`: ``tenant.kv``, ``tenant.cache`` ...

    The application's configuration: ``TENANTKV_URL`` (otherwise the environment's), ``TENANTKV_OPTIONS``
    (arguments of `tenantkv.connect`), ``TENANTKV_CACHE`` (arguments of `tenantkv.cache.Cache`), and
    ``SESSION_TYPE = "tenantkv"`` for Flask-Session.

    Args:
        app: the application, or ``None`` where `init_app` comes later.
        client: a :class:`tenantkv.TenantRedis` to use, instead of one of its own.

    Raises:
        ConfigurationError: a setting has no meaning.
        KeyringError: there is no keyring, or it cannot be trusted.

    Example:
        >>> import flask, tenantkv
        >>> kv = tenantkv.connect("memory://", namespace=getfixture("namespace"))
        >>> app = flask.Flask("shop")
        >>> tenant = TenantKV(app, client=kv)
        >>> with app.app_context():
        ...     tenant.cache.set("front", "Hello")
        True
    """

    def __init__(self, app: Flask | None = None, *, client: Any = None) -> None:
        self._client = client
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Give an application its `Tenant`, and its sessions if they are of the type ``"tenantkv"``."""
        config = app.config
        given = self._client
        if given is not None and (config.get("TENANTKV_URL") or config.get("TENANTKV_OPTIONS")):
            raise ConfigurationError("TENANTKV_URL and TENANTKV_OPTIONS say nothing beside a client")
        _add_tenant(app, connect(app) if given is None else given)
        if str(config.get("RATELIMIT_STORAGE_URI") or "").startswith("tenantkv"):
            # Makes the scheme known.
            import tenantkv.contrib.limits  # noqa: F401
        if str(config.get("SESSION_TYPE") or "").lower() == "tenantkv":
            from tenantkv.contrib.flask.sessions import TenantSessions

            app.session_interface = TenantSessions(app)

    @property
    def _tenant(self) -> Tenant:
        found = current_app.extensions.get(_NAME)
        if found is None:
            raise ConfigurationError("this application has no tenantkv extension: call init_app(app)")
        tenant: Tenant = found
        return tenant

    @property
    def kv(self) -> Any:
        """The client."""
        return self._tenant.kv

    @property
    def cache(self) -> Cache:
        """See `Tenant.cache`."""
        return self._tenant.cache

    def lock(self, name: str | bytes, **options: Any) -> Lock:
        """See `Tenant.lock`."""
        return self._tenant.lock(name, **options)

    def queue(self, name: str | bytes, **options: Any) -> Queue:
        """See `Tenant.queue`."""
        return self._tenant.queue(name, **options)

    def rate_limit(self, name: str | bytes, limit: int, *, per: float) -> RateLimit:
        """See `Tenant.rate_limit`."""
        return self._tenant.rate_limit(name, limit, per=per)


def connect(app: Flask, url: str | None = None) -> Any:
    """Return a client as the application's settings say, for another server where there is a `url`."""
    options = app.config.get("TENANTKV_OPTIONS") or {}
    if not isinstance(options, dict):
        raise ConfigurationError("TENANTKV_OPTIONS is a dict: the arguments of tenantkv.connect()")
    return tenantkv.connect(url or app.config.get("TENANTKV_URL"), **options)


def tenant_of(app: Flask) -> Tenant:
    """Return the application's `Tenant`, and make one for those who use a plug-in alone."""
    if _NAME not in app.extensions:
        _add_tenant(app, connect(app))
    tenant: Tenant = app.extensions[_NAME]
    return tenant


def _add_tenant(app: Flask, kv: Any) -> None:
    cache = app.config.get("TENANTKV_CACHE") or {}
    if not isinstance(cache, dict):
        raise ConfigurationError("TENANTKV_CACHE is a dict: the arguments of tenantkv.cache.Cache")
    app.extensions[_NAME] = Tenant(kv, cache)


def given_client(name: str, value: Any) -> Any:
    """Return a client that another library's setting holds.

    Raises:
        ConfigurationError: it is another library's client, or the name of a host.
    """
    if isinstance(value, (str, bytes)) or not hasattr(value, "namespace"):
        raise ConfigurationError(
            f"{name} is a tenantkv client here, or left out; a server is named by a URL, TENANTKV_URL"
        )
    return value
