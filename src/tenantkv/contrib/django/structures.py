"""Sets and hashes in a cache, with django-redis's methods; members and values are sealed.

A set that holds what this tenant did not write reads as empty: it cannot be told what was there.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, reduce
from typing import Any

from redis.exceptions import RedisError

from tenantkv import codec
from tenantkv.contrib.django.ground import SESSIONS, Ground, UnpicklableError
from tenantkv.contrib.django.places import Places
from tenantkv.errors import CodecError, OpenError

Version = int | None


class Structures(Ground):
    """The part of `TenantCache` that keeps sets and hashes. Two round trips each, unless they say more."""

    @cached_property
    def _places(self) -> Places:
        return Places(self._store)

    def _on(
        self,
        key: Any,
        version: Version,
        method: str,
        *args: Any,
        answer: Any,
        creates: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Return what a method of the client gives for a structure, or `answer` if it cannot be had."""
        name = self._key(key, version)
        if type(key) is str and key.startswith(SESSIONS):
            # Sessions are values, and their names are not shown.
            return answer
        return self._guarded(
            lambda: self._places.call_on(
                name.encode(), lambda kv, own: getattr(kv, method)(own, *args, **kwargs), creates=creates
            ),
            answer,
        )

    def _guarded(self, do: Callable[[], Any], answer: Any) -> Any:
        try:
            return do()
        except (RedisError, OpenError) as error:
            return self._missed(error, answer)

    @staticmethod
    def _packed(value: Any) -> bytes:
        try:
            return codec.encode(value, allow_pickle=True)
        except CodecError as error:
            raise UnpicklableError(str(error)) from None

    def _unpacked(self, data: Any) -> Any:
        """Return the member in what came out of a seal; ``None`` for one of a class that is gone."""
        if data is None:
            return None
        try:
            return codec.decode(data, is_authentic=True)
        except CodecError:
            self._store.stats.count("tampered")
            return None

    def _all_packed(self, values: Iterable[Any]) -> list[bytes]:
        return [self._packed(value) for value in values]

    # Sets

    def sadd(self, key: Any, *values: Any, version: Version = None, client: Any = None) -> int:
        """Add members, and return how many are new."""
        return int(self._on(key, version, "sadd", *self._all_packed(values), answer=0, creates=True))

    def scard(self, key: Any, version: Version = None, client: Any = None) -> int:
        """Return how many members a set has."""
        return int(self._on(key, version, "scard", answer=0))

    def sismember(self, key: Any, member: Any, version: Version = None, client: Any = None) -> bool:
        """Say whether something is a member."""
        return bool(self._on(key, version, "sismember", self._packed(member), answer=0))

    def smismember(self, key: Any, *members: Any, version: Version = None, client: Any = None) -> list[bool]:
        """Say of each whether it is a member."""
        packed = self._all_packed(members)
        return [
            bool(is_in) for is_in in self._on(key, version, "smismember", packed, answer=[0] * len(packed))
        ]

    def smembers(self, key: Any, version: Version = None, client: Any = None) -> set[Any]:
        """Return all members."""
        return set(map(self._unpacked, self._on(key, version, "smembers", answer=())))

    def srem(self, key: Any, *members: Any, version: Version = None, client: Any = None) -> int:
        """Remove members, and return how many there were."""
        return int(self._on(key, version, "srem", *self._all_packed(members), answer=0))

    def spop(self, key: Any, count: int | None = None, version: Version = None, client: Any = None) -> Any:
        """Remove and return a member drawn at random, or a set of `count`."""
        found = self._on(key, version, "spop", count, answer=None)
        return self._unpacked(found) if count is None else set(map(self._unpacked, found or ()))

    def srandmember(
        self, key: Any, count: int | None = None, version: Version = None, client: Any = None
    ) -> Any:
        """Return a member drawn at random, or a list of `count`."""
        found = self._on(key, version, "srandmember", count, answer=None)
        return self._unpacked(found) if count is None else list(map(self._unpacked, found or ()))

    def sscan(
        self,
        key: Any,
        match: str | None = None,
        count: int | None = 10,
        version: Version = None,
        client: Any = None,
    ) -> set[Any]:
        """Return all members, as `smembers`; django-redis's gives the first page."""
        return set(self.sscan_iter(key, match, count, version))

    def sscan_iter(
        self,
        key: Any,
        match: str | None = None,
        count: int | None = 10,
        version: Version = None,
        client: Any = None,
    ) -> Iterator[Any]:
        """Go through the members; with `match` through those that are text and match that glob.

        All are fetched at once: the server sees sealed members, and cannot match them.
        """
        members = self.smembers(key, version)
        if match is None:
            return iter(members)
        fits = re.compile(fnmatch.translate(match)).match
        return (member for member in members if isinstance(member, str) and fits(member))

    def smove(
        self, source: Any, destination: Any, member: Any, version: Version = None, client: Any = None
    ) -> bool:
        """Move a member; return whether it was there. Three round trips, not atomic."""
        if not self.sismember(source, member, version):
            return False
        # First there: a member in both sets is better than one in none.
        self.sadd(destination, member, version=version)
        return bool(self.srem(source, member, version=version))

    def sdiff(self, *keys: Any, version: Version = None, client: Any = None) -> set[Any]:
        """Return what is in the first set and in none of the others."""
        return self._combined(set.difference, keys, version)

    def sinter(self, *keys: Any, version: Version = None, client: Any = None) -> set[Any]:
        """Return what is in all sets."""
        return self._combined(set.intersection, keys, version)

    def sunion(self, *keys: Any, version: Version = None, client: Any = None) -> set[Any]:
        """Return what is in any of the sets."""
        return self._combined(set.union, keys, version)

    def sdiffstore(
        self,
        dest: Any,
        *keys: Any,
        version_dest: Version = None,
        version_keys: Version = None,
        client: Any = None,
    ) -> int:
        """Store what `sdiff` gives, and return how many they are. Not atomic."""
        return self._stored(dest, version_dest, self.sdiff(*keys, version=version_keys))

    def sinterstore(self, dest: Any, *keys: Any, version: Version = None, client: Any = None) -> int:
        """Store what `sinter` gives, and return how many they are. Not atomic."""
        return self._stored(dest, version, self.sinter(*keys, version=version))

    def sunionstore(self, destination: Any, *keys: Any, version: Version = None, client: Any = None) -> int:
        """Store what `sunion` gives, and return how many they are. Not atomic."""
        return self._stored(destination, version, self.sunion(*keys, version=version))

    def _combined(self, combine: Callable[..., Any], keys: Iterable[Any], version: Version) -> set[Any]:
        """Combine sets here, as each one's members are sealed for itself. Two round trips."""
        names = [self._key(key, version).encode() for key in keys]

        def read(client: Any, stamp: bytes) -> Any:
            pipeline = client.pipeline(transaction=False)
            for name in names:
                pipeline.smembers(self._places.locate(stamp, name))
            return pipeline.execute()

        found = self._guarded(lambda: self._places.call(read), [])
        return set(map(self._unpacked, reduce(combine, map(set, found)))) if found else set()

    def _stored(self, key: Any, version: Version, members: set[Any]) -> int:
        self._on(key, version, "unlink", answer=0)
        return self.sadd(key, *members, version=version) if members else 0

    # Hashes

    def hset(
        self,
        key: Any,
        field: Any = None,
        value: Any = None,
        mapping: Mapping[Any, Any] | None = None,
        version: Version = None,
        client: Any = None,
    ) -> int:
        """Set fields, and return how many are new."""
        fields = {**({} if field is None else {field: value}), **(mapping or {})}
        packed = {name: self._packed(each) for name, each in fields.items()}
        return int(self._on(key, version, "hset", mapping=packed, answer=0, creates=True))

    def hget(self, key: Any, field: Any, version: Version = None, client: Any = None) -> Any:
        """Return a field's value, or ``None``."""
        return self._unpacked(self._on(key, version, "hget", field, answer=None))

    def hgetall(self, key: Any, version: Version = None, client: Any = None) -> dict[str, Any]:
        """Return all fields with their values."""
        found = self._on(key, version, "hgetall", answer={})
        return {_text(field): self._unpacked(value) for field, value in found.items()}

    def hdel(self, key: Any, field: Any, version: Version = None, client: Any = None) -> int:
        """Remove a field, and return how many there were."""
        return int(self._on(key, version, "hdel", field, answer=0))

    def hlen(self, key: Any, version: Version = None, client: Any = None) -> int:
        """Return how many fields a hash has."""
        return int(self._on(key, version, "hlen", answer=0))

    def hkeys(self, key: Any, version: Version = None, client: Any = None) -> list[str]:
        """Return the fields. They are not sealed, so anybody can plant one."""
        return [_text(field) for field in self._on(key, version, "hkeys", answer=[])]

    def hexists(self, key: Any, field: Any, version: Version = None, client: Any = None) -> bool:
        """Say whether a field is there."""
        return bool(self._on(key, version, "hexists", field, answer=0))


def _text(field: Any) -> str:
    return field.decode(errors="replace") if isinstance(field, bytes) else str(field)
