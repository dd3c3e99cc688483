"""Channel names: an own prefix for the tenant's, and the server's notification channels.

Laws of this file: a channel's name is visible to everybody (``PUBSUB CHANNELS``), so the key prefix
never stands in one; a pattern's is not. A message is handed on only if it is provably the tenant's.
"""

from __future__ import annotations

import re
from typing import Any

from tenantkv.commands.options import malformed
from tenantkv.errors import ForbiddenCommandError
from tenantkv.namespace import Namespace

# Notifications that carry the key in the channel's name, and those that carry it as the message.
_BY_KEY = re.compile(rb"(__(?:keyspace|subkeyspace|subkeyspaceitem)@(?:\d+|\*)__:)(.*)", re.DOTALL)
_BY_EVENT = re.compile(rb"__keyevent@(?:\d+|\*)__:", re.DOTALL)
_NOTIFICATION = re.compile(rb"__(?:sub)?key|__[?*\[\\]|_[?*\[\\]")
_INTERNAL = (b"__redis__:", b"__sentinel__:")

_SUBSCRIPTIONS = frozenset(
    {b"subscribe", b"unsubscribe", b"psubscribe", b"punsubscribe", b"ssubscribe", b"sunsubscribe"}
)


def rewrite_subscription(arguments: list[bytes], namespace: Namespace) -> list[bytes]:
    """Return the wire form of SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE and their opposites."""
    by_pattern = arguments[0].upper() in (b"PSUBSCRIBE", b"PUNSUBSCRIBE")
    return [
        arguments[0],
        *(_wire_channel(arguments, name, namespace, by_pattern) for name in arguments[1:]),
    ]


def _wire_channel(arguments: list[bytes], name: bytes, namespace: Namespace, by_pattern: bool) -> bytes:
    command = arguments[0].decode().upper()
    if name.startswith(_INTERNAL):
        raise ForbiddenCommandError(command, "this channel is the server's own.")
    if command.startswith("S") and command not in ("SUBSCRIBE",):
        return namespace.channel_prefix + name
    by_key = _BY_KEY.match(name)
    if by_key:
        if not by_pattern and command == "SUBSCRIBE":
            raise ForbiddenCommandError(
                command,
                "the name of a key in a channel name would show the key to everybody.",
                "Use PSUBSCRIBE with the same name: patterns are not listed.",
            )
        return by_key[1] + namespace.wire_prefix + by_key[2]
    if _BY_EVENT.match(name):
        return name
    if name.startswith((b"__keyspace@", b"__keyevent@", b"__subkey")) or (
        by_pattern and _NOTIFICATION.match(name)
    ):
        raise malformed(
            arguments,
            "this would catch notifications of every tenant's keys.",
            "Name the database: __keyspace@0__:pattern or __keyevent@0__:event.",
        )
    return namespace.channel_prefix + name


def rewrite_channel_listing(arguments: list[bytes], namespace: Namespace) -> list[bytes]:
    """Return the wire form of PUBSUB CHANNELS and PUBSUB SHARDCHANNELS."""
    pattern = arguments[2] if len(arguments) > 2 else b"*"
    return [*arguments[:2], namespace.channel_prefix + pattern, *arguments[3:]]


def own_channel(wire: bytes, namespace: Namespace) -> bytes | None:
    """Return the tenant's name of a channel or pattern; ``None`` if it is somebody else's."""
    if wire.startswith(namespace.channel_prefix):
        return wire[len(namespace.channel_prefix) :]
    by_key = _BY_KEY.match(wire)
    if by_key:
        own = namespace.own_name(by_key[2])
        return None if own is None else by_key[1] + own
    return wire if _BY_EVENT.match(wire) else None


def shape_push(reply: Any, namespace: Namespace) -> Any:
    """Return a subscription's message in own names, or ``None`` for one that is not the tenant's.

    Anything that is not such a message (a PONG, a reply of HELLO) comes back as it is.
    """
    if not isinstance(reply, list) or len(reply) < 3 or not isinstance(reply[0], bytes):
        return reply
    kind = reply[0]
    if kind in _SUBSCRIPTIONS:
        if reply[1] is None:
            return reply
        own = own_channel(reply[1], namespace)
        return None if own is None else [kind, own, *reply[2:]]
    if kind in (b"message", b"smessage"):
        return _message(reply, 1, namespace)
    if kind == b"pmessage":
        pattern = own_channel(reply[1], namespace)
        if pattern is None:
            return None
        return _message([kind, pattern, *reply[2:]], 2, namespace)
    return reply


def _message(reply: list[Any], position: int, namespace: Namespace) -> list[Any] | None:
    channel, data = reply[position], reply[position + 1]
    own = own_channel(channel, namespace)
    if own is None:
        return None
    if own is channel and _BY_EVENT.match(channel):
        # The server cannot filter these: the message is the name of any tenant's key.
        data = namespace.own_name(data) if isinstance(data, bytes) else None
        if data is None:
            return None
    return [*reply[:position], own, data, *reply[position + 2 :]]


def shape_invalidation(reply: Any, namespace: Namespace) -> Any:
    """Return a client-side caching message with own names; other tenants' names are left out."""
    if not isinstance(reply, list) or len(reply) < 2 or not isinstance(reply[1], list):
        return reply
    own = (namespace.own_name(name) for name in reply[1] if isinstance(name, bytes))
    return [reply[0], [name for name in own if name is not None], *reply[2:]]
