"""The three ways to protect a value; `envelope` has the header that says which one was used.

==== ==================== ========== ================================ ========
code suite                key label  what follows the header          overhead
==== ==================== ========== ================================ ========
0x11 XAES-256-GCM         value-aead nonce[24] | ciphertext | tag[16] 40 bytes
0x12 HMAC-SHA256/128      sign       tag[16] | the body, readable     16 bytes
0x13 AES-256-SIV          det-siv    siv[16] | ciphertext             16 bytes
0x14 reserved: committing
==== ==================== ========== ================================ ========

Laws of this file:

1. Pure: the nonce comes in. Every primitive is ``cryptography``'s, imported with the first object.
2. Nothing leaves `open` that was not authenticated; ``None`` says "not authentic" and nothing else.
3. Tags are compared by ``hmac.compare_digest`` only.
4. Each suite has a key of its own, derived with its label, so that none can speak for another.
5. No object shows or pickles its key, and threads may share each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hmac import compare_digest
from typing import TYPE_CHECKING, Literal, NoReturn, Protocol

from tenantkv.xaes import NONCE_BYTES, TAG_BYTES, XAES256GCM, double

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.hmac import HMAC as HMAC_

    from tenantkv.keyring import Key

Entropy = Callable[[int], bytes]
SuiteName = Literal["xaes", "siv", "sign"]

HEADER_BYTES = 7

CODES: dict[SuiteName, int] = {"xaes": 0x11, "sign": 0x12, "siv": 0x13}
NAMES: dict[int, SuiteName] = {code: name for name, code in CODES.items()}
# Beside the header, in bytes.
OVERHEADS: dict[SuiteName, int] = {"xaes": NONCE_BYTES + TAG_BYTES, "sign": TAG_BYTES, "siv": TAG_BYTES}

_SEALED_FROM = HEADER_BYTES + NONCE_BYTES
_SIGNED_FROM = HEADER_BYTES + TAG_BYTES


class Suite(Protocol):
    """What every suite does with a body and its associated data."""

    def seal(self, header: bytes, body: bytes, associated: bytes, entropy: Entropy) -> bytes:
        """Return the envelope: `header` and what follows it; ``entropy(n)`` gives n random bytes."""
        ...

    def open(self, blob: bytes, associated: bytes) -> bytes | None:
        """Return the body of an envelope of at least the shortest length; ``None`` if not authentic."""
        ...

    def seal_many(
        self, header: bytes, bodies: Sequence[bytes], associated: Sequence[bytes], entropy: Entropy
    ) -> list[bytes]:
        """Return the envelopes of bodies, each bound to its own associated data."""
        ...

    def open_each(self, blobs: Iterable[bytes], associated: Iterable[bytes]) -> Iterator[bytes | None]:
        """Yield what `open` returns for each, when it is asked for."""
        ...


class _Keyed:
    """Holds key material, and so is neither shown nor pickled."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is not pickled, since the pickle would hold its key")


class Xaes(_Keyed):
    """Seals under a random nonce: the same value never looks the same twice."""

    __slots__ = ("_aead",)

    def __init__(self, key: Key) -> None:
        self._aead = XAES256GCM(key.derive("value-aead", 32))

    def seal(self, header: bytes, body: bytes, associated: bytes, entropy: Entropy) -> bytes:
        """Return header, nonce, ciphertext and tag."""
        # Never from a buffer: after fork(2), two processes would take the same bytes from it.
        nonce = entropy(NONCE_BYTES)
        return header + nonce + self._aead.encrypt(nonce, body, associated)

    def open(self, blob: bytes, associated: bytes) -> bytes | None:
        """Return the body, or ``None``."""
        return self._aead.decrypt(blob[HEADER_BYTES:_SEALED_FROM], blob[_SEALED_FROM:], associated)

    def seal_many(
        self, header: bytes, bodies: Sequence[bytes], associated: Sequence[bytes], entropy: Entropy
    ) -> list[bytes]:
        """Return the envelopes of bodies, whose nonces are counted up from a random one."""
        return self._aead.encrypt_many(header, entropy(NONCE_BYTES), bodies, associated)

    def open_each(self, blobs: Iterable[bytes], associated: Iterable[bytes]) -> Iterator[bytes | None]:
        """Yield what `open` returns for each, when it is asked for."""
        # Cut out one by one: copies of many large ones at once take longer than opening them.
        pieces = ((blob[HEADER_BYTES:_SEALED_FROM], blob[_SEALED_FROM:]) for blob in blobs)
        return self._aead.decrypt_each(pieces, associated)


