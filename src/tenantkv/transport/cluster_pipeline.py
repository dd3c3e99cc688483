"""Pipelines and pub/sub of the sync cluster client.

A pipeline's way to the nodes is our own, for three of redis-py's habits: it repeats an INCR whose reply
was lost, it sends to one node before it has looked at what another is to get, and it blocks every
command with several keys, which with ``placement="slot"`` all work. Transactions are redis-py's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import redis
from redis.cluster import ClusterPipeline, ClusterPubSub
from redis.exceptions import RedisError, ResponseError, WatchError

from tenantkv.namespace import Namespace
from tenantkv.transport.cluster_slots import (
    ELSEWHERE,
    LOST,
    REDIRECTIONS,
    SOON,
    Queued,
    SlotRouting,
    has_moved,
    is_later,
    plan,
    raise_first,
    sent_to,
)
from tenantkv.transport.redis_py import queue_of, transaction_of
from tenantkv.transport.retry import is_unrepeatable

#: Methods that redis-py blocks in a cluster's pipelines, and that work where the keys share a slot.
UNBLOCKED = (
    *("bitop", "brpoplpush", "evalsha", "mget", "mset", "msetex", "msetnx", "pfcount", "pfmerge"),
    *("publish", "rename", "renamenx", "rpoplpush", "sdiff", "sdiffstore", "sinter", "sinterstore"),
    *("smove", "sort", "sunion", "sunionstore"),
)


class TenantClusterPipeline(SlotRouting, ClusterPipeline):
    """A pipeline that finds slots by wire names. Made by `TenantRedisCluster.pipeline`."""

    tenant: Any

    @property
    def namespace(self) -> Namespace:  # type: ignore[override]
        """Whose names this pipeline speaks."""
        namespace: Namespace = self.tenant.namespace
        return namespace

    def get_redis_connection(self, node: Any) -> Any:
        """Return the client for a node, for redis-py's transactions."""
        return self.tenant.get_redis_connection(node)

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send all commands, each node's in one packet, and return the replies in order."""
        if transaction_of(self) is not None:
            return super().execute(raise_on_error)
        queue = [Queued(*each, number) for number, each in enumerate(queue_of(self))]
        try:
            execute(self.tenant, queue)
        finally:
            self.reset()  # type: ignore[no-untyped-call]
        if raise_on_error:
            raise_first(queue)
        return [command.result for command in queue]

    def delete(self, *names: Any) -> Any:
        """Queue a DEL; several names need a slot in common."""
        return self.execute_command("DEL", *names)  # type: ignore[no-untyped-call]

    def unlink(self, *names: Any) -> Any:
        """Queue an UNLINK; several names need a slot in common."""
        return self.execute_command("UNLINK", *names)  # type: ignore[no-untyped-call]

    def eval(self, script: Any, numkeys: int, *keys_and_args: Any) -> Any:  # type: ignore[override]
        """Queue a script."""
        return self.execute_command("EVAL", script, numkeys, *keys_and_args)  # type: ignore[no-untyped-call]

    def mset_nonatomic(self, mapping: Any) -> Any:
        """Queue an MSET for each slot; the results come as one each."""
        for pairs in self._partition_pairs_by_slot(mapping).values():
            self.execute_command("MSET", *pairs)  # type: ignore[no-untyped-call]
        return self


def unblock(pipeline: type, client: type) -> None:
    """Give a pipeline class back the methods that redis-py blocks."""
    for name in UNBLOCKED:
        method = getattr(client, name, None)
        if method is not None:
            setattr(pipeline, name, method)


unblock(TenantClusterPipeline, redis.RedisCluster)


def execute(client: Any, queue: Sequence[Queued], *, raw: bool = False) -> None:
    """Do a pipeline's commands, and put each one's reply or error into its ``result``.

    Args:
        client: the cluster client.
        queue: the commands.
        raw: leave the replies as the protocol gives them.

    Raises:
        RefusedError: nothing was sent.
        redis.exceptions.ConnectionError: a node cannot be reached; nothing was sent.
    """
    client.repeat(lambda: _exchange(client, queue, raw))
    if raw and has_moved(queue):
        client.refresh()
    for command in queue:
        error = command.result
        # An error that is safe to repeat stands for a whole packet without an unsafe command.
        if not isinstance(error, ELSEWHERE) and (not isinstance(error, LOST) or is_unrepeatable(error)):
            continue
        try:
            if raw:
                _do_again(client, command)
            else:
                command.result = client.execute_command(*command.args, **command.options)
        except RedisError as again:
            command.result = again


