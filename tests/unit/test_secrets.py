"""The plaintext-secret detector: recall and false refusals on a labelled corpus, limits, policy, `Secret`."""

from __future__ import annotations

import copy
import json
import pickle
import random
import re
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantkv.errors import ConfigurationError, PlaintextRefusedError
from tenantkv.secrets import Allowance, Detector, Finding, PlaintextWarning, Policy, Secret, rules
from tenantkv.secrets.detector import MAX_SCANNED_BYTES
from tenantkv.secrets.formats_table import FORMATS, MARKS
from tenantkv.secrets.names import NONE, PASSWORD, STRONG, WEAK, classify, classify_path
from tests import corpus

DETECTOR = Detector()
PASSPHRASE = "tr0ub" + "4dor&3"
OWN = (b"own-prefix-of-this-namespace-0123456789abcde=", b"another-key-of-this-namespace-")
# What the detector looks for, to be put together in any order.
PIECES = [
    *(row.starts[0] for row in FORMATS if row.starts),
    *(mark[1] for mark in MARKS),
    *(
        b"password",
        b"token",
        b'"',
        b":",
        b"=",
        b"://",
        b"@",
        b"$",
        b"eyJ",
        b".",
        b"%3A",
        b"\\",
        b"\n",
        b"Bearer ",
    ),
    *(b"\x94\x8c", b"\xd9", b"\x80\x02", b"X\x08\x00\x00\x00", b"a1B2c3D4e5F6g7H8i9J0", b"\xff"),
]


def github_token(seed: int = 1) -> str:
    return "gh" + "p_" + corpus.letters(random.Random(seed), corpus.ALNUM, 36)


class TestKnownFormats:
    @pytest.mark.parametrize(("rule", "make"), corpus.FORMATS + corpus.HEADERS)
    def test_every_one_is_found_under_its_rule(self, rule: str, make: Any) -> None:
        rng = random.Random(rule)
        for _ in range(50):
            token = make(rng)
            for value in (token, token.encode(), f"see {token}\n", json.dumps({"note": token})):
                found = DETECTOR.find(value)
                assert found is not None and (found.rule, found.tier) == (rule, 1), value

    @pytest.mark.parametrize(("rule", "make"), corpus.FORMATS)
    def test_in_every_container_under_a_neutral_name(self, rule: str, make: Any) -> None:
        rng = random.Random(rule)
        missed = [
            container
            for _ in range(5)
            for container, value in corpus.containers("note", make(rng))
            if (found := DETECTOR.find(value)) is None or found.tier != 1
        ]
        assert missed == []

    def test_the_corpus_has_every_rule(self) -> None:
        made = {rule for rule, _ in corpus.FORMATS + corpus.HEADERS}
        assert {rule for rule, tier in rules().items() if tier == 1} - made == {"own-keyring"}

    def test_the_samples_of_tutorials_do_not_count(self) -> None:
        for sample in (
            "AKIA" + "IOSFODNN7EXAMPLE",
            "gh" + "p_" + "x" * 36,
            "Bearer <token>",
            "Bearer xxxxxxxxxxxxxxxxxxxx",
        ):
            assert DETECTOR.find(sample) is None

    def test_a_field_that_is_itself_a_secret(self) -> None:
        found = DETECTOR.find(b"1", name=b"api-users", field=github_token().encode())
        assert found is not None and (found.rule, found.is_field) == ("github-token", True)

    def test_own_keyring(self) -> None:
        detector = Detector(own=OWN, allow=[Allowance("*")])
        found = detector.find(b"debug: " + OWN[0] + b" was used")
        assert found is not None and (found.rule, found.tier, found.offset) == ("own-keyring", 1, 7)
        assert DETECTOR.find(OWN[0]) is None
        with pytest.raises(ValueError, match="16 bytes"):
            Detector(own=[b""])


