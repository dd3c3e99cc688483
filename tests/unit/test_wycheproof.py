"""Our primitives against Project Wycheproof's vectors: known answers, and forgeries that must not open.

`tests/vectors/wycheproof.json` is a selection of https://github.com/C2SP/wycheproof (Apache-2.0): AES-GCM
of 256-bit keys and 96-bit nonces, AES-SIV of 512-bit keys, HMAC-SHA256 cut to 128 bits, and AES-CMAC.
It has none of XAES-256-GCM, whose own vectors are in `test_xaes.py`; the GCM inside is tested here with the
key in the place of the derived one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from tenantkv.keyring import Key
from tenantkv.suites import HEADER_BYTES, Sign, Siv, _EmptySiv
from tenantkv.xaes import XAES256GCM

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "wycheproof.json").read_text())
HEADER = bytes(HEADER_BYTES)


def no_entropy(count: int) -> bytes:
    raise AssertionError("this suite draws no randomness")


def vectors(name: str) -> Any:
    rows = [
        {key: value if key in ("tcId", "result") else bytes.fromhex(value) for key, value in row.items()}
        for row in VECTORS[name]
    ]
    return pytest.mark.parametrize("row", rows, ids=lambda row: f"{row['tcId']}-{row['result']}")


class Given:
    """In the place of a keyring's key: what is derived from it is the vector's key."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret

    def derive(self, label: str, length: int) -> bytes:
        assert len(self.secret) == length
        return self.secret


def given_key(row: Any) -> Key:
    return cast(Key, Given(row["key"]))


class WithoutKDF(XAES256GCM):
    """XAES-256-GCM with the vector's key in the place of the one that it derives."""

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self.key = key

    def _derive(self, nonce: bytes) -> bytes:
        return self.key


@vectors("aes_gcm")
def test_aes_gcm(row: Any) -> None:
    aead = WithoutKDF(row["key"])
    nonce, sealed = bytes(12) + row["iv"], row["ct"] + row["tag"]
    if row["result"] == "valid":
        assert aead.encrypt(nonce, row["msg"], row["aad"]) == sealed
        assert aead.decrypt(nonce, sealed, row["aad"]) == row["msg"]
    else:
        assert aead.decrypt(nonce, sealed, row["aad"]) is None


@vectors("aes_siv")
def test_aes_siv(row: Any) -> None:
    suite = Siv(given_key(row))
    if row["result"] == "valid":
        assert suite.seal(HEADER, row["msg"], row["aad"], no_entropy) == HEADER + row["ct"]
        assert suite.open(HEADER + row["ct"], row["aad"]) == row["msg"]
    else:
        assert suite.open(HEADER + row["ct"], row["aad"]) is None


@vectors("hmac_sha256")
def test_hmac_sha256(row: Any) -> None:
    suite = Sign(given_key(row))
    # However the message is divided between the associated data and the body.
    for cut in {0, len(row["msg"]) // 2, len(row["msg"])}:
        associated, body = row["msg"][:cut], row["msg"][cut:]
        if row["result"] == "valid":
            assert suite.seal(HEADER, body, associated, no_entropy) == HEADER + row["tag"] + body
            assert suite.open(HEADER + row["tag"] + body, associated) == body
        else:
            assert suite.open(HEADER + row["tag"] + body, associated) is None


@vectors("aes_cmac")
def test_aes_cmac(row: Any) -> None:
    """Which AES-SIV of nothing is made of here, for OpenSSL before 3.5."""
    assert (_EmptySiv(row["key"])._cmac(row["msg"]) == row["tag"]) is (row["result"] == "valid")


def test_the_selection_says_what_it_is() -> None:
    assert VECTORS["license"].startswith("Apache-2.0") and "wycheproof" in VECTORS["source"]
    counts = {name: len(rows) for name, rows in VECTORS.items() if isinstance(rows, list)}
    assert counts == {"aes_gcm": 66, "aes_siv": 147, "hmac_sha256": 81, "aes_cmac": 102}
    for name in counts:
        assert {row["result"] for row in VECTORS[name]} == {"valid", "invalid"}
