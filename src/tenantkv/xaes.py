"""XAES-256-GCM: AES-256-GCM with nonces long enough to be random (https://c2sp.org/XAES-256-GCM).

Every process of a tenant seals under one key without asking the others, so nonces must be random.
With the 96 bits of plain GCM a key would be used up after 2**32 values, which is weeks of a busy
cache; with 192 bits it never is. The first half of the nonce and the key give a key of the value's
own by the KDF of NIST SP 800-108r1 (counter mode, CMAC), which for these sizes is two AES blocks.

A batch draws one nonce and counts up in its second half. Its values share the derived key, which is most
of the work, and their nonces differ for certain; two batches meet only if their first halves do, which
are as long and as random as before, and then where they count.

Pure: the caller brings the nonce. All AES is ``cryptography``'s, imported with the first object,
since that costs 30 ms.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING, NoReturn

from tenantkv.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import CipherContext
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 24
TAG_BYTES = 16

# Derived keys that a process keeps, of 2.5 KB each.
_RECENT_AT_MOST = 400
_HALF = 12
_WRAP = (1 << 8 * _HALF) - 1
_TWICE = (1 << 128) | 1
# The two KDF messages without the nonce: counter 1 or 2 in 16 bits, the label "X", a zero byte.
_MESSAGES = bytes.fromhex("00015800") + bytes(12) + bytes.fromhex("00025800") + bytes(12)


class _Recent:
    """The derived keys of values that opened last, as what is read is mostly read again.

    Of all keys of the process, however many tenants it has. Only of what opened, so that no stranger fills
    it; one in it tells no more than the key that it was derived from.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, bytes], AESGCM] = {}
        # Their order. Each step is atomic, so threads may share both.
        self._order: deque[tuple[int, bytes]] = deque()
        self.get = self._kept.get

    def put(self, place: tuple[int, bytes], aead: AESGCM) -> None:
        """Keep a derived key, and let go of the oldest."""
        if place not in self._kept:
            self._order.append(place)
        self._kept[place] = aead
        if len(self._order) > _RECENT_AT_MOST:
            self._kept.pop(self._order.popleft(), None)

    def __len__(self) -> int:
        return len(self._kept)


_RECENT = _Recent()
# What tells the keys apart: an id of Python's comes again.
_numbers = count()


class XAES256GCM:
    """One key of XAES-256-GCM. Threads may share it; it is neither shown nor pickled.

    Args:
        key: 32 bytes.

    Example:
        >>> aead = XAES256GCM(bytes([1]) * 32)
        >>> sealed = aead.encrypt(b"ABCDEFGHIJKLMNOPQRSTUVWX", b"XAES-256-GCM", b"")
        >>> aead.decrypt(b"ABCDEFGHIJKLMNOPQRSTUVWX", sealed, b"")
        b'XAES-256-GCM'
    """

    __slots__ = ("_cipher", "_gcm", "_idle", "_invalid", "_masks", "_number")

    def __init__(self, key: bytes) -> None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if not isinstance(key, bytes) or len(key) != KEY_BYTES:
            raise ConfigurationError(f"a key of XAES-256-GCM has {KEY_BYTES} bytes")
        self._gcm = AESGCM
        self._invalid = InvalidTag
        # A KDF over single blocks of its own making, step 5 of the algorithm: nothing is encrypted
        # in ECB mode. (Linters warn of ECB; bandit calls it B305.)
        self._cipher = Cipher(algorithms.AES(key), modes.ECB())
        # Cipher contexts must not be used by two threads at once. Each call takes one from here and
        # puts it back; popping and appending are atomic, also without the GIL.
        self._idle: list[CipherContext] = []
        self._number = next(_numbers)
        zero = self._cipher.encryptor().update(bytes(16))
        self._masks = int.from_bytes(_MESSAGES, "big") ^ double(zero) * _TWICE

    def encrypt(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
        """Return the ciphertext of `data` and a tag of 16 bytes.

        Args:
            nonce: 24 bytes that were never used with this key before.
            data: the plaintext.
            associated: what the tag vouches for beside it.

        Raises:
            ConfigurationError: the nonce has another length.
        """
        return self._gcm(self._derive(nonce)).encrypt(nonce[_HALF:], data, associated)

    def decrypt(self, nonce: bytes, data: bytes, associated: bytes) -> bytes | None:
        """Return the plaintext, or ``None`` if any of the arguments is not what was encrypted."""
        place = self._number, nonce[:_HALF]
        known = _RECENT.get(place) if len(nonce) == NONCE_BYTES else None
        aead = self._gcm(self._derive(nonce)) if known is None else known
        try:
            opened: bytes = aead.decrypt(nonce[_HALF:], data, associated)
        except self._invalid:
            return None
        if known is None:
            _RECENT.put(place, aead)
        return opened

    def encrypt_many(
        self, head: bytes, nonce: bytes, data: Sequence[bytes], associated: Sequence[bytes]
    ) -> list[bytes]:
        """Return `head`, a nonce and what `encrypt` returns under it, for each piece of `data`.

        Args:
            head: what goes in front of each.
            nonce: 24 random bytes: the first one's nonce, from which the others' are counted up.
            data: the plaintexts.
            associated: what goes with each.

        Raises:
            ConfigurationError: the nonce has another length.
        """
        encrypt = self._gcm(self._derive(nonce)).encrypt
        head += nonce[:_HALF]
        start = int.from_bytes(nonce[_HALF:], "big")
        counts = [(at & _WRAP).to_bytes(_HALF, "big") for at in range(start, start + len(data))]
        return [
            head + count + encrypt(count, each, vouched)
            for count, each, vouched in zip(counts, data, associated, strict=True)
        ]

    def decrypt_each(
        self, pieces: Iterable[tuple[bytes, bytes]], associated: Iterable[bytes]
    ) -> Iterator[bytes | None]:
        """Yield what `decrypt` returns for each nonce and its data; quick for neighbours of one batch."""
        half, aead = b"", None
        for (nonce, data), vouched in zip(pieces, associated, strict=True):
            if aead is None or nonce[:_HALF] != half:
                # By the usual way, which remembers the key if this one opens.
                yield self.decrypt(nonce, data, vouched)
                half = nonce[:_HALF]
                aead = _RECENT.get((self._number, half))
                continue
            try:
                body: bytes | None = aead.decrypt(nonce[_HALF:], data, vouched)
            except self._invalid:
                body = None
            yield body

    def _derive(self, nonce: bytes) -> bytes:
        if len(nonce) != NONCE_BYTES:
            raise ConfigurationError(f"a nonce of XAES-256-GCM has {NONCE_BYTES} bytes")
        # Both blocks at once: the nonce's first half at the end of each, and the constants over it.
        blocks = (int.from_bytes(nonce[:_HALF], "big") * _TWICE ^ self._masks).to_bytes(32, "big")
        idle = self._idle
        try:
            context = idle.pop()
        except IndexError:
            context = self._cipher.encryptor()
        derived = context.update(blocks)
        idle.append(context)
        return derived

    def __repr__(self) -> str:
        return "<XAES256GCM>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an XAES256GCM is not pickled, since the pickle would hold its key")


def double(block: bytes) -> int:
    """Return twice a block in GF(2**128): the first subkey of CMAC (SP 800-38B, 6.1)."""
    number = int.from_bytes(block, "big") << 1
    return number ^ (1 << 128 | 0x87) if number >> 128 else number
