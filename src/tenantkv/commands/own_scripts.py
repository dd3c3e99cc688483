"""Commands and scripts of tenantkv's own.

Our scripts name every key that they use, so they run without the guard (`script_guard.py`), which is there
for scripts that somebody else wrote. They take wire names in KEYS, make no other, and answer with none;
what that saves is a tenth of a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenantkv.commands.options import locate_script
from tenantkv.commands.rule import Rule
from tenantkv.errors import ForbiddenCommandError
from tenantkv.namespace import OURS


class OwnCommand(bytes):
    """The name of EVAL or EVALSHA as only tenantkv's own code can write it.

    It is told by its type: the word itself, from wherever it comes, still means a guarded script.

    Attributes:
        rule: what stands in the table for it.
    """

    rule: Rule


class OwnWord(bytes):
    """The name of any other command in an operation of tenantkv's own, told by its type as well."""


def touches_ours(words: Sequence[bytes], rule: Rule) -> bool:
    """Whether a command names a key of tenantkv's own."""
    return any(name.startswith(OURS) for name in _names(words, rule))


def is_about_ours(words: Sequence[bytes], rule: Rule) -> bool:
    """Whether a command is about nothing but keys of tenantkv's own, whose values have envelopes."""
    names = _names(words, rule)
    return bool(names) and all(name.startswith(OURS) for name in names)


def _names(words: Sequence[bytes], rule: Rule) -> list[bytes]:
    if len(words) <= rule.words or rule.locate is None:
        return []
    return [words[position] for position in rule.locate(words)]


def is_quick(arguments: Sequence[Any]) -> bool:
    """Whether a command is our own and about a key of ours, as far as its first argument tells."""
    if len(arguments) < 2 or type(arguments[0]) is not OwnWord:
        return False
    name = arguments[1]
    return type(name) is bytes and name.startswith(OURS)


def reserved(command: str) -> ForbiddenCommandError:
    """Return the error for a write of the tenant's to such a key."""
    return ForbiddenCommandError(
        command,
        "names that begin with 'tkv:' or '__tenantkv__:' are tenantkv's own, and their values are not "
        "looked after like others.",
        "Choose another name; caches, locks and queues are written by their own methods.",
    )


def _own(word: str, flags: str) -> OwnCommand:
    name = OwnCommand(word.encode())
    name.rule = Rule(word, "namespace", min_args=2, names="own script", flags=flags, locate=locate_script)
    return name


EVAL = _own("EVAL", "wc")
EVALSHA = _own("EVALSHA", "wc")
#: For scripts that do and answer the same when they are run again after their reply was lost.
REPEATABLE_EVAL = _own("EVAL", "wci")
REPEATABLE_EVALSHA = _own("EVALSHA", "wci")
#: For scripts that make no key: nothing is registered ahead of them. The pair may be run again.
CLEARING_EVAL = _own("EVAL", "w")
REPLACING_EVAL = _own("EVAL", "wi")
REPLACING_EVALSHA = _own("EVALSHA", "wi")
#: For scripts that only read: nothing is registered ahead of them.
READING_EVAL = _own("EVAL", "ri")
READING_EVALSHA = _own("EVALSHA", "ri")
