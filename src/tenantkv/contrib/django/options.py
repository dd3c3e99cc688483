"""What LOCATION and OPTIONS may say: checked once, and every mistake names what was meant.

Own options are in lower case, as are those of redis-py's connections, which Django's own backend takes
too. django-redis's, in upper case, are taken where they mean the same here, and else told apart.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from django.core.exceptions import ImproperlyConfigured

from tenantkv.cache import CacheSettings, Near
from tenantkv.errors import ConfigurationError

#: Given to `tenantkv.cache.Cache` as they are.
CACHE_OPTIONS = frozenset(
    {"codec", "compress", "early", "jitter", "largest_bytes", "lease", "longest_ttl", "on_outage"}
    | {"plaintext_ok", "stale", "wait", "announce"}
)
#: Given to `tenantkv.connect`: whose namespace, and how it protects values.
CONNECT_OPTIONS = frozenset(
    {"keyring", "namespace", "placement", "registry", "profile"}
    | {"seal", "mode", "names", "plaintext", "allow", "accept_plaintext_until"}
)
#: redis-py's, for each connection.
CONNECTION_OPTIONS = frozenset(
    {"db", "username", "password", "protocol", "client_name", "max_connections", "health_check_interval"}
    | {"socket_keepalive", "socket_keepalive_options", "credential_provider", "lib_name", "lib_version"}
    | {"ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_certfile", "ssl_keyfile", "ssl_password"}
    | {"ssl_cert_reqs", "ssl_check_hostname", "ssl_min_version", "ssl_ciphers"}
)
OWN_OPTIONS = frozenset(
    {"name", "patience", "near", "single_flight", "allow_forever", "seal_sessions", "child"}
)

# Django reads these itself, for backends that count their entries.
_DJANGOS = frozenset({"MAX_ENTRIES", "CULL_FREQUENCY"})
# django-redis's name -> ours.
_SAME = {
    "USERNAME": "username",
    "PASSWORD": "password",
    "SOCKET_TIMEOUT": "patience",
    "SOCKET_CONNECT_TIMEOUT": "patience",
    "socket_timeout": "patience",
    "socket_connect_timeout": "patience",
}
_INSTEAD = {
    "CLIENT_CLASS": "leave it out: for Sentinel or a Cluster say so in LOCATION (sentinel://, redis+cluster://)",
    "SERIALIZER": '\'codec\' is "pickle", "json" or "msgpack"; all of them only within a signature or seal',
    "serializer": '\'codec\' is "pickle", "json" or "msgpack"; all of them only within a signature or seal',
    "PICKLE_VERSION": "leave it out",
    "COMPRESSOR": "'compress': True",
    "PARSER_CLASS": "leave it out: hiredis is used where it is installed",
    "parser_class": "leave it out: hiredis is used where it is installed",
    "pool_class": "leave it out; 'max_connections' bounds the pool",
    "CONNECTION_POOL_CLASS": "leave it out; 'max_connections' bounds the pool",
    "CONNECTION_FACTORY": "leave it out",
    "REDIS_CLIENT_CLASS": "leave it out; get_redis_connection() gives the client",
    "REDIS_CLIENT_KWARGS": "leave it out; get_redis_connection() gives the client",
    "CLOSE_CONNECTION": "leave it out: connections are few, and shared by all threads",
    "REPLICA_READ_ONLY": "leave it out; replicas are found through sentinel:// or redis+cluster://",
    "SENTINELS": "name them in LOCATION: sentinel://host:26379,other:26379/service/0",
    "SENTINEL_KWARGS": "name them in LOCATION: sentinel://host:26379,other:26379/service/0",
    "timeout": "'patience' for the server, TIMEOUT (beside OPTIONS) for entries",
    "KEY_PREFIX": "it stands beside OPTIONS",
    "VERSION": "it stands beside OPTIONS",
    "TIMEOUT": "it stands beside OPTIONS",
    "sealed": "'seal'",
    "hide_names": "'names': \"hidden\"",
}
_KNOWN = CACHE_OPTIONS | CONNECT_OPTIONS | CONNECTION_OPTIONS | OWN_OPTIONS
_SEVERAL = re.compile(r"[,;]\s*(?:rediss?|unix|valkeys?)://")
_PLAIN = re.compile(r"[A-Za-z0-9_.:-]{1,100}\Z")

#: Seconds; a page must not wait for a cache.
PATIENCE = 0.5


@dataclass(frozen=True, slots=True)
class Options:
    """What one entry of CACHES amounts to.

    Attributes:
        url: of the server; ``None`` where the environment tells.
        name: of the cache; aliases of one name share their entries, and `clear()` ends those of all.
        patience: seconds to wait for the server; see `CacheSettings.timeout`.
        single_flight: whether `get_or_set` computes once, however many ask.
        allow_forever: whether ``None`` as a time-out means for ever, and not the ceiling.
        seal_sessions: whether sessions are sealed and their names hidden, whatever the rest is.
        near: see `Cache`.
        longest_ttl: the ceiling of all time-outs, in seconds.
        settings: of `CacheSettings`.
        connect: arguments of `tenantkv.connect`.
        connection: arguments for each connection.
        child: the sub-tenant of the namespace that the cache lies in, or ``None``.
    """

    url: str | None
    name: str
    patience: float
    single_flight: bool
    allow_forever: bool
    seal_sessions: bool
    near: bool | Near
    longest_ttl: float
    settings: Mapping[str, Any]
    connect: Mapping[str, Any]
    connection: Mapping[str, Any]
    child: str | None = None

    @property
    def raises(self) -> bool:
        """Whether an outage is an error."""
        return self.settings.get("on_outage") == "raise"


def read(location: object, params: Mapping[str, Any]) -> Options:
    """Return what an entry of CACHES says, without its BACKEND.

    Raises:
        ImproperlyConfigured: something has no meaning, or contradicts something else.
    """
    given = params.get("OPTIONS") or {}
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured("CACHES: OPTIONS is a dict")
    options = _translate(given)
    unknown = sorted(map(str, options.keys() - _KNOWN))
    if unknown:
        raise ImproperlyConfigured(f"CACHES: {_explain(unknown[0])}")
    picked = {name: value for name, value in options.items() if name in CACHE_OPTIONS}
    settings = {"codec": "pickle", "jitter": 0.0, **picked}
    near = options.get("near", False)
    if settings.get("on_outage") == "stale" and near is False:
        raise ImproperlyConfigured("CACHES: on_outage='stale' serves what is near, so it needs 'near'")
    patience = options.get("patience", PATIENCE)
    try:
        checked = CacheSettings(**settings, ttl=0.001, timeout=patience)
    except ConfigurationError as error:
        raise ImproperlyConfigured(f"CACHES: {error}") from None
    if patience is None:
        raise ImproperlyConfigured("CACHES: 'patience' is a number of seconds")
    if not isinstance(near, (bool, Near)):
        raise ImproperlyConfigured("CACHES: 'near' is True, False or a tenantkv.cache.Near")
    child = options.get("child")
    if child is not None and (not isinstance(child, str) or not child):
        raise ImproperlyConfigured("CACHES: 'child' is the name of a sub-tenant")
    for name in ("single_flight", "allow_forever", "seal_sessions"):
        if not isinstance(options.get(name, False), bool):
            raise ImproperlyConfigured(f"CACHES: {name!r} is True or False")
    return Options(
        url=_url(location),
        name=_name(options.get("name"), params.get("KEY_PREFIX", "")),
        patience=float(patience),
        single_flight=options.get("single_flight", False),
        allow_forever=options.get("allow_forever", False),
        seal_sessions=options.get("seal_sessions", True),
        near=near,
        longest_ttl=float(checked.longest_ttl),
        settings=settings,
        connect={name: value for name, value in options.items() if name in CONNECT_OPTIONS},
        connection={name: value for name, value in options.items() if name in CONNECTION_OPTIONS},
        child=child,
    )


def _translate(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options under our names; what is refused stays as it is."""
    found: dict[str, Any] = {}
    renamed: dict[str, Any] = {}
    for name, value in given.items():
        if name in _DJANGOS:
            continue
        if name == "IGNORE_EXCEPTIONS":
            renamed["on_outage"] = "miss" if value else "raise"
        elif name == "CONNECTION_POOL_KWARGS" and isinstance(value, Mapping):
            renamed.update(_translate(value))
        elif name in _SAME:
            if value is not None:
                # Of two time-outs the shorter one.
                ours = _SAME[name]
                renamed[ours] = min(value, renamed[ours]) if ours in renamed else value
        else:
            found[name] = value
    for name, value in renamed.items():
        if name in found and found[name] != value:
            raise ImproperlyConfigured(f"CACHES: {name!r} is said twice, once under another backend's name")
        found[name] = value
    return found


