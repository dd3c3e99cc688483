"""The envelope: frozen vectors, a second implementation, and everything that must not open."""

from __future__ import annotations

import ast
import copy
import hashlib
import hmac
import itertools
import json
import os
import pickle
import random
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from hypothesis import given, settings
from hypothesis import strategies as st

import tenantkv
from tenantkv.envelope import Mode, Sealer
from tenantkv.envelope_header import KINDS, is_envelope_unverified, pae, read_header_unverified
from tenantkv.errors import (
    ConfigurationError,
    EnvelopeError,
    OpenError,
    PlaintextRefusedError,
    SealError,
    UnknownKeyError,
)
from tenantkv.keyring import Key, Keyring
from tenantkv.rotation import add_key, promote, retire
from tenantkv.suites import MAKERS, SuiteName
from tests import second_envelope as second

ENTROPY = bytes(range(96))
RING = Keyring.generate(ENTROPY)
NOW = 1_800_000_000.0
NONCE = bytes(range(24))
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "envelope_v1.json").read_text())
# Of the whole file: who changes a vector has to change this too, and then read what it says.
FROZEN = "9be6b575f1c87e23eb40997bccf072051783db1f494c163a704d2e52a5bce5a3"
CODES = {"xaes": second.XAES, "siv": second.SIV, "sign": second.SIGN}
EVERY_SUITE: tuple[SuiteName, ...] = ("xaes", "siv", "sign")


def sealer(
    ring: Keyring = RING, *, mode: Mode = "seal", nonce: bytes | None = None, **options: Any
) -> Sealer:
    entropy = os.urandom if nonce is None else lambda length: nonce[:length]
    return Sealer(ring, entropy=entropy, clock=options.pop("clock", lambda: NOW), mode=mode, **options)


def seal_by(suite: SuiteName, value: bytes, ring: Keyring = RING, **place: Any) -> bytes:
    """Seal with one of the three suites, through the sealer whose mode it is."""
    place = {"kind": "kv", "name": b"name"} | place
    if suite == "siv":
        return sealer(ring).seal_member(value, **place)
    return sealer(ring, mode="sign" if suite == "sign" else "seal").seal(value, **place)


def opener(suite: SuiteName, ring: Keyring = RING, **options: Any) -> Sealer:
    return sealer(ring, mode="sign" if suite == "sign" else "seal", **options)


def is_refused(open_: Sealer, blob: bytes, **place: Any) -> bool:
    place = {"kind": "kv", "name": b"name"} | place
    try:
        open_.open(blob, **place)
    except OpenError as error:
        assert type(error) in (OpenError, UnknownKeyError)
        assert error.__cause__ is None and (error.__context__ is None or error.__suppress_context__)
        return True
    return False


class TestFrozenVectors:
    def test_the_file_has_not_changed(self) -> None:
        text = (Path(__file__).parents[1] / "vectors" / "envelope_v1.json").read_bytes()
        assert hashlib.sha256(text).hexdigest() == FROZEN

    @pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["what"])
    def test_sealing_gives_these_bytes(self, vector: dict[str, Any]) -> None:
        ring = self._ring(vector)
        place = self._place(vector)
        nonce, value = bytes.fromhex(vector["nonce"]), bytes.fromhex(vector["value"])
        maker = opener(vector["suite"], ring, nonce=nonce, clock=lambda: 0.0)
        if vector["suite"] == "siv":
            sealed = maker.seal_member(value, **place)
        else:
            sealed = maker.seal(value, **place, expires=vector["expires"])
        assert sealed.hex() == vector["envelope"]

    @pytest.mark.parametrize(
        "vector", VECTORS["vectors"] + VECTORS["opens_only"], ids=lambda vector: vector["what"]
    )
    def test_these_bytes_open(self, vector: dict[str, Any]) -> None:
        ring = self._ring(vector)
        place = self._place(vector)
        blob, value = bytes.fromhex(vector["envelope"]), bytes.fromhex(vector["value"])
        assert opener(vector["suite"], ring).open(blob, **place) == value
        assert second.open_(ring.primary.secret, blob, **place, now=NOW) == value

    def test_every_suite_is_among_them(self) -> None:
        assert {vector["suite"] for vector in VECTORS["vectors"]} == set(MAKERS)

    @staticmethod
    def _ring(vector: dict[str, Any]) -> Keyring:
        ring = Keyring.generate(bytes.fromhex(VECTORS["keyring_entropy"]))
        return ring.child(vector["child"]) if vector["child"] else ring

    @staticmethod
    def _place(vector: dict[str, Any]) -> dict[str, Any]:
        return {
            "kind": vector["kind"],
            "name": bytes.fromhex(vector["name"]),
            "field": bytes.fromhex(vector["field"]),
        }


