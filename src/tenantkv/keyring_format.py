"""The keyring document: JSON text to checked fields and back.

One JSON object::

    tenantkv_keyring  1
    generation        counts the rewrites of this document, from 1
    namespace         the label: which of the tenant's namespaces this is
    prefix            44 characters of base64, or what 'tenantkv init --import-prefix' was given
    naming            base64 of 32 bytes; stable, since names hang on it
    keys              one or more of {id, secret, state, created}; one has the state "primary"
    settings          may be absent: texts by name, such as {"seal": "yes"}; see `protection`
    former            only while a prefix is being replaced: {prefix, since, is_back}; see `rotation`

Pure. Errors say which field is wrong and never what stands in it, and they have no
``__context__``, since a ``JSONDecodeError`` carries the whole document with it. What the fields
mean, and whether they fit together, is `keyring`'s to know.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from tenantkv.errors import KeyringFormatError

FORMAT_VERSION = 1
SECRET_BYTES = 32

_FIELDS = ("tenantkv_keyring", "generation", "namespace", "prefix", "naming", "keys")
_KEY_FIELDS = ("id", "secret", "state", "created")
_FORMER_FIELDS = ("prefix", "since", "is_back")
_LARGEST_NUMBER = 10**6


class KeyFields(NamedTuple):
    """What the document says of one key."""

    id: str
    secret: bytes
    state: str
    created: str

    def __repr__(self) -> str:
        return "<KeyFields>"


class FormerFields(NamedTuple):
    """What the document says of the prefix that is being replaced."""

    prefix: str
    since: str
    is_back: bool

    def __repr__(self) -> str:
        return "<FormerFields>"


class DocumentFields(NamedTuple):
    """What the document says."""

    generation: int
    namespace: str
    prefix: str
    naming: bytes
    keys: Sequence[KeyFields]
    settings: tuple[tuple[str, str], ...] = ()
    former: FormerFields | None = None

    def __repr__(self) -> str:
        return "<DocumentFields>"


def read_document(text: str) -> DocumentFields:
    """Return the fields of a keyring document.

    Raises:
        KeyringFormatError: half-written, foreign, of another version, or a field is missing,
            unknown or of the wrong type.
    """
    document = _load_json(text)
    if not isinstance(document, dict) or "tenantkv_keyring" not in document:
        raise KeyringFormatError("it is not a tenantkv keyring: 'tenantkv_keyring' is missing")
    _check_version(document["tenantkv_keyring"])
    settings = document.pop("settings", {})
    former = document.pop("former", None)
    _check_fields(document, _FIELDS, "the document")
    if not isinstance(settings, dict) or not all(isinstance(value, str) for value in settings.values()):
        raise KeyringFormatError("'settings' is not an object of texts")
    generation, entries = document["generation"], document["keys"]
    if type(generation) is not int or not 1 <= generation <= _LARGEST_NUMBER:
        raise KeyringFormatError("'generation' is not a whole number from 1")
    if not isinstance(entries, list):
        raise KeyringFormatError("'keys' is not a list")
    return DocumentFields(
        generation=generation,
        namespace=_text(document, "namespace", "the document"),
        prefix=_text(document, "prefix", "the document"),
        naming=_secret(document, "naming", "the document"),
        keys=[_read_key(entry, f"key number {number}") for number, entry in enumerate(entries, 1)],
        settings=tuple(settings.items()),
        former=None if former is None else _read_former(former),
    )


def write_document(fields: DocumentFields, *, compact: bool) -> str:
    """Return the document of those fields; ``compact`` gives one line without blanks."""
    document: dict[str, Any] = {
        "tenantkv_keyring": FORMAT_VERSION,
        "generation": fields.generation,
        "namespace": fields.namespace,
        "prefix": fields.prefix,
        "naming": base64.b64encode(fields.naming).decode(),
        "keys": [
            {
                "id": key.id,
                "secret": base64.b64encode(key.secret).decode(),
                "state": key.state,
                "created": key.created,
            }
            for key in fields.keys
        ],
    }
    if fields.settings:
        document["settings"] = dict(fields.settings)
    if fields.former:
        document["former"] = fields.former._asdict()
    if compact:
        return json.dumps(document, separators=(",", ":"))
    return json.dumps(document, indent=2) + "\n"


def _load_json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique_fields)
    except json.JSONDecodeError as error:
        problem = f"it stops being JSON at line {error.lineno}, column {error.colno}"
    except (ValueError, RecursionError):
        problem = "it is not JSON"
    if not text.strip():
        problem = "it is empty"
    raise KeyringFormatError(f"{problem}; it was half-written, cut or never was a keyring")


def _unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise KeyringFormatError("a field stands twice in one object")
    return fields


def _check_version(version: object) -> None:
    if type(version) is int and version == FORMAT_VERSION:
        return
    known = type(version) is int and abs(version) <= _LARGEST_NUMBER
    raise KeyringFormatError(
        f"'tenantkv_keyring' is {version if known else 'not a version'}, and this tenantkv reads "
        f"version {FORMAT_VERSION}; a newer tenantkv may have written it"
    )


def _check_fields(fields: dict[str, Any], known: tuple[str, ...], place: str) -> None:
    missing = [name for name in known if name not in fields]
    if missing:
        raise KeyringFormatError(f"{place} has no field '{missing[0]}'")
    # An unknown field is refused, because the next rewrite of the document would drop it. Its name
    # is not repeated: in a foreign document anything may stand there.
    if len(fields) != len(known):
        raise KeyringFormatError(f"{place} has fields besides {', '.join(known)}")


def _read_key(entry: object, place: str) -> KeyFields:
    if not isinstance(entry, dict):
        raise KeyringFormatError(f"{place} is not an object")
    _check_fields(entry, _KEY_FIELDS, place)
    return KeyFields(
        id=_text(entry, "id", place),
        secret=_secret(entry, "secret", place),
        state=_text(entry, "state", place),
        created=_text(entry, "created", place),
    )


def _read_former(entry: object) -> FormerFields:
    if not isinstance(entry, dict):
        raise KeyringFormatError("'former' is not an object")
    _check_fields(entry, _FORMER_FIELDS, "'former'")
    if not isinstance(entry["is_back"], bool):
        raise KeyringFormatError("'former': 'is_back' is neither true nor false")
    return FormerFields(
        _text(entry, "prefix", "'former'"), _text(entry, "since", "'former'"), entry["is_back"]
    )


def _text(fields: dict[str, Any], name: str, place: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise KeyringFormatError(f"{place}: '{name}' is not a text")
    return value


def _secret(fields: dict[str, Any], name: str, place: str) -> bytes:
    text = _text(fields, name, place)
    try:
        secret = base64.b64decode(text, validate=True)
    except ValueError:
        secret = b""
    # Encoding it again also refuses base64 with stray bits, of which two texts mean one secret.
    if len(secret) != SECRET_BYTES or base64.b64encode(secret).decode() != text:
        raise KeyringFormatError(f"{place}: '{name}' is not base64 of {SECRET_BYTES} bytes")
    return secret
