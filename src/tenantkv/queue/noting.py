"""A queue's name in the directory, so that ``tenantkv queue ls`` can tell of queues with hidden names."""

from __future__ import annotations

import time

from tenantkv.namespace import Namespace
from tenantkv.ops import directory
from tenantkv.ops.effects import Operation
from tenantkv.sealing import sealer_of


class Noting:
    """Notes one queue, at most once an hour in a process.

    Args:
        namespace: the queue's.
        name: the queue's.
        lost: what a lost connection raises.
    """

    def __init__(self, namespace: Namespace, name: str, lost: tuple[type[Exception], ...]) -> None:
        self._namespace = namespace
        self._name = name.encode()
        self._lost = lost
        self._memory = directory.memory_of(namespace)

    def note(self) -> Operation[None]:
        """Note the name if it is time. A lost connection is for the request behind it to tell."""
        if self._memory.take("queue", self._name, time.monotonic()):
            try:
                yield from directory.note(
                    self._namespace, sealer_of(self._namespace), "queue", self._name, time.time()
                )
            except self._lost:
                pass
