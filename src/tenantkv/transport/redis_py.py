"""Everything of redis-py that is used beyond its public surface, in one place.

`tests/contract/test_redis_py_surface.py` names each of these and fails where an installed redis-py lacks
one. The lean paths read them to skip work; every one of them falls back to redis-py's own when `LEAN`
is off (``TENANTKV_LEAN=0``), and the whole test suite runs both ways.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

import redis.connection
from redis.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

hiredis: Any
NOT_ENOUGH_DATA: Any
try:
    import hiredis
    from redis._parsers.hiredis import NOT_ENOUGH_DATA
except ImportError:  # pragma: no cover - exercised by the suite's run without hiredis
    hiredis = None
    NOT_ENOUGH_DATA = object()

#: Whether the lean paths are on; read once, when tenantkv is imported.
LEAN = os.environ.get("TENANTKV_LEAN", "1") != "0"

#: The type of RESP3 pushes; hiredis before 3.0 has none, and then no reply can be one.
PUSH_TYPE: type = getattr(hiredis, "PushNotification", None) or type("NoPush", (), {})

# redis-py 5 has the function `time` here, and looks at the wall clock; later versions have the module.
_clock: Any = vars(redis.connection)["time"]

#: The clock that a sync connection's `next_health_check` is read on.
health_clock: Callable[[], float] = getattr(_clock, "monotonic", _clock)

_asked_with = inspect.signature(redis.connection.ConnectionPool.get_connection).parameters.get("command_name")

#: What a pool of redis-py's own is asked with for a connection: before redis-py 5.3 it wants a command's
#: name, which it does not use; since then none.
CHECKOUT: tuple[str, ...] = (
    ("_",) if _asked_with is not None and _asked_with.default is inspect.Parameter.empty else ()
)

#: Names beyond redis-py's public surface that this package reads, calls or overrides, by redis-py's
#: module; every supported version has them.
USED: dict[str, tuple[str, ...]] = {
    "connection": (
        *("_available_connections", "_checkpid", "_created_connections", "_in_use_connections"),
        *("_lock", "_parser", "_sock", "health_check_interval", "next_health_check", "pid"),
    ),
    "asyncio/connection": (
        *("_available_connections", "_close", "_in_use_connections", "_parser", "_reader"),
        *("_writer", "health_check_interval", "next_health_check"),
    ),
    "_parsers/hiredis": ("_buffer", "_reader"),
    "cluster": ("_get_command_keys", "_parse_target_nodes"),
    "asyncio/cluster": ("_connections", "_free", "_initialize", "_parse_target_nodes"),
}

#: The same for names that came or went within the supported versions; without them the public way, or
#: nothing, is the right thing to do.
SOMETIMES: dict[str, tuple[str, ...]] = {
    "connection": ("_conn",),
    "_parsers/hiredis": ("_next_response",),
    "client": ("_resubscribe", "_resubscribe_shard_channels"),
    "asyncio/client": ("_resubscribe", "_resubscribe_shard_channels"),
    "cluster": (
        *("_command_queue", "_execution_strategy", "_get_node_pubsub", "_pipeline_slots"),
        *("_policies_callback_mapping", "_reinitialize_on_error", "_resubscribe_shard_channels"),
        *("_split_multi_shard_command", "_watching"),
    ),
    "asyncio/cluster": (
        *("_annotate_exception", "_command_queue", "_command_stack", "_determine_slot"),
        *(
            "_execution_strategy",
            "_get_node_pubsub",
            "_node",
            "_pipeline_slots",
            "_policies_callback_mapping",
        ),
        *("_reinitialize_on_error", "_resubscribe_shard_channels", "_watching"),
    ),
}


def socket_of(connection: Any) -> Any:
    """Return a sync connection's socket, or ``None`` while it has none."""
    return connection._sock


def lean_reader(connection: Any) -> tuple[Any, Any] | None:
    """Return the hiredis reader and its buffer of a connected connection, if it has them."""
    parser = connection._parser
    reader = getattr(parser, "_reader", None)
    if not LEAN or hiredis is None or not isinstance(reader, hiredis.Reader):
        return None
    return reader, getattr(parser, "_buffer", None)


def unread_bytes(stream: Any) -> bool:
    """Whether an ``asyncio.StreamReader`` holds bytes that nobody has read; redis-py looks there too."""
    return bool(stream._buffer)


