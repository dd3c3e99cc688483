"""The parsers behind the position column: where names stand, and what is refused."""

from __future__ import annotations

import pytest

from tenantkv.commands import key_positions, register
from tenantkv.commands.options import PARSERS
from tenantkv.commands.table import RULES, _rules, find_rule, quick, rewrite
from tenantkv.errors import ConfigurationError, ForbiddenCommandError, MalformedCommandError, RefusedError
from tenantkv.keyring import Keyring
from tenantkv.namespace import Namespace

# A command, and the words of it that are names.
NAMES = [
    ("GET a", "a"),
    ("MSET a 1 b 2", "a b"),
    ("BITOP AND d a b", "d a b"),
    ("BLPOP a b 0", "a b"),
    ("OBJECT ENCODING a", "a"),
    ("XGROUP CREATE a g $", "a"),
    ("JSON.MGET a b $", "a b"),
    ("JSON.MSET a $ 1 b $ 2", "a b"),
    ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", "d a b"),
    ("ZUNIONSTORE d 0 a", "d"),
    ("ZINTER 1 a WEIGHTS 2", "a"),
    ("BLMPOP 0 2 a b LEFT", "a b"),
    ("EVAL s 0 a b", ""),
    ("EVAL s 002 a b c", "a b"),
    ("MSETEX 2 a 1 b 2 EX 9", "a b"),
    ("CMS.MERGE d 2 a b WEIGHTS 1 2", "d a b"),
    ("TDIGEST.MERGE d 1 a COMPRESSION 9", "d a"),
    ("TS.MADD a 1 1 b 2 2", "a b"),
    ("SORT a", "a"),
    ("SORT a STORE d", "a d"),
    ("sort a store d alpha", "a d"),
    ("SORT a BY STORE", "a"),
    ("SORT a BY STORE STORE STORE", "a STORE"),
    ("SORT a GET STORE GET BY LIMIT 0 STORE DESC STORE GET", "a GET"),
    ("SORT STORE STORE BY", "STORE BY"),
    ("GEORADIUS a 1 2 3 m", "a"),
    ("GEORADIUS a STORE STORE STORE m STORE d", "a d"),
    ("GEORADIUS a 1 2 3 m COUNT STORE STOREDIST COUNT", "a COUNT"),
    ("georadiusbymember a STORE 3 m storedist d", "a d"),
    ("XREAD STREAMS a 0", "a"),
    ("XREAD COUNT 1 BLOCK 5 STREAMS a b 0 0", "a b"),
    ("XREAD COUNT STREAMS STREAMS STREAMS 0", "STREAMS"),
    ("XREAD STREAMS a STREAMS 0 0", "a STREAMS"),
    ("XREADGROUP GROUP g c STREAMS a >", "a"),
    ("XREADGROUP GROUP STREAMS STREAMS STREAMS a >", "a"),
    ("XREADGROUP NOACK GROUP NOACK COUNT COUNT 1 STREAMS NOACK >", "NOACK"),
    ("XREADGROUP CLAIM 5 GROUP g c STREAMS a >", "a"),
    ("COPY a b", "a b"),
    ("COPY REPLACE DB replace", "REPLACE DB"),
    ("STRALGO LCS KEYS a b", "a b"),
    ("STRALGO LCS IDX MINMATCHLEN KEYS KEYS a b LEN", "a b"),
    ("STRALGO LCS STRINGS KEYS b", ""),
    ("PFCOUNT a b c", "a b c"),
    ("SUBSCRIBE a b", ""),
    ("PING a", ""),
]

REFUSED = [
    ("MSET a 1 b", "groups of 2"),
    ("JSON.MSET a $ 1 b $", "groups of 3"),
    ("ZUNION 2 a", "more keys than follow"),
    ("ZUNION 999999999 a", "more keys than follow"),
    ("ZUNION 9999999999 a", "plain decimal"),
    ("ZUNION +1 a", "plain decimal"),
    ("ZUNION 1_0 a", "plain decimal"),
    ("ZUNION \u0661 a", "plain decimal"),
    ("ZUNION ² a", "plain decimal"),
    ("EVAL s -1 a", "plain decimal"),
    ("EVAL s 2 a", "more keys than follow"),
    ("MSETEX 2 a 1 b", "more keys and values"),
    ("SORT a STORE b STORE c", "STORE twice"),
    ("SORT a STOR b", "unknown option"),
    ("SORT a LIMIT 0", "lacks an argument"),
    ("SORT a STORE", "lacks an argument"),
    ("GEORADIUS a 1 2 3 m STORE b STOREDIST c", "twice"),
    ("GEORADIUS a 1 2 3 m STORE", "lacks an argument"),
    ("GEORADIUS a 1 2 3 m 4", "unknown option"),
    ("GEORADIUSBYMEMBER a m 3 m m", "unknown option"),
    ("XREAD STREAMS a b 0", "do not pair"),
    ("XREAD COUNT 1 STREAMS", "do not pair"),
    ("XREAD COUNT STREAMS a 0", "unknown option"),
    ("XREAD GROUP g c STREAMS a 0", "unknown option"),
    ("XREADGROUP GROUP g STREAMS a > b", "unknown option"),
    ("XREADGROUP GROUP g c NOACK COUNT STREAMS", "names no STREAMS"),
    ("COPY a b DB 0", "another database"),
    ("COPY a b REPLAC", "unknown option"),
    ("STRALGO LCS KEYS a", "lacks an argument"),
    ("STRALGO LCS a b", "unknown option"),
    ("SCAN 0 MATCH", "lacks an argument"),
    ("SCAN 0 match a MATCH b", "MATCH twice"),
    ("SCAN 0 NOVALUES x", "unknown option"),
    ("CLIENT TRACKING ON REDIRECT 5", "REDIRECT"),
    ("CLIENT TRACKING ON PREFIX", "lacks an argument"),
]


