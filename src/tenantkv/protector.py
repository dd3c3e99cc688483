"""What a namespace does to values and names on their way: refuse, seal, hide; and back: reveal, open.

Laws of this file: everything is decided before the first byte is sent, and for a whole command at once;
names and values are given to a rule's `rewrite` after that, so seals are bound to own names; what a
reply holds is opened or raises.

A namespace that is not sealed still opens envelopes, since single values may have been sealed as
`Secret`. There the reply is looked at, and read once more only if it may hold one.
"""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from typing import Any

from tenantkv.commands.decisions import DECISIONS, decide, values_of
from tenantkv.commands.hidden_names import hide, reveal
from tenantkv.commands.own_scripts import (
    OwnCommand,
    OwnWord,
    is_about_ours,
    is_quick,
    reserved,
    touches_ours,
)
from tenantkv.commands.packing import Packer, pack_words
from tenantkv.commands.rule import OpeningRule, Rule
from tenantkv.commands.sealing import Opener, SealPlan, ValueSealer
from tenantkv.commands.sealing_expiry import expiry_of
from tenantkv.commands.table import RULES, find_rule, rewrite
from tenantkv.envelope_header import Kind, is_envelope_unverified
from tenantkv.errors import ForbiddenCommandError
from tenantkv.found_envelopes import FoundEnvelopes
from tenantkv.namespace import OURS, Namespace
from tenantkv.sealed_strings import SealedStrings
from tenantkv.secret import Secret
from tenantkv.secrets import Allowance, Detector, Policy

# Text of that many characters is too short for a secret that can be told from a word.
_SHORTEST = 6
# The usual writes, whose one value stands behind their one name.
_ONE_VALUE = frozenset({"SET", "SETNX", "RPUSH", "LPUSH", "SADD", "PUBLISH"})
# What names of tenantkv's own begin with, seen quickly.
_FIRST = ("t", b"t", "_", b"_")
_ANSWERING = frozenset({"GET", b"GET"})


