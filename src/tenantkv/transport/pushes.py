"""RESP3 pushes on their way to handlers, in own names.

redis-py's parsers hand a push to a handler before the connection sees it: pub/sub messages to the
function given as ``push_handler_func``, invalidations to the client-side cache.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from typing import Any

from tenantkv.commands.channels import shape_invalidation
from tenantkv.transport.decoding import decode_deep
from tenantkv.transport.session import Session

Handler = Callable[[Any], Any]


class Handled:
    """What a user's push handler returned for a message, on its way through the connection."""

    __slots__ = ("result",)

    def __init__(self, result: Any) -> None:
        self.result = result


def _as_bytes(reply: Any) -> Any:
    """Undo the parser's decoding; a push is read before anybody can ask for it undecoded."""
    if isinstance(reply, str):
        return reply.encode("utf-8", "surrogateescape")
    if isinstance(reply, list):
        return [_as_bytes(item) for item in reply]
    return reply


def push_wrappers(reference: weakref.ref[Any]) -> tuple[Callable[[Handler | None], Handler], ...]:
    """Return wrappers for message handlers and for invalidation handlers of one connection."""

    def own(reply: Any, shape: Callable[..., Any]) -> Any:
        connection = reference()
        if connection is None or connection.namespace is None:
            return None
        session = connection.session
        shaped = shape(_as_bytes(reply), session.namespace)
        if session.encoder.decode_responses:
            return decode_deep(shaped, session.encoder.decode)
        return shaped

    def wrap_message(handler: Handler | None) -> Handler:
        if handler is None:
            return lambda reply: reply

        def handle(reply: Any) -> Any:
            shaped = own(reply, Session.shape_message)
            return Handled(None if shaped is None else handler(shaped))

        return handle

    def wrap_invalidation(handler: Handler | None) -> Handler:
        assert handler is not None
        return lambda reply: handler(own(reply, shape_invalidation))

    return wrap_message, wrap_invalidation


def async_push_wrappers(
    reference: weakref.ref[Any],
) -> tuple[Callable[[Handler | None], Handler], ...]:
    """Return the same wrappers for asyncio, whose handlers are awaited."""
    wrap_message, wrap_invalidation = push_wrappers(reference)

    def asynchronous(wrap: Callable[[Handler | None], Handler]) -> Callable[..., Handler]:
        def wrap_async(handler: Handler | None) -> Handler:
            async def handle(reply: Any) -> Any:
                result = wrap(handler)(reply)
                if isinstance(result, Handled) and inspect.isawaitable(result.result):
                    return Handled(await result.result)
                return await result if inspect.isawaitable(result) else result

            return handle

        return wrap_async

    return asynchronous(wrap_message), asynchronous(wrap_invalidation)
