"""Pipelines and pub/sub of the asyncio cluster client; the twin of `cluster_pipeline.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from inspect import iscoroutinefunction
from typing import Any

from redis import asyncio as aredis
from redis.asyncio import cluster as redis_cluster
from redis.exceptions import RedisError, ResponseError, WatchError

from tenantkv.transport.cluster_pipeline import UNBLOCKED, Channels
from tenantkv.transport.cluster_slots import (
    ELSEWHERE,
    LOST,
    REDIRECTIONS,
    SOON,
    Queued,
    has_moved,
    is_later,
    plan,
    raise_first,
    sent_to,
)
from tenantkv.transport.pipeline import annotate
from tenantkv.transport.redis_py import queue_of, transaction_of
from tenantkv.transport.retry import is_unrepeatable


class AsyncTenantClusterPipeline(redis_cluster.ClusterPipeline):
    """A pipeline that finds slots by wire names. Made by `AsyncTenantRedisCluster.pipeline`."""

    def __init__(self, client: Any, *args: Any) -> None:
        super().__init__(client, *args)
        self.tenant = client
        strategy = transaction_of(self)
        if strategy is not None:
            keep_watch(strategy)
            strategy._annotate_exception = annotate

    async def execute(self, raise_on_error: bool = True, allow_redirections: bool = True) -> Any:
        """Send all commands, each node's in one packet, and return the replies in order."""
        if transaction_of(self) is not None:
            return await super().execute(raise_on_error, allow_redirections)
        queue = [Queued(*each, number) for number, each in enumerate(queue_of(self))]
        try:
            await execute(self.tenant, queue, redirect=allow_redirections)
        finally:
            # Leaving the context of a pipeline empties it, in every version of redis-py.
            await super().__aexit__(None, None, None)
        if raise_on_error:
            raise_first(queue)
        return [command.result for command in queue]

    def mset_nonatomic(self, mapping: Any) -> Any:
        """Queue an MSET for each slot; the results come as one each."""
        for pairs in self.tenant._partition_pairs_by_slot(mapping).values():
            self.execute_command("MSET", *pairs)
        return self


for _name in UNBLOCKED:
    _method = getattr(aredis.RedisCluster, _name, None)
    if _method is not None and not iscoroutinefunction(_method):
        setattr(AsyncTenantClusterPipeline, _name, _method)


async def execute(client: Any, queue: Sequence[Queued], *, raw: bool = False, redirect: bool = True) -> None:
    """Do a pipeline's commands, and put each one's reply or error into its ``result``.

    Args:
        client: the cluster client.
        queue: the commands.
        raw: leave the replies as the protocol gives them.
        redirect: whether a command that a node declined is tried on the node that it names.

    Raises:
        RefusedError: nothing was sent.
        redis.exceptions.ConnectionError: a node cannot be reached; nothing was sent.
    """
    await client.repeat(lambda: _exchange(client, queue, raw))
    if raw and has_moved(queue):
        client.refresh()
    for command in queue:
        error = command.result
        # An error that is safe to repeat stands for a whole packet without an unsafe command.
        is_elsewhere = redirect and isinstance(error, ELSEWHERE)
        if not is_elsewhere and (not isinstance(error, LOST) or is_unrepeatable(error)):
            continue
        try:
            if raw:
                await _do_again(client, command)
            else:
                command.result = await client.execute_command(*command.args, **command.options)
        except RedisError as again:
            command.result = again


async def _do_again(client: Any, command: Queued) -> None:
    """Do a command of our own where it belongs. redis-py would take it for one of the user's."""
    for _ in range(REDIRECTIONS):
        error, command.result = command.result, None
        node, asking = sent_to(client, error)
        if node is None:
            client.refresh()
        if is_later(error):
            await asyncio.sleep(SOON)
        if node is None:
            await client.repeat(lambda: _exchange(client, [command], True))
        else:
            await _send_to(node, command, asking=asking)
        if not isinstance(command.result, ELSEWHERE):
            return


