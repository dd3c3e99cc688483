"""Tier 1: known formats, by the rows of `formats_table.py`.

A regular expression of all formats would cost 50 ns a byte. Instead, every byte is mapped to "may stand in
a token" or not (one pass in C), `find` jumps from one run of 20 such bytes to the next, and the first two
bytes of a run choose the few patterns to try. Patterns are compiled when first needed, since most
programs never meet one.
"""

from __future__ import annotations

import base64
import binascii
import re
from functools import cache
from urllib.parse import unquote_to_bytes

from tenantkv.secrets import shapes
from tenantkv.secrets.formats_table import FORMATS, HASHES, MARKS, Format
from tenantkv.secrets.names import STRONG
from tenantkv.secrets.pickles import is_old_pickle, separated

IN_TOKEN = ord("x")
_GAP = b" "
_TOKEN_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
_MASK = bytes(IN_TOKEN if code in _TOKEN_LETTERS else 0x20 for code in range(256))
_RUN = b"x" * 20

# How far into a run a format may begin: a percent escape, a newline's "n" or a pickle's length byte can
# be glued to its front. \u0022 glues five.
_GLUED = (0, 1, 2, 5)
_GLUING = frozenset(b"%\\\x8c\xd9")
# What stands before the last part of a format of several runs.
_PRECEDING = frozenset(b"./")


def _by_start() -> dict[bytes, tuple[Format, ...]]:
    rows: dict[bytes, list[Format]] = {}
    for row in FORMATS:
        for start in {start[:2] for start in row.starts}:
            rows.setdefault(start, []).append(row)
    return {start: tuple(found) for start, found in rows.items()}


_STARTS = _by_start()
# Formats of several runs: the longest one is found, and what stands before it tells.
_PRECEDED = tuple(row for row in FORMATS if not row.starts)
_PRECEDING_WORDS = (b"ya29", b"SG", b"hvs", b"hvb", b"hvr", b"atlasv1")
_BEFORE_BYTES = 56

# Ends every loop over candidates, whatever the input; ordinary values stay far below.
_CANDIDATES = 4096

_URL_CREDENTIALS = re.compile(
    rb"://[^\s/?#@:\"'<>\\]{0,64}:([^\s/?#@\"'<>\\]{3,256})@(?!sha(?:256|512):)[\w\[%$-]", re.ASCII
)
_BEARER = re.compile(rb"[A-Za-z0-9._~+/%-]{16,512}")
_BASIC = re.compile(rb"[A-Za-z0-9+/]{6,512}={0,2}")


def has_format_run(data: bytes, mask: bytes) -> bool:
    """Say whether a run of `data` is, or ends, a known format."""
    return _RUN in mask and _find_run(data, mask, frozenset()) is not None


def mask_of(data: bytes) -> bytes:
    """Return `data` with every byte that may stand in a token as ``x`` and every other as a space."""
    return data.translate(_MASK)


def find_format(
    data: bytes, lowered: bytes, mask: bytes, *, skip: frozenset[str] = frozenset()
) -> tuple[str, int] | None:
    """Return the rule of the first known format in `data` and where it begins.

    Args:
        data: what to look at.
        lowered: the same in lower case.
        mask: `mask_of(data)`.
        skip: rules that do not count.
    """
    found = _find_plain(data, lowered, mask, skip)
    if found is None and b"%" in data and (b"%3a" in lowered or b"%2f%2f" in lowered or b"%24" in data):
        # A form or a query, in which colons, slashes and dollars are escaped.
        decoded = unquote_to_bytes(data)
        found = _find_plain(decoded, decoded.lower(), mask_of(decoded), skip)
        return (found[0], data.find(b"%")) if found else None
    if found is None and is_old_pickle(data):
        inside = separated(data)
        found = _find_plain(inside, inside.lower(), mask_of(inside), skip)
        return (found[0], 0) if found else None
    return found


def _find_plain(data: bytes, lowered: bytes, mask: bytes, skip: frozenset[str]) -> tuple[str, int] | None:
    found = _find_run(data, mask, skip) if _RUN in mask else None
    # The marks' strings are written out here, since this runs for every value.
    # One byte is found much sooner than two: "~" is in few values.
    if found is None and (b"-----BEGIN" in data or b"hook" in data or (b"~" in data and b"Q~" in data)):
        found = _find_mark(data, skip)
    if found is None and b"@" in data and b"://" in data and "url-credentials" not in skip:
        found = _find_url_credentials(data)
    if found is None and b"$" in data and "password-hash" not in skip:
        found = _find_hash(data)
    if found is None and "authorization-header" not in skip:
        found = _find_authorization(data, lowered)
    return found


