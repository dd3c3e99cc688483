"""The envelope: a value that opens only where it was put, and only for its tenant.

Format v1; every integer is little-endian::

    0    0xC1       magic: in no UTF-8 text, and not how msgpack, pickle, JSON, zlib or gzip begin
    1    suite      how it is protected: `suites` has the table
    2    flags      bit 0: the payload is compressed (zlib); bit 1: it expires; all others are 0
    3-6  key id     which key of the keyring, as the four bytes of its eight digits
    7-   the suite's own form of the body, and its tag

    body            expiry[4]? | payload; the expiry is in seconds since 1970, good to 2106
    associated      PAE(header[7], kind, own name, field), authenticated and not stored

PAE (pre-authentication encoding, as in PASETO) puts the number of pieces, and the length of each in
front of it, as 8 bytes, so that no two lists of pieces give the same bytes.

Laws of this file:

1. Pure: the keyring, the clock and randomness come in from the shell.
2. Nothing of a body is looked at before the tag is verified; the header is trusted for nothing but
   finding the key, and is itself vouched for by the tag.
3. Every failure to open is the same `OpenError`, but for a key id that the keyring does not have
   (`UnknownKeyError`), which tells no more than the header says in clear.
4. There is no way to plaintext: what is no envelope does not open. Suites are allow-listed, so that
   "signed" cannot pass for "sealed".
5. Memory is bounded: too long is refused before work, and inflating stops at the limit.

``docs/formats.md`` and ``tests/vectors/envelope_v1.json`` freeze the format.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NoReturn

from tenantkv.envelope_header import (
    COMPRESSED,
    EXPIRES,
    Form,
    Kind,
    Place,
    read_header_unverified,
)
from tenantkv.errors import ConfigurationError, OpenError, SealError, UnknownKeyError
from tenantkv.inflating import inflate
from tenantkv.keyring import Key, Keyring
from tenantkv.suites import CODES, HEADER_BYTES, MAKERS, NAMES, OVERHEADS, Entropy, Suite, SuiteName

Mode = Literal["seal", "sign"]

LARGEST_VALUE_BYTES = 64 * 1024 * 1024

# No member, and no flags.
_USUAL = (False, 0)
_EXPIRY_BYTES = 4
_LATEST_EXPIRY = 2**32 - 1

# What each mode writes: for values, and for members that need equality.
_WRITTEN: dict[Mode, tuple[SuiteName, SuiteName]] = {"seal": ("xaes", "siv"), "sign": ("sign", "sign")}


class Sealer:
    """Seals and opens values with the keys of one keyring. Immutable; threads may share it.

    A value is bound to its kind, its key's own name and its field: anywhere else it does not open.
    Replaying an old envelope of the same place is possible until it expires.

    Args:
        keyring: its primary key seals; primary and active keys open.
        entropy: gives that many fresh random bytes, such as ``os.urandom``; never buffered.
        clock: seconds since 1970, such as ``time.time``.
        mode: ``"seal"`` encrypts; ``"sign"`` leaves values readable and vouches for them.
        suites: which suites open: ``"xaes"``, ``"siv"``, ``"sign"``. What the mode itself writes if
            left out; give more only while moving from one mode to the other.
        compress: whether values are compressed where that makes them smaller. The length of an
            envelope then tells about its content: never where a stranger has a part in the value.
        largest_bytes: of a value, before compression.

    Example:
        >>> import os, time
        >>> sealer = Sealer(Keyring.generate(bytes(range(96))), entropy=os.urandom, clock=time.time)
        >>> sealed = sealer.seal(b"42", kind="kv", name=b"answer")
        >>> sealer.open(sealed, kind="kv", name=b"answer")
        b'42'
    """

    __slots__ = (
        "_admitted",
        "_allowed",
        "_clock",
        "_compress",
        "_entropy",
        "_keys",
        "_largest",
        "_longest",
        "_outgoing",
        "_retired",
        "_suites",
        "keyring",
        "mode",
    )

    def __init__(
        self,
        keyring: Keyring,
        *,
        entropy: Entropy,
        clock: Callable[[], float],
        mode: Mode = "seal",
        suites: Iterable[SuiteName] | None = None,
        compress: bool = False,
        largest_bytes: int = LARGEST_VALUE_BYTES,
    ) -> None:
        self._allowed = _check_suites(mode, suites)
        if not 1 <= largest_bytes <= LARGEST_VALUE_BYTES:
            raise ConfigurationError(f"largest_bytes is a number from 1 to {LARGEST_VALUE_BYTES}")
        self.keyring = keyring
        self.mode: Mode = mode
        self._entropy = entropy
        self._clock = clock
        self._compress = compress
        self._largest = largest_bytes
        self._longest = largest_bytes + HEADER_BYTES + max(OVERHEADS.values()) + _EXPIRY_BYTES
        self._keys = {key.id: key for key in keyring.keys if key.state != "retired"}
        self._retired = frozenset(key.id for key in keyring.keys if key.state == "retired")
        # Filled as they are needed, since deriving keys costs more than sealing. Two threads that
        # make the same entry make equal ones. Bounded: only headers of our own keys get in.
        self._suites: dict[tuple[str, SuiteName], Suite] = {}
        self._admitted: dict[bytes, Form] = {}
        self._outgoing: dict[tuple[bool, int], Form] = {}

    def seal(
        self,
        value: bytes,
        *,
        kind: Kind,
        name: bytes,
        field: bytes = b"",
        expires: float | None = None,
        compress: bool | None = None,
    ) -> bytes:
        """Return `value` in an envelope that opens only for this kind, name and field.

        Args:
            value: at most ``largest_bytes``.
            kind: what it is part of.
            name: the key's own name, or what else stays the same while the value moves.
            field: of a hash or stream; empty is the same as none.
            expires: when it stops opening, in seconds since 1970, rounded up to a whole second.
            compress: overrides the sealer's own setting; ``False`` for whatever is secret.

        Raises:
            SealError: the value is not bytes or too long, or ``expires`` lies in the past.
            ConfigurationError: an unknown kind, or a name or field that is not bytes.
        """
        body, flags = value, 0
        if compress is None:
            compress = self._compress
        if type(value) is not bytes or len(value) > self._largest or expires is not None or compress:
            body, flags = self._fold(value, expires, compress, (kind, name, field))
        form = self._outgoing.get((False, flags)) or self._make_outgoing(False, flags)
        return form.suite.seal(form.header, body, form.associate(kind, name, field), self._entropy)

    def seal_usual(self, value: bytes, kind: Kind, name: bytes) -> bytes:
        """Return what `seal` returns without a field, an expiry and compression; raises as it does."""
        form = self._outgoing.get(_USUAL) or self._make_outgoing(*_USUAL)
        if type(value) is not bytes or len(value) > self._largest:
            value = self._check_value(value, (kind, name, b""))
        return form.suite.seal(form.header, value, form.associate(kind, name, b""), self._entropy)

    def seal_page(self, values: Sequence[bytes], kind: Kind, names: Sequence[bytes]) -> list[bytes]:
        """Return values of several names in envelopes; as `seal_usual`, in less time for each."""
        largest = self._largest
        if any(type(value) is not bytes or len(value) > largest for value in values):
            return [self.seal_usual(value, kind, name) for value, name in zip(values, names, strict=True)]
        form = self._outgoing.get(_USUAL) or self._make_outgoing(*_USUAL)
        return form.suite.seal_many(form.header, values, form.associate_names(kind, names), self._entropy)

    def seal_many(
        self, values: Sequence[bytes], *, kind: Kind, name: bytes, fields: Sequence[bytes]
    ) -> list[bytes]:
        """Return values of one name in envelopes, each for its own field; raises as `seal` does.

        Takes a third of the time that `seal` takes for each.
        """
        largest = self._largest
        if self._compress or any(type(value) is not bytes or len(value) > largest for value in values):
            each = zip(values, fields, strict=True)
            return [self.seal(value, kind=kind, name=name, field=field) for value, field in each]
        form = self._outgoing.get((False, 0)) or self._make_outgoing(False, 0)
        return form.suite.seal_many(
            form.header, values, form.associate_many(kind, name, fields), self._entropy
        )

    def seal_member(self, value: bytes, *, kind: Kind, name: bytes, field: bytes = b"") -> bytes:
        """Return `value` in the one envelope that it has in this place under the primary key.

        For members of sets and sorted sets, fields of hashes, and whatever the server must find
        again. Equal members look equal, which tells how often each occurs; it neither expires nor
        is compressed. After a rotation the same member has another envelope.

        Raises:
            SealError: the value is not bytes or too long.
            ConfigurationError: an unknown kind, or a name or field that is not bytes.
        """
        if type(value) is not bytes or len(value) > self._largest:
            value = self._check_value(value, (kind, name, field))
        form = self._outgoing.get((True, 0)) or self._make_outgoing(True, 0)
        return form.suite.seal(form.header, value, form.associate(kind, name, field), self._entropy)

    def open(self, blob: bytes, *, kind: Kind, name: bytes, field: bytes = b"") -> bytes:
        """Return the value that was sealed for this kind, name and field.

        Raises:
            OpenError: it was changed, moved, never sealed, sealed by another suite, for another place
                or with a retired key, has expired, or is too long. It does not say which.
            UnknownKeyError: the keyring has no such key; reading it again may help, once.
            ConfigurationError: an unknown kind, or a name or field that is not bytes.
        """
        form = self._admitted.get(blob[:HEADER_BYTES]) if type(blob) is bytes else None
        if form is None:
            blob = _as_bytes(blob, (kind, name, field))
            form = self._admit(blob, (kind, name, field))
        associated = form.associate(kind, name, field)
        body: bytes | None = None
        if form.shortest <= len(blob) <= self._longest:
            body = form.suite.open(blob, associated)
            # From here on the body is authentic.
            if form.flags and body is not None:
                body = self._unfold(body, form.flags)
        if body is None:
            raise OpenError(kind, name, field)
        return body

    def open_many(
        self, blobs: Sequence[bytes], *, kind: Kind, name: bytes, fields: Sequence[bytes]
    ) -> list[bytes | None]:
        """Return what `open` returns for each; ``None`` says to ask `open` about that one.

        Quick if all have the same header, one that opened before, and neither expire nor are compressed;
        otherwise all are for `open`.
        """
        if (form := self._form_of_all(blobs)) is None:
            return [None] * len(blobs)
        return list(form.suite.open_each(blobs, form.associate_many(kind, name, fields)))

    def open_page(self, blobs: Sequence[bytes], kind: Kind, names: Sequence[bytes]) -> Iterator[bytes | None]:
        """Yield what `open_usual` returns for each, when it is asked for; quick if all have one header."""
        if (form := self._form_of_all(blobs)) is None:
            return (self.open_usual(blob, kind, name) for blob, name in zip(blobs, names, strict=True))
        return form.suite.open_each(blobs, form.associate_names(kind, names))

    def _form_of_all(self, blobs: Sequence[bytes]) -> Form | None:
        """Return the form of envelopes that have one header, met before and without flags, if they have."""
        form = self._admitted.get(blobs[0][:HEADER_BYTES]) if blobs else None
        if form is None or form.flags or {blob[:HEADER_BYTES] for blob in blobs} != {form.header}:
            return None
        lengths = set(map(len, blobs))
        return form if form.shortest <= min(lengths) and max(lengths) <= self._longest else None

    def open_usual(self, blob: bytes, kind: Kind, name: bytes) -> bytes | None:
        """Return what `open` returns, or ``None`` where that has to look: it says nothing of the envelope.

        For many at once: of envelopes without flags and field, under headers that were met before.

        Raises:
            ConfigurationError: as `open`.
        """
        form = self._admitted.get(blob[:HEADER_BYTES])
        if form is None or form.flags or not form.shortest <= len(blob) <= self._longest:
            return None
        return form.suite.open(blob, form.associate(kind, name, b""))

    def reseal(self, blob: bytes, *, kind: Kind, name: bytes, field: bytes = b"") -> bytes:
        """Return the value of an envelope, which opens here, in one of the primary key for the same place.

        Suite, expiry and compression stay, and so does the length.

        Raises:
            OpenError, UnknownKeyError, ConfigurationError: as `open`.
        """
        self.open(blob, kind=kind, name=name, field=field)
        # Once more, since the body holds the expiry too; authentic, as it opened.
        form = self._admitted[blob[:HEADER_BYTES]]
        body = form.suite.open(blob, form.associate(kind, name, field))
        header = form.header[:3] + bytes.fromhex(self.keyring.primary.id)
        new = self._admitted.get(header)
        if new is None:
            new = self._admitted[header] = self._make(NAMES[header[1]], form.flags, self.keyring.primary)
        assert body is not None
        return new.suite.seal(header, body, new.associate(kind, name, field), self._entropy)

    def is_outdated(self, blob: bytes) -> bool:
        """Say whether an envelope, **which opened**, was made by an older key or another suite."""
        header = read_header_unverified(blob)
        return header is None or (
            header.key_id != self.keyring.primary.id or header.suite not in _WRITTEN[self.mode]
        )

    def _fold(self, value: bytes, expires: float | None, compress: bool, place: Place) -> tuple[bytes, int]:
        """Return the body of a value that needs more than a copy, and the flags that tell of it."""
        body, flags = self._check_value(value, place), 0
        if compress:
            smaller = zlib.compress(body, 1)
            if len(smaller) < len(body):
                body, flags = smaller, COMPRESSED
        if expires is not None:
            body, flags = self._check_expiry(expires, place) + body, flags | EXPIRES
        return body, flags

    def _unfold(self, body: bytes, flags: int) -> bytes | None:
        """Return the payload of an authentic body, or ``None`` if it has expired or is no payload."""
        if flags & EXPIRES:
            if len(body) < _EXPIRY_BYTES or self._clock() >= int.from_bytes(body[:_EXPIRY_BYTES], "little"):
                return None
            body = body[_EXPIRY_BYTES:]
        if flags & COMPRESSED:
            return inflate(body, self._largest)
        return body

    def _check_value(self, value: object, place: Place) -> bytes:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise SealError(f"it is {type(value).__name__}, not bytes; encode it first", *place)
        value = bytes(value)
        if len(value) > self._largest:
            raise SealError(f"it has {len(value)} bytes, and at most {self._largest} are sealed", *place)
        return value

    def _check_expiry(self, expires: float, place: Place) -> bytes:
        # Rounded up, so that nothing expires before it was meant to; the server's TTL is finer.
        is_number = isinstance(expires, (int, float)) and math.isfinite(expires)
        second = math.ceil(expires) if is_number else -1
        if not self._clock() < second <= _LATEST_EXPIRY:
            raise SealError(
                "'expires' is not a time to come, in seconds since 1970 (the time now plus a TTL)", *place
            )
        return second.to_bytes(_EXPIRY_BYTES, "little")

    def _make_outgoing(self, is_member: bool, flags: int) -> Form:
        suite = _WRITTEN[self.mode][is_member]
        form = self._make(suite, flags, self.keyring.primary)
        self._outgoing[is_member, flags] = form
        return form

    def _admit(self, blob: bytes, place: Place) -> Form:
        header = read_header_unverified(blob)
        if header is None or header.suite not in self._allowed:
            raise OpenError(*place)
        key = self._keys.get(header.key_id)
        if key is None:
            if header.key_id in self._retired:
                raise OpenError(*place)
            raise UnknownKeyError(header.key_id, *place)
        form = self._make(header.suite, blob[2], key)
        self._admitted[form.header] = form
        return form

    def _make(self, name: SuiteName, flags: int, key: Key) -> Form:
        suite = self._suites.get((key.id, name))
        if suite is None:
            suite = self._suites[key.id, name] = MAKERS[name](key)
        return Form(name, flags, key, suite)

    def __repr__(self) -> str:
        return f"<Sealer {self.mode} {self.keyring.fingerprint} key={self.keyring.primary.id}>"

    def __copy__(self) -> Sealer:
        return self

    def __deepcopy__(self, memo: object) -> Sealer:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Sealer is not pickled, since the pickle would hold its keys")


def _check_suites(mode: Mode, suites: Iterable[SuiteName] | None) -> frozenset[SuiteName]:
    if mode not in _WRITTEN:
        raise ConfigurationError(f"mode is 'seal' or 'sign', not {mode!r}")
    written = frozenset(_WRITTEN[mode])
    if suites is None:
        return written
    allowed = frozenset(suites)
    unknown = sorted(map(str, allowed - CODES.keys()))
    if unknown:
        raise ConfigurationError(f"suites are {', '.join(sorted(CODES))}; {unknown[0]!r} is none")
    if not written <= allowed:
        missing = ", ".join(sorted(written - allowed))
        raise ConfigurationError(f"mode {mode!r} writes {missing}, which has to be among the suites")
    return allowed


def _as_bytes(blob: object, place: Place) -> bytes:
    if isinstance(blob, (bytes, bytearray, memoryview)):
        return bytes(blob)
    raise OpenError(*place)
