"""Chords: their parts are sealed, and their counters, which a script on the server adds up, are checked.

Celery keeps a chord's results in one sorted set, and how many there are to be in plain counters beside it.
Whoever changes these can call the body early or never. So the size has a sealed copy, and before the body
is called the parts are counted that open.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from celery.result import GroupResult
from redis.exceptions import ResponseError

from tenantkv.contrib.celery import drops
from tenantkv.contrib.celery.client import as_bytes, heal, is_wrong_type
from tenantkv.contrib.celery.messages import MessageSealer


@dataclass(frozen=True, slots=True)
class Part:
    """One result of a chord's header.

    Attributes:
        place: the task's id and its number in the header.
        index: that number; infinite for a part that has none.
        encoded: what Celery wants to read.
    """

    place: bytes
    index: float
    encoded: bytes


def seal_part(sealer: MessageSealer, name: bytes, task_id: Any, index: Any, encoded: Any) -> bytes:
    """Return a part as it is stored."""
    return sealer.seal(as_bytes(f"{index} {task_id}\n") + as_bytes(encoded), "chord", name)


def read_parts(
    sealer: MessageSealer, name: bytes, blobs: Iterable[bytes], *, is_ordered: bool = True
) -> list[Part]:
    """Return the genuine parts, each once; in their order, whatever the server says of that."""
    parts: dict[bytes, Part] = {}
    for blob in blobs:
        opened = sealer.open(blob, "chord", name)
        if opened is not None:
            place, _, encoded = opened[0].partition(b"\n")
            parts.setdefault(place, Part(place, float(place.partition(b" ")[0]), encoded))
    found = list(parts.values())
    return sorted(found, key=lambda part: part.index) if is_ordered else found


def size_of(results: Iterable[Any]) -> int:
    """Return how many parts the results of a chord's header stand for."""
    total = 0
    for each in results:
        total += size_of(each.results or ()) if isinstance(each, GroupResult) else 1
    return total


class ChordScript:
    """Celery's script that notes a part, with the part sealed and its answer checked.

    Args:
        script: Celery's.
        client: the backend's client.
        sealer: seals parts.
        is_ordered: whether parts are in a sorted set, or a list.
        sealed_size: returns a chord's size from its sealed copy, by the name of the counter.
    """

    def __init__(
        self, script: Any, client: Any, sealer: MessageSealer, *, is_ordered: bool, sealed_size: Any
    ) -> None:
        self._script = script
        self._client = client
        self._sealer = sealer
        self._is_ordered = is_ordered
        self._sealed_size = sealed_size
        self._here = threading.local()

    def about(self, request: Any) -> None:
        """Take the chord's size from a message, for the next call in this thread."""
        body = getattr(request, "chord", None)
        self._here.size = body.get("chord_size") if isinstance(body, dict) else None

    def __call__(self, *, keys: Sequence[str], args: Sequence[Any], client: Any) -> Any:
        """Note a part; say how many there are, how many more there are to be, and whether the body is ours.

        One round trip; a few more where something was lost or forged, and for the last part.
        """
        name = as_bytes(keys[0])
        sealed = [args[0], seal_part(self._sealer, name, args[0], args[3], args[1]), *args[2:]]
        reply = self._run(keys, sealed)
        if reply[0] == -1:
            return reply
        reply = self._right_counters(keys, sealed, reply)
        due = None if reply[2] is None else _number(reply[2]) + _number(reply[1])
        if due is not None and int(reply[0]) > due and self._sort_out(name, keys) <= due:
            reply = self._run(keys, sealed)
        if reply[3] and self._sort_out(name, keys) != due:
            # Some of the parts were not genuine. The claim on the body goes, until the others are there.
            self._client.delete(keys[5])
            return [*reply[:3], 0]
        return reply

    def _run(self, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        try:
            return self._script(keys=keys, args=args, client=self._client)
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
        results = "zset" if self._is_ordered else "list"
        types = (results, "string", "string", "set", "string", "string")
        names = (as_bytes(key).decode() for key in keys)
        heal(self._client, dict(zip(names, types, strict=True)))
        return self._script(keys=keys, args=args, client=self._client)

    def _right_counters(self, keys: Sequence[str], args: Sequence[Any], reply: Any) -> Any:
        """Put the size back if the server lost it or somebody changed it, and look again."""
        expected = getattr(self._here, "size", None)
        if _number(reply[1]) < 0:
            # It only ever grows.
            # Whoever was given the body by it has to give it back.
            self._client.delete(keys[1], *([keys[5]] if reply[3] else []))
            drops.note("forged")
            reply = self._run(keys, args)
        found = _number(reply[2]) if reply[2] is not None else None
        # The sealed copy knows; what came with the message is only how big the header looked at first.
        if found is not None and (expected is None or found == expected) and not reply[3]:
            return reply
        genuine = self._sealed_size(keys[2])
        if genuine is None:
            genuine = expected if found is None else found
        if genuine is None or genuine == found:
            return reply
        if reply[3]:
            self._client.delete(keys[5])
        drops.note("rebuilt" if found is None else "forged")
        self._client.set(keys[2], genuine, ex=int(args[4]) or None)
        return self._run(keys, args)

    def _sort_out(self, name: bytes, keys: Sequence[str]) -> int:
        """Take out what is no genuine part, or one twice; return how many are left."""
        words = ("ZRANGE" if self._is_ordered else "LRANGE", keys[0], 0, -1)
        places: set[bytes] = set()
        for blob in self._client.stored(words):
            part = read_parts(self._sealer, name, [blob])
            if part and part[0].place not in places:
                places.add(part[0].place)
            elif self._is_ordered:
                self._client.zrem(keys[0], blob)
            else:
                self._client.lrem(keys[0], -1, blob)
        return len(places)


def _number(counter: Any) -> int:
    """Return a counter's value; a number that cannot be right if it is none."""
    try:
        return int(counter or 0)
    except ValueError:
        return -1
