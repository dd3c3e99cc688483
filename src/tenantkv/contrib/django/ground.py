"""What every part of the backend stands on: keys, time-outs, and who answers for a failure."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable
from typing import Any, Final, TypeVar

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache, default_key_func
from django.utils.module_loading import import_string

from tenantkv.cache import Cache, Miss
from tenantkv.contrib.django.options import read_timeout
from tenantkv.contrib.django.stores import Store, store_of
from tenantkv.errors import CodecError, OpenError, TenantKVError

Value = TypeVar("Value")

# What `django.core.cache.backends.base.memcache_key_warnings` says nothing about.
_HARMLESS = re.compile(r"[^\x00-\x20\x7f]{1,250}\Z").match
_HARMFUL = re.compile(r"[\x00-\x20\x7f]").search
_LONGEST = 250
_TEXT = frozenset({str})

#: The keys of Django's sessions, in both of its session engines that use a cache.
SESSIONS: Final = "django.contrib.sessions."
MISS: Final = Miss.MISS


class UnpicklableError(CodecError, pickle.PicklingError):
    """A value that cannot be brought back as it is; also what Django's backends raise."""


class Ground(BaseCache):
    """The base of `TenantCache` and its parts.

    Args:
        server: LOCATION.
        params: the rest of an entry of CACHES.
    """

    def __init__(self, server: Any, params: dict[str, Any]) -> None:
        super().__init__(params)
        self._store: Store = store_of(server, params)
        self._is_stock_check = type(self).validate_key is BaseCache.validate_key
        reverse: Any = params.get("REVERSE_KEY_FUNCTION") or _own_key
        self.reverse_key: Any = reverse if callable(reverse) else import_string(reverse)

    # Keys and time-outs

    def _key(self, key: Any, version: int | None) -> str:
        """Return a key with prefix and version; warns of keys that memcached would not take.

        Django's own check looks at each character by itself, which takes longer than making the key.
        """
        made = self.make_key(key, version=version)
        if not self._is_stock_check or type(made) is not str or not _HARMLESS(made):
            self.validate_key(made)
        return str(made)

    def _keys(self, keys: Iterable[Any], version: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return keys by their made ones: those of sessions last, and by themselves."""
        given = list(keys)
        is_text = _TEXT.issuperset(map(type, given))
        made = self._make_keys(given, version, is_text=is_text)
        if not self._is_stock_check or not _are_harmless(made):
            for name in made:
                self.validate_key(name)
            made = list(map(str, made))
        names: dict[str, Any] = dict(zip(made, given, strict=True))
        if is_text and SESSIONS not in "\0".join(given):
            return names, {}
        of_sessions: dict[str, Any] = {
            name: key for name, key in names.items() if type(key) is str and key.startswith(SESSIONS)
        }
        if of_sessions:
            names = {name: key for name, key in names.items() if name not in of_sessions}
        return names, of_sessions

    def _make_keys(self, keys: list[Any], version: int | None, *, is_text: bool) -> list[Any]:
        """Return keys with prefix and version; all at once where Django's own function makes them of text."""
        if is_text and self.key_func is default_key_func and type(self).make_key is BaseCache.make_key:
            head = default_key_func("", self.key_prefix, self.version if version is None else version)
            return [head + key for key in keys]
        return [self.make_key(key, version=version) for key in keys]

    def _cache(self, key: Any) -> Cache:
        """Return the cache that a key of the caller's belongs to."""
        store = self._store
        return store.sessions if type(key) is str and key.startswith(SESSIONS) else store.main

    def _ttl(self, timeout: Any) -> float | None:
        """Return the TTL for a time-out, or ``None`` for one that is over."""
        if timeout is DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        options = self._store.options
        return read_timeout(timeout, options.longest_ttl, allow_forever=options.allow_forever)

    # Failures

    def _is_session_unheard(self, key: Any) -> bool:
        """Say whether a new session that was not stored counts as stored: the server is away.

        Django's engine tries ten thousand keys otherwise, and answers 500. No page is to fail for that.
        """
        return type(key) is str and key.startswith(SESSIONS) and self._store.main.is_away

    def _missed(self, error: Exception, answer: Value) -> Value:
        """Answer as if nothing were there, unless an outage is to be raised.

        What is not the server's doing is the caller's: a refused value, a keyring that is missing.
        """
        if isinstance(error, OpenError):
            self._store.stats.count("tampered")
            return answer
        if isinstance(error, TenantKVError) or self._store.options.raises:
            raise error
        self._store.note(error)
        return answer


def _are_harmless(made: list[Any]) -> bool:
    """Say whether memcached would take all of these keys, and they are text."""
    return (
        _TEXT.issuperset(map(type, made))
        and max(map(len, made), default=0) <= _LONGEST
        and not _HARMFUL("".join(made))
    )


def _own_key(key: str) -> str:
    """Return the key that Django's own KEY_FUNCTION made this of."""
    return key.split(":", 2)[2]