class TestSecondImplementation:
    @given(
        suite=st.sampled_from(EVERY_SUITE),
        value=st.binary(max_size=300),
        kind=st.sampled_from(KINDS),
        name=st.binary(max_size=50),
        field=st.binary(max_size=20),
        expiry=st.none() | st.integers(int(NOW) + 1, 2**32 - 1),
        compress=st.booleans(),
        secret=st.binary(min_size=32, max_size=32),
        nonce=st.binary(min_size=24, max_size=24),
    )
    def test_both_make_and_open_the_same(
        self, suite: SuiteName, value: bytes, secret: bytes, expiry: int | None, compress: bool, **place: Any
    ) -> None:
        nonce = place.pop("nonce")
        ring = Keyring("p" * 20, bytes(32), (Key.from_secret(secret, state="primary"),))
        maker = opener(suite, ring, nonce=nonce)
        if suite == "siv":
            expiry, compress = None, False
            sealed = maker.seal_member(value, **place)
        else:
            sealed = maker.seal(value, **place, expires=expiry, compress=compress)
            compress = len(zlib.compress(value, 1)) < len(value) and compress
        other = second.seal(
            secret, CODES[suite], value, **place, expiry=expiry, nonce=nonce, compress=compress
        )
        assert sealed == other
        assert maker.open(other, **place) == value
        assert second.open_(secret, sealed, **place, now=NOW) == value

    def test_empty_members_are_what_aes_siv_gives(self) -> None:
        # We compute these ourselves, as OpenSSL before 3.5 cannot.
        secret, associated = RING.primary.derive("det-siv", 64), pae(b"a", b"b")
        try:
            theirs = AESSIV(secret).encrypt(b"", [associated])
        except ValueError:
            pytest.skip("this OpenSSL cannot")
        assert MAKERS["siv"](RING.primary).seal(b"", b"", associated, os.urandom) == theirs


class TestPae:
    def test_vectors_of_paseto(self) -> None:
        assert pae() == bytes(8)
        assert pae(b"") == b"\1" + bytes(15)
        assert pae(b"", b"") == b"\2" + bytes(23)
        assert pae(b"Paragon") == b"\1" + bytes(7) + b"\7" + bytes(7) + b"Paragon"
        assert pae(b"Paragon", b"Initiative") == (
            b"\2" + bytes(7) + b"\7" + bytes(7) + b"Paragon" + b"\n" + bytes(7) + b"Initiative"
        )

    @given(st.lists(st.binary(max_size=12), max_size=5), st.lists(st.binary(max_size=12), max_size=5))
    def test_it_is_injective(self, one: list[bytes], other: list[bytes]) -> None:
        assert (pae(*one) == pae(*other)) == (one == other)

    @given(st.binary(max_size=30), st.integers(0, 30), st.integers(0, 30), st.binary(max_size=8))
    def test_where_pieces_end_matters(self, joined: bytes, cut: int, other_cut: int, body: bytes) -> None:
        one, other = (joined[:cut], joined[cut:]), (joined[:other_cut], joined[other_cut:])
        assert (pae(*one) + body == pae(*other) + body) == (one == other)

    @given(st.sampled_from(KINDS), st.binary(max_size=300), st.binary(max_size=300))
    def test_the_prepared_form_is_the_plain_one(self, kind: Any, name: bytes, field: bytes) -> None:
        sealed = seal_by("sign", b"v", kind=kind, name=name, field=field)
        key = RING.primary.derive("sign", 32)
        associated = second.pae(sealed[:7], kind.encode(), name, field)
        assert sealed[7:23] == hmac.new(key, associated + b"v", "sha256").digest()[:16]


