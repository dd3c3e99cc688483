"""The registry: a tenant's index of own names on the server, for servers without SCAN.

Keys, all of them sorted sets of own names scored by when they were last seen, in Unix seconds::

    __tenantkv__:registry:NN    NN from 00 to SHARDS - 1, chosen by CRC-32 of the name

A process registers a name with the first command that may create it, in the same packet and before it,
and again when `REFRESH` seconds have passed and the name is written once more. So in the long run a
write costs one dictionary look-up. Each shard is bounded, and expires when nobody has written for
`LIFETIME`; names whose keys are gone are found in small lots that ride along with registrations, and
whenever names are listed.

What is read from a shard is only a hint: a name counts when its key exists *in this namespace*, so that
nothing which somebody else plants there makes us list or delete a foreign key. ``docs/registry.md`` tells
when the registry can miss a key. It never lists one that does not exist.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tenantkv.commands.globs import glob_regex
from tenantkv.commands.own_scripts import CLEARING_EVAL
from tenantkv.namespace import RESERVED
from tenantkv.ops.effects import Batch, Operation
from tenantkv.ops.registry_cover import PLAIN, Cover
from tenantkv.ops.scripts import script

SHARDS = 64
CAPACITY = 131_072
REFRESH = 300.0
LIFETIME = 30 * 24 * 3600
#: Seconds for which a name stays though it has no key: it is registered just before its key is made, and
#: the clocks of two machines differ.
GRACE = 10.0

_SHARD_CAPACITY = CAPACITY // SHARDS
# What a process remembers of one shard; beyond, it registers those names once more.
_SHARD_MEMORY = 1024
# Twice as many names are looked at as are registered, so that at most about half of a shard is stale.
_LOT = 32
_REGISTRATIONS_PER_LOT = 16
# Chores wait for the next registration: so many ride along with it at least, and so many may wait.
_CHORES_AT_ONCE = 2
_CHORES_WAITING = 256
_TRIM_AT_ONCE = 500
_EXISTS_AT_ONCE = 500
_TIDY_AT_ONCE = 50
_SHARDS_AT_ONCE = 8

Words = tuple[Any, ...]
OnReply = Callable[[Any], None]
#: A command in own names to send ahead, and what to do with its reply: the reply, an exception that the
#: server gave instead, or ``None`` if it was lost.
Aside = tuple[Words, OnReply]


def shard_of(name: bytes) -> int:
    """Return the shard that a name belongs to."""
    return zlib.crc32(name) % SHARDS


def shard_key(shard: int) -> bytes:
    """Return the own name of a shard's key."""
    return b"%bregistry:%02d" % (RESERVED, shard)


