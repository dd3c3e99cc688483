"""The one connection without a namespace: to keys from before there was one, and to no others.

Laws of this file:

1. A name is sent only if somebody gave it: by a pattern with a beginning of its own, in a file, or in the
   state of an earlier run. Names in the namespace itself are never among them.
2. Nothing is sent but SCAN and the commands of `_KEY_AT`: they read, watch, and delete at the very end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from redis.exceptions import ResponseError

from tenantkv.cli.plain_server import PlainServer
from tenantkv.errors import ConfigurationError
from tenantkv.ops.adopt import SHORTEST_HEAD, literal_head
from tenantkv.ops.effects import Batch, Command, Operation
from tenantkv.ops.registry import matching

Result = TypeVar("Result")

# Where the key's name stands; 0 for commands without one. Of those in `_MANY` all words are names.
_KEY_AT = {
    **dict.fromkeys(("TYPE", "PTTL", "DUMP", "GET", "HLEN", "LLEN", "SCARD", "ZCARD", "XLEN"), 1),
    **dict.fromkeys(("HSCAN", "SSCAN", "LRANGE", "ZRANGE", "XRANGE", "HPEXPIRETIME"), 1),
    **dict.fromkeys(("WATCH", "EXISTS", "UNLINK"), 1),
    **dict.fromkeys(("XINFO", "MEMORY"), 2),
    **dict.fromkeys(("MULTI", "EXEC", "UNWATCH"), 0),
}
_MANY = frozenset({"WATCH", "EXISTS", "UNLINK"})
_PAGE = 1000


class OutsideError(Exception):
    """A name that nobody gave: a mistake of ours, found before anything was sent."""


class Source:
    """Keys outside of the namespace.

    Args:
        wire_prefix: the namespace's, whose names are never touched.
        label: the namespace's, for the settings.
    """

    def __init__(self, wire_prefix: bytes, label: str | None) -> None:
        self._server = PlainServer(label, "adopt")
        self._wire_prefix = wire_prefix
        self._given: set[bytes] = set()

    def allow(self, names: Iterable[bytes]) -> None:
        """Let these names be touched, from now on."""
        self._given.update(name for name in names if self.is_outside(name))

    def is_outside(self, name: bytes) -> bool:
        """Whether a name is outside of the namespace."""
        return not name.startswith(self._wire_prefix)

    def find(self, pattern: bytes) -> list[bytes]:
        """Return the names that a glob matches, and let them be touched.

        Raises:
            ConfigurationError: it would match other tenants' names, or the server has no SCAN.
        """
        names = self.find_if_possible(pattern)
        if names is None:
            raise ConfigurationError(
                "this server offers no SCAN: write the names into a file, one a line, and give it with "
                "--names-file, or have them looked for in your code, with --from-code"
            )
        return names

    def find_if_possible(self, pattern: bytes) -> list[bytes] | None:
        """Return the same, or ``None`` if the server has no SCAN."""
        check_pattern(pattern)
        found: dict[bytes, None] = {}
        cursor: Any = b"0"
        while True:
            (reply,) = self._server.exchange([("SCAN", cursor, "MATCH", pattern, "COUNT", _PAGE)])
            if isinstance(reply, ResponseError):
                return None
            if isinstance(reply, Exception):
                raise reply
            cursor, page = reply
            found.update(dict.fromkeys(page))
            if cursor == b"0":
                break
        # Whatever the server says: what it answers with is checked.
        names = [name for name in matching(list(found), pattern) if self.is_outside(name)]
        self.allow(names)
        return sorted(names)

    def run(self, operation: Operation[Result]) -> Result:
        """Drive an operation whose names are the server's."""
        answer: Any = None
        failure: Exception | None = None
        while True:
            try:
                effect = operation.throw(failure) if failure is not None else operation.send(answer)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            failure = None
            if isinstance(effect, Batch):
                answer = self.batch([tuple(words) for words in effect.commands])  # type: ignore[arg-type]
            elif isinstance(effect, Command):
                (answer,) = self.batch([effect.arguments])
                if isinstance(answer, Exception):
                    if effect.absent_ok:
                        answer = None
                    else:
                        failure = answer
            else:
                raise OutsideError("this connection runs no scripts")

    def batch(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send commands in one packet, and return their replies; errors stand among them."""
        for words in commands:
            at = _KEY_AT[words[0]]
            names = words[at:] if words[0] in _MANY else words[at : at + 1] if at else ()
            if not all(name in self._given for name in names):
                raise OutsideError("a name that nobody gave")
        return self._server.exchange(commands)

    def watch(self, names: Sequence[bytes]) -> None:
        """Notice from now on whether somebody changes one of these."""
        self._raise(self.batch([("UNWATCH",), ("WATCH", *names)]))

    def is_unchanged(self, name: bytes) -> bool:
        """Whether nothing that is watched has changed since; ends the watch.

        Args:
            name: one of those that are watched.
        """
        return self._commit(("EXISTS", name)) is not None

    def delete(self, names: Sequence[bytes]) -> bool:
        """Delete these if nothing that is watched has changed since, all or none; ends the watch."""
        return self._commit(("UNLINK", *names)) is not None

    def close(self) -> None:
        """Close the connection."""
        self._server.close()

    def _commit(self, words: Sequence[Any]) -> Any:
        replies = self.batch([("MULTI",), words, ("EXEC",)])
        self._raise(replies)
        return replies[-1]

    @staticmethod
    def _raise(replies: Sequence[Any]) -> None:
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply


def check_pattern(pattern: bytes) -> None:
    """Refuse a glob that would reach other tenants' names.

    Raises:
        ConfigurationError: it begins with less than three characters of its own.
    """
    if len(literal_head(pattern)) < SHORTEST_HEAD:
        raise ConfigurationError(
            f"the pattern would match keys of other tenants: it has to begin with {SHORTEST_HEAD} characters "
            "that are yours, or more, such as 'mytool:*'"
        )
