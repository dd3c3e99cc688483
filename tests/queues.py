"""Queues for tests: either world through one face, and the server's side of their keys."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable
from typing import Any

import tenantkv
from tenantkv import Keyring, Namespace
from tenantkv.ops.queue_keys import QueueKeys, queue_keys
from tenantkv.queue import AsyncQueue, Queue

LETTERS = {
    **{"meta": 0, "state": 1, "bodies": 2, "ready": 3, "flight": 4, "delayed": 5, "dead": 6, "groups": 7},
    **{"wake": 8, "space": 9},
}


class InLoop:
    """An asyncio object as if it were a sync one: what it would await is run to its end."""

    def __init__(self, inner: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.inner = inner
        self.loop = loop

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            arguments = tuple(map(bare, arguments))
            options = {key: bare(value) for key, value in options.items()}
            return self.face(found(*arguments, **options))

        return call

    def face(self, result: Any) -> Any:
        if inspect.isawaitable(result):
            result = self.loop.run_until_complete(_awaited(result))
        if isinstance(result, list):
            return [self.face(each) for each in result]
        is_ours = hasattr(type(result), "__aenter__") or type(result).__name__ == "AsyncSent"
        return InLoop(result, self.loop) if is_ours else result

    def __enter__(self) -> InLoop:
        return InLoop(self.loop.run_until_complete(self.inner.__aenter__()), self.loop)

    def __exit__(self, *error: Any) -> None:
        self.loop.run_until_complete(self.inner.__aexit__(*error))

    def __iter__(self) -> InLoop:
        return self

    def __next__(self) -> Any:
        try:
            return self.face(self.loop.run_until_complete(self.inner.__anext__()))
        except StopAsyncIteration:
            raise StopIteration from None

    def __repr__(self) -> str:
        return repr(self.inner)


async def _awaited(result: Any) -> Any:
    return await result


def bare(value: Any) -> Any:
    """Return what a face shows."""
    if isinstance(value, InLoop):
        return value.inner
    return [bare(each) for each in value] if isinstance(value, (list, tuple)) else value


class Place:
    """A tenant on a server, whose queues are of one world.

    Attributes:
        namespace: the tenant's.
        operator: a plain client, which sees wire names; a neighbour's as well.
    """

    def __init__(self, url: str, operator: Any, *, is_async: bool, **options: Any) -> None:
        self.url = url
        self.namespace = Namespace(Keyring.generate(os.urandom(96)))
        self.operator = operator
        self.is_async = is_async
        self.options = options
        self._loop = asyncio.new_event_loop() if is_async else None
        self._closers: list[Callable[[], Any]] = []

    def client(self, url: str | None = None, **more: Any) -> Any:
        options = {**self.options, **more}
        if self._loop is None:
            kv = tenantkv.connect(url or self.url, namespace=self.namespace, **options)
            self._closers.append(kv.close)
            return kv
        loop = self._loop
        client = tenantkv.asyncio.connect(url or self.url, namespace=self.namespace, **options)
        self._closers.append(lambda: loop.run_until_complete(client.aclose()))
        return client

    def queue(self, name: Any = "thumbs", *, client: Any = None, **options: Any) -> Any:
        """Return a queue; by default losses raise, so that none goes unnoticed."""
        options = {"on_loss": "raise", **options}
        if self._loop is None:
            return Queue(client or self.client(), name, **options)
        return InLoop(AsyncQueue(client or self.client(), name, **options), self._loop)

    def keys(self, name: str = "thumbs") -> QueueKeys:
        return queue_keys(self.namespace, name)

    def wire(self, part: str, name: str = "thumbs") -> bytes:
        """Return the wire name of one of a queue's keys."""
        return self.namespace.wire_name(self.keys(name).core[LETTERS[part]])

    def close(self) -> None:
        for close in self._closers:
            close()
        if self._loop is not None:
            self._loop.close()
