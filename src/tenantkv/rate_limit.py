"""Rate limiters: ``if not kv.rate_limit("login", 10, per=60).hit(address): ...``."""

from __future__ import annotations

import secrets
from typing import Any

from tenantkv.ops import rate_limit as operations
from tenantkv.ops.effects import Command, Operation
from tenantkv.ops.lock_places import key_of
from tenantkv.ops.rate_limit import Decision, Rate


class RateLimitState:
    """What the sync and the asyncio rate limiter have in common."""

    def __init__(
        self, client: Any, name: str | bytes, limit: int, *, per: float, hidden: bool = True
    ) -> None:
        self.client = client
        self.name = name
        self.rate = Rate(limit, per)
        self._hidden = hidden
        self._key(b"")

    def _key(self, subject: str | bytes) -> bytes:
        # The length in front: "a" for "b:c" is not "a:b" for "c".
        name, of = _bytes(self.name), _bytes(subject)
        if of:
            name = b"%d:%b:%b" % (len(name), name, of)
        return key_of(self.client.namespace, "rate", name, hidden=self._hidden)

    def _hit(self, subject: str | bytes, cost: int) -> Operation[Decision]:
        call_id = secrets.token_urlsafe(6).encode()
        return operations.hit(self._key(subject), self.rate, cost, call_id)

    def _reset(self, subject: str | bytes) -> Operation[None]:
        yield Command(("UNLINK", self._key(subject)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}: {self.rate.limit} in {self.rate.per:g} s>"


class RateLimit(RateLimitState):
    """A sliding window of a sync client's, made by ``kv.rate_limit()``. Threads may share it.

    Args:
        client: the client.
        name: its own name.
        limit: how many at the most.
        per: in any so many seconds.
        hidden: whether the server sees a name that tells nothing.
    """

    def hit(self, subject: str | bytes = b"", *, cost: int = 1) -> Decision:
        """Count something, if there is room. One round trip, atomic.

        Args:
            subject: who or what is counted by itself under this limit: an address, an account.
            cost: how many it counts for.

        Returns:
            What came of it; true if it was counted.
        """
        decision: Decision = self.client.run(self._hit(subject, cost))
        return decision

    def peek(self, subject: str | bytes = b"") -> Decision:
        """Whether there is room, without counting anything. One round trip."""
        return self.hit(subject, cost=0)

    def reset(self, subject: str | bytes = b"") -> None:
        """Forget what was counted. One round trip."""
        self.client.run(self._reset(subject))


class AsyncRateLimit(RateLimitState):
    """A sliding window of an asyncio client's; the twin of `RateLimit`."""

    async def hit(self, subject: str | bytes = b"", *, cost: int = 1) -> Decision:
        """Count something, if there is room. See `RateLimit.hit`."""
        decision: Decision = await self.client.run(self._hit(subject, cost))
        return decision

    async def peek(self, subject: str | bytes = b"") -> Decision:
        """Whether there is room, without counting anything. One round trip."""
        return await self.hit(subject, cost=0)

    async def reset(self, subject: str | bytes = b"") -> None:
        """Forget what was counted. One round trip."""
        await self.client.run(self._reset(subject))


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else bytes(text)
