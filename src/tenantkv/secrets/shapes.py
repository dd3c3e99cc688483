"""Does a value look like a secret? Asked only of values whose name says so (tier 2), or hints at it (3)."""

from __future__ import annotations

import re

from tenantkv.secrets.names import PASSWORD, WEAK

# A value is judged by what it starts with; no real secret needs more.
MAX_VALUE_BYTES = 128

_MINIMUM = {WEAK: 16, 2: 8, PASSWORD: 6}

_GRAPHIC = bytes(range(0x21, 0x7F))
_DIGITS = b"0123456789"
_LOWER = b"abcdefghijklmnopqrstuvwxyz"
_UPPER = _LOWER.upper()
# Left after these are taken away: the symbols that people put into passwords.
_IDENTIFIER = _DIGITS + _LOWER + _UPPER + b"_.-:/"

# Numbers, dates, versions, addresses, money: no letters but an exponent's or a zone's.
_NUMBER = re.compile(rb"[-+$]?[\d.,:/%+TZe_ -]+")
_UUID = re.compile(rb"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
# Words with separators or in camel case, and at most a small number at the end: "my-app-secret-2".
_WORD = rb"(?:[A-Z]?[a-z]{1,40}(?:[A-Z][a-z]{2,40}){0,4}|[A-Z]{2,40})"
_SLUG = re.compile(_WORD + rb"(?:[-_./:]" + _WORD + rb"){0,12}[-_./:]?\d{0,3}")
_EMAIL = re.compile(rb"[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){1,4}")
_ALGORITHM = re.compile(
    rb"(?:sha|md|aes|rsa|hmac|hs|rs|es|ps|ed|base|utf|pbkdf|argon|scrypt|bcrypt|rfc|iso|v|oauth|http|tls)"
    rb"[-_]?\d{1,5}(?:[-_][a-z0-9]{1,8}){0,3}",
    re.IGNORECASE,
)
_PATH = re.compile(rb"(?:~|\.{1,2}|[A-Za-z]:)?[/\\][\w.@+~/\\-]+")
_TEMPLATE = (b"${", b"$(", b"{{", b"{%", b"<", b"%(", b"%s", b"{", b"[", b"(", b"#{")
_PLACEHOLDERS = frozenset(
    b"password passwd password1 password123 passw0rd secret changeme changeit change-me undefined required "
    b"optional disabled enabled redacted filtered hidden masked unknown invalid string string1 default "
    b"username username1 token1 n/a none null true false pass pass1 pass123 pw pwd".split()
)
_PLACEHOLDER_PARTS = (
    *(b"example", b"placeholder", b"changeme", b"change_me", b"redacted", b"filtered", b"your_", b"your-"),
    *(b"yourpass", b"yourtoken", b"yoursecret", b"xxxx", b"****", b"....", b"____", b"replace", b"dummy"),
    *(b"insert_", b"insert-", b"sample_", b"todo"),
)


def looks_secret(value: bytes, kind: int) -> bool:
    """Tell whether the value of a name of that kind is one that must not be read by others."""
    value = value[:MAX_VALUE_BYTES].strip(b" \t\r\n")
    if len(value) < _MINIMUM[kind] or value.translate(None, _GRAPHIC):
        return False
    if _NUMBER.fullmatch(value) or is_placeholder(value) or _is_reference(value):
        return False
    if kind == PASSWORD:
        return _is_chosen(value)
    if _SLUG.fullmatch(value) and not _is_mixed(value):
        return False
    if kind == WEAK:
        return _is_random(value) and not _UUID.fullmatch(value)
    return _is_random(value) if len(value) >= 16 else _is_chosen(value)


def is_placeholder(value: bytes) -> bool:
    """Tell whether a value only stands where a secret would: ``changeme``, ``****``, ``${TOKEN}``."""
    lowered = value.lower()
    if lowered.startswith(_TEMPLATE) or lowered in _PLACEHOLDERS:
        return True
    if len(set(lowered)) <= 2:
        return True
    return any(part in lowered for part in _PLACEHOLDER_PARTS)


def is_sample(token: bytes) -> bool:
    """Tell whether something in a known format is the made-up one of a tutorial."""
    return b"EXAMPLE" in token or b"xxxxxxxx" in token.lower() or len(set(token)) <= 6


def is_token(value: bytes) -> bool:
    """Tell whether a whole value is one string of high entropy, as keys are (and many ids)."""
    if not 32 <= len(value) <= 256 or value.translate(None, _IDENTIFIER + b"+="):
        return False
    return len(set(value)) >= 18 and _is_mixed(value) and _has(value, _DIGITS) and not _PATH.fullmatch(value)


def _is_reference(value: bytes) -> bool:
    """Tell whether a value says where something is, or which kind it is."""
    if b"://" in value or _ALGORITHM.fullmatch(value) or _EMAIL.fullmatch(value):
        return True
    # Base64 may begin with a slash too.
    return _PATH.fullmatch(value) is not None and not (len(value) >= 32 and _is_mixed(value))


def _is_chosen(value: bytes) -> bool:
    """Tell whether a person or a generator could have made this password; no word, label or identifier."""
    core = value.rstrip(b":?!.,*;")
    if _has(core, _DIGITS) and len(core) > 3:
        return _has(core, _LOWER + _UPPER) or bool(core.translate(None, _IDENTIFIER))
    if _is_mixed(core):
        return True
    return bool(core.translate(None, _IDENTIFIER)) and _has(core, _LOWER + _UPPER)


def _is_random(value: bytes) -> bool:
    """Tell whether a value of 16 bytes or more has the variety of a generated one."""
    if len(set(value)) < 8:
        return False
    return _is_mixed(value) or (_has(value, _DIGITS) and _has(value, _LOWER + _UPPER))


def _is_mixed(value: bytes) -> bool:
    """Tell whether upper and lower case alternate as in random text, not as in ``camelCase``."""
    upper = len(value) - len(value.translate(None, _UPPER))
    lower = len(value) - len(value.translate(None, _LOWER))
    return upper >= 3 and lower >= 2 and upper * 5 >= len(value)


def _has(value: bytes, letters: bytes) -> bool:
    return len(value.translate(None, letters)) < len(value)
