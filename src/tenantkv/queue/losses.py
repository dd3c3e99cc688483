"""What a client notices of losses: the ledger's differences, and a queue that is not the one it knew."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tenantkv.errors import ConfigurationError
from tenantkv.ops.queue import Report
from tenantkv.queue.errors import QueueLostError

_STRUCTURES = {
    "b": "messages",
    "r": "ready",
    "f": "in flight",
    "d": "delayed",
    "x": "dead",
    "g": "in groups",
    "s": "state",
}


@dataclass(frozen=True, slots=True)
class QueueLoss:
    """What the server lost of a queue, or what a stranger did to it.

    Attributes:
        queue: the queue's own name.
        missing: how many messages are known to be lost for good.
        parts: by part, how many entries are gone; below zero, how many somebody else added. Parts other
            than ``messages`` are made again from the messages: those in flight are delivered again,
            delayed ones early, and without ``state`` deliveries are counted anew.
        is_whole: whether it is not the queue that this client knew: all of it was lost, or its ledger.
    """

    queue: str
    missing: int
    parts: Mapping[str, int] = field(default_factory=dict)
    is_whole: bool = False

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {count}" for name, count in self.parts.items())
        whole = "the queue or its ledger was lost; " if self.is_whole else ""
        told = f" (by part: {parts})" if parts else ""
        return f"queue {self.queue!r}: {whole}{self.missing} messages are known to be missing{told}"


class QueueLossWarning(UserWarning):
    """The server lost a queue or a part of it."""


OnLoss = Callable[[QueueLoss], None] | Literal["warn", "raise"]


class LossWatch:
    """Compares what replies tell with what this client knew.

    Attributes:
        losses: how many losses this client noticed.
        missing: how many messages are known to be missing, of all of them.
    """

    __slots__ = ("_incarnation", "_on_loss", "_queue", "_unfinished", "losses", "missing")

    def __init__(self, queue: str, on_loss: OnLoss) -> None:
        if not callable(on_loss) and on_loss not in ("warn", "raise"):
            raise ConfigurationError("on_loss is 'warn', 'raise' or a function that takes a QueueLoss")
        self._queue = queue
        self._on_loss = on_loss
        self._incarnation = b""
        self._unfinished = 0
        self.losses = 0
        self.missing = 0

    def notice(self, report: Report, *, sent: int = 0) -> QueueLoss | None:
        """Take note of a reply; tell of a loss, and return it.

        Args:
            report: what the reply begins with.
            sent: how many messages the request itself added.

        Raises:
            QueueLostError: with ``on_loss="raise"``; what was asked for was done.
        """
        known, before = self._incarnation, self._unfinished
        self._incarnation, self._unfinished = report.incarnation, report.unfinished
        is_other = known not in (report.incarnation, b"")
        if not is_other and not report.losses:
            return None
        parts = {_STRUCTURES.get(name, name): count for name, count in report.losses.items()}
        missing = max(0, parts.get("messages", 0))
        if is_other:
            missing = max(missing, before - (report.unfinished - sent), 0)
        loss = QueueLoss(self._queue, missing, parts, is_other)
        self.losses += 1
        self.missing += missing
        self._tell(loss)
        return loss

    @property
    def incarnation(self) -> bytes:
        """The queue's identity as last seen, or empty."""
        return self._incarnation

    def _tell(self, loss: QueueLoss) -> None:
        if self._on_loss == "raise":
            raise QueueLostError(str(loss), self._queue, loss)
        if callable(self._on_loss):
            self._on_loss(loss)
        else:
            warnings.warn(str(loss), QueueLossWarning, stacklevel=6)
