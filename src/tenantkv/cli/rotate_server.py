"""The one connection that knows two prefixes of a tenant: it gives keys the other one, and does nothing else.

Laws of this file:

1. Every name that is sent begins with one of the two wire prefixes, and what follows is the same on both
   sides: a key keeps its own name. Only what has to make way stands aside, until the other one was read.
2. A key is moved by one command (RENAMENX), with its value, TTL and all: it is never in both places, never in
   none, and never replaces another one, unless somebody said which of two shall stay.
3. No text holds either prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from redis.exceptions import ResponseError

from tenantkv.cli.plain_server import PlainServer
from tenantkv.namespace import RESERVED, Namespace
from tenantkv.ops.registry import CAPACITY, LIFETIME, SHARDS, shard_key
from tenantkv.transport.client import is_missing

_PAGE = 1000
# In front of the name of a key that makes way; not listed.
_ASIDE = RESERVED + b"aside:"
# Of a shard that somebody has blown up, nothing is taken.
_LARGEST_SHARD = 2 * CAPACITY // SHARDS

#: What became of a key: ``moved``, ``gone`` (there was none), ``taken`` (there is one of that name on the
#: other side) or ``dropped`` (it was, and was deleted, since the other one shall stay).
Outcome = Literal["moved", "gone", "taken", "dropped"]
Prefer = Literal["former", "new"]


class Mover:
    """Moves keys from one prefix of a tenant to another one.

    Args:
        label: the namespace's, for the settings.
        source: the namespace under the prefix that is left.
        target: the namespace under the prefix where keys go.

    Raises:
        ConfigurationError: the URL names no single server.
    """

    def __init__(self, label: str | None, source: Namespace, target: Namespace) -> None:
        self._server = PlainServer(label, "rotate")
        self._source = source
        self._target = target

    def find(self) -> list[bytes] | None:
        """Return what follows the source's prefix on the server; ``None`` if that has no SCAN.

        Raises:
            ResponseError: the server refuses for another reason.
        """
        found: dict[bytes, None] = {}
        prefix = self._source.wire_prefix
        cursor: Any = b"0"
        while True:
            # A prefix has no glob character.
            (reply,) = self._exchange([("SCAN", cursor, "MATCH", prefix + b"*", "COUNT", _PAGE)])
            if isinstance(reply, ResponseError) and is_missing(reply):
                return None
            cursor, page = self._sound(reply)
            for name in page:
                if name.startswith(prefix) and not name.startswith(prefix + RESERVED):
                    found[name[len(prefix) :]] = None
            if cursor == b"0":
                return list(found)

    def move(self, names: Sequence[bytes], prefer: Prefer | None) -> list[Outcome]:
        """Move keys; one round trip, and two more for those that are on both sides, if that is decided.

        The key that makes way for one from the former prefix stands aside until `keep` or `move_back`.

        Args:
            names: what follows the prefix on the server.
            prefer: which of two keys of a name shall stay; neither is touched if left out.
        """
        outcomes = self._rename(names, self._source, self._target)
        taken = [at for at, each in enumerate(outcomes) if each == "taken"]
        if not taken or prefer is None:
            return outcomes
        some = [names[at] for at in taken]
        decided: list[Outcome]
        if prefer == "former":
            target = self._target
            self._exchange([("RENAME", target.wire_name(each), _aside(target, each)) for each in some])
            decided = self._rename(some, self._source, self._target)
            self.restore([name for name, each in zip(some, decided, strict=True) if each != "moved"])
        else:
            self._sound(*self._exchange([("UNLINK", self._source.wire_name(name)) for name in some]))
            decided = ["dropped" for _ in some]
        for at, each in zip(taken, decided, strict=True):
            outcomes[at] = each
        return outcomes

    def move_back(self, names: Sequence[bytes]) -> list[Outcome]:
        """Move keys back to where they came from, and put what stood aside in their place."""
        outcomes = self._rename(names, self._target, self._source)
        self.restore(names)
        return outcomes

    def restore(self, names: Sequence[bytes]) -> None:
        """Put what stood aside in its place, where that is free. One round trip."""
        target = self._target
        self._exchange([("RENAMENX", _aside(target, name), target.wire_name(name)) for name in names])

    def keep(self, names: Sequence[bytes]) -> None:
        """Delete what stood aside for these. One round trip."""
        self._sound(*self._exchange([("UNLINK", _aside(self._target, name)) for name in names]))

    def copy_registry(self) -> None:
        """Add what the source's registry lists to the target's, so that no key is unlisted for a moment."""
        keys = [shard_key(shard) for shard in range(SHARDS)]
        sizes = self._exchange([("ZCARD", self._source.wire_name(key)) for key in keys])
        commands: list[tuple[Any, ...]] = []
        for key, size in zip(keys, sizes, strict=True):
            if isinstance(size, int) and 0 < size <= _LARGEST_SHARD:
                source, target = self._source.wire_name(key), self._target.wire_name(key)
                commands.append(("ZUNIONSTORE", target, 2, target, source, "AGGREGATE", "MAX"))
                commands.append(("EXPIRE", target, LIFETIME))
        # Such as of a wrong type: the registry mends itself.
        self._exchange(commands)

    def has_registry(self) -> bool:
        """Whether there is a registry on either side."""
        keys = [shard_key(shard) for shard in range(SHARDS)]
        sides = (self._source, self._target)
        replies = self._exchange([("EXISTS", side.wire_name(key)) for side in sides for key in keys])
        self._sound(*replies)
        return any(replies)

    def drop_registry(self) -> None:
        """Delete the source's registry."""
        keys = [self._source.wire_name(shard_key(shard)) for shard in range(SHARDS)]
        self._sound(*self._exchange([("UNLINK", key) for key in keys]))

    def close(self) -> None:
        """Close the connection."""
        self._server.close()

    def _rename(self, names: Sequence[bytes], source: Namespace, target: Namespace) -> list[Outcome]:
        replies = self._exchange(
            [("RENAMENX", source.wire_name(name), target.wire_name(name)) for name in names]
        )
        outcomes: list[Outcome] = []
        for reply in replies:
            if isinstance(reply, ResponseError) and "no such key" in str(reply).lower():
                outcomes.append("gone")
            else:
                outcomes.append("taken" if self._sound(reply) == 0 else "moved")
        return outcomes

    def _sound(self, *replies: Any) -> Any:
        for reply in replies:
            if isinstance(reply, ResponseError):
                # Of an unknown command servers repeat the arguments.
                raise ResponseError(self._target.redact(self._source.redact(str(reply)))) from None
            if isinstance(reply, Exception):
                raise reply
        return replies[0] if replies else None

    def _exchange(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        return self._server.exchange(commands) if commands else []


def _aside(target: Namespace, name: bytes) -> bytes:
    return target.wire_name(_ASIDE + name)


__all__ = ["Mover", "Outcome", "Prefer"]
