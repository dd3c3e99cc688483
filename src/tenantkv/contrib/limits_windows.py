"""What the sync and the asyncio storage for `limits` do on the server, as operations.

Own names, hidden, all of one limit in one place, ``<g>`` the generation::

    tkv:rate:{<24 chars of "limits:<g>:fixed:<key>">}     see limits_window.lua
    tkv:rate:{<24 chars of "limits:<g>:moving:<key>">}    see `tenantkv.ops.rate_limit`
    tkv:rate:{<24 chars of "limits generation">}          the generation, sealed: random, and none at first

So `reset` is one small write, and no name has to be listed: what was counted under the last generation is
never asked for again, and goes with its TTL. Counters themselves are not authenticated: whoever deletes
them can make them begin anew anyway.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from functools import cache
from importlib.resources import files
from typing import Any

from limits.errors import ConfigurationError
from redis.exceptions import ResponseError

from tenantkv.errors import OpenError
from tenantkv.namespace import Namespace
from tenantkv.ops import rate_limit
from tenantkv.ops.effects import Command, Operation
from tenantkv.ops.lock_places import key_of
from tenantkv.ops.rate_limit import LARGEST_LIMIT, LONGEST_WINDOW, Rate
from tenantkv.ops.scripts import Call, Script
from tenantkv.sealing import sealer_of

#: What stands in front of a server's URL, or alone for that of the environment.
SCHEMES = [
    "tenantkv",
    *(f"tenantkv+{kind}" for kind in ("redis", "rediss", "valkey", "valkeys", "unix", "sentinel")),
    *(f"tenantkv+{kind}" for kind in ("redis+cluster", "rediss+cluster", "embedded", "memory")),
]
ASYNC_SCHEMES = [f"async+{scheme}" for scheme in SCHEMES]
#: Seconds to wait for the server.
PATIENCE = 0.5
#: Seconds after which a process looks whether another one has reset all limits.
LOOK_AGAIN = 1.0

# Longer than any window that makes sense, as generation "" comes back after it.
_GENERATION_MS = 400 * 24 * 3600 * 1000
_URL = re.compile(r"tenantkv(\+[a-z+]+)?://(.*)", re.DOTALL)


def server_url(uri: str | None) -> str | None:
    """Return the server's URL of a storage's URI; ``None`` where the environment tells.

    Example:
        >>> server_url("tenantkv://"), server_url("tenantkv://db:6379/0")
        (None, 'redis://db:6379/0')
        >>> server_url("async+tenantkv+unix:///run/redis.sock")
        'unix:///run/redis.sock'
    """
    found = _URL.fullmatch((uri or "tenantkv://").removeprefix("async+"))
    if found is None:
        raise ConfigurationError("a storage's URI begins with tenantkv:// or tenantkv+")
    kind, rest = found[1], found[2]
    if kind is None and not rest:
        return None
    return f"{kind[1:] if kind else 'redis'}://{rest}"


@cache
def _script() -> Script:
    body = files("tenantkv.contrib").joinpath("limits_window.lua").read_bytes()
    return Script.of("limits_window", body, repeatable=True)


class Windows:
    """The windows of one storage. Threads may share it.

    Args:
        namespace: whose they are.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._sealer = sealer_of(namespace)
        self._place = key_of(namespace, "rate", b"limits generation")
        self._generation = b""
        self._look_at = 0.0

    # Fixed windows

    def count(self, key: str, expiry: float, amount: int) -> Operation[tuple[int, float]]:
        """Count in a fixed window; return its count and the seconds until it ends. One round trip, atomic."""
        name = yield from self._name("fixed", key)
        words = (amount, int(expiry * 1000), _call_id())
        count, left_ms = yield Call(_script(), [name], words)
        return int(count), left_ms / 1000

    # Moving windows, also where limits wants a counter of the last and the present window

    def acquire(self, key: str, limit: int, expiry: float, amount: int) -> Operation[bool]:
        """Count in a moving window, if there is room. One round trip, atomic."""
        if amount > limit:
            return False
        name = yield from self._name("moving", key)
        decision = yield from rate_limit.hit(name, _rate(max(1, limit), expiry), amount, _call_id())
        return decision.allowed

    def look(self, key: str, limit: int, expiry: float) -> Operation[tuple[int, float]]:
        """Return how many are in a moving window, and in how many seconds there is room, or all of it is."""
        name = yield from self._name("moving", key)
        rate = _rate(max(1, limit), expiry)
        decision = yield from rate_limit.hit(name, rate, 0, _call_id())
        return rate.limit - decision.remaining, decision.retry_after or decision.reset_after

    # All of one limit, and all limits

    def clear(self, key: str) -> Operation[None]:
        """Forget one limit. One round trip."""
        for kind in ("fixed", "moving"):
            name = yield from self._name(kind, key)
            yield Command(("UNLINK", name))

    def reset(self) -> Operation[None]:
        """Forget all limits: here at once, in other processes within `LOOK_AGAIN`. One small write."""
        generation = os.urandom(9)
        blob = self._sealer.seal(generation, kind="registry", name=self._place)
        yield Command(("SET", self._place, blob, "PX", _GENERATION_MS))
        self._generation, self._look_at = generation, time.monotonic() + LOOK_AGAIN

    def _name(self, kind: str, key: str) -> Operation[bytes]:
        if time.monotonic() >= self._look_at:
            generation = yield from self._read_generation()
            self._generation, self._look_at = generation, time.monotonic() + LOOK_AGAIN
        name = b"limits:%b:%b:%b" % (self._generation.hex().encode(), kind.encode(), key.encode())
        return key_of(self._namespace, "rate", name)

    def _read_generation(self) -> Operation[bytes]:
        try:
            blob = yield Command(("GET", self._place))
            return b"" if blob is None else self._sealer.open(blob, kind="registry", name=self._place)
        except (OpenError, ResponseError):
            # Somebody else wrote it. What this process knows still counts for it.
            return self._generation


def _rate(limit: int, expiry: float) -> Rate:
    if expiry > LONGEST_WINDOW:
        raise ConfigurationError(
            "a moving or sliding window is at most 31 days; for longer ones use the strategy 'fixed-window'"
        )
    return Rate(min(limit, LARGEST_LIMIT), expiry)


def _call_id() -> bytes:
    return secrets.token_urlsafe(6).encode()


def whole(found: tuple[int, float], expiry: int) -> tuple[int, float, int, float]:
    """Return what a moving window holds as a sliding window counter: all is in the present one."""
    count, left = found
    # Below the window's length, by which limits divides.
    return 0, 0.0, count, min(left, expiry - 0.001) if count else 0.0


def options_of(options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the client among a storage's options, if there is one, and the others."""
    rest = dict(options)
    return rest.pop("client", None), rest
