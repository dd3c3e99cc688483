"""One row of the command table, compiled: what a command does with names.

A rule is data plus three pure functions. `locate` tells where key names (or channels) stand, `rewrite`
makes the wire form where positions are not enough, and `shape` gives a reply back in own names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from tenantkv.namespace import Namespace

Policy = Literal["namespace", "channel", "pass", "refuse"]
Arguments = Sequence[bytes]
Locate = Callable[[Arguments], Sequence[int]]
Rewrite = Callable[[list[bytes], Namespace], list[bytes]]
Shape = Callable[[Any, Namespace], Any]

# Tokens that make a repeated write answer or act differently from the first.
CONDITIONAL = frozenset(
    {b"NX", b"XX", b"GT", b"LT", b"GET", b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE", b"FNX", b"FXX"}
)

_CONDITIONAL_COMMANDS = frozenset({"SET", "EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"})

# Commands that change what later replies on the same connection mean.
_SESSION = frozenset(
    {"MULTI", "EXEC", "DISCARD", "SELECT", "SUBSCRIBE", "UNSUBSCRIBE", "PSUBSCRIBE", "PUNSUBSCRIBE"}
    | {"SSUBSCRIBE", "SUNSUBSCRIBE", "WATCH", "UNWATCH"}
)


class Rule:
    """What is known of one command.

    Attributes:
        name: upper case, with the subcommand after a blank.
        policy: ``namespace`` (has key names), ``channel``, ``pass`` or ``refuse``.
        names: the position column of the table, for people and for tests.
        min_args: the fewest arguments after the command's first word.
        locate: positions of names in the arguments, given those; ``None`` where there are none.
        rewrite: builds the wire form by itself; ``None`` where prefixing the positions is all.
        shape: gives a reply in own names; ``None`` where replies hold none.
        reads, writes, creates, repeatable, blocks: the flags column.
        reason, instead: the texts of a refusal.
        head: the RESP bytes of the command's words.
        plain: a reply needs no look at all.
        session: it changes what later replies on its connection mean.
        conditional: options decide whether it may be repeated.
        single: one word, one key, and nothing else to do.
        only_keys: one word, and nothing but keys.
        opener: opens the values in a reply that `shape` has been through; only in an `OpeningRule`.
        glanced: a reply may be handed on after a look for envelopes; only in a `ReadingRule`.
        words: how many arguments the name takes (2 with a subcommand).
    """

    __slots__ = (
        "blocks",
        "conditional",
        "creates",
        "glanced",
        "head",
        "instead",
        "locate",
        "min_args",
        "name",
        "names",
        "only_keys",
        "opener",
        "plain",
        "policy",
        "reads",
        "reason",
        "repeatable",
        "rewrite",
        "session",
        "shape",
        "single",
        "words",
        "writes",
    )

    def __init__(
        self,
        name: str,
        policy: Policy,
        *,
        min_args: int = 0,
        names: str = "",
        flags: str = "",
        locate: Locate | None = None,
        rewrite: Rewrite | None = None,
        shape: Shape | None = None,
        reason: str = "",
        instead: str = "",
    ) -> None:
        words = name.encode().split()
        self.name = name
        self.policy: Policy = policy
        self.min_args = min_args
        self.names = names
        self.locate = locate
        self.rewrite = rewrite
        self.shape = shape
        self.opener: Callable[[Any], Any] | None = None
        self.glanced = False
        self.reads = "r" in flags
        self.writes = "w" in flags
        self.creates = "c" in flags
        self.repeatable = "r" in flags or "i" in flags
        self.blocks = "b" in flags
        self.reason = reason
        self.instead = instead
        self.words = len(words)
        self.head = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
        # The form of nearly all traffic: one word, one key right behind it, nothing else to do.
        self.session = name in _SESSION
        self.plain = shape is None and not self.session
        self.conditional = name in _CONDITIONAL_COMMANDS
        self.single = policy == "namespace" and names == "1" and rewrite is None and len(words) == 1
        self.only_keys = policy == "namespace" and names == "1..-1" and len(words) == 1

    def may_repeat(self, arguments: Sequence[Any]) -> bool:
        """Whether sending `arguments` again after a lost reply does and answers the same."""
        if not self.conditional or not self.repeatable:
            return self.repeatable
        for word in arguments[3:]:
            if isinstance(word, str):
                word = word.encode()  # noqa: PLW2901
            if isinstance(word, bytes) and word.upper() in CONDITIONAL:
                return False
        return True

    def __repr__(self) -> str:
        return f"<Rule {self.name} {self.policy} {self.names}>"


class OpeningRule(Rule):
    """A rule for one command whose reply is to be opened: made for each, so it is cheap.

    Args:
        rule: the command's.
        opener: takes the reply in own names, undecoded, and returns it with its values opened.
    """

    __slots__ = ("rule",)

    def __init__(self, rule: Rule, opener: Callable[[Any], Any]) -> None:
        # Not the base's: only what a conversation asks of a rule; the rest is asked of the rule itself.
        self.rule = rule
        self.opener = opener
        self.glanced = False
        self.name = rule.name
        self.shape = rule.shape
        self.session = rule.session
        self.plain = False
        self.repeatable = rule.repeatable
        self.reads = rule.reads
        self.writes = rule.writes
        self.creates = rule.creates
        self.blocks = rule.blocks
        self.conditional = rule.conditional

    def __getattr__(self, name: str) -> Any:
        # Reached for slots that were left empty.
        return getattr(self.rule, name)


class ReadingRule:
    """A rule for one read whose reply is, or may hold, an envelope.

    Made for each read, so it is cheaper still: what its rule says stands in the class, which
    `reading_class` makes once for each rule.
    """

    __slots__ = ("arguments", "packer")

    def __init__(self, packer: Any, arguments: Any) -> None:
        self.packer = packer
        self.arguments = arguments


def reading_class(
    rule: Rule, open_: Callable[[Rule, Any, Any, Any], Any], *, glances: bool
) -> type[ReadingRule]:
    """Return the class for a rule's reads.

    Args:
        rule: the command's.
        open_: opens a reply, given the rule, the packer, the arguments and the reply.
        glances: whether what looks like no envelope needs no opening.
    """

    def opener(self: ReadingRule, reply: Any) -> Any:
        return open_(rule, self.packer, self.arguments, reply)

    said: dict[str, Any] = {}
    for name in Rule.__slots__:
        value = getattr(rule, name)
        # A function in a class would become a method.
        said[name] = staticmethod(value) if callable(value) else value
    # With nothing else to do, a reply needs no more than a glance; see `Session.settle`.
    glances = glances and rule.shape is None and not rule.session
    said |= {"opener": opener, "plain": False, "glanced": glances}
    return type("ReadingRule", (ReadingRule,), {**said, "rule": rule, "__slots__": ()})


# Stands for a command that must not be sent again; its own rule would allow it without its options.
_ONCE: dict[str, Rule] = {}


def once(rule: Rule) -> Rule:
    """Return `rule` as one that may not be repeated."""
    if rule.opener is not None:
        return OpeningRule(once(rule.rule), rule.opener)  # type: ignore[attr-defined]
    known = _ONCE.get(rule.name)
    if known is None:
        known = Rule(
            rule.name,
            rule.policy,
            names=rule.names,
            flags="wc" if rule.creates else "w",
            locate=rule.locate,
            shape=rule.shape,
        )
        _ONCE[rule.name] = known
    return known
