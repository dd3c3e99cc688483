"""What every server command does with names: the table, and the little that users need of it."""

from __future__ import annotations

from collections.abc import Sequence

from tenantkv.commands.rewriters import trusted_functions
from tenantkv.commands.table import RULES, find_rule, register
from tenantkv.errors import MalformedCommandError

__all__ = ["RULES", "key_positions", "register", "trust_function"]


def key_positions(*arguments: str | bytes) -> Sequence[int]:
    """Return where the key names stand in a command, counted from 0, without asking a server.

    Raises:
        RefusedError: the command is unknown, refused or malformed.

    Example:
        >>> list(key_positions("BLPOP", "a", "b", "0"))
        [1, 2]
    """
    words = [word.encode() if isinstance(word, str) else word for word in arguments]
    if not words or not words[0].strip():
        raise MalformedCommandError("the command", "it has no name.")
    words = [*words[0].split(), *words[1:]]
    rule = find_rule(words)
    return rule.locate(words) if rule.locate is not None and rule.policy == "namespace" else ()


def trust_function(name: str) -> None:
    """Allow FCALL of a function of the server's that names every key it touches in its KEYS.

    You vouch for its code: it runs on the server, outside of the guard that scripts run in.
    """
    trusted_functions.add(name.encode())
