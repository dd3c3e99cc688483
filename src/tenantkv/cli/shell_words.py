"""Lines of the shell: taken apart into words as redis-cli does, and put together without values."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tenantkv.commands.decisions import decide
from tenantkv.commands.rule import Rule
from tenantkv.commands.table import find_rule
from tenantkv.errors import ConfigurationError, RefusedError

# Of the commands without names, those whose arguments are only options and globs.
_HARMLESS = frozenset({"DBSIZE", "INFO", "KEYS", "RANDOMKEY", "SCAN"})
_ESCAPES = {"n": b"\n", "r": b"\r", "t": b"\t", "b": b"\b", "a": b"\a"}
_TOKEN = re.compile(
    r"""\s*(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'|(?P<bare>[^\s"']\S*))(?=\s|\Z)""",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_BARE = re.compile(r"[^\s\"'\\\x00-\x1f\x7f]+\Z")


def split(line: str) -> list[bytes]:
    r"""Return a line's words: ``"..."`` with escapes such as ``\n`` and ``\xff``, ``'...'`` with ``\'`` only.

    Raises:
        ConfigurationError: a quotation does not end, or something stands right behind it.

    Example:
        >>> split(r'SET a "two\x20words"')
        [b'SET', b'a', b'two words']
    """
    words: list[bytes] = []
    at, end = 0, len(line.rstrip())
    while at < end:
        token = _TOKEN.match(line, at)
        if token is None:
            raise ConfigurationError("unbalanced quotation marks")
        if token["double"] is not None:
            words.append(_unescaped(token["double"]))
        elif token["single"] is not None:
            words.append(_encoded(token["single"].replace("\\'", "'")))
        else:
            words.append(_encoded(token["bare"]))
        at = token.end()
    return words


def without_values(words: Sequence[bytes]) -> str | None:
    """Return a line for the history, of which nothing is a value; ``None`` for nothing.

    A command that neither stores nor compares values is kept whole; of any other its name and those of
    its keys.
    """
    try:
        rule = find_rule(list(words))
    except RefusedError:
        return None
    if _has_no_values(rule):
        return " ".join(map(quoted, words))
    places = [] if rule.locate is None else sorted(rule.locate(words))
    return " ".join(map(quoted, [*words[: rule.words], *(words[at] for at in places)]))


def _has_no_values(rule: Rule) -> bool:
    if rule.policy == "pass":
        return rule.name in _HARMLESS
    decision = decide(rule)
    is_known = decision.what in ("untouched", "sealed") and decision.layout is None and decision.clear is None
    return is_known and rule.reads and not rule.writes


def quoted(word: bytes) -> str:
    """Return a word that `split` gives back."""
    text = word.decode("utf-8", "surrogateescape")
    if _BARE.match(text) and text.isprintable():
        return text
    return '"' + "".join(_escaped(byte) for byte in word) + '"'


def _escaped(byte: int) -> str:
    character = chr(byte)
    if character in '"\\':
        return "\\" + character
    return character if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"


def _unescaped(text: str) -> bytes:
    parts: list[bytes] = []
    at = 0
    for escape in _ESCAPE.finditer(text):
        parts.append(_encoded(text[at : escape.start()]))
        if escape[1]:
            parts.append(bytes([int(escape[1], 16)]))
        else:
            parts.append(_ESCAPES.get(escape[2]) or _encoded(escape[2]))
        at = escape.end()
    return b"".join([*parts, _encoded(text[at:])])


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
