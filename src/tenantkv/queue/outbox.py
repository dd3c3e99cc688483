"""What goes out: messages with their settings, checked, named and in envelopes, as the script takes them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from tenantkv.errors import ConfigurationError
from tenantkv.namespace import Namespace
from tenantkv.ops import queue as ops
from tenantkv.ops.queue_ids import (
    DEFAULT_PRIORITY,
    HIGHEST_PRIORITY,
    MOST_IDS,
    RANDOM_BYTES,
    extend_id,
    make_ids,
    pack_head,
)
from tenantkv.queue.lanes import RandomPieces
from tenantkv.queue.message import Outgoing
from tenantkv.queue.settings import moment_ms, seconds, whole
from tenantkv.queue.values import ValueBox


class Outbox:
    """Makes entries of messages.

    Args:
        namespace: hides the names of groups and of dedupe ids.
        queue: the queue's own name.
        box: makes envelopes.
    """

    def __init__(self, namespace: Namespace, queue: str, box: ValueBox) -> None:
        self._namespace = namespace
        self._queue = queue
        self._box = box
        self._random = RandomPieces(RANDOM_BYTES)

    def pack(self, items: Sequence[Any], plaintext_ok: str | None) -> list[ops.Entry]:
        """Return messages as the script takes them: all checked before the first is sent.

        Args:
            items: values, or `Outgoing` for those with settings of their own.
            plaintext_ok: why they may be readable though they look like secrets.
        """
        now_ms = int(time.time() * 1000)
        plain: list[bytes] = []
        for start in range(0, len(items), MOST_IDS):
            plain += make_ids(self._random.draw(), min(MOST_IDS, len(items) - start), DEFAULT_PRIORITY)
        if Outgoing not in set(map(type, items)):
            encoded = self._box.encode(items, plaintext_ok=plaintext_ok)
            envelopes = self._box.seal_all(encoded, plain, pack_head(now_ms, wants_reply=False))
            return [(name, envelope, b"", b"") for name, envelope in zip(plain, envelopes, strict=True)]
        given = [item if type(item) is Outgoing else Outgoing(item) for item in items]
        encoded = self._box.encode([item.value for item in given], plaintext_ok=plaintext_ok)
        return [
            self._entry(item, data, is_sealed, message_id, now_ms)
            for item, (data, is_sealed), message_id in zip(given, encoded, plain, strict=True)
        ]

    def _entry(
        self, item: Outgoing, data: bytes, is_sealed: bool, message_id: bytes, now_ms: int
    ) -> ops.Entry:
        if item.priority is not None:
            priority = whole(item.priority, "priority", 0, HIGHEST_PRIORITY)
            message_id = b"%d%b" % (priority, message_id[1:])
        if item.ttl is not None or item.group is not None:
            message_id = self._extended(message_id, item, now_ms)
        due = _due(item) if item.delay is not None or item.at is not None else b""
        member = self._hide("dedupe", item.dedupe) if item.dedupe is not None else b""
        head = pack_head(now_ms, wants_reply=item.reply)
        return message_id, self._box.seal(data, is_sealed, message_id, head), due, member

    def _extended(self, message_id: bytes, item: Outgoing, now_ms: int) -> bytes:
        expires, group = None, None
        if item.ttl is not None:
            delay = 0 if item.delay is None else seconds(item.delay, "delay")
            expires = now_ms + int((seconds(item.ttl, "ttl", least=0.001) + delay) * 1000)
        if item.group is not None:
            if item.delay is not None or item.at is not None:
                raise ConfigurationError("a group keeps its order, so its messages cannot be delayed")
            group = self._hide("group", item.group)
        return extend_id(message_id, expires_ms=expires, group=group)

    def _hide(self, what: str, text: object) -> bytes:
        if not isinstance(text, str) or not text:
            raise ConfigurationError(f"{what!r} is a text, and not empty")
        return self._namespace.hidden_name(f"queue-{what}:{self._queue}:{text}".encode())


def _due(item: Outgoing) -> bytes:
    """Return when a message is due, as the script takes it."""
    if item.delay is not None:
        if item.at is not None:
            raise ConfigurationError("give either delay= or at=")
        return b"+%d" % round(seconds(item.delay, "delay") * 1000)
    at: float | datetime | None = item.at
    return b"%d" % moment_ms(at)
