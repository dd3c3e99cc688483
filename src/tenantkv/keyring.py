"""The keyring: a namespace's identity document, and everything that is derived from it.

Laws of this file:

1. Pure: text in, text out. Randomness, the clock and the file come in from ``keyring_store``.
2. The prefix is an address. It is derived from nothing and derives nothing, because it leaks most
   easily and must be replaceable alone. Names hang on the naming secret, values on the keys.
3. Every derivation is HKDF-SHA256 with the salt ``tenantkv/v1`` and a label of its own.
4. No secret leaves by accident: not by ``repr``, ``pickle`` or the text of an error.

`keyring_format` has the document. A key's id is derived from its secret, so that an edited or
mixed-up document is found when it is read.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NoReturn, cast

from tenantkv.errors import ConfigurationError, KeyringFormatError
from tenantkv.keyring_format import (
    SECRET_BYTES,
    DocumentFields,
    FormerFields,
    KeyFields,
    read_document,
    write_document,
)
from tenantkv.protection import TEXT_OPTIONS

KeyState = Literal["primary", "active", "retired"]

ENTROPY_BYTES = 96

_SALT = b"tenantkv/v1"
_STATES = ("primary", "active", "retired")

_KEY_ID = re.compile(r"[0-9a-f]{8}\Z")
_CREATED = re.compile(r"[0-9TZ:.+\-]{0,40}\Z")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}\Z")

# What may stand in a prefix: base64 and base64url, and the joints that tools use by hand. No glob
# character, no brace (it would be a Cluster hash tag), no blank, and no colon (it ends the prefix).
_PREFIX = re.compile(r"[A-Za-z0-9+/=_.\-]+\Z")
_SHORTEST_PREFIX = 16
_LONGEST_PREFIX = 512


def check_prefix(prefix: str) -> str:
    """Return `prefix` if it can stand in front of key names, or say why it cannot.

    Raises:
        ConfigurationError: it is empty, shorter than 16 or longer than 512 characters, or has a
            character that is special to Redis. The text does not repeat the prefix.
    """
    if not prefix:
        raise ConfigurationError("the prefix is empty; 'tenantkv init' makes a random one")
    if not _PREFIX.match(prefix):
        raise ConfigurationError(
            "the prefix has a character outside A-Z a-z 0-9 + / = _ . -; glob characters, braces, "
            "colons and blanks mean something to Redis and would reach other tenants' keys"
        )
    if len(prefix) < _SHORTEST_PREFIX:
        raise ConfigurationError(
            f"the prefix has {len(prefix)} characters and could be guessed; it needs at least "
            f"{_SHORTEST_PREFIX}, and 'tenantkv init' makes one of 44"
        )
    if len(prefix) > _LONGEST_PREFIX:
        raise ConfigurationError(
            f"the prefix has {len(prefix)} characters, and every key on the server would carry "
            f"them; at most {_LONGEST_PREFIX} are allowed"
        )
    return prefix


def check_label(namespace: str) -> str:
    """Return the namespace label if it can name a file, or say why it cannot.

    Raises:
        ConfigurationError: it is not 1 to 64 of the characters A-Z a-z 0-9 _ . - or starts with a
            joint; labels name files, so they cannot hold a slash.
    """
    if not _LABEL.match(namespace):
        raise ConfigurationError(
            "a namespace label has 1 to 64 of the characters A-Z a-z 0-9 _ . - and starts with a "
            "letter or digit"
        )
    return namespace


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """One generation of a namespace's value keys.

    Attributes:
        id: eight hexadecimal digits, derived from the secret; it stands in front of sealed values.
        secret: 32 bytes.
        state: ``primary`` seals and opens, ``active`` opens, ``retired`` is kept only as a record.
        created: when, as ISO 8601 in UTC; may be empty.
    """

    id: str
    secret: bytes
    state: KeyState = "primary"
    created: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.secret, bytes) or len(self.secret) != SECRET_BYTES:
            raise KeyringFormatError(f"a key's secret has {SECRET_BYTES} bytes")
        if not _KEY_ID.match(self.id):
            raise KeyringFormatError("a key id has 8 hexadecimal digits in lower case")
        if self.state not in _STATES:
            raise KeyringFormatError(f"key {self.id}: its state is one of {', '.join(_STATES)}")
        if not _CREATED.match(self.created):
            raise KeyringFormatError(f"key {self.id}: 'created' is not an ISO 8601 time")

    @classmethod
    def from_secret(cls, secret: bytes, *, state: KeyState, created: str = "") -> Key:
        """Return the key of that secret, with the id that follows from it."""
        return cls(_key_id(secret), secret, state, created)

    def derive(self, label: str, length: int) -> bytes:
        """Return the `length` bytes that this key and `label` stand for."""
        return _hkdf(self.secret, label.encode(), length)

    def __repr__(self) -> str:
        return f"<Key {self.id} {self.state}>"

    def __copy__(self) -> Key:
        return self

    def __deepcopy__(self, memo: object) -> Key:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Key is not pickled, since the pickle would hold its secret")


@dataclass(frozen=True, slots=True, repr=False)
class Former:
    """The prefix that is being replaced; keys lie under it until they are moved.

    Attributes:
        prefix: as the keyring's.
        since: when the replacement began, as ISO 8601 in UTC; may be empty.
        is_back: whether keys are on their way back to a prefix that was to be replaced.
    """

    prefix: str
    since: str = ""
    is_back: bool = False

    def __post_init__(self) -> None:
        check_prefix(self.prefix)
        if not _CREATED.match(self.since):
            raise KeyringFormatError("'former': 'since' is not an ISO 8601 time")

    def __repr__(self) -> str:
        return f"<Former since={self.since} is_back={self.is_back}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Former is not pickled, since the pickle would hold a prefix")


@dataclass(frozen=True, slots=True, repr=False)
class Keyring:
    """The identity of a namespace: its prefix, its naming secret and its keys.

    Attributes:
        prefix: what stands in front of the tenant's key names on the server.
        naming: 32 bytes from which channel prefixes, hidden names and children are derived.
        keys: the value keys, of which exactly one is primary.
        namespace: the label that tells a tenant's namespaces apart.
        generation: counts rewrites of the document.
        source: where it was read, as a path or ``env:NAME``; never content.
        settings: pairs of text: what the document says of `Protection`.
        former: while the prefix is being replaced, the one before; such a keyring makes no `Namespace`.

    Example:
        >>> keyring = Keyring.generate(bytes(range(96)))
        >>> len(keyring.prefix), keyring.primary.state
        (44, 'primary')
        >>> Keyring.parse(keyring.dump()) == keyring
        True
    """

    prefix: str
    naming: bytes
    keys: tuple[Key, ...]
    namespace: str = "default"
    generation: int = 1
    source: str | None = field(default=None, compare=False)
    settings: tuple[tuple[str, str], ...] = ()
    former: Former | None = None
    _fingerprint: str = field(init=False, default="", compare=False)

    def __post_init__(self) -> None:
        check_prefix(self.prefix)
        check_label(self.namespace)
        if not isinstance(self.naming, bytes) or len(self.naming) != SECRET_BYTES:
            raise KeyringFormatError(f"the naming secret has {SECRET_BYTES} bytes")
        if not isinstance(self.generation, int) or self.generation < 1:
            raise KeyringFormatError("'generation' is a whole number from 1")
        _check_keys(self.keys)
        if not {name for name, _ in self.settings} <= set(TEXT_OPTIONS):
            raise KeyringFormatError(f"'settings' has more than {', '.join(TEXT_OPTIONS)}")
        if self.former is not None and self.former.prefix == self.prefix:
            raise KeyringFormatError("'former' has the prefix that it is replaced with")
        # The prefix goes in as a hash, so that a short imported prefix cannot be confused with what
        # follows a label. Without the naming secret the result tells nothing about it.
        bound = b"fingerprint:" + hashlib.sha256(self.prefix.encode()).digest()
        object.__setattr__(self, "_fingerprint", _hkdf(self.naming, bound, 8).hex())

    @classmethod
    def generate(
        cls,
        entropy: bytes,
        *,
        prefix: str | None = None,
        namespace: str = "default",
        created: str = "",
        settings: Mapping[str, str] | None = None,
    ) -> Keyring:
        """Return a new identity made of 96 random bytes.

        Args:
            entropy: 32 bytes for the prefix, 32 for names and 32 for the first key.
            prefix: a prefix that the tenant already uses, instead of a random one.
            namespace: the label.
            created: the time, as ISO 8601 in UTC.
            settings: what the namespace's clients are to do, such as ``{"seal": "yes"}``.

        Raises:
            ConfigurationError: wrong amount of entropy, or a prefix or label that cannot be used.
        """
        if len(entropy) != ENTROPY_BYTES:
            raise ConfigurationError(f"a keyring is made of {ENTROPY_BYTES} random bytes")
        if prefix is None:
            prefix = base64.b64encode(entropy[:32]).decode()
        key = Key.from_secret(entropy[64:], state="primary", created=created)
        return cls(prefix, entropy[32:64], (key,), namespace, settings=tuple((settings or {}).items()))

    @classmethod
    def parse(cls, text: str, source: str | None = None) -> Keyring:
        """Return the keyring that a document holds.

        Args:
            text: the document.
            source: where it was read, for `Keyring.source` and for errors; never content.

        Raises:
            KeyringFormatError: it is half-written, of a foreign format or contradicts itself. The
                text says which field is wrong, and never what stands in it.
        """
        try:
            return _from_fields(read_document(text), source)
        except (KeyringFormatError, ConfigurationError) as error:
            problem = str(error)
        place = f"keyring {source}: " if source else "keyring: "
        raise KeyringFormatError(place + problem, source=source)

    def dump(self, *, compact: bool = False) -> str:
        """Return the document, **with its secrets**; ``compact`` gives one line without blanks."""
        keys = [KeyFields(key.id, key.secret, key.state, key.created) for key in self.keys]
        old = self.former
        former = None if old is None else FormerFields(old.prefix, old.since, old.is_back)
        fields = DocumentFields(
            self.generation, self.namespace, self.prefix, self.naming, keys, self.settings, former
        )
        return write_document(fields, compact=compact)

    def derive(self, label: str, length: int) -> bytes:
        """Return the `length` bytes that the naming secret and `label` stand for."""
        return _hkdf(self.naming, label.encode(), length)

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that name this identity and reveal nothing of it."""
        return self._fingerprint

    @property
    def primary(self) -> Key:
        """The key that seals."""
        return next(key for key in self.keys if key.state == "primary")

    def child(self, name: str) -> Keyring:
        """Return the identity of the sub-tenant `name`.

        The same parent and name give the same child everywhere. A child tells nothing about its
        parent or its siblings. The name is the whole rest of the label and each level has secrets
        of its own, so ``child("a").child("b")`` and ``child("a/b")`` have nothing in common.

        Raises:
            ConfigurationError: the name is empty or is not text.
        """
        suffix = _child_suffix(name)
        keys = tuple(
            Key.from_secret(
                _hkdf(key.secret, b"child-key:" + suffix, 32), state=key.state, created=key.created
            )
            for key in self.keys
        )
        prefix = base64.b64encode(_hkdf(self.naming, b"child-prefix:" + suffix, 32)).decode()
        naming = _hkdf(self.naming, b"child-naming:" + suffix, 32)
        return Keyring(prefix, naming, keys, self.namespace, self.generation, self.source, self.settings)

    def __repr__(self) -> str:
        keys = ", ".join(f"{key.id} {key.state}" for key in self.keys)
        return f"<Keyring {self.fingerprint} namespace={self.namespace} keys=[{keys}]>"

    def __copy__(self) -> Keyring:
        return self

    def __deepcopy__(self, memo: object) -> Keyring:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Keyring is not pickled, since the pickle would hold its secrets")


