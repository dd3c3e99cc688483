"""Hidden names: keyed hashes on the server in the place of key names, and back.

Laws of this file: every name of a command is hidden or the command is refused; a name comes back in a
reply only if the command asked for it. Channels keep their names, whose prefix tells nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tenantkv.commands.options import sort_options
from tenantkv.commands.rule import Rule
from tenantkv.errors import ForbiddenCommandError

# What stands in the position column of commands whose names cannot be told in advance.
_BY_PATTERN = frozenset({"keys", "scan"})
_BY_CODE = frozenset({"script", "function"})
# Channels in which the server tells of keys. They change together with those of `channels.py`.
_NOTIFICATION = re.compile(rb"__(?:sub)?key(?:space|spaceitem|event)@")


def hide(
    words: list[bytes], rule: Rule, hidden: Callable[[bytes], bytes]
) -> tuple[list[bytes], Mapping[bytes, bytes]]:
    """Return a command with its key names hidden, and the own name of each.

    Args:
        words: the command in own names.
        rule: its rule.
        hidden: what stands for an own name.

    Raises:
        ForbiddenCommandError: its names are patterns, or made by a script.
    """
    if rule.name == "CLIENT TRACKING":
        raise ForbiddenCommandError(
            rule.name, "the server would tell of hidden names.", "Connect the near cache without it."
        )
    if rule.name in ("SUBSCRIBE", "PSUBSCRIBE") and any(map(_NOTIFICATION.match, words[1:])):
        raise ForbiddenCommandError(
            rule.name,
            "the server would tell of hidden names.",
            "Publish what changed on a channel of your own.",
        )
    if rule.policy != "namespace" or rule.locate is None:
        if rule.names in _BY_PATTERN:
            raise _no_pattern(rule)
        return words, {}
    if rule.names in _BY_PATTERN:
        raise _no_pattern(rule)
    if rule.names in _BY_CODE:
        raise ForbiddenCommandError(
            rule.name,
            "a script may make key names, and names are hidden here.",
            "Run it with a client of a namespace whose names are plain, such as child('scripts').",
        )
    if rule.names == "sort":
        _check_sort(words, rule)
    sent = list(words)
    own: dict[bytes, bytes] = {}
    for position in rule.locate(words):
        sent[position] = hidden(words[position])
        own[sent[position]] = words[position]
    return sent, own


def _no_pattern(rule: Rule) -> ForbiddenCommandError:
    return ForbiddenCommandError(
        rule.name,
        "names are hidden here, so the server cannot match them.",
        "Call it on the client itself, outside of pipelines: it then asks the registry.",
    )


def _check_sort(words: list[bytes], rule: Rule) -> None:
    for word, at in sort_options(words):
        if word in (b"BY", b"GET") and b"*" in words[at]:
            raise ForbiddenCommandError(
                rule.name, "it makes key names of its elements, and names are hidden here.", "Sort in Python."
            )


def reveal(reply: Any, own: Mapping[bytes, bytes]) -> Any:
    """Return a reply of BLPOP, LMPOP, XREAD and their kin, in which names stand first, in own names."""
    if isinstance(reply, dict):
        return {own.get(name, name): rest for name, rest in reply.items()}
    if not isinstance(reply, list) or not reply:
        return reply
    if isinstance(reply[0], list):
        return [reveal(each, own) for each in reply]
    return [own.get(reply[0], reply[0]), *reply[1:]]
