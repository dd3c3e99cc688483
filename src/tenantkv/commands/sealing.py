"""Sealed values: from a command in own names to the same command with its values sealed, and back.

Laws of this file: names are never changed, values never leave unsealed but under plaintext names; a
refusal comes before anything is sent; what a reply holds is opened or raises. Pure: the cipher, its
randomness and the clock are the sealer's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from tenantkv.commands.decisions import Decision, decide, values_of
from tenantkv.commands.name_globs import NameGlobs
from tenantkv.commands.options import sort_options
from tenantkv.commands.rule import Rule
from tenantkv.commands.sealing_options import Layout
from tenantkv.commands.sealing_replies import FORMS, Opening
from tenantkv.envelope_header import Kind
from tenantkv.errors import ForbiddenCommandError, TenantKVError

__all__ = ["Opener", "SealPlan", "ValueSealer", "values_of"]

Opener = Callable[[Any], Any]
NameOf = Callable[[bytes], "bytes | None"]

# The server's own messages about keys. These change together with those of `channels.py`.
_NOTIFICATION = re.compile(rb"__(?:(?:keyspace|subkeyspace|subkeyspaceitem|keyevent)@(?:\d+|\*)__:)")

# Members have to be found again, and to be equal in the server's eyes when they are.
_BY_EQUALITY = frozenset[Kind]({"set", "zset"})


class ValueSealer(Protocol):
    """Seals and opens single values; `tenantkv.envelope` has the real one."""

    def seal(
        self, value: bytes, *, kind: Kind, name: bytes, field: bytes = b"", expires: float | None = None
    ) -> bytes:
        """Return a value sealed under a random nonce, which opens until `expires` (Unix seconds)."""
        ...

    def seal_member(self, value: bytes, *, kind: Kind, name: bytes) -> bytes:
        """Return a value sealed so that equal values of one name look equal."""
        ...

    def open(self, blob: bytes, *, kind: Kind, name: bytes, field: bytes = b"") -> bytes:
        """Return the value of either; raises on anything wrong."""
        ...


class SealPlan:
    """Which values of a namespace are sealed, and under which names.

    Args:
        sealer: seals and opens single values.
        plaintext_keys: globs of own key names whose values stay in clear: counters, bitmaps, what
            others read.
        contexts: for globs of own key names, the name that goes into the seals of all matching keys
            in the place of their own; the first that matches counts. Within a context values may
            move from key to key, and a neighbour may move them too. A key that is itself called like
            a context belongs to it.
        plaintext_channels: globs of own channel names whose messages stay in clear.
        expiry: says of a command when its values expire, in Unix seconds, to have that in the seals.

    Attributes:
        dropped_messages: how many pub/sub messages did not open.

    Example:
        >>> plan = SealPlan(sealer, plaintext_keys=[b"hits:*"])  # doctest: +SKIP
        >>> words, opener = plan.apply([b"GET", b"user:7"], RULES["GET"])  # doctest: +SKIP
    """

    __slots__ = (
        "_channel_name",
        "_contexts",
        "_expiry",
        "_key_name",
        "_openings",
        "_plaintext_channels",
        "_plaintext_keys",
        "_sealer",
        "dropped_messages",
    )

    def __init__(
        self,
        sealer: ValueSealer,
        *,
        plaintext_keys: Sequence[bytes] = (),
        contexts: Mapping[bytes, bytes] | None = None,
        plaintext_channels: Sequence[bytes] = (),
        expiry: Callable[[list[bytes], Rule], float | None] | None = None,
    ) -> None:
        self._sealer = sealer
        self._expiry = expiry
        self._plaintext_keys = NameGlobs(plaintext_keys)
        self._plaintext_channels = NameGlobs(plaintext_channels)
        self._contexts = [(NameGlobs([glob]), context) for glob, context in (contexts or {}).items()]
        self._key_name: NameOf = self.name_of if self._plaintext_keys or self._contexts else _same
        self._channel_name: NameOf = self._name_of_channel if self._plaintext_channels else _same
        self._openings: dict[str, Opening] = {}
        self.dropped_messages = 0

    def name_of(self, key: bytes) -> bytes | None:
        """Return the name in the seals of a key's values: its own or its context's; ``None`` for none."""
        return None if key in self._plaintext_keys else self.context_of(key)

    def context_of(self, key: bytes) -> bytes:
        """Return the name in the seals of a key that is sealed: its context's, or its own."""
        for globs, context in self._contexts:
            if key in globs:
                return context
        return key

    def _name_of_channel(self, channel: bytes) -> bytes | None:
        return None if channel in self._plaintext_channels else channel

    def apply(self, words: list[bytes], rule: Rule) -> tuple[list[bytes], Opener | None]:
        """Return a command with its values sealed, and what opens its reply.

        Args:
            words: the command in own names, as many as its rule asks for at least.
            rule: its rule, from `find_rule`.

        Returns:
            The command's words (the same list where nothing is sealed), and a function from the
            undecoded reply in own names to the same with values opened; ``None`` where the reply has
            none. The function raises what the sealer's `open` raises. QUEUED is not for it.

        Raises:
            ForbiddenCommandError: the command would damage sealed values or make no sense of them.
            MalformedCommandError: values cannot be told from the rest.
        """
        decision = decide(rule)
        what = decision.what
        if what in ("untouched", "opaque"):
            return words, None
        name_of = self._channel_name if rule.policy == "channel" else self._key_name
        if what == "sealed":
            if name_of is not _same and _in_clear(words, rule, name_of):
                return words, None
        elif self._all_in_clear(words, rule, decision, name_of):
            return words, None
        form = FORMS.get(decision.choice(words)) if decision.choice is not None else decision.form
        sealed = words
        if decision.layout is not None:
            expires = self._expiry(words, rule) if self._expiry is not None else None
            sealed = self._seal(words, decision.layout, decision.kind, name_of, expires)
        if form is None:
            return sealed, None
        return sealed, partial(form, self._opening(decision.kind, name_of), sealed)

    def _all_in_clear(self, words: list[bytes], rule: Rule, decision: Decision, name_of: NameOf) -> bool:
        """Whether no key is sealed; raises where the command cannot do with those that are."""
        if rule.locate is not None:
            names = {name_of(words[position]) for position in rule.locate(words)}
            if names <= {None} and self._sort_in_clear(words, rule):
                return True
            if decision.what == "context" and len(names) == 1:
                return False
        raise ForbiddenCommandError(rule.name, decision.reason, decision.instead)

    def _sort_in_clear(self, words: list[bytes], rule: Rule) -> bool:
        """Whether the keys that a SORT makes of its elements are all in clear."""
        if rule.names != "sort":
            return True
        made = (words[at].partition(b"*") for word, at in sort_options(words) if word in (b"BY", b"GET"))
        return all(not star or self._plaintext_keys.covers(start) for start, star, _ in made)

    def _seal(
        self, words: list[bytes], places: Layout, kind: Kind, name_of: NameOf, expires: float | None
    ) -> list[bytes]:
        sealed = list(words)
        by_equality = kind in _BY_EQUALITY
        sealer = self._sealer
        for value, key, field in places(words):
            name = name_of(words[key])
            if name is None:
                continue
            if by_equality:
                sealed[value] = sealer.seal_member(words[value], kind=kind, name=name)
            elif field:
                sealed[value] = sealer.seal(words[value], kind=kind, name=name, field=words[field])
            elif expires is not None:
                sealed[value] = sealer.seal(words[value], kind=kind, name=name, expires=expires)
            else:
                sealed[value] = sealer.seal(words[value], kind=kind, name=name)
        return sealed

    def _opening(self, kind: Kind, name_of: NameOf) -> Opening:
        opening = self._openings.get(kind)
        if opening is None:
            opening = self._openings[kind] = Opening(self._sealer.open, kind, name_of)
        return opening

    def open_message(self, push: Any) -> Any:
        """Return a subscription's message with its content opened.

        Anything that is no such message, and the server's own about keys, comes back as it is.

        Args:
            push: an undecoded push in own names, as `shape_push` gives it.

        Returns:
            The push, or ``None`` for a message that does not open, which anybody can send; such are
            counted in `dropped_messages`.
        """
        if not isinstance(push, list) or len(push) < 3:
            return push
        kind = push[0]
        if kind == b"pmessage" and len(push) > 3:
            # Only a pattern of this form receives the server's own messages.
            position, is_server = 2, _NOTIFICATION.match(push[1]) is not None
        elif kind in (b"message", b"smessage"):
            position, is_server = 1, kind == b"message" and _NOTIFICATION.match(push[1]) is not None
        else:
            return push
        channel, message = push[position : position + 2]
        name = None if is_server else self._channel_name(channel)
        if name is None:
            return push
        try:
            opened = self._sealer.open(message, kind="chan", name=name)
        except TenantKVError:
            # One that was made with a key which this reader lacks is lost too: it is not sent again.
            self.dropped_messages += 1
            return None
        return [*push[: position + 1], opened, *push[position + 2 :]]

    def __repr__(self) -> str:
        return f"<SealPlan contexts={len(self._contexts)} dropped_messages={self.dropped_messages}>"


def _same(name: bytes) -> bytes | None:
    return name


def _in_clear(words: list[bytes], rule: Rule, name_of: NameOf) -> bool:
    """Whether no key of a command is sealed. Otherwise each of its keys stands for itself."""
    if rule.names in ("1", "2"):
        return name_of(words[rule.words]) is None
    return rule.locate is not None and all(name_of(words[at]) is None for at in rule.locate(words))