class TestRoundTrip:
    @pytest.mark.parametrize("suite", EVERY_SUITE)
    @pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 100, 10_000, 10_000_000])
    def test_every_size(self, suite: SuiteName, size: int) -> None:
        value = os.urandom(size)
        sealed = seal_by(suite, value)
        assert opener(suite).open(sealed, kind="kv", name=b"name") == value
        assert len(sealed) == size + (47 if suite == "xaes" else 23)

    @pytest.mark.parametrize("kind", KINDS)
    def test_every_kind(self, kind: Any) -> None:
        box = sealer()
        assert box.open(box.seal(b"v", kind=kind, name=b"n"), kind=kind, name=b"n") == b"v"
        assert box.open(box.seal_member(b"v", kind=kind, name=b"n"), kind=kind, name=b"n") == b"v"

    def test_buffers_are_taken_as_bytes(self) -> None:
        box = sealer()
        for value in (bytearray(b"abc"), memoryview(b"abc"), memoryview(b"_abc_")[1:4]):
            sealed = box.seal(value, kind="kv", name=bytearray(b"n"))  # type: ignore[arg-type]
            for blob in (sealed, bytearray(sealed), memoryview(sealed)):
                assert box.open(blob, kind="kv", name=b"n", field=bytearray()) == b"abc"  # type: ignore[arg-type]

    def test_the_sealed_form_does_not_contain_the_value(self) -> None:
        value = b"a secret of thirty-two characters"
        assert value not in seal_by("xaes", value) and value not in seal_by("siv", value)
        assert value in seal_by("sign", value)

    def test_nonces_never_repeat(self) -> None:
        box = sealer()
        seen = {box.seal(b"", kind="kv", name=b"")[7:31] for _ in range(100_000)}
        assert len(seen) == 100_000

    def test_entropy_is_asked_for_each_value(self) -> None:
        # A buffer of random bytes would be the same in two processes after fork(2).
        asked: list[int] = []

        def entropy(length: int) -> bytes:
            asked.append(length)
            return os.urandom(length)

        box = Sealer(RING, entropy=entropy, clock=lambda: NOW)
        for _ in range(3):
            box.seal(b"", kind="kv", name=b"")
        assert asked == [24, 24, 24]

    def test_entropy_of_another_length_is_noticed(self) -> None:
        box = Sealer(RING, entropy=lambda length: b"x", clock=lambda: NOW)
        with pytest.raises(ConfigurationError, match="24"):
            box.seal(b"", kind="kv", name=b"")

    @given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=5), st.binary(max_size=5))
    def test_members_are_equal_just_when_value_and_place_are(
        self, one: bytes, other: bytes, name: bytes, other_name: bytes
    ) -> None:
        box = sealer()
        first = box.seal_member(one, kind="set", name=name)
        assert (first == box.seal_member(other, kind="set", name=other_name)) == (
            (one, name) == (other, other_name)
        )

    def test_threads_may_share_it(self) -> None:
        boxes, wrong = [sealer(), sealer(mode="sign")], []

        def work(number: int) -> None:
            for turn in range(1000):
                value = b"%d %d" % (number, turn)
                for box in boxes:
                    for seal in (box.seal, box.seal_member):
                        if box.open(seal(value, kind="kv", name=b"n"), kind="kv", name=b"n") != value:
                            wrong.append(value)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


