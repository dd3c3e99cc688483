"""A cluster's nodes as one asyncio client sees them.

redis-py's asyncio cluster keeps connections in its nodes, and makes the nodes itself. So every client,
parent or child, works on views of them (`NodeView`): a view sets the namespace on each connection that
it takes, waits for one where all are in use, and passes over those that the server has closed. Nothing
but the discovery of the cluster uses a node directly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from redis.asyncio.cluster import ClusterNode
from redis.exceptions import MaxConnectionsError

from tenantkv.namespace import Namespace
from tenantkv.ops.registry import Registrar
from tenantkv.transport.pool import MAX_CONNECTIONS, POOL_WAIT
from tenantkv.transport.redis_py import has_ended, marked_for_reconnect


class Rooms:
    """How many commands may run on each node at once; one for all clients that share the nodes.

    Args:
        size: commands and pipelines at once on a node.
        wait: seconds that another one waits for its turn.
    """

    def __init__(self, size: int = MAX_CONNECTIONS, wait: float = POOL_WAIT) -> None:
        self.size = size
        self.wait = wait
        self._rooms: dict[str, asyncio.Semaphore] = {}

    async def enter(self, node: str) -> None:
        """Wait for a place on a node."""
        room = self._rooms.get(node)
        if room is None:
            room = self._rooms[node] = asyncio.Semaphore(self.size)
        if not room.locked():
            await room.acquire()
            return
        try:
            await asyncio.wait_for(room.acquire(), self.wait)
        except asyncio.TimeoutError:
            raise MaxConnectionsError(
                f"all {self.size} connections to a node are in use, and none came back within "
                f"{self.wait:g} seconds; set max_connections= higher"
            ) from None

    def leave(self, node: str) -> None:
        """Give a place back."""
        self._rooms[node].release()


class Speaker:
    """Whose names a client speaks, and what it shares with others."""

    __slots__ = ("namespace", "registrars", "rooms")

    def __init__(self, namespace: Namespace, registrars: dict[Namespace, Registrar], rooms: Rooms) -> None:
        self.namespace = namespace
        self.registrars = registrars
        self.rooms = rooms


class NodeView(ClusterNode):
    """A node whose connections speak for one namespace.

    A view is made for each use, so that ASKING can wait in it for the command that it belongs to.
    """

    __slots__ = ("_asking", "_node", "_speaker")

    def __init__(self, node: ClusterNode, speaker: Speaker) -> None:
        # Not the base's: a view has no connections of its own.
        self._node = node
        self._speaker = speaker
        self._asking = False

    def __getattr__(self, name: str) -> Any:
        # The base's slots are empty here, so its methods find the node's.
        if name.startswith("__") or name in ("_node", "_speaker", "_asking"):
            raise AttributeError(name)
        return getattr(self._node, name)

    def __del__(self, *_: Any) -> None:
        """Do nothing: the connections are the node's."""

    def __hash__(self) -> int:
        return hash(self._node.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClusterNode) and other.name == self._node.name

    @property
    def plain(self) -> ClusterNode:
        """The node itself."""
        return self._node

    def acquire_connection(self) -> Any:
        """Return a connection that speaks for this view's namespace until it is released."""
        node = self._node
        connection = node.acquire_connection()
        while has_ended(connection) or not connection.session.idle:  # type: ignore[attr-defined]
            # A command on it would be lost, and perhaps one that must not be repeated.
            node._connections.remove(connection)
            connection._close()
            connection = node.acquire_connection()
        speaker = self._speaker
        connection.session.namespace = speaker.namespace  # type: ignore[attr-defined]
        connection.session.registrar = speaker.registrars.get(speaker.namespace)  # type: ignore[attr-defined]
        return connection

    def release(self, connection: Any) -> None:
        """Give a connection back, closed already if it was to be."""
        self._node._free.append(connection)

    async def enter(self) -> Any:
        """Wait for a connection and return it, open."""
        await self._speaker.rooms.enter(self._node.name)
        try:
            connection = self.acquire_connection()
        except BaseException:
            self._speaker.rooms.leave(self._node.name)
            raise
        try:
            if marked_for_reconnect(connection):
                await connection.disconnect()
            await connection.connect()
        except BaseException:
            await self.leave(connection)
            raise
        return connection

    async def leave(self, connection: Any) -> None:
        """Give back what `enter` returned."""
        try:
            if not connection.session.idle or marked_for_reconnect(connection):
                # Replies are left, as when a task was cancelled: nobody else may meet them.
                await connection.disconnect(nowait=True)
        finally:
            self.release(connection)
            self._speaker.rooms.leave(self._node.name)

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Execute a command on this node."""
        if args == ("ASKING",):
            # redis-py would send it on whichever connection is free, and the command on another.
            self._asking = True
            return True
        kwargs.pop("asking", None)
        asking, self._asking = self._asking, False
        connection = await self.enter()
        try:
            if asking:
                packed = connection.pack_commands([("ASKING",), args])
                await connection.send_packed_command(packed)
                await connection.read_response()
            else:
                await connection.send_command(*args)
            return await self.parse_response(connection, args[0], **kwargs)
        finally:
            await self.leave(connection)


class NodesView:
    """redis-py's topology of a cluster, whose nodes are views for one client."""

    __slots__ = ("_manager", "_speaker")

    def __init__(self, manager: Any, speaker: Speaker) -> None:
        object.__setattr__(self, "_manager", manager)
        object.__setattr__(self, "_speaker", speaker)

    def for_speaker(self, speaker: Speaker) -> NodesView:
        """Return the same topology for another client."""
        return NodesView(self._manager, speaker)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in NodesView.__slots__:
            raise AttributeError(name)
        return getattr(self._manager, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._manager, name, value.plain if isinstance(value, NodeView) else value)

    def _view(self, node: Any) -> Any:
        return NodeView(node, self._speaker) if node is not None else None

    @property
    def default_node(self) -> Any:
        """The node for commands that any node can answer."""
        return self._view(self._manager.default_node)

    @default_node.setter
    def default_node(self, node: Any) -> None:
        self.__setattr__("default_node", node)

    @property
    def nodes_cache(self) -> dict[str, Any]:
        """Every node by its name."""
        return {name: self._view(node) for name, node in self._manager.nodes_cache.items()}

    @property
    def slots_cache(self) -> SlotsView:
        """The nodes of each slot."""
        return SlotsView(self._manager.slots_cache, self._view)

    def get_node(self, *args: Any, **kwargs: Any) -> Any:
        """Return a node by its address or name."""
        return self._view(self._manager.get_node(*args, **kwargs))

    def get_node_from_slot(self, *args: Any, **kwargs: Any) -> Any:
        """Return the node for a slot."""
        return self._view(self._manager.get_node_from_slot(*args, **kwargs))

    def get_nodes_by_server_type(self, server_type: str) -> list[Any]:
        """Return the primaries, or the replicas."""
        return self._views(self._manager.get_nodes_by_server_type(server_type))

    def _views(self, nodes: Iterable[Any]) -> list[Any]:
        return [self._view(node) for node in nodes]


class SlotsView:
    """A cluster's slots, whose nodes are views."""

    __slots__ = ("_slots", "_view")

    def __init__(self, slots: Mapping[int, list[Any]], view: Any) -> None:
        self._slots = slots
        self._view = view

    def __getitem__(self, slot: int) -> list[Any]:
        return [self._view(node) for node in self._slots[slot]]

    def get(self, slot: int, default: Any = None) -> Any:
        """Return a slot's nodes."""
        return self[slot] if slot in self._slots else default