class Protector:
    """Acts on one namespace's `Protection`. Threads may share it.

    Counters are for people to look at: threads that count at the same time may lose one.

    Attributes:
        policy: the refusal of plaintext secrets, with its counters.
        counts: ``opened``, ``sealed`` values of `Secret` and ``accepted_plaintext`` during a migration.
    """

    def __init__(self, namespace: Namespace) -> None:
        settings = namespace.protection
        allow = [Allowance(*entry) for entry in settings.allow]
        detector = Detector(allow=allow, own=_own_secrets(namespace))
        self.policy = Policy(detector, mode=settings.plaintext)
        self.counts: Counter[str] = Counter()
        self._plaintext_ok = settings.plaintext_ok
        self._namespace = namespace
        self._until = settings.accept_plaintext_until
        self._hides = settings.names == "hidden"
        self._plan = self._make_plan() if settings.seal else None
        self._strings = self._make_strings()
        self._is_usual = self._plan is None and not self._hides
        self._found = FoundEnvelopes(self, _contexts(settings.contexts))
        self._lean, self._reads = self._sorted_commands()

    def _make_plan(self) -> SealPlan:
        settings = self._namespace.protection
        return SealPlan(
            self,
            plaintext_keys=_encoded(settings.plaintext_keys),
            contexts=_contexts(settings.contexts),
            plaintext_channels=_encoded(settings.plaintext_channels),
            expiry=(lambda words, rule: expiry_of(words, rule, time.time())) if settings.bind_ttl else None,
        )

    def _make_strings(self) -> SealedStrings | None:
        plan = self._plan
        return None if plan is None else SealedStrings(self, plan.name_of, hides=self._hides)

    def _sorted_commands(self) -> tuple[frozenset[object], frozenset[object]]:
        """Return the commands that need nothing at all, and those of which only the reply does."""
        if self._hides:
            lean = {rule.name for rule in RULES.values() if rule.policy == "pass" and rule.rewrite is None}
            return _as_written(lean), frozenset()
        if self._plan is not None:
            return _as_written(_untouched()), frozenset()
        writes = {each.name for each in DECISIONS.values() if each.clear or each.layout}
        # What fills a key from another one must not fill one of ours.
        writes |= {rule.name for rule in RULES.values() if rule.creates and rule.names != "1"}
        reads = {each.name for each in DECISIONS.values() if each.form or each.choice} - writes
        return _as_written(RULES.keys() - reads - writes), _as_written(reads)

    # Out

    def pack(self, packer: Packer, arguments: Sequence[Any], namespace: Namespace) -> tuple[Any, Rule]:
        """Return the wire form of a command, refused or protected, and what to do with its reply.

        Raises:
            RefusedError: as `Packer.pack`, and for what must not be stored in clear or cannot be sealed.
        """
        name = arguments[0] if arguments and isinstance(arguments[0], (str, bytes)) else b""
        if type(name) is OwnCommand or is_quick(arguments) or name in self._lean:
            return packer.pack(arguments, namespace)
        if name in self._reads:
            packed, rule = packer.pack(arguments, namespace)
            return packed, self._found.reading(rule, packer, arguments)
        if self._is_usual and name in _ONE_VALUE and _has_one_value(arguments):
            self._check_one(packer, name, arguments[1], arguments[2])
            return packer.pack(arguments, namespace)
        if self._strings is not None and (done := self._strings.pack(packer, arguments, namespace)):
            return done
        marked = [at for at, argument in enumerate(arguments) if type(argument) is Secret]
        if marked:
            arguments = [part.reveal() if type(part) is Secret else part for part in arguments]
        words = packer.words(arguments)
        rule = find_rule(words)
        if type(name) is not OwnWord and _stores(rule) and touches_ours(words, rule):
            raise reserved(rule.name)
        if is_about_ours(words, rule):
            return pack_words(rewrite(words, rule, namespace)), rule
        extra = len(words) - len(arguments)
        sent, opener = self._protect(words, rule, [at + extra for at in marked])
        if self._hides:
            sent, own = hide(sent, rule, namespace.hidden_name)
            if rule.shape is not None:
                opener = partial(_reveal_and_open, own, opener)
        packed = pack_words(rewrite(sent, rule, namespace))
        return packed, rule if opener is None else OpeningRule(rule, opener)

    def _protect(
        self, words: list[bytes], rule: Rule, marked: Sequence[int]
    ) -> tuple[list[bytes], Opener | None]:
        plan = self._plan
        if plan is None:
            sent = self._found.seal(words, rule, marked) if marked else words
            self.counts["sealed"] += len(marked)
            self._check(words, rule, frozenset(marked))
            decision = decide(rule)
            reads = decision.form is not None or (decision.choice is not None and len(words) > 3)
            return sent, partial(self._found.open, words, rule) if reads else None
        sent, opener = plan.apply(words, rule)
        if any(sent[at] is words[at] for at in marked):
            raise _in_clear(rule)
        if sent is words:
            # Nothing was sealed: under plaintext names, or on the way to a script.
            self._check(words, rule, frozenset())
        elif self._namespace.protection.plaintext_keys:
            self._check_among_sealed(plan, words, rule)
        return sent, opener

    def _check_one(self, packer: Packer, command: Any, key: Any, value: Any) -> None:
        """Check the usual write without taking it apart."""
        if isinstance(key, (str, bytes)) and key[:1] in _FIRST and packer.to_bytes(key).startswith(OURS):
            raise reserved(str(command))
        kind = type(value)
        if kind is int or kind is float or ((kind is bytes or kind is str) and len(value) < _SHORTEST):
            return
        text = command.upper() if isinstance(command, str) else command.decode("ascii", "replace").upper()
        self._refuse_plaintext(packer.to_bytes(value), text, packer.to_bytes(key), b"")

    def _check(self, words: list[bytes], rule: Rule, sealed: frozenset[int]) -> None:
        """Refuse a command if one of its values must not be stored in clear."""
        places = decide(rule).clear
        if places is None:
            return
        if not sealed:
            for value, name, field in values_of(words, rule):
                self._refuse_plaintext(value, rule.name, name, field)
            return
        for value_at, key, field_at in places(words):
            if value_at not in sealed:
                name, field = words[key] if key else b"", words[field_at] if field_at else b""
                self._refuse_plaintext(words[value_at], rule.name, name, field)

    def _check_among_sealed(self, plan: SealPlan, words: list[bytes], rule: Rule) -> None:
        if rule.policy == "channel":
            # One channel, whose message was sealed.
            return
        for value, name, field in values_of(words, rule):
            if plan.name_of(name) is None:
                self._refuse_plaintext(value, rule.name, name, field)

    def _refuse_plaintext(self, value: bytes, command: str, name: bytes, field: bytes) -> None:
        self.policy.check(value, command=command, name=name, field=field, plaintext_ok=self._plaintext_ok)

    # The sealer of a `SealPlan`

    def seal(
        self, value: bytes, *, kind: Kind, name: bytes, field: bytes = b"", expires: float | None = None
    ) -> bytes:
        """Return a value sealed, or signed, by the namespace's keys."""
        return self._sealer.seal(value, kind=kind, name=name, field=field, expires=expires)

    def seal_member(self, value: bytes, *, kind: Kind, name: bytes) -> bytes:
        """Return a value sealed so that equal values of one name look equal."""
        return self._sealer.seal_member(value, kind=kind, name=name)

    def open(self, blob: bytes, *, kind: Kind, name: bytes, field: bytes = b"") -> bytes:
        """Return the value of an envelope, or during a migration that of none."""
        if self._until is not None and time.time() < self._until and not is_envelope_unverified(blob):
            self.counts["accepted_plaintext"] += 1
            return blob
        return self._sealer.open(blob, kind=kind, name=name, field=field)

    @cached_property
    def _sealer(self) -> ValueSealer:
        # Here, as the ciphers take 30 ms to import, and not everybody seals.
        from tenantkv.sealing import sealer_of

        return sealer_of(self._namespace, mode=self._namespace.protection.mode)

    # Back

    def open_message(self, push: Any) -> Any:
        """Return a pub/sub message with its content opened, or ``None`` for one that does not open."""
        return self._found.open_message(push) if self._plan is None else self._plan.open_message(push)

    @property
    def dropped_messages(self) -> int:
        """How many pub/sub messages did not open."""
        plans = (self._plan, self._found.plan)
        return sum(plan.dropped_messages for plan in plans if plan is not None)

    def __repr__(self) -> str:
        return f"<Protector {self._namespace.protection!r}>"


