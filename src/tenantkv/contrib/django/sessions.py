"""``SESSION_ENGINE = "tenantkv.contrib.django.sessions"``: Django's sessions in a cache, kept over an outage.

Django's own engine takes a session that cannot be read for one that is gone, and gives the visitor a new
one: after the outage nobody is logged in any more. This one leaves the visitor the old one; during the
outage its content is empty, and what is changed is not kept.
"""

from __future__ import annotations

from typing import Any

from django.contrib.sessions.backends.cache import SessionStore as CacheStore


class SessionStore(CacheStore):
    """A session in the cache that SESSION_CACHE_ALIAS names."""

    # Whether there may be a session that could not be read.
    _is_out_of_reach = False

    def load(self) -> Any:
        """Return the session's content; see the module."""
        key = self.session_key
        return self._kept(key, super().load())

    async def aload(self) -> Any:
        """See `load`."""
        key = self.session_key
        return self._kept(key, await super().aload())

    def _kept(self, key: str | None, content: Any) -> Any:
        if key and self.session_key is None and self._is_away:
            self._session_key = key
            self._is_out_of_reach = True
        return content

    def save(self, must_create: bool = False) -> None:
        """Store the session, unless that would replace one that could not be read."""
        if must_create:
            self._is_out_of_reach = False
        if not (self._is_out_of_reach or self._is_away_while_saving()):
            super().save(must_create)

    async def asave(self, must_create: bool = False) -> None:
        """See `save`."""
        if must_create:
            self._is_out_of_reach = False
        if not (self._is_out_of_reach or self._is_away_while_saving()):
            await super().asave(must_create)

    @property
    def _is_away(self) -> bool:
        return bool(getattr(self._cache, "is_away", False))

    def _is_away_while_saving(self) -> bool:
        # The outage began after the session was read: Django would take it for deleted, and answer 400.
        return self._is_away and self.session_key is not None
