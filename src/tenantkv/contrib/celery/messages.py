"""The envelope around a whole message of Celery's: task, result, event, command, binding.

What is stored is a byte 0x01, which tells it from values that the client itself has sealed, and an envelope
(kind ``celery``, see `tenantkv.envelope`) around::

    0-7   when it was sealed: milliseconds since 1970, little-endian
    8-    what kombu or Celery would have put there in clear

It is bound to its full destination: the database's number, what kind of place it is (a list, a channel,
a value ...), the own name, and within a key the field.
"""

from __future__ import annotations

import hashlib
import struct
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Literal

from tenantkv.contrib.celery import drops
from tenantkv.errors import OpenError

if TYPE_CHECKING:
    from tenantkv.namespace import Namespace

Where = Literal["list", "channel", "value", "chord", "binding"]

_MARK = b"\x01"
_STAMP = struct.Struct("<Q")

#: Seconds by which the clocks of a tenant's machines may differ.
CLOCK_SKEW = 60.0


class MessageSealer:
    """Seals and opens the messages of one namespace and database.

    Args:
        namespace: whose messages.
        db: the database's number.
        is_sealed: ``False`` leaves messages readable and vouches for them; what looks like a secret is
            refused then.
    """

    def __init__(self, namespace: Namespace, db: int, *, is_sealed: bool = True) -> None:
        # Here, as the ciphers take a while to import, and a settings module may be all that is wanted.
        from tenantkv.sealing import sealer_of

        self._sealer = sealer_of(namespace, mode="seal" if is_sealed else "sign")
        self._fields = {
            where: f"{where}:{db}".encode() for where in ("list", "channel", "value", "chord", "binding")
        }
        self._policy = None
        if not is_sealed:
            from tenantkv.secrets import Detector, Policy

            keyring = namespace.keyring
            own = [keyring.prefix.encode(), *(key.secret for key in keyring.keys), keyring.naming]
            self._policy = Policy(Detector(own=own))

    def seal(self, payload: bytes | str, where: Where, name: bytes) -> bytes:
        """Return what is stored under `name`.

        Raises:
            PlaintextRefusedError: messages are not sealed, and this one looks like a secret.
        """
        if isinstance(payload, str):
            payload = payload.encode()
        if self._policy is not None:
            self._policy.check(readable(payload), command=where, name=name)
        stamped = _STAMP.pack(int(time.time() * 1000)) + payload
        return _MARK + self._sealer.seal(stamped, kind="celery", name=name, field=self._fields[where])

    def open(self, blob: bytes, where: Where, name: bytes) -> tuple[bytes, float] | None:
        """Return a payload and when it was sealed, or ``None`` if it is not genuine; that is counted."""
        try:
            stamped = self._sealer.open(blob[1:], kind="celery", name=name, field=self._fields[where])
        except OpenError:
            drops.note("forged")
            return None
        return stamped[8:], _STAMP.unpack_from(stamped)[0] / 1000

    def sealed_at(self, blob: bytes, where: Where, name: bytes) -> float | None:
        """Return when a message was sealed, or ``None`` if it is not genuine; nobody takes note."""
        try:
            stamped = self._sealer.open(blob[1:], kind="celery", name=name, field=self._fields[where])
        except OpenError:
            return None
        return float(_STAMP.unpack_from(stamped)[0]) / 1000

    def seal_member(self, member: bytes, name: bytes) -> bytes:
        """Return the one form in which a member of a set is stored."""
        field = self._fields["binding"]
        return _MARK + self._sealer.seal_member(member, kind="celery", name=name, field=field)

    def open_member(self, blob: bytes, name: bytes) -> bytes | None:
        """Return a member, or ``None`` if it is not genuine; that is counted."""
        try:
            return self._sealer.open(blob[1:], kind="celery", name=name, field=self._fields["binding"])
        except OpenError:
            drops.note("forged")
            return None

    def __repr__(self) -> str:
        return f"<MessageSealer of {self._sealer!r}>"


def readable(payload: bytes) -> bytes:
    """Return a message as its readers see it, for a look at its content: kombu's bodies are base64."""
    import base64
    import json

    try:
        message = json.loads(payload)
        body = message["body"]
        if message["properties"]["body_encoding"] == "base64":
            return payload + b"\n" + base64.b64decode(body)
    except (ValueError, KeyError, TypeError):
        pass
    return payload


def message_id(blob: bytes) -> str:
    """Return what stands for a sealed message in the marks; `lua/claim.lua` makes the same."""
    return hashlib.sha1(blob, usedforsecurity=False).hexdigest()[:24]


class Seen:
    """The last so many things that came along, in this process's own memory, where nobody can delete them.

    Args:
        size: how many.
    """

    def __init__(self, size: int = 10_000) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._size = size

    def add(self, id_: str) -> bool:
        """Note one; say whether it is new."""
        if id_ in self._ids:
            return False
        self._ids[id_] = None
        if len(self._ids) > self._size:
            self._ids.popitem(last=False)
        return True

    def holds(self, id_: str) -> bool:
        """Whether it is among them."""
        return id_ in self._ids
