"""Replies that hold sealed values, opened.

Every form takes undecoded replies as RESP2 or RESP3 gives them, in own names. Laws of this file: what
stands where a value stands is opened or raises, and never handed on as it is; nil, numbers and error
objects pass; nothing is decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from tenantkv.commands.rule import Arguments
from tenantkv.commands.sealing_options import announced_fields
from tenantkv.envelope_header import Kind


class OpenFunction(Protocol):
    """The `open` of a `ValueSealer`."""

    def __call__(self, blob: bytes, *, kind: Kind, name: bytes, field: bytes = b"") -> bytes:
        """Return the value; raises on anything wrong."""
        ...


class Opening:
    """Opens what belongs to keys of one kind.

    Args:
        open_: opens one value.
        kind: what the values are sealed as.
        name_of: the name in the seals of a key's values, or ``None`` for a plaintext key.
    """

    __slots__ = ("_kind", "_name_of", "_open")

    def __init__(self, open_: OpenFunction, kind: Kind, name_of: Callable[[bytes], bytes | None]) -> None:
        self._open = open_
        self._kind: Kind = kind
        self._name_of = name_of

    def value(self, blob: Any, key: bytes, field: bytes = b"") -> Any:
        """Return the value of a key; what is no string comes back as it is."""
        if not isinstance(blob, bytes):
            return blob
        name = self._name_of(key)
        return blob if name is None else self._open(blob, kind=self._kind, name=name, field=field)

    def values(self, reply: Any, key: bytes) -> Any:
        """Return one value, or a list or set of values, of a key."""
        if isinstance(reply, (list, tuple)):
            return [self.value(blob, key) for blob in reply]
        if isinstance(reply, (set, frozenset)):
            return {self.value(blob, key) for blob in reply}
        return self.value(reply, key)

    def by_field(self, reply: Any, key: bytes) -> Any:
        """Return fields and values: a map, pairs, or one list with both in turn."""
        if isinstance(reply, dict):
            return {field: self.value(blob, key, field) for field, blob in reply.items()}
        if not isinstance(reply, list):
            return self.value(reply, key)
        if reply and isinstance(reply[0], list):
            return [[field, self.value(blob, key, field)] for field, blob in reply]
        opened = list(reply)
        for at in range(1, len(reply), 2):
            opened[at] = self.value(reply[at], key, reply[at - 1])
        return opened

    def scored(self, reply: Any, key: bytes) -> Any:
        """Return members and scores: pairs, or one list with both in turn."""
        if not isinstance(reply, list):
            return self.value(reply, key)
        if reply and isinstance(reply[0], list):
            return [[self.value(member, key), *score] for member, *score in reply]
        opened = list(reply)
        opened[::2] = [self.value(member, key) for member in reply[::2]]
        return opened

    def entry(self, reply: Any, key: bytes) -> Any:
        """Return [id, [field, value, ...], ...] of a stream; an id alone, or without fields, is as it is."""
        if not isinstance(reply, list) or len(reply) < 2:
            return reply
        return [reply[0], self.by_field(reply[1], key), *reply[2:]]

    def entries(self, reply: Any, key: bytes) -> Any:
        """Return a list of entries, of which deleted ones may be nil."""
        return [self.entry(item, key) for item in reply] if isinstance(reply, list) else reply


Form = Callable[[Opening, Arguments, Any], Any]


def open_value(opening: Opening, arguments: Arguments, reply: Any) -> Any:
    """One value of the first key."""
    return opening.value(reply, arguments[1])


def open_members(opening: Opening, arguments: Arguments, reply: Any) -> Any:
    """One or several values of the first key."""
    return opening.values(reply, _first_key(arguments))


def _first_key(arguments: Arguments) -> bytes:
    # ZUNION and its kin have a count in front; their keys share a context, so any of them will do.
    counted = arguments[0].upper() in (b"ZUNION", b"ZINTER", b"ZDIFF")
    return arguments[2] if counted else arguments[1]


def open_by_key(opening: Opening, arguments: Arguments, reply: Any) -> Any:
    """MGET: a value for each key."""
    if not isinstance(reply, list) or not reply:
        # No key at all is the server's to refuse.
        return opening.value(reply, arguments[-1])
    return [opening.value(blob, key) for key, blob in zip(arguments[1:], reply, strict=True)]


def open_field(opening: Opening, arguments: Arguments, reply: Any) -> Any:
    """HGET: a value of the field that was asked for."""
    return opening.value(reply, arguments[1], arguments[2])


def open_fields(opening: Opening, arguments: Arguments, reply: Any) -> Any:
    """HMGET: a value for each field."""
    return _each_field(opening, arguments[1], arguments[2:], reply)


def open_announced_fields(opening: Opening, arguments: Arguments, reply: Any) -> Any:
    """HGETDEL and HGETEX: a value for each field behind FIELDS."""
    return _each_field(opening, arguments[1], announced_fields(arguments), reply)


def _each_field(opening: Opening, key: bytes, fields: Arguments, reply: Any) -> Any:
    if not isinstance(reply, list) or not reply:
        return opening.value(reply, key)
    return [opening.value(blob, key, field) for field, blob in zip(fields, reply, strict=True)]


def open_map(opening: Opening, arguments: Arguments, reply: Any) -> Any:
    """HGETALL and HRANDFIELD WITHVALUES."""
    return opening.by_field(reply, arguments[1])


def open_scored(opening: Opening, arguments: Arguments, reply: Any) -> Any:
    """Members with their scores."""
    return opening.scored(reply, _first_key(arguments))


def _scanned(reply: Any, opened: Callable[[Any, bytes], Any], key: bytes) -> Any:
    if not isinstance(reply, list) or len(reply) != 2:
        return reply
    return [reply[0], opened(reply[1], key)]


def open_scanned(opening: Opening, arguments: Arguments, reply: Any) -> Any:
    """[cursor, members] of SSCAN."""
    return _scanned(reply, opening.values, arguments[1])


def open_scanned_map(opening: Opening, arguments: Arguments, reply: Any) -> Any:
    """[cursor, [field, value, ...]] of HSCAN."""
    return _scanned(reply, opening.by_field, arguments[1])


def open_scanned_scored(opening: Opening, arguments: Arguments, reply: Any) -> Any:
    """[cursor, [member, score, ...]] of ZSCAN."""
    return _scanned(reply, opening.scored, arguments[1])


def open_popped(opening: Opening, arguments: Arguments, reply: Any) -> Any:
    """[key, value] of BLPOP, [key, [value, ...]] of LMPOP, [key, member, score] of BZPOPMIN."""
    if not isinstance(reply, list) or len(reply) < 2:
        return reply
    return [reply[0], opening.values(reply[1], reply[0]), *reply[2:]]


def open_popped_scored(opening: Opening, arguments: Arguments, reply: Any) -> Any:
    """[key, [[member, score], ...]] of ZMPOP."""
    if not isinstance(reply, list) or len(reply) < 2:
        return reply
    return [reply[0], opening.scored(reply[1], reply[0]), *reply[2:]]


def open_entries(opening: Opening, arguments: Arguments, reply: Any) -> Any:
    """Entries of XRANGE and XCLAIM."""
    return opening.entries(reply, arguments[1])


def open_autoclaim(opening: Opening, arguments: Arguments, reply: Any) -> Any:
    """[cursor, entries, deleted ids] of XAUTOCLAIM."""
    if not isinstance(reply, list) or len(reply) < 2:
        return reply
    return [reply[0], opening.entries(reply[1], arguments[1]), *reply[2:]]


def open_streams(opening: Opening, arguments: Arguments, reply: Any) -> Any:
    """XREAD: pairs of name and entries, or a map in RESP3."""
    if isinstance(reply, dict):
        return {key: opening.entries(entries, key) for key, entries in reply.items()}
    if isinstance(reply, list):
        return [[key, opening.entries(entries, key)] for key, entries in reply]
    return reply


def open_stream_info(opening: Opening, arguments: Arguments, reply: Any) -> Any:
    """XINFO STREAM key [FULL]: a map, or one list with names and contents in turn."""
    key = arguments[2]
    if isinstance(reply, dict):
        return {name: _info(opening, key, name, item) for name, item in reply.items()}
    if isinstance(reply, list):
        opened = list(reply)
        for at in range(1, len(reply), 2):
            opened[at] = _info(opening, key, reply[at - 1], reply[at])
        return opened
    return reply


def _info(opening: Opening, key: bytes, name: Any, item: Any) -> Any:
    if name in (b"first-entry", b"last-entry"):
        return opening.entry(item, key)
    return opening.entries(item, key) if name == b"entries" else item


FORMS: dict[str, Form] = {
    "value": open_value,
    "members": open_members,
    "by_key": open_by_key,
    "field": open_field,
    "fields": open_fields,
    "announced_fields": open_announced_fields,
    "map": open_map,
    "scored": open_scored,
    "scanned": open_scanned,
    "scanned_map": open_scanned_map,
    "scanned_scored": open_scanned_scored,
    "popped": open_popped,
    "popped_scored": open_popped_scored,
    "entries": open_entries,
    "autoclaim": open_autoclaim,
    "streams": open_streams,
    "stream_info": open_stream_info,
}