class TestMany:
    VALUES = (b"one", b"", os.urandom(2000), b"four", b"five")
    FIELDS = (b"a", b"bb", b"c", b"", b"eeeee")

    @pytest.mark.parametrize("mode", ["seal", "sign"])
    def test_each_is_what_it_is_alone(self, mode: Mode) -> None:
        box = sealer(mode=mode)
        place: dict[str, Any] = {"kind": "queue", "name": b"n"}
        sealed = box.seal_many(self.VALUES, fields=self.FIELDS, **place)
        alone = [
            box.open(blob, field=field, **place) for blob, field in zip(sealed, self.FIELDS, strict=True)
        ]
        assert tuple(alone) == self.VALUES
        again = [
            box.seal(value, field=field, **place)
            for value, field in zip(self.VALUES, self.FIELDS, strict=True)
        ]
        for lot in (sealed, again):
            assert tuple(box.open_many(lot, fields=self.FIELDS, **place)) == self.VALUES
        code = second.SIGN if mode == "sign" else second.XAES
        assert all(blob[1] == code for blob in sealed)

    def test_the_second_implementation_agrees(self) -> None:
        secret = RING.primary.secret
        sealed = sealer().seal_many(self.VALUES, kind="queue", name=b"n", fields=self.FIELDS)
        for blob, value, field in zip(sealed, self.VALUES, self.FIELDS, strict=True):
            options: dict[str, Any] = {"kind": "queue", "name": b"n", "field": field}
            assert second.seal(secret, second.XAES, value, nonce=blob[7:31], **options) == blob

    def test_nonces_of_a_batch_are_counted_up_and_those_of_two_are_not_alike(self) -> None:
        ends = bytes(12) + b"\xff" * 12
        box = Sealer(RING, entropy=lambda length: ends[:length], clock=lambda: NOW)
        sealed = box.seal_many([b""] * 3, kind="queue", name=b"n", fields=[b""] * 3)
        counts = [b"\xff" * 12, bytes(12), bytes(11) + b"\1"]
        assert [blob[7:31] for blob in sealed] == [bytes(12) + count for count in counts]
        lots = [
            sealer().seal_many([b""] * 500, kind="queue", name=b"n", fields=[b""] * 500) for _ in range(20)
        ]
        assert len({blob[7:31] for lot in lots for blob in lot}) == 10_000
        assert len({lot[0][7:19] for lot in lots}) == 20

    @pytest.mark.parametrize("mode", ["seal", "sign"])
    def test_nothing_that_does_not_open_alone_opens_among_others(self, mode: Mode) -> None:
        box = sealer(mode=mode, suites=EVERY_SUITE)
        place: dict[str, Any] = {"kind": "queue", "name": b"n"}
        fields = [b"%d" % at for at in range(4)]
        good = box.seal_many([b"v"] * 4, fields=fields, **place)
        assert box.open(good[0], field=fields[0], **place) == b"v"
        for at in (1, 2, 3, 7, 12, 20, len(good[1]) - 1):
            changed = bytearray(good[1])
            changed[at] ^= 1
            found = box.open_many([good[0], bytes(changed), *good[2:]], fields=fields, **place)
            assert found[1] is None and set(found) <= {None, b"v"}
        for wrong in (good[0], good[1][:-1], good[1][:7], b"", b"plain text of somebody"):
            assert box.open_many([good[0], wrong, *good[2:]], fields=fields, **place)[1] is None
        for elsewhere in ({"kind": "kv", "name": b"n"}, {"kind": "queue", "name": b"m"}):
            assert box.open_many(good, fields=fields, **elsewhere) == [None] * 4  # type: ignore[arg-type]
        assert box.open_many([], fields=[], **place) == []

    @pytest.mark.parametrize("mode", ["seal", "sign"])
    def test_a_page_of_names_is_what_each_is_alone(self, mode: Mode) -> None:
        box = sealer(mode=mode)
        names = [b"n", b"name", b"", b"n" * 300, b"other"]
        page = box.seal_page(self.VALUES, "cache", names)
        alone = [
            box.seal(value, kind="cache", name=name) for value, name in zip(self.VALUES, names, strict=True)
        ]
        mixed = [page[0], *alone[1:3], box.seal(self.VALUES[3], kind="cache", name=names[3]), page[4]]
        for lot in (page, alone, mixed):
            opened = [box.open(blob, kind="cache", name=name) for blob, name in zip(lot, names, strict=True)]
            assert tuple(opened) == self.VALUES
            assert tuple(box.open_page(lot, "cache", names)) == self.VALUES
        assert list(box.open_page(page, "kv", names)) == [None] * 5
        assert list(box.open_page(page[::-1], "cache", names)) == [None, None, self.VALUES[2], None, None]
        assert list(box.open_page([], "cache", [])) == [] == box.seal_page([], "cache", [])
        # One that has flags: it has to be looked at, and none of the others suffers.
        expiring = box.seal(b"v", kind="cache", name=b"name", expires=NOW + 60)
        opened_page = list(box.open_page([page[0], expiring, b"junk", b"", page[4]], "cache", names))
        assert opened_page == [self.VALUES[0], None, None, None, self.VALUES[4]]

    @pytest.mark.parametrize("mode", ["seal", "sign"])
    def test_a_page_refuses_what_one_refuses(self, mode: Mode) -> None:
        box = sealer(mode=mode, largest_bytes=100)
        for wrong in (b"x" * 101, "text"):
            with pytest.raises(SealError):
                box.seal_page([b"v", wrong], "cache", [b"a", b"b"])  # type: ignore[list-item]
            with pytest.raises(SealError):
                box.seal_usual(wrong, "cache", b"a")  # type: ignore[arg-type]
        page = box.seal_page([b"v", bytearray(b"w")], "cache", [b"a", b"b"])  # type: ignore[list-item]
        # A header that was not met before is looked at first.
        assert list(box.open_page(page, "cache", [b"a", b"b"])) == [None, None]
        assert box.open(page[0], kind="cache", name=b"a") == b"v"
        assert list(box.open_page(page, "cache", [b"a", b"b"])) == [b"v", b"w"]
        with pytest.raises(ConfigurationError):
            box.seal_page([b"v"], "nothing", [b"a"])  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError):
            box.seal_page([b"v"], "cache", ["a"])  # type: ignore[list-item]

    def test_what_expires_is_left_to_the_usual_way(self) -> None:
        box = sealer()
        blob = box.seal(b"v", kind="queue", name=b"n", expires=NOW + 60)
        assert box.open(blob, kind="queue", name=b"n") == b"v"
        assert box.open_many([blob], kind="queue", name=b"n", fields=[b""]) == [None]

    def test_bad_input_is_refused_as_alone(self) -> None:
        with pytest.raises(SealError):
            sealer(largest_bytes=10).seal_many([b"v", bytes(11)], kind="queue", name=b"n", fields=[b"", b""])
        for value, name, field in (("text", b"n", b""), (b"v", "n", b""), (b"v", b"n", "f")):
            with pytest.raises((SealError, ConfigurationError)):
                sealer().seal_many([value], kind="queue", name=name, fields=[field])  # type: ignore[list-item,arg-type]
        with pytest.raises(ValueError, match="zip"):
            sealer().seal_many([b"v"], kind="queue", name=b"n", fields=[])


