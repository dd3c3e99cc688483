"""The asyncio Cluster client; the twin of `cluster.py`."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from functools import partial
from inspect import signature
from typing import Any, TypeVar

from redis import asyncio as aredis
from redis.asyncio import cluster as redis_cluster
from redis.exceptions import RedisClusterException, ResponseError

from tenantkv.errors import RefusedError
from tenantkv.namespace import Namespace
from tenantkv.ops import own_keys
from tenantkv.ops.effects import Operation
from tenantkv.ops.own_keys import Usage
from tenantkv.ops.registry import Registrar
from tenantkv.transport import async_cluster_pipeline
from tenantkv.transport.async_cluster_nodes import NodesView, Rooms, Speaker
from tenantkv.transport.async_cluster_pipeline import AsyncTenantClusterPipeline, make_pubsub
from tenantkv.transport.async_connection import (
    AsyncNamespacedConnection,
    AsyncNamespacedSSLConnection,
)
from tenantkv.transport.client import (
    EMULATED,
    ONLY_EMULATED,
    emulated_words,
    is_missing,
    sampler,
    without_reserved,
)
from tenantkv.transport.cluster import (
    check_registry,
    cluster_options,
    cluster_policy,
    has_targets,
)
from tenantkv.transport.cluster_slots import (
    Queued,
    SlotRouting,
    TableParser,
    named_nodes,
    rebound_policies,
    unreachable,
)
from tenantkv.transport.connect import Target
from tenantkv.transport.decoding import decode_deep
from tenantkv.transport.drivers import adrive
from tenantkv.transport.pool import MAX_CONNECTIONS, POOL_WAIT
from tenantkv.transport.primitives import AsyncPrimitives
from tenantkv.transport.redis_py import async_cluster_retries, asyncio_arguments
from tenantkv.transport.refusals import as_response
from tenantkv.transport.registrars import include, registrar_for
from tenantkv.transport.retry import default_async_retry
from tenantkv.transport.speaking import SpeakingClient

Result = TypeVar("Result")

# Whether the task is inside of a command. redis-py closes all connections, also those in use, when it
# wants to ask for the nodes anew; commands of other tasks would be lost with them.
_in_command: ContextVar[bool] = ContextVar("_in_command", default=False)


class AsyncTenantRedisCluster(AsyncPrimitives, SpeakingClient, SlotRouting, aredis.RedisCluster):  # type: ignore[misc]
    """A drop-in ``redis.asyncio.RedisCluster`` for one namespace; see `TenantRedisCluster`.

    Make it with :func:`tenantkv.asyncio.connect`. The first command asks the cluster for its nodes.

    Args:
        namespace: whose names it speaks.
        hosts: (host, port) of nodes to ask for the others.
        tls: whether connections use TLS.
        registry: whether own names are indexed on the server; with ``placement="slot"`` only.
        retry: the policy for what is safe to repeat.
        max_connections: commands that run on one node at once. Pub/sub and transactions hold a connection
            of their own for as long as they last, and there are as many again for them.
        pool_wait: seconds that another command waits for its turn.
        options: as for ``redis.asyncio.RedisCluster``.
    """

    def __init__(
        self,
        namespace: Namespace,
        hosts: Sequence[tuple[str, int]],
        *,
        tls: bool = False,
        registry: bool = False,
        retry: Any = None,
        max_connections: int = MAX_CONNECTIONS,
        pool_wait: float = POOL_WAIT,
        **options: Any,
    ) -> None:
        check_registry(namespace, registry)
        self._parent: AsyncTenantRedisCluster | None = None
        self._policy = cluster_policy(retry or default_async_retry())
        self._lacks_scan = False
        options = asyncio_arguments(options)
        known = signature(aredis.RedisCluster).parameters
        super().__init__(
            startup_nodes=[redis_cluster.ClusterNode(*each) for each in hosts],
            max_connections=2 * max_connections,
            ssl=tls,
            **{k: v for k, v in options.items() if k in known},
            **async_cluster_retries(self._policy),
        )
        bound = AsyncNamespacedSSLConnection if tls else AsyncNamespacedConnection
        manager = self.nodes_manager
        # One dictionary for all nodes that will ever be made, in every version of redis-py.
        assert manager.connection_kwargs is self.connection_kwargs
        self.connection_kwargs.update(
            {k: v for k, v in options.items() if k not in known},
            connection_class=bound,
            namespace=namespace,
        )
        nodes = [redis_cluster.ClusterNode(*each, **self.connection_kwargs) for each in hosts]
        manager.startup_nodes = {node.name: node for node in nodes}
        registrars = {namespace: registrar_for(namespace)} if registry else {}
        self._speaker = Speaker(namespace, registrars, Rooms(max_connections, pool_wait))
        self.nodes_manager = NodesView(manager, self._speaker)  # type: ignore[assignment]
        self.commands_parser = TableParser()  # type: ignore[assignment]

    @property
    def namespace(self) -> Namespace:  # type: ignore[override]
        """Whose names this client speaks."""
        return self._speaker.namespace

    @property
    def registrar(self) -> Registrar | None:
        """The index of own names that this client keeps, if it does."""
        return self._speaker.registrars.get(self._speaker.namespace)

    def child(self, name: str) -> AsyncTenantRedisCluster:
        """Return a client for the sub-tenant `name`, on the same connections."""
        return self.for_namespace(self.namespace.child(name))

    def for_namespace(self, namespace: Namespace) -> AsyncTenantRedisCluster:
        """Return a client for another namespace, on the same connections.

        It shares the topology and the connections; closing it closes nothing.
        """
        speaker = self._speaker
        check_registry(namespace, bool(speaker.registrars))
        include(speaker.registrars, namespace)
        child = copy.copy(self)
        child._parent = self._parent or self
        child._speaker = Speaker(namespace, speaker.registrars, speaker.rooms)
        child.nodes_manager = self.nodes_manager.for_speaker(child._speaker)  # type: ignore[attr-defined]
        policies = rebound_policies(child, getattr(self, "_policies_callback_mapping", None))
        if policies is not None:
            child._policies_callback_mapping = policies
        return child

    async def aclose(self) -> None:
        """Close the connections; a child's are its parent's, and stay."""
        if self._parent is None and not _in_command.get():
            await super().aclose()
        else:
            self._initialize = True

    def __del__(self, *args: Any, **kwargs: Any) -> None:
        """Warn of a client that was not closed, as redis-py does; a child need not be."""
        if getattr(self, "_parent", self) is None:
            super().__del__(*args, **kwargs)

    # Commands

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command on the node that has its keys, and return a parsed response.

        Raises:
            RefusedError: also a ``redis.exceptions.ResponseError``; nothing was sent.
        """
        name = args[0] if args else ""
        if type(name) is str and name in EMULATED:
            return await self._look_at_many(name, args, options)
        self.check(args)
        if type(name) is not str:
            # redis-py's cluster computes with the name as text.
            args = (str(name, "ascii"), *args[1:])  # type: ignore[arg-type]
        return await self._send(args, options)

    async def _send(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        call = partial(super().execute_command, *args, **options)
        if not has_targets(options):
            return await self.repeat(call)
        await self.initialize()
        return await call()

    async def repeat(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Call until it succeeds, or must not be repeated, or the policy ends."""

        async def once() -> Result:
            token = _in_command.set(True)
            try:
                # Before it knows the nodes, redis-py sends commands anywhere.
                await self.initialize()
                return await call()
            except RedisClusterException as error:
                raise unreachable(error) from error.__cause__
            finally:
                _in_command.reset(token)

        async def after(*_: Any) -> None:
            self.replace_default_node()

        result: Result = await self._policy.call_with_retry(once, after)
        return result

    def refresh(self) -> None:
        """Have the next command ask the cluster for its nodes anew."""
        self._initialize = True

    # What looks at many keys

    async def run(self, operation: Operation[Result], *, nodes: Sequence[Any] | None = None) -> Result:
        """Drive one of tenantkv's operations; see `TenantRedisCluster.run`."""
        try:
            return await adrive(partial(self._exchange, nodes), operation)
        except RefusedError as error:
            raise as_response(error) from None

    async def namespace_usage(self, *, sample: int = 1000) -> Usage:
        """Measure the namespace over all nodes; see `TenantRedis.namespace_usage`."""
        registrar = self.registrar
        return await self.run(own_keys.usage(registrar, sampler(sample), time.time()))

    async def _look_at_many(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Answer a command that looks at many keys: by the servers where they can, else by ourselves."""
        if not (name.upper() in ONLY_EMULATED or self.hides_names) and not self._lacks_scan:
            try:
                return without_reserved(await self._ask_nodes(args, options))
            except ResponseError as error:
                if not is_missing(error):
                    raise
                self._lacks_scan = True
        operation = own_keys.emulate(
            emulated_words(args, self.encoder),
            self.registrar,
            random.choice,
            time.time(),
        )
        await self.initialize()
        reply = await self.run(operation, nodes=self._targets(options))
        if self.encoder.decode_responses:
            reply = decode_deep(reply, self.encoder.decode)
        # redis-py's cluster has a cursor for each node.
        return ({self._own_nodes()[0].name: reply[0]}, reply[1]) if name.upper() == "SCAN" else reply

    async def _ask_nodes(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if options.get("target_nodes") is not None:
            return await self._send(args, options)
        call = super().execute_command
        return await self.repeat(lambda: call(*args, **{**options, "target_nodes": self._own_nodes()}))

    def _own_nodes(self) -> list[Any]:
        """Return the nodes that may have own keys."""
        slot = self.own_slot
        return list(self.get_primaries() if slot is None else [self.nodes_manager.get_node_from_slot(slot)])

    def _targets(self, options: dict[str, Any]) -> Sequence[Any] | None:
        targets = options.get("target_nodes")
        if targets is None:
            return None
        return (
            named_nodes(self, targets)
            if isinstance(targets, str)
            else list(self._parse_target_nodes(targets))
        )

    async def _exchange(self, nodes: Sequence[Any] | None, commands: list[tuple[Any, ...]]) -> list[Any]:
        if commands[0][0] == b"SCAN":
            return [await self.repeat(lambda: self._scan(nodes))]
        queue = [Queued(command, {}, number) for number, command in enumerate(commands)]
        await async_cluster_pipeline.execute(self, queue, raw=True)
        for command in queue:
            if isinstance(command.result, Exception) and not isinstance(command.result, ResponseError):
                raise command.result
        return [command.result for command in queue]

    async def _scan(self, nodes: Sequence[Any] | None) -> Any:
        """Return SCAN's reply as one server would give it that held the keys of all nodes."""
        names: dict[bytes, None] = {}
        for node in nodes or self._own_nodes():
            connection = await node.enter()
            try:
                cursor: Any = 0
                while cursor != b"0":
                    await connection.send_command("SCAN", cursor, "COUNT", own_keys.PAGE)
                    cursor, page = await connection.read_response(disable_decoding=True)
                    # A key that is being moved to another node may be seen twice.
                    names.update(dict.fromkeys(page))
            except ResponseError as error:
                return error
            finally:
                await node.leave(connection)
        return [b"0", list(names)]

    # Pipelines and pub/sub

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> Any:
        """Return a pipeline; with ``transaction=True`` its keys need a slot in common."""
        if shard_hint:
            raise RedisClusterException("shard_hint is deprecated in cluster mode")
        if hasattr(redis_cluster, "TransactionStrategy"):
            return AsyncTenantClusterPipeline(self, transaction)  # type: ignore[abstract]
        if transaction:
            raise RedisClusterException("transactions on a cluster need redis-py 6.2")
        return AsyncTenantClusterPipeline(self)  # type: ignore[abstract]

    def pubsub(self, node: Any = None, host: Any = None, port: Any = None, **kwargs: Any) -> Any:
        """Return a pub/sub object; sharded channels go to the nodes of their wire names."""
        return make_pubsub(self, node=node, host=host, port=port, **kwargs)

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__}({self.namespace!r})>"


def connect_cluster(found: Target) -> AsyncTenantRedisCluster:
    """Return an asyncio client for a cluster URL. No round trip.

    Raises:
        ConfigurationError: the registry is on, and the placement is not ``"slot"``.
    """
    options, retry = cluster_options(found)
    return AsyncTenantRedisCluster(
        found.namespace,
        found.settings.server.hosts,
        tls=found.scheme == "rediss",
        registry=found.settings.registry,
        retry=retry,
        **options,
    )
