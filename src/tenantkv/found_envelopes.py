"""Single values that were sealed as `Secret` in a namespace that is not sealed: sealed, found, opened.

A reply is glanced at, and taken apart only if it may hold an envelope. What is none is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tenantkv.commands.decisions import decide
from tenantkv.commands.own_scripts import is_about_ours
from tenantkv.commands.packing import Packer
from tenantkv.commands.rule import ReadingRule, Rule, reading_class
from tenantkv.commands.sealing import SealPlan, ValueSealer
from tenantkv.commands.sealing_replies import FORMS, Opening
from tenantkv.envelope_header import MAGIC, Kind, is_envelope_unverified
from tenantkv.errors import ForbiddenCommandError, RefusedError

_MAGIC = bytes([MAGIC])
_BY_EQUALITY = frozenset[Kind]({"set", "zset"})


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


class FoundEnvelopes:
    """Seals what came as `Secret`, and opens what looks like an envelope.

    Args:
        sealer: the namespace's.
        contexts: as for `SealPlan`.

    Attributes:
        plan: says the names in seals, and opens messages.
    """

    def __init__(self, sealer: ValueSealer, contexts: Mapping[bytes, bytes]) -> None:
        self._sealer = sealer
        found = _Found(sealer)
        self.plan = SealPlan(found, contexts=contexts)
        self._open: Callable[..., bytes] = found.open
        self._openings: dict[str, Opening] = {}
        self._readings: dict[Rule, type[ReadingRule]] = {}

    def seal(self, words: list[bytes], rule: Rule, marked: Sequence[int]) -> list[bytes]:
        """Return a command with the values at the places `marked` sealed.

        Raises:
            ForbiddenCommandError: no value stands there, or the command cannot do with a sealed one.
        """
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
            name = words[key] if rule.policy == "channel" else self.plan.context_of(words[key])
            if decision.kind in _BY_EQUALITY:
                sent[at] = self._sealer.seal_member(words[at], kind=decision.kind, name=name)
            else:
                at_field = words[field] if field else b""
                sent[at] = self._sealer.seal(words[at], kind=decision.kind, name=name, field=at_field)
        return sent

    def reading(self, rule: Rule, packer: Packer, arguments: Sequence[Any]) -> Any:
        """Return the rule of one read, which opens what is found in its reply."""
        known = self._readings.get(rule)
        if known is None:
            known = self._readings[rule] = reading_class(rule, self._open_reply, glances=True)
        return known(packer, arguments)

    def _open_reply(self, rule: Rule, packer: Packer, arguments: Sequence[Any], reply: Any) -> Any:
        return self.open(packer.words(arguments), rule, reply) if may_hold_envelope(reply) else reply

    def open(self, words: list[bytes], rule: Rule, reply: Any) -> Any:
        """Return a command's reply with its envelopes opened."""
        if not may_hold_envelope(reply) or is_about_ours(words, rule):
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
            opening = Opening(self._open, decision.kind, self.plan.context_of)
            self._openings[decision.kind] = opening
        return form(opening, words, reply)

    def open_message(self, push: Any) -> Any:
        """Return a pub/sub message opened if it is sealed; ``None`` if it does not open."""
        if isinstance(push, list) and len(push) > 2 and may_hold_envelope(push[-1]):
            return self.plan.open_message(push)
        return push


class _Found:
    """Opens what looks like an envelope, and leaves everything else as it is."""

    def __init__(self, sealer: ValueSealer) -> None:
        self._sealer = sealer
        self.seal = sealer.seal
        self.seal_member = sealer.seal_member

    def open(self, blob: bytes, *, kind: Kind, name: bytes, field: bytes = b"") -> bytes:
        if not is_envelope_unverified(blob):
            return blob
        return self._sealer.open(blob, kind=kind, name=name, field=field)
