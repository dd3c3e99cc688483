"""Values to payloads and back, by the codec that the cache or the call asks for.

``json`` keeps bytes and text as they are and everything else as JSON, if that brings it back equal;
``pickle`` does the same and pickles the rest; ``bytes`` takes nothing but bytes; ``msgpack`` is
msgpack. What comes out tells its codec by its first byte, so that reading needs no choice: see
`tenantkv.codec`, and 0x04 for msgpack. Pickles are loaded only because every payload here comes out of an
envelope.
"""

from __future__ import annotations

from pickle import loads
from typing import Any, Literal

from tenantkv import codec
from tenantkv.cache.sentinels import MISS
from tenantkv.errors import CodecError, ConfigurationError
from tenantkv.ops.cache_entry import Entry
from tenantkv.secrets import Secret

CodecName = Literal["json", "bytes", "pickle", "msgpack"]

_MSGPACK = b"\4"
_BYTES_OR_TEXT = (0, 1)
_IMMUTABLE = frozenset({int, float, bool, type(None)})


def encode(value: object, name: CodecName) -> bytes:
    """Return a value's payload.

    Raises:
        CodecError: the codec cannot bring it back as it is.
        ConfigurationError: there is no such codec, or msgpack is not installed.
    """
    if name == "json":
        return codec.encode(value)
    if name == "pickle":
        return codec.encode(value, allow_pickle=True)
    if name == "bytes":
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise CodecError(f"the codec 'bytes' takes bytes, not a {type(value).__name__}")
        return codec.encode(bytes(value))
    if name == "msgpack":
        try:
            packed: bytes = _msgpack().packb(value, strict_types=True)
        except (TypeError, ValueError, OverflowError):
            raise CodecError(f"msgpack does not bring a {type(value).__name__} back as it is") from None
        return _MSGPACK + packed
    raise ConfigurationError(f"codecs are json, bytes, pickle and msgpack; {name!r} is none")


def decode(entry: Entry) -> Any:
    """Return the value of an entry that opened; `MISS` for a negative one.

    Raises:
        CodecError: its payload is of a class, a codec or a program that is not here.
    """
    if not entry.payload:
        return MISS
    value = decode_plain(entry.payload)
    return Secret(value) if entry.is_secret else value


def decode_plain(payload: bytes) -> Any:
    """Return the value of a payload that came out of an envelope and is no negative entry's."""
    kind = payload[0]
    if kind == codec.PICKLE:
        # Here and not in `codec`, as a page of values is read one by one.
        try:
            return loads(payload[1:])
        except Exception:
            # Raised below, as what its own methods raise may quote the value.
            pass
        raise CodecError(codec.UNLOADABLE)
    if kind == _MSGPACK[0]:
        return _unpack(payload[1:])
    return codec.decode(payload, is_authentic=True)


def is_immutable(entry: Entry, value: object) -> bool:
    """Say whether a decoded value may be handed out again and again."""
    return not entry.is_secret and (
        not entry.payload or entry.payload[0] in _BYTES_OR_TEXT or type(value) in _IMMUTABLE
    )


def _unpack(packed: bytes) -> Any:
    try:
        return _msgpack().unpackb(packed, strict_map_key=False)
    except ConfigurationError:
        raise CodecError("the value was packed with msgpack, which is not installed here") from None
    except Exception:
        raise CodecError("the bytes are no msgpack") from None


def _msgpack() -> Any:
    try:
        import msgpack  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise ConfigurationError("the codec 'msgpack' needs msgpack: pip install msgpack") from None
    return msgpack
