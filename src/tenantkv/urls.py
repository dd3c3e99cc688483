"""Server URLs: which there are, what their parts mean, and how they are shown without passwords.

=====================================  =======================================================
``redis://user:password@host:port/0``  a server; ``rediss://`` with TLS
``unix:///path/to.sock?db=0``          a server on a unix socket
``sentinel://h1:26379,h2/service/0``   a service that Sentinels know (``rediss+sentinel://``)
``redis+cluster://h1:7000,h2``         a cluster, also ``cluster://`` (``rediss+cluster://``)
``embedded://``                        a private server of this process's own
``embedded:///directory``              the same, which keeps its data there
``memory://``                          fakeredis, for tests
``host:port``, ``/path/to.sock``       as some platforms spell ``redis://`` and ``unix://``
=====================================  =======================================================

The query holds our own parameters (`OWN_PARAMETERS`) and redis-py's; any other is refused.

Pure. What cannot be read as a URL may be a password with a character that should have been
percent-encoded, so no error repeats a part of the URL other than a well-formed scheme or name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote, unquote_plus, urlencode

from tenantkv.errors import ConfigurationError
from tenantkv.protection import TEXT_OPTIONS

Kind = Literal["server", "sentinel", "cluster", "embedded", "memory"]

# Scheme -> what it leads to, and the scheme that redis-py knows.
SCHEMES: Mapping[str, tuple[Kind, str]] = {
    "redis": ("server", "redis"),
    "rediss": ("server", "rediss"),
    "unix": ("server", "unix"),
    "sentinel": ("sentinel", "redis"),
    "redis+sentinel": ("sentinel", "redis"),
    "rediss+sentinel": ("sentinel", "rediss"),
    "cluster": ("cluster", "redis"),
    "redis+cluster": ("cluster", "redis"),
    "rediss+cluster": ("cluster", "rediss"),
    "embedded": ("embedded", ""),
    "memory": ("memory", ""),
}

OWN_PARAMETERS = ("namespace", "placement", "registry", "profile", *TEXT_OPTIONS)

# What redis-py's connections and pools take from a URL. `tests/unit/test_config.py` compares this
# with the installed redis-py: a misspelt parameter is better refused here than found there late.
REDIS_PARAMETERS = frozenset(
    {
        "client_name",
        "db",
        "decode_responses",
        "encoding",
        "encoding_errors",
        "health_check_interval",
        "legacy_responses",
        "lib_name",
        "lib_version",
        "max_connections",
        "password",
        "protocol",
        "retry_on_error",
        "retry_on_timeout",
        "socket_connect_timeout",
        "socket_keepalive",
        "socket_read_size",
        "socket_timeout",
        "ssl_ca_certs",
        "ssl_ca_data",
        "ssl_ca_path",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_ciphers",
        "ssl_exclude_verify_flags",
        "ssl_include_verify_flags",
        "ssl_keyfile",
        "ssl_min_version",
        "ssl_ocsp_expected_cert",
        "ssl_password",
        "ssl_validate_ocsp",
        "ssl_validate_ocsp_stapled",
        "timeout",
        "username",
    }
)
# For the Sentinels themselves, whose password is not the server's.
SENTINEL_PARAMETERS = frozenset({"sentinel_username", "sentinel_password", "sentinel_socket_timeout"})
# redis-py 8.1 takes these from a URL as text, so that "False" would mean true.
_TRUTH_PARAMETERS = ("decode_responses", "ssl_validate_ocsp", "ssl_validate_ocsp_stapled")
_TRUTHS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}

_DEFAULT_PORTS = {"server": 6379, "sentinel": 26379, "cluster": 6379}
_HIGHEST_PORT = 65535

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{0,23}\Z")
_PARAMETER = re.compile(r"[A-Za-z_]{1,40}\Z")
_DATABASE = re.compile(r"[0-9]{1,5}\Z")
_USERNAME = re.compile(r"[A-Za-z0-9_.\-]{1,64}\Z")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.\-%]*)(?::([0-9]{1,5}))?\Z")
# A host without a scheme: with a port, with a dot, or "localhost". Any other bare word is rather a
# slip of the pen in "embedded://", or a password.
_BARE_HOST = re.compile(
    r"(?:[A-Za-z0-9_.\-]+:[0-9]{1,5}|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?"
    r"|localhost|[A-Za-z0-9_\-]+(?:\.[A-Za-z0-9_\-]+)+)(?:/[0-9]{0,5})?\Z"
)
_SECRET_NAME = re.compile(r"pass|secret|token|credential|auth", re.IGNORECASE)


@dataclass(frozen=True, slots=True, repr=False)
class ServerURL:
    """What a URL says.

    Attributes:
        kind: what it leads to.
        scheme: the one that redis-py knows; empty for embedded and memory servers.
        userinfo: ``user:password``, percent-encoded.
        hosts: (host, port) of each.
        path: a unix socket's path or an embedded server's directory, as it was given (that is,
            percent-encoded).
        service: the Sentinel service's name.
        db: the database's number.
        query: redis-py's parameters but for ``db``, percent-encoded.
        sentinel_options: the ``sentinel_*`` parameters, without ``sentinel_``.
        own: our own parameters.
    """

    kind: Kind
    scheme: str
    userinfo: str = ""
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    db: int = 0
    query: str = ""
    sentinel_options: tuple[tuple[str, str], ...] = ()
    own: tuple[tuple[str, str], ...] = ()

    @property
    def redis_url(self) -> str:
        """The same for redis-py's ``parse_url``; of several hosts, the first."""
        if not self.scheme:
            return ""
        at = f"{self.userinfo}@" if self.userinfo else ""
        query = f"db={self.db}" + (f"&{self.query}" if self.query else "")
        if self.scheme == "unix":
            return f"unix://{at}{self.path}?{query}"
        host, port = self.hosts[0]
        shown = f"[{host}]" if ":" in host else host
        return f"{self.scheme}://{at}{shown}:{port}?{query}"

    def __repr__(self) -> str:
        return f"<ServerURL {self.kind}>"