async def _send_to(node: Any, command: Queued, *, asking: bool) -> None:
    connection = await node.enter()
    try:
        if asking:
            packed = connection.pack_commands([("ASKING",), command.args])
            await connection.send_packed_command(packed)
            await connection.read_response()
        else:
            await connection.send_command(*command.args)
        command.result = await connection.read_response(disable_decoding=True)
    except LOST as error:
        await connection.disconnect(nowait=True)
        command.result = error
    except ResponseError as error:
        command.result = error
    finally:
        await node.leave(connection)


class _Batch:
    """One node's part of a pipeline."""

    def __init__(self, node: Any, commands: list[Queued], connection: Any) -> None:
        self.node = node
        self.commands = commands
        self.connection = connection
        self.packed: Any = None

    def pack(self) -> None:
        self.packed = self.connection.pack_commands([command.args for command in self.commands])

    async def exchange(self, raw: bool) -> None:
        try:
            await self.connection.send_packed_command(self.packed)
            for command in self.commands:
                try:
                    command.result = await self._read_one(command, raw)
                except ResponseError as error:
                    command.result = error
        except LOST as error:
            await self.connection.disconnect(nowait=True)
            for command in self.commands:
                command.result = error

    async def _read_one(self, command: Queued, raw: bool) -> Any:
        if raw:
            return await self.connection.read_response(disable_decoding=True)
        return await self.node.parse_response(self.connection, command.args[0], **command.options)

    async def close(self) -> None:
        await self.node.leave(self.connection)


async def _exchange(client: Any, queue: Sequence[Queued], raw: bool) -> None:
    batches: list[_Batch] = []
    try:
        for node, commands in plan(client, queue).values():
            batches.append(_Batch(node, commands, await node.enter()))
        for batch in batches:
            batch.pack()
        await asyncio.gather(*(batch.exchange(raw) for batch in batches))
    except LOST:
        # No connection to be had: the node may be gone for good, and another one have its slots.
        client.refresh()
        raise
    finally:
        for batch in batches:
            await batch.close()
    if any(isinstance(command.result, LOST) for command in queue):
        client.refresh()


def keep_watch(strategy: Any) -> None:
    """Let a redis-py transaction fail if its connection is lost while it watches keys."""
    original = strategy._reinitialize_on_error

    async def after(error: Exception, *more: Any) -> Any:
        watched = strategy._watching
        outcome = await original(error, *more)
        if watched and isinstance(error, LOST):
            raise WatchError("A connection error occurred while watching one or more keys")
        return outcome

    strategy._reinitialize_on_error = after


def make_pubsub(client: Any, **kwargs: Any) -> Any:
    """Return a pub/sub object, where redis-py has one for asyncio clusters (redis-py 8).

    Raises:
        NotImplementedError: it has none.
    """
    base = getattr(redis_cluster, "ClusterPubSub", None)
    if base is None:
        raise NotImplementedError("pub/sub of asyncio clusters needs redis-py 8")
    pubsub = base(Channels(client), **kwargs)
    for name in ("execute_command", "ssubscribe"):
        setattr(pubsub, name, _once_initialized(client, getattr(pubsub, name)))
    original = pubsub._get_node_pubsub

    def get_node_pubsub(node: Any) -> Any:
        found = original(node)
        found._resubscribe_shard_channels = partial(_resubscribe, found, client)
        return found

    pubsub._get_node_pubsub = get_node_pubsub
    return pubsub


def _once_initialized(client: Any, method: Any) -> Any:
    async def call(*args: Any, **kwargs: Any) -> Any:
        await client.initialize()
        return await method(*args, **kwargs)

    return call


async def _resubscribe(pubsub: Any, client: Any) -> None:
    by_slot: dict[int, dict[Any, Any]] = {}
    for channel, handler in pubsub.shard_channels.items():
        by_slot.setdefault(client.channel_slot(channel), {})[channel] = handler
    for subscriptions in by_slot.values():
        await pubsub._resubscribe(subscriptions, pubsub.ssubscribe)