class TestNamedFields:
    def test_recall(self) -> None:
        rng, missed, total = random.Random(11), Counter[str](), 0
        for name in corpus.NAMES:
            for _ in range(8):
                value = corpus.passwords(rng)
                found: dict[str, Finding | None] = {
                    container: DETECTOR.find(data) for container, data in corpus.containers(name, value)
                }
                found["key"] = DETECTOR.find(value, name=b"app:" + name.encode())
                found["key in front"] = DETECTOR.find(value, name=name.encode() + b":jane")
                found["field"] = DETECTOR.find(value, name=b"settings", field=name.encode())
                found["pickled"] = DETECTOR.find(pickle.dumps(value), name=b":1:" + name.encode())
                found["packed"] = DETECTOR.find(corpus.msgpack(value), name=name.encode())
                found["quoted"] = DETECTOR.find(json.dumps(value), name=name.encode())
                total += len(found)
                missed.update(container for container, finding in found.items() if finding is None)
        assert sum(missed.values()) <= 0.02 * total, missed

    @pytest.mark.parametrize("name", corpus.NAMES)
    def test_names(self, name: str) -> None:
        assert classify(name.encode()) >= STRONG

    @pytest.mark.parametrize("name", corpus.INNOCENT_NAMES)
    def test_innocent_names(self, name: str) -> None:
        assert classify(name.encode()) == NONE

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("token", WEAK),
            ("cookie", WEAK),
            ("sid", WEAK),
            ("session_key", WEAK),
            ("reset_token", STRONG),
            ("reset_password", NONE),
            ("password_hash", PASSWORD),
            ("token_hash", NONE),
            ("dbpassword", PASSWORD),
            ("HTTPPassword2", PASSWORD),
            ("", NONE),
            ("-_-", NONE),
            ("p\xe4ssword", NONE),
        ],
    )
    def test_how_much_a_name_says(self, name: str, kind: int) -> None:
        assert classify(name.encode()) == kind

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("app:db:password", PASSWORD),
            ("password:jane", PASSWORD),
            ("password:count", NONE),
            ("lock:password", NONE),
            ("token:revoked:abc", NONE),
            ("users/17/api_key", STRONG),
            ("a:b:c", NONE),
            ("", NONE),
        ],
    )
    def test_how_much_a_key_says(self, name: str, kind: int) -> None:
        assert classify_path(name.encode()) == kind

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "short",
            "changeme",
            "${DB_PASSWORD}",
            "********",
            "true",
            "1234567890",
            "Passwort",
            "see below",
        ],
    )
    def test_what_cannot_be_a_password(self, value: str) -> None:
        assert DETECTOR.find(json.dumps({"password": value})) is None
        assert DETECTOR.find(value, name=b"password") is None

    def test_weak_names_need_a_random_value(self) -> None:
        rng = random.Random(5)
        assert DETECTOR.find(1, name=b"token") is None
        assert DETECTOR.find("hello-world-token-name", name=b"token") is None
        assert DETECTOR.find("550e8400-e29b-41d4-a716-446655440000", name=b"token") is None
        found = DETECTOR.find(corpus.letters(rng, corpus.URLSAFE, 32), name=b"token")
        assert found is not None and found.rule == "named-token"

    def test_where(self) -> None:
        value = b'{"user": "jane",\n "password": "' + PASSPHRASE.encode() + b'"}'
        found = DETECTOR.find(value)
        assert found is not None and value[found.offset :].startswith(b"password")


class TestOrdinaryValues:
    def test_false_refusals(self) -> None:
        rng, refused, total = random.Random(2026), Counter[tuple[str, str]](), 0
        for _ in range(260):
            for kind, make in corpus.ORDINARY:
                name, value = make(rng)
                total += 1
                found = DETECTOR.find(value, name=name.encode())
                if found is not None and found.tier < 3:
                    refused[kind, found.rule] += 1
        assert total > 5000
        assert sum(refused.values()) <= 0.001 * total, refused

    def test_entropy_alone_is_never_refused(self) -> None:
        rng = random.Random(3)
        key = corpus.base64_of(rng, 32)
        assert DETECTOR.find(key, name=b"upload:1") is None
        found = DETECTOR.find(key, name=b"app:config:fernet")
        assert found is not None and (found.rule, found.tier) == ("high-entropy", 3)