class TestTampering:
    @pytest.mark.parametrize("suite", EVERY_SUITE)
    @pytest.mark.parametrize(
        "options", [{}, {"expires": NOW + 60}, {"compress": True}], ids=["plain", "expiry", "zlib"]
    )
    def test_every_bit_counts(self, suite: SuiteName, options: dict[str, Any]) -> None:
        if suite == "siv" and options:
            options = {}
        blob = seal_by(suite, b"sixty-four bytes" * 4, **options)
        open_ = opener(suite)
        assert open_.open(blob, kind="kv", name=b"name")
        for bit in range(len(blob) * 8):
            flipped = bytearray(blob)
            flipped[bit // 8] ^= 1 << bit % 8
            assert is_refused(open_, bytes(flipped)), f"bit {bit}"

    @pytest.mark.parametrize("suite", EVERY_SUITE)
    @pytest.mark.parametrize("value", [b"", b"v", b"sixty-four bytes" * 4])
    def test_every_truncation_and_extension(self, suite: SuiteName, value: bytes) -> None:
        blob, open_ = seal_by(suite, value), opener(suite)
        for length in range(len(blob)):
            assert is_refused(open_, blob[:length]) and is_refused(open_, blob[-length:] if length else b"")
        for extra in range(1, 50):
            assert is_refused(open_, blob + bytes(extra)) and is_refused(open_, os.urandom(extra) + blob)
        assert is_refused(open_, blob + blob)

    @pytest.mark.parametrize("suite", EVERY_SUITE)
    @pytest.mark.parametrize(
        "place",
        [
            {"name": b"other"},
            {"name": b""},
            {"name": b"name\0"},
            {"name": b"namef", "field": b"ield"},
            {"kind": "hash"},
            {"kind": "list"},
            {"field": b"field2"},
            {"field": b""},
            {"name": b"field", "field": b"name"},
        ],
        ids=str,
    )
    def test_no_other_place_opens_it(self, suite: SuiteName, place: dict[str, Any]) -> None:
        blob = seal_by(suite, b"v", field=b"field")
        here = {"kind": "kv", "name": b"name", "field": b"field"}
        assert opener(suite).open(blob, **here) == b"v"  # type: ignore[arg-type]
        assert is_refused(opener(suite), blob, **(here | place))

    @pytest.mark.parametrize("suite", EVERY_SUITE)
    def test_no_other_identity_opens_it(self, suite: SuiteName) -> None:
        family = [
            RING,
            Keyring.generate(ENTROPY[::-1]),
            RING.child("a"),
            RING.child("b"),
            RING.child("a").child("b"),
            RING.child("a/b"),
        ]
        for one, other in itertools.permutations(family, 2):
            assert is_refused(opener(suite, other), seal_by(suite, b"v", one))

    def test_no_other_suite_opens_it(self) -> None:
        # Same key, same place, all suites allowed: only the suite's byte is another.
        every = sealer(suites=EVERY_SUITE)
        for suite, other in itertools.permutations(EVERY_SUITE, 2):
            blob = bytearray(seal_by(suite, b"sixty-four bytes" * 4))
            assert every.open(bytes(blob), kind="kv", name=b"name") == b"sixty-four bytes" * 4
            blob[1] = CODES[other]
            assert is_refused(every, bytes(blob))

    def test_signed_does_not_pass_for_sealed(self) -> None:
        assert is_refused(sealer(), seal_by("sign", b"v"))
        assert is_refused(sealer(mode="sign"), seal_by("xaes", b"v"))
        assert is_refused(sealer(mode="sign"), seal_by("siv", b"v"))
        moving = sealer(suites=EVERY_SUITE)
        assert moving.open(seal_by("sign", b"v"), kind="kv", name=b"name") == b"v"

    @pytest.mark.parametrize(
        "blob",
        [
            b"",
            b"\xc1",
            b"plaintext",
            b"42",
            b'{"a": 1}',
            pickle.dumps([1]),
            zlib.compress(b"x" * 99),
            bytes(99),
        ]
        + [b"\xc1" * length for length in (7, 23, 47, 99)]
        + [bytes([0xC1, suite, flags]) + bytes(60) for suite in (0x10, 0x14, 0xFF) for flags in (0, 1)]
        + [bytes([0xC1, 0x11, flags]) + bytes(60) for flags in (4, 8, 128, 255)],
    )
    def test_what_is_no_envelope_does_not_open(self, blob: bytes) -> None:
        with pytest.raises(OpenError) as caught:
            sealer(suites=EVERY_SUITE).open(blob, kind="kv", name=b"name")
        assert type(caught.value) is OpenError

    @pytest.mark.parametrize("blob", ["\xc1text", None, 42, 1.5, ["x"], {}, object()])
    def test_what_is_not_bytes_does_not_open(self, blob: Any) -> None:
        with pytest.raises(OpenError):
            sealer().open(blob, kind="kv", name=b"name")

    @pytest.mark.parametrize("options", [{"expiry": 2**32 - 1}, {"compress": True}])
    def test_a_member_with_flags_does_not_open(self, options: dict[str, Any]) -> None:
        # Made with the right key by somebody else's program; ours never makes one.
        blob = second.seal(RING.primary.secret, second.SIV, b"v", kind="kv", name=b"name", **options)
        assert is_refused(sealer(), blob) and not is_envelope_unverified(blob)

    def test_too_short_for_its_suite(self) -> None:
        for suite in EVERY_SUITE:
            shortest = seal_by(suite, b"", Keyring.generate(ENTROPY[::-1]))
            with pytest.raises(UnknownKeyError):
                sealer(suites=EVERY_SUITE).open(shortest, kind="kv", name=b"name")
            with pytest.raises(OpenError) as caught:
                sealer(suites=EVERY_SUITE).open(shortest[:-1], kind="kv", name=b"name")
            assert type(caught.value) is OpenError
            assert is_envelope_unverified(shortest) and not is_envelope_unverified(shortest[:-1])

    @given(st.binary(max_size=120), st.booleans())
    @settings(max_examples=2000)
    def test_fuzz(self, data: bytes, has_header: bool) -> None:
        every = sealer(suites=EVERY_SUITE)
        blob = seal_by("xaes", b"")[:3] + data if has_header else data
        assert is_refused(every, blob)
        header = read_header_unverified(blob)
        assert (header is not None) == is_envelope_unverified(blob)

    @given(st.data())
    @settings(max_examples=500)
    def test_fuzz_with_a_valid_header(self, data: st.DataObject) -> None:
        suite = data.draw(st.sampled_from(EVERY_SUITE))
        header = bytearray(seal_by(suite, b"")[:7])
        header[2] = data.draw(st.integers(0, 3))
        rest = data.draw(st.binary(max_size=100))
        assert is_refused(sealer(suites=EVERY_SUITE), bytes(header) + rest)

    def test_many_random_blobs(self) -> None:
        rng, every = random.Random(1), sealer(suites=EVERY_SUITE)
        head = seal_by("xaes", b"")[:7]
        for number in range(20_000):
            blob = rng.randbytes(rng.randrange(100))
            assert is_refused(every, head + blob if number % 2 else blob)


class TestKeys:
    def test_an_unknown_key_is_told_apart(self) -> None:
        other = Keyring.generate(ENTROPY[::-1])
        with pytest.raises(UnknownKeyError) as caught:
            sealer().open(seal_by("xaes", b"v", other), kind="hash", name=b"n", field=b"f")
        error = caught.value
        assert error.key_id == other.primary.id and error.key_id in str(error)
        assert (error.kind, error.name, error.field) == ("hash", b"n", b"f")

    def test_an_older_key_opens_until_it_is_retired(self) -> None:
        old = seal_by("xaes", b"v"), seal_by("siv", b"v")
        ring = add_key(RING, bytes(32))
        new_id = ring.keys[-1].id
        ring = promote(ring, new_id)
        for blob in old:
            assert sealer(ring).open(blob, kind="kv", name=b"name") == b"v"
            assert sealer(ring).is_outdated(blob) and not sealer(RING).is_outdated(blob)
        new = seal_by("xaes", b"v", ring)
        assert new[3:7].hex() == new_id and not sealer(ring).is_outdated(new)
        ring = retire(ring, RING.primary.id)
        for blob in old:
            with pytest.raises(OpenError) as caught:
                sealer(ring).open(blob, kind="kv", name=b"name")
            # Reading the keyring again would not help.
            assert type(caught.value) is OpenError
        assert sealer(ring).open(new, kind="kv", name=b"name") == b"v"

    def test_a_key_id_in_front_of_another_keys_value(self) -> None:
        ring = add_key(RING, bytes(32))
        blob = seal_by("xaes", b"v")
        renamed = blob[:3] + bytes.fromhex(ring.keys[-1].id) + blob[7:]
        assert is_refused(sealer(ring), renamed)

    def test_another_suite_is_outdated(self) -> None:
        assert sealer().is_outdated(seal_by("sign", b"v")) and sealer().is_outdated(b"plain")
        assert not sealer().is_outdated(seal_by("siv", b"v"))

    def test_strangers_headers_leave_nothing_behind(self) -> None:
        box = sealer(suites=EVERY_SUITE)
        for number in range(1000):
            is_refused(box, bytes([0xC1, 0x11, number % 4]) + number.to_bytes(4, "big") + bytes(50))
        assert box._admitted == {} and box._suites == {}

    def test_it_is_neither_shown_nor_pickled(self) -> None:
        box = sealer()
        box.seal(b"v", kind="kv", name=b"n")
        secret = RING.primary.secret
        for shown in (repr(box), str(box), f"{box}"):
            assert RING.primary.id in shown and secret.hex() not in shown and repr(secret)[2:8] not in shown
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(box)
        assert copy.copy(box) is box and copy.deepcopy(box) is box
        for suite in box._suites.values():
            assert repr(suite) in ("<Xaes>", "<Siv>", "<Sign>")
            with pytest.raises(TypeError, match="not pickled"):
                pickle.dumps(suite)


class TestExpiry:
    @pytest.mark.parametrize("suite", ["xaes", "sign"])
    def test_it_opens_until_then(self, suite: SuiteName) -> None:
        blob = seal_by(suite, b"v", expires=NOW + 10)
        for now, opens in ((0, True), (NOW, True), (NOW + 9.99, True), (NOW + 10, False), (NOW + 1e9, False)):
            assert is_refused(opener(suite, clock=lambda at=now: at), blob) != opens

    def test_it_costs_four_bytes_and_is_rounded_up(self) -> None:
        blob = seal_by("sign", b"v", expires=NOW + 0.001)
        assert len(blob) == 23 + 4 + 1
        assert int.from_bytes(blob[23:27], "little") == NOW + 1

    @pytest.mark.parametrize(
        "expires", [0, -1, 60, 3600.0, NOW, NOW - 1, 2.0**32, float("nan"), float("inf"), "60"]
    )
    def test_what_is_no_time_to_come_is_refused(self, expires: Any) -> None:
        # Above all a TTL in place of a time.
        with pytest.raises(SealError, match="TTL"):
            sealer().seal(b"v", kind="kv", name=b"n", expires=expires)

    def test_the_header_tells_of_it(self) -> None:
        for options in ({"expires": NOW + 1}, {"compress": True}, {"expires": NOW + 1, "compress": True}, {}):
            header = read_header_unverified(seal_by("sign", bytes(100), **options))
            assert header == ("sign", "compress" in options, "expires" in options, RING.primary.id)

    def test_the_flag_cannot_be_taken_away(self) -> None:
        blob = bytearray(seal_by("sign", b"v", expires=NOW + 10))
        blob[2] = 0
        assert is_refused(opener("sign"), bytes(blob))


class TestCompression:
    VALUE = b'{"name": "value", ' * 200

    def test_off_unless_asked_for(self) -> None:
        assert len(seal_by("xaes", self.VALUE)) == len(self.VALUE) + 47

    def test_only_where_it_is_smaller(self) -> None:
        box = sealer(compress=True)
        for value, is_smaller in (
            (self.VALUE, True),
            (os.urandom(1000), False),
            (b"", False),
            (b"ab", False),
        ):
            blob = box.seal(value, kind="kv", name=b"n")
            assert box.open(blob, kind="kv", name=b"n") == value
            header = read_header_unverified(blob)
            assert header is not None and header.is_compressed is is_smaller

    def test_each_call_decides(self) -> None:
        assert len(sealer(compress=True).seal(self.VALUE, kind="kv", name=b"n", compress=False)) > 1000
        assert len(sealer().seal(self.VALUE, kind="kv", name=b"n", compress=True)) < 1000

    def test_a_bomb_stops_at_the_limit(self) -> None:
        # Only who has the key can make one; a shared key in another program may.
        bomb = second.seal(
            RING.primary.secret,
            second.XAES,
            bytes(200_000_000),
            kind="kv",
            name=b"name",
            nonce=NONCE,
            compress=True,
        )
        assert len(bomb) < 1_000_000
        box = sealer(largest_bytes=1_000_000)
        tracemalloc.start()
        try:
            assert is_refused(box, bomb)
            assert tracemalloc.get_traced_memory()[1] < 10_000_000
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize(
        "change",
        [
            lambda d: d[:-1],
            lambda d: d + b"x",
            lambda d: b"",
            lambda d: b"no zlib",
            lambda d: d[2:],
            lambda d: d * 2,
        ],
    )
    def test_damaged_within_the_seal(self, change: Callable[[bytes], bytes]) -> None:
        damaged = change(zlib.compress(self.VALUE))
        box = sealer(nonce=NONCE)
        suite = MAKERS["xaes"](RING.primary)
        header = second.header(RING.primary.secret, second.XAES, second.ZLIB)
        blob = suite.seal(header, damaged, pae(header, b"kv", b"name", b""), lambda length: NONCE)
        assert is_refused(box, blob)

    def test_an_expiry_that_is_cut_within_the_seal(self) -> None:
        suite = MAKERS["xaes"](RING.primary)
        header = second.header(RING.primary.secret, second.XAES, second.EXPIRY)
        for body in (b"", b"\xff", b"\xff\xff\xff"):
            blob = suite.seal(header, body, pae(header, b"kv", b"name", b""), lambda length: NONCE)
            assert is_refused(sealer(clock=lambda: 0.0), blob)


class TestBadInput:
    @pytest.mark.parametrize("value", ["text", 42, 1.5, None, ["x"], {}, object()])
    def test_only_bytes_are_sealed(self, value: Any) -> None:
        for seal in (sealer().seal, sealer().seal_member):
            with pytest.raises(SealError, match="not bytes") as caught:
                seal(value, kind="kv", name=b"n", field=b"f")
            assert (caught.value.kind, caught.value.name, caught.value.field) == ("kv", b"n", b"f")

    def test_too_long(self) -> None:
        box = sealer(largest_bytes=1000)
        for value in (bytes(1001), bytearray(1001)):
            for seal in (box.seal, box.seal_member):
                with pytest.raises(SealError, match="1001 bytes, and at most 1000"):
                    seal(value, kind="kv", name=b"n")  # type: ignore[arg-type]
        assert box.open(box.seal(bytes(1000), kind="kv", name=b"n"), kind="kv", name=b"n") == bytes(1000)
        assert is_refused(box, seal_by("xaes", bytes(1001 + 4)))
        assert is_refused(box, seal_by("xaes", bytes(50_000)))

    @pytest.mark.parametrize("kind", ["", "KV", "string", "kv ", 1, None])
    def test_unknown_kinds(self, kind: Any) -> None:
        blob = seal_by("xaes", b"v")
        for call in (
            lambda: sealer().seal(b"v", kind=kind, name=b"n"),
            lambda: sealer().open(blob, kind=kind, name=b"n"),
        ):
            with pytest.raises(ConfigurationError, match="a kind is one of"):
                call()

    @pytest.mark.parametrize("wrong", ["text", None, 42, memoryview(b"n")])
    def test_names_and_fields_are_bytes(self, wrong: Any) -> None:
        for place in ({"name": wrong}, {"name": b"n", "field": wrong}):
            with pytest.raises(ConfigurationError, match="is bytes, not"):
                sealer().seal(b"v", kind="kv", **place)

    @pytest.mark.parametrize(
        "options",
        [
            {"mode": "encrypt"},
            {"suites": ()},
            {"suites": ("xaes",)},
            {"suites": ("xaes", "siv", "rot13")},
            {"mode": "sign", "suites": ("xaes", "siv")},
            {"largest_bytes": 0},
            {"largest_bytes": 2**30},
        ],
    )
    def test_contradictory_settings(self, options: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError):
            sealer(**options)

    def test_after_any_of_it_the_sealer_works(self) -> None:
        box = sealer()
        for _ in range(3):
            assert is_refused(box, b"junk")
            with pytest.raises(SealError):
                box.seal(None, kind="kv", name=b"n")  # type: ignore[arg-type]
        assert box.open(box.seal(b"v", kind="kv", name=b"n"), kind="kv", name=b"n") == b"v"


class TestErrors:
    def test_one_text_for_every_failure(self) -> None:
        blob = seal_by("xaes", b"v", expires=NOW + 1)
        texts = set()
        cases: list[tuple[bytes, dict[str, Any]]] = [
            (blob[:-1], {}),
            (b"plain", {}),
            (blob, {"clock": lambda: NOW + 2}),
            (seal_by("xaes", b"v", name=b"other"), {}),
            (seal_by("sign", b"v"), {}),
        ]
        for wrong, options in cases:
            with pytest.raises(OpenError) as caught:
                sealer(**options).open(wrong, kind="kv", name=b"name")
            texts.add(str(caught.value))
        assert len(texts) == 1

    @pytest.mark.parametrize(
        "error",
        [
            OpenError("kv", b"n", b"f"),
            UnknownKeyError("9f31c2aa", "kv", b"n", b"f"),
            SealError("too long", "kv", b"n", b"f"),
            PlaintextRefusedError("SET", "github-token", b"n", b"f"),
        ],
    )
    def test_errors_survive_pickling(self, error: Any) -> None:
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error) and str(again) == str(error)
        assert vars(again) == vars(error) and (again.name, again.field) == (b"n", b"f")

    def test_texts_hold_no_name_and_no_value(self) -> None:
        for error in (OpenError("kv", b"a-session-id"), UnknownKeyError("9f31c2aa", "kv", b"a-session-id")):
            assert "a-session-id" not in str(error) and isinstance(error, EnvelopeError)

    def test_a_plaintext_refusal_names_rule_key_and_ways_out(self) -> None:
        text = str(PlaintextRefusedError("HSET", "github-token", b"user:1", b"auth"))
        for part in ("HSET", "github-token", "user:1", "auth", "Secret(", "seal=True", "plaintext_ok="):
            assert part in text


def test_tags_are_never_compared_by_operators() -> None:
    for name in ("suites", "xaes", "envelope", "envelope_header"):
        tree = ast.parse((Path(tenantkv.__file__).parent / f"{name}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.Eq, ast.NotEq)):
                words = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
                words |= {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
                assert not words & {"tag", "siv", "digest", "_tag", "sealed", "secret", "_nothing"} or (
                    "len" in words
                ), f"{name}.py:{node.lineno}"
