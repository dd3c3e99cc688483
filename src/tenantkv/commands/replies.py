"""Replies that hold names, given back in own names.

Every shape takes undecoded replies (bytes, in the form that RESP2 or RESP3 gives them) and leaves alone
what it does not know; names of other tenants, which only a hostile server could send, are left out.
"""

from __future__ import annotations

from typing import Any

from tenantkv.commands.rule import Shape
from tenantkv.namespace import Namespace


def own_or_same(value: Any, namespace: Namespace) -> Any:
    """Return a wire name as own name, and anything else as it is."""
    if isinstance(value, bytes) and value.startswith(namespace.wire_prefix):
        return value[len(namespace.wire_prefix) :]
    return value


def shape_first(reply: Any, namespace: Namespace) -> Any:
    """[name, ...] of BLPOP, LMPOP and their kin."""
    if not isinstance(reply, (list, tuple)) or not reply:
        return reply
    return [own_or_same(reply[0], namespace), *reply[1:]]


def shape_streams(reply: Any, namespace: Namespace) -> Any:
    """XREAD: pairs of name and entries, or a map in RESP3."""
    if isinstance(reply, dict):
        return {own_or_same(name, namespace): entries for name, entries in reply.items()}
    if isinstance(reply, list):
        return [shape_first(pair, namespace) for pair in reply]
    return reply


def shape_names(reply: Any, namespace: Namespace) -> Any:
    """A list of names, of which only the tenant's are kept."""
    if not isinstance(reply, (list, set, tuple)):
        return reply
    own = (namespace.own_name(name) for name in reply if isinstance(name, bytes))
    return [name for name in own if name is not None]


def shape_scan(reply: Any, namespace: Namespace) -> Any:
    """[cursor, names] of SCAN."""
    if not isinstance(reply, list) or len(reply) != 2:
        return reply
    return [reply[0], shape_names(reply[1], namespace)]


def shape_channels(reply: Any, namespace: Namespace) -> Any:
    """A list of channels, of which only the tenant's are kept."""
    if not isinstance(reply, (list, set, tuple)):
        return reply
    start = namespace.channel_prefix
    return [name[len(start) :] for name in reply if isinstance(name, bytes) and name[: len(start)] == start]


def shape_channel_counts(reply: Any, namespace: Namespace) -> Any:
    """PUBSUB NUMSUB: channel, count, channel, count ... or a map in RESP3."""
    start = namespace.channel_prefix

    def own(name: Any) -> Any:
        return name[len(start) :] if isinstance(name, bytes) and name.startswith(start) else name

    if isinstance(reply, dict):
        return {own(name): count for name, count in reply.items()}
    if isinstance(reply, list):
        return [own(item) for item in reply]
    return reply


def shape_deep(reply: Any, namespace: Namespace) -> Any:
    """Every string that is a wire name, wherever it stands."""
    if isinstance(reply, dict):
        return {shape_deep(k, namespace): shape_deep(v, namespace) for k, v in reply.items()}
    if isinstance(reply, (list, tuple)):
        return [shape_deep(item, namespace) for item in reply]
    return own_or_same(reply, namespace)


SHAPES: dict[str, Shape] = {
    "first": shape_first,
    "streams": shape_streams,
    "names": shape_names,
    "scan": shape_scan,
    "channels": shape_channels,
    "channel_counts": shape_channel_counts,
    "deep": shape_deep,
}
