"""`Cache`: for programs with threads."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

from typing_extensions import Unpack

from tenantkv.cache.background import Background
from tenantkv.cache.changes import addition, renewal, sum_of
from tenantkv.cache.computing import Recipe, resolve
from tenantkv.cache.core import LOOK
from tenantkv.cache.driving import Steps, drive
from tenantkv.cache.glance import glance
from tenantkv.cache.memo import memoize
from tenantkv.cache.parcel import parcel
from tenantkv.cache.sentinels import MISS
from tenantkv.cache.settings import CacheOptions, Near
from tenantkv.cache.shared import SharedCache
from tenantkv.cache.steps import (
    IncrOptions,
    Key,
    SetOptions,
    Version,
    delete_many,
    get_many,
    incr_version,
    invalidate,
    set_many,
    ttl,
)
from tenantkv.cache.swap import swap
from tenantkv.cache.values import CodecName
from tenantkv.cache.wire import MGET, OUTAGE, Wire
from tenantkv.ops import cache as ops
from tenantkv.ops.cache_entry import Entry

Result = TypeVar("Result")
Function = TypeVar("Function", bound=Callable[..., Any])


class Cache(SharedCache):
    """A cache on a server that evicts, restarts and has other tenants. Threads may share it.

    Every value is authenticated: what a neighbour wrote, moved or damaged is a miss and a counter. A
    read is one round trip, and clearing the cache is one, whatever it holds.

    Args:
        client: a :class:`tenantkv.TenantRedis`.
        name: the cache's, without braces and blanks. Caches of one name share their entries.
        near: keeps entries in this process too: ``True``, or a `Near` with its bounds.
        seal: whether values are sealed; ``None`` as the namespace does with others. A cache that
            does not seal signs.
        hide_names: whether keys and tags are hidden from the server; ``None`` as the namespace does.
        on_event: called with the name of a counter and an amount whenever something is counted.
        settings: how it behaves: ``ttl``, ``stale``, ``codec``, ``on_outage`` ... see `CacheSettings`.

    Raises:
        ConfigurationError: an argument has no meaning.

    Example:
        >>> import tenantkv
        >>> pages = Cache(tenantkv.connect("memory://", namespace=getfixture("namespace")), "pages")
        >>> pages.get_or_compute("front", lambda: "<html>")
        '<html>'
        >>> pages.get("front")
        '<html>'
        >>> pages.clear()
        True
        >>> pages.get("front", default="nothing")
        'nothing'
    """

    def __init__(
        self,
        client: Any,
        name: str,
        *,
        near: bool | Near = False,
        seal: bool | None = None,
        hide_names: bool | None = None,
        on_event: Callable[[str, int], None] | None = None,
        **settings: Unpack[CacheOptions],
    ) -> None:
        super().__init__(client, name, near, seal, hide_names, on_event, dict(settings), in_tasks=False)
        self._wire = Wire(client, self._core.settings.timeout, self._core.owed)
        self._background = Background(self._core, self._wire)
        if self._core.near is not None:
            self._listen(client)

    # Reading

    def get(self, key: Key, default: Any = None, *, version: Version = None) -> Any:
        """Return a value, or `default`. One round trip; none for an entry that is near.

        Args:
            key: text or bytes.
            default: for what is absent, expired, invalidated or not ours.
            version: of the entry; the cache's if left out.
        """
        core = self._core
        name = core.entry_name(key, version)
        near = core.near
        token = None
        if near is not None:
            value = near.get(name)
            if value is not MISS:
                core.stats.near_hits += 1
                return value
            token = near.begin(name)
        try:
            value = self._find(name, (), token, 0)
        except OUTAGE as error:
            core.outage(error)
            value = core.kept(name)
        else:
            if type(value) is Entry:
                value = core.taken(name, value, token)
        return default if value is MISS else value

    def _find(self, name: bytes, tags: Sequence[bytes], token: object, early: float | None) -> Any:
        """Return the value of the usual hit or `MISS`; an `Entry` where more has to be looked at."""
        core = self._core
        shelf = core.shelf
        started = perf_counter()
        asked = shelf.tags_of((name,), tags) if tags or name in shelf.hints else ()
        stamp_names = shelf.stamp_names(asked) if asked else (shelf.names.stamp,)
        blobs = self._wire.read((MGET, *stamp_names, name))
        value = core.quick(name, blobs, early) if token is None and not asked else LOOK
        if value is LOOK:
            entry = core.look(name, asked, stamp_names, blobs)
            if entry is LOOK:
                (entry,) = self._wire.run(ops.conclude(shelf, [name], asked, blobs, core.clock()))
            core.note_tampered()
            value = core.missed() if entry is None else entry
        core.stats.took(perf_counter() - started)
        return value

    def get_many(
        self, keys: Iterable[Key], *, version: Version = None, tags: Sequence[Key] = ()
    ) -> dict[Any, Any]:
        """Return the values that are there, by key. One MGET for up to 500 keys.

        Args:
            keys: the keys.
            version: of the entries.
            tags: which they are likely to have; that may save a round trip.
        """
        keys, core = list(keys), self._core
        look = None if tags else glance(core, keys, version)
        if look is None:
            return self._do(get_many(core, keys, version, tags))
        try:
            look.take(self._wire.read((MGET, *look.names)))
            if look.left:
                look.take_left(self._wire.run(look.look()))
        except OUTAGE as error:
            core.outage(error)
            return {}
        return look.found

    def ttl(self, key: Key, *, version: Version = None) -> float | None:
        """Return for how many seconds an entry will be served; ``None`` if there is none. One round trip."""
        return self._do(ttl(self._core, key, version))

    def __contains__(self, key: Key) -> bool:
        return self.get(key, MISS) is not MISS

    # Writing

    def set(self, key: Key, value: Any, ttl: float | None = None, **options: Unpack[SetOptions]) -> bool:
        """Store a value, and return whether the server took it. One round trip.

        Args:
            key: text or bytes.
            value: what the codec takes; a `Secret` is sealed.
            ttl: seconds, or ``FOREVER``; the cache's if left out.
            options: see `SetOptions`.

        Raises:
            CodecError: the codec cannot bring the value back as it is.
            RefusedError: it is too large, or looks like a secret (`PlaintextRefusedError`).
        """
        failed = self.set_many({key: value}, ttl, **options)
        return not failed

    def set_many(
        self, items: Mapping[Any, Any], ttl: float | None = None, **options: Unpack[SetOptions]
    ) -> list[Any]:
        """Store several values, not atomically; return the keys of those that the server did not take.

        One round trip for up to 500. Every value is encoded and checked before the first is sent.
        """
        lot = parcel(self._core, items, ttl) if not options and self._wire.is_clear else None
        if lot is not None:
            try:
                if lot.is_taken(self._wire.write(lot.commands)):
                    return []
            except OUTAGE as error:
                lot.lose(error)
                return list(items)
        return self._do(set_many(self._core, items, ttl, **options))

    def add(self, key: Key, value: Any, ttl: float | None = None, **options: Unpack[SetOptions]) -> bool:
        """Store a value if there is none that counts, and return whether it was. Atomic, up to two trips."""
        return swap(self._core, self._wire, addition(self._core, key, value, ttl, **options))

    def delete(self, key: Key, *, version: Version = None) -> bool:
        """Delete an entry, and return whether there was one. One round trip."""
        return bool(self._do(delete_many(self._core, [key], version)))

    def delete_many(self, keys: Iterable[Key], *, version: Version = None) -> int:
        """Delete entries, and return how many there were. One round trip for up to 500."""
        return self._do(delete_many(self._core, list(keys), version))

    def touch(self, key: Key, ttl: float | None = None, *, version: Version = None) -> bool:
        """Give an entry another TTL, from now; return whether there was one. Atomic, up to two trips."""
        return swap(self._core, self._wire, renewal(self._core, key, ttl, version))

    def incr(self, key: Key, by: int = 1, **options: Unpack[IncrOptions]) -> int | None:
        """Add to a whole number, and return the sum. Atomic, in up to two round trips; its TTL stays.

        Args:
            key: text or bytes.
            by: what to add.
            options: see `IncrOptions`.

        Raises:
            TypeError: what is there is no whole number.
        """
        sums: list[int] = []
        change = sum_of(self._core, sums, key, by, **options)
        return sums[-1] if swap(self._core, self._wire, change) else None

    def decr(self, key: Key, by: int = 1, **options: Unpack[IncrOptions]) -> int | None:
        """Take from a whole number, and return the difference; otherwise as `incr`."""
        return self.incr(key, -by, **options)

    def incr_version(self, key: Key, by: int = 1, *, version: Version = None) -> int | None:
        """Move an entry to a later version, and return that; ``None`` if there is none. Not atomic."""
        return self._do(incr_version(self._core, key, by, version))

    # Invalidation

    def clear(self) -> bool:
        """End all entries, of all versions, for everybody at once. One small write, whatever there is.

        What lies on the server goes with its TTL; entries with ``FOREVER`` stay there, unread, until they
        are written again, deleted or evicted.

        Returns:
            Whether the server has heard of it; if not, this process makes up for it.
        """
        return self._do(invalidate(self._core, None))

    def invalidate_tag(self, *tags: Key) -> bool:
        """End all entries that have one of these tags, for everybody at once. One small write."""
        return self._do(invalidate(self._core, tags))

    # Computing

    def get_or_compute(
        self,
        key: Key,
        compute: Callable[[], Result],
        *,
        ttl: float | None = None,
        stale: float | None = None,
        negative: float | None = None,
        early: float | None = None,
        tags: Sequence[Key] = (),
        version: Version = None,
        codec: CodecName | None = None,
        background: bool | None = None,
        plaintext_ok: str | None = None,
    ) -> Result:
        """Return a value, computing it if need be: once, however many threads and processes ask.

        A hit is one round trip. A miss is three: look, take the lease, store. Whoever misses what
        another is computing waits for that. If computing fails while an older value is at hand, that is
        returned. What was computed is not stored if the entry was written or deleted meanwhile, and does
        not count if a tag of it or the cache was invalidated.

        Args:
            key: text or bytes.
            compute: called without arguments, by one caller; threads that wait get the same object.
            ttl: seconds, or ``FOREVER``; like the others below, the cache's if left out.
            stale: see `CacheSettings`, as for `negative`, `early`, `codec`, `background` and
                `plaintext_ok`.
            tags: of the entry.
            version: of the entry.

        Raises:
            Exception: what `compute` raises; threads that waited for it get the same.
            RuntimeError: `compute` asks for the very entry that it computes.
        """
        core = self._core
        name = core.entry_name(key, version)
        near = core.near
        token = None
        if near is not None:
            value = near.get(name)
            if value is not MISS:
                core.stats.near_hits += 1
                return value  # type: ignore[no-any-return]
            token = near.begin(name)
        wanted = core.tags(tags)
        held = None
        try:
            value = self._find(name, wanted, token, early)
        except OUTAGE:
            # Asked again with the lease, and answered there.
            value = MISS
        if type(value) is Entry:
            held, is_answer = core.weigh(name, value, token, early)
            if is_answer and held is not None:
                return held.value  # type: ignore[no-any-return]
        elif value is not MISS:
            return value  # type: ignore[no-any-return]
        recipe = Recipe(key, name, ttl, stale, negative, wanted, codec, plaintext_ok)
        if held is not None and (core.settings.background if background is None else background):
            self._background.spawn(recipe, held, compute)
            return held.value  # type: ignore[no-any-return]
        return drive(resolve(core, recipe, held), self._wire.run, compute)  # type: ignore[no-any-return]

    def cached(
        self,
        *,
        key: str | Callable[..., Key] | None = None,
        tags: Sequence[str] | Callable[..., Sequence[Key]] = (),
        **options: Any,
    ) -> Callable[[Function], Function]:
        """Return a decorator that caches a function's results by its arguments.

        The function gets three more: ``cache_key(*args)``, ``invalidate(*args)`` and ``refresh(*args)``.

        Args:
            key: a template such as ``"user:{uid}"``, a function of the same arguments, or nothing: then
                it is made of the function's name and all arguments, which have to be plain values.
                Values are percent-encoded in templates, so that no two lists of arguments meet.
            tags: templates, or a function of the same arguments that returns tags.
            options: as for `get_or_compute`.

        Example:
            >>> import tenantkv
            >>> cache = Cache(tenantkv.connect("memory://", namespace=getfixture("namespace")), "sums")
            >>> @cache.cached(ttl=60, key="sum:{a}:{b}", tags=["sums"])
            ... def total(a, b):
            ...     return a + b
            >>> total(1, 2), total.cache_key(1, b=2)
            (3, 'sum:1:2')
        """

        return partial(memoize, self, key=key, tags=tags, options=options)

    # The rest

    def _do(self, steps: Steps[Result]) -> Result:
        return drive(steps, self._wire.run)

    def _listen(self, client: Any) -> None:
        from tenantkv.cache.listener import Listener

        assert self._core.near is not None
        self._listener = Listener(client, self._core.near, self._core.shelf)
        self._listener.start()
        weakref.finalize(self, self._listener.stop)

    def close(self) -> None:
        """Stop the near cache's listener, if there is one."""
        if self._listener is not None:
            self._listener.stop()

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
