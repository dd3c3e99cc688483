"""Tier 2 inside a value: names that say "secret", with a value beside them that looks like one.

Works on bytes, without parsing any format, so that it also sees JSON inside JSON, a form in a log line or
half a pickle. A few stems that every such name contains are looked for; around a hit the whole name is
cut out and judged; only then is it asked whether a value follows.
"""

from __future__ import annotations

import re

from tenantkv.secrets import shapes
from tenantkv.secrets.names import MAX_NAME_BYTES, NONE, PASSWORD, STRONG, WEAK, classify
from tenantkv.secrets.pickles import is_old_pickle, strings

RULES = {WEAK: "named-token", STRONG: "named-secret", PASSWORD: "named-password"}

# Searched on much, by what two of them share: mostly it is found at once, or neither is there. `names.py`
# judges more words than these, which would cost more than they find here.
_STEMS = (
    (b"ss", (b"pass", b"sess")),
    (b"pwd", (b"pwd",)),
    (b"cre", (b"cred", b"secret")),
    (b"ok", (b"token", b"cookie")),
    (b"uth", (b"authorization", b'auth"')),
)
# On little, one expression is faster; it looks for the rarer letters of the same stems.
# It must begin with letters, not look-behinds, or the search tries it at every byte.
ANY_STEM = re.compile(
    rb"""k(?:ey(?![a-z_-])(?<=[a-z_-]key)|en(?<=token)|ie(?<=cookie))|cre(?:d|t(?<=secret))|"""
    rb"""ss(?<=pass|sess)|wd(?<=pwd)|zation(?<=authorization)|uth"(?<=auth")"""
)
# "key", "keys", "keyword" and "monkeys" are everywhere and name nothing: a secret key is some kind of key.
_KEY = re.compile(rb"key(?![a-z_-])(?<=[a-z_-]key)")
FEW_BYTES = 600
# End the search on hostile input: how many names with a stem are judged for each stem, and for how many
# of a whole value's names it is looked what they hold. Ordinary values of 64 KB have a few hundred.
_MOST_NAMES = 2000
_MOST_VALUES = 600

_QUOTED = re.compile(
    # The name's own quote (escaped where JSON stands in JSON) or bracket; for PHP also the length.
    rb"""(?:\\{0,7}["'])?\]?(?:\s{0,8}(?:=>|:=|[:=])\s{0,8}|;s:\d{1,5}:)(?:\\u0022|[bru]?\\{0,7}["'])"""
    rb"""([^"'\\\r\n]{1,200})"""
)
_BARE = re.compile(
    rb"""(?:\\{0,7}["'])?(?:\]|%5[dD])?(?:\s{0,8}(?:=>|:=|[:=])[ \t]{0,8}|%3[dDaA](?:%20|%22|\+)?)"""
    rb"""(?:(?:[Bb]earer|[Tt]oken|[Bb]asic|[Bb]ot)[ ])?([^\s"'<>&;,()\[\]{}\\`]{1,200})"""
)
# Code that fetches a secret from where it is: a call or an index follows.
_EXPRESSION = re.compile(rb"[A-Za-z_$][\w.$]*", re.ASCII)
_MARKUP = re.compile(
    rb"""(?:["']?>|</(?:key|name)>\s{0,16}<(?:string|value)>)\s{0,16}([^<\s]{1,200})\s{0,16}</"""
)
# Strings of pickle 4 and 5, msgpack and BSON, each with its length in front.
_BINARY = re.compile(
    rb"\x94?(?:\x8c(?P<byte>.)|[CU](?P<short>.)|[XBT](?P<four>..)\x00\x00|[\xd9\xc4](?P<str8>.)"
    rb"|(?P<fix>[\xa0-\xbf])|[\xda\xc5](?P<big>..)|\x00(?P<bson>..)\x00\x00)",
    re.DOTALL,
)
# What may stand between a name and its value: any of the above, by its first byte.
_FOLLOWING = frozenset(b"\"'\\]%:=>;< \t\r\n\x00\x94\x8c") | frozenset(range(0xA0, 0xDB))
_SEPARATING = (b" ", b":", b"=", b"\t")
# What an old pickle puts between a name and its value.
_OLD_MEMO = re.compile(rb"(?:q.|r....)?", re.DOTALL)


