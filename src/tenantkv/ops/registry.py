"""The registry: a tenant's index of own names on the server, for servers without SCAN.

Keys, all of them sorted sets of own names scored by the time of registration in Unix seconds::

    __tenantkv__:registry:NN    NN from 00 to SHARDS - 1, chosen by CRC-32 of the name

A process registers a name with the first command that may create it, in the same packet and before it,
and again when `REFRESH` seconds have passed and the name is written once more. So in the long run a
write costs one dictionary look-up. Each shard is bounded, and expires when nobody has written for
`LIFETIME`; names whose keys are gone are found in small lots that ride along with registrations, and
whenever names are listed.

The registry can miss a key: one made inside a script under a name that was not among its KEYS; one
whose shard was evicted, until it is written again by a process that notices (at most `REFRESH` seconds
after that write); one beyond the capacity, the oldest first. It never lists a key that does not exist.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tenantkv.commands.globs import glob_regex
from tenantkv.ops.effects import Batch, Command, Operation

RESERVED = b"__tenantkv__:"
SHARDS = 64
CAPACITY = 131_072
REFRESH = 300.0
LIFETIME = 30 * 24 * 3600
_SHARD_CAPACITY = CAPACITY // SHARDS
_REMEMBERED = 65_536
_LOT = 16
_EXISTS_AT_ONCE = 500

Words = tuple[Any, ...]
OnReply = Callable[[Any], None]
#: A command in own names to send ahead, and what to do with its reply (``None``: the reply was lost).
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
        wall: seconds between two registrations of a name by this process.
    """

    def __init__(self, refresh: float = REFRESH) -> None:
        self._refresh = refresh
        self._fresh_until: dict[bytes, float] = {}
        self._packets = 0
        self._chores: deque[Aside] = deque()

    def asides(self, names: Iterable[bytes], now: float) -> list[Aside]:
        """Return the commands to send ahead of one that writes `names`; most often none."""
        fresh_until = self._fresh_until
        due: dict[int, list[bytes]] = {}
        for name in names:
            if fresh_until.get(name, 0.0) <= now and not name.startswith(RESERVED):
                due.setdefault(shard_of(name), []).append(name)
        if not due:
            return []
        if len(fresh_until) > _REMEMBERED:
            fresh_until.clear()
        commands: list[Aside] = []
        for shard, members in due.items():
            commands += self._registration(shard, members, now)
        while self._chores:
            commands.append(self._chores.popleft())
        return commands

    def _registration(self, shard: int, members: list[bytes], now: float) -> list[Aside]:
        key = shard_key(shard)
        known = sum(member in self._fresh_until for member in members)
        for member in members:
            self._fresh_until[member] = now + self._refresh
        scored = [part for member in members for part in (int(now), member)]

        def registered(reply: Any) -> None:
            if reply is None:
                # Lost on the way: the next write of these names registers them.
                for member in members:
                    self._fresh_until.pop(member, None)
            elif isinstance(reply, int) and reply > len(members) - known:
                # Names that were there are new again, so the server has lost this shard.
                self._forget(shard)

        commands: list[Aside] = [(("ZADD", key, *scored), registered)]
        self._packets += 1
        if self._packets % _LOT == 1:
            commands += [
                (("ZREMRANGEBYRANK", key, 0, -_SHARD_CAPACITY - 1), _ignore),
                (("EXPIRE", key, LIFETIME), _ignore),
                (("ZRANGE", key, 0, _LOT - 1), lambda reply: self._inspect(key, reply)),
            ]
        return commands

    def _forget(self, shard: int) -> None:
        for name in [name for name in list(self._fresh_until) if shard_of(name) == shard]:
            self._fresh_until.pop(name, None)

    def _inspect(self, key: bytes, reply: Any) -> None:
        """Have the oldest names of a shard looked at, with the next registration."""
        if isinstance(reply, list):
            for name in reply:
                self._chores.append((("EXISTS", name), self._verdict(key, name)))

    def _verdict(self, key: bytes, name: bytes) -> OnReply:
        def verdict(reply: Any) -> None:
            if reply == 0:
                self._chores.append((("ZREM", key, name), _ignore))
                self._fresh_until.pop(name, None)

        return verdict

    def known_names(self) -> list[bytes]:
        """The names that this process registered lately."""
        return list(self._fresh_until)

    def forget_all(self) -> None:
        """Start anew, as after the namespace was emptied."""
        self._fresh_until.clear()
        self._chores.clear()


def _ignore(_reply: Any) -> None:
    """The reply tells nothing that matters."""


def read_shard(shard: int, known: Sequence[bytes] = ()) -> Operation[list[bytes]]:
    """The names of one shard whose keys exist; those that are gone leave the registry.

    Args:
        shard: its number.
        known: names that the caller knows to be registered, for a shard that was evicted.

    Two round trips, and one more for each 500 names.
    """
    key = shard_key(shard)
    members = yield Command(("ZRANGE", key, 0, -1))
    listed = dict.fromkeys(members)
    listed.update(dict.fromkeys(name for name in known if shard_of(name) == shard))
    names = list(listed)
    there: list[bytes] = []
    gone: list[bytes] = []
    for start in range(0, len(names), _EXISTS_AT_ONCE):
        lot = names[start : start + _EXISTS_AT_ONCE]
        replies = yield Batch([("EXISTS", name) for name in lot])
        for name, reply in zip(lot, replies, strict=True):
            (there if reply == 1 else gone).append(name)
    if gone:
        yield Batch([("ZREM", key, name) for name in gone])
    return there


def matching(names: Iterable[bytes], pattern: bytes) -> list[bytes]:
    """Return the names that a Redis glob pattern matches."""
    if pattern == b"*":
        return list(names)
    regex = glob_regex(pattern)
    return [name for name in names if regex.fullmatch(name)]


def read_all(known: Sequence[bytes] = ()) -> Operation[list[bytes]]:
    """Every registered name whose key exists."""
    names: list[bytes] = []
    for shard in range(SHARDS):
        names += yield from read_shard(shard, known)
    return names


def delete_registered(known: Sequence[bytes] = ()) -> Operation[int]:
    """Delete every registered key and the registry itself; returns how many keys there were."""
    deleted = 0
    for shard in range(SHARDS):
        names = yield from read_shard(shard, known)
        for start in range(0, len(names), _EXISTS_AT_ONCE):
            lot = names[start : start + _EXISTS_AT_ONCE]
            replies = yield Batch([("UNLINK", name) for name in lot])
            deleted += sum(reply for reply in replies if isinstance(reply, int))
        # The shard goes last, so that an interrupted run can be repeated.
        yield Command(("UNLINK", shard_key(shard)))
    return deleted
