"""The sync Cluster client: a ``redis.RedisCluster`` that stays inside the tenant's namespace.

How it hangs together: slots are computed on wire names (`cluster_slots.py`); each node has a
`NamespacedConnectionPool`; a child client shares the topology and the pools of its parent and borrows
connections through views of them. What is repeated, and when, is decided here and not by redis-py.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from typing import Any, TypeVar

import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException, ResponseError

from tenantkv.errors import ConfigurationError, RefusedError
from tenantkv.namespace import Namespace
from tenantkv.ops import own_keys
from tenantkv.ops.effects import Operation
from tenantkv.ops.own_keys import Usage
from tenantkv.ops.registry import Registrar
from tenantkv.transport import cluster_pipeline
from tenantkv.transport.client import (
    EMULATED,
    ONLY_EMULATED,
    emulated_words,
    is_missing,
    sampler,
    without_reserved,
)
from tenantkv.transport.cluster_nodes import ClusterConnection, ClusterSSLConnection, node_pool
from tenantkv.transport.cluster_pipeline import TenantClusterPipeline, TenantClusterPubSub
from tenantkv.transport.cluster_slots import (
    UNSETTLED,
    Queued,
    SlotRouting,
    named_nodes,
    rebound_policies,
    unreachable,
)
from tenantkv.transport.connect import Target
from tenantkv.transport.decoding import decode_deep
from tenantkv.transport.drivers import drive, exchange
from tenantkv.transport.pipeline import annotate
from tenantkv.transport.primitives import Primitives
from tenantkv.transport.redis_py import cluster_retries, transaction_of
from tenantkv.transport.refusals import as_response
from tenantkv.transport.registrars import include, registrar_for
from tenantkv.transport.retry import default_retry
from tenantkv.transport.speaking import SpeakingClient

Result = TypeVar("Result")


class TenantRedisCluster(Primitives, SpeakingClient, SlotRouting, RedisCluster):
    """A drop-in ``redis.RedisCluster`` for one namespace. Make it with :func:`tenantkv.connect`.

    Args:
        namespace: whose names it speaks.
        hosts: (host, port) of nodes to ask for the others.
        tls: whether connections use TLS.
        registry: whether own names are indexed on the server; with ``placement="slot"`` only.
        retry: the policy for what is safe to repeat.
        options: as for ``redis.RedisCluster``; ``max_connections`` and ``pool_wait`` count for each node.

    Raises:
        redis.exceptions.RedisClusterException: no node answers, or they form no cluster.
    """

    def __init__(
        self,
        namespace: Namespace,
        hosts: Sequence[tuple[str, int]],
        *,
        tls: bool = False,
        registry: bool = False,
        retry: Any = None,
        **options: Any,
    ) -> None:
        check_registry(namespace, registry)
        self._namespace = namespace
        self._parent: TenantRedisCluster | None = None
        self._views: dict[str, tuple[Any, Any]] = {}
        self._registrars = {namespace: registrar_for(namespace)} if registry else {}
        self._policy = cluster_policy(retry or default_retry())
        self._lacks_scan = self._is_made = False
        cluster = {k: v for k, v in options.items() if k in signature(RedisCluster).parameters}
        given = {k: v for k, v in options.items() if k not in cluster}
        given["connection_class"] = ClusterSSLConnection if tls else ClusterConnection
        given["namespace"] = namespace
        (host, port), *others = hosts
        # Only with a URL does redis-py use our function to make pools.
        super().__init__(
            url=f"redis://{f'[{host}]' if ':' in host else host}:{port}",
            startup_nodes=[ClusterNode(*each) for each in others],
            connection_pool_class=partial(node_pool, given, self._registrars),
            **{**given, **cluster, **cluster_retries(self._policy)},
        )
        self._is_made = True

    @property
    def namespace(self) -> Namespace:  # type: ignore[override]
        """Whose names this client speaks."""
        return self._namespace

    @property
    def registrar(self) -> Registrar | None:
        """The index of own names that this client keeps, if it does."""
        return self._registrars.get(self._namespace)

    def child(self, name: str) -> TenantRedisCluster:
        """Return a client for the sub-tenant `name`, on the same connections."""
        return self.for_namespace(self.namespace.child(name))

    def for_namespace(self, namespace: Namespace) -> TenantRedisCluster:
        """Return a client for another namespace, on the same connections. No round trip.

        It shares the topology and the pools; closing it closes nothing.
        """
        check_registry(namespace, bool(self._registrars))
        include(self._registrars, namespace)
        child = copy.copy(self)
        child._parent = self._parent or self
        child._namespace = namespace
        child._views = {}
        policies = rebound_policies(child, getattr(self, "_policies_callback_mapping", None))
        if policies is not None:
            child._policies_callback_mapping = policies
        return child

    def close(self) -> None:
        """Close the connections; a child's are its parent's, and stay."""
        if getattr(self, "_parent", None) is None:
            super().close()

    def get_redis_connection(self, node: Any) -> Any:
        """Return the client of one node, speaking for this namespace."""
        own = super().get_redis_connection(node)
        if self._parent is None:
            return own
        pool = own.connection_pool
        known, view = self._views.get(node.name, (None, None))
        if known is not pool:
            view = redis.Redis(connection_pool=pool.view(self._namespace))  # type: ignore[attr-defined]
            self._views[node.name] = (pool, view)
        return view

    # Commands

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command on the node that has its keys, and return a parsed response.

        Raises:
            RefusedError: also a ``redis.exceptions.ResponseError``; nothing was sent.
        """
        name = args[0] if args else ""
        if name == "COMMAND" and not self._is_made:
            # redis-py asks for the key positions, which the command table has.
            return {}
        if type(name) is str and name in EMULATED:
            return self._look_at_many(name, args, options)
        self.check(args)
        if type(name) is not str:
            # redis-py's cluster computes with the name as text.
            args = (str(name, "ascii"), *args[1:])  # type: ignore[arg-type]
        return self._send(args, options)

    def _send(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        call = partial(super().execute_command, *args, **options)
        return call() if has_targets(options) else self.repeat(call)

    def repeat(self, call: Callable[[], Result]) -> Result:
        """Call until it succeeds, or must not be repeated, or the policy ends."""

        def once() -> Result:
            try:
                return call()
            except RedisClusterException as error:
                raise unreachable(error) from error.__cause__

        result: Result = self._policy.call_with_retry(once, lambda *_: self.replace_default_node())
        return result

    def refresh(self) -> None:
        """Ask the cluster for its nodes anew."""
        try:
            self.nodes_manager.initialize()
        except RedisClusterException:
            # The next command says so.
            pass

    # What looks at many keys

    def run(self, operation: Operation[Result], *, nodes: Sequence[Any] | None = None) -> Result:
        """Drive one of tenantkv's operations. Its keys may lie in several slots.

        Args:
            operation: the operation.
            nodes: the nodes whose keys SCAN lists; otherwise all that may have own keys.
        """
        try:
            return drive(partial(self._exchange, nodes), operation)
        except RefusedError as error:
            raise as_response(error) from None

    def namespace_usage(self, *, sample: int = 1000) -> Usage:
        """Measure the namespace over all nodes; see `TenantRedis.namespace_usage`."""
        registrar = self.registrar
        return self.run(own_keys.usage(registrar, sampler(sample), time.time()))

    def _look_at_many(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Answer a command that looks at many keys: by the servers where they can, else by ourselves."""
        if not (name.upper() in ONLY_EMULATED or self.hides_names) and not self._lacks_scan:
            try:
                return without_reserved(self._ask_nodes(args, options))
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
        reply = self.run(operation, nodes=self._targets(options))
        if self.encoder.decode_responses:
            reply = decode_deep(reply, self.encoder.decode)
        # redis-py's cluster has a cursor for each node.
        return ({self._own_nodes()[0].name: reply[0]}, reply[1]) if name.upper() == "SCAN" else reply

    def _ask_nodes(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if options.get("target_nodes") is not None:
            return self._send(args, options)
        call = super().execute_command
        return self.repeat(lambda: call(*args, **{**options, "target_nodes": self._own_nodes()}))  # type: ignore[no-untyped-call]

    def _own_nodes(self) -> list[Any]:
        """Return the nodes that may have own keys."""
        slot = self.own_slot
        return list(self.get_primaries() if slot is None else [self.nodes_manager.get_node_from_slot(slot)])  # type: ignore[no-untyped-call]

    def _targets(self, options: dict[str, Any]) -> Sequence[Any] | None:
        targets = options.get("target_nodes")
        if targets is None:
            return None
        return (
            named_nodes(self, targets)
            if isinstance(targets, str)
            else list(self._parse_target_nodes(targets))  # type: ignore[no-untyped-call]
        )

    def _exchange(self, nodes: Sequence[Any] | None, commands: list[tuple[Any, ...]]) -> list[Any]:
        if commands[0][0] == b"SCAN":
            return [self.repeat(lambda: self._scan(nodes or self._own_nodes()))]
        queue = [Queued(command, {}, number) for number, command in enumerate(commands)]
        cluster_pipeline.execute(self, queue, raw=True)
        for command in queue:
            if isinstance(command.result, Exception) and not isinstance(command.result, ResponseError):
                raise command.result
        return [command.result for command in queue]

    def _scan(self, nodes: Sequence[Any]) -> Any:
        """Return SCAN's reply as one server would give it that held the keys of all nodes."""
        names: dict[bytes, None] = {}
        for node in nodes:
            pool = self.get_redis_connection(node).connection_pool
            cursor: Any = 0
            while cursor != b"0":
                (reply,) = exchange(pool, [("SCAN", cursor, "COUNT", own_keys.PAGE)])
                if isinstance(reply, ResponseError):
                    return reply
                cursor, page = reply
                # A key that is being moved to another node may be seen twice.
                names.update(dict.fromkeys(page))
        return [b"0", list(names)]

    # Pipelines and pub/sub

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> Any:
        """Return a pipeline; with ``transaction=True`` its keys need a slot in common."""
        pipe: Any = super().pipeline(transaction, shard_hint)  # type: ignore[no-untyped-call]
        pipe.__class__ = TenantClusterPipeline
        pipe.tenant = self
        pipe.encoder = self.encoder
        strategy = transaction_of(pipe)
        if strategy is not None:
            cluster_pipeline.keep_watch(strategy)
            strategy.annotate_exception = annotate
        return pipe

    def pubsub(self, node: Any = None, host: Any = None, port: Any = None, **kwargs: Any) -> Any:
        """Return a pub/sub object; sharded channels go to the nodes of their wire names."""
        return TenantClusterPubSub(self, node=node, host=host, port=port, **kwargs)

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__}({self._namespace!r})>"


def check_registry(namespace: Namespace, registry: bool) -> None:
    """Raise for a registry whose shards would lie on many nodes, and for hidden names on many."""
    if namespace.protection.names == "hidden" and namespace.placement != "slot":
        raise ConfigurationError(
            "on a cluster hidden names need placement='slot', since a hash says nothing of hash tags"
        )
    if registry and namespace.placement != "slot":
        raise ConfigurationError(
            "on a cluster the registry needs placement='slot', since a name and its entry in the "
            "registry are written in one packet, to one node; or list keys with SCAN"
        )


def has_targets(options: dict[str, Any]) -> bool:
    """Whether a caller chose nodes by themselves: they may be gone after a change, so no repeats."""
    targets = options.get("target_nodes")
    return targets is not None and not isinstance(targets, str)


def cluster_policy(retry: Any) -> Any:
    """Return a copy of a retry policy for a cluster client, which redis-py's own loops keep off."""
    policy = copy.copy(retry)
    policy.update_supported_errors(list(UNSETTLED))
    policy.get_retries = lambda: 0
    return policy


def connect_cluster(found: Target) -> TenantRedisCluster:
    """Return a client for a cluster URL. Asks the cluster for its nodes.

    Raises:
        ConfigurationError: the registry is on, and the placement is not ``"slot"``.
    """
    options, retry = cluster_options(found)
    return TenantRedisCluster(
        found.namespace,
        found.settings.server.hosts,
        tls=found.scheme == "rediss",
        registry=found.settings.registry,
        retry=retry,
        **options,
    )


def cluster_options(found: Target) -> tuple[dict[str, Any], Any]:
    """Return a target's options without its address, and its retry policy."""
    options = {k: v for k, v in found.options.items() if k not in ("host", "port", "db")}
    return options, options.pop("retry", None)