def wrap_push_handlers(parser: Any, wrap_message: Any, wrap_invalidation: Any) -> None:
    """Put `wrap_message(handler)` and `wrap_invalidation(handler)` around a parser's push handlers.

    The setters are methods of redis-py's parsers since 5.1; older ones have no such pushes. The default
    message handler is replaced too, as it logs every message with its wire names.
    """
    for name, wrap in (
        ("set_pubsub_push_handler", wrap_message),
        ("set_invalidation_push_handler", wrap_invalidation),
    ):
        setter = getattr(parser, name, None)
        if setter is not None:
            setattr(parser, name, lambda handler, set_=setter, wrap=wrap: set_(wrap(handler)))
    if hasattr(parser, "pubsub_push_handler_func"):
        parser.pubsub_push_handler_func = wrap_message(None)


def observability_on() -> bool:
    """Whether the user switched redis-py's OpenTelemetry support on; its own paths record then."""
    try:
        from redis.observability.providers import get_observability_instance
    except ImportError:
        return False
    return get_observability_instance().get_provider_manager() is not None


def closed_by_server() -> RedisConnectionError:
    """Return the error that redis-py raises when the server has gone."""
    return RedisConnectionError("Connection closed by server.")


def no_maintenance_notifications() -> dict[str, Any]:
    """Return the arguments that switch a managed service's maintenance pushes off, where they exist.

    They cost a round trip on each connect, and failed on unix sockets in redis-py 7.
    """
    try:
        from redis.maint_notifications import MaintNotificationsConfig
    except ImportError:
        return {}
    return {"maint_notifications_config": MaintNotificationsConfig(enabled=False)}


def takes_replies(parser: Any) -> bool:
    """Whether a sync parser takes a reply, and decodes it, to find out whether there is one.

    redis-py's hiredis parser did before redis-py 8. A sealed value that is decoded is lost.
    """
    return hasattr(parser, "_next_response") and parser._reader is not None


def can_read_untaken(parser: Any, timeout: float | None) -> bool:
    """Whether such a parser has something to read, or gets something in time; as redis-py 8 finds out.

    Raises:
        OSError: of the socket.
        redis.exceptions.ConnectionError: the server has closed the connection.
    """
    return bool(parser._reader.has_data() or parser.read_from_socket(timeout=timeout, raise_on_timeout=False))


def asyncio_arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Return `options` without what only the sync connections of the installed redis-py know.

    Before redis-py 8 the asyncio ones had no maintenance notifications that could be switched off.
    """
    from redis.asyncio.connection import AbstractConnection as AsyncConnection

    known = inspect.signature(AsyncConnection.__init__).parameters
    name = "maint_notifications_config"
    return options if name in known else {k: v for k, v in options.items() if k != name}


def transaction_of(pipeline: Any) -> Any:
    """Return redis-py's strategy for a cluster's transaction, if the pipeline is one (redis-py 6.2)."""
    strategy = getattr(pipeline, "_execution_strategy", None)
    return strategy if hasattr(strategy, "_pipeline_slots") else None


def queue_of(pipeline: Any) -> list[tuple[Any, dict[str, Any]]]:
    """Return the commands that a cluster's pipeline has queued, and their options."""
    strategy = getattr(pipeline, "_execution_strategy", None)
    if strategy is not None:
        queue = strategy._command_queue
    elif hasattr(pipeline, "command_stack"):
        queue = pipeline.command_stack
    else:
        queue = pipeline._command_stack
    return [(each.args, getattr(each, "options", None) or getattr(each, "kwargs", {})) for each in queue]


def cluster_retries(policy: Any) -> dict[str, Any]:
    """Return the arguments that leave repeating to `policy`, which must say 0 when asked how often.

    redis-py's sync cluster repeats without a wait and also what must not be repeated. Before redis-py 6
    the counts were arguments of their own.
    """
    if hasattr(Retry, "get_retries"):
        return {"retry": policy}
    return {"cluster_error_retry_attempts": 0}


def async_cluster_retries(policy: Any) -> dict[str, Any]:
    """Return the same for the asyncio cluster, whose nodes repeated as well before redis-py 6."""
    if hasattr(Retry, "get_retries"):
        return {"retry": policy}
    return {"cluster_error_retry_attempts": 0, "connection_error_retry_attempts": 0}


#: Whether connections can be marked to be opened anew, rather than closed at once (redis-py 6).
CAN_MARK = hasattr(AbstractConnection, "mark_for_reconnect")


def marked_for_reconnect(connection: Any) -> bool:
    """Whether a cluster wants a connection to be opened anew before it is used again (redis-py 6)."""
    marked = getattr(connection, "should_reconnect", None)
    return marked is not None and bool(marked())


def has_ended(connection: Any) -> bool:
    """Whether the server has closed an asyncio connection."""
    reader, writer = connection._reader, connection._writer
    return reader is not None and (reader.at_eof() or writer.transport.is_closing())


def connection_of(connection: Any) -> Any:
    """Return the namespaced connection behind redis-py's caching proxy, if there is one in front."""
    return getattr(connection, "_conn", connection)