class TestLimits:
    @given(
        st.one_of(st.binary(max_size=3000), st.text(max_size=1000)),
        st.binary(max_size=80),
        st.binary(max_size=80),
    )
    def test_total(self, value: bytes | str, name: bytes, field: bytes) -> None:
        found = DETECTOR.find(value, name=name, field=field)
        assert found is None or found.rule in rules()

    @given(st.lists(st.sampled_from(PIECES), max_size=40))
    def test_total_on_pieces_of_what_it_looks_for(self, pieces: list[bytes]) -> None:
        value = b"".join(pieces)
        found = DETECTOR.find(value, name=b"api_key")
        assert found is None or 0 <= found.offset <= len(value)

    @pytest.mark.parametrize(
        "value",
        [
            0,
            -17,
            3.5,
            True,
            b"",
            "",
            b"1",
            "12345678901234567890",
            "\ud800",
            bytearray(b"x"),
            memoryview(b"y"),
        ],
    )
    def test_what_cannot_be_one(self, value: Any) -> None:
        assert DETECTOR.find(value, name=b"password") is None

    def test_all_types_of_value_are_looked_at(self) -> None:
        token = github_token()
        for value in (
            token,
            token.encode(),
            bytearray(token.encode()),
            memoryview(token.encode()),
            token + "\ud800",
        ):
            found = DETECTOR.find(value)
            assert found is not None and found.rule == "github-token"

    def test_of_a_long_value_the_head_and_the_tail(self) -> None:
        token, filler = github_token().encode(), b"some words " * 9000
        for value in (token + b" " + filler, filler + token):
            found = DETECTOR.find(value)
            assert found is not None and value[found.offset :].startswith(token)
        middle = filler[: MAX_SCANNED_BYTES - 1000] + token + b" " + filler
        assert DETECTOR.find(middle) is None

    @pytest.mark.parametrize(
        "piece",
        [
            *(
                b"password:",
                b'"password":"',
                b"api_key=",
                b"password" + b"\\" * 7,
                b"pass ",
                b'password">',
                b"x_key=1a2b ",
            ),
            *(
                b"@",
                b"://@",
                b"://a:b",
                b"$",
                b"$6$a$",
                b"$7$a$aaa ",
                b"%",
                b"%3A",
                b"q~1Q~",
                b"-----BEGIN ",
                b"hooks",
            ),
            *(
                b"eyJ",
                b"eyJ" + b"a" * 17 + b".",
                b"eyJ" + b"a" * 2000 + b".eyJ" + b"a" * 8000,
                b"x" * 19 + b" ",
            ),
            *(
                b"a" * 20 + b".",
                b"SG." + b"a" * 22 + b".",
                b"dp.pt." + b"a" * 20,
                b"gh" + b"p_" + b"a" * 20 + b" ",
            ),
            *(
                b"bearer ",
                b"bearer aaaaaaaaaaaaaaaaaa ",
                b"basic AAAAAA== ",
                b"\\",
                b"X\x08\x00\x00\x00password",
            ),
            b"secretgh" + b"p_aaaaaaaaaaaaaaaaaaaaa password:",
        ],
    )
    @pytest.mark.parametrize("start", [b"", b"\x80\x02"])
    def test_time_grows_no_faster_than_the_value(self, piece: bytes, start: bytes) -> None:
        def seconds(size: int) -> float:
            value = start + (piece * (size // len(piece) + 1))[:size]
            best = 9.0
            for _ in range(3):
                before = time.process_time()
                DETECTOR.find(value, name=b"x")
                best = min(best, time.process_time() - before)
            return best

        # Eight times the bytes; quadratic would be 64 times. A millisecond is for the clock.
        assert seconds(65_536) <= 24 * seconds(8_192) + 0.001

    def test_no_pattern_repeats_without_bound_or_nests(self) -> None:
        for pattern in [row.pattern for row in FORMATS] + [mark[2] for mark in MARKS]:
            assert not re.search(rb"(?<!\\)[*+](?![^\[]*\])|\{\d*,\}", pattern), pattern


class TestAllowances:
    def test_by_name_and_rule(self) -> None:
        detector = Detector(allow=[Allowance("ci:*", "github-token", "short-lived"), Allowance("fixtures:*")])
        token = github_token()
        assert detector.find(token, name=b"ci:17") is None
        assert detector.find(token, name=b"fixtures:17") is None
        assert detector.find(token, name=b"other:ci:17") is not None

    def test_what_is_not_allowed_is_still_found(self) -> None:
        detector = Detector(allow=[Allowance("ci:*", "github-token")])
        value = json.dumps({"a": github_token(), "password": PASSPHRASE})
        found = detector.find(value, name=b"ci:17")
        assert found is not None and found.rule == "named-password"

    def test_an_unknown_rule_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no rule is named 'githubtoken'"):
            Allowance("*", "githubtoken")


class TestPolicy:
    def test_refuses_before_anything_is_sent(self) -> None:
        policy = Policy(Detector())
        with pytest.raises(PlaintextRefusedError) as caught:
            policy.check(PASSPHRASE, command="HSET", name=b"db:main", field=b"password")
        error = caught.value
        assert (error.rule, error.name, error.field) == ("named-password", b"db:main", b"password")
        assert PASSPHRASE not in str(error) and PASSPHRASE not in repr(error)
        for way_out in ("Secret(", "seal", "plaintext_ok="):
            assert way_out in str(error)
        assert pickle.loads(pickle.dumps(error)).rule == error.rule
        assert policy.counters() == {"refused": {"named-password": 1}, "warned": {}, "excused": {}}

    def test_a_secret_field_is_not_in_the_text(self) -> None:
        token = github_token()
        with pytest.raises(PlaintextRefusedError) as caught:
            Policy(Detector()).check(b"1", command="HSET", name=b"users", field=token.encode())
        assert token not in str(caught.value) and caught.value.field == b""

    def test_warns_once_for_a_rule_and_a_key(self) -> None:
        policy = Policy(Detector(), mode="warn")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for name in (b"a", b"a", b"b"):
                policy.check(github_token(), command="SET", name=name)
        assert [warning.category for warning in caught] == [PlaintextWarning] * 2
        assert all(github_token() not in str(warning.message) for warning in caught)
        assert policy.counters()["warned"] == {"github-token": 3}

    def test_off(self) -> None:
        Policy(Detector(own=OWN), mode="off").check(OWN[0], command="SET")

    def test_tier_3_only_warns(self) -> None:
        with pytest.warns(PlaintextWarning, match="high-entropy"):
            Policy(Detector()).check(corpus.base64_of(random.Random(3), 32), command="SET", name=b"config:x")

    def test_a_reason_excuses_all_but_own_keys(self) -> None:
        policy = Policy(Detector(own=OWN), mode="warn")
        policy.check(github_token(), command="SET", name=b"a", plaintext_ok="a revoked one, for the tests")
        assert policy.counters()["excused"] == {"a revoked one, for the tests": 1}
        with pytest.raises(PlaintextRefusedError, match="own-keyring"):
            policy.check(OWN[1], command="SET", name=b"a", plaintext_ok="why not")
        flag: Any = True
        for no_reason in (flag, "", "  "):
            with pytest.raises(TypeError, match="reason"):
                policy.check(b"x", command="SET", plaintext_ok=no_reason)

    def test_several_at_once_are_judged_as_each_is(self) -> None:
        policy = Policy(Detector(own=OWN))
        policy.check_many([b"a", b"b", b"c"], command="send", plaintext_ok="for the tests")
        assert policy.counters()["excused"] == {"for the tests": 3}
        for reason in (None, "why not"):
            with pytest.raises(PlaintextRefusedError, match="own-keyring"):
                policy.check_many([b"a", b"<" + OWN[1] + b">", b"c"], command="send", plaintext_ok=reason)
        with pytest.raises(PlaintextRefusedError, match="github"):
            policy.check_many([b"a", github_token().encode()], command="send")
        half = len(OWN[1]) // 2
        policy.check_many([OWN[1][:half], OWN[1][half:]], command="send", plaintext_ok="two halves")

    def test_an_unknown_mode(self) -> None:
        mode: Any = "on"
        with pytest.raises(ConfigurationError, match="refuse, warn, off"):
            Policy(Detector(), mode=mode)

    def test_nothing_of_ours_shows_key_material(self) -> None:
        detector = Detector(own=OWN)
        assert OWN[0].decode() not in repr(detector) + repr(Policy(detector))
        with pytest.raises(TypeError, match="pickled"):
            pickle.dumps(detector)


class TestSecret:
    def test_it_hides(self) -> None:
        secret = Secret(PASSPHRASE)
        assert secret.reveal() == PASSPHRASE
        for shown in (
            repr(secret),
            str(secret),
            f"{secret}",
            f"{secret:>20}",
            f"{secret!s} {secret!r}",
            repr([secret]),
        ):
            assert PASSPHRASE not in shown
        assert not hasattr(secret, "__dict__")

    def test_it_does_not_leave_by_accident(self) -> None:
        secret: Any = Secret(b"x")
        for leave in (pickle.dumps, json.dumps, bytes, len, iter, hash):
            with pytest.raises(TypeError):
                leave(secret)
        with pytest.raises(AttributeError):
            secret._value = b"y"
        with pytest.raises(TypeError):
            Secret(secret)
        assert copy.copy(secret) is copy.deepcopy(secret) is secret

    def test_equality(self) -> None:
        assert Secret("a") == Secret("a") and Secret(b"a") == Secret(bytearray(b"a"))
        assert Secret("a") != Secret("b") and Secret("a") != Secret(b"a") and Secret("é") == Secret("é")
        assert Secret({"a": 1}) == Secret({"a": 1}) and Secret(1) != Secret(1.0)
        assert Secret("a") != "a"


def test_the_docs_list_every_rule() -> None:
    page = (Path(__file__).parents[2] / "docs" / "secrets.md").read_text()
    documented = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (\d) \|", page, re.MULTILINE))
    assert documented == {rule: str(tier) for rule, tier in rules().items()}
