"""From a command as libraries write it to the bytes on the wire, through the table.

Laws of this file: nothing is packed that has no rule; a name is rewritten here and nowhere else; what
cannot be packed raises before a byte exists. One command with one key, which is nearly all traffic,
goes the short way; everything else is split, looked up and rewritten as words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tenantkv.commands.rule import Rule
from tenantkv.commands.table import find_rule, quick, rewrite, too_few
from tenantkv.errors import MalformedCommandError
from tenantkv.namespace import Namespace

Encode = Callable[[Any], Any]

# Above this many bytes a command goes to the socket in pieces rather than being copied together.
_COPY_LIMIT_BYTES = 65_536


def to_bytes(value: Any, encode: Encode) -> bytes:
    """Return an argument's bytes, as the connection's encoder gives them."""
    kind = type(value)
    if kind is bytes:
        return value  # type: ignore[no-any-return]
    if kind is int:
        return b"%d" % value
    encoded = encode(value)
    return encoded if type(encoded) is bytes else bytes(encoded)


def pack(arguments: Sequence[Any], namespace: Namespace, encode: Encode) -> tuple[Any, Rule]:
    """Return the wire form of a command, as bytes or a list of pieces, and its rule.

    Args:
        arguments: the command's name and its arguments, in any type that redis-py takes.
        namespace: whose names they are.
        encode: the connection's ``encoder.encode``.

    Raises:
        RefusedError: unknown, forbidden or malformed.
        redis.exceptions.DataError: from `encode`, for a value of a type that has no bytes.
    """
    try:
        rule = quick.get(arguments[0])
    except (IndexError, TypeError, ValueError):
        rule = None
    if rule is None or not rule.single:
        return pack_words(arguments, namespace, encode)
    count = len(arguments)
    if count <= rule.min_args:
        raise too_few(rule, arguments)
    key = arguments[1]
    if type(key) is not bytes:
        key = to_bytes(key, encode)
    prefix = namespace.wire_prefix
    if count == 2:
        return b"*2\r\n%b$%d\r\n%b%b\r\n" % (rule.head, len(prefix) + len(key), prefix, key), rule
    pieces: list[Any] = [
        b"*%d\r\n%b$%d\r\n%b%b\r\n" % (count, rule.head, len(prefix) + len(key), prefix, key)
    ]
    return _append_values(pieces, arguments[2:], encode), rule


def _append_values(pieces: list[Any], values: Sequence[Any], encode: Encode) -> Any:
    """Return `pieces` with `values` as bulk strings behind, as one run of bytes where that is small."""
    size = 0
    for value in values:
        kind = type(value)
        if kind is str or kind is float:
            value = encode(value)
        elif kind is int:
            value = b"%d" % value
        elif kind is not bytes:
            value = encode(value)
            if isinstance(value, memoryview):
                value = value.tobytes()
        length = len(value)
        size += length
        pieces.append(b"$%d\r\n" % length)
        pieces.append(value)
        pieces.append(b"\r\n")
    return b"".join(pieces) if size <= _COPY_LIMIT_BYTES else _chunks(pieces)


def _chunks(pieces: list[Any]) -> list[Any]:
    """Join neighbours that are small, so that large values are neither copied nor sent alone."""
    chunks: list[Any] = []
    small: list[Any] = []
    for piece in pieces:
        if len(piece) > _COPY_LIMIT_BYTES:
            chunks += [b"".join(small), piece]
            small = []
        else:
            small.append(piece)
    if small:
        chunks.append(b"".join(small))
    return chunks


def words_of(arguments: Sequence[Any], encode: Encode) -> list[bytes]:
    """Return a command as bytes, with a name such as ``"CLIENT ID"`` split as redis-py splits it."""
    if not arguments:
        raise MalformedCommandError("the command", "it has no name.")
    name = to_bytes(arguments[0], encode).split()
    if not name:
        raise MalformedCommandError("the command", "its name is empty.")
    return [*name, *[to_bytes(value, encode) for value in arguments[1:]]]


def pack_words(
    arguments: Sequence[Any], namespace: Namespace, encode: Encode
) -> tuple[Any, Rule]:
    """Pack a command of any form; see `pack`."""
    words = words_of(arguments, encode)
    rule = find_rule(words)
    wire = rewrite(words, rule, namespace)
    return pack_wire(wire), rule


def pack_wire(wire: Sequence[bytes]) -> Any:
    """Return words as they are in RESP, as bytes or a list of pieces."""
    return _append_values([b"*%d\r\n" % len(wire)], wire, bytes)
