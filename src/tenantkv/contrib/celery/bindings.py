"""Which queues an exchange leads to: sealed members on the server, and what was declared here.

A server that evicts loses these tables like everything else. Stock kombu then drops what is published
without a word; here the channels that declared a binding know it as well, and put it back.
"""

from __future__ import annotations

from typing import Any

from tenantkv.contrib.celery import claims, drops, stock
from tenantkv.contrib.celery.client import as_bytes


class Bindings(stock.Channel):
    """The part of `channel.Channel` that knows bindings, and looks after what may be evicted."""

    def get_table(self, exchange: str) -> list[tuple[str, ...]]:
        """Return an exchange's bindings: the server's genuine ones, and those that were declared here.

        Stock kombu drops a message without a word when the server has lost the table.
        """
        with self.conn_or_acquire() as client:
            members = client.smembers(self.keyprefix_queue % exchange)
        table = {tuple(member.decode().split(self.sep)) for member in members or ()}
        own = self.state.exchanges.get(exchange, {}).get("table") or ()
        return [*table, *(row for row in map(_plain, own) if row not in table)]

    def upkeep(self) -> None:
        """Put own bindings back, say which queues lost messages, and touch what must not be evicted."""
        consumed = [queue for queue in self.active_queues if self.field_of(queue)]
        lost = 0
        for queue in consumed:
            lost += max(0, self.call(claims.audit(queue, self.lists_of(queue)), self._types_of(queue)))
        if lost:
            drops.note("lost", lost)
        with self.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
            rebuilt = [self._rebind(pipe, queue) for queue in list(self._active_queues)]
            kept = [name for queue in consumed for name in self.lists_of(queue)]
            pipe.touch(self.names.unacked, self.names.index, *kept)
            replies = pipe.execute()
        new = sum(replies[: sum(rebuilt)])
        if new and self._was_kept:
            drops.note("rebuilt", new)
        self._was_kept = True

    _was_kept = False

    def _types_of(self, queue: str) -> dict[str, str]:
        return dict.fromkeys(self.lists_of(queue), "list")

    def _rebind(self, pipe: Any, queue: str) -> int:
        """Add a queue's bindings to those of the server; return how many commands that takes."""
        if queue in self._expires:
            return 0  # kombu's own refresh has them.
        commands = 0
        for exchange, routing_key, arguments in list(self.state.queue_bindings(queue)):
            row = self.typeof(exchange).prepare_bind(queue, exchange, routing_key, arguments)
            member = self.sep.join(_plain(row))
            pipe.sadd(self.keyprefix_queue % exchange, member)
            commands += 1
            if permanent := getattr(self, "keyprefix_binding_permanent", None):
                pipe.sadd(permanent % exchange, member)
                commands += 1
        return commands

    @property
    def _refresh_binding(self) -> Any:
        """kombu's script that puts the binding of an expiring queue in place; its member is sealed here."""
        script = self.__dict__.get("_refresh_script")
        if script is None:
            script = self.__dict__["_refresh_script"] = self._create_client().register_script(
                stock.REFRESH_BINDING
            )

        def refresh(*, keys: list[str], args: list[Any], client: Any) -> Any:
            member = self.sealer.seal_member(as_bytes(args[0]), as_bytes(keys[0]))
            return script(keys=keys, args=[member, *args[1:]], client=client)

        return refresh


def _plain(row: Any) -> tuple[str, ...]:
    """Return a binding as its three texts."""
    return tuple(part or "" for part in row)