def _hkdf(secret: bytes, label: bytes, length: int) -> bytes:
    # Imported here because it costs 30 ms, and 'import tenantkv' alone derives nothing.
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=length, salt=_SALT, info=label).derive(secret)


def _key_id(secret: bytes) -> str:
    return _hkdf(secret, b"key-id", 4).hex()


def _child_suffix(name: str) -> bytes:
    if not isinstance(name, str) or not name:
        raise ConfigurationError("a child namespace is named by a text that is not empty")
    try:
        return name.encode()
    except UnicodeEncodeError:
        raise ConfigurationError("a child namespace's name is not text in Unicode") from None


def _check_keys(keys: tuple[Key, ...]) -> None:
    if not keys:
        raise KeyringFormatError("'keys' is empty")
    ids = [key.id for key in keys]
    for key_id in ids:
        if ids.count(key_id) > 1:
            raise KeyringFormatError(f"two keys have the id {key_id}")
    primaries = sum(key.state == "primary" for key in keys)
    if primaries != 1:
        raise KeyringFormatError(f"{primaries} keys are 'primary' instead of exactly one")


def _from_fields(fields: DocumentFields, source: str | None) -> Keyring:
    keys: list[Key] = []
    for entry in fields.keys:
        # Key itself checks the state.
        key = Key(entry.id, entry.secret, cast(KeyState, entry.state), entry.created)
        if key.id != _key_id(key.secret):
            raise KeyringFormatError(f"key {key.id} has an id that does not belong to its secret")
        keys.append(key)
    return Keyring(
        fields.prefix,
        fields.naming,
        tuple(keys),
        fields.namespace,
        fields.generation,
        source,
        fields.settings,
        None if fields.former is None else Former(*fields.former),
    )
