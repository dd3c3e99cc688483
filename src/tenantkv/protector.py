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
from tenantkv.commands.own_scripts import OwnCommand
from tenantkv.commands.packing import Packer, pack_words
from tenantkv.commands.rule import OpeningRule, Rule, reading_class
from tenantkv.commands.sealing import Opener, SealPlan, ValueSealer
from tenantkv.commands.sealing_expiry import expiry_of
from tenantkv.commands.sealing_replies import FORMS, Opening
from tenantkv.commands.table import RULES, find_rule, rewrite
from tenantkv.envelope_header import MAGIC, Kind, is_envelope_unverified
from tenantkv.errors import ForbiddenCommandError, RefusedError
from tenantkv.namespace import PRIMITIVES, Namespace
from tenantkv.ops.registry import RESERVED
from tenantkv.sealed_strings import SealedStrings
from tenantkv.secret import Secret
from tenantkv.secrets import Allowance, Detector, Policy

_OURS = (PRIMITIVES, RESERVED)
_MAGIC = bytes([MAGIC])
# Text of that many characters is too short for a secret that can be told from a word.
_SHORTEST = 6
_BY_EQUALITY = frozenset[Kind]({"set", "zset"})
# The usual writes, whose one value stands behind their one name.
_ONE_VALUE = frozenset({"SET", "SETNX", "RPUSH", "LPUSH", "SADD", "PUBLISH"})
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
        self._openings: dict[str, Opening] = {}
        self._reading: dict[Rule, Any] = {}
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
        reads = {each.name for each in DECISIONS.values() if each.form or each.choice} - writes
        return _as_written(RULES.keys() - reads - writes), _as_written(reads)

    # Out

    def pack(self, packer: Packer, arguments: Sequence[Any], namespace: Namespace) -> tuple[Any, Rule]:
        """Return the wire form of a command, refused or protected, and what to do with its reply.

        Raises:
            RefusedError: as `Packer.pack`, and for what must not be stored in clear or cannot be sealed.
        """
        name = arguments[0] if arguments and isinstance(arguments[0], (str, bytes)) else b""
        if name in self._lean or type(name) is OwnCommand:
            return packer.pack(arguments, namespace)
        if name in self._reads:
            packed, rule = packer.pack(arguments, namespace)
            reading = self._reading.get(rule) or self._read_with(rule)
            return packed, reading(packer, arguments)
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
        if _is_ours(words, rule):
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
            sent = self._seal_marked(words, rule, marked) if marked else words
            self._check(words, rule, frozenset(marked))
            decision = decide(rule)
            reads = decision.form is not None or (decision.choice is not None and len(words) > 3)
            return sent, partial(self._open_found_words, words, rule) if reads else None
        sent, opener = plan.apply(words, rule)
        if any(sent[at] is words[at] for at in marked):
            raise ForbiddenCommandError(
                rule.name,
                "it would leave a Secret in clear.",
                "Write it as a value, and under a name that is not declared as plaintext.",
            )
        if sent is words:
            # Nothing was sealed: under plaintext names, or on the way to a script.
            self._check(words, rule, frozenset())
        elif self._namespace.protection.plaintext_keys:
            self._check_among_sealed(plan, words, rule)
        return sent, opener

    def _check_one(self, packer: Packer, command: Any, key: Any, value: Any) -> None:
        """Check the usual write without taking it apart."""
        kind = type(value)
        if kind is int or kind is float or ((kind is bytes or kind is str) and len(value) < _SHORTEST):
            return
        name = packer.to_bytes(key)
        if not name.startswith(_OURS):
            text = command if type(command) is str else command.decode("ascii", "replace")
            self._refuse_plaintext(packer.to_bytes(value), text.upper(), name, b"")

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

    def _seal_marked(self, words: list[bytes], rule: Rule, marked: Sequence[int]) -> list[bytes]:
        """Return a command with the values sealed that came as `Secret`."""
        decision = decide(rule)
        if decision.what != "sealed" or decision.layout is None:
            reason = decision.reason or "it takes no value that could be sealed."
            raise ForbiddenCommandError(rule.name, reason, decision.instead)
        places = {value: (key, field) for value, key, field in decision.layout(words)}
        sent = list(words)
        for at in marked:
            if at not in places:
                raise ForbiddenCommandError(
                    rule.name, "a Secret stands where no value does.", "Names, numbers and options are plain."
                )
            key, field = places[at]
            name = words[key] if rule.policy == "channel" else self._single.context_of(words[key])
            if decision.kind in _BY_EQUALITY:
                sent[at] = self.seal_member(words[at], kind=decision.kind, name=name)
            else:
                at_field = words[field] if field else b""
                sent[at] = self.seal(words[at], kind=decision.kind, name=name, field=at_field)
            self.counts["sealed"] += 1
        return sent

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
        if self._plan is not None:
            return self._plan.open_message(push)
        if isinstance(push, list) and len(push) > 2 and may_hold_envelope(push[-1]):
            return self._single.open_message(push)
        return push

    @cached_property
    def _single(self) -> SealPlan:
        """What a namespace that is not sealed does with values that were sealed one by one."""
        return SealPlan(_Found(self), contexts=_contexts(self._namespace.protection.contexts))

    @property
    def dropped_messages(self) -> int:
        """How many pub/sub messages did not open."""
        plans = (self._plan, self.__dict__.get("_single"))
        return sum(plan.dropped_messages for plan in plans if plan is not None)

    def _read_with(self, rule: Rule) -> Any:
        reading = self._reading[rule] = reading_class(rule, self._open_found, glances=True)
        return reading

    def _open_found(self, rule: Rule, packer: Packer, arguments: Sequence[Any], reply: Any) -> Any:
        """Open the envelopes in a reply of a namespace that is not sealed."""
        if not may_hold_envelope(reply):
            return reply
        return self._open_found_words(packer.words(arguments), rule, reply)

    def _open_found_words(self, words: list[bytes], rule: Rule, reply: Any) -> Any:
        if not may_hold_envelope(reply) or _is_ours(words, rule):
            return reply
        decision = decide(rule)
        form = decision.form
        if decision.choice is not None:
            try:
                form = FORMS.get(decision.choice(words))
            except RefusedError:
                # What only a sealed namespace refuses; here its reply is what it is.
                return reply
        if form is None:
            return reply
        opening = self._openings.get(decision.kind)
        if opening is None:
            found = _Found(self)
            opening = self._openings[decision.kind] = Opening(
                found.open, decision.kind, self._single.context_of
            )
        return form(opening, words, reply)

    def __repr__(self) -> str:
        return f"<Protector {self._namespace.protection!r}>"


