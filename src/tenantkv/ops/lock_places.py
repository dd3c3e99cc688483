"""What leases are of: the keys and scripts of the lock, the read/write lock and the semaphore.

Keys, all of one lock in one Cluster slot, ``<h>`` its hidden name::

    tkv:lock:{<h>}        who holds it   ...:fence  ...:released  ...:wake   fair: ...:queue  ...:alive
    tkv:rwlock:{<h>}      who writes     ...:fence  ...:released  ...:wake   ...:readers      ...:intent
    tkv:semaphore:{<h>}   who holds it                            ...:wake

Everything has a TTL. What the keys hold is described on top of each script in ``lua/``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

from tenantkv.errors import ConfigurationError
from tenantkv.namespace import PRIMITIVES, Namespace
from tenantkv.ops.effects import Batch, Call
from tenantkv.ops.scripts import script

#: The longest lease, in seconds. A lock that would be held for longer was planted by somebody else.
LONGEST_LEASE = 30 * 24 * 3600.0
#: Seconds that a waiter sleeps at the most before it looks again, woken or not: so soon it notices that
#: the server has lost the lock.
LONGEST_NAP = 2.0

# A waiter that was not heard of for so long is given up. Other bounds stand in the scripts themselves, since
# every argument costs time in each call.
_PATIENCE_MS = int(LONGEST_NAP * 1000) + 2000

_ACQUIRE = script("lock_acquire", "lock_acquire", "lock_fence", repeatable=True)
_RELEASE = script("lock_release", repeatable=True)
_RENEW = script("lock_renew", repeatable=True)
_EXTEND = script("lock_renew")
_WRITE = script("lock_write", "lock_write", "lock_fence", repeatable=True)
_READ = script("lock_read", repeatable=True)
_TAKE = script("semaphore_acquire", repeatable=True)
_GIVE = script("semaphore_release", repeatable=True)
_KEEP = script("semaphore_renew", repeatable=True)
_PROLONG = script("semaphore_renew")

#: ``=`` for this time, ``>`` for this time at least, ``+`` for so much longer.
Renewal = Literal["=", ">", "+"]


class Place(Protocol):
    """Something that a token can hold for a time."""

    #: Whether several tokens can; then the key is a sorted set.
    counts: ClassVar[bool]

    @property
    def key(self) -> bytes:
        """The key that tells whether it is held."""
        ...

    @property
    def wake(self) -> bytes:
        """The list on which waiters wait."""
        ...

    def acquire(self, token: bytes, lease_ms: int, *, waited: bool, waits: bool) -> Call:
        """Take it. Answers a fencing number, or how many milliseconds to wait at the most."""
        ...

    def renew(self, token: bytes, time_ms: int, how: Renewal) -> Call:
        """Hold it for longer. Answers for how many milliseconds it is held; 0 if it is not the token's."""
        ...

    def release(self, token: bytes, fence: int) -> Call:
        """Give it back. Answers 1, or 0 if it was not the token's. The fence is 0 if it is not known."""
        ...

    def leave(self, token: bytes) -> Batch | None:
        """Stop waiting for it; ``None`` if nobody keeps count."""
        ...


