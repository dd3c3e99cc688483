"""Threads that compute entries anew while older values of them are served."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tenantkv.cache.computing import Recipe, resolve
from tenantkv.cache.core import Core, Found
from tenantkv.cache.driving import drive
from tenantkv.cache.wire import Wire

# At a time, for one cache.
_MOST_THREADS = 4


class Background:
    """One cache's threads; a few at the most.

    Args:
        core: the cache.
        wire: its way to the server.
    """

    __slots__ = ("_core", "_slots", "_wire")

    def __init__(self, core: Core, wire: Wire) -> None:
        self._core = core
        self._wire = wire
        self._slots = threading.BoundedSemaphore(_MOST_THREADS)

    def spawn(self, recipe: Recipe, held: Found, compute: Callable[[], Any]) -> None:
        """Compute in a thread, unless somebody does already, or too many do."""
        if self._core.flights.is_under_way(recipe.name) or not self._slots.acquire(blocking=False):
            return

        def work() -> None:
            try:
                drive(resolve(self._core, recipe, held), self._wire.run, compute)
            except Exception:
                self._core.stats.count("failed_refreshes")
            finally:
                self._slots.release()

        threading.Thread(target=work, name="tenantkv-cache", daemon=True).start()
