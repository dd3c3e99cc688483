"""Read/write locks: many readers, or one writer. ``kv.read_write_lock("report").read()``."""

from __future__ import annotations

from typing import Any

from tenantkv.lock.locks import AsyncLock, Lock
from tenantkv.lock.state import to_bytes
from tenantkv.ops.lock_places import Reading, Writing, key_of
from tenantkv.transport.primitives import UNSET


class ReadWriteLock:
    """A pair of locks of a sync client's: readers exclude writers, a writer excludes everybody.

    A writer that waits keeps new readers out, so that it comes to its turn; who reads must therefore not
    ask to read once more meanwhile.

    Args:
        redis: the client.
        name: its own name.
        hidden: see `Lock`.
        options: as for `Lock`, but for `fair`: of both sides.
    """

    def __init__(self, redis: Any, name: str | bytes, *, hidden: bool = True, **options: Any) -> None:
        self._redis, self._name, self._options = redis, name, options
        self._key = _key(redis, name, hidden)

    def read(self, *, wait: float | None = UNSET) -> Lock:
        """Return the readers' lock, for ``with``. Its `fence` is that of the last writer."""
        return Lock(self._redis, self._name, **_options(self._options, wait, Reading(self._key)))

    def write(self, *, wait: float | None = UNSET) -> Lock:
        """Return the writer's lock, for ``with``."""
        return Lock(self._redis, self._name, **_options(self._options, wait, Writing(self._key)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r}>"


class AsyncReadWriteLock:
    """A pair of locks of an asyncio client's; the twin of `ReadWriteLock`."""

    def __init__(self, redis: Any, name: str | bytes, *, hidden: bool = True, **options: Any) -> None:
        self._redis, self._name, self._options = redis, name, options
        self._key = _key(redis, name, hidden)

    def read(self, *, wait: float | None = UNSET) -> AsyncLock:
        """Return the readers' lock, for ``async with``. Its `fence` is that of the last writer."""
        return AsyncLock(self._redis, self._name, **_options(self._options, wait, Reading(self._key)))

    def write(self, *, wait: float | None = UNSET) -> AsyncLock:
        """Return the writer's lock, for ``async with``."""
        return AsyncLock(self._redis, self._name, **_options(self._options, wait, Writing(self._key)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r}>"


def _key(redis: Any, name: str | bytes, hidden: bool) -> bytes:
    return key_of(redis.namespace, "rwlock", to_bytes(name), hidden=hidden)


def _options(options: dict[str, Any], wait: float | None, place: Reading | Writing) -> dict[str, Any]:
    given = options if wait is UNSET else {**options, "wait": wait}
    return {**given, "_place": ("rwlock", place)}
