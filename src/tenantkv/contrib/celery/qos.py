"""What a worker holds: the claims behind the messages that it has not acknowledged yet."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tenantkv.contrib.celery import drops, stock
from tenantkv.contrib.celery.claims import CHUNK, Row, read_row
from tenantkv.contrib.celery.messages import Seen

LOST = (RedisConnectionError, RedisTimeoutError)


class AlreadyHeldError(Exception):
    """A message came again that this worker still holds; nobody is told of it twice."""


@dataclass(frozen=True, slots=True)
class Held:
    """A message that this worker holds.

    Attributes:
        claim: its claim's name.
        row: the message as it came from the queue.
    """

    claim: str
    row: Row


class QoS(stock.QoS):
    """Acknowledgement on claims; see `claims`.

    The lease on a claim is renewed by the channel's `keeper`, for as long as this process lives and the
    message is not acknowledged, whatever its ETA and however long its task runs.
    """

    restore_at_shutdown = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._held: dict[str, Held] = {}
        self._finished = Seen()
        # Claims that ended while the server was away; the keeper tells it later.
        self._owed: deque[Held] = deque(maxlen=10_000)
        self._pid = os.getpid()

    def append(self, message: Any, delivery_tag: str) -> None:
        """Take note of a message that was delivered under the channel's claim of the moment.

        Raises:
            AlreadyHeldError: this worker holds the message already, under a claim that had lapsed.
        """
        held = self.channel.taken
        self.channel.taken = None
        if held is not None:
            known = self._held.get(delivery_tag)
            self._held[delivery_tag] = held
            self.channel.keep()
            if known is not None:
                self._finish(known)
                raise AlreadyHeldError
        super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message: its claim ends. One round trip."""
        held = self._held.pop(delivery_tag, None)
        if held is not None:
            self._finish(held)
        super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Drop a message, or put it back as the last of its queue. One round trip."""
        held = self._held.pop(delivery_tag, None)
        if held is not None:
            if requeue:
                self.give_back(held.claim, held.row, is_next=False)
            else:
                self._finish(held)
        super().ack(delivery_tag)

    def restore_unacked(self) -> list[tuple[Exception, Any]]:
        """Put everything that this worker holds back into its queues, as when it shuts down."""
        self._flush()
        errors: list[tuple[Exception, Any]] = []
        delivered = self._delivered
        # The child of a fork has a copy of what its parent holds, and no part in it.
        if os.getpid() == self._pid:
            for tag, message in reversed(list(delivered.items())):
                held = self._held.pop(tag, None)
                if held is None or tag in self._dirty:
                    continue
                try:
                    self.give_back(held.claim, held.row, is_next=True)
                except Exception as error:
                    errors.append((error, message))
        delivered.clear()
        self._held.clear()
        return errors

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        """Put one message back into its queue."""
        held = self._held.pop(tag, None)
        if held is not None:
            self.give_back(held.claim, held.row, is_next=leftmost)

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the channel's keeper looks for claims that have lapsed."""

    def give_back(self, claim: str, row: Row, *, is_next: bool) -> int:
        """Put a message back into its queue, marked as redelivered; drop it if it is not genuine."""
        channel = self.channel
        message = channel.redelivered(row)
        call = channel.names.give_back(
            claim,
            row,
            message or b"",
            field=channel.field_of(channel.queue_of(row.list_name)),
            bell=channel.bell_of(channel.queue_of(row.list_name)),
            is_next=is_next,
        )
        return int(channel.call(call, {row.list_name: "list"}))

    def claims(self) -> list[Held]:
        """Return what is held now; any thread may ask."""
        return list(self._held.values())

    def renew(self) -> None:
        """Say that everything held is alive, and put back what somebody removed. Any thread may call it."""
        channel = self.channel
        held = self.claims()
        for start in range(0, len(held), CHUNK):
            chunk = held[start : start + CHUNK]
            lost = channel.call(channel.names.renew([h.claim for h in chunk], now=time.time()))
            for each in (chunk[position] for position in lost):
                if each in self.claims():
                    self._rebuild(each)

    def _rebuild(self, held: Held) -> None:
        """Put a claim back that was evicted or deleted."""
        channel = self.channel
        with channel.conn_or_acquire() as client, client.pipeline() as pipe:
            pipe.hset(channel.names.unacked, held.claim, held.row.packed)
            pipe.zadd(channel.names.index, {held.claim: time.time()})
            pipe.execute()
        drops.note("rebuilt")
        if held not in self.claims():
            # Acknowledged in between.
            self._finish(held)

    def sweep(self, ceiling: float, limit: int = 50) -> int:
        """Give messages back whose holders have not been heard of since `ceiling`. Any thread may call it."""
        channel = self.channel
        mine = {held.claim for held in self.claims()}
        with channel.conn_or_acquire() as client:
            lapsed: Iterable[bytes] = client.zrangebyscore(
                channel.names.index, "-inf", ceiling, start=0, num=limit
            )
            restored = 0
            for name in lapsed:
                claim = name.decode("utf-8", "replace")
                if claim in mine:
                    continue
                packed = client.hget(channel.names.unacked, name)
                row = read_row(packed) if packed else None
                if row is None or self._finished.holds(row.id):
                    client.zrem(channel.names.index, name)
                    client.hdel(channel.names.unacked, name)
                    continue
                outcome = self.give_back(claim, row, is_next=True)
                restored += outcome == 1
                if outcome == -1:
                    drops.note("replayed")
        return restored

    def settle(self) -> None:
        """Tell the server of claims that ended while it was away. Any thread may call it."""
        while self._owed:
            held = self._owed.popleft()
            try:
                self.channel.call(self.channel.names.done(held.claim, held.row.id))
            except LOST:
                self._owed.appendleft(held)
                raise

    def _finish(self, held: Held) -> None:
        self._finished.add(held.row.id)
        try:
            self.channel.call(self.channel.names.done(held.claim, held.row.id))
        except LOST:
            self._owed.append(held)
            raise