class _Found:
    """Opens what looks like an envelope, and leaves everything else as it is."""

    def __init__(self, protector: Protector) -> None:
        self._protector = protector
        self.seal = protector.seal
        self.seal_member = protector.seal_member

    def open(self, blob: bytes, *, kind: Kind, name: bytes, field: bytes = b"") -> bytes:
        if not is_envelope_unverified(blob):
            return blob
        return self._protector.open(blob, kind=kind, name=name, field=field)


def may_hold_envelope(reply: Any) -> bool:
    """Whether a reply may hold an envelope: quick, and often right where the answer is yes."""
    kind = type(reply)
    if kind is bytes:
        return reply[:1] == _MAGIC  # type: ignore[no-any-return]
    if kind is list or kind is set:
        try:
            # The byte stands in no UTF-8, so a search of all values at once tells of most replies.
            if _MAGIC not in b"".join(reply):
                return False
        except TypeError:
            pass
        return any(map(may_hold_envelope, reply))
    if kind is dict:
        return any(map(may_hold_envelope, reply.values()))
    return False


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


def _is_ours(words: list[bytes], rule: Rule) -> bool:
    """Whether a command is about keys of tenantkv's own, whose values have envelopes already."""
    if len(words) <= rule.words or rule.locate is None:
        return False
    positions = rule.locate(words)
    return bool(positions) and all(words[at].startswith(_OURS) for at in positions)


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
