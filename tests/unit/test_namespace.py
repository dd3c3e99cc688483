"""The namespace: prefix rules, isolation of children, and that it never shows or carries a secret."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantkv.errors import ConfigurationError, KeyringNotFoundError
from tenantkv.keyring import Keyring
from tenantkv.keyring_store import create_keyring
from tenantkv.namespace import Namespace, find_alive
from tenantkv.protection import Protection


def make(number: int = 0, **options) -> Namespace:
    return Namespace(Keyring.generate(bytes(range(number, number + 96))), **options)


def imported(prefix: str) -> Namespace:
    return Namespace(Keyring.generate(bytes(range(96)), prefix=prefix))


names = st.binary(max_size=20)


@given(name=names)
def test_names_go_out_and_come_back(name: bytes) -> None:
    for namespace in (make(), make(placement="slot"), make().child("a")):
        wire = namespace.wire_name(name)
        assert namespace.own_name(wire) == name
        # Once more is another name, never the same.
        assert namespace.own_name(namespace.wire_name(wire)) == wire
        assert make(1).own_name(wire) is None


@given(name=names)
def test_no_name_of_one_is_a_name_of_another(name: bytes) -> None:
    family = [make(), make(1), make().child("a"), make().child("b"), make().child("a").child("b")]
    family += [make(placement="slot"), imported("0123456789abcdef"), imported("0123456789abcdef0")]
    for namespace in family:
        others = [other for other in family if other is not namespace]
        assert [other.own_name(namespace.wire_name(name)) for other in others] == [None] * len(others)


def test_no_prefix_starts_another() -> None:
    family = [imported("0123456789abcdef"), imported("0123456789abcdef0"), make(), make().child("a")]
    for one in family:
        for other in family:
            assert one is other or not other.wire_prefix.startswith(one.wire_prefix)
            assert not other.channel_prefix.startswith(one.wire_prefix)


@pytest.mark.parametrize(
    "prefix",
    ["", "short", "x" * 15, "x" * 513, *(f"0123456789abcdef{bad}" for bad in '*?[]\\{}: \n\x00"^é')],
)
def test_prefixes_that_cannot_stand_in_front(prefix: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        imported(prefix)
    assert not prefix or prefix not in str(caught.value)


def test_wire_forms() -> None:
    spread, slot = make(), make(placement="slot")
    prefix = spread.keyring.prefix.encode()
    assert spread.wire_name(b"a") == prefix + b":a"
    assert slot.wire_name(b"a") == b"{" + prefix + b"}:a"
    assert spread != slot and spread.channel_prefix != slot.channel_prefix
    with pytest.raises(ConfigurationError):
        make(placement="nonsense")


def test_channel_prefix_tells_nothing_about_keys() -> None:
    namespace = make()
    assert namespace.keyring.prefix.encode()[:8] not in namespace.channel_prefix
    assert namespace.channel_prefix[:8] not in namespace.wire_prefix
    # Another prefix over the same naming secret keeps the channels.
    same = Namespace(Keyring.generate(bytes(range(96)), prefix="0123456789abcdef"))
    assert same.channel_prefix == namespace.channel_prefix


def test_children() -> None:
    parent = make()
    assert parent.child("a") == make().child("a")
    assert len({parent.child(name).wire_prefix for name in ("a", "b", "A", "a/b", "a ", "é")}) == 6
    assert parent.child("a").child("b") != parent.child("a/b")
    assert parent.child("a").path == ("a",) and parent.child("a").child("b").path == ("a", "b")
    assert make(placement="slot").child("a").placement == "slot"
    for namespace in (parent.child("a"), parent.child("a").child("b")):
        assert namespace.keyring.naming != parent.keyring.naming
        assert parent.own_name(namespace.wire_name(b"k")) is None
        assert namespace.own_name(parent.wire_name(b"k")) is None
    with pytest.raises(ConfigurationError):
        parent.child("")


def test_equality_and_hash() -> None:
    assert make() == make() and hash(make()) == hash(make())
    assert make() != make(1) and make() != "x" and make() != make().child("a")
    assert len({make(), make(), make(1)}) == 2
    # The same secrets under another prefix are another place.
    assert imported("0123456789abcdef") != make()


def test_repr_shows_no_secret() -> None:
    namespace = make().child("customer-17")
    text = f"{namespace!r} {namespace}"
    assert namespace.fingerprint in text and "customer-17" in text
    for secret in (
        namespace.keyring.prefix,
        namespace.channel_prefix.decode(),
        namespace.keyring.naming.hex(),
    ):
        assert secret[:8] not in text


def test_copies_are_the_same_object() -> None:
    namespace = make()
    assert copy.copy(namespace) is namespace
    assert copy.deepcopy({"a": [namespace]})["a"][0] is namespace


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_is_a_reference(protocol: int) -> None:
    namespace = make().child("a")
    dumped = pickle.dumps(namespace, protocol)
    assert pickle.loads(dumped) is namespace
    keyring = namespace.keyring
    for secret in (keyring.prefix.encode(), namespace.channel_prefix, keyring.naming, keyring.keys[0].secret):
        assert secret[:8] not in dumped


def test_pickle_in_another_process_finds_the_keyring(tmp_path, monkeypatch) -> None:
    path = tmp_path / "private" / "keyring.json"
    created = create_keyring(path=path)
    dumped = pickle.dumps(Namespace(created.keyring, placement="slot").child("a"))
    code = (
        "import pickle, sys, tenantkv\n"
        f"namespace = pickle.loads({dumped!r})\n"
        "print(namespace.fingerprint, namespace.placement, namespace.path)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = Namespace(created.keyring).child("a").fingerprint
    assert result.stdout.split("\n")[0] == f"{expected} slot ('a',)"


def test_pickle_without_the_keyring_fails(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("TOOL_DATA_DIR", raising=False)
    namespace = make(7)
    dumped = pickle.dumps(namespace)
    fingerprint = namespace.fingerprint
    del namespace
    gc.collect()
    assert find_alive(fingerprint, "spread", Protection()) is None
    with pytest.raises(KeyringNotFoundError, match=fingerprint):
        pickle.loads(dumped)


def test_redact() -> None:
    namespace = make()
    wire, channel = namespace.wire_name(b"k").decode(), namespace.channel_prefix.decode() + "news"
    assert namespace.redact(f"no such key '{wire}' or {channel} or {wire}") == "no such key 'k' or news or k"
    assert namespace.redact(f"bare {namespace.keyring.prefix}") == "bare <prefix>"
    assert namespace.redact("nothing") == "nothing"


@pytest.mark.parametrize("quote", ["'{}' ", "`{}`, "])
def test_redact_a_quotation_that_was_cut_off(quote: str) -> None:
    """Servers quote 128 characters of an unknown command's arguments, and may cut a prefix in two."""
    for namespace in (make(), make(placement="slot")):
        wire = namespace.wire_name(b"key").decode()
        for length in range(1, len(wire) + 1):
            arguments = quote.format("x" * (128 - length)) + quote.format(wire[:length])
            text = namespace.redact(f"unknown command 'A', with args beginning with: {arguments}")
            assert "x" * (128 - length) in text
            rest = text.rpartition("x")[2]
            assert set(rest) <= set("'`, key"), (length, rest)
    # An own name that a prefix happens to begin with stays, where nothing was cut off.
    short = f"unknown command 'A', with args beginning with: {quote.format(make().keyring.prefix[:2])}"
    assert make().redact(short) == short
