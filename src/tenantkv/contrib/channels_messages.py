"""What the channel layers have in common: their client for each event loop, and sealed messages.

A message is JSON (bytes stand in it as ``{"\\u0000b": base64}``) with the channels that it is for and the
time at which it was sent, in an envelope of kind ``chan`` that is bound to the name it is sent to. In front
of the envelope stands a byte 0x01, which tells it from values that the client itself has sealed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import Any

import tenantkv.asyncio
from tenantkv.errors import ConfigurationError, OpenError
from tenantkv.keyring import Keyring
from tenantkv.namespace import Namespace
from tenantkv.protection import Protection
from tenantkv.transport.async_client import AsyncTenantRedis

logger = logging.getLogger("tenantkv.contrib.channels")

#: Begins the own names of all keys and channels.
NAMES = b"tkv:chan:"
#: The own name of the sorted set of the layer's keys, and what the names of its lists begin with.
INDEX = NAMES + b"index"
LISTS = NAMES + b"list:"

_MARK = b"\x01"
_BYTES = "\x00b"
#: Seconds by which the clocks of a tenant's machines may differ.
_CLOCK_SKEW = 60.0


class Vault:
    """Seals and opens a layer's messages, and counts what it drops.

    Args:
        namespace: whose messages.
        db: the database's number.
        expiry: seconds for which a message counts.
    """

    def __init__(self, namespace: Namespace, db: int, expiry: float) -> None:
        from tenantkv.sealing import sealer_of

        self._sealer = sealer_of(namespace)
        self._namespace = namespace
        self._db = b"%d" % db
        self._expiry = expiry
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self.dropped: Counter[str] = Counter()

    def name(self, what: str, own: str) -> bytes:
        """Return the own name of a key or channel, which tells nobody what it is for."""
        return NAMES + what.encode() + b":" + self._namespace.hidden_name(f"{what}:{own}".encode())

    def seal(self, name: bytes, message: Any, channels: Iterable[str]) -> bytes:
        """Return a message for the channels behind `name`."""
        letter = {"c": list(channels), "m": message, "t": time.time()}
        text = json.dumps(letter, default=_encode, separators=(",", ":")).encode()
        return _MARK + self._sealer.seal(text, kind="chan", name=name, field=self._db)

    def open(self, name: bytes, blob: bytes) -> tuple[list[str], Any] | None:
        """Return the channels and the message, or ``None`` if it is not genuine, fresh and new."""
        try:
            text = self._sealer.open(bytes(blob[1:]), kind="chan", name=name, field=self._db)
        except OpenError:
            self._drop("forged")
            return None
        letter = json.loads(text, object_hook=_decode)
        if not time.time() - self._expiry <= letter["t"] <= time.time() + _CLOCK_SKEW:
            self._drop("stale")
            return None
        if not self._is_new(name + blob):
            self._drop("replayed")
            return None
        return letter["c"], letter["m"]

    def peek(self, name: bytes, blob: bytes) -> tuple[str, float] | None:
        """Return a message's first channel and when it was sent, if it is genuine; nobody takes note."""
        try:
            text = self._sealer.open(bytes(blob[1:]), kind="chan", name=name, field=self._db)
        except OpenError:
            return None
        letter = json.loads(text)
        return str(letter["c"][0]), float(letter["t"])

    def seal_member(self, name: bytes, channel: str) -> bytes:
        """Return the one form in which a channel stands in a group."""
        return _MARK + self._sealer.seal_member(channel.encode(), kind="chan", name=name, field=self._db)

    def open_member(self, name: bytes, blob: bytes) -> str | None:
        """Return a group's channel, or ``None`` if nobody of us put it there."""
        try:
            return self._sealer.open(blob[1:], kind="chan", name=name, field=self._db).decode()
        except OpenError:
            self._drop("forged")
            return None

    def _is_new(self, blob: bytes) -> bool:
        id_ = hashlib.blake2b(blob, digest_size=16).digest()
        if id_ in self._seen:
            return False
        self._seen[id_] = None
        if len(self._seen) > 20_000:
            self._seen.popitem(last=False)
        return True

    def _drop(self, reason: str) -> None:
        self.dropped[reason] += 1
        count = self.dropped[reason]
        if count & (count - 1) == 0:
            # Of the message nothing: a stranger wrote it.
            logger.warning("%d messages or members dropped: %s", count, reason)


def client_of(
    url: str | None,
    *,
    keyring: Keyring | str | os.PathLike[str] | None,
    namespace: Namespace | str | None,
    child: str | None,
    options: dict[str, Any],
) -> AsyncTenantRedis:
    """Return a client for a layer. No round trip.

    Raises:
        ConfigurationError: the URL or an option has no meaning.
        KeyringError: there is no keyring, or it cannot be trusted.
    """
    client = tenantkv.asyncio.connect(url, keyring=keyring, namespace=namespace, registry=False, **options)
    if not isinstance(client, AsyncTenantRedis):
        raise ConfigurationError("a channel layer needs one server, or Sentinels; not a Cluster")
    found = client.namespace.child(child) if child else client.namespace
    # Messages have envelopes of their own, whatever becomes of the tenant's other values and names.
    pool: Any = client.connection_pool
    pool.connection_kwargs["namespace"] = found.protected(Protection(plaintext="off"))
    return client


def _encode(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {_BYTES: base64.b64encode(bytes(value)).decode()}
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    raise TypeError(f"a message of a channel holds JSON and bytes, and no {type(value).__name__}")


def _decode(found: dict[str, Any]) -> Any:
    if len(found) == 1 and _BYTES in found:
        return base64.b64decode(found[_BYTES])
    return found
