"""The own names of a cache's keys. All of one cache share a Cluster slot, for one MGET reads several.

==================================== ================================================================
own name                             what it holds
==================================== ================================================================
``tkv:cache:{pages}v1:front``        an entry: version 1, key ``front``
``tkv:cache:{pages}h1:<24 chars>``   the same where names are hidden, or the key is very long
``tkv:cache:{pages}stamp``           the stamp of the whole cache
``tkv:cache:{pages}tag:<tag>``       the stamp of a tag; ``htag:<24 chars>`` hidden
``tkv:cache:{pages}l<v1:front>``     the lease of whoever computes that entry
``tkv:cache:{pages}news``            what has changed, for near caches (a stream)
==================================== ================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from tenantkv.errors import ConfigurationError
from tenantkv.namespace import PRIMITIVES

# Longer keys are replaced by a keyed hash, as nobody reads them, and the server keeps each.
LONGEST_KEY_BYTES = 512
_SHORT = LONGEST_KEY_BYTES // 4

_NAME = re.compile(r"[^{}\x00-\x20\x7f]{1,128}\Z")
_VERSION = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")


class Names:
    """Makes the own names of one cache.

    Args:
        cache: the cache's name, without braces, blanks and control characters.
        hide: gives 24 characters for a name; see `Namespace.hidden_name`.
        hidden: whether keys, tags and the cache's own name are hidden.

    Example:
        >>> names = Names("pages", hide=lambda own: b"-" * 24)
        >>> names.entry("front", 1)
        b'tkv:cache:{pages}v1:front'
    """

    __slots__ = ("_heads", "_hidden", "_hide", "base", "news", "stamp")

    def __init__(self, cache: str, *, hide: Callable[[bytes], bytes], hidden: bool = False) -> None:
        if not isinstance(cache, str) or not _NAME.match(cache):
            raise ConfigurationError(
                "a cache's name is text of 1 to 128 characters without braces, blanks and control characters"
            )
        tag = hide(b"cache:" + cache.encode()) if hidden else cache.encode()
        self.base = b"%bcache:{%b}" % (PRIMITIVES, tag)
        self.stamp = self.base + b"stamp"
        self.news = self.base + b"news"
        self._hide = hide
        self._hidden = hidden
        self._heads: dict[int | str, bytes] = {}

    def entry(self, key: str | bytes, version: int | str) -> bytes:
        """Return the name of an entry.

        Raises:
            ConfigurationError: the key is neither text nor bytes, or the version has other characters
                than letters, digits, ``_``, ``.`` and ``-``.
        """
        raw = key.encode() if type(key) is str else _checked(key, "key")
        head = self._heads.get(version) or self._head(version)
        if self._hidden or len(raw) > LONGEST_KEY_BYTES:
            return self.base + b"h" + head[len(self.base) + 1 :] + self._hide(b"key:" + raw)
        return head + raw

    def entries(self, keys: Sequence[Any], version: int | str) -> list[bytes]:
        """Return what `entry` gives for each."""
        head = self._heads.get(version) or self._head(version)
        if self._hidden:
            return [self.entry(key, version) for key in keys]
        # In UTF-8 a character has up to four bytes.
        return [
            head + key.encode() if type(key) is str and len(key) <= _SHORT else self.entry(key, version)
            for key in keys
        ]

    def tag(self, tag: str | bytes) -> bytes:
        """Return the name of a tag's stamp."""
        raw = tag.encode() if type(tag) is str else _checked(tag, "tag")
        if self._hidden or len(raw) > LONGEST_KEY_BYTES:
            return self.base + b"htag:" + self._hide(b"tag:" + raw)
        return self.base + b"tag:" + raw

    def lease(self, entry: bytes) -> bytes:
        """Return the name of the lease for an entry."""
        return self.base + b"l" + entry[len(self.base) :]

    def _head(self, version: int | str) -> bytes:
        text = str(version)
        if type(version) not in (int, str) or not _VERSION.match(text):
            raise ConfigurationError("a version is a number, or text of letters, digits, '_', '.' and '-'")
        head = b"%bv%b:" % (self.base, text.encode())
        if len(self._heads) < 1000:
            self._heads[version] = head
        return head


def _checked(given: object, what: str) -> bytes:
    if isinstance(given, str):
        return given.encode()
    if not isinstance(given, (bytes, bytearray)):
        raise ConfigurationError(f"a cache's {what} is text or bytes, not {type(given).__name__}")
    return bytes(given)
