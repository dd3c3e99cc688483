"""How a channel takes messages: it asks for one, and where there is none it waits for the queue's bell.

kombu waits with BRPOP on the queues themselves, and what was popped for a connection that has just died is
lost. Here a script moves the message under a claim; only the bell is popped, which holds nothing.
"""

from __future__ import annotations

import uuid
from queue import Empty
from time import monotonic, time
from typing import Any

import redis
from redis.exceptions import NoScriptError, ResponseError

from tenantkv.contrib.celery import drops, stock
from tenantkv.contrib.celery.claims import read_row, words_of
from tenantkv.contrib.celery.client import is_wrong_type
from tenantkv.contrib.celery.messages import CLOCK_SKEW
from tenantkv.contrib.celery.qos import AlreadyHeldError, Held

#: Waits for the bell after which a channel looks into its queues without it.
LOOK_AFTER = 4


class Taking(stock.Channel):
    """The part of `channel.Channel` that takes messages."""

    _asked: list[str]
    _claim: str
    _rest: bool
    _waits: int

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        """Consume from a queue; without acknowledgement nothing is held."""
        (self._unheld.add if no_ack else self._unheld.discard)(queue)
        consumer = super().basic_consume(queue, no_ack, *args, **kwargs)
        if queue not in self.active_fanout_queues:
            self._end_wait_of_others(queue)
            if not no_ack:
                self.keep()
        return consumer

    def _end_wait_of_others(self, queue: str) -> None:
        """End a wait for the bells of other queues, so that this one's messages need not wait for its end.

        Replies to remote control come in a queue of their own each time, and its callers do not wait long.
        """
        if self._in_poll and self._awaits == "bell" and queue not in self._asked:
            self._rest = False
            self._in_poll.disconnect()

    def _claim_call(self, queues: list[str], *, hold: bool | None = None) -> Any:
        self._claim = self._claim or uuid.uuid4().hex
        lists = [
            (name, self.field_of(queue), queue not in self._unheld if hold is None else hold)
            for priority in self.priority_steps
            for queue in queues
            for name in (self._q_for_pri(queue, priority),)
        ]
        bells = [self.bell_of(queue) for queue in queues]
        return self.names.claim(self._claim, lists, bells, now=time(), limits=self.options)

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Ask for a message, or wait for the bell if there was none. The reply is read by `_brpop_read`."""
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        connection = self.client.connection
        self._asked = queues
        if self._rest:
            self._awaits = "bell"
            patience = self.brpop_timeout if timeout is None else timeout
            words: tuple[Any, ...] = ("BRPOP", *map(self.bell_of, queues), patience or 0)
        else:
            self._awaits = "claim"
            words = words_of(self._claim_call(queues), whole=self._whole)
        self._in_poll = connection
        self._brpop_sent_at = monotonic()
        connection.send_command(*words)

    def _brpop_read(self, **options: Any) -> bool:
        """Read what `_brpop_start` asked for, and deliver it.

        Raises:
            queue.Empty: it was no message.
        """
        connection = self.client.connection
        try:
            reply = connection.read_response(disable_decoding=True)
        except NoScriptError:
            self._whole = True
            raise Empty from None
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            lists = {name: "list" for queue in self._asked for name in self.lists_of(queue)}
            self._heal({**lists, **{self.bell_of(queue): "list" for queue in self._asked}})
            raise Empty from None
        except self.connection_errors:
            self._rest = False
            connection.disconnect()
            raise
        finally:
            self._in_poll = None
            if hasattr(self, "_flush_brpop_reauth"):
                self._flush_brpop_reauth()
        self._whole = False
        if self._awaits == "bell":
            self._waits += 1
            # Nobody rang; but a bell may have been lost, so now and then it looks all the same.
            self._rest = reply is None and self._waits < LOOK_AFTER
            raise Empty
        self._waits = 0
        # As it is after the last message: every one that comes from then on rings.
        self._rest = reply is None or len(reply) > 2
        opened = self._take(reply)
        if opened is None:
            raise Empty
        queue, message = opened
        self._queue_cycle.rotate(queue)
        return self._hand_over(queue, message)

    def _take(self, reply: Any) -> tuple[str, dict[str, Any]] | None:
        """Return the queue and the message that a claim was answered with, if it is one for us."""
        claim, self._claim = self._claim, ""
        if reply is None:
            return None
        state, packed = reply[:2]
        if state == b"replayed":
            drops.note("replayed")
            return None
        row = read_row(packed)
        assert row is not None, "made by our own script"
        queue = self.queue_of(row.list_name)
        held = None if queue in self._unheld else Held(claim, row)
        opened = self.sealer.open(row.blob, "list", row.list_name.encode())
        reason = ""
        if opened is None:
            # Counted by the sealer.
            reason = "forged"
        elif not time() - self.options.message_lifetime <= opened[1] <= time() + CLOCK_SKEW:
            drops.note("stale")
            reason = "stale"
        elif state == b"fresh" and not self._seen.add(row.id):
            drops.note("replayed")
            reason = "replayed"
        if reason or opened is None:
            if held is not None:
                self.call(self.names.done(claim, row.id))
            return None
        self.taken = held
        return queue, stock.loads(opened[0])

    def _hand_over(self, queue: str, message: dict[str, Any]) -> bool:
        held = self.taken
        if queue not in self.connection._callbacks:
            # Nobody consumes from it any more: it goes back.
            self.taken = None
            if held is not None:
                self.qos.give_back(held.claim, held.row, is_next=True)
            return True
        try:
            self.connection._deliver(message, queue)
        except AlreadyHeldError:
            pass
        finally:
            self.taken = None
        return True

    def _get(self, queue: str, *, hold: bool = True) -> dict[str, Any]:
        """Take a message from one queue at once. One round trip."""
        held_back, self._claim = self._claim, ""
        try:
            while True:
                call = self._claim_call([queue], hold=hold)
                lists = dict.fromkeys([*self.lists_of(queue), self.bell_of(queue)], "list")
                reply = self.call(call, lists)
                opened = self._take(reply)
                if reply is None:
                    self._expire_again(queue)
                    raise Empty
                if opened is not None:
                    self._expire_again(queue)
                    return opened[1]
        finally:
            self._claim = held_back

    def _expire_again(self, queue: str) -> None:
        if queue in self._expires:
            with self.conn_or_acquire() as client:
                self._maybe_update_queues_expire(client, queue)

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        """Return the next message of a queue, or ``None``. One round trip."""
        try:
            payload = self._get(queue, hold=not no_ack)
        except Empty:
            return None
        message = self.Message(payload, channel=self)
        if no_ack:
            self.taken = None
            return message
        try:
            self.qos.append(message, message.delivery_tag)
        except AlreadyHeldError:
            return None
        return message

    def _restore(self, message: Any, leftmost: bool = False) -> None:
        self.qos.restore_by_tag(message.delivery_tag, leftmost=leftmost)

    def _restore_at_beginning(self, message: Any) -> None:
        self._restore(message, leftmost=True)

    def _give_up_claim(self) -> None:
        """Give back what the claim under way was answered with."""
        claim = self._claim
        try:
            reply = self.client.connection.read_response(disable_decoding=True)
            row = read_row(reply[1]) if reply and reply[0] != b"replayed" else None
            if row is not None and self.queue_of(row.list_name) not in self._unheld:
                self.qos.give_back(claim, row, is_next=True)
        except (redis.RedisError, OSError):
            # It lapses.
            pass
        finally:
            self._in_poll = None