class Registrar:
    """What one process remembers of its registrations. Safe among threads: single dict operations.

    Args:
        refresh: seconds between two registrations of a name by this process.
        cover: stands between own names and what lies on the server.
    """

    def __init__(self, refresh: float = REFRESH, cover: Cover = PLAIN) -> None:
        self.refresh = refresh
        self.cover = cover
        self._fresh_until: list[dict[bytes, float]] = [{} for _ in range(SHARDS)]
        # The first registration looks at a lot, since many processes do not live to see a second one.
        self._since_lot = _REGISTRATIONS_PER_LOT
        self._chores: deque[Callable[[float], Aside]] = deque(maxlen=_CHORES_WAITING)
        self._owed: deque[bytes] = deque(maxlen=_CHORES_WAITING)

    def knows(self, name: bytes, now: float) -> bool:
        """Whether nothing has to be sent ahead of a command that writes `name` alone."""
        shard = self._fresh_until[zlib.crc32(name) % SHARDS]
        return shard.get(name, 0.0) > now and not self._owed

    def asides(self, names: Iterable[bytes], now: float) -> list[Aside]:
        """Return the commands to send ahead of one that writes `names`; most often none."""
        due = self._due(names, now, {})
        if self._owed:
            owed = list(self._owed)
            self._owed.clear()
            due = self._due(owed, now, due)
        if not due:
            return []
        commands: list[Aside] = []
        count = 0
        for shard, members in due.items():
            commands += self._registration(shard, list(members), now)
            count += len(members)
        for _ in range(max(_CHORES_AT_ONCE, count // _REGISTRATIONS_PER_LOT)):
            try:
                commands.append(self._chores.popleft()(now))
            except IndexError:
                break
        return commands

    def owe(self, names: Iterable[bytes], now: float) -> None:
        """Note names that are written where nothing can be sent ahead, for the next registration."""
        for members in self._due(names, now, {}).values():
            self._owed.extend(members)

    def _due(
        self, names: Iterable[bytes], now: float, due: dict[int, dict[bytes, None]]
    ) -> dict[int, dict[bytes, None]]:
        """Add to `due` the names that have to be registered, by shard and each once."""
        for name in names:
            shard = zlib.crc32(name) % SHARDS
            if self._fresh_until[shard].get(name, 0.0) <= now and not name.startswith(RESERVED):
                due.setdefault(shard, {})[name] = None
        return due

    def _registration(self, shard: int, members: list[bytes], now: float) -> list[Aside]:
        key, fresh_until = shard_key(shard), self._fresh_until[shard]
        is_first = not fresh_until
        if len(fresh_until) > _SHARD_MEMORY:
            fresh_until.clear()
        known = sum(member in fresh_until for member in members)
        for member in members:
            fresh_until[member] = now + self.refresh
        seal = self.cover.member
        scored = [part for member in members for part in (int(now), seal(key, member))]

        def registered(reply: Any) -> None:
            if not isinstance(reply, int):
                # Lost or refused: the next write of these names registers them.
                self.forget(members)
                self._heal(key, reply)
            elif reply > len(members) - known:
                # Names that were there are new again, so the server has lost this shard.
                fresh_until.clear()

        commands: list[Aside] = [(("ZADD", key, *scored), registered)]
        self._since_lot += len(members)
        is_due = self._since_lot >= _REGISTRATIONS_PER_LOT
        if is_first or is_due:
            commands.append((("EXPIRE", key, LIFETIME), _ignore))
        if is_due:
            self._since_lot = 0
            commands += [
                (("ZCARD", key), lambda reply: self._trim(key, reply)),
                (("ZRANGE", key, 0, _LOT - 1), lambda reply: self._inspect(shard, reply)),
            ]
        return commands

    def _heal(self, key: bytes, reply: Any) -> None:
        """Have a shard removed that is no sorted set, as only somebody else can have made it."""
        if is_wrong_type(reply):
            self._chores.append(lambda _now: (("UNLINK", key), _ignore))

    def _trim(self, key: bytes, reply: Any) -> None:
        """Have the oldest names of a full shard dropped, a few at a time."""
        if isinstance(reply, int) and reply > _SHARD_CAPACITY:
            last = min(reply - _SHARD_CAPACITY, _TRIM_AT_ONCE) - 1
            self._chores.append(lambda _now: (("ZREMRANGEBYRANK", key, 0, last), _ignore))

    def _inspect(self, shard: int, reply: Any) -> None:
        """Have the names of a shard that were not seen for longest looked at."""
        if isinstance(reply, list) and reply:
            key = shard_key(shard)
            names = [name for member in reply if (name := self.cover.name(key, member)) is not None]
            self._chores.append(lambda now: self._tidying(shard, names, now))

    def _tidying(self, shard: int, names: list[bytes], now: float) -> Aside:
        fresh_until = self._fresh_until[shard]
        # Forgotten before they are looked at: who writes one of them now registers it again.
        before = {name: fresh_until.pop(name, None) for name in names}

        def tidied(reply: Any) -> None:
            if isinstance(reply, list):
                gone = {self.cover.name(shard_key(shard), member) for member in reply}
                for name in before.keys() - gone:
                    until = before[name]
                    if until is not None:
                        fresh_until.setdefault(name, until)

        return tidy_command(shard, names, now, cover=self.cover), tidied

    def known_names(self, shard: int) -> list[bytes]:
        """The names of a shard that this process registered lately."""
        return list(self._fresh_until[shard])

    def forget(self, names: Iterable[bytes]) -> None:
        """Register `names` again with their next write."""
        for name in names:
            self._fresh_until[shard_of(name)].pop(name, None)

    def __reduce__(self) -> tuple[Any, ...]:
        # What a process remembers is its own; another one begins anew. A cover knows keys, and is not
        # pickled: pools make their registrars anew.
        if self.cover is not PLAIN:
            raise TypeError("the registry of hidden names is not pickled, since it can open names")
        return Registrar, (self.refresh,)


def _ignore(_reply: Any) -> None:
    """The reply tells nothing that matters."""


def is_wrong_type(reply: Any) -> bool:
    """Whether a reply says that the key holds another type."""
    return isinstance(reply, Exception) and str(reply).startswith("WRONGTYPE")


def tidy_command(
    shard: int, names: Sequence[bytes], now: float, *, grace: float | None = None, cover: Cover = PLAIN
) -> Words:
    """Return the command that drops those of `names` whose keys are gone, and returns their members.

    It registers nothing itself: names that it sent ahead would be new, and stay.
    """
    until = int(now - (GRACE if grace is None else grace))
    key = shard_key(shard)
    members = [cover.member(key, name) for name in names]
    keys = [key, *map(cover.key, names)]
    return (CLEARING_EVAL, script("registry_tidy").body, len(keys), *keys, int(now), until, *members)


def read_shards(
    shards: Sequence[int], registrar: Registrar | None, now: float, *, grace: float | None = None
) -> Operation[list[bytes]]:
    """The names of some shards whose keys exist; those that are gone leave the registry.

    Args:
        shards: their numbers.
        registrar: the client's; names that it remembers count too, and are registered again if the
            server has lost them.
        now: Unix seconds.
        grace: how old a registration is before it is dropped for the want of a key.

    Two round trips for each 500 names or less, and one more if some are gone or were lost.
    """
    cover = PLAIN if registrar is None else registrar.cover
    replies = yield Batch([("ZRANGE", shard_key(shard), -_SHARD_CAPACITY, -1) for shard in shards])
    there: list[bytes] = []
    repairs: list[Words] = []
    for shard, reply in zip(shards, replies, strict=True):
        if is_wrong_type(reply):
            repairs.append(("UNLINK", shard_key(shard)))
        elif isinstance(reply, Exception):
            raise reply
        members = _own_members(shard, reply, cover)
        known = registrar.known_names(shard) if registrar is not None else []
        found, gone = yield from _existing([*dict.fromkeys([*members, *known])])
        there += found
        lost = [name for name in found if name not in members]
        if lost:
            key = shard_key(shard)
            scored = (part for name in lost for part in (int(now), cover.member(key, name)))
            repairs.append(("ZADD", key, *scored))
        if registrar is not None:
            registrar.forget(gone)
        for start in range(0, len(gone), _TIDY_AT_ONCE):
            lot = gone[start : start + _TIDY_AT_ONCE]
            repairs.append(tidy_command(shard, lot, now, grace=grace, cover=cover))
    if repairs:
        yield Batch(repairs)
    return there


def _own_members(shard: int, reply: Any, cover: Cover) -> dict[bytes, None]:
    """Return the names that belong into a shard; the rest was planted there."""
    key = shard_key(shard)
    names = (cover.name(key, member) for member in (reply if isinstance(reply, list) else []))
    return {
        name: None
        for name in names
        if name is not None and shard_of(name) == shard and not name.startswith(RESERVED)
    }


def _existing(names: list[bytes]) -> Operation[tuple[list[bytes], list[bytes]]]:
    """Sort names into those whose keys exist and those whose keys do not."""
    there: list[bytes] = []
    gone: list[bytes] = []
    for start in range(0, len(names), _EXISTS_AT_ONCE):
        lot = names[start : start + _EXISTS_AT_ONCE]
        # One name a command: of several, EXISTS tells only how many there are.
        replies = yield Batch([("EXISTS", name) for name in lot])
        for name, reply in zip(lot, replies, strict=True):
            if reply in (0, 1):
                (there if reply else gone).append(name)
    return there, gone


def matching(names: Iterable[bytes], pattern: bytes) -> list[bytes]:
    """Return the names that a Redis glob pattern matches."""
    if pattern == b"*":
        return list(names)
    regex = glob_regex(pattern)
    return [name for name in names if regex.fullmatch(name)]


def read_all(
    registrar: Registrar | None, now: float, *, grace: float | None = None
) -> Operation[list[bytes]]:
    """Every registered name whose key exists; see `read_shards`."""
    names: list[bytes] = []
    for start in range(0, SHARDS, _SHARDS_AT_ONCE):
        shards = range(start, min(start + _SHARDS_AT_ONCE, SHARDS))
        names += yield from read_shards(shards, registrar, now, grace=grace)
    return names


def drop(names: Sequence[bytes], now: float, cover: Cover = PLAIN) -> Operation[None]:
    """Let names whose keys were deleted leave the registry, but for those that are back already.

    Those too that a host registered whose clock is ahead of ours, by up to `GRACE`.
    """
    by_shard: dict[int, list[bytes]] = {}
    for name in names:
        by_shard.setdefault(shard_of(name), []).append(name)
    commands: list[Words] = []
    for shard, members in by_shard.items():
        for start in range(0, len(members), _TIDY_AT_ONCE):
            lot = members[start : start + _TIDY_AT_ONCE]
            commands.append(tidy_command(shard, lot, now, grace=-GRACE, cover=cover))
    for start in range(0, len(commands), _SHARDS_AT_ONCE):
        yield Batch(commands[start : start + _SHARDS_AT_ONCE])


__all__ = [
    "CAPACITY",
    "LIFETIME",
    "REFRESH",
    "RESERVED",
    "SHARDS",
    "Aside",
    "OnReply",
    "Registrar",
    "drop",
    "matching",
    "read_all",
    "read_shards",
    "shard_key",
    "shard_of",
]
