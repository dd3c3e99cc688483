"""What each command does with names, in Lua: the command table as scripts' guards carry it.

Position p of a command is ``a[p + 1]`` in Lua, where `a` is the whole command and `n` its length; `put`,
`count` and `options` are functions of ``lua/guard.lua``. A new parser in ``options.py`` needs its
counterpart in `_PARSERS` here.
"""

from __future__ import annotations

from collections.abc import Iterable

from tenantkv.commands.core_table import KEY_ROWS
from tenantkv.commands.keyless_table import PASS_ROWS, REFUSALS
from tenantkv.commands.module_table import MODULE_ROWS

_STREAMS = "COUNT=1 BLOCK=1 MAXCOUNT=1 MAXSIZE=1 STREAMS=0x"
_GEORADIUS = "' WITHCOORD=0 WITHDIST=0 WITHHASH=0 ASC=0 DESC=0 ANY=0 COUNT=1 STORE=1s STOREDIST=1s ')"
_PARSERS = {
    "copy": "put(a,2,3)x=options(a,n,4,' REPLACE=0 ')",
    "georadius": f"put(a,2)x=options(a,n,C=='GEORADIUS'and 7 or 6,{_GEORADIUS}",
    "keys": "put(a,2)",
    "msetex": "x=count(a,n,2,2)",
    "scan": "x,t=options(a,n,3,' MATCH=1s COUNT=1 TYPE=1 ')"
    "if not t then a[n+1],a[n+2]='MATCH',P..'*' n=n+2 end ",
    "sort": "put(a,2)x=options(a,n,3,' ASC=0 DESC=0 ALPHA=0 LIMIT=2 BY=1b GET=1g STORE=1s ')",
    "stralgo": "x=options(a,n,3,' IDX=0 LEN=0 WITHMATCHLEN=0 MINMATCHLEN=1 STRINGS=2 KEYS=2k ')",
    "xread": f"x=options(a,n,2,' {_STREAMS} ')",
    "xreadgroup": f"x=options(a,n,2,' {_STREAMS} GROUP=2 NOACK=0 CLAIM=1 ')",
}
_CHANNEL = "a[2]=a[2]and Q..a[2]"

# The two forms that have a short way: one name behind the command, and any number of them.
SINGLE = "put(a,2)"
ALL = "put(a,2,n)"
_SHAPES = {"first": 1, "names": 2, "scan": 3, "streams": 4, "deep": 5}

_NO_SCRIPTS = "a script can call neither scripts nor functions."
_NOT_HERE = "servers do not allow it in a script, or it changes more than data."
_NO_LISTING = "channels are listed outside of scripts only."
UNKNOWN = "it is unknown to tenantkv, or touches more than this tenant."

# Containers and commands without a key that servers refuse in scripts, or that change the connection.
_OUTSIDE = (
    *("ACL", "ASKING", "AUTH", "CLIENT", "CLUSTER", "COMMAND", "DISCARD", "EXEC", "HELLO", "LATENCY"),
    *("MODULE", "MULTI", "QUIT", "READONLY", "READWRITE", "ROLE", "SCRIPT", "SELECT", "UNWATCH"),
    *("WAIT", "WAITAOF"),
)


def lua_for(names: str) -> str | None:
    """Return the Lua that prefixes the names of a command, or ``None`` where there is none.

    Args:
        names: the position column of the command table.
    """
    if names in _PARSERS:
        return _PARSERS[names]
    if ".." in names:
        span, _, step = names.partition("/")
        first, last = span.split("..")
        end = "n" if last == "-1" else f"n{int(last) + 1}" if int(last) < 0 else str(int(last) + 1)
        return f"put(a,{int(first) + 1},{end}{',' + step if step else ''})"
    words = names.split()
    if not words or not all(word.lstrip("#").isdigit() for word in words):
        return None
    places = [int(word.lstrip("#")) + 1 for word in words]
    parts = [
        f"x=count(a,n,{place})" if word.startswith("#") else f"put(a,{place})"
        for word, place in zip(words, places, strict=True)
    ]
    return "put(a,2,3)" if names == "1 2" else "".join(parts)


def _rows(text: str) -> Iterable[tuple[str, list[str]]]:
    """Yield each row's name and the columns behind its count of arguments."""
    for words in filter(None, map(str.split, text.splitlines())):
        count_at = next(i for i, word in enumerate(words) if word.isdigit())
        yield " ".join(words[:count_at]), words[count_at + 1 :]


def _key_commands() -> Iterable[tuple[str, str]]:
    for name, columns in _rows(KEY_ROWS + MODULE_ROWS):
        flags_at = next(i for i in range(1, len(columns)) if set(columns[i]) <= set("rwcib"))
        code = lua_for(" ".join(columns[:flags_at]))
        shape = columns[flags_at + 1] if len(columns) > flags_at + 1 else ""
        if code is not None:
            yield name, f"{code}t={_SHAPES[shape]}" if shape else code


def _build() -> dict[str, str]:
    """Return the Lua of every command that scripts may call."""
    commands: dict[str, str] = {
        name: "u=nil"
        for name, columns in _rows(PASS_ROWS)
        if len(columns) == 1 and name.split()[0] not in _OUTSIDE and not name.endswith(" HELP")
    }
    commands.update(_key_commands())
    return commands | {"PUBLISH": _CHANNEL, "SPUBLISH": _CHANNEL}


def _build_refusals() -> dict[str, str]:
    reasons: dict[str, str] = dict.fromkeys(_OUTSIDE, _NOT_HERE)
    for name in ("EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO"):
        reasons[name] = _NO_SCRIPTS
    for reason, _, names in REFUSALS:
        reasons.update((name, reason) for name in names.split(", "))
    reasons["PUBSUB"] = _NO_LISTING
    return reasons


#: The Lua of every command that scripts may call, by its name in upper case.
COMMANDS = _build()
#: Why a command is refused, for those with a reason of their own.
REASONS = _build_refusals()


def declare(name: str, names: str) -> None:
    """Let scripts that are guarded from now on call a command that `table.register` was told of."""
    code = lua_for(names)
    if code is not None:
        COMMANDS[name.upper()] = code