def parse_url(text: str) -> ServerURL:
    """Return what a URL says.

    Raises:
        ConfigurationError: it is none of the forms in this module's docstring.
    """
    scheme, rest = _split_scheme(text)
    kind, redis_scheme = SCHEMES[scheme]
    if "#" in rest:
        raise ConfigurationError("the URL has a '#'; in a password it has to be written %23")
    location, _, query = rest.partition("?")
    url = ServerURL(kind, redis_scheme)
    # The location first: if a '?' in a password starts the "query", the error must not name it.
    if redis_scheme:
        url = _locate(url, scheme, location)
    elif location.startswith("/") and kind == "embedded":
        url = replace(url, path="" if location == "/" else location)
    elif location:
        raise ConfigurationError(f"{scheme}:// takes no host or password")
    parameters = _parameters(query, _allowed(kind, scheme))
    return _with_parameters(url, scheme, location, parameters)


def redact_url(url: str) -> str:
    """Return `url` without passwords, also if it is malformed.

    Everything before the last ``@`` counts as user and password, so that a password which should
    have been percent-encoded is not shown in part. Of the query only known, harmless parameters
    keep their values.
    """
    scheme, separator, rest = url.strip().partition("://")
    if not separator:
        scheme, rest = "", url.strip()
    userinfo, at, location = rest.rpartition("@")
    username, colon, password = userinfo.partition(":")
    shown = username if _USERNAME.match(username) and password else ""
    user = f"{shown}{':' if shown or colon else ''}***@" if at else ""
    location, mark, query = location.partition("?")
    authority, slash, path = location.partition("/")
    if not all(_HOST.match(host) for host in authority.split(",")):
        authority, slash, path = "***", "", ""
    pieces = [_redact_parameter(piece) for piece in re.split("[&;]", query)] if query else []
    shown_scheme = scheme if _SCHEME.match(scheme) else "***"
    return (
        f"{shown_scheme}://" if separator else ""
    ) + f"{user}{authority}{slash}{path.partition('#')[0]}{mark}{'&'.join(pieces)}"


def parse_truth(name: str, value: str) -> bool:
    """Return the truth that a text such as ``yes`` or ``0`` states.

    Raises:
        ConfigurationError: it states none.
    """
    truth = _TRUTHS.get(value.lower())
    if truth is None:
        raise ConfigurationError(f"'{name}' is one of {', '.join(_TRUTHS)}")
    return truth


def _split_scheme(text: str) -> tuple[str, str]:
    text = text.strip()
    if not text:
        raise ConfigurationError("the URL is empty")
    if not text.isprintable() or " " in text:
        raise ConfigurationError("the URL has a blank or control character inside")
    scheme, separator, rest = text.partition("://")
    if separator and scheme.lower() in SCHEMES:
        return scheme.lower(), rest
    known = ", ".join(f"{name}://" for name in SCHEMES)
    if not separator:
        if text.startswith("/"):
            return "unix", text
        if _BARE_HOST.match(text):
            return "redis", text
        raise ConfigurationError(f"the URL has no scheme; it is host:port, or one of {known}")
    shown = f"'{scheme}' is no scheme that we know" if _SCHEME.match(scheme) else "no scheme"
    raise ConfigurationError(f"the URL is wrong: {shown}; it is one of {known}{_hint(scheme)}")


def _hint(word: str, known: Iterable[str] = SCHEMES) -> str:
    # Only for an error, as it takes its time to import.
    import difflib

    close = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.75)
    return f" (perhaps {close[0]})" if close else ""


