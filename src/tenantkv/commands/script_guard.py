"""The guard in front of every script, which makes scripts run in own names, and the book of both digests.

Laws of this file:

1. A script's body sees its own names in KEYS, its own ARGV and own names in replies; what it passes to
   ``redis.call`` and ``redis.pcall`` is namespaced by the same table as everything else, and a command
   that the table does not know, or refuses, is an error inside the script.
2. The guarded text depends on the script's text alone, never on the tenant: the prefixes travel as the
   last two arguments. ``EVAL guarded numkeys wire-key... own-argument... wire-prefix channel-prefix``.
3. The guard is one piece of one line in front of the script's first line (behind a ``#!`` line), so that
   line numbers in errors stay as they are.
4. The guard carries only what this script needs. Where every command is named by a literal at its call,
   only those names are known, and any other is refused; else the whole table goes along.

What it is not: a wall. It stops accidents, and code that was written for a server of its own. Who writes
a script that digs for the unguarded table needs no digging: on such a server they can connect without us.

The Lua is in ``lua/guard.lua``, and what it does for each command in ``script_commands.py``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from tenantkv.commands.script_commands import ALL, COMMANDS, REASONS, SINGLE, UNKNOWN, declare

__all__ = ["ScriptBook", "declare", "guard", "own_sha", "wire_sha"]


@cache
def _sections() -> dict[str, str]:
    """Return the parts of ``guard.lua``, each on one line and without comments."""
    text = files("tenantkv.commands").joinpath("lua/guard.lua").read_text("ascii")
    parts: dict[str, str] = {}
    for part in text.split("--@section ")[1:]:
        name, _, body = part.partition("\n")
        lines = [line.strip() for line in body.splitlines()]
        parts[name] = " ".join(line for line in lines if line and not line.startswith("--"))
    return parts


# What may follow a function that calls commands, if the text is to tell which: a literal name alone.
_LITERAL = rb"""\s*(?:\(\s*(?:"([\w.:-]+)"|'([\w.:-]+)')\s*[,)])?"""
# An own name for one of the two functions, as in ``local rcall = redis.call``.
_ALIAS = re.compile(rb"\blocal\s+([A-Za-z_]\w*)\s*=\s*(?:redis|server)\s*\.\s*p?call\b(?!\s*[(\"'\[{])")
# What makes the names of commands unknowable from the text: other ways to the two functions.
_INDIRECT = re.compile(
    rb"""["'\[]\s*p?call\s*["'\]]|\b(?:redis|server)\s*\[|\b(?:_G|getfenv)\b|(?<![.\w])load(?:string)?\s*[(,;)\n]"""
)
_TAIL_CALL = re.compile(rb"\breturn\s+(?:redis|server)\s*\.\s*call\b")
_TABLE = re.compile(rb"\b(?:redis|server)\b")
_TABLE_CALL = re.compile(rb"\b(?:redis|server)\s*\.\s*p?call\b")
_SHADOWED = ("_G", "loadstring", "load", "getfenv")


class _Reading:
    """What a script's text tells about what it needs from its guard.

    Attributes:
        words: the literal names of commands at their calls, as written, in order of appearance.
        computed: whether some name may be made at run time.
        calls_only: whether the server's table is used for its two functions and nothing else.
        tail_lines: the lines, from 0, where a function ends in a call; Lua forgets those.
    """

    def __init__(self, body: bytes) -> None:
        aliases = set(_ALIAS.findall(body))
        # Definitions of aliases are no calls; every other place where a name of theirs stands must be.
        rest = _ALIAS.sub(b"", body)
        callers = rb"(?:\.\s*p?call%b)\b" % b"".join(rb"|\b" + name for name in aliases)
        found = [hit[1] or hit[2] or b"" for hit in re.finditer(callers + _LITERAL, rest)]
        self.words = list(dict.fromkeys(word.decode("ascii") for word in found if word))
        self.computed = not all(found) or bool(_INDIRECT.search(body))
        self.calls_only = not self.computed and len(_TABLE.findall(body)) == len(_TABLE_CALL.findall(body))
        self._identifiers = set(re.findall(rb"[A-Za-z_]\w*", body))
        self.tail_lines = [body.count(b"\n", 0, hit.start()) for hit in _TAIL_CALL.finditer(body)]

    def has(self, word: str) -> bool:
        """Whether the text has `word` as a whole word."""
        return word.encode() in self._identifiers

    def may_use(self, word: str) -> bool:
        """Whether the script could get at the global `word`."""
        return self.has(word) or any(self.has(name) for name in _SHADOWED)


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _is_one_of(names: list[str]) -> str:
    """Return a Lua condition that C is one of `names`: comparisons for few, a search for many."""
    if len(names) <= 4:
        return " or ".join(f"C=={_quote(name)}" for name in names)
    # Names come from callers' literals or the table, and hold no comma.
    return f"(',{','.join(names)},'):find(','..C..',',1,true)"


