"""What one client of the proxy may take, and do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one client may take.

    Attributes:
        clients: how many may be connected.
        request_bytes: of one command, with 64 bytes for each of its words.
        reply_bytes: what may wait for a client that does not read.
        commands: how many may be on their way to the server.
        patience: seconds to wait for a client that does not read.
        grace: seconds that commands on their way have when the proxy stops.
        may_flush: whether FLUSHDB deletes the whole namespace; otherwise it is refused.
    """

    clients: int = 100
    request_bytes: int = 67_108_864
    reply_bytes: int = 67_108_864
    commands: int = 4096
    patience: float = 60.0
    grace: float = 2.0
    may_flush: bool = False
