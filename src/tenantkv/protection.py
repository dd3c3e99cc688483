"""Settings: how a namespace keeps its values and its names. Pure data, and it holds no secret.

`protector` acts on them; ``connect()``, the URL, the environment and the keyring say them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from typing import Any, Literal, get_args

from tenantkv.errors import ConfigurationError

Mode = Literal["seal", "sign"]
Names = Literal["plain", "hidden"]
Plaintext = Literal["refuse", "warn", "off"]

_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Protection:
    """What is done to values on their way to the server, and back.

    Attributes:
        seal: whether all values are sealed; those wrapped in :class:`tenantkv.Secret` always are.
        mode: ``"seal"`` encrypts and authenticates, ``"sign"`` leaves values readable.
        names: ``"hidden"`` shows the server keyed hashes in the place of key names.
        plaintext: what becomes of a value that looks like a secret and would be stored in clear:
            ``"refuse"``, ``"warn"`` or ``"off"``.
        plaintext_keys: globs of own key names whose values are not sealed, such as counters.
        plaintext_channels: the same for channels.
        contexts: pairs of a glob and the name that goes into the seals of all matching keys.
        allow: triples of a glob, a detector's rule (``"*"`` for all) and the reason why values of such
            keys may look like secrets.
        accept_plaintext_until: until then (Unix seconds) values without a seal are read as they are,
            and counted, while old data is moved; ``None`` never.
        bind_ttl: whether the TTL of SET and its kin goes into the seal, so that nobody can keep a
            value alive for longer.
        plaintext_ok: why the values written now may be stored in clear, though they look like secrets.

    Example:
        >>> Protection.of(seal="yes", plaintext_keys="hits:*, visits")
        Protection(seal=True, plaintext_keys=('hits:*', 'visits'))
    """

    seal: bool = False
    mode: Mode = "seal"
    names: Names = "plain"
    plaintext: Plaintext = "refuse"
    plaintext_keys: tuple[str, ...] = ()
    plaintext_channels: tuple[str, ...] = ()
    contexts: tuple[tuple[str, str], ...] = ()
    allow: tuple[tuple[str, str, str], ...] = ()
    accept_plaintext_until: float | None = None
    bind_ttl: bool = False
    plaintext_ok: str | None = None

    @classmethod
    def of(cls, base: Protection | None = None, **values: Any) -> Protection:
        """Return `base` with some values changed, which may come as texts of a URL.

        Raises:
            ConfigurationError: a name or a value has no meaning; the text names those that have one.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(values.keys() - known)
        if unknown:
            raise ConfigurationError(f"{unknown[0]!r} says nothing about protection; {sorted(known)} do")
        kept = {name: getattr(base, name) for name in known} if base is not None else {}
        return cls(**{**kept, **{name: _READERS[name](name, value) for name, value in values.items()}})

    def __post_init__(self) -> None:
        for name, allowed in (("mode", Mode), ("names", Names), ("plaintext", Plaintext)):
            if getattr(self, name) not in get_args(allowed):
                raise ConfigurationError(f"'{name}' is one of {', '.join(get_args(allowed))}")

    def __repr__(self) -> str:
        changed = (field.name for field in fields(self) if getattr(self, field.name) != field.default)
        return f"Protection({', '.join(f'{name}={getattr(self, name)!r}' for name in changed)})"


def _truth(name: str, value: Any) -> bool:
    word = value.strip().lower() if isinstance(value, str) else value
    if word is True or word in _YES:
        return True
    if word is False or word in _NO:
        return False
    raise ConfigurationError(f"'{name}' is true or false")


def _as_it_is(_name: str, value: Any) -> Any:
    return value


def _globs(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [glob.strip() for glob in value.split(",")]
    if not isinstance(value, Iterable) or isinstance(value, (bytes, Mapping)):
        raise ConfigurationError(f"'{name}' is a list of globs")
    return tuple(filter(None, (_text(name, "is a list of globs, each a text", glob) for glob in value)))


def _text(name: str, wanted: str, value: Any) -> str:
    try:
        text = value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        text = None
    if not isinstance(text, str):
        raise ConfigurationError(f"'{name}' {wanted}")
    return text


def _contexts(name: str, value: Any) -> tuple[tuple[str, str], ...]:
    wanted = "gives a name for each glob: {'jobs:*': 'jobs'}"
    pairs = value.items() if isinstance(value, Mapping) else value
    if isinstance(pairs, (str, bytes)) or not isinstance(pairs, Iterable):
        raise ConfigurationError(f"'{name}' {wanted}")
    found = []
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise ConfigurationError(f"'{name}' {wanted}")
        found.append((_text(name, wanted, pair[0]), _text(name, wanted, pair[1])))
    return tuple(found)


def _allowances(name: str, value: Any) -> tuple[tuple[str, str, str], ...]:
    # Here and not above: most namespaces allow nothing, and the detector comes with the first command.
    from tenantkv.secrets.detector import Allowance

    wanted = "is a list of (glob, rule, reason)"
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise ConfigurationError(f"'{name}' {wanted}")
    found = []
    for entry in value:
        is_made = isinstance(entry, Allowance)
        parts = (entry.name, entry.rule, entry.reason) if is_made else entry
        if not isinstance(parts, (tuple, list)) or not 1 <= len(parts) <= 3:
            raise ConfigurationError(f"'{name}' {wanted}")
        texts = [_text(name, wanted, part) for part in parts]
        try:
            made = Allowance(*texts)
        except ValueError as error:
            raise ConfigurationError(f"'{name}': {error}") from None
        found.append((made.name, made.rule, made.reason))
    return tuple(found)


def _moment(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return value
    try:
        if isinstance(value, str) and value.strip().isdigit():
            return float(value)
        # Before Python 3.11 an offset is not written as Z.
        given: Any = value.strip().replace("Z", "+00:00") if isinstance(value, str) else value
        when = given if isinstance(given, datetime) else datetime.fromisoformat(given)
    except (TypeError, ValueError):
        raise ConfigurationError(f"'{name}' is a date such as 2027-01-31, or Unix seconds") from None
    # A date without a zone is one in UTC, on every machine.
    return (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp()


def _reason(name: str, value: Any) -> str | None:
    if value is None or (isinstance(value, str) and value.strip()):
        return value
    raise ConfigurationError(f"'{name}' takes the reason why what is written is no secret, as text")


_READERS = {
    "seal": _truth,
    "mode": _as_it_is,
    "names": _as_it_is,
    "plaintext": _as_it_is,
    "plaintext_keys": _globs,
    "plaintext_channels": _globs,
    "contexts": _contexts,
    "allow": _allowances,
    "accept_plaintext_until": _moment,
    "bind_ttl": _truth,
    "plaintext_ok": _reason,
}

#: The names that ``connect()`` takes.
OPTIONS = frozenset(_READERS)
#: The names that a URL, the environment and a keyring may say.
TEXT_OPTIONS = ("seal", "mode", "names", "plaintext", "plaintext_keys", "accept_plaintext_until", "bind_ttl")
