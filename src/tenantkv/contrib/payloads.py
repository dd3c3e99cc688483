"""Sealed JSON for libraries that turn tasks into bytes in one place, and hand these over without a name.

A payload is the byte 0x01, which tells it from values that a client itself has sealed, and an envelope of
kind ``queue`` that is bound to the tenant and the library. It is opened before anything is parsed, and
nothing in it is ever executed. These libraries do not say where a payload goes, so whoever can write to the
server can exchange two genuine ones, or put an old one back; he cannot make one.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

from tenantkv.errors import OpenError
from tenantkv.keyring_store import load_keyring
from tenantkv.namespace import Namespace
from tenantkv.sealing import sealer_of

_MARK = b"\x01"


def namespace_of_environment() -> Namespace:
    """Return the namespace that `tenantkv.connect` would find. No round trip.

    Raises:
        ConfigurationError: a setting has no meaning.
        KeyringError: there is no keyring, or it cannot be trusted.
    """
    from tenantkv.config import resolve

    settings = resolve(environ=os.environ)
    return Namespace(load_keyring(None, namespace=settings.namespace), placement=settings.placement)


class Payloads:
    """Seals and opens the payloads of one library. Threads may share it.

    Args:
        library: what they are bound to.
        namespace: whose they are; by default that of the environment, looked for at the first use.

    Example:
        >>> from tenantkv import Keyring
        >>> payloads = Payloads("example", Namespace(Keyring.generate(bytes(range(96)))))
        >>> payloads.open(payloads.seal(b"[1]"))
        b'[1]'
    """

    def __init__(self, library: str, namespace: Namespace | None = None) -> None:
        self._name = library.encode()
        self._given = namespace

    @cached_property
    def _sealer(self) -> Any:
        # The sealers are kept by namespace, weakly: so this has to hold the namespace.
        if self._given is None:
            self._given = namespace_of_environment()
        return sealer_of(self._given)

    def seal(self, text: bytes) -> bytes:
        """Return a payload."""
        return _MARK + bytes(self._sealer.seal(text, kind="queue", name=self._name))

    def open(self, payload: bytes) -> bytes:
        """Return what is in a payload.

        Raises:
            OpenError: it was not made by this tenant for this library, or was changed.
        """
        if payload[:1] != _MARK:
            raise OpenError("queue", self._name)
        opened: bytes = self._sealer.open(bytes(payload[1:]), kind="queue", name=self._name)
        return opened

    def __repr__(self) -> str:
        return f"<Payloads of {self._name.decode()}>"
