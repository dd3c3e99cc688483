"""Settings of protection: every way to say them, which of two counts, and what makes no sense."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

import tenantkv
from tenantkv import Keyring, Namespace
from tenantkv.errors import ConfigurationError, KeyringFormatError
from tenantkv.protection import OPTIONS, TEXT_OPTIONS, Protection
from tenantkv.rotation import add_key, promote, reinstate, retire
from tenantkv.secrets import Allowance

ENTROPY = bytes(range(96))


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TENANTKV_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def clients() -> Iterator[list[Any]]:
    made: list[Any] = []
    yield made
    for client in made:
        client.close()


def settled(url: str = "memory://", *, said: dict[str, str] | None = None, **arguments: Any) -> Protection:
    """Return the protection of a client that finds its settings in all the usual places."""
    keyring = Keyring.generate(ENTROPY, settings=said)
    client = tenantkv.connect(url, keyring=keyring, **arguments)
    protection: Protection = client.namespace.protection
    client.close()
    return protection


class TestForms:
    def test_the_default_refuses_plaintext_secrets_and_nothing_else(self) -> None:
        assert settled() == Protection()
        assert Protection().plaintext == "refuse"
        assert not Protection().seal and Protection().names == "plain"

    @pytest.mark.parametrize("yes", [True, "1", "true", "YES", " on "])
    @pytest.mark.parametrize("no", [False, "0", "false", "No", "off "])
    @pytest.mark.parametrize("name", ["seal", "bind_ttl"])
    def test_truths(self, name: str, yes: Any, no: Any) -> None:
        assert getattr(Protection.of(**{name: yes}), name) is True
        assert getattr(Protection.of(Protection(seal=True, bind_ttl=True), **{name: no}), name) is False

    @pytest.mark.parametrize(
        "globs", ["hits:*, visits", ["hits:*", "visits"], ("hits:*", b"visits"), iter(["hits:*", "visits"])]
    )
    @pytest.mark.parametrize("name", ["plaintext_keys"])
    def test_globs(self, name: str, globs: Any) -> None:
        assert getattr(Protection.of(**{name: globs}), name) == ("hits:*", "visits")

    def test_empty_globs_are_none(self) -> None:
        assert Protection.of(plaintext_keys=" , ").plaintext_keys == ()
        assert Protection.of(plaintext_channels=["", b""]).plaintext_channels == ()

    @pytest.mark.parametrize(
        "contexts", [{"jobs:*": "jobs"}, {b"jobs:*": b"jobs"}, [("jobs:*", "jobs")], (["jobs:*", b"jobs"],)]
    )
    def test_contexts(self, contexts: object) -> None:
        assert Protection.of(contexts=contexts).contexts == (("jobs:*", "jobs"),)

    @pytest.mark.parametrize(
        ("entry", "kept"),
        [
            (("demo:*",), ("demo:*", "*", "")),
            (("demo:*", "jwt"), ("demo:*", "jwt", "")),
            (["demo:*", "jwt", "samples"], ("demo:*", "jwt", "samples")),
            (Allowance("demo:*", "jwt", "samples"), ("demo:*", "jwt", "samples")),
        ],
    )
    def test_allowances(self, entry: object, kept: tuple[str, str, str]) -> None:
        assert Protection.of(allow=[entry]).allow == (kept,)

    @pytest.mark.parametrize(
        "moment",
        [
            1893456000,
            1893456000.0,
            "1893456000",
            "2030-01-01",
            "2030-01-01T00:00:00",
            "2030-01-01T00:00:00Z",
            "2030-01-01T02:00:00+02:00",
            datetime(2030, 1, 1),
            datetime(2030, 1, 1, tzinfo=timezone.utc),
            datetime(2030, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))),
        ],
    )
    def test_moments(self, moment: object) -> None:
        assert Protection.of(accept_plaintext_until=moment).accept_plaintext_until == 1893456000

    def test_others_stay_as_they_were(self) -> None:
        base = Protection(seal=True, plaintext_keys=("a",), contexts=(("b", "c"),), bind_ttl=True)
        assert Protection.of(base) == base
        changed = Protection.of(base, plaintext="warn")
        assert changed == Protection(
            seal=True, plaintext_keys=("a",), contexts=(("b", "c"),), bind_ttl=True, plaintext="warn"
        )

    def test_it_is_a_value(self) -> None:
        one, other = (
            Protection.of(seal="1", contexts={"a": "b"}),
            Protection.of(seal=True, contexts=[["a", "b"]]),
        )
        assert one == other and hash(one) == hash(other)
        assert pickle.loads(pickle.dumps(one)) == one


NONSENSE = [
    {"seal": "maybe"},
    {"seal": 1.5},
    {"seal": None},
    {"bind_ttl": "si"},
    {"mode": "encrypt"},
    {"mode": ["seal"]},
    {"mode": None},
    {"names": "Hidden"},
    {"names": b"hidden"},
    {"plaintext": "allow"},
    {"plaintext": False},
    {"plaintext_keys": 7},
    {"plaintext_keys": [7]},
    {"plaintext_keys": {"a": "b"}},
    {"plaintext_keys": b"a"},
    {"plaintext_keys": [b"\xff"]},
    {"plaintext_channels": [None]},
    {"contexts": "jobs"},
    {"contexts": ["ab"]},
    {"contexts": {"a": 1}},
    {"contexts": {b"\xff": "a"}},
    {"contexts": [("a", "b", "c")]},
    {"contexts": 5},
    {"allow": "jobs"},
    {"allow": ["jobs"]},
    {"allow": ["ab"]},
    {"allow": [()]},
    {"allow": [("a", "jwt", "b", "c")]},
    {"allow": [("a", "no-such-rule")]},
    {"allow": [("a", 1)]},
    {"allow": {"a": "jwt"}},
    {"allow": 5},
    {"accept_plaintext_until": "soon"},
    {"accept_plaintext_until": True},
    {"accept_plaintext_until": float("nan")},
    {"accept_plaintext_until": float("inf")},
    {"accept_plaintext_until": ["2030-01-01"]},
    {"accept_plaintext_until": ""},
    {"plaintext_ok": ""},
    {"plaintext_ok": "  "},
    {"plaintext_ok": True},
    {"sealed": True},
    {"plain_text": "off"},
]


@pytest.mark.parametrize("said", NONSENSE, ids=repr)
def test_nonsense_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Protection.of(**said)
    (name,) = said
    assert name in str(caught.value)


def test_every_option_has_a_reader_and_every_attribute_is_an_option() -> None:
    assert set(Protection.__slots__) == OPTIONS and set(TEXT_OPTIONS) < OPTIONS


class TestRepr:
    def test_only_what_was_changed(self) -> None:
        assert repr(Protection()) == "Protection()"
        assert repr(Protection(names="hidden")) == "Protection(names='hidden')"

    def test_no_secret_in_any_repr(self) -> None:
        # Not the fixed one: the server in memory is one for all tests of the process.
        keyring = Keyring.generate(os.urandom(96), settings={"seal": "yes", "names": "hidden"})
        client = tenantkv.connect("memory://", keyring=keyring)
        client.set("greeting", "hello")
        shown = [client, client.namespace, client.protector, client.protector.policy, client.sealer, keyring]
        text = " ".join(map(repr, [*shown, client.using(plaintext_ok="a reason").protector]))
        for secret in (keyring.prefix, keyring.naming.hex(), repr(keyring.naming)[2:12], "greeting", "hello"):
            assert secret not in text
        client.close()


class TestPlaces:
    """Argument, URL, environment, keyring, default: the first that says something counts."""

    TEXTS = {
        "seal": ("yes", True),
        "mode": ("sign", "sign"),
        "names": ("hidden", "hidden"),
        "plaintext": ("warn", "warn"),
        "plaintext_keys": ("hits:*,visits", ("hits:*", "visits")),
        "accept_plaintext_until": ("2030-01-01", 1893456000.0),
        "bind_ttl": ("on", True),
    }

    def test_each_text_option_is_tested(self) -> None:
        assert set(self.TEXTS) == set(TEXT_OPTIONS)

    @pytest.mark.parametrize("name", TEXT_OPTIONS)
    def test_each_place(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        text, value = self.TEXTS[name]
        assert getattr(settled(**{name: text}), name) == value
        assert getattr(settled(f"memory://?{name}={text}"), name) == value
        assert getattr(settled(said={name: text}), name) == value
        monkeypatch.setenv(f"TENANTKV_{name.upper()}", text)
        assert getattr(settled(), name) == value

    def test_what_only_arguments_say(self) -> None:
        found = settled(
            contexts={"a*": "a"},
            plaintext_channels="news",
            allow=[("b", "jwt", "why")],
            plaintext_ok="sample",
        )
        assert found.contexts == (("a*", "a"),) and found.plaintext_channels == ("news",)
        assert found.allow == (("b", "jwt", "why"),) and found.plaintext_ok == "sample"
        for name in sorted(OPTIONS - set(TEXT_OPTIONS)):
            with pytest.raises(ConfigurationError):
                settled(f"memory://?{name}=x")

    def test_precedence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        keyring = {"plaintext": "off", "seal": "yes", "names": "hidden", "mode": "sign"}
        assert settled(said=keyring).plaintext == "off"
        monkeypatch.setenv("TENANTKV_PLAINTEXT", "warn")
        assert settled(said=keyring).plaintext == "warn"
        assert settled("memory://?plaintext=refuse", said=keyring).plaintext == "refuse"
        assert settled("memory://?plaintext=refuse", said=keyring, plaintext="off").plaintext == "off"
        # And the keyring still counts where nobody else says anything.
        assert settled("memory://?plaintext=refuse", said=keyring).mode == "sign"

    def test_no_is_a_word_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert settled(said={"seal": "yes"}, seal=False).seal is False
        monkeypatch.setenv("TENANTKV_SEAL", "0")
        assert settled(said={"seal": "yes"}).seal is False
        assert settled("memory://?seal=1", said={"seal": "no"}).seal is True

    def test_none_says_nothing(self) -> None:
        assert settled(said={"seal": "yes"}, seal=None, names=None).seal is True

    @pytest.mark.parametrize(
        ("url", "said", "environment"),
        [
            ("memory://?seal=perhaps", None, None),
            ("memory://?names=Hidden", None, None),
            ("memory://", {"mode": "loud"}, None),
            ("memory://", None, ("TENANTKV_PLAINTEXT", "maybe")),
            ("memory://", None, ("TENANTKV_ACCEPT_PLAINTEXT_UNTIL", "later")),
        ],
    )
    def test_nonsense_in_every_place(
        self, url: str, said: Any, environment: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if environment:
            monkeypatch.setenv(*environment)
        with pytest.raises(ConfigurationError):
            settled(url, said=said)

    def test_a_namespace_brings_its_own(self) -> None:
        namespace = Namespace(Keyring.generate(ENTROPY), protection=Protection(seal=True, plaintext="warn"))
        client = tenantkv.connect("memory://", namespace=namespace, plaintext="off")
        assert client.namespace.protection == Protection(seal=True, plaintext="off")
        assert namespace.protection == Protection(seal=True, plaintext="warn")
        client.close()

    def test_hidden_names_turn_the_registry_on_unless_somebody_chose(self) -> None:
        keyring = Keyring.generate(ENTROPY)
        for registry, expected in ((None, True), (True, True), (False, False)):
            client = tenantkv.connect("memory://", keyring=keyring, names="hidden", registry=registry)
            assert bool(client.connection_pool.registrars) is expected
            client.close()

    def test_asyncio_and_pools_read_the_same(self) -> None:
        keyring = Keyring.generate(ENTROPY, settings={"seal": "yes"})
        client = tenantkv.asyncio.connect("memory://?bind_ttl=1", keyring=keyring, names="hidden")
        expected = Protection(seal=True, bind_ttl=True, names="hidden")
        assert client.namespace.protection == expected
        pool = tenantkv.connection_pool("memory://?bind_ttl=1", keyring=keyring, names="hidden")
        assert pool.namespace.protection == expected


class TestUsing:
    def test_other_settings_on_the_same_connections(self, clients: list[Any]) -> None:
        kv = tenantkv.connect("memory://", keyring=Keyring.generate(ENTROPY))
        clients.append(kv)
        sealing = kv.using(seal=True, bind_ttl="yes")
        assert sealing.namespace == kv.namespace
        assert sealing.namespace.protection == Protection(seal=True, bind_ttl=True)
        assert kv.namespace.protection == Protection()
        assert sealing.using(seal=False, bind_ttl=False).namespace.protection == Protection()

    @pytest.mark.parametrize("said", [*NONSENSE, {"names": "hidden"}], ids=repr)
    def test_nonsense(self, said: dict[str, Any], clients: list[Any]) -> None:
        kv = tenantkv.connect("memory://", keyring=Keyring.generate(ENTROPY))
        clients.append(kv)
        with pytest.raises(ConfigurationError):
            kv.using(**said)

    def test_children_inherit(self, clients: list[Any]) -> None:
        kv = tenantkv.connect("memory://", keyring=Keyring.generate(ENTROPY), seal=True, names="hidden")
        clients.append(kv)
        assert kv.child("customer-17").child("a").namespace.protection == kv.namespace.protection


class TestKeyringSettings:
    SAID = {"seal": "yes", "names": "hidden", "plaintext_keys": "hits:*"}

    def test_round_trip(self) -> None:
        keyring = Keyring.generate(ENTROPY, settings=self.SAID)
        for document in (keyring.dump(), keyring.dump(compact=True)):
            again = Keyring.parse(document)
            assert dict(again.settings) == self.SAID and again == keyring

    def test_none_leave_no_trace(self) -> None:
        assert "settings" not in Keyring.generate(ENTROPY).dump()
        assert Keyring.parse(Keyring.generate(ENTROPY).dump()).settings == ()

    def test_rotation_keeps_them(self) -> None:
        keyring = Keyring.generate(ENTROPY, settings=self.SAID)
        added = add_key(keyring, bytes(range(96, 128)), created="2026-11-21T00:00:00Z")
        promoted = promote(added, added.keys[-1].id)
        retired = retire(promoted, keyring.primary.id)
        for each in (added, promoted, retired, reinstate(retired, keyring.primary.id)):
            assert dict(each.settings) == self.SAID
            assert dict(Keyring.parse(each.dump()).settings) == self.SAID

    @pytest.mark.parametrize(
        "settings",
        ["seal", ["seal"], {"seal": True}, {"seal": None}, {"sealed": "yes"}, {"contexts": "a"}, 5],
    )
    def test_others_are_refused(self, settings: object) -> None:

        document = json.loads(Keyring.generate(ENTROPY).dump())
        document["settings"] = settings
        with pytest.raises(KeyringFormatError):
            Keyring.parse(json.dumps(document))


class TestPickles:
    def test_a_namespace_keeps_its_protection(self) -> None:
        protection = Protection(seal=True, names="hidden", plaintext="warn")
        namespace = Namespace(Keyring.generate(ENTROPY), protection=protection)
        again = pickle.loads(pickle.dumps(namespace))
        assert again.protection == protection and again is namespace

    def test_two_protections_of_one_namespace_are_told_apart(self) -> None:
        plain = Namespace(Keyring.generate(ENTROPY))
        sealed = plain.protected(Protection(seal=True))
        assert pickle.loads(pickle.dumps(plain)).protection == Protection()
        assert pickle.loads(pickle.dumps(sealed)).protection == Protection(seal=True)
