"""``dramatiq.set_encoder(tenantkv.contrib.dramatiq.Encoder())``: messages and results as sealed JSON."""

from __future__ import annotations

import json
import logging
from typing import Any

from dramatiq.encoder import Encoder as BaseEncoder
from dramatiq.errors import DecodeError

from tenantkv.contrib.payloads import Payloads
from tenantkv.errors import OpenError
from tenantkv.namespace import Namespace

__all__ = ["Encoder"]

logger = logging.getLogger("tenantkv.contrib.dramatiq")

_Base: Any = BaseEncoder

#: What a consumer gets in the place of a message that is not genuine: a message for nobody, which goes to the
#: dead letters. An error would end the consumer, and with it what it had fetched.
_NOBODY = "tenantkv.refused"


class Encoder(_Base):
    """Seals messages.

    Args:
        namespace: the tenant's; by default that of the environment.
        for_results: raise for what is not genuine. Give the `Results` middleware's backend such an encoder.

    Attributes:
        dropped: how many messages were not genuine.
    """

    def __init__(self, namespace: Namespace | None = None, *, for_results: bool = False) -> None:
        self._payloads = Payloads("dramatiq-results" if for_results else "dramatiq", namespace)
        self._for_results = for_results
        self.dropped = 0

    def encode(self, data: dict[str, Any]) -> bytes:
        """Return a message as a payload."""
        return self._payloads.seal(json.dumps(data, separators=(",", ":")).encode())

    def decode(self, data: bytes) -> dict[str, Any]:
        """Return a payload's message, or one for an actor that does not exist.

        Raises:
            DecodeError: a result was not made by this tenant.
        """
        try:
            found: dict[str, Any] = json.loads(self._payloads.open(data))
        except OpenError as error:
            if self._for_results:
                failure: Any = DecodeError
                raise failure("a result is not genuine", b"", error) from None
            self.dropped += 1
            if self.dropped & (self.dropped - 1) == 0:
                # Of the message nothing: a stranger wrote it.
                logger.warning("%d messages dropped: they are not genuine", self.dropped)
            return {
                "queue_name": "",
                "actor_name": _NOBODY,
                "args": [],
                "kwargs": {},
                "options": {"redis_message_id": _NOBODY},
                "message_id": _NOBODY,
                "message_timestamp": 0,
            }
        return found
