"""Where a Cluster keeps what a command names: slots of wire names, found by the command table.

redis-py computes slots of the names that callers pass, and asks the server for a command's key positions
(``COMMAND``, ``COMMAND GETKEYS``). Both would be wrong here: the server stores wire names, and sees wire
forms. Everything in this file is without I/O and serves both worlds.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from redis.commands import READ_COMMANDS
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError as _AskError
from redis.exceptions import (
    ClusterDownError,
    RedisClusterException,
    SlotNotCoveredError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError as _MovedError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tenantkv.commands.rule import Rule
from tenantkv.commands.table import find_rule, quick
from tenantkv.errors import RefusedError
from tenantkv.namespace import Namespace
from tenantkv.transport.refusals import as_response
from tenantkv.transport.retry import is_unrepeatable, mark_unrepeatable
from tenantkv.transport.session import packer_of, without_secrets

LOST = (RedisConnectionError, RedisTimeoutError)
#: The node did not do it; another will, or the same a little later.
ELSEWHERE = (_MovedError, _AskError, TryAgainError, ClusterDownError)
#: How often a command goes on to another node, and seconds to wait where none does it at the moment.
REDIRECTIONS, SOON = 16, 0.05
#: What a cluster client repeats beside lost connections.
UNSETTLED = (ClusterDownError, SlotNotCoveredError)

_WITHOUT_KEYS_ANYWHERE = ("EVAL", "FCALL")


class ClusterUnreachableError(RedisClusterException, RedisConnectionError):
    """No node of the cluster answers. Both of redis-py's errors for it, so that either catches it."""


class SlotRouting:
    """Computes slots as the server will, in place of redis-py's methods of the same names.

    Clients and their pipelines inherit it; they have a ``namespace`` and an ``encoder``.
    """

    namespace: Namespace
    encoder: Any

    def keyslot(self, key: Any) -> int:
        """Return the slot in which an own name's key lies."""
        wire = self.namespace.wire_name(packer_of(self.encoder).to_bytes(key))
        return int(key_slot(wire))

    def channel_slot(self, channel: Any) -> int:
        """Return the slot of a sharded channel."""
        own = packer_of(self.encoder).to_bytes(channel)
        return int(key_slot(self.namespace.channel_prefix + own))

    @property
    def own_slot(self) -> int | None:
        """The slot that holds the whole namespace, with ``placement="slot"``."""
        if self.namespace.placement != "slot":
            return None
        return int(key_slot(self.namespace.wire_prefix))

    def slot_of(self, arguments: Sequence[Any]) -> int | None:
        """Return the slot of what a command names, or ``None`` if it names nothing.

        Raises:
            RefusedError: also a ``redis.exceptions.ResponseError``.
            RedisClusterException: it names keys of several slots.
        """
        rule = quick.get(arguments[0]) if arguments else None
        if rule is not None and rule.single and len(arguments) > rule.min_args:
            return self.keyslot(arguments[1])
        words, rule = self._words_and_rule(arguments)
        try:
            positions = rule.locate(words) if rule.locate is not None else ()
        except RefusedError as error:
            raise as_response(error) from None
        if not positions or rule.policy not in ("namespace", "channel"):
            return self._slot_without_keys(rule)
        compute = self.channel_slot if rule.policy == "channel" else self.keyslot
        slots = {compute(words[position]) for position in positions}
        if len(slots) > 1:
            raise RedisClusterException(
                f"{rule.name} - all keys must map to the same key slot: give them a hash tag in "
                "common, or connect with placement='slot'"
            )
        return slots.pop()

    def check(self, arguments: Sequence[Any]) -> None:
        """Raise what the command table has against a command."""
        if not arguments or arguments[0] not in quick:
            self._words_and_rule(arguments)

    def _words_and_rule(self, arguments: Sequence[Any]) -> tuple[list[bytes], Rule]:
        try:
            words = packer_of(self.encoder).words(without_secrets(arguments))
            return words, find_rule(words)
        except RefusedError as error:
            raise as_response(error) from None

    def _slot_without_keys(self, rule: Rule) -> int | None:
        if not rule.name.startswith(_WITHOUT_KEYS_ANYWHERE):
            return None
        # A script may make names of its own, and all of the namespace's lie in one slot, if in any.
        own = self.own_slot
        return random.randrange(REDIS_CLUSTER_HASH_SLOTS) if own is None else own

    def required_slot(self, arguments: Sequence[Any]) -> int:
        """Return the slot of a command that has to go to one.

        Raises:
            RedisClusterException: it names nothing, so that no node can be told.
        """
        slot = self.slot_of(arguments)
        if slot is None:
            name = self._words_and_rule(arguments)[1].name
            raise RedisClusterException(
                f"No way to dispatch {name} to Redis Cluster: it names no key. You can execute the "
                "command by specifying target_nodes=."
            )
        return slot

    # What redis-py's own code calls.

    def determine_slot(self, *args: Any) -> int | None:
        """Return a command's slot, for redis-py's sync client."""
        # CLIENT TRACKING goes to the nodes that the caller passes.
        return self.slot_of(args) if args[0] == "CLIENT TRACKING" else self.required_slot(args)

    async def _determine_slot(self, *args: Any) -> int:
        """Return a command's slot, for redis-py's asyncio client."""
        return self.required_slot(args)

    def _get_command_keys(self, *args: Any) -> Sequence[Any] | None:
        """Return a command's keys, without asking a server."""
        words, rule = self._words_and_rule(args)
        if rule.locate is None or rule.policy != "namespace":
            return None
        return [words[position] for position in rule.locate(words)]

    def _partition_keys_by_slot(self, keys: Iterable[Any]) -> dict[int, list[Any]]:
        slots: dict[int, list[Any]] = {}
        for key in keys:
            slots.setdefault(self.keyslot(key), []).append(key)
        return slots

    def _partition_pairs_by_slot(self, mapping: Mapping[Any, Any]) -> dict[int, list[Any]]:
        slots: dict[int, list[Any]] = {}
        for key, value in mapping.items():
            slots.setdefault(self.keyslot(key), []).extend((key, value))
        return slots


