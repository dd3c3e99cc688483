"""A whole site's settings from one URL and one keyring: cache, sessions, Celery and Channels.

Each lies in a sub-tenant of its own, so that whatever ends the cache's entries, `clear()` or an emptied
namespace, touches no session, no task and no group.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

from tenantkv.errors import ConfigurationError

#: What each part's sub-tenant is called.
CHILDREN = ("cache", "sessions", "celery", "channels")


def settings(
    url: str | None = None,
    *,
    keyring: str | os.PathLike[str] | None = None,
    namespace: str | None = None,
    seal: bool = True,
) -> dict[str, Any]:
    """Return what a site puts into its settings: ``vars().update(tenantkv.contrib.django.settings())``.

    Settings for Celery are for ``app.config_from_object("django.conf:settings", namespace="CELERY")``; they
    and those for Channels are left out where these are not installed. What stands below that line in the
    site's settings overrides what this says. No round trip; the keyring is read when the first part is used.

    Args:
        url: of the server, as for `tenantkv.connect`; otherwise the environment tells.
        keyring: the keyring's path; otherwise it is found as `tenantkv.connect` finds it.
        namespace: the keyring's label.
        seal: ``False`` signs what the cache and Celery store, and leaves it readable. Sessions and
            Channels are sealed in any case.

    Raises:
        ConfigurationError: the URL or the keyring is of a kind that settings cannot hold.

    Example:
        >>> found = settings("redis://localhost")
        >>> found["CACHES"]["sessions"]["OPTIONS"]["child"], found["SESSION_CACHE_ALIAS"]
        ('sessions', 'sessions')
    """
    who = _identity(keyring, namespace)
    found: dict[str, Any] = {
        "CACHES": {
            "default": _cache(url, {"child": "cache", "seal": seal, **who}),
            "sessions": _cache(url, {"child": "sessions", "name": "sessions", "seal": True, **who}),
        },
        "SESSION_ENGINE": "tenantkv.contrib.django.sessions",
        "SESSION_CACHE_ALIAS": "sessions",
    }
    if find_spec("celery") is not None:
        found.update(_celery(url, {"child": "celery", **who}, seal=seal))
    if find_spec("channels") is not None:
        found["CHANNEL_LAYERS"] = {
            "default": {
                "BACKEND": "tenantkv.contrib.channels.TenantChannelLayer",
                "CONFIG": {"url": url, "child": "channels", **who},
            }
        }
    return found


def _identity(keyring: object, namespace: str | None) -> dict[str, str]:
    who: dict[str, str] = {}
    if keyring is not None:
        if not isinstance(keyring, (str, os.PathLike)) or str(keyring).lstrip()[:1] == "{":
            # Django's error pages and `celery inspect stats` show settings.
            raise ConfigurationError("'keyring' is a file's path here: a document has no place in settings")
        who["keyring"] = os.fspath(keyring)
    if namespace is not None:
        who["namespace"] = namespace
    return who


def _cache(url: str | None, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "BACKEND": "tenantkv.contrib.django.TenantCache",
        "LOCATION": url or "",
        "OPTIONS": options,
    }


def _celery(url: str | None, options: dict[str, Any], *, seal: bool) -> dict[str, Any]:
    """Return what `tenantkv.contrib.celery.configure` would set, under the names for Django."""
    from tenantkv.contrib.celery.settings import SETTINGS

    broker = "tenantkv://" if url is None else f"tenantkv+{url}"
    if not seal:
        options = {**options, "seal": False}
    return {
        "CELERY_BROKER_URL": broker,
        "CELERY_RESULT_BACKEND": broker,
        "CELERY_BROKER_TRANSPORT_OPTIONS": options,
        "CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS": dict(options),
        **{f"CELERY_{name.upper()}": value for name, value in SETTINGS.items()},
    }