def _groups(names: Iterable[str], refused: Iterable[str]) -> str:
    """Return the Lua that treats the commands `names`, alike ones together, and refuses the rest."""
    by_code: dict[str, list[str]] = {}
    for name in sorted(names):
        by_code.setdefault(COMMANDS[name], []).append(name)
    for name in sorted(refused):
        by_code.setdefault(f"x={_quote(REASONS[name])}", []).append(name)
    arms = "".join(f"if {_is_one_of(group)} then {code} else" for code, group in by_code.items())
    fallback = f"x={_quote(UNKNOWN)}"
    return f"{arms} {fallback} end" if by_code else fallback


def _containers(names: Iterable[str]) -> str:
    first_words = sorted({name.split()[0] for name in names if " " in name})
    if not first_words:
        return ""
    return f"if a[2]and({_is_one_of(first_words)})then C=C..' '..string.upper(a[2])end"


def _fast(words: list[str]) -> str:
    """Return the Lua for the commands with one key that the text names, by comparison as written."""
    conditions = []
    for word in words:
        code = COMMANDS.get(word.upper())
        if code == SINGLE:
            conditions.append(f"c=={_quote(word)}")
        elif code == ALL:
            conditions.append(f"c=={_quote(word)} and not ...")
    if not conditions:
        return ""
    return _sections()["fast"].replace("@WORDS@", " or ".join(conditions))


# The functions that the code of commands may need, and what in it shows that.
_HELPERS = {"put": "(", "count": "count(", "options": "options(", "shape": "t="}


def _slow(reading: _Reading, line: int) -> str:
    """Return the Lua of the long way, with the commands that this script may call."""
    parts = _sections()
    wanted = {word.upper() for word in reading.words}
    names = [name for name in COMMANDS if reading.computed or name.split()[0] in wanted]
    refused = [name for name in REASONS if name not in COMMANDS and name.split()[0] in wanted]
    code = _groups(names, refused)
    lines = {hit + line for hit in reading.tail_lines}
    return (
        parts["slow"]
        .replace("@HELPERS@", " ".join(parts[part] for part, sign in _HELPERS.items() if sign in code))
        .replace("@CONTAINERS@", _containers([*names, *refused]))
        .replace("@GROUPS@", code)
        .replace("@FAIL@", parts["fail"].replace("@LINE@", str(lines.pop() if len(lines) == 1 else line)))
        .replace("@SHAPED@", "if t then r=shape(r,t)end" if "t=" in code else "")
    )


def _table(reading: _Reading, line: int) -> list[str]:
    """Return the parts that make the guarded table T."""
    parts = _sections()
    used = [word for word in ("call", "pcall") if reading.computed or reading.has(word)]
    function = parts["call"].replace("@FAST@", _fast(reading.words))
    made = [_slow(reading, line)] if used else []
    if len(used) == 2:
        made.append(parts["both"].replace("@FUNCTION@", function.replace("@RAISES@", "E")))
        fields = {"call": "make(true)", "pcall": "make(false)"}
    else:
        # The other one is not in the text; whoever finds another way to it shall find nothing.
        fields = {"call": "false", "pcall": "false"}
        fields.update((word, function.replace("@RAISES@", str(word == "call").lower())) for word in used)
    if reading.calls_only:
        given = ",".join(f"{word}={fields[word]}" for word in used)
        return [*made, parts["small"].replace("@FIELDS@", given)]
    table = parts["table"].replace("@CALL@", fields["call"]).replace("@PCALL@", fields["pcall"])
    return [*made, table]


