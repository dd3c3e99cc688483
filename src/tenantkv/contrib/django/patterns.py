"""Finding keys by a pattern, in django-redis's words. For shells and clean-up, not for pages.

They walk over all of the tenant's names: on the server if it offers SCAN, else in the registry, which
``OPTIONS={"registry": True}`` keeps. What an earlier `clear()` ended is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from redis.exceptions import RedisError

from tenantkv.contrib.django import steps
from tenantkv.contrib.django.structures import Structures, Version

_PAGE = 500
_GLOB = str.maketrans({letter: f"\\{letter}" for letter in "\\*?[]"})


class Patterns(Structures):
    """The part of `TenantCache` that finds keys by a glob.

    Values of a cache that seals with hidden names, sessions and keys of more than 512 bytes are not found.
    """

    def keys(self, search: str, version: Version = None, client: Any = None) -> list[str]:
        """Return the keys that match, as callers name them.

        Raises:
            ForbiddenCommandError: the server has no SCAN, and the registry is off.
        """
        return list(self.iter_keys(search, version=version))

    def iter_keys(
        self, search: str, itersize: int | None = None, client: Any = None, version: Version = None
    ) -> Iterator[str]:
        """Go through the keys that match; `itersize` is ignored. See `keys`."""
        for name in self._matching(search, version):
            yield self.reverse_key(name)

    def delete_pattern(
        self,
        pattern: str,
        version: Version = None,
        prefix: str | None = None,
        client: Any = None,
        itersize: int | None = None,
    ) -> int:
        """Delete what matches, and return how many keys they were. See `keys`."""
        names = self._matching(pattern, version, prefix)
        cache = self._store.main
        try:
            return int(cache._do(steps.discard(cache._core, names, self._places.locate)))
        except RedisError as error:
            return self._missed(error, 0)

    def _matching(self, search: str, version: Version, prefix: str | None = None) -> list[str]:
        """Return the made keys of what counts and matches."""
        start = (self.key_prefix if prefix is None else prefix).translate(_GLOB)
        glob: Any = self.key_func(search, start, self.version if version is None else version)
        cache = self._store.main
        shelf = cache._core.shelf
        # Where its entries begin: the name of one without a key.
        base = cache._core.entry_name("")
        found: list[str] = []
        try:
            client = self._store.client
            names: Any = client.keys(base.decode().translate(_GLOB).encode() + str(glob).encode())
            for at in range(0, len(names), _PAGE):
                alive = cache._wire.run(steps.live(shelf, names[at : at + _PAGE], cache._core.clock()))
                found += [name[len(base) :].decode(errors="replace") for name in alive]
            head = self._places.locate(self._places.stamp(), b"")
            names = client.keys(head.decode().translate(_GLOB).encode() + str(glob).encode())
            found += [name[len(head) :].decode(errors="replace") for name in names]
        except RedisError as error:
            return self._missed(error, found)
        return sorted(set(found))
