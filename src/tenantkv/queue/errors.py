"""What goes wrong with queues.

::

    TenantKVError
    └── QueueError
        ├── QueueFullError          the bound on its length was reached; nothing was sent
        ├── StaleReceiptError       the delivery is over: it was settled, or timed out and went to others
        ├── QueueLostError          the server lost messages (with ``on_loss="raise"``)
        ├── ResultTimeoutError      no result came in time
        └── ResultLostError         no result will come: the message died, expired or was lost
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tenantkv.errors import TenantKVError

if TYPE_CHECKING:
    from tenantkv.queue.losses import QueueLoss


class QueueError(TenantKVError):
    """Base of what goes wrong with a queue.

    Attributes:
        queue: its own name.
    """

    def __init__(self, message: str, queue: str) -> None:
        super().__init__(message)
        self.queue = queue

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.queue)


class QueueFullError(QueueError):
    """The queue holds as many messages as it may; none of this call's was sent."""


class StaleReceiptError(QueueError):
    """The receipt is of no delivery under way, so nothing was done.

    Its visibility timeout passed and the message went back, it was settled before, or it is no receipt.
    """


class QueueLostError(QueueError):
    """The server lost the queue or a part of it. What was asked for was done nevertheless.

    Attributes:
        loss: what is known to be missing.
    """

    def __init__(self, message: str, queue: str, loss: QueueLoss) -> None:
        super().__init__(message, queue)
        self.loss = loss

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.queue, self.loss)


class ResultTimeoutError(QueueError, TimeoutError):
    """No result came in time; it may still come."""


class ResultLostError(QueueError):
    """No result will come.

    Attributes:
        state: ``dead`` (a dead letter now) or ``gone`` (acknowledged without a result, expired, or lost).
        why: of a dead letter, the word it was buried with.
    """

    def __init__(self, message: str, queue: str, state: str, why: str = "") -> None:
        super().__init__(message, queue)
        self.state = state
        self.why = why

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.queue, self.state, self.why)