def _prelude(reading: _Reading, line: int) -> str:
    """Return the guard of a script whose first line of its own has the number `line`."""
    parts = _sections()
    made = [parts["open"]]
    if reading.may_use("KEYS"):
        made.append(parts["keys"])
    names, returned, given = "_", "", "nil,KEYS,ARGV"
    if reading.may_use("redis") or reading.may_use("server"):
        names, returned, given = "redis", "T", "redis,KEYS,ARGV"
        if reading.may_use("server"):
            names, returned = "redis,server", "T,T"
        made += _table(reading, line)
    made.append(parts["close"].replace("@RETURNED@", returned).replace("@GIVEN@", given))
    made += [parts[word] for word in _SHADOWED if reading.has(word)]
    return " ".join(made).replace("@NAMES@", names)


def guard(script: bytes) -> bytes:
    """Return `script` with its guard in front; the same for the same script, whoever the tenant is.

    Example:
        >>> guard(b"return redis.call('GET', KEYS[1])").endswith(b"; return redis.call('GET', KEYS[1])")
        True
    """
    shebang, body = b"", script
    if script.startswith(b"#!"):
        first, end, body = script.partition(b"\n")
        shebang = first + (end or b"\n")
    prelude = _prelude(_Reading(body), 2 if shebang else 1)
    return b"%b%b %b" % (shebang, prelude.encode("ascii"), body)


def _sha1(script: bytes) -> bytes:
    return hashlib.sha1(script, usedforsecurity=False).hexdigest().encode()


def own_sha(script: bytes) -> bytes:
    """Return the digest by which the tenant knows `script`."""
    return _sha1(script)


def wire_sha(script: bytes) -> bytes:
    """Return the digest by which the server knows `script`: that of its guarded text."""
    return _sha1(guard(script))


class _Page:
    """One generation of scripts, each under its text and under both digests."""

    __slots__ = ("by_own", "by_text", "by_wire", "size_bytes")

    def __init__(self) -> None:
        self.by_text: dict[bytes, _Entry] = {}
        self.by_own: dict[bytes, _Entry] = {}
        self.by_wire: dict[bytes, _Entry] = {}
        self.size_bytes = 0

    def add(self, entry: _Entry) -> None:
        self.by_text[entry.text] = entry
        self.by_own[entry.own] = entry
        self.by_wire[entry.wire] = entry
        self.size_bytes += len(entry.text) + len(entry.guarded)


class _Entry:
    __slots__ = ("guarded", "own", "text", "wire")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.guarded = guard(text)
        self.own = _sha1(text)
        self.wire = _sha1(self.guarded)


class ScriptBook:
    """Which guarded text and which digest belong to which script; knows the scripts that were used last.

    Threads may share it: every step is one operation on a dict, and a race costs at most that a script
    is guarded a second time. It has two pages; when the new one is full it becomes the old one, so a
    script is forgotten only after `limit` others were used since.

    Args:
        limit: how many scripts a page holds.
        limit_bytes: how many bytes of script text a page holds, own and guarded together.

    Example:
        >>> book = ScriptBook()
        >>> guarded = book.learn(b"return 1")
        >>> book.own_sha(book.wire_sha(own_sha(b"return 1"))) == own_sha(b"return 1")
        True
    """

    __slots__ = ("_limit", "_limit_bytes", "_new", "_old")

    def __init__(self, limit: int = 1000, limit_bytes: int = 8_000_000) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._new = _Page()
        self._old = _Page()

    def learn(self, script: bytes) -> bytes:
        """Return the guarded text of `script` and remember both of its digests."""
        entry = self._new.by_text.get(script)
        if entry is None:
            entry = self._note(self._old.by_text.get(script) or _Entry(script))
        return entry.guarded

    def wire_sha(self, own_sha: bytes) -> bytes | None:
        """Return the server's digest of a script that was learned, or ``None``. Any case of letters."""
        entry = self._new.by_own.get(own_sha)
        if entry is None:
            own_sha = own_sha.lower()
            entry = self._new.by_own.get(own_sha) or self._old.by_own.get(own_sha)
            if entry is None:
                return None
            self._note(entry)
        return entry.wire

    def own_sha(self, wire_sha: bytes) -> bytes | None:
        """Return the tenant's digest of a script that was learned, or ``None``. Any case of letters."""
        wire_sha = wire_sha.lower()
        entry = self._new.by_wire.get(wire_sha) or self._old.by_wire.get(wire_sha)
        return None if entry is None else entry.own

    def _note(self, entry: _Entry) -> _Entry:
        page = self._new
        if len(page.by_text) >= self._limit or page.size_bytes >= self._limit_bytes:
            self._old, page = page, _Page()
            self._new = page
        page.add(entry)
        return entry