@dataclass(frozen=True, slots=True)
class Exclusive:
    """A lock that one token holds."""

    counts: ClassVar[bool] = False

    key: bytes
    fair: bool = False
    fence: bytes = field(init=False)
    wake: bytes = field(init=False)
    _taking: tuple[bytes, ...] = field(init=False, repr=False)
    _giving: tuple[bytes, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _set(self, "fence", self.key + b":fence")
        _set(self, "wake", self.key + b":wake")
        queue = (self.key + b":queue", self.key + b":alive") if self.fair else ()
        _set(self, "_taking", (self.key, self.fence, self.wake, *queue))
        _set(self, "_giving", (self.key, self.key + b":released", self.wake))

    def acquire(self, token: bytes, lease_ms: int, *, waited: bool, waits: bool) -> Call:
        flag = b"+" if waited else b""
        if not self.fair:
            return Call(_ACQUIRE, self._taking, (token, lease_ms, flag))
        return Call(_ACQUIRE, self._taking, (token, lease_ms, flag, _PATIENCE_MS if waits else 0))

    def renew(self, token: bytes, time_ms: int, how: Renewal) -> Call:
        script = _EXTEND if how == "+" else _RENEW
        return Call(script, (self.key, self.fence), (token, time_ms, how))

    def release(self, token: bytes, fence: int) -> Call:
        return Call(_RELEASE, self._giving, (token, fence or token[:8]))

    def leave(self, token: bytes) -> Batch | None:
        if not self.fair:
            return None
        return Batch([("ZREM", key, token) for key in self._taking[3:]])


@dataclass(frozen=True, slots=True)
class Writing:
    """A read/write lock, for the one that writes."""

    counts: ClassVar[bool] = False

    key: bytes
    fence: bytes = field(init=False)
    wake: bytes = field(init=False)
    _all: tuple[bytes, ...] = field(init=False, repr=False)
    _giving: tuple[bytes, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _set(self, "fence", self.key + b":fence")
        _set(self, "wake", self.key + b":wake")
        more = (self.key + b":readers", self.key + b":intent")
        _set(self, "_all", (self.key, self.fence, self.wake, *more))
        _set(self, "_giving", (self.key, self.key + b":released", self.wake))

    def acquire(self, token: bytes, lease_ms: int, *, waited: bool, waits: bool) -> Call:
        flag, asks = b"+" if waited else b"", _PATIENCE_MS if waits else 0
        return Call(_WRITE, self._all, (token, lease_ms, flag, asks))

    def renew(self, token: bytes, time_ms: int, how: Renewal) -> Call:
        script = _EXTEND if how == "+" else _RENEW
        return Call(script, (self.key, self.fence), (token, time_ms, how))

    def release(self, token: bytes, fence: int) -> Call:
        return Call(_RELEASE, self._giving, (token, fence or token[:8]))

    def leave(self, token: bytes) -> Batch | None:
        # Another writer that waits puts its own intent there when it asks again.
        return Batch([("UNLINK", self._all[4])])


@dataclass(frozen=True, slots=True)
class Reading:
    """A read/write lock, for those that read."""

    counts: ClassVar[bool] = True

    lock: bytes
    key: bytes = field(init=False)
    wake: bytes = field(init=False)
    _all: tuple[bytes, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _set(self, "key", self.lock + b":readers")
        _set(self, "wake", self.lock + b":wake")
        parts = (self.lock, self.lock + b":fence", self.wake, self.key, self.lock + b":intent")
        _set(self, "_all", parts)

    def acquire(self, token: bytes, lease_ms: int, *, waited: bool, waits: bool) -> Call:
        return Call(_READ, self._all, (token, lease_ms, b"+" if waited else b""))

    def renew(self, token: bytes, time_ms: int, how: Renewal) -> Call:
        return Call(_PROLONG if how == "+" else _KEEP, (self.key,), (token, time_ms, how))

    def release(self, token: bytes, fence: int) -> Call:
        return Call(_GIVE, (self.key, self.wake), (token, 0))

    def leave(self, token: bytes) -> Batch | None:
        return None


@dataclass(frozen=True, slots=True)
class Shared:
    """A semaphore: `limit` tokens hold it at a time."""

    counts: ClassVar[bool] = True

    key: bytes
    limit: int
    wake: bytes = field(init=False)

    def __post_init__(self) -> None:
        _set(self, "wake", self.key + b":wake")

    def acquire(self, token: bytes, lease_ms: int, *, waited: bool, waits: bool) -> Call:
        flag = b"+" if waited else b""
        return Call(_TAKE, (self.key, self.wake), (token, lease_ms, flag, self.limit))

    def renew(self, token: bytes, time_ms: int, how: Renewal) -> Call:
        return Call(_PROLONG if how == "+" else _KEEP, (self.key,), (token, time_ms, how))

    def release(self, token: bytes, fence: int) -> Call:
        return Call(_GIVE, (self.key, self.wake), (token, self.limit - 1))

    def leave(self, token: bytes) -> Batch | None:
        return None


# Frozen value objects that work out their keys once.
_set = object.__setattr__


def key_of(namespace: Namespace, primitive: str, name: bytes, *, hidden: bool = True) -> bytes:
    """Return the key of one lock, read/write lock, semaphore or window.

    Args:
        namespace: whose it is.
        primitive: ``"lock"``, ``"rwlock"``, ``"semaphore"`` or ``"rate"``.
        name: as its user calls it.
        hidden: whether the key tells nothing of the name.

    Raises:
        ConfigurationError: the name is empty, or has braces and is not hidden.
    """
    if not name:
        raise ConfigurationError(f"a {primitive} needs a name")
    start = primitive.encode() + b":"
    if hidden:
        name = namespace.hidden_name(start + name)
    elif b"{" in name or b"}" in name:
        raise ConfigurationError("a name that is not hidden has no braces: they are for Cluster slots")
    return PRIMITIVES + start + b"{" + name + b"}"
