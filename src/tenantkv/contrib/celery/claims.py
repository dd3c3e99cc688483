"""Taking messages, holding them, giving them back: what the scripts in ``lua/`` are called with.

A worker takes a message by a claim: a random name of its own, under which the message stands in the hash
``unacked`` until it is done with. Laws of this file:

1. A message is in its queue or under a claim at every moment; no reply that is lost takes it along. A
   claim whose reply was lost is repeated with the same name, and answered with the same message.
2. A claim is alive as long as its holder says so (`keeper`); when it has not for the visibility timeout,
   any worker gives its message back.
3. A sealed message is taken once. Its id stands in the marks with its claim, and as "-" when it is done
   with; a copy that somebody puts back, into the queue or under a claim, is dropped. Going back into the
   queue, a message is sealed anew.

No I/O here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from tenantkv.contrib.celery.messages import message_id
from tenantkv.ops.scripts import Call, Script
from tenantkv.transport.drivers import in_utf8

LEDGER = "tkv:celery:ledger"
MARKS = "tkv:celery:marks"
MARKS_BEFORE = "tkv:celery:marks:before"
BELL = "tkv:celery:bell:"
#: kombu's own, unless the transport options ``unacked_key`` and ``unacked_index_key`` say otherwise.
UNACKED, INDEX = "unacked", "unacked_index"

#: Claims in one call of a script.
CHUNK = 200


@cache
def script(name: str, *, repeatable: bool = True) -> Script:
    """Return the script in ``lua/<name>.lua``."""
    body = files("tenantkv.contrib.celery").joinpath(f"lua/{name}.lua").read_bytes()
    return Script.of(name, body, repeatable=repeatable)


def lists_of(queue: str) -> list[str]:
    """Return a queue's lists, one for each of kombu's usual priorities."""
    return [queue, *(f"{queue}\x06\x16{priority}" for priority in (3, 6, 9))]


@dataclass(frozen=True, slots=True)
class Row:
    """A message under a claim.

    Attributes:
        list_name: own name of the list that it came from.
        blob: the message, sealed for that list.
    """

    list_name: str
    blob: bytes

    @property
    def packed(self) -> bytes:
        """As it stands in the hash."""
        name = self.list_name.encode()
        return b"%d:%s%s" % (len(name), name, self.blob)

    @property
    def id(self) -> str:
        """Stands for the sealed message in the marks."""
        return message_id(self.blob)


def read_row(packed: bytes) -> Row | None:
    """Return what stands under a claim, or ``None`` if it cannot have been put there by us."""
    length, colon, rest = packed.partition(b":")
    if not colon or not length.isdigit() or len(length) > 5:
        return None
    size = int(length)
    try:
        return Row(rest[:size].decode(), rest[size:])
    except UnicodeDecodeError:
        return None


@dataclass(frozen=True, slots=True)
class Names:
    """The own names that claims concern.

    Attributes:
        unacked: the hash of messages under claims.
        index: the sorted set of claims by the time at which they were last known alive.
    """

    unacked: str
    index: str

    @property
    def base(self) -> tuple[str, ...]:
        """The keys with which most scripts begin."""
        return self.unacked, self.index, MARKS, MARKS_BEFORE, LEDGER

    @property
    def types(self) -> dict[str, str]:
        """Which type each key has."""
        types = dict.fromkeys((self.unacked, MARKS, MARKS_BEFORE, LEDGER), "hash")
        return {**types, self.index: "zset"}

    def claim(
        self,
        claim: str,
        lists: Sequence[tuple[str, str, bool]],
        bells: Sequence[str],
        *,
        now: float,
        limits: Any,
    ) -> Call:
        """Take a message.

        Args:
            claim: the claim's name.
            lists: own name, field in the ledger, and whether to hold the message, in the order in which
                the lists are asked.
            bells: of the same queues.
            now: seconds since 1970.
            limits: has ``replay_marks`` and ``message_lifetime``.
        """
        keys = [*self.base, *(name for name, _, _ in lists), *bells]
        words: list[Any] = [claim, now, limits.replay_marks, int(limits.message_lifetime), len(lists)]
        for name, field, hold in lists:
            words += (name, field, "1" if hold else "0")
        return Call(script("claim"), keys, words)

    def done(self, claim: str, id_: str) -> Call:
        """End a claim whose message is done with."""
        return Call(script("finish"), self.base[:4], (claim, id_))

    def give_back(
        self, claim: str, row: Row, message: bytes, *, field: str, bell: str, is_next: bool
    ) -> Call:
        """Put a message back into its queue, sealed anew; an empty one drops the claim."""
        words = (claim, row.id, row.packed, message, "R" if is_next else "L", field)
        return Call(script("finish"), (*self.base, row.list_name, bell), words)

    def renew(self, claims: Sequence[str], *, now: float) -> Call:
        """Say that claims are alive."""
        return Call(script("renew"), (self.unacked, self.index), (now, *claims))


def put(
    list_name: str, bell: str, blob: bytes, *, field: str, bound: int, expire_ms: int, lists: Sequence[str]
) -> Call:
    """Put a message into a queue; `lists` are all of a queue that expires."""
    words = (blob, field, bound, expire_ms)
    return Call(script("put", repeatable=False), (list_name, bell, LEDGER, *lists), words)


def audit(field: str, lists: Sequence[str]) -> Call:
    """Compare a queue's depth with the ledger."""
    return Call(script("audit"), (LEDGER, *lists), (field,))


def words_of(call: Call, *, whole: bool) -> tuple[Any, ...]:
    """Return a call as a command for a connection, with the script's digest or all of it."""
    return in_utf8(call.whole if whole else call.by_digest)
