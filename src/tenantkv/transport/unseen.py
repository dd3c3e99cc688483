"""What has come on an asyncio connection while its event loop stood still, and so nobody has read."""

from __future__ import annotations

import select
from typing import Any


class Unseen:
    """Looks at the socket of one connection. What it finds there is mostly that the server has closed it."""

    __slots__ = ("_poller", "_transport")

    def __init__(self) -> None:
        self._transport: Any = None
        self._poller: Any = None

    def is_on(self, transport: Any) -> bool:
        """Say whether something is there. No round trip; no wait.

        Not with TLS, which has records of its own, and not on Windows: there the loop has to tell.
        """
        if self._transport is not transport:
            self.forget()
            if hasattr(select, "poll") and transport.get_extra_info("ssl_object") is None:
                poller = select.poll()
                poller.register(transport.get_extra_info("socket"), select.POLLIN)
                self._poller = poller
            self._transport = transport
        return self._poller is not None and bool(self._poller.poll(0))

    def forget(self) -> None:
        """Let go of the transport, which may be closed."""
        self._transport = self._poller = None
