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

from tenantkv.secrets import shapes
from tenantkv.secrets.formats_table import FORMATS, FRAMEWORK_HASHES, HASHES, MARKS, Format
from tenantkv.secrets.names import STRONG

IN_TOKEN = ord("x")
_GAP = b" "
_TOKEN_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
_MASK = bytes(IN_TOKEN if code in _TOKEN_LETTERS else 0x20 for code in range(256))
_RUN = b"x" * 20

# How far into a run a format may begin: a percent escape, a newline's "n" or a pickle's length byte can
# be glued to its front. \u0022 glues five.
_GLUED = (0, 1, 2, 5)


def _by_start() -> dict[bytes, tuple[Format, ...]]:
    rows: dict[bytes, list[Format]] = {}
    for row in FORMATS:
        for start in {start[:2] for start in row.starts}:
            rows.setdefault(start, []).append(row)
    return {start: tuple(found) for start, found in rows.items()}


_STARTS = _by_start()
_STARTING = frozenset(_STARTS)
# Formats of several runs: the longest one is found, and what stands before it tells.
_PRECEDED = tuple(row for row in FORMATS if not row.starts and row.before)
_PRECEDING = frozenset(b"./")

_URL_CREDENTIALS = re.compile(
    rb"://[^\s/?#@:\"'<>\\]{0,64}:([^\s/?#@\"'<>\\]{3,256})@(?!sha(?:256|512):)[\w\[%$-]", re.ASCII
)
_BEARER = re.compile(rb"[A-Za-z0-9._~+/%-]{16,512}")
_BASIC = re.compile(rb"[A-Za-z0-9+/]{6,512}={0,2}")


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
    found = _find_run(data, mask, skip) if _RUN in mask else None
    if found is None:
        found = _find_mark(data, skip)
    if found is None and b"@" in data:
        found = _find_url_credentials(data)
    if found is None and b"$" in data:
        found = _find_hash(data)
    if found is None:
        found = _find_authorization(data, lowered)
    return None if found is None or found[0] in skip else found


def _find_run(data: bytes, mask: bytes, skip: frozenset[str]) -> tuple[str, int] | None:
    position = mask.find(_RUN)
    while position >= 0:
        if (
            data[position : position + 2] in _STARTING
            or data[position + 1 : position + 3] in _STARTING
            or data[position + 2 : position + 4] in _STARTING
            or data[position + 5 : position + 7] in _STARTING
        ):
            for glued in _GLUED:
                at = position + glued
                for row in _STARTS.get(data[at : at + 2], ()):
                    if row.rule not in skip and _is_format(row, data, at):
                        return row.rule, at
        if position and data[position - 1] in _PRECEDING:
            for row in _PRECEDED:
                if row.rule not in skip and _is_format(row, data, position):
                    return row.rule, position
        end = mask.find(_GAP, position)
        if end < 0:
            return None
        position = mask.find(_RUN, end)
    return None


def _is_format(row: Format, data: bytes, position: int) -> bool:
    match = _compiled(row.pattern).match(data, position)
    if match is None:
        return False
    # The placeholders of tutorials.
    if shapes.is_placeholder(match[0][:256]):
        return False
    return not row.before or _compiled(row.before + rb"\Z").search(data[max(0, position - 48) : position]) is not None


def _find_mark(data: bytes, skip: frozenset[str]) -> tuple[str, int] | None:
    for rule, mark, pattern, _ in MARKS:
        position = data.find(mark) if rule not in skip else -1
        while position >= 0:
            if _compiled(pattern).match(data, position):
                return rule, position
            position = data.find(mark, position + len(mark))
    return None


def _find_url_credentials(data: bytes) -> tuple[str, int] | None:
    position = data.find(b"@")
    while position >= 0:
        start = data.rfind(b"://", max(0, position - 330), position)
        if start >= 0:
            match = _URL_CREDENTIALS.match(data, start)
            if match and not shapes.is_placeholder(match[1]):
                return "url-credentials", start
        position = data.find(b"@", position + 1)
    return None


def _find_hash(data: bytes) -> tuple[str, int] | None:
    match = _compiled(HASHES).search(data)
    if match is None and (b"pbkdf2" in data or b"scrypt" in data):
        match = _compiled(FRAMEWORK_HASHES).search(data)
    return ("password-hash", match.start()) if match else None


def _find_authorization(data: bytes, lowered: bytes) -> tuple[str, int] | None:
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
