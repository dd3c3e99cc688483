"""Where sets, hashes and sorted sets lie, and how they are reached.

Own names::

    django:{<cache>}<stamp>:<key>    <stamp>: 12 hexadecimal digits that the cache's stamp gives

So a cleared cache has none of them: their names are others from then on, and what lies under the old ones
ends with its TTL. Members and values are sealed, bound to the name. They are no secret of the
primitive's: the names are listed among the tenant's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from redis.exceptions import ResponseError

from tenantkv.cache.wire import OUTAGE, away
from tenantkv.contrib.django import steps
from tenantkv.contrib.django.stores import Store


class Places:
    """Finds the structures of one cache.

    Args:
        store: the cache.
    """

    __slots__ = ("_head", "_store")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._head = b"django:{%b}" % store.options.name.encode()

    @property
    def head(self) -> bytes:
        """What all of their own names begin with."""
        return self._head

    def locate(self, stamp: bytes, key: bytes) -> bytes:
        """Return the own name of a structure under the cache's stamp."""
        return b"%b%b:%b" % (self._head, hashlib.sha256(stamp).hexdigest()[:12].encode(), key)

    def stamp(self) -> bytes:
        """Return the cache's stamp. One round trip."""
        main = self._store.main
        stamp: bytes = main._wire.run(steps.stamp_of(main._core.shelf))
        return stamp

    def call(self, do: Callable[[Any, bytes], Any]) -> Any:
        """Return what `do` gives for the client and the stamp. It should make one round trip.

        Raises:
            redis.exceptions.RedisError: what the server said, or that it is away.
            OpenError: a member is none of ours.
        """
        breaker = self._store.main._wire.breaker
        if breaker.is_open and breaker.remaining() > 0:
            raise away(breaker)
        stamp = self.stamp()
        try:
            return do(self._store.structures, stamp)
        except OUTAGE:
            breaker.fail()
            raise

    def call_on(self, key: bytes, do: Callable[[Any, bytes], Any], *, creates: bool) -> Any:
        """Return what `do` gives for the client and a structure's own name.

        What is of another type there was planted, and goes. A structure that is made by this gets the TTL
        ceiling, as whatever nobody deletes has to end.
        """

        def on(client: Any, stamp: bytes) -> Any:
            name = self.locate(stamp, key)
            if not creates:
                return _typed(client, name, do)
            answer = _typed(client, name, lambda kv, own: _with_pttl(kv, own, do))
            result, left = answer
            if left == -1:
                client.pexpire(name, int(self._store.options.longest_ttl * 1000))
            return result

        return self.call(on)


def _with_pttl(client: Any, name: bytes, do: Callable[[Any, bytes], Any]) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    do(pipeline, name)
    pipeline.pttl(name)
    replies: list[Any] = pipeline.execute()
    return replies


def _typed(client: Any, name: bytes, do: Callable[[Any, bytes], Any]) -> Any:
    try:
        return do(client, name)
    except ResponseError as error:
        if "WRONGTYPE" not in str(error):
            raise
    client.unlink(name)
    return do(client, name)
