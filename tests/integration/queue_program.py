"""Programs that test_queue_kills.py runs and kills: a sender and workers, in processes of their own."""

from __future__ import annotations

import os
import signal
import sys

import tenantkv
from tenantkv.queue import Queue


def queue() -> Queue:
    # Losses raise: the server keeps its data in these tests, so any loss is a bug.
    return Queue(tenantkv.connect(), "kills", visibility=1.0, max_deliveries=1000, on_loss="raise")


def send(count: int) -> None:
    own = queue()
    for start in range(0, count, 200):
        own.send_many([number.to_bytes(4, "big") for number in range(start, min(start + 200, count))])
    print("sent", flush=True)


def work(log: str, batch: int) -> None:
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    own = queue()
    # What is written survives SIGKILL: the page cache belongs to the kernel.
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    done = []
    while not stopping:
        done = own.receive_many(batch, wait=0.5, ack=done)
        os.write(file, b"".join(each.value for each in done))
    own.ack_many(done)


if __name__ == "__main__":
    if sys.argv[1] == "send":
        send(int(sys.argv[2]))
    else:
        work(sys.argv[2], int(sys.argv[3]))