def _do_again(client: Any, command: Queued) -> None:
    """Do a command of our own where it belongs. redis-py would take it for one of the user's."""
    for _ in range(REDIRECTIONS):
        error, command.result = command.result, None
        node, asking = sent_to(client, error)
        if node is None:
            client.refresh()
        if is_later(error):
            time.sleep(SOON)
        if node is None:
            client.repeat(lambda: _exchange(client, [command], True))
        else:
            _send_to(client.get_redis_connection(node).connection_pool, command, asking=asking)
        if not isinstance(command.result, ELSEWHERE):
            return


def _send_to(pool: Any, command: Queued, *, asking: bool) -> None:
    connection = pool.get_connection()
    try:
        if asking:
            connection.send_command("ASKING")
            connection.read_response()
        connection.send_command(*command.args)
        command.result = connection.read_response(disable_decoding=True)
    except LOST as error:
        connection.disconnect()
        command.result = error
    except ResponseError as error:
        command.result = error
    finally:
        pool.release(connection)


class _Batch:
    """One node's part of a pipeline."""

    def __init__(self, redis_node: Any, commands: list[Queued]) -> None:
        self.node = redis_node
        self.commands = commands
        self.connection = redis_node.connection_pool.get_connection()
        self.packed: Any = None

    def pack(self) -> None:
        self.packed = self.connection.pack_commands([command.args for command in self.commands])

    def send(self) -> None:
        try:
            self.connection.send_packed_command(self.packed)
        except LOST as error:
            self._lose(error)

    def read(self, raw: bool) -> None:
        for command in self.commands:
            if isinstance(command.result, LOST):
                return
            try:
                command.result = self._read_one(command, raw)
            except LOST as error:
                self._lose(error)
            except ResponseError as error:
                command.result = error

    def _read_one(self, command: Queued, raw: bool) -> Any:
        if raw:
            return self.connection.read_response(disable_decoding=True)
        return self.node.parse_response(self.connection, command.args[0], **command.options)

    def _lose(self, error: Exception) -> None:
        self.connection.disconnect()
        for command in self.commands:
            command.result = error

    def close(self) -> None:
        self.node.connection_pool.release(self.connection)


def _exchange(client: Any, queue: Sequence[Queued], raw: bool) -> None:
    batches: list[_Batch] = []
    try:
        for node, commands in plan(client, queue).values():
            batches.append(_Batch(client.get_redis_connection(node), commands))
        for batch in batches:
            batch.pack()
        for batch in batches:
            batch.send()
        for batch in batches:
            batch.read(raw)
    except LOST:
        # No connection to be had: the node may be gone for good, and another one have its slots.
        client.refresh()
        raise
    finally:
        for batch in batches:
            batch.close()
    if any(isinstance(command.result, LOST) for command in queue):
        client.refresh()


def keep_watch(strategy: Any, watch_error: type[Exception] = WatchError) -> None:
    """Let a redis-py transaction fail if its connection is lost while it watches keys.

    redis-py repeats it on a new connection, where nothing is watched any more.
    """
    original = strategy._reinitialize_on_error

    def after(error: Exception, *more: Any) -> Any:
        watched = strategy._watching
        outcome = original(error, *more)
        if watched and isinstance(error, LOST):
            raise watch_error("A connection error occurred while watching one or more keys")
        return outcome

    strategy._reinitialize_on_error = after


class Channels:
    """A cluster client as pub/sub is to see it: what it passes for keys are channels."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_client":
            raise AttributeError(name)
        return getattr(self._client, name)

    def keyslot(self, channel: Any) -> int:
        """Return the slot of a channel."""
        slot: int = self._client.channel_slot(channel)
        return slot

    def get_node_from_key(self, channel: Any, replica: bool = False) -> Any:
        """Return the node that serves a sharded channel."""
        return self._client.nodes_manager.get_node_from_slot(self.keyslot(channel))


class TenantClusterPubSub(ClusterPubSub):
    """Pub/sub that finds the slots of sharded channels by their wire names."""

    def __init__(self, client: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(Channels(client), *args, **kwargs)

    def _get_node_pubsub(self, node: Any) -> Any:
        pubsub = super()._get_node_pubsub(node)  # type: ignore[no-untyped-call]
        if hasattr(pubsub, "_resubscribe_shard_channels"):
            pubsub._resubscribe_shard_channels = partial(resubscribe, pubsub, self.cluster)
        return pubsub


def resubscribe(pubsub: Any, channels: Any) -> None:
    """Subscribe again after a reconnection, with one command for each slot."""
    by_slot: dict[int, dict[Any, Any]] = {}
    for channel, handler in pubsub.shard_channels.items():
        by_slot.setdefault(channels.keyslot(channel), {})[channel] = handler
    for subscriptions in by_slot.values():
        pubsub._resubscribe(subscriptions, pubsub.ssubscribe)
