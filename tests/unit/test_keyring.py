"""The keyring: what it derives, what it refuses, and that it never shows a secret."""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import json
import pickle
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantkv.errors import ConfigurationError, KeyringFormatError
from tenantkv.keyring import Key, Keyring, check_prefix
from tenantkv.namespace import Namespace

ENTROPY = bytes(range(96))
OTHER_ENTROPY = bytes(range(96, 192))

# Fingerprint and key id of the keyring of ENTROPY, and of its child "customer-17".
FROZEN = [("305473ad2c30daa6", "cbcdfb23"), ("6f1daf5ffb1057bc", "ce55f43f")]
FROZEN_CHILD_PREFIX = "zH937a74eifosHoObEihhJXQhgOzpTnJvVkVPF+2vRY="


def document(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(Keyring.generate(ENTROPY).dump())
    fields.update(changes)
    return fields


def secrets_of(keyring: Keyring) -> list[str]:
    values = [keyring.prefix, base64.b64encode(keyring.naming).decode(), keyring.naming.hex()]
    for key in keyring.keys:
        values += [base64.b64encode(key.secret).decode(), key.secret.hex(), repr(key.secret)[2:12]]
    return values


def rfc5869(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-SHA256 written out, so that the derivation is frozen apart from the library's."""
    key = hmac.new(b"tenantkv/v1", secret, hashlib.sha256).digest()
    block, result = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.new(key, block + label + bytes([counter]), hashlib.sha256).digest()
        result += block
    return result[:length]


class TestGenerate:
    def test_prefix_is_what_openssl_rand_base64_32_gives(self) -> None:
        prefix = Keyring.generate(ENTROPY).prefix
        assert prefix == base64.b64encode(ENTROPY[:32]).decode()
        assert len(prefix) == 44

    def test_parts_are_independent(self) -> None:
        keyring = Keyring.generate(ENTROPY)
        assert keyring.naming == ENTROPY[32:64]
        assert keyring.primary.secret == ENTROPY[64:]

    @pytest.mark.parametrize("length", [0, 32, 95, 97])
    def test_wrong_amount_of_entropy_is_refused(self, length: int) -> None:
        with pytest.raises(ConfigurationError, match="96"):
            Keyring.generate(bytes(length))

    def test_an_imported_prefix_is_kept(self) -> None:
        keyring = Keyring.generate(ENTROPY, prefix="my-tool.2024_abcdef")
        assert keyring.prefix == "my-tool.2024_abcdef"
        assert Keyring.parse(keyring.dump()) == keyring

    @pytest.mark.parametrize("label", ["", "a/b", "../x", ".hidden", "a b", "x" * 65, "ä", "a\n"])
    def test_a_label_that_cannot_name_a_file_is_refused(self, label: str) -> None:
        with pytest.raises(ConfigurationError, match="label"):
            Keyring.generate(ENTROPY, namespace=label)


class TestPrefix:
    @pytest.mark.parametrize(
        "prefix",
        ["", "short", "x" * 15, "x" * 513, "[" + "x" * 20, "{" + "x" * 20 + "}", "x\0" * 20]
        + [f"{'x' * 20}{last}" for last in ("*", "?", ":", " ", "\n", "\\", "ü")],
    )
    def test_unusable_prefixes_are_refused_without_repeating_them(self, prefix: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            check_prefix(prefix)
        assert len(prefix) < 2 or prefix not in str(caught.value)

    @pytest.mark.parametrize("prefix", ["x" * 16, "x" * 512, "A0+/=_.-" * 2])
    def test_usable_prefixes_come_back(self, prefix: str) -> None:
        assert check_prefix(prefix) == prefix


class TestDerivation:
    def test_derive_is_hkdf_sha256_with_our_salt(self) -> None:
        keyring = Keyring.generate(ENTROPY)
        assert keyring.derive("channel-prefix", 24) == rfc5869(ENTROPY[32:64], b"channel-prefix", 24)
        assert keyring.primary.derive("det-siv", 64) == rfc5869(ENTROPY[64:], b"det-siv", 64)

    def test_key_id_follows_from_the_secret(self) -> None:
        assert Keyring.generate(ENTROPY).primary.id == rfc5869(ENTROPY[64:], b"key-id", 4).hex()

    def test_frozen_vectors(self) -> None:
        # Change one of these and every tenant's data moves away from under them.
        keyring = Keyring.generate(ENTROPY)
        child = keyring.child("customer-17")
        assert (keyring.fingerprint, keyring.primary.id) == FROZEN[0]
        assert (child.fingerprint, child.primary.id) == FROZEN[1]
        assert child.prefix == FROZEN_CHILD_PREFIX

    def test_fingerprint_depends_on_prefix_and_naming_only(self) -> None:
        keyring = Keyring.generate(ENTROPY)
        same_names = Keyring.generate(ENTROPY[:64] + OTHER_ENTROPY[64:], created="2026-01-01")
        assert keyring.fingerprint == same_names.fingerprint
        assert keyring.fingerprint != Keyring.generate(ENTROPY, prefix="p" * 16).fingerprint
        other_naming = Keyring.generate(ENTROPY[:32] + OTHER_ENTROPY[32:64] + ENTROPY[64:])
        assert keyring.fingerprint != other_naming.fingerprint
        assert len(keyring.fingerprint) == 16
        int(keyring.fingerprint, 16)


class TestChild:
    def test_a_child_is_the_same_everywhere(self) -> None:
        assert Keyring.generate(ENTROPY).child("a") == Keyring.generate(ENTROPY).child("a")

    def test_a_child_has_the_form_of_a_keyring(self) -> None:
        child = Keyring.generate(ENTROPY).child("a")
        assert len(child.prefix) == 44 and len(base64.b64decode(child.prefix)) == 32
        assert Keyring.parse(child.dump()) == child

    def test_keys_keep_their_states_and_get_ids_of_their_own(self) -> None:
        parent = Keyring.generate(ENTROPY)
        extra = Key.from_secret(bytes(32), state="active", created="2026-01-01T00:00:00Z")
        parent = Keyring(parent.prefix, parent.naming, (*parent.keys, extra))
        child = parent.child("a")
        assert [key.state for key in child.keys] == ["primary", "active"]
        assert {key.id for key in child.keys}.isdisjoint(key.id for key in parent.keys)

    def test_source_and_generation_come_along(self) -> None:
        text = json.dumps(document(generation=7))
        child = Keyring.parse(text, "/somewhere").child("a")
        assert (child.source, child.generation) == ("/somewhere", 7)

    @given(st.lists(st.lists(st.text(min_size=1), max_size=3), min_size=2, max_size=6))
    def test_different_ways_lead_to_different_identities(self, ways: list[list[str]]) -> None:
        seen: dict[str, tuple[str, ...]] = {}
        for way in ways:
            if any("\ud800" <= letter <= "\udfff" for name in way for letter in name):
                continue
            keyring = Keyring.generate(ENTROPY)
            for name in way:
                keyring = keyring.child(name)
            for part in (keyring.prefix, keyring.naming.hex(), keyring.primary.secret.hex()):
                assert seen.setdefault(part, tuple(way)) == tuple(way)

    def test_slashes_do_not_nest(self) -> None:
        keyring = Keyring.generate(ENTROPY)
        assert keyring.child("a").child("b").prefix != keyring.child("a/b").prefix

    @pytest.mark.parametrize("name", ["", None, b"a", "\ud800"])
    def test_names_that_are_no_text_are_refused(self, name: Any) -> None:
        with pytest.raises(ConfigurationError):
            Keyring.generate(ENTROPY).child(name)


def broken_documents() -> list[tuple[str, str]]:
    """Pairs of a broken document and a word that its error must have."""
    good = Keyring.generate(ENTROPY).dump()
    key = document()["keys"][0]
    other = json.loads(Keyring.generate(OTHER_ENTROPY).dump())["keys"][0]
    twice = good.replace('"generation": 1', '"generation": 1, "generation": 2')
    cases: list[tuple[str, str]] = [
        ("", "empty"),
        ("  \n", "empty"),
        (good[: len(good) // 2], "line"),
        (good[:-3], "line"),
        ("[" * 100_000, "JSON"),
        ('{"generation": ' + "9" * 10_000 + "}", ""),
        ("[]", "not a tenantkv keyring"),
        ('"text"', "not a tenantkv keyring"),
        ('{"foreign": 1}', "not a tenantkv keyring"),
        (twice, "twice"),
        (json.dumps(document(tenantkv_keyring=2)), "is 2"),
        (json.dumps(document(tenantkv_keyring=True)), "not a version"),
        (json.dumps(document(tenantkv_keyring="1")), "not a version"),
        (json.dumps(document(tenantkv_keyring=10**30)), "not a version"),
        (json.dumps(document(extra=1)), "besides"),
        (json.dumps(document(generation=0)), "generation"),
        (json.dumps(document(generation=True)), "generation"),
        (json.dumps(document(generation="1")), "generation"),
        (json.dumps(document(namespace="a/b")), "label"),
        (json.dumps(document(namespace=3)), "namespace"),
        (json.dumps(document(prefix="")), "empty"),
        (json.dumps(document(prefix="x" * 20 + "*")), "character"),
        (json.dumps(document(prefix=None)), "prefix"),
        (json.dumps(document(naming=base64.b64encode(bytes(31)).decode())), "naming"),
        (json.dumps(document(naming=base64.b64encode(bytes(33)).decode())), "naming"),
        (json.dumps(document(naming="!" * 44)), "naming"),
        # The same bytes in base64 with stray bits: two texts for one secret.
        (json.dumps(document(naming=base64.b64encode(bytes(32)).decode()[:-2] + "B=")), "naming"),
        (json.dumps(document(keys={})), "list"),
        (json.dumps(document(keys=[])), "empty"),
        (json.dumps(document(keys=["x"])), "object"),
        (json.dumps(document(keys=[key, key])), "two keys"),
        (json.dumps(document(keys=[key, other])), "2 keys are 'primary'"),
        (json.dumps(document(keys=[key | {"state": "active"}])), "0 keys are 'primary'"),
        (json.dumps(document(keys=[key | {"state": "PRIMARY"}])), "state"),
        (json.dumps(document(keys=[key | {"id": other["id"]}])), "does not belong"),
        (json.dumps(document(keys=[key | {"id": "XYZ"}])), "hexadecimal"),
        (json.dumps(document(keys=[key | {"secret": "AAAA"}])), "secret"),
        (json.dumps(document(keys=[key | {"created": "\x1b[31m"}])), "created"),
        (json.dumps(document(keys=[key | {"note": ""}])), "besides"),
    ]
    for name in document():
        fields = document()
        del fields[name]
        cases.append((json.dumps(fields), f"'{name}'"))
    for name in key:
        fields = {field: value for field, value in key.items() if field != name}
        cases.append((json.dumps(document(keys=[fields])), f"'{name}'"))
    return cases


class TestParse:
    @pytest.mark.parametrize(("text", "word"), broken_documents())
    def test_broken_documents_are_refused_precisely_and_show_nothing(self, text: str, word: str) -> None:
        with pytest.raises(KeyringFormatError) as caught:
            Keyring.parse(text, "/home/x/keyring.json")
        error = caught.value
        assert word in str(error)
        assert error.source == "/home/x/keyring.json"
        shown = "".join(traceback.format_exception(error))
        keyring = Keyring.generate(ENTROPY)
        assert not any(secret in shown for secret in secrets_of(keyring))
        # JSONDecodeError has the whole document, and error trackers follow __context__.
        chain: BaseException | None = error
        while chain is not None:
            assert not hasattr(chain, "doc")
            chain = chain.__context__ or chain.__cause__

    @pytest.mark.parametrize("compact", [True, False])
    def test_a_document_round_trips(self, compact: bool) -> None:
        keyring = Keyring.generate(ENTROPY, namespace="shop", created="2026-01-02T03:04:05Z")
        text = keyring.dump(compact=compact)
        assert Keyring.parse(text) == keyring
        assert ("\n" in text) is not compact

    @given(st.text(max_size=60))
    def test_any_text_is_refused_with_our_own_error(self, text: str) -> None:
        with pytest.raises(KeyringFormatError):
            Keyring.parse(text)

    def test_source_does_not_make_a_keyring_different(self) -> None:
        text = Keyring.generate(ENTROPY).dump()
        assert Keyring.parse(text, "a") == Keyring.parse(text, "b")


class TestSecrecy:
    def test_nothing_secret_in_repr_and_str(self) -> None:
        keyring = Keyring.generate(ENTROPY)
        parsed = Keyring.parse(keyring.dump(), "/x")
        shown = f"{keyring!r} {keyring} {keyring.keys!r} {parsed!r} {Namespace(keyring)!r}"
        assert keyring.fingerprint in shown and keyring.primary.id in shown
        assert not any(secret in shown for secret in secrets_of(keyring))

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_pickling_is_refused(self, protocol: int) -> None:
        keyring = Keyring.generate(ENTROPY)
        for secret in (keyring, keyring.primary, [keyring]):
            with pytest.raises(TypeError, match="not pickled"):
                pickle.dumps(secret, protocol)

    def test_copies_are_the_same_object(self) -> None:
        keyring = Keyring.generate(ENTROPY)
        assert copy.copy(keyring) is keyring and copy.deepcopy(keyring) is keyring
        assert copy.deepcopy(keyring.primary) is copy.copy(keyring.primary)

    def test_it_cannot_be_changed(self) -> None:
        keyring = Keyring.generate(ENTROPY)
        with pytest.raises(AttributeError):
            keyring.prefix = "x" * 20  # type: ignore[misc]
        with pytest.raises((AttributeError, TypeError)):
            keyring.extra = 1  # type: ignore[attr-defined]
