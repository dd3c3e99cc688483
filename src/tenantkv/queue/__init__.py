"""The queue: messages that are delivered at least once, on a server that may lose or change them.

::

    sync.py            Queue
    asynchronous.py    AsyncQueue
    receiver.py        Receiver, KeepAlive and their twins: prefetch, and keys that stay in use
    worker.py          Worker, AsyncWorker: handlers, heartbeats, graceful stops
    outbox.py          messages with their settings, as the script takes them
    core.py            what both worlds do, as operations
    looking.py         metrics, peeks, redrives, results
    values.py          envelopes
    losses.py          what the server lost
    journal.py         sends that the server has not confirmed
    message.py errors.py settings.py lanes.py
"""

from tenantkv.queue.asynchronous import AsyncQueue
from tenantkv.queue.errors import (
    QueueError,
    QueueFullError,
    QueueLostError,
    ResultLostError,
    ResultTimeoutError,
    StaleReceiptError,
)
from tenantkv.queue.losses import QueueLoss, QueueLossWarning
from tenantkv.queue.message import AsyncMessage, AsyncSent, Message, Outgoing, Peeked, QueueMetrics, Sent
from tenantkv.queue.settings import QueueSettings
from tenantkv.queue.sync import Queue

__all__ = [
    "AsyncMessage",
    "AsyncQueue",
    "AsyncSent",
    "Message",
    "Outgoing",
    "Peeked",
    "Queue",
    "QueueError",
    "QueueFullError",
    "QueueLoss",
    "QueueLossWarning",
    "QueueLostError",
    "QueueMetrics",
    "QueueSettings",
    "ResultLostError",
    "ResultTimeoutError",
    "Sent",
    "StaleReceiptError",
]
