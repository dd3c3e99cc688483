"""The commands whose wire form takes more than a prefix at a place.

Each function gets the whole command as bytes and returns it as the server is to see it.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from tenantkv.commands.options import (
    count_at,
    locate_sort,
    malformed,
    scan_options,
    sort_options,
    tracking_options,
)
from tenantkv.commands.rule import Rewrite
from tenantkv.errors import ForbiddenCommandError
from tenantkv.namespace import Namespace

if TYPE_CHECKING:
    from tenantkv.commands.script_guard import ScriptBook


@cache
def scripts() -> ScriptBook:
    """Which guarded text belongs to which script: a function of the scripts alone, for all tenants."""
    # Only with the first script, as most processes have none.
    from tenantkv.commands.script_guard import ScriptBook

    return ScriptBook()


# Functions that an operator keeps on the server and that the user vouches for.
trusted_functions: set[bytes] = set()

# No text has this digest, so that a script which this process has not seen is answered by NOSCRIPT
# as the server answers it, and can never be another tenant's unguarded script.
_NO_SUCH_SHA = b"f" * 40


def rewrite_keys(arguments: list[bytes], namespace: Namespace) -> list[bytes]:
    """KEYS pattern. A prefix has no glob characters, so it matches only itself."""
    return [arguments[0], namespace.wire_prefix + arguments[1], *arguments[2:]]


def rewrite_scan(arguments: list[bytes], namespace: Namespace) -> list[bytes]:
    """SCAN cursor [MATCH pattern] [COUNT n] [TYPE t]."""
    wire = list(arguments)
    matches = [at for word, at in scan_options(arguments) if word == b"MATCH"]
    for at in matches:
        wire[at] = namespace.wire_prefix + wire[at]
    return wire if matches else [*wire, b"MATCH", namespace.wire_prefix + b"*"]


def rewrite_sort(arguments: list[bytes], namespace: Namespace) -> list[bytes]:
    """SORT: its key, STORE, and the patterns of BY and GET, which name keys too."""
    wire = list(arguments)
    for at in locate_sort(arguments):
        wire[at] = namespace.wire_prefix + wire[at]
    for word, at in sort_options(arguments):
        if word == b"BY":
            # Without a star the pattern only says "do not sort", whatever it spells.
            wire[at] = namespace.wire_prefix + wire[at] if b"*" in wire[at] else b"nosort"
        elif word == b"GET" and wire[at] != b"#":
            wire[at] = namespace.wire_prefix + wire[at]
    return wire


def rewrite_script(arguments: list[bytes], namespace: Namespace) -> list[bytes]:
    """EVAL, EVALSHA and their read-only forms: a guarded script, wire names, and the prefixes last."""
    by_sha = arguments[0].upper().startswith(b"EVALSHA")
    last = 2 + count_at(arguments, 2)
    if last >= len(arguments):
        raise malformed(arguments, "it announces more keys than follow.")
    script = arguments[1]
    text = (scripts().wire_sha(script) or _NO_SUCH_SHA) if by_sha else scripts().learn(script)
    prefix = namespace.wire_prefix
    return [
        arguments[0],
        text,
        arguments[2],
        *(prefix + name for name in arguments[3 : last + 1]),
        *arguments[last + 1 :],
        prefix,
        namespace.channel_prefix,
    ]


def rewrite_function(arguments: list[bytes], namespace: Namespace) -> list[bytes]:
    """FCALL of a function that the user declared as trusted."""
    if arguments[1] not in trusted_functions:
        raise ForbiddenCommandError(
            arguments[0].decode().upper(),
            "a function's code lies on the server, where every tenant can replace it.",
            "Use register_script(), or vouch for an operator's function with "
            "tenantkv.commands.trust_function(name).",
        )
    last = 2 + count_at(arguments, 2)
    if last >= len(arguments):
        raise malformed(arguments, "it announces more keys than follow.")
    prefix = namespace.wire_prefix
    names = [prefix + name for name in arguments[3 : last + 1]]
    return [*arguments[:3], *names, *arguments[last + 1 :]]


def rewrite_script_load(arguments: list[bytes], _namespace: Namespace) -> list[bytes]:
    """SCRIPT LOAD script."""
    return [*arguments[:2], scripts().learn(arguments[2]), *arguments[3:]]


def rewrite_script_exists(arguments: list[bytes], _namespace: Namespace) -> list[bytes]:
    """SCRIPT EXISTS sha [sha ...]."""
    return [*arguments[:2], *(scripts().wire_sha(sha) or _NO_SUCH_SHA for sha in arguments[2:])]


def shape_script_load(reply: object, _namespace: Namespace) -> object:
    """Return the digest of the script as the tenant wrote it."""
    return (scripts().own_sha(reply) or reply) if isinstance(reply, bytes) else reply


def rewrite_tracking(arguments: list[bytes], namespace: Namespace) -> list[bytes]:
    """CLIENT TRACKING: a broadcast is confined to the tenant's own names."""
    wire = list(arguments)
    options = tracking_options(arguments)
    prefixes = [at for word, at in options if word == b"PREFIX"]
    for at in prefixes:
        wire[at] = namespace.wire_prefix + wire[at]
    if not prefixes and any(word == b"BCAST" for word, _ in options):
        wire += [b"PREFIX", namespace.wire_prefix]
    return wire


REWRITERS: dict[str, Rewrite] = {
    "keys": rewrite_keys,
    "scan": rewrite_scan,
    "sort": rewrite_sort,
    "script": rewrite_script,
    "function": rewrite_function,
    "script_load": rewrite_script_load,
    "script_exists": rewrite_script_exists,
    "tracking": rewrite_tracking,
}