def find_field(
    data: bytes, lowered: bytes, mask: bytes, *, skip: frozenset[str] = frozenset()
) -> tuple[str, int] | None:
    """Return the rule of the first named field that holds a secret, and where its name begins."""
    if is_old_pickle(data) and (found := _find_in_old_pickle(data, skip)):
        return found
    judged = [0]
    if len(data) > FEW_BYTES:
        for stem in (stem for shared, stems in _STEMS if shared in lowered for stem in stems):
            position, left = lowered.find(stem), _MOST_NAMES
            while position >= 0 and left and judged[0] < _MOST_VALUES:
                if found := _field_at(data, mask, position, skip, judged):
                    return found
                left -= 1
                position = lowered.find(stem, position + len(stem))
        if b"key" not in lowered:
            return None
    pattern = _KEY if len(data) > FEW_BYTES else ANY_STEM
    for match, _ in zip(pattern.finditer(lowered), range(_MOST_NAMES), strict=False):
        found = _field_at(data, mask, match.start(), skip, judged)
        if found or judged[0] >= _MOST_VALUES:
            return found
    return None


def _field_at(
    data: bytes, mask: bytes, position: int, skip: frozenset[str], judged: list[int]
) -> tuple[str, int] | None:
    """Judge the name around `position`, and the value beside it if the name is one that counts."""
    end = mask.find(b" ", position, position + MAX_NAME_BYTES)
    if end < 0:
        end = min(len(data), position + MAX_NAME_BYTES)
    following = data[end : end + 2]
    # Prose, which is full of such words: a stop or another word follows, and no value.
    if (
        not following
        or following[0] not in _FOLLOWING
        or (following[0] == 0x20 and following[1:] not in _SEPARATING)
    ):
        return None
    low = max(0, position - MAX_NAME_BYTES)
    begin = mask.rfind(b" ", low, position) + 1 or low
    # What is left of %5B or %22 in front of a name.
    if begin and data[begin - 1] == 0x25 and begin + 2 <= position:
        begin += 2
    kind = classify(data[begin:end])
    if kind == NONE or RULES[kind] in skip:
        return None
    judged[0] += 1
    return (RULES[kind], begin) if _has_secret_value(data, begin, end, kind) else None


def whole_value(data: bytes) -> bytes:
    """Return the string that a value consists of: as it is, in JSON's quotes, pickled or in msgpack."""
    if data[:1] == b"\x80" and len(data) < 600:
        # Past the protocol, and the frame of pickle 4 and later.
        start = 11 if data[2:3] == b"\x95" else 2
        return _sized(data, start)
    if data[:1] > b"\x9f" and (inside := _sized(data, 0)):
        return inside
    if data[:1] == b'"' and data[-1:] == b'"':
        return data[1:-1]
    return data


def _has_secret_value(data: bytes, begin: int, end: int, kind: int) -> bool:
    following = data[end : end + 1]
    if not following:
        return False
    if following in b"\x94\x8cCUXBT\x00" or following > b"\x9f":
        value = _sized(data, end)
        return bool(value) and shapes.looks_secret(value, kind)
    if match := _QUOTED.match(data, end):
        # What begins with a space is the text between two quotes that do not belong together.
        return match[1][0] != 0x20 and shapes.looks_secret(_without_scheme(match[1]), kind)
    if match := _BARE.match(data, end):
        # A comparison in code, or base64 that ends in "==".
        if match[1][0] == 0x3D:
            return False
        after = data[match.end() : match.end() + 1]
        if after and after in b"([{" and _EXPRESSION.fullmatch(match[1]):
            return False
        return shapes.looks_secret(match[1], kind)
    if begin and (data[begin - 1] in b"<:>." or following in b"\"'"):
        match = _MARKUP.match(data, end)
    return match is not None and shapes.looks_secret(match[1], kind)


def _without_scheme(value: bytes) -> bytes:
    """Return the credentials of ``Bearer abc``, and everything else as it is."""
    scheme, space, rest = value.partition(b" ")
    return rest if space and scheme.lower() in (b"bearer", b"token", b"basic", b"bot", b"apikey") else value


def _sized(data: bytes, position: int) -> bytes:
    """Return the string of pickle, msgpack or BSON at `position`, empty if there is none."""
    match = _BINARY.match(data, position)
    if match is None:
        return b""
    kind, length = match.lastgroup, match[match.lastgroup or 0]
    if kind == "fix":
        size = length[0] - 0xA0
    elif kind == "big":
        size = int.from_bytes(length, "big")
    else:
        size = int.from_bytes(length, "little")
    return data[match.end() : match.end() + min(size, shapes.MAX_VALUE_BYTES)].rstrip(b"\x00")


def _find_in_old_pickle(data: bytes, skip: frozenset[str]) -> tuple[str, int] | None:
    for begin, end in strings(data):
        if end - begin > MAX_NAME_BYTES:
            continue
        kind = classify(data[begin:end])
        if kind == NONE or RULES[kind] in skip:
            continue
        memo = _OLD_MEMO.match(data, end)
        value = _sized(data, memo.end() if memo else end)
        if value and shapes.looks_secret(value, kind):
            return RULES[kind], begin
    return None
