"""What is dull to the detector's quick look is nothing to its long one; nothing of one's own is missed."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantkv.secrets import Detector
from tenantkv.secrets.dull import is_dull
from tenantkv.secrets.fields import FEW_BYTES, find_field
from tenantkv.secrets.formats import find_format, mask_of
from tenantkv.secrets.formats_table import FORMATS, MARKS
from tenantkv.secrets.pickles import is_old_pickle
from tests import corpus

PIECES = [
    *(row.starts[0] for row in FORMATS if row.starts),
    *(mark for _, mark, *_ in MARKS),
    *b'password pass pwd PWD secret token cookie authorization auth" sess cred'.split(),
    *b"key api_key api-key keys".split(),
    *b"monkey Bearer bearer basic Basic :// @ $ % %3A %2F%2F %24 eyJ hook Q~ -----BEGIN = : ' { } &".split(),
    *(b" ", b"\n", b"\x94\x8c", b"\xd9", b"\x80\x02", b"\x80\x03X", b"X\x08\x00\x00\x00", b"\xff", b"."),
    *(b"a1B2c3D4e5F6g7H8i9J0", b"tr0ub4dor&3", b"x" * 19, b"x" * 20, b"some words "),
]


def says(data: bytes) -> bool:
    """Say whether the long look finds anything."""
    lowered, mask = data.lower(), mask_of(data)
    return (find_format(data, lowered, mask) or find_field(data, lowered, mask)) is not None


def dull(data: bytes) -> bool:
    return is_dull(data, data.lower(), mask_of(data))


def in_corpus() -> Iterator[bytes]:
    rng = random.Random(7)
    for _, make in corpus.FORMATS + corpus.HEADERS:
        for _ in range(20):
            token = make(rng)
            yield token.encode()
            yield from (value for _, value in corpus.containers("note", token))
    for name in corpus.NAMES:
        for _ in range(5):
            yield from (value for _, value in corpus.containers(name, corpus.passwords(rng)))
    for _, make in corpus.ORDINARY:
        for _ in range(50):
            yield make(rng)[1]


def test_nothing_that_is_found_is_dull() -> None:
    rng, found = random.Random(8), 0
    for value in in_corpus():
        start = rng.randrange(len(value) + 1)
        for data in (value, value[start:], value[:start], value.upper(), b"some words " * 100 + value):
            if says(data):
                found += 1
                assert not dull(data), data
    assert found > 10_000


def test_what_is_found_in_little_is_found_in_much() -> None:
    """The long look searches much for other stems than little, and for what two of them share first."""
    found = 0
    for value in in_corpus():
        # An old pickle is one only from its first byte.
        if len(value) <= FEW_BYTES and not is_old_pickle(value) and says(value):
            found += 1
            assert says(b"plain words " * 60 + value), value
    assert found > 5_000


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=8)), max_size=30).map(b"".join))
def test_nothing_that_is_found_in_pieces_is_dull(data: bytes) -> None:
    assert not (dull(data) and says(data))


def test_the_quick_look_is_worth_it() -> None:
    rng = random.Random(9)
    values = [make(rng)[1] for _, make in corpus.ORDINARY for _ in range(100)]
    short = [value for value in values if len(value) <= 600]
    assert sum(map(dull, short)) > 0.5 * len(short) > 500
    assert not any(map(dull, (value for value in values if len(value) > 600)))


@pytest.mark.parametrize("longest", [0, 1, 11, 12, 13, 20, 43])
def test_own_secrets_are_found_whatever_their_runs(longest: int) -> None:
    # As base64 that has a sign after so many letters; those of a keyring have them anywhere.
    own = (b"aB3" * 15)[:longest] + b"+" + (b"/9+" * 20)[: 43 - longest]
    detector = Detector(own=[own, base64.b64encode(bytes(range(32))), bytes(range(100, 132))])
    for value in (
        own,
        b"see " + own,
        own + b" was it",
        b"{'a': '" + own + b"'}",
        b"letters" + own + b"letters",
    ):
        found = detector.find(value)
        assert found is not None and found.rule == "own-keyring"
        assert found.offset == value.index(own)
    assert detector.find(own[1:] or b"x") is None
    assert detector.find(b"some words, and a-very-long-one-with-no-end") is None


def test_own_secrets_of_many_keyrings_are_found() -> None:
    rng = random.Random(10)
    for _ in range(500):
        prefix = base64.b64encode(rng.randbytes(32))
        other = [base64.b64encode(rng.randbytes(32)), rng.randbytes(32)]
        detector = Detector(own=[prefix, *other])
        for secret in (prefix, *other):
            for value in (secret, b"note " + secret, b"x" * 700 + secret, secret + b"\n" * 70_000):
                found = detector.find(value)
                assert found is not None and found.rule == "own-keyring"
