"""Commands of our own that ride along with the tenant's: the registry's, see `ops/registry.py`."""

from __future__ import annotations

from collections.abc import Iterable

from tenantkv.commands.own_scripts import OwnCommand
from tenantkv.commands.packing import Packer, pack_words
from tenantkv.commands.rule import Rule
from tenantkv.commands.table import RULES, rewrite
from tenantkv.namespace import Namespace
from tenantkv.ops.registry import Aside, OnReply
from tenantkv.transport.drivers import in_utf8


class AsideRule(Rule):
    """A command of our own that rides along: its reply goes to a function and to nobody else."""

    __slots__ = ("on_reply",)

    def __init__(self, name: str, on_reply: OnReply) -> None:
        # Not the base's, as there is one for each registration: only what a conversation asks of a rule.
        self.name = name
        self.repeatable = True
        self.plain = self.session = self.reads = self.writes = self.creates = self.blocks = False
        self.conditional = self.single = False
        self.shape = None
        self.on_reply = on_reply


def pack_asides(
    asides: Iterable[Aside], namespace: Namespace, packer: Packer
) -> tuple[list[bytes], list[Rule]]:
    """Return commands of our own as bytes for the wire, and the rules that take their replies."""
    pieces: list[bytes] = []
    rules: list[Rule] = []
    for command, on_reply in asides:
        name = command[0]
        rule = name.rule if type(name) is OwnCommand else RULES[name]
        packed = pack_words(rewrite(packer.words(in_utf8(command)), rule, namespace))
        pieces += (packed,) if type(packed) is bytes else packed
        rules.append(AsideRule(rule.name, on_reply))
    return pieces, rules
