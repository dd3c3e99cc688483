"""One asyncio client for each event loop, and what is built on it; closed with the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import tenantkv.asyncio
from tenantkv.cache import AsyncCache
from tenantkv.contrib.loop_states import LoopStates
from tenantkv.namespace import Namespace

Made = TypeVar("Made")

# What a namespace that is at hand has settled.
_IDENTITY = frozenset({"keyring", "namespace", "placement"})


class LoopClients(Generic[Made]):
    """Gives each running loop a client of its own, and what `make` makes of it.

    A connection belongs to the loop in which it was opened: a test client or ``asyncio.run`` has a new
    loop for each call, a server one for all.

    Args:
        make: makes something of a client.
        client: used in every loop instead, for programs with one loop; it is not closed here.
        url: as for `tenantkv.connect`.
        options: as for `tenantkv.connect`.

    Raises:
        ConfigurationError: the URL or an option has no meaning. Now, so that a wrong setting stops the
            program's start and not its first request.
        KeyringError: there is no keyring, or it cannot be trusted.
    """

    def __init__(
        self, make: Callable[[Any], Made], *, client: Any = None, url: str | None = None, **options: Any
    ) -> None:
        self._make = make
        self._url = url
        self._options = options
        self._given: Made | None = None
        if client is not None:
            self.namespace: Namespace = client.namespace
            self._given = make(client)
        else:
            self.namespace = tenantkv.asyncio.connect(url, **options).namespace
        self._states: LoopStates[_State[Made]] = LoopStates(self._connect)

    def here(self) -> Made:
        """Return the running loop's."""
        return self._states.here().made if self._given is None else self._given

    async def aclose(self) -> None:
        """Close the running loop's connections."""
        await self._states.close()

    def _connect(self) -> _State[Made]:
        options = {name: value for name, value in self._options.items() if name not in _IDENTITY}
        client = tenantkv.asyncio.connect(self._url, namespace=self.namespace, **options)
        return _State(client, self._make(client))


class LoopCaches(LoopClients[AsyncCache]):
    """One `AsyncCache` for each event loop. They share what they know of the server, and their counters.

    Otherwise each new loop would wait for a server that is away, and what one loop has still to delete
    would be forgotten with it.

    Args:
        name: the caches'.
        settings: theirs; see `AsyncCache`.
        client: see `LoopClients`, as for `url` and `options`.
    """

    def __init__(
        self,
        name: str,
        settings: dict[str, Any],
        *,
        client: Any = None,
        url: str | None = None,
        **options: Any,
    ) -> None:
        self._first: AsyncCache | None = None

        def make(made: Any) -> AsyncCache:
            cache = AsyncCache(made, name, **settings)
            if self._first is None:
                self._first = cache
            core, wire = self._first._core, self._first._wire
            cache._core.stats, cache._core.owed = core.stats, core.owed
            cache._wire.breaker, cache._wire._owed = wire.breaker, core.owed
            return cache

        super().__init__(make, client=client, url=url, **options)


class _State(Generic[Made]):
    def __init__(self, client: Any, made: Made) -> None:
        self.client = client
        self.made = made

    async def close(self) -> None:
        # An AsyncCache has tasks of its own.
        closing = getattr(self.made, "aclose", None)
        if closing is not None:
            await closing()
        await self.client.aclose()
