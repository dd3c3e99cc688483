"""A write of cache entries as one batch: the most frequent of our own, and so packed by a form of its own.

Laws of this file:

1. As `packing.py`, it writes the namespace's prefix in front of every name; its names are those of an
   operation of tenantkv's own, so there is no rule to look up and no value to protect.
2. A batch is also the sequence of its commands, for whoever packs them one by one: a Cluster, the
   registry, a transport that is not ours. The bytes are the same (`tests/unit/test_own_batch.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

from tenantkv.commands.own_scripts import OwnWord
from tenantkv.commands.packing import COPY_LIMIT_BYTES
from tenantkv.commands.rule import Rule
from tenantkv.commands.table import quick

_SET, _GET, _UNLINK = OwnWord(b"SET"), OwnWord(b"GET"), OwnWord(b"UNLINK")
_UNLINK_HEAD = b"*%d\r\n$6\r\nUNLINK\r\n"
_STAMP = b"*2\r\n$3\r\nGET\r\n$%d\r\n%b%b\r\n"
_BEFORE_VALUE = b"*5\r\n$3\r\nSET\r\n$%d\r\n%b%b\r\n$%d\r\n"
_BEHIND_VALUE = b"\r\n$2\r\nPX\r\n$%d\r\n%b\r\n"
_ENTRY = _BEFORE_VALUE + b"%b" + _BEHIND_VALUE
_KEY = b"$%d\r\n%b%b\r\n"
_RULES_BEHIND = (quick[b"UNLINK"], quick[b"GET"])

Words = tuple[Any, ...]


class EntryBatch(Sequence[Words]):
    """SET of each entry, UNLINK of their leases, GET of the stamp under which they count.

    It is not sent again when its replies were lost: what somebody else did meanwhile would not stay.

    Args:
        entries: own name, value and TTL in milliseconds of each; at least one.
        stamp: the own name of the cache's stamp.
        leases: the own names of the leases to end, if there are any.
    """

    __slots__ = ("_entries", "_leases", "_stamp")

    def __init__(self, entries: Sequence[tuple[bytes, bytes, int]], stamp: bytes, leases: Sequence[bytes]):
        self._entries = entries
        self._stamp = stamp
        self._leases = leases

    def pack(self, prefix: bytes) -> list[bytes]:
        """Return the batch as it is in RESP, in a few pieces, with `prefix` in front of every name."""
        width = len(prefix)
        pieces: list[bytes] = []
        small: list[bytes] = []
        for name, value, ttl_ms in self._entries:
            digits = b"%d" % ttl_ms
            size = len(value)
            if size > COPY_LIMIT_BYTES:
                head = _BEFORE_VALUE % (width + len(name), prefix, name, size)
                pieces += [b"".join((*small, head)), value]
                small = [_BEHIND_VALUE % (len(digits), digits)]
                continue
            small.append(_ENTRY % (width + len(name), prefix, name, size, value, len(digits), digits))
        if self._leases:
            small.append(_UNLINK_HEAD % (1 + len(self._leases)))
            small += [_KEY % (width + len(name), prefix, name) for name in self._leases]
        small.append(_STAMP % (width + len(self._stamp), prefix, self._stamp))
        pieces.append(b"".join(small))
        return pieces

    @property
    def rules(self) -> list[Rule]:
        """The rule of each command."""
        behind = _RULES_BEHIND if self._leases else _RULES_BEHIND[1:]
        return [*[quick[b"SET"]] * len(self._entries), *behind]

    def __len__(self) -> int:
        return len(self._entries) + (2 if self._leases else 1)

    def __iter__(self) -> Iterator[Words]:
        for name, value, ttl_ms in self._entries:
            yield _SET, name, value, b"PX", ttl_ms
        if self._leases:
            yield _UNLINK, *self._leases
        yield _GET, self._stamp

    @overload
    def __getitem__(self, at: int) -> Words: ...
    @overload
    def __getitem__(self, at: slice) -> list[Words]: ...
    def __getitem__(self, at: int | slice) -> Words | list[Words]:
        return list(self)[at]
