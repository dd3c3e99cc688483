"""The thread that keeps what a worker depends on: its leases, other workers' lapsed ones, its bindings.

A thread and not the event loop, as a loop may stand still for as long as a task runs (Celery's solo pool)
and the lease must not. It has no connection of its own, and starts with the first message or consumer.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from typing import Any

from redis.exceptions import RedisError

logger = logging.getLogger("tenantkv.contrib.celery")


class Keeper:
    """Looks after one channel until that is closed.

    Args:
        channel: the channel; held weakly.
        interval: seconds between renewals.
        upkeep: seconds between looks at bindings and queues.
        visibility_timeout: seconds without a sign of life after which a claim has lapsed.
    """

    def __init__(self, channel: Any, *, interval: float, upkeep: float, visibility_timeout: float) -> None:
        self._channel = weakref.ref(channel)
        self._interval = interval
        self._upkeep = upkeep
        self._visibility_timeout = visibility_timeout
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tenantkv-celery-keeper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is under way ends by itself."""
        self._stopped.set()

    def _run(self) -> None:
        upkeep_at = 0.0
        while not self._stopped.wait(self._interval):
            channel = self._channel()
            if channel is None or channel.closed:
                return
            try:
                tend(channel, self._visibility_timeout - self._interval)
                if time.monotonic() >= upkeep_at:
                    upkeep_at = time.monotonic() + self._upkeep
                    channel.upkeep()
            except (RedisError, OSError) as error:
                # The event loop notices by itself, and says so.
                logger.debug("the keeper could not reach the server: %s", type(error).__name__)
            except Exception:
                if self._stopped.is_set():
                    return
                logger.exception("the keeper failed, and goes on")
            del channel


def tend(channel: Any, patience: float) -> None:
    """Renew, settle and sweep once.

    Holders renew every interval, so a claim that was not renewed within the time-out less one interval has
    no holder any more, and its message is back within the time-out.
    """
    channel.qos.settle()
    channel.qos.renew()
    channel.qos.sweep(time.time() - patience)