UNREADABLE_POSITIONS = [
    *("nonsense", "sort", "", "0", "-1", "٣", "#", "1 x", "#1 2", "1..", "..2", "1..-0", "1..-1/0"),
]


def words(text: str) -> list[bytes]:
    return [word.encode() for word in text.split()]


@pytest.mark.parametrize(("text", "names"), NAMES)
def test_names_are_found(text: str, names: str) -> None:
    command = text.split()
    assert [command[position] for position in key_positions(*command)] == names.split()


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_what_cannot_be_told_is_refused(text: str, reason: str) -> None:
    with pytest.raises(MalformedCommandError, match=reason) as caught:
        rewrite_of(words(text))
    assert caught.value.command == words(text)[0].decode()


def rewrite_of(command: list[bytes]) -> object:
    """Locate, or rewrite where there is no locator; as packing does."""
    return rewrite(command, find_rule(command), Namespace(Keyring.generate(bytes(96))))


def test_key_positions_refuses_what_is_refused() -> None:
    for command in (("FLUSHALL",), ("NONSENSE", "a"), ("GET",), (), ("",), (" ",)):
        with pytest.raises(RefusedError):
            key_positions(*command)


def test_every_row_says_where_its_names_stand() -> None:
    """A namespaced row has a locator or a rewriter, and a parser's word is known."""
    assert len(RULES) > 400
    for rule in RULES.values():
        if rule.policy in ("namespace", "channel"):
            assert rule.locate is not None or rule.rewrite is not None, rule
        if rule.policy == "refuse":
            assert rule.reason and rule.reason.endswith("."), rule
    assert {rule.names for rule in RULES.values()} > set(PARSERS)


@pytest.mark.parametrize("rule", [r for r in RULES.values() if r.policy == "namespace"], ids=lambda r: r.name)
def test_a_locator_stays_within_the_command(rule) -> None:
    """At any length from the fewest arguments on: positions inside, none twice, never the name."""
    head = rule.name.encode().split()
    for count in range(len(head) + rule.min_args, len(head) + rule.min_args + 7):
        command = [*head, *[b"1"] * (count - len(head))]
        try:
            found = list(rule.locate(command)) if rule.locate else []
        except MalformedCommandError:
            continue
        assert len(set(found)) == len(found)
        assert all(len(head) <= position < count for position in found), (command, found)


def test_register() -> None:
    register("mymodule.put", "1 2", flags="wc")
    register("MYMODULE.ALL", "1..-1/2", flags="r")
    try:
        assert list(key_positions("MyModule.Put", "a", "b", "c")) == [1, 2]
        assert list(key_positions("MYMODULE.ALL", "a", "1", "b", "2")) == [1, 3]
        with pytest.raises(MalformedCommandError):
            key_positions("MYMODULE.PUT", "a")
        for name in ("MYMODULE.PUT", "GET", "FLUSHALL", "CONFIG GET", "CLUSTER X"):
            with pytest.raises(ConfigurationError):
                register(name, "1")
        for keys in UNREADABLE_POSITIONS:
            with pytest.raises(ConfigurationError, match="does not say"):
                register("MYMODULE.OTHER", keys)
        for name in ("", " ", "TWO WORDS"):
            with pytest.raises(ConfigurationError, match="one word"):
                register(name, "1")
        with pytest.raises(ConfigurationError):
            register("MYMODULE.OTHER", "1", flags="xyz")
    finally:
        for name in ("MYMODULE.PUT", "MYMODULE.ALL"):
            _rules.pop(name, None)
            for form in (name, name.lower(), name.encode(), name.lower().encode()):
                quick.pop(form, None)


def test_a_family_is_refused_with_its_reason() -> None:
    with pytest.raises(ForbiddenCommandError, match="indexes are global"):
        key_positions("FT.SEARCH", "index", "*")
    assert list(key_positions("FT.SUGADD", "a", "s", "1")) == [1]
