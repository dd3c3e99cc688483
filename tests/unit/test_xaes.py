"""XAES-256-GCM against its specification's vectors (https://c2sp.org/XAES-256-GCM)."""

from __future__ import annotations

import copy
import hashlib
import pickle
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantkv import xaes
from tenantkv.errors import ConfigurationError
from tenantkv.xaes import XAES256GCM, double
from tests import second_envelope as second

NONCE = b"ABCDEFGHIJKLMNOPQRSTUVWX"
VECTORS = [
    (b"\x01" * 32, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
    (
        b"\x03" * 32,
        b"c2sp.org/XAES-256-GCM",
        "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
    ),
]
# Of the specification: what all ciphertexts of that many random inputs hash to.
ACCUMULATED = {
    10_000: "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939",
    1_000_000: "2163ae1445985a30b60585ee67daa55674df06901b890593e824b8a7c885ab15",
}


class Stream:
    """SHAKE-128 of nothing, read bit by bit (``hashlib`` only gives it from the start)."""

    def __init__(self, length: int) -> None:
        self._data = hashlib.shake_128().digest(length)
        self._at = 0

    def read(self, length: int) -> bytes:
        self._at += length
        assert self._at <= len(self._data)
        return self._data[self._at - length : self._at]

    def read_short(self) -> bytes:
        return self.read(self.read(1)[0])


@pytest.mark.parametrize(("key", "associated", "ciphertext"), VECTORS)
def test_vectors(key: bytes, associated: bytes, ciphertext: str) -> None:
    aead = XAES256GCM(key)
    assert aead.encrypt(NONCE, b"XAES-256-GCM", associated).hex() == ciphertext
    assert aead.decrypt(NONCE, bytes.fromhex(ciphertext), associated) == b"XAES-256-GCM"
    assert aead.decrypt(NONCE, bytes.fromhex(ciphertext), associated + b"x") is None


@pytest.mark.parametrize(
    ("block", "doubled"),
    [
        ("7298caa565031eadc6ce23d23ea66378", "e531954aca063d5b8d9c47a47d4cc6f0"),
        ("91c08762876dccf9ba204a33768fa5fe", "23810ec50edb99f374409466ed1f4b7b"),
    ],
)
def test_doubling(block: str, doubled: str) -> None:
    assert double(bytes.fromhex(block)) == int(doubled, 16)


@pytest.mark.parametrize(
    "iterations", [10_000, pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_accumulated(iterations: int) -> None:
    # Each input has at most 32 + 24 + 1 + 255 + 1 + 255 bytes, and 312 on average.
    stream = Stream(iterations * 330 + 1000)
    hashed = hashlib.shake_128()
    for _ in range(iterations):
        key, nonce, data, associated = (
            stream.read(32),
            stream.read(24),
            stream.read_short(),
            stream.read_short(),
        )
        aead = XAES256GCM(key)
        sealed = aead.encrypt(nonce, data, associated)
        hashed.update(sealed)
        assert aead.decrypt(nonce, sealed, associated) == data
    assert hashed.hexdigest(32) == ACCUMULATED[iterations]


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=24, max_size=24), st.binary(), st.binary())
def test_the_second_implementation_agrees(key: bytes, nonce: bytes, data: bytes, associated: bytes) -> None:
    sealed = second.xaes_encrypt(key, nonce, data, associated)
    aead = XAES256GCM(key)
    assert aead.encrypt(nonce, data, associated) == sealed
    assert aead.decrypt(nonce, sealed, associated) == data


@pytest.mark.parametrize("length", [0, 12, 23, 25])
def test_a_nonce_of_another_length_is_refused(length: int) -> None:
    aead = XAES256GCM(bytes(32))
    with pytest.raises(ConfigurationError, match="24"):
        aead.encrypt(bytes(length), b"", b"")
    with pytest.raises(ConfigurationError, match="24"):
        aead.decrypt(bytes(length), bytes(16), b"")


@pytest.mark.parametrize("key", [b"", bytes(16), bytes(31), bytes(33), "x" * 32])
def test_a_key_of_another_length_is_refused(key: bytes) -> None:
    with pytest.raises(ConfigurationError, match="32"):
        XAES256GCM(key)


@pytest.mark.parametrize("length", range(16))
def test_less_than_a_tag_does_not_decrypt(length: int) -> None:
    assert XAES256GCM(bytes(32)).decrypt(NONCE, bytes(length), b"") is None


def test_it_is_neither_shown_nor_pickled() -> None:
    aead = XAES256GCM(b"\x42" * 32)
    assert repr(aead) == "<XAES256GCM>"
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            take(aead)


def in_threads(count: int, work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_threads_may_share_it() -> None:
    aead, wrong = XAES256GCM(bytes(32)), []

    def work(number: int) -> None:
        for turn in range(2000):
            nonce = number.to_bytes(12, "big") + turn.to_bytes(12, "big")
            if aead.decrypt(nonce, aead.encrypt(nonce, b"x", b"a"), b"a") != b"x":
                wrong.append(nonce)

    in_threads(8, work)
    assert wrong == []


class TestRecentKeys:
    """Derived keys are kept for what is read again, and nobody else may have them kept."""

    def test_strangers_fill_nothing(self) -> None:
        aead, before = XAES256GCM(b"k" * 32), len(xaes._RECENT)
        sealed = aead.encrypt(NONCE, b"v", b"")
        for number in range(100):
            assert aead.decrypt(number.to_bytes(24, "big"), sealed, b"") is None
        assert len(xaes._RECENT) == before
        assert aead.decrypt(NONCE, sealed, b"") == b"v"
        # Under a key that is kept, and so without deriving it.
        assert aead.decrypt(NONCE, sealed[:-1] + bytes([sealed[-1] ^ 1]), b"") is None
        assert aead.decrypt(NONCE[:-1] + b"-", sealed, b"") is None
        assert aead.decrypt(NONCE, sealed, b"x") is None

    def test_a_kept_key_is_no_other_tenants(self) -> None:
        one, other = XAES256GCM(b"k" * 32), XAES256GCM(b"K" * 32)
        sealed = one.encrypt(NONCE, b"v", b"")
        assert one.decrypt(NONCE, sealed, b"") == b"v"
        assert other.decrypt(NONCE, sealed, b"") is None
        assert other.decrypt(NONCE, other.encrypt(NONCE, b"w", b""), b"") == b"w"
        assert one.decrypt(NONCE, sealed, b"") == b"v"

    def test_it_is_bounded_whatever_many_tenants_there_are(self) -> None:
        for number in range(2000):
            aead = XAES256GCM(number.to_bytes(32, "big"))
            nonce = number.to_bytes(24, "little")
            assert aead.decrypt(nonce, aead.encrypt(nonce, b"%d" % number, b""), b"") == b"%d" % number
            assert len(xaes._RECENT) <= 400 and len(xaes._RECENT._order) <= 400
        with pytest.raises(ConfigurationError):
            aead.decrypt(NONCE[:-1], b"", b"")

    def test_threads_share_a_key(self) -> None:
        aead = XAES256GCM(b"k" * 32)
        values = [bytes([number]) * 40_000 for number in range(8)]
        sealed = [
            aead.encrypt(NONCE[:12] + bytes([number]) * 12, value, b"") for number, value in enumerate(values)
        ]
        wrong: list[int] = []

        def read(number: int) -> None:
            nonce = NONCE[:12] + bytes([number]) * 12
            for _ in range(300):
                if aead.decrypt(nonce, sealed[number], b"") != values[number]:
                    wrong.append(number)

        in_threads(8, read)
        assert wrong == []

    def test_threads_that_keep_keys_at_a_time(self) -> None:
        aead = XAES256GCM(b"k" * 32)
        nonces = [number.to_bytes(12, "big") + bytes(12) for number in range(1500)]
        sealed = [(nonce, aead.encrypt(nonce, nonce, b"")) for nonce in nonces]
        wrong: list[bytes] = []

        def read(_: int) -> None:
            wrong.extend(nonce for nonce, blob in sealed if aead.decrypt(nonce, blob, b"") != nonce)

        in_threads(4, read)
        # A thread that is at it may be one ahead.
        assert wrong == [] and len(xaes._RECENT) <= 404
