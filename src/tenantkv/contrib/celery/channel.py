"""The channel: kombu's Redis channel, with whole messages sealed and taken by claims."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

from redis.exceptions import ResponseError

from tenantkv.contrib.celery import claims, stock
from tenantkv.contrib.celery.bindings import Bindings
from tenantkv.contrib.celery.claims import BELL, Names, Row
from tenantkv.contrib.celery.client import BrokerValve, SealingRedis, heal, is_wrong_type
from tenantkv.contrib.celery.keeper import Keeper
from tenantkv.contrib.celery.messages import MessageSealer, Seen
from tenantkv.contrib.celery.options import Options
from tenantkv.contrib.celery.qos import Held, QoS
from tenantkv.contrib.celery.taking import Taking
from tenantkv.transport.drivers import run
from tenantkv.transport.retry import default_retry


class QueueFullError(stock.ChannelError):
    """A queue holds as many messages as `queue_bound` allows; nothing was sent."""


class Channel(Taking, Bindings):
    """A channel of one namespace; see `claims` for how messages are taken."""

    QoS = QoS
    #: kombu's own way to prefix names; the transport makes a sub-tenant of it.
    global_keyprefix = ""
    supports_batch_publish = False
    keyprefix_fanout: str = stock.Channel.keyprefix_fanout

    from_transport_options = tuple(
        name for name in stock.Channel.from_transport_options if name != "global_keyprefix"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.server = args[0].server
        self.options: Options = args[0].options
        self.sealer = MessageSealer(self.server.namespace, self.server.db, is_sealed=self.options.seal)
        self.valve = BrokerValve(self.sealer, self.options.freshness)
        #: What `QoS.append` is to take note of.
        self.taken: Held | None = None
        self._awaits = ""
        self._claim = ""
        self._rest = False
        self._waits = 0
        self._whole = False
        self._seen = Seen()
        self._unheld: set[str] = set()
        self._keeper: Keeper | None = None
        super().__init__(*args, **kwargs)
        self.names = Names(self.unacked_key, self.unacked_index_key)

    # Connections

    def _get_client(self) -> Any:
        return lambda **kwargs: SealingRedis(valve=self.valve, **kwargs)

    def _get_pool(self, asynchronous: bool = False) -> Any:
        options = {**self.options.connection}
        self.keyprefix_fanout = self.keyprefix_fanout.format(db=self.server.db)
        if not asynchronous:
            return self.server.pool(**{"retry": default_retry(), **options})
        channel = self

        class Watch:
            """Tells the event loop of a connection that was closed."""

            def disconnect(self, *args: Any, **kwargs: Any) -> None:
                super().disconnect(*args, **kwargs)  # type: ignore[misc]
                if channel._registered:
                    channel._on_connection_disconnect(self)

        # Without retries: redis-py would reconnect within a read of pub/sub, and block the event loop.
        return self.server.pool(hook=Watch, **options)

    def call(self, call: Any, lists: Any = None) -> Any:
        """Run one of the scripts on a connection of the pool. One round trip."""

        def operation() -> Any:
            return (yield call)

        try:
            return run(self.pool, operation())
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            self._heal(lists or {})
        return run(self.pool, operation())

    def _heal(self, lists: dict[str, str]) -> None:
        with self.conn_or_acquire() as client:
            heal(client, {**self.names.types, **lists})

    # Queues and their keys

    def queue_of(self, list_name: str) -> str:
        """Return the queue that a list belongs to."""
        return list_name.rsplit(self.sep, 1)[0]

    def bell_of(self, queue: str) -> str:
        """Return the key that wakes a queue's workers."""
        return BELL + queue

    def field_of(self, queue: str) -> str:
        """Return a queue's field in the ledger, or nothing for one that may vanish by itself."""
        return "" if queue in self._expires or queue in self.auto_delete_queues else queue

    def lists_of(self, queue: str) -> list[str]:
        """Return a queue's lists, one for each priority."""
        return [self._q_for_pri(queue, priority) for priority in self.priority_steps]

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        """Send a message. One round trip.

        Raises:
            QueueFullError: the queue is as long as `queue_bound` allows.
            PlaintextRefusedError: messages are not sealed, and this one looks like a secret.
        """
        name = self._q_for_pri(queue, self._get_message_priority(message, reverse=False))
        expire_ms = self._expires.get(queue, 0)
        call = claims.put(
            name,
            self.bell_of(queue),
            self.sealer.seal(stock.dumps(message), "list", name.encode()),
            field=self.field_of(queue),
            bound=self.options.queue_bound or 0,
            expire_ms=expire_ms,
            lists=self.lists_of(queue) if expire_ms else (),
        )
        if self.call(call, {name: "list", self.bell_of(queue): "list"}) < 0:
            raise QueueFullError(
                f"the queue {queue!r} holds {self.options.queue_bound} messages, and queue_bound no more"
            )

    def redelivered(self, row: Row) -> bytes | None:
        """Return a row's message for its queue, sealed anew and marked, or ``None`` if it is not genuine."""
        name = row.list_name.encode()
        opened = self.sealer.open(row.blob, "list", name)
        if opened is None:
            return None
        message = stock.loads(opened[0])
        message.setdefault("headers", {})["redelivered"] = True
        message["properties"].setdefault("delivery_info", {})["redelivered"] = True
        return self.sealer.seal(stock.dumps(message), "list", name)

    def keep(self) -> None:
        """See that somebody keeps what this channel depends on."""
        if self._keeper is None and not self._closing:
            self._keeper = Keeper(
                self,
                interval=self.options.renewal,
                upkeep=self.options.upkeep_interval,
                visibility_timeout=self.options.visibility_timeout,
            )
            self.qos  # noqa: B018 - made here, and not by two threads at once
            self._keeper.start()

    # The end

    def _purge(self, queue: str) -> int:
        """Remove a queue's messages, and say how many there were."""
        with self.conn_or_acquire() as client, client.pipeline() as pipe:
            for name in self.lists_of(queue):
                pipe.llen(name)
            pipe.delete(*self.lists_of(queue), self.bell_of(queue))
            pipe.hdel(claims.LEDGER, queue)
            return int(sum(pipe.execute()[: len(self.priority_steps)]))

    def _delete(self, queue: str, *args: Any, **kwargs: Any) -> None:
        super()._delete(queue, *args, **kwargs)
        with self.conn_or_acquire(client=kwargs.get("client")) as client:
            client.delete(self.bell_of(queue))
            client.hdel(claims.LEDGER, queue)

    def close(self) -> None:
        """Close: what is held goes back to its queues at once, also a message that was on its way."""
        self._closing = True
        if self._keeper is not None:
            self._keeper.stop()
        if self._in_poll and self._awaits == "claim" and not self.closed:
            self._give_up_claim()
        self._in_poll = None
        super().close()

    def _after_fork(self) -> None:
        # The thread stayed with the parent.
        self._keeper = None
        super()._after_fork()

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Any:
        """Lend a client of the pool."""
        yield client or self._create_client()