class TableParser:
    """In the place of redis-py's parser of COMMAND's reply: the command table knows all that it told."""

    async def initialize(self, node: Any = None) -> None:
        """Ask nobody."""


class Queued:
    """A command of a pipeline, and what came of it."""

    __slots__ = ("args", "options", "position", "result")

    def __init__(self, args: Sequence[Any], options: Mapping[str, Any], position: int) -> None:
        self.args = tuple(args)
        self.options = dict(options)
        self.position = position
        self.result: Any = None


def plan(client: Any, queue: Iterable[Queued]) -> dict[str, tuple[Any, list[Queued]]]:
    """Return which node each command of a pipeline goes to, by the node's name.

    In the order of names, so that two threads that wait for connections never wait for each other.

    Raises:
        RefusedError: also a ``redis.exceptions.ResponseError``; nothing was sent.
        RedisClusterException: a command has no node, or several.
    """
    nodes: dict[str, tuple[Any, list[Queued]]] = {}
    for command in queue:
        client.check(command.args)
        targets = _nodes_of(client, command)
        if len(targets) != 1:
            raise RedisClusterException(
                f"{'Too many' if targets else 'No'} targets for {command.args[0]} in a pipeline"
            )
        node = targets[0]
        nodes.setdefault(node.name, (node, []))[1].append(command)
    return dict(sorted(nodes.items()))


def _nodes_of(client: Any, command: Queued) -> list[Any]:
    targets = command.options.pop("target_nodes", None)
    if targets is not None and not isinstance(targets, str):
        return list(client._parse_target_nodes(targets))
    name = str(command.args[0]).upper()
    pair = f"{name} {command.args[1]}".upper() if len(command.args) > 1 else name
    flag = targets or client.command_flags.get(pair) or client.command_flags.get(name)
    if flag is None:
        reads = name in READ_COMMANDS
        strategy = getattr(client, "load_balancing_strategy", None)
        more = (strategy,) if reads and strategy else ()
        return [
            client.nodes_manager.get_node_from_slot(
                client.required_slot(command.args), client.read_from_replicas and reads, *more
            )
        ]
    return named_nodes(client, flag)


def sent_to(client: Any, error: Any) -> tuple[Any, bool]:
    """Return the node that an error names, or ``None``, and whether it has to be asked with ASKING."""
    if not isinstance(error, _AskError):
        return None, False
    node = client.get_node(host=error.host, port=error.port)
    # redis-py's MOVED is a kind of ASK.
    return node, not isinstance(error, _MovedError)


def has_moved(queue: Iterable[Queued]) -> bool:
    """Whether slots of these commands are elsewhere now, for good."""
    return any(isinstance(command.result, _MovedError) for command in queue)


def is_later(error: Any) -> bool:
    """Whether no node does a command at the moment."""
    return isinstance(error, (TryAgainError, ClusterDownError))


def named_nodes(client: Any, flag: str) -> list[Any]:
    """Return the nodes that one of redis-py's flags means."""
    if flag == client.PRIMARIES:
        return list(client.get_primaries())
    if flag == client.REPLICAS:
        return list(client.get_replicas())
    if flag == client.ALL_NODES:
        return list(client.get_nodes())
    if flag == client.RANDOM:
        return [random.choice(client.get_primaries())]
    return [client.get_default_node()]


def unreachable(error: RedisClusterException) -> Exception:
    """Return the error to raise for one of redis-py's: one to repeat, if no node answered."""
    if not isinstance(error.__cause__, LOST):
        return error
    found = ClusterUnreachableError(str(error))
    link: BaseException | None = error
    while link is not None:
        # The nodes were asked because a connection was lost, perhaps with a reply due.
        if is_unrepeatable(link):
            mark_unrepeatable(found)
        link = link.__context__
    return found


def raise_first(queue: Sequence[Queued]) -> None:
    """Raise a pipeline's first error, with the command's number in its text."""
    for command in queue:
        error = command.result
        if isinstance(error, Exception):
            text = str(error.args[0]) if error.args else str(error)
            number = command.position + 1
            error.args = (
                f"Command # {number} ({command.args[0]}) of pipeline caused error: {text}",
                *error.args[1:],
            )
            raise error


def rebound_policies(client: Any, mapping: Mapping[Any, Any] | None) -> dict[Any, Any] | None:
    """Return redis-py's table of routing functions, with those that compute slots bound to `client`."""
    if mapping is None:
        return None
    own = {
        "DEFAULT_KEYED": client.get_nodes_from_slot,
        "MULTI_SHARD": getattr(client, "_split_multi_shard_command", None),
    }
    return {
        key: own.get(key.name) or function if type(key).__name__ == "RequestPolicy" else function
        for key, function in mapping.items()
    }
