"""Clients that seal what kombu and Celery send, and open what they read, at the Redis value.

The names are the connection's business. A valve decides by the command which argument is a message, so
everything above, whichever of its many code paths it takes, stays as kombu and Celery wrote it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import redis
from redis.client import Pipeline, PubSub
from redis.exceptions import ResponseError

from tenantkv.contrib.celery import drops
from tenantkv.contrib.celery.messages import CLOCK_SKEW, MessageSealer, Seen, message_id
from tenantkv.transport.client import TenantRedis

#: Begins the names of kombu's tables of bindings.
BINDINGS = b"_kombu.binding"

_TYPES = {
    **dict.fromkeys(("LPUSH", "RPUSH", "RPOP", "LLEN", "LRANGE"), "list"),
    **dict.fromkeys(("HSET", "HGET", "HDEL", "HLEN"), "hash"),
    **dict.fromkeys(("SADD", "SREM", "SMEMBERS"), "set"),
    **dict.fromkeys(("ZADD", "ZREM", "ZRANGE"), "zset"),
    **dict.fromkeys(("GET", "MGET", "INCR", "INCRBY"), "string"),
}


def as_bytes(word: Any) -> bytes:
    """Return a name or value as redis-py would send it."""
    return word if isinstance(word, bytes) else str(word).encode()


def is_wrong_type(error: Exception) -> bool:
    """Whether a reply says that somebody changed a key's type."""
    return isinstance(error, ResponseError) and "WRONGTYPE" in str(error)


def heal(client: redis.Redis, expected: Mapping[str, str]) -> None:
    """Remove keys that somebody replaced by others of another type; what they held is gone already.

    Args:
        client: a namespaced client.
        expected: own name -> type.
    """
    for name, type_ in expected.items():
        found: Any = redis.Redis.execute_command(client, "TYPE", name)
        found = found.decode() if isinstance(found, bytes) else found
        if found not in (type_, "none"):
            redis.Redis.execute_command(client, "UNLINK", name)
            drops.note("wrong type")


def expected_types(words: Sequence[Any]) -> dict[str, str]:
    """Return which type a command's keys should have, as far as this package sends it."""
    type_ = _TYPES.get(str(words[0]).upper())
    if type_ is None:
        return {}
    names = words[1:] if words[0] == "MGET" else words[1:2]
    return {(n.decode() if isinstance(n, bytes) else str(n)): type_ for n in names}


class Valve:
    """Leaves everything as it is; see its kinds.

    Args:
        sealer: seals and opens.
    """

    def __init__(self, sealer: MessageSealer) -> None:
        self.sealer = sealer

    def outward(self, words: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a command as it is sent."""
        if words[0] == "PUBLISH":
            return (*words[:2], self.sealer.seal(words[2], "channel", as_bytes(words[1])))
        return words

    def inward(self, words: Sequence[Any], reply: Any) -> Any:
        """Return a command's reply as its caller expects it."""
        return reply

    def message(self, channel: bytes, data: bytes) -> bytes | None:
        """Return a message of pub/sub, or ``None`` if nobody may see it."""
        opened = self.sealer.open(data, "channel", channel)
        return None if opened is None else opened[0]


class BrokerValve(Valve):
    """For kombu: bindings, events and remote control. Tasks are sealed by the channel itself.

    Args:
        sealer: seals and opens.
        freshness: seconds for which a message on a pub/sub channel counts.
    """

    def __init__(self, sealer: MessageSealer, freshness: float) -> None:
        super().__init__(sealer)
        self._freshness = freshness
        self._seen = Seen()
        # What was published before anybody here listened can only be a replay.
        self._since = time.time() - min(freshness, 5.0)

    def outward(self, words: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a command as it is sent."""
        if words[0] in ("SADD", "SREM"):
            name = as_bytes(words[1])
            if name.startswith(BINDINGS):
                return (*words[:2], *(self.sealer.seal_member(as_bytes(w), name) for w in words[2:]))
        return super().outward(words)

    def inward(self, words: Sequence[Any], reply: Any) -> Any:
        """Return a command's reply as its caller expects it."""
        if words[0] == "SMEMBERS" and reply:
            name = as_bytes(words[1])
            if name.startswith(BINDINGS):
                members = (self.sealer.open_member(each, name) for each in reply)
                return {member for member in members if member is not None}
        return reply

    def message(self, channel: bytes, data: bytes) -> bytes | None:
        """Return a message of pub/sub, or ``None`` if it is not genuine, not fresh or not new."""
        opened = self.sealer.open(data, "channel", channel)
        if opened is None:
            return None
        payload, sealed_at = opened
        if not max(self._since, time.time() - self._freshness) <= sealed_at <= time.time() + CLOCK_SKEW:
            drops.note("stale")
            return None
        if not self._seen.add(message_id(data)):
            drops.note("replayed")
            return None
        return payload


class SealingRedis(TenantRedis):
    """A namespaced client with a valve.

    Args:
        connection_pool: a namespaced pool.
        valve: what seals and opens.
        kwargs: as for ``redis.Redis``.
    """

    def __init__(self, *, connection_pool: Any = None, valve: Valve, **kwargs: Any) -> None:
        super().__init__(connection_pool=connection_pool, **kwargs)
        self.valve = valve

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command whose messages are sealed on their way, and opened on the way back."""
        sent = self.valve.outward(args)
        try:
            reply = super().execute_command(*sent, **options)
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            heal(self, expected_types(args))
            reply = super().execute_command(*sent, **options)
        return self.valve.inward(args, reply)

    def stored(self, words: tuple[Any, ...]) -> Any:
        """Return a reply as the server gave it, with everything still sealed."""
        return super().execute_command(*words)

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Any:
        """Return a pipeline with the same valve."""
        return SealingPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint, valve=self.valve
        )

    def pubsub(self, **kwargs: Any) -> Any:
        """Return a subscriber with the same valve."""
        return SealingPubSub(self.connection_pool, valve=self.valve, **kwargs)


class SealingPipeline(Pipeline):
    """A pipeline with a valve."""

    def __init__(self, *args: Any, valve: Valve, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.valve = valve

    def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command at once, as after WATCH."""
        reply = super().immediate_execute_command(  # type: ignore[no-untyped-call]
            *self.valve.outward(args), **options
        )
        return self.valve.inward(args, reply)

    def pipeline_execute_command(self, *args: Any, **options: Any) -> Any:
        """Keep a command for later."""
        return super().pipeline_execute_command(*self.valve.outward(args), **options)

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send what was kept, and open the replies."""
        stack = list(self.command_stack)
        try:
            replies = super().execute(raise_on_error=raise_on_error)
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            client = redis.Redis(connection_pool=self.connection_pool)
            for kept in stack:
                heal(client, expected_types(kept[0]))
            self.command_stack = stack
            replies = super().execute(raise_on_error=raise_on_error)
        return [self.valve.inward(kept[0], reply) for kept, reply in zip(stack, replies, strict=False)]


class SealingPubSub(PubSub):
    """A subscriber with a valve: a message that is not genuine is none."""

    def __init__(self, *args: Any, valve: Valve, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.valve = valve

    def parse_response(self, *args: Any, **kwargs: Any) -> Any:
        """Return the next push, or ``None``."""
        reply: Any = super().parse_response(*args, **kwargs)  # type: ignore[no-untyped-call]
        if not isinstance(reply, (list, tuple)) or as_bytes(reply[0]) not in (b"message", b"pmessage"):
            return reply
        payload = self.valve.message(as_bytes(reply[-2]), as_bytes(reply[-1]))
        return None if payload is None else [*reply[:-1], payload]