def _find_run(data: bytes, mask: bytes, skip: frozenset[str]) -> tuple[str, int] | None:
    position = mask.find(_RUN)
    while position >= 0:
        # Whether anything is glued to its front shows in the byte before, or in CBOR's own.
        is_glued = data[position - 1] in _GLUING or data[position] == 0x78
        if is_glued or data[position : position + 2] in _STARTS:
            for at in _GLUED if is_glued else (0,):
                for row in _STARTS.get(data[position + at : position + at + 2], ()):
                    if row.rule not in skip and _is_format(row, data, position + at):
                        return row.rule, position + at
        if data[position - 1] in _PRECEDING and _has_preceding_word(data, mask, position):
            for row in _PRECEDED:
                if row.rule not in skip and _is_format(row, data, position):
                    return row.rule, position
        end = mask.find(_GAP, position)
        if end < 0:
            return None
        position = mask.find(_RUN, end)
    return None


def _has_preceding_word(data: bytes, mask: bytes, position: int) -> bool:
    """Tell cheaply whether the run at `position` may be the last part of a known format."""
    if data[position - 1 : position] == b"/":
        return data[max(0, position - 3) : position] == b"1//"
    begin = mask.rfind(_GAP, max(0, position - _BEFORE_BYTES), position - 1) + 1
    word = data[begin : position - 1]
    if word.endswith(_PRECEDING_WORDS) or (len(word) >= 17 and word[-17:-14] == b"pat"):
        return True
    return data.find(b"dp.", max(0, position - _BEFORE_BYTES), position) >= 0


def _is_format(row: Format, data: bytes, position: int) -> bool:
    match = _compiled(row.pattern).match(data, position)
    if match is None:
        return False
    if shapes.is_sample(match[0][:256]):
        return False
    if not row.before:
        return True
    before = data[max(0, position - _BEFORE_BYTES) : position]
    return _compiled_before(row.before).search(before) is not None


def _by_mark() -> dict[bytes, list[tuple[str, bytes]]]:
    marks: dict[bytes, list[tuple[str, bytes]]] = {}
    for rule, mark, pattern, _ in MARKS:
        marks.setdefault(mark, []).append((rule, pattern))
    return marks


_MARKS = _by_mark()


def _find_mark(data: bytes, skip: frozenset[str]) -> tuple[str, int] | None:
    for mark, patterns in _MARKS.items():
        position = data.find(mark)
        while position >= 0:
            for rule, pattern in patterns:
                if rule not in skip and _compiled(pattern).match(data, position):
                    return rule, position
            position = data.find(mark, position + len(mark))
    return None


def _find_url_credentials(data: bytes) -> tuple[str, int] | None:
    last, position = 0, data.find(b"@")
    for _ in range(_CANDIDATES):
        if position < 0:
            break
        start = data.rfind(b"://", max(last, position - 330), position)
        if start >= 0:
            match = _URL_CREDENTIALS.match(data, start)
            if match and not shapes.is_placeholder(match[1]):
                return "url-credentials", start
        last, position = position, data.find(b"@", position + 1)
    return None


def _find_hash(data: bytes) -> tuple[str, int] | None:
    match = _compiled(HASHES).search(data)
    return ("password-hash", match.start()) if match else None


def _find_authorization(data: bytes, lowered: bytes) -> tuple[str, int] | None:
    if b"bearer " not in lowered and b"basic " not in lowered:
        return None
    position = lowered.find(b"bearer ")
    while position >= 0:
        match = _BEARER.match(data, position + 7)
        if match and shapes.looks_secret(match[0], STRONG):
            return "authorization-header", position
        position = lowered.find(b"bearer ", position + 7)
    position = lowered.find(b"basic ")
    while position >= 0:
        match = _BASIC.match(data, position + 6)
        if match and _is_basic(match[0]):
            return "authorization-header", position
        position = lowered.find(b"basic ", position + 6)
    return None


def _is_basic(token: bytes) -> bool:
    """Tell whether this is the base64 of ``user:password``, and not the word after "basic"."""
    try:
        decoded = base64.b64decode(token + b"=" * (-len(token) % 4))
    except binascii.Error:
        return False
    return b":" in decoded[1:-1] and decoded.isascii() and decoded.decode().isprintable()


@cache
def _compiled(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern)


@cache
def _compiled_before(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(b"(?:" + pattern + rb")\Z")