def _explain(name: str) -> str:
    if name in _INSTEAD:
        return f"TenantCache takes no option {name!r}; {_INSTEAD[name]}"
    alike = difflib.get_close_matches(name.lower(), _KNOWN, 1, 0.6)
    shown = f"did you mean {alike[0]!r}?" if alike else f"it takes {', '.join(sorted(_KNOWN))}"
    return f"TenantCache takes no option {name!r}; {shown}"


def _url(location: object) -> str | None:
    if isinstance(location, (list, tuple)):
        if len(location) > 1:
            raise ImproperlyConfigured(
                "CACHES: LOCATION names one server; behind several, use sentinel:// or redis+cluster://"
            )
        location = location[0] if location else None
    if not location:
        return None
    if not isinstance(location, str):
        raise ImproperlyConfigured("CACHES: LOCATION is the URL of a server")
    if _SEVERAL.search(location):
        raise ImproperlyConfigured(
            "CACHES: LOCATION names one server; behind several, use sentinel:// or redis+cluster://"
        )
    return location


def _name(given: object, key_prefix: object) -> str:
    """Return the cache's name: that of the options, or one made of KEY_PREFIX."""
    if given is not None:
        if not isinstance(given, str) or not _PLAIN.match(given):
            raise ImproperlyConfigured(
                "CACHES: 'name' is text of up to 100 letters, digits and any of '_', '.', ':' and '-'"
            )
        return given
    prefix = str(key_prefix or "")
    if not prefix:
        return "django"
    name = "django-" + quote(prefix, safe=":")
    if len(name) > 100:
        name = f"django-{hashlib.blake2b(prefix.encode(), digest_size=16).hexdigest()}"
    return name


def read_timeout(timeout: object, longest: float, *, allow_forever: bool) -> float | None:
    """Return the TTL for a time-out of Django's, or ``None`` for one that is over.

    Raises:
        TypeError: it is no number.
    """
    if timeout is None:
        return math.inf if allow_forever else longest
    seconds = float(timeout)  # type: ignore[arg-type]
    return seconds if seconds > 0 else None