def _allowed(kind: Kind, scheme: str) -> frozenset[str]:
    names = REDIS_PARAMETERS | set(OWN_PARAMETERS)
    if kind == "sentinel":
        names |= SENTINEL_PARAMETERS
    if not scheme.startswith("rediss"):
        names = frozenset(name for name in names if not name.startswith("ssl_"))
    return names


def _parameters(query: str, allowed: frozenset[str]) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in allowed:
            shown = f"'{name}'" if _PARAMETER.match(name) else "one"
            why = ""
            if name in REDIS_PARAMETERS:
                why = "; it needs TLS, that is rediss://"
            elif name in SENTINEL_PARAMETERS:
                why = "; it is for sentinel:// URLs"
            raise ConfigurationError(
                f"the URL has a parameter that it cannot have: {shown}{why or _hint(name, allowed)}"
                f" (ours are {', '.join(OWN_PARAMETERS)}; the others are redis-py's)"
            )
        if name in parameters:
            raise ConfigurationError(f"the URL has the parameter '{name}' twice")
        if not value:
            raise ConfigurationError(f"the URL's parameter '{name}' has no value")
        parameters[name] = value
    return parameters


def _locate(url: ServerURL, scheme: str, location: str) -> ServerURL:
    """Read user, hosts, and path or service."""
    authority, _, path = location.partition("/")
    user, _, hosts = authority.rpartition("@")
    # Encoded anew, since urllib stumbles over some characters that people leave as they are.
    userinfo = ":".join(quote(unquote(part), safe="") for part in user.split(":", 1))
    if scheme == "unix":
        if hosts or not path:
            raise ConfigurationError("a unix URL has three slashes: unix:///path/to.sock")
        return replace(url, userinfo=userinfo, path=f"/{path}")
    if "@" in path:
        raise ConfigurationError(
            "the URL has '/' in front of its last '@'; in a password write / as %2F, ? as %3F, "
            "# as %23, @ as %40 and % as %25"
        )
    located = tuple(_host(host, _DEFAULT_PORTS[url.kind]) for host in hosts.split(","))
    if len(located) > 1 and url.kind == "server":
        raise ConfigurationError("the URL has several hosts; they are for sentinel:// and redis+cluster://")
    service = ""
    if url.kind == "sentinel":
        service = unquote(path.partition("/")[0])
        if not hosts or not service:
            raise ConfigurationError(
                "a Sentinel URL names hosts and the service: sentinel://host:26379,host2/service/0"
            )
    return replace(url, userinfo=userinfo, hosts=located, service=service)


def _host(text: str, default_port: int) -> tuple[str, int]:
    match = _HOST.match(text)
    port = int(match[2]) if match and match[2] else default_port
    if match is None or not 1 <= port <= _HIGHEST_PORT:
        raise ConfigurationError(
            "the URL's host or port is wrong (the port is 1 to 65535; in a password write / as "
            "%2F, ? as %3F, # as %23, @ as %40 and % as %25)"
        )
    return unquote(match[1].strip("[]")) or "localhost", port


def _with_parameters(url: ServerURL, scheme: str, location: str, parameters: dict[str, str]) -> ServerURL:
    """Sort the query's parameters by whom they are for."""
    db = _database(url, scheme, location, parameters.pop("db", None))
    own: list[tuple[str, str]] = []
    sentinel: list[tuple[str, str]] = []
    redis: list[tuple[str, str]] = []
    for name, value in parameters.items():
        if name in OWN_PARAMETERS:
            own.append((name, value))
        elif name in SENTINEL_PARAMETERS:
            sentinel.append((name.removeprefix("sentinel_"), value))
        elif name not in _TRUTH_PARAMETERS:
            redis.append((name, value))
        elif parse_truth(name, value):
            redis.append((name, "True"))
    return replace(url, db=db, query=urlencode(redis), sentinel_options=tuple(sentinel), own=tuple(own))


def _database(url: ServerURL, scheme: str, location: str, asked: str | None) -> int:
    path = "" if url.path else location.partition("/")[2]
    if url.kind == "sentinel":
        path = path.partition("/")[2]
    numbers = {text for text in (path.rstrip("/"), asked) if text}
    if len(numbers) > 1 or not all(_DATABASE.match(text) for text in numbers):
        raise ConfigurationError("the URL's database is one number, such as /0 at its end or ?db=0")
    number = int(numbers.pop()) if numbers else 0
    if number and url.kind == "cluster":
        raise ConfigurationError("a cluster has only the database 0")
    return number


def _redact_parameter(piece: str) -> str:
    name = unquote_plus(piece.partition("=")[0])
    known = name in REDIS_PARAMETERS or name in SENTINEL_PARAMETERS or name in OWN_PARAMETERS
    if known and "=" in piece:
        return f"{name}=***" if _SECRET_NAME.search(name) else piece.partition("#")[0]
    return "***"
