"""Settings: a URL, arguments and the environment become one frozen `Settings`.

Pure: the environment comes in as an argument. Precedence: argument, then the URL's query, then the
environment (``TENANTKV_NAMESPACE``, ``TENANTKV_PLACEMENT``, ``TENANTKV_REGISTRY``, and
``TENANTKV_SEAL``, ``TENANTKV_NAMES`` ... for protection), then, for protection, the keyring's own
settings, then the default.

The URL is the first of: the argument, ``TENANTKV_URL``, ``TOOL_REDIS_URI``, ``REDIS_URL``;
without any it is ``embedded://``, and `Settings.url_source` says ``"default"``, so that the caller
can warn.
`urls` has the forms of URLs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from tenantkv.errors import ConfigurationError
from tenantkv.keyring import Keyring, check_label
from tenantkv.namespace import Placement
from tenantkv.protection import TEXT_OPTIONS, Protection
from tenantkv.urls import Kind, ServerURL, parse_truth, parse_url, redact_url

__all__ = ["URL_VARIABLES", "Kind", "Profile", "Settings", "redact_url", "resolve"]

Profile = Literal["shared"]

URL_VARIABLES = ("TENANTKV_URL", "TOOL_REDIS_URI", "REDIS_URL")

_VARIABLES = {
    "namespace": "TENANTKV_NAMESPACE",
    "placement": "TENANTKV_PLACEMENT",
    "registry": "TENANTKV_REGISTRY",
    **{name: f"TENANTKV_{name.upper()}" for name in TEXT_OPTIONS},
}


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """Where the server is and how the namespace lies on it.

    Attributes:
        url: the URL as it was given, **with its password**.
        url_source: ``"argument"``, the name of a variable, or ``"default"``.
        server: the URL's parts; `ServerURL.redis_url` is what redis-py's ``parse_url`` takes.
        namespace: the keyring's label.
        placement: ``"spread"`` or ``"slot"``.
        registry: whether own names are indexed on the server.
        is_registry_chosen: whether somebody said so, or not so.
        profile: ``"shared"`` for an embedded server with a shared one's limits, or ``None``.
        protection: what the URL and the environment say of `Protection`, as texts by name.
    """

    url: str
    url_source: str
    server: ServerURL
    namespace: str = "default"
    placement: Placement = "spread"
    registry: bool = False
    is_registry_chosen: bool = False
    profile: Profile | None = None
    protection: tuple[tuple[str, str], ...] = ()

    @property
    def kind(self) -> Kind:
        """What the URL leads to: server, sentinel, cluster, embedded or memory."""
        return self.server.kind

    @property
    def redis_url(self) -> str:
        """The URL for redis-py, **with its password** and without our own parameters."""
        return self.server.redis_url

    @property
    def redacted_url(self) -> str:
        """The URL without its passwords, for people and logs."""
        return redact_url(self.url)

    def protect(self, keyring: Keyring, asked: Mapping[str, Any] | None = None) -> Protection:
        """Return what is done to values and names: what was asked for, what these say, the keyring's."""
        return Protection.of(**{**dict(keyring.settings), **dict(self.protection), **(asked or {})})

    def __repr__(self) -> str:
        return (
            f"<Settings {self.redacted_url} from={self.url_source} namespace={self.namespace} "
            f"placement={self.placement} registry={self.registry}>"
        )


def resolve(
    url: str | None = None,
    *,
    environ: Mapping[str, str],
    namespace: str | None = None,
    placement: str | None = None,
    registry: bool | None = None,
    profile: str | None = None,
) -> Settings:
    """Return the settings that a URL, arguments and the environment amount to.

    Args:
        url: where the server is; otherwise the environment tells.
        environ: the environment.
        namespace: the keyring's label.
        placement: ``"spread"`` or ``"slot"``.
        registry: whether own names are indexed on the server.
        profile: ``"shared"`` for an embedded server with a shared one's limits.

    Raises:
        ConfigurationError: something has no meaning; the text names what would have, and never
            repeats a password.

    Example:
        >>> settings = resolve("redis://:secret@db/0?placement=slot", environ={})
        >>> settings.redacted_url, settings.placement, settings.redis_url
        ('redis://:***@db/0?placement=slot', 'slot', 'redis://:secret@db:6379?db=0')
    """
    text, source = _choose_url(url, environ)
    try:
        server = parse_url(text)
    except ConfigurationError as error:
        problem = str(error)
    else:
        values = {name: environ[key] for name, key in _VARIABLES.items() if environ.get(key)}
        values.update(server.own)
        arguments = {"namespace": namespace, "placement": placement, "profile": profile}
        values.update({name: value for name, value in arguments.items() if value is not None})
        if registry is not None:
            values["registry"] = str(registry)
        return _settings(text, source, server, values)
    raise ConfigurationError(problem if source == "argument" else f"{source}: {problem}")


def _choose_url(url: str | None, environ: Mapping[str, str]) -> tuple[str, str]:
    if url is not None:
        return url.strip(), "argument"
    for variable in URL_VARIABLES:
        text = environ.get(variable, "").strip()
        if text:
            return text, variable
    return "embedded://", "default"


def _settings(url: str, source: str, server: ServerURL, values: Mapping[str, str]) -> Settings:
    if "profile" in values and server.kind != "embedded":
        raise ConfigurationError("'profile' is for embedded:// only; it shapes a server of our own")
    placement = _one_of("placement", values.get("placement", "spread"), ("spread", "slot"))
    profile = values.get("profile")
    if profile is not None:
        _one_of("profile", profile, ("shared",))
    return Settings(
        url=url,
        url_source=source,
        server=server,
        namespace=check_label(values.get("namespace", "default")),
        placement=cast(Placement, placement),
        registry=parse_truth("registry", values.get("registry", "false")),
        is_registry_chosen="registry" in values,
        profile=cast("Profile | None", profile),
        protection=tuple((name, values[name]) for name in TEXT_OPTIONS if name in values),
    )


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ConfigurationError(f"'{name}' is one of {', '.join(allowed)}, not {value[:40]!r}")
    return value
