"""Values to bytes and back: bytes and text as they are, JSON, and pickle inside a seal only.

==== ==============================
byte what follows
==== ==============================
0x00 bytes
0x01 text, as UTF-8
0x02 JSON, compact, as UTF-8
0x03 pickle, protocol 5
==== ==============================

Laws of this file:

1. Pure. Unpickling runs whatever the pickle says, so it happens only where the caller says that the
   bytes came out of an envelope, and pickling only where the caller will put them into one.
2. What goes in comes out equal, or is refused going in: a cache that gave a list where it was given
   a tuple would make a hit differ from a miss.
3. Every damage is one error, `CodecError`, whose text shows nothing of the value.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, cast

from tenantkv.errors import CodecError

_BYTES, _TEXT, _JSON, _PICKLE = b"\0", b"\1", b"\2", b"\3"
#: The first byte of a pickle's payload.
PICKLE = _PICKLE[0]
UNLOADABLE = "a pickle cannot be loaded: its class is gone, changed or of another program"
# Protocol 5 is of Python 3.8, so every Python that we support reads it.
_PROTOCOL = 5
# One encoder, as making it takes as long as encoding something small; and a decoder that need not find out
# which encoding it is.
_to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
_from_json = json.JSONDecoder().decode
_SCALARS = frozenset({str, int, float, bool, type(None)})
_KEYS = frozenset({str})
_NESTED = frozenset({list, dict})
_PLAIN = _SCALARS | _NESTED


def encode(value: object, *, allow_pickle: bool = False) -> bytes:
    """Return the bytes of a value.

    Args:
        value: bytes, text, or anything that JSON brings back equal.
        allow_pickle: whether everything else is pickled. Only for bytes that are then sealed or signed.

    Raises:
        CodecError: it is nothing of these.

    Example:
        >>> decode(encode({"a": [1, 2.5, None, "x"]}))
        {'a': [1, 2.5, None, 'x']}
    """
    if type(value) is bytes:
        return _BYTES + value
    try:
        if type(value) is str:
            return _TEXT + value.encode()
        if _is_plain(value):
            return _JSON + _to_json(value).encode()
    except (ValueError, RecursionError):
        pass
    if allow_pickle:
        return _PICKLE + _pickle(value)
    raise CodecError(
        f"a {type(value).__name__} is neither bytes nor text, and JSON does not bring it back as it is; "
        "convert it first (tuples to lists, keys to text)"
    )


def decode(data: bytes, *, is_authentic: bool = False) -> Any:
    """Return the value that `encode` made bytes of.

    Args:
        data: the bytes.
        is_authentic: whether they came out of an envelope. Pickles are loaded only then.

    Raises:
        CodecError: they are damaged, or a pickle that nobody vouches for.
    """
    kind, rest = data[:1], data[1:]
    if kind == _PICKLE:
        if not is_authentic:
            raise CodecError("a pickle is loaded only from a sealed or signed value")
        return _unpickle(rest)
    if kind == _BYTES:
        return rest
    try:
        if kind == _TEXT:
            return rest.decode()
        if kind == _JSON:
            return _from_json(rest.decode())
    except (ValueError, RecursionError):
        pass
    raise CodecError("the bytes are damaged, or of a newer codec")


def _is_plain(value: object) -> bool:
    """Say whether JSON brings a value back as it is: no tuples, subclasses, or keys but text."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind is dict:
        fields = cast(dict[object, object], value)
        if not _KEYS.issuperset(map(type, fields)):
            return False
        parts: Collection[object] = fields.values()
    elif kind is list:
        parts = cast(list[object], value)
    else:
        return False
    # By the kinds that there are, as one by one would take longer than writing them.
    kinds = set(map(type, parts))
    if kinds <= _SCALARS:
        return True
    return kinds <= _PLAIN and all(_is_plain(part) for part in parts if type(part) in _NESTED)


def _pickle(value: object) -> bytes:
    import pickle

    try:
        return pickle.dumps(value, _PROTOCOL)
    except Exception:
        # What its own methods raise may quote the value.
        problem = f"a {type(value).__name__} cannot be pickled"
    raise CodecError(problem)


def _unpickle(data: bytes) -> Any:
    import pickle

    try:
        return pickle.loads(data)
    except Exception:
        # Raised below, as what its own methods raise may quote the value.
        pass
    raise CodecError(UNLOADABLE)
