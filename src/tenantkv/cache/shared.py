"""What the two public classes have in common beside their logic: how they are made, and what they show."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from tenantkv.cache.core import Core
from tenantkv.cache.near import NearMode, NearStore
from tenantkv.cache.settings import CacheSettings, Near
from tenantkv.cache.stats import CacheStats
from tenantkv.errors import ConfigurationError


class SharedCache:
    """The base of `Cache` and `AsyncCache`."""

    _wire: Any

    def __init__(
        self,
        client: Any,
        name: str,
        near: bool | Near,
        seal: bool | None,
        hide_names: bool | None,
        on_event: Callable[[str, int], None] | None,
        settings: dict[str, Any],
        *,
        in_tasks: bool,
    ) -> None:
        unknown = sorted(settings.keys() - CacheSettings.__slots__)
        if unknown:
            raise ConfigurationError(
                f"a cache takes no {unknown[0]!r}; it takes {', '.join(sorted(CacheSettings.__slots__))}"
            )
        checked = CacheSettings(**settings)
        self._core = Core(
            client.namespace,
            name,
            checked,
            seal=seal,
            hide_names=hide_names,
            stats=CacheStats(on_event),
            in_tasks=in_tasks,
        )
        self._listener: Any = None
        if near is not False:
            bounds = Near() if near is True else near
            self._core.near = NearStore(
                bounds, self._core.shelf.names, early=checked.early, uniform=random.random
            )

    @property
    def name(self) -> str:
        """The cache's name."""
        return self._core.name

    @property
    def stats(self) -> CacheStats:
        """What this process has counted."""
        return self._core.stats

    @property
    def near_mode(self) -> NearMode:
        """How the near cache learns of changes: from the ``"server"``, a ``"stream"``, or it is ``"off"``."""
        return self._core.near.mode if self._core.near is not None else "off"

    @property
    def is_away(self) -> bool:
        """Whether the server did not answer when it was asked last."""
        return bool(self._wire.breaker.is_open)

    def __repr__(self) -> str:
        core = self._core
        how = "sealed" if core.shelf.vault.seals else "signed"
        return f"<{type(self).__name__} {core.name!r} {how} near={self.near_mode}>"