def _has_one_value(arguments: Sequence[Any]) -> bool:
    """Whether one of the usual writes has no second value, and no value in its reply."""
    if len(arguments) < 3 or type(arguments[2]) is Secret:
        return False
    if len(arguments) == 3:
        return True
    # With options, of which GET answers with the old value.
    return arguments[0] == "SET" and all(
        type(option) is int or (isinstance(option, (str, bytes)) and option.upper() not in _ANSWERING)
        for option in arguments[3:]
    )


def _stores(rule: Rule) -> bool:
    """Whether a command takes values, or fills a key from another."""
    return decide(rule).clear is not None or (rule.creates and rule.names != "1")


def _in_clear(rule: Rule) -> ForbiddenCommandError:
    instead = "Write it as a value, under a name that is not declared as plaintext."
    return ForbiddenCommandError(rule.name, "it would leave a Secret in clear.", instead)


def _reveal_and_open(own: Any, opener: Opener | None, reply: Any) -> Any:
    reply = reveal(reply, own)
    return reply if opener is None else opener(reply)


def _as_written(names: Iterable[str]) -> frozenset[object]:
    """Return names of one word as callers write them."""
    single = [name for name in names if " " not in name]
    forms = [form for name in single for form in (name, name.lower())]
    return frozenset([*forms, *(form.encode() for form in forms)])


def _untouched() -> Iterable[str]:
    return [rule.name for rule in RULES.values() if decide(rule).what == "untouched"]


def _encoded(globs: Iterable[str]) -> list[bytes]:
    return [glob.encode() for glob in globs]


def _contexts(pairs: Iterable[tuple[str, str]]) -> dict[bytes, bytes]:
    return {glob.encode(): name.encode() for glob, name in pairs}


def _own_secrets(namespace: Namespace) -> list[bytes]:
    """Return the prefix and the key material, as they might stand in a value."""
    found: dict[bytes, None] = {}
    for keyring in (namespace.keyring, namespace.root):
        found[keyring.prefix.encode()] = None
        for secret in (keyring.naming, *(key.secret for key in keyring.keys)):
            found[base64.b64encode(secret)] = None
            found[secret] = None
    return [secret for secret in found if len(secret) >= 16]


def protector_of(namespace: Namespace) -> Protector:
    """Return what protects a namespace, made with its first command."""
    protector = namespace.protector
    if protector is None:
        # Of two threads that come at once the later one's stays; only counters are lost.
        protector = namespace.protector = Protector(namespace)
    assert isinstance(protector, Protector)
    return protector
