"""From a command as libraries write it to the bytes on the wire, through the table.

Laws of this file: nothing is packed that has no rule; a name is rewritten here and nowhere else; what
cannot be packed raises before a byte exists. Commands with one key, or with nothing but keys, and
our own scripts go the short way; everything else is split, looked up and rewritten as words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tenantkv.commands.own_scripts import OwnCommand
from tenantkv.commands.rule import Rule
from tenantkv.commands.table import find_rule, has_subcommands, quick, rewrite, too_few
from tenantkv.errors import MalformedCommandError
from tenantkv.namespace import Namespace

pack_command: Any
try:
    # A pure function in C, and already there where redis-py is to be fast.
    from hiredis import pack_command
except ImportError:
    pack_command = None

Encode = Callable[[Any], Any]

# A word of more bytes goes to the socket by itself rather than being copied together with others.
COPY_LIMIT_BYTES = 65_536


class Packer:
    """Packs the commands of one connection.

    Args:
        encode: the connection's ``encoder.encode``, for what is neither bytes nor an integer.
        utf8: whether that encodes text as strict UTF-8, as is usual.
    """

    __slots__ = ("encode", "utf8")

    def __init__(self, encode: Encode, *, utf8: bool) -> None:
        self.encode = encode
        self.utf8 = utf8

    def pack(self, arguments: Sequence[Any], namespace: Namespace) -> tuple[Any, Rule]:
        """Return the wire form of a command, as bytes or a list of pieces, and its rule.

        Args:
            arguments: the command's name and its arguments, in any type that redis-py takes.
            namespace: whose names they are.

        Raises:
            RefusedError: unknown, forbidden or malformed.
            redis.exceptions.DataError: from the encoder, for a value of a type that has no bytes.
        """
        try:
            rule = quick.get(arguments[0])
        except (IndexError, TypeError, ValueError):
            rule = None
        if rule is not None:
            if rule.single or (rule.only_keys and len(arguments) == 2):
                return self._pack_single(arguments, rule, namespace.wire_prefix), rule
            if rule.only_keys and len(arguments) > rule.min_args:
                return self._pack_keys(arguments, rule, namespace.wire_prefix), rule
        if arguments and type(arguments[0]) is OwnCommand:
            rule = arguments[0].rule
            return self._pack_own_script(arguments, rule, namespace.wire_prefix), rule
        words = self.words(arguments)
        rule = find_rule(words)
        return pack_words(rewrite(words, rule, namespace)), rule

    def _pack_single(self, arguments: Sequence[Any], rule: Rule, prefix: bytes) -> Any:
        """One key behind the command's name, then values."""
        count = len(arguments)
        if count <= rule.min_args:
            raise too_few(rule, arguments)
        key = arguments[1]
        kind = type(key)
        if kind is str and self.utf8:
            key = key.encode()
        elif kind is not bytes:
            key = self.to_bytes(key)
        head = b"*%d\r\n%b$%d\r\n%b%b\r\n" % (count, rule.head, len(prefix) + len(key), prefix, key)
        if count == 2:
            return head
        if count == 3:
            value = arguments[2]
            kind = type(value)
            if kind is str and self.utf8:
                value = value.encode()
            elif kind is not bytes:
                value = self.to_bytes(value)
            if len(value) <= COPY_LIMIT_BYTES:
                return b"%b$%d\r\n%b\r\n" % (head, len(value), value)
            return [b"%b$%d\r\n" % (head, len(value)), value, b"\r\n"]
        if count == 5 and type(arguments[2]) is type(arguments[3]) is bytes and type(arguments[4]) is int:
            # As our own operations write a value that expires.
            value, word, number = arguments[2], arguments[3], b"%d" % arguments[4]
            if len(value) + len(word) <= COPY_LIMIT_BYTES:
                return b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
                    *(head, len(value), value, len(word), word, len(number), number),
                )
        return _bulk([head], [self.to_bytes(value) for value in arguments[2:]])

    def _pack_keys(self, arguments: Sequence[Any], rule: Rule, prefix: bytes) -> Any:
        """Nothing but keys behind the command's name."""
        if self.utf8 and pack_command is not None:
            text = prefix.decode()
            to_bytes = self.to_bytes
            wire = [
                prefix + key
                if type(key) is bytes
                else text + key
                if type(key) is str
                else prefix + to_bytes(key)
                for key in arguments[1:]
            ]
            return pack_command((rule.name, *wire))
        return pack_words([rule.name.encode(), *(prefix + self.to_bytes(key) for key in arguments[1:])])

    def _pack_own_script(self, arguments: Sequence[Any], rule: Rule, prefix: bytes) -> Any:
        """EVAL or EVALSHA as `tenantkv.ops.scripts` writes it: a script, a count, keys and arguments."""
        to_bytes = self.to_bytes
        words = [
            value
            if (kind := type(value)) is bytes or kind is OwnCommand
            else b"%d" % value
            if kind is int
            else to_bytes(value)
            for value in arguments
        ]
        last = 3 + int(words[2])
        if last > len(words):
            raise too_few(rule, arguments)
        words[3:last] = [prefix + key for key in words[3:last]]
        return pack_words(words)

    def to_bytes(self, value: Any) -> bytes:
        """Return an argument's bytes, as the connection's encoder gives them."""
        kind = type(value)
        if kind is bytes:
            return value  # type: ignore[no-any-return]
        if kind is str and self.utf8:
            return value.encode()  # type: ignore[no-any-return]
        if kind is int:
            return b"%d" % value
        encoded = self.encode(value)
        return encoded if type(encoded) is bytes else bytes(encoded)

    def words(self, arguments: Sequence[Any]) -> list[bytes]:
        """Return a command as bytes, with a name such as ``"CLIENT ID"`` split as redis-py does it."""
        if not arguments:
            raise MalformedCommandError("the command", "it has no name.")
        to_bytes = self.to_bytes
        first = arguments[0]
        # A name is never in the connection's encoding, which may be UTF-16.
        name = (first.encode() if isinstance(first, str) else to_bytes(first)).split()
        if not name:
            raise MalformedCommandError("the command", "its name is empty.")
        # Asked here too, as most are bytes, and a call takes longer.
        words = [*name, *[value if type(value) is bytes else to_bytes(value) for value in arguments[1:]]]
        if not self.utf8 and len(arguments) > 1 and len(name) == 1 and has_subcommands(name[0]):
            second = arguments[1]
            words[1] = second.encode() if isinstance(second, str) else words[1]
        return words


def pack_words(words: Sequence[bytes]) -> Any:
    """Return words as they are in RESP, as bytes or a list of pieces."""
    if pack_command is not None and max(map(len, words)) <= COPY_LIMIT_BYTES:
        return pack_command(tuple(words))
    return _bulk([b"*%d\r\n" % len(words)], words)


def _bulk(pieces: list[bytes], values: Sequence[bytes]) -> Any:
    """Return `pieces` with `values` as bulk strings behind, as one run of bytes where that is small."""
    size = 0
    for value in values:
        length = len(value)
        size += length
        pieces += (b"$%d\r\n" % length, value, b"\r\n")
    return b"".join(pieces) if size <= COPY_LIMIT_BYTES else _chunks(pieces)


def _chunks(pieces: list[bytes]) -> list[bytes]:
    """Join neighbours that are small, so that large values are neither copied nor sent alone."""
    chunks: list[bytes] = []
    small: list[bytes] = []
    for piece in pieces:
        if len(piece) > COPY_LIMIT_BYTES:
            chunks += [b"".join(small), piece]
            small = []
        else:
            small.append(piece)
    if small:
        chunks.append(b"".join(small))
    return chunks
