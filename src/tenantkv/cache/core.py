"""What `Cache` and `AsyncCache` share: the settings at work on keys, values and results.

Nothing here waits. What a method does over several steps is a generator in `steps.py` and
`computing.py`, which both worlds drive.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from tenantkv.cache.flights import Flights
from tenantkv.cache.near import NearStore
from tenantkv.cache.owed import Owed
from tenantkv.cache.sentinels import MISS
from tenantkv.cache.settings import CacheSettings, check_seconds, check_ttl
from tenantkv.cache.stats import CacheStats
from tenantkv.cache.values import CodecName, decode, decode_plain, encode
from tenantkv.errors import CodecError, ConfigurationError, PlaintextRefusedError, RefusedError
from tenantkv.namespace import Namespace
from tenantkv.ops.cache import Draft, Shelf
from tenantkv.ops.cache_entry import MOST_TAGS, Entry, Lifetime, read_plain, should_refresh_early
from tenantkv.ops.cache_names import Names
from tenantkv.ops.cache_stamps import StampBook
from tenantkv.ops.cache_vault import Vault
from tenantkv.protector import protector_of
from tenantkv.sealing import sealer_of
from tenantkv.secrets import Secret

#: What `Core.quick` cannot tell.
LOOK: Final = object()

# Stamps outlive every entry, and are prolonged long before that.
_STAMP_LIFE = 3
_COMPRESS_FROM_BYTES = 1024


class Found(NamedTuple):
    """An entry that counts, with its value."""

    entry: Entry
    value: Any


class Core:
    """One cache's settings, names and envelopes.

    Args:
        namespace: whose cache it is.
        name: the cache's.
        settings: how it behaves.
        seal: whether all values are sealed; ``None`` as the namespace does with others.
        hide_names: whether the server sees hashes in the place of keys and tags; ``None`` as the
            namespace does with others.
        stats: the counters.
        in_tasks: whether callers are tasks and not threads.
    """

    def __init__(
        self,
        namespace: Namespace,
        name: str,
        settings: CacheSettings,
        *,
        seal: bool | None,
        hide_names: bool | None,
        stats: CacheStats,
        in_tasks: bool = False,
    ) -> None:
        self.name = name
        self.settings = settings
        self.stats = stats
        self.clock = time.time
        protection = namespace.protection
        if seal is None:
            seal = protection.seal and protection.mode == "seal"
        if hide_names is None:
            hide_names = protection.names == "hidden"
        sealer, signer = sealer_of(namespace), sealer_of(namespace, mode="sign")
        longest = settings.longest_ttl + settings.stale
        self.shelf = Shelf(
            Names(name, hide=namespace.hidden_name, hidden=hide_names),
            StampBook(
                signer,
                entropy=os.urandom,
                lifetime_ms=int(longest * _STAMP_LIFE * 1000),
                keep_every=longest,
            ),
            Vault(
                None if seal else signer,
                sealer,
                compress_from=_COMPRESS_FROM_BYTES if settings.compress else None,
            ),
            announces=settings.announce,
        )
        self.owed = Owed(self.shelf)
        self._policy = protector_of(namespace).policy
        #: Whether somebody may be computing what is written; where nobody does, a `set` is less work.
        self.ends_leases = True
        #: Set by the shell, if it keeps one.
        self.near: NearStore | None = None
        self.flights = Flights(in_tasks=in_tasks)
        self._plaintext_ok = settings.plaintext_ok or protection.plaintext_ok
        self._tampered_seen = 0

    # Names

    def entry_name(self, key: str | bytes, version: int | str | None = None) -> bytes:
        """Return the own name of an entry's key."""
        return self.shelf.names.entry(key, self.settings.version if version is None else version)

    def entry_names(self, keys: Sequence[Any], version: int | str | None = None) -> list[bytes]:
        """Return the own names of entries' keys."""
        return self.shelf.names.entries(keys, self.settings.version if version is None else version)

    @staticmethod
    def tags(tags: Sequence[str | bytes]) -> tuple[bytes, ...]:
        """Return tags as bytes, each once.

        Raises:
            ConfigurationError: one text in the place of several, or more than an entry can have.
        """
        if not tags:
            return ()
        if isinstance(tags, (str, bytes)):
            raise ConfigurationError("tags are a list of texts, not one text")
        found = tuple(dict.fromkeys(t.encode() if isinstance(t, str) else bytes(t) for t in tags))
        if len(found) > MOST_TAGS or any(not 0 < len(tag) <= 65_535 for tag in found):
            raise ConfigurationError(f"an entry has at most {MOST_TAGS} tags, each of 1 to 65535 bytes")
        return found

    # Values in

    def moments(self, ttl: float | None, now: float) -> tuple[int, int]:
        """Return what `lifetime` says from `now` on; quick for a TTL as it is given."""
        settings = self.settings
        if type(ttl) is float and 0 < ttl <= settings.longest_ttl and not (settings.jitter or settings.stale):
            fresh_ms = int((now + ttl) * 1000)
            return fresh_ms, fresh_ms
        return self.lifetime(ttl).moments(now)

    def lifetime(self, ttl: float | None, stale: float | None = None) -> Lifetime:
        """Return how long an entry is to live: jittered, and no longer than the ceiling."""
        settings = self.settings
        seconds = settings.ttl if ttl is None else check_ttl(ttl)
        more = settings.stale if stale is None else check_seconds("stale", stale)
        if math.isinf(seconds):
            return Lifetime(seconds)
        seconds = min(seconds, settings.longest_ttl)
        if settings.jitter:
            seconds *= 1 - settings.jitter * random.random()
        return Lifetime(seconds, min(more, settings.longest_ttl))

    def draft(
        self,
        key: str | bytes,
        name: bytes,
        value: object,
        lifetime: Lifetime,
        *,
        tags: tuple[bytes, ...] = (),
        codec: CodecName | None = None,
        delta: float = 0.0,
        is_negative: bool = False,
        plaintext_ok: str | None = None,
    ) -> Draft:
        """Return an entry to be written.

        Raises:
            CodecError: the codec cannot bring the value back as it is.
            RefusedError: it is too large.
            PlaintextRefusedError: it looks like a secret, and the cache does not seal.
        """
        is_secret = isinstance(value, Secret)
        payload = self.payload(key, value, codec, plaintext_ok)
        fresh_ms, until_ms = lifetime.moments(self.clock())
        return Draft(
            name,
            payload,
            fresh_ms,
            until_ms,
            tags=tags,
            delta_ms=int(delta * 1000) if delta >= 0 else 0,
            is_negative=is_negative,
            is_secret=is_secret,
        )

    def payload(
        self,
        key: str | bytes,
        value: object,
        codec: CodecName | None = None,
        plaintext_ok: str | None = None,
    ) -> bytes:
        """Return a value encoded and checked. Raises as `draft`."""
        is_secret = isinstance(value, Secret)
        bare = value.reveal() if isinstance(value, Secret) else value
        payload = b"" if bare is MISS else encode(bare, codec or self.settings.codec)
        if len(payload) > self.settings.largest_bytes:
            self.stats.count("refused")
            raise RefusedError(
                "CACHE SET",
                f"the value has {len(payload)} bytes, and this cache takes {self.settings.largest_bytes}.",
                "Cache something smaller, or give the cache a larger largest_bytes.",
            )
        if not is_secret and not self.shelf.vault.seals:
            self._check_plaintext(key, payload, plaintext_ok)
        return payload

    def _check_plaintext(self, key: str | bytes, payload: bytes, plaintext_ok: str | None) -> None:
        try:
            self._policy.check(
                payload[1:],
                command="CACHE SET",
                name=key.encode() if isinstance(key, str) else bytes(key),
                plaintext_ok=plaintext_ok or self._plaintext_ok,
            )
        except PlaintextRefusedError:
            self.stats.count("refused")
            raise

    @staticmethod
    def number(value: int) -> bytes:
        """Return the payload of a whole number."""
        return encode(value, "json")

    # Values out

    def found(self, entry: Entry | None) -> Found | None:
        """Return an entry with its value, or ``None`` for one that cannot be read."""
        if entry is None:
            return None
        try:
            return Found(entry, decode(entry))
        except CodecError:
            self.stats.count("tampered")
            return None

    def quick(self, name: bytes, blobs: Sequence[bytes | None], early: float | None = 0) -> Any:
        """Return the value in the replies for the stamp and one entry, or `MISS`; count.

        The short way, for the usual hit and for nothing at all. `LOOK` says that it takes the long one,
        by way of `ops.conclude`.
        """
        shelf, stats, blob = self.shelf, self.stats, blobs[1]
        body = stamp = None
        if blob is not None:
            stamp = shelf.book.read(shelf.names.stamp, blobs[0])
            body = shelf.vault.open(name, blob)
        if stamp is None or body is None:
            self.note_tampered()
            stats.count("misses")
            return MISS
        now = self.clock()
        plain = read_plain(body, stamp, int(now * 1000))
        if plain is None:
            return LOOK
        payload, fresh_ms, delta_ms = plain
        if early != 0 and delta_ms and self._may_be_early(fresh_ms, delta_ms, now, early):
            return LOOK
        try:
            value = decode_plain(payload)
        except CodecError:
            return LOOK
        self.count_hits(1, len(payload))
        return value

    def look(
        self, name: bytes, asked: Sequence[bytes], stamp_names: Sequence[bytes], blobs: Sequence[bytes | None]
    ) -> Any:
        """Return the entry in the replies for stamps and one entry, or ``None``.

        `LOOK` says that it has tags whose stamps were not asked for.
        """
        shelf = self.shelf
        stamps = shelf.book.read_all(stamp_names, blobs[:-1])
        body = shelf.vault.open(name, blobs[-1])
        entry = shelf.judge(name, stamps[0], body, int(self.clock() * 1000))
        if entry is not None and entry.tags:
            known = dict(zip(asked, stamps[1:], strict=True))
            for tag, stamp in entry.tags:
                if tag not in known:
                    return LOOK
                if known[tag] != stamp:
                    return None
        return entry

    def missed(self) -> Any:
        """Count a read that found nothing, and return `MISS`."""
        self.stats.count("misses")
        return MISS

    def taken(self, name: bytes, entry: Entry | None, token: object = None) -> Any:
        """Return the value of a fresh entry that was read, or `MISS`; count, and keep it near."""
        if entry is None or self.clock() * 1000 >= entry.fresh_ms:
            return self.missed()
        try:
            value = decode(entry)
        except CodecError:
            self.stats.count("tampered")
            return self.missed()
        self.count_hits(1, len(entry.payload))
        if token is not None and self.near is not None:
            self.near.finish(name, token, entry, value)
        return value

    def count_hits(self, hits: int, size: int) -> None:
        """Count reads that found something, of `size` bytes in all."""
        stats = self.stats
        if stats.on_event is None:
            stats.hits += hits
            stats.bytes_read += size
        elif hits:
            stats.count("hits", hits)
            stats.count("bytes_read", size)

    def weigh(
        self, name: bytes, entry: Entry, token: object, early: float | None
    ) -> tuple[Found | None, bool]:
        """Return what was read for `get_or_compute`, and whether that is the answer; count."""
        found = self.found(entry)
        if found is None:
            self.stats.count("misses")
            return None, False
        self.stats.count("bytes_read", len(found.entry.payload))
        if not self.is_fresh(found.entry):
            self.stats.count("stale_hits")
            return found, False
        self.stats.count("hits")
        if self.is_early(found.entry, early):
            return found, False
        if token is not None and self.near is not None:
            self.near.finish(name, token, found.entry, found.value)
        return found, True

    def kept(self, name: bytes) -> Any:
        """Return what this process has kept of an entry, while the server is away, or `MISS`."""
        if self.near is None or self.settings.on_outage != "stale":
            return MISS
        value = self.near.kept(name)
        if value is not MISS:
            self.stats.count("outage_hits")
        return value

    def is_fresh(self, entry: Entry) -> bool:
        """Say whether an entry that counts is within its TTL."""
        return self.clock() * 1000 < entry.fresh_ms

    def is_early(self, entry: Entry, beta: float | None) -> bool:
        """Draw whether this reader is the one to compute a fresh entry anew."""
        # Above 0, for its logarithm.
        uniform = 1.0 - random.random()
        return should_refresh_early(entry.fresh_ms, entry.delta_ms, self.clock(), self._share(beta), uniform)

    def _may_be_early(self, fresh_ms: int, delta_ms: int, now: float, beta: float | None) -> bool:
        # No number that `random` gives has a larger logarithm: 53 bits are 36.7.
        return now * 1000 + 37 * delta_ms * self._share(beta) >= fresh_ms

    def _share(self, beta: float | None) -> float:
        return self.settings.early if beta is None else check_seconds("early", beta)

    def note_tampered(self) -> None:
        """Count what did not open since the last look."""
        seen = self.shelf.vault.tampered + self.shelf.book.tampered
        if seen != self._tampered_seen:
            self.stats.count("tampered", seen - self._tampered_seen)
            self._tampered_seen = seen

    def outage(self, error: Exception) -> None:
        """Note a call that the server did not answer; raise `error` where that is what was asked for."""
        self.stats.count("unavailable")
        if self.settings.on_outage == "raise":
            raise error

    def forget(self, names: Sequence[bytes]) -> None:
        """Forget entries in this process, as they change now."""
        if self.near is not None:
            for name in names:
                self.near.drop(name)
