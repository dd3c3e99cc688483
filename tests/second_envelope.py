"""A second implementation of the envelope, written from ``docs/formats.md`` by other means.

It shares no code with ``tenantkv`` and takes another road wherever there is one: HKDF, HMAC and PAE
from the standard library alone, the KDF of XAES by ``KBKDFCMAC``, GCM by its modes instead of
``AESGCM``, SIV from CMAC and counter mode (RFC 5297). Slow and plain.
"""

from __future__ import annotations

import hashlib
import hmac
import zlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFCMAC, CounterLocation
from cryptography.hazmat.primitives.kdf.kbkdf import Mode as KdfMode

XAES, SIGN, SIV = 0x11, 0x12, 0x13
ZLIB, EXPIRY = 1, 2


def hkdf(secret: bytes, label: bytes, length: int) -> bytes:
    key = hmac.new(b"tenantkv/v1", secret, hashlib.sha256).digest()
    block, result = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.new(key, block + label + bytes([counter]), hashlib.sha256).digest()
        result += block
    return result[:length]


def pae(*pieces: bytes) -> bytes:
    result = len(pieces).to_bytes(8, "little")
    for piece in pieces:
        result += len(piece).to_bytes(8, "little") + piece
    return result


def header(secret: bytes, suite: int, flags: int) -> bytes:
    return bytes([0xC1, suite, flags]) + hkdf(secret, b"key-id", 4)


def seal(
    secret: bytes,
    suite: int,
    value: bytes,
    *,
    kind: str,
    name: bytes,
    field: bytes = b"",
    expiry: int | None = None,
    nonce: bytes = b"",
    compress: bool = False,
) -> bytes:
    body = zlib.compress(value, 1) if compress else value
    if expiry is not None:
        body = expiry.to_bytes(4, "little") + body
    head = header(secret, suite, ZLIB * compress | EXPIRY * (expiry is not None))
    associated = pae(head, kind.encode(), name, field)
    if suite == XAES:
        return head + nonce + xaes_encrypt(hkdf(secret, b"value-aead", 32), nonce, body, associated)
    if suite == SIV:
        return head + siv_encrypt(hkdf(secret, b"det-siv", 64), body, associated)
    tag = hmac.new(hkdf(secret, b"sign", 32), associated + body, hashlib.sha256).digest()[:16]
    return head + tag + body


def open_(
    secret: bytes, blob: bytes, *, kind: str, name: bytes, field: bytes = b"", now: float = 0
) -> bytes | None:
    """Return the value, or ``None`` for everything that is not right."""
    if len(blob) < 23 or blob[1] not in (XAES, SIGN, SIV) or blob[2] > 3:
        return None
    head, rest = blob[:7], blob[7:]
    if head != header(secret, blob[1], blob[2]) or (blob[1] == SIV and blob[2]):
        return None
    associated = pae(head, kind.encode(), name, field)
    body: bytes | None
    if blob[1] == XAES:
        body = xaes_decrypt(hkdf(secret, b"value-aead", 32), rest[:24], rest[24:], associated)
    elif blob[1] == SIV:
        body = siv_decrypt(hkdf(secret, b"det-siv", 64), rest, associated)
    else:
        tag = hmac.new(hkdf(secret, b"sign", 32), associated + rest[16:], hashlib.sha256).digest()[:16]
        body = rest[16:] if hmac.compare_digest(tag, rest[:16]) else None
    if body is None:
        return None
    if blob[2] & EXPIRY:
        if now >= int.from_bytes(body[:4], "little"):
            return None
        body = body[4:]
    return zlib.decompress(body) if blob[2] & ZLIB else body


def xaes_key(key: bytes, nonce: bytes) -> bytes:
    kdf = KBKDFCMAC(
        algorithm=algorithms.AES,
        mode=KdfMode.CounterMode,
        length=32,
        rlen=2,
        llen=None,
        location=CounterLocation.BeforeFixed,
        label=None,
        context=None,
        # Label, a zero byte, context; the optional length at the end is left out.
        fixed=b"X\0" + nonce[:12],
    )
    return kdf.derive(key)


def xaes_encrypt(key: bytes, nonce: bytes, data: bytes, associated: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(xaes_key(key, nonce)), modes.GCM(nonce[12:])).encryptor()
    encryptor.authenticate_additional_data(associated)
    return encryptor.update(data) + encryptor.finalize() + encryptor.tag


def xaes_decrypt(key: bytes, nonce: bytes, data: bytes, associated: bytes) -> bytes | None:
    if len(data) < 16:
        return None
    mode = modes.GCM(nonce[12:], data[-16:])
    decryptor = Cipher(algorithms.AES(xaes_key(key, nonce)), mode).decryptor()
    decryptor.authenticate_additional_data(associated)
    try:
        return decryptor.update(data[:-16]) + decryptor.finalize()
    except InvalidTag:
        return None


def _cmac(key: bytes, data: bytes) -> bytes:
    context = CMAC(algorithms.AES(key))
    context.update(data)
    return context.finalize()


def _dbl(block: bytes) -> bytes:
    shifted = [(block[i] << 1 & 0xFF) | (block[i + 1] >> 7 if i < 15 else 0) for i in range(16)]
    if block[0] & 0x80:
        shifted[15] ^= 0x87
    return bytes(shifted)


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _s2v(key: bytes, associated: bytes, data: bytes) -> bytes:
    chain = _xor(_dbl(_cmac(key, bytes(16))), _cmac(key, associated))
    if len(data) >= 16:
        return _cmac(key, data[:-16] + _xor(data[-16:], chain))
    padded = data + b"\x80" + bytes(15 - len(data))
    return _cmac(key, _xor(_dbl(chain), padded))


def _ctr(key: bytes, siv: bytes, data: bytes) -> bytes:
    start = bytearray(siv)
    start[8] &= 0x7F
    start[12] &= 0x7F
    encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(start))).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def siv_encrypt(key: bytes, data: bytes, associated: bytes) -> bytes:
    siv = _s2v(key[:32], associated, data)
    return siv + _ctr(key[32:], siv, data)


def siv_decrypt(key: bytes, sealed: bytes, associated: bytes) -> bytes | None:
    data = _ctr(key[32:], sealed[:16], sealed[16:])
    return data if hmac.compare_digest(_s2v(key[:32], associated, data), sealed[:16]) else None