class Siv(_Keyed):
    """Seals without a nonce: equal values in equal places look equal, and tell that much."""

    __slots__ = ("_aead", "_invalid", "_nothing")

    def __init__(self, key: Key) -> None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV

        secret = key.derive("det-siv", 64)
        self._aead = AESSIV(secret)
        self._invalid = InvalidTag
        self._nothing = _EmptySiv(secret[:32])

    def seal(self, header: bytes, body: bytes, associated: bytes, entropy: Entropy) -> bytes:
        """Return header, synthetic nonce and ciphertext; no randomness is drawn."""
        if not body:
            return header + self._nothing.tag(associated)
        return header + self._aead.encrypt(body, [associated])

    def open(self, blob: bytes, associated: bytes) -> bytes | None:
        """Return the body, or ``None``."""
        sealed = blob[HEADER_BYTES:]
        if len(sealed) == TAG_BYTES:
            return b"" if compare_digest(self._nothing.tag(associated), sealed) else None
        try:
            return self._aead.decrypt(sealed, [associated])
        except self._invalid:
            return None

    def seal_many(
        self, header: bytes, bodies: Sequence[bytes], associated: Sequence[bytes], entropy: Entropy
    ) -> list[bytes]:
        """Return what `seal` returns for each."""
        return [self.seal(header, *each, entropy) for each in zip(bodies, associated, strict=True)]

    def open_each(self, blobs: Iterable[bytes], associated: Iterable[bytes]) -> Iterator[bytes | None]:
        """Yield what `open` returns for each, when it is asked for."""
        return map(self.open, blobs, associated)


class _EmptySiv(_Keyed):
    """AES-SIV of nothing (RFC 5297, 2.4), which OpenSSL before 3.5 cannot compute.

    https://github.com/pyca/cryptography/issues/10958: there ``AESSIV`` refuses empty data.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def tag(self, associated: bytes) -> bytes:
        """Return the 16 bytes that AES-SIV gives for no data and one piece of associated data."""
        chain = double(self._cmac(bytes(16))) ^ int.from_bytes(self._cmac(associated), "big")
        # Nothing, padded to a block, is a single bit in front.
        last = double(chain.to_bytes(16, "big")) ^ 1 << 127
        return self._cmac(last.to_bytes(16, "big"))

    def _cmac(self, data: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers.algorithms import AES
        from cryptography.hazmat.primitives.cmac import CMAC

        context = CMAC(AES(self._key))
        context.update(data)
        return context.finalize()


class Sign(_Keyed):
    """Leaves values readable and vouches for them.

    For values that other programs must read. It is no way to save time: half the cost of sealing for
    small values, the same at 10 KB (`benchmarks/seal.py`), and some microseconds either way.
    """

    __slots__ = ("_idle", "_new")

    def __init__(self, key: Key) -> None:
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.hmac import HMAC

        secret = key.derive("sign", 32)
        self._new: Callable[[], HMAC_] = lambda: HMAC(secret, SHA256())
        # Copying a context spares setting up the key. Contexts must not be used by two threads at
        # once, so each call takes one from here and puts it back (see `xaes`).
        self._idle: list[HMAC_] = []

    def seal(self, header: bytes, body: bytes, associated: bytes, entropy: Entropy) -> bytes:
        """Return header, tag and body; no randomness is drawn."""
        return header + self._tag(body, associated) + body

    def open(self, blob: bytes, associated: bytes) -> bytes | None:
        """Return the body, or ``None``."""
        body, tag = blob[_SIGNED_FROM:], blob[HEADER_BYTES:_SIGNED_FROM]
        return body if compare_digest(self._tag(body, associated), tag) else None

    def seal_many(
        self, header: bytes, bodies: Sequence[bytes], associated: Sequence[bytes], entropy: Entropy
    ) -> list[bytes]:
        """Return what `seal` returns for each."""
        tags = self._tags(bodies, associated)
        return [header + tag + body for tag, body in zip(tags, bodies, strict=True)]

    def open_each(self, blobs: Iterable[bytes], associated: Iterable[bytes]) -> Iterator[bytes | None]:
        """Yield what `open` returns for each, when it is asked for."""
        copy, is_equal = self._new().copy, compare_digest
        for blob, vouched in zip(blobs, associated, strict=True):
            body = blob[_SIGNED_FROM:]
            context = copy()
            context.update(vouched)
            context.update(body)
            yield body if is_equal(context.finalize()[:TAG_BYTES], blob[HEADER_BYTES:_SIGNED_FROM]) else None

    def _tag(self, body: bytes, associated: bytes) -> bytes:
        idle = self._idle
        try:
            keyed = idle.pop()
        except IndexError:
            keyed = self._new()
        context = keyed.copy()
        idle.append(keyed)
        # The associated data says its own length, so no other pair gives the same bytes.
        context.update(associated)
        context.update(body)
        return context.finalize()[:TAG_BYTES]

    def _tags(self, bodies: Sequence[bytes], associated: Sequence[bytes]) -> list[bytes]:
        keyed = self._new()
        tags: list[bytes] = []
        for body, vouched in zip(bodies, associated, strict=True):
            context = keyed.copy()
            context.update(vouched)
            context.update(body)
            tags.append(context.finalize()[:TAG_BYTES])
        return tags


MAKERS: dict[SuiteName, Callable[[Key], Suite]] = {"xaes": Xaes, "siv": Siv, "sign": Sign}
