"""The parts of the Celery plug-in that need no server."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import types

import pytest
from celery import Celery

from tenantkv import Keyring, Namespace
from tenantkv.contrib.celery import backend, configure, drops, transport
from tenantkv.contrib.celery.chords import read_parts, seal_part
from tenantkv.contrib.celery.claims import Names, Row, read_row, script
from tenantkv.contrib.celery.client import as_bytes
from tenantkv.contrib.celery.messages import MessageSealer, Seen, message_id
from tenantkv.contrib.celery.options import read_options, with_defaults
from tenantkv.contrib.celery.server import missing_store, resolve, shown
from tenantkv.errors import ConfigurationError, KeyringError, PlaintextRefusedError


@pytest.fixture
def namespace():
    return Namespace(Keyring.generate(os.urandom(96)))


@pytest.fixture(autouse=True)
def environment(monkeypatch, namespace):
    for name in [n for n in os.environ if n.startswith(("TENANTKV_", "TOOL_", "REDIS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TENANTKV_SECRET_KEYRING", namespace.keyring.dump(compact=True))


# URLs


@pytest.mark.parametrize(
    ("urls", "options", "redis_url"),
    [
        (["tenantkv://h:7000/3"], {}, "redis://h:7000?db=3"),
        (["tenantkv://u:p%40@h/3"], {}, "redis://u:p%40@h:6379?db=3"),
        (["tenantkv+redis://h"], {}, "redis://h:6379?db=0"),
        (["tenantkv+rediss://h:7000/1"], {}, "rediss://h:7000?db=1"),
        # As a result backend is told it: Celery takes the first scheme away.
        (["rediss://h:7000/1"], {}, "rediss://h:7000?db=1"),
        (["tenantkv+socket:///run/redis.sock?virtual_host=2"], {}, "unix:///run/redis.sock?db=2"),
        (["tenantkv+unix:///run/redis.sock?db=2"], {}, "unix:///run/redis.sock?db=2"),
        (["tenantkv+sentinel://a:1/2", "b:3", "c"], {"master_name": "m"}, "redis://a:1?db=2"),
        (["tenantkv+sentinel://a:1,b:3/m/2"], {}, "redis://a:1?db=2"),
    ],
)
def test_url_forms(urls, options, redis_url):
    server = resolve(urls, options)
    assert server.found.settings.redis_url == redis_url
    assert server.db == int(redis_url.rpartition("=")[2])


def test_the_hosts_of_sentinels():
    server = resolve(
        ["tenantkv+sentinel://a:1/2", "tenantkv+sentinel://b:3/2", "c"],
        {"master_name": "m", "sentinel_kwargs": {"password": "x"}, "min_other_sentinels": 1},
    )
    url = server.found.settings.server
    assert (url.hosts, url.service) == ((("a", 1), ("b", 3), ("c", 26379)), "m")
    assert server.sentinel == {"password": "x", "min_other_sentinels": 1}
    pool = server.pool()
    asked = [each.connection_pool.connection_kwargs["host"] for each in pool.sentinel_manager.sentinels]
    assert asked == ["a", "b", "c"]


def test_the_environment_says_where(monkeypatch):
    monkeypatch.setenv("TENANTKV_URL", "redis://h:7000/3")
    assert resolve(["tenantkv://"], {}).found.settings.redis_url == "redis://h:7000?db=3"
    child = resolve(["tenantkv://?child=celery"], {})
    assert child.namespace.path == ("celery",)
    assert resolve(["tenantkv://"], {"child": "celery"}).namespace == child.namespace


@pytest.mark.parametrize(
    ("url", "options", "text"),
    [
        ("tenantkv://", {}, "no server URL"),
        ("tenantkv:///3", {}, "TENANTKV_URL"),
        ("tenantkv://?db=3", {}, "TENANTKV_URL"),
        ("tenantkv+memory://", {}, "embedded"),
        ("tenantkv+redis+cluster://h", {}, "Cluster"),
        ("tenantkv+sentinel://a", {}, "master_name"),
        ("tenantkv+amqp://h", {}, "scheme"),
        ("tenantkv://h", {"keyring": '{"prefix": 1}'}, "path"),
        ("tenantkv://h", {"identity": "0" * 16}, "not the one"),
    ],
)
def test_what_leads_nowhere_is_refused(url, options, text):
    with pytest.raises(ConfigurationError, match=text):
        resolve([url], options)


def test_tls_verifies(monkeypatch):
    server = resolve(["tenantkv+rediss://h"], {})
    assert server.found.options["ssl_cert_reqs"] == "required"
    assert server.pool().connection_class.__name__ == "NamespacedSSLConnection"
    also = resolve(["tenantkv://h"], {}, tls={"ssl_ca_certs": "/ca.pem"})
    assert also.found.scheme == "rediss"
    assert also.found.options["ssl_ca_certs"] == "/ca.pem"
    paths = types.SimpleNamespace(cafile=None, capath=None)
    monkeypatch.setattr("ssl.get_default_verify_paths", lambda: paths)
    found = missing_store()
    assert found is None or found.endswith(".pem")


def test_a_missing_keyring_is_an_error(monkeypatch, tmp_path):
    monkeypatch.delenv("TENANTKV_SECRET_KEYRING")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(KeyringError, match="init"):
        resolve(["tenantkv://h"], {})


def test_passwords_are_not_shown():
    assert "secret" not in shown("tenantkv+sentinel://u:secret@a:1/0;u:secret@b:2")
    assert "secret" not in shown("tenantkv://:secret@h/0")


# Options and settings


def test_defaults_and_their_bounds(caplog):
    options = read_options(with_defaults(None))
    assert options.connection["socket_timeout"] == 5.0
    assert options.renewal == 15.0
    assert read_options(with_defaults({"visibility_timeout": 4})).renewal == 1.0
    assert "retry_on_timeout" not in with_defaults({"retry_on_timeout": True})
    assert "blocks the worker" in caplog.text
    for wrong in (
        {"visibility_timeout": 0},
        {"lease_interval": 200},
        {"socket_timeout": 0.1},
        {"freshness": 0},
        {"message_lifetime": -1},
    ):
        with pytest.raises(ConfigurationError):
            read_options(with_defaults(wrong))


def test_configure_says_what_the_application_does_not(namespace):
    app = Celery("tool", set_as_current=False)
    app.conf.result_expires = 42
    app.conf.broker_transport_options = {"visibility_timeout": 60}
    assert configure(app, "tenantkv://h", namespace=namespace, replay_marks=10) is app
    assert app.conf.broker_url == app.conf.result_backend == "tenantkv://h"
    assert app.conf.result_expires == 42
    assert app.conf.result_backend_thread_safe is True
    assert app.conf.accept_content == ["json", "tenantkv"]
    options = app.conf.broker_transport_options
    assert (options["visibility_timeout"], options["replay_marks"]) == (60, 10)
    # What `inspect stats` shows to whoever may ask.
    assert namespace.keyring.prefix not in str(options)
    assert options["identity"] == namespace.fingerprint
    assert namespace.keyring.prefix not in str(app.conf.table(with_defaults=False))


def test_configure_hears_settings_with_a_prefix(namespace):
    settings = type("Settings", (), {"CELERY_RESULT_EXPIRES": 7, "CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT": 1})
    app = Celery("tool", set_as_current=False)
    app.config_from_object(settings, namespace="CELERY")
    configure(app, "tenantkv://h", namespace=namespace)
    assert (app.conf.result_expires, app.conf.worker_soft_shutdown_timeout) == (7, 1)
    assert app.conf.redis_max_connections == 10
    # Fewer, and threads that use remote control (Flower's) wait for each other's connections for ever.
    assert app.conf.broker_pool_limit == 10


def test_configure_refuses_at_once():
    app = Celery("tool", set_as_current=False)
    with pytest.raises(ConfigurationError):
        configure(app, "tenantkv://h", lease_interval=1000)
    with pytest.raises(ConfigurationError):
        configure(app, "amqp://h")
    assert app.conf.broker_url is None


def test_a_version_without_a_hook_is_refused_at_start():
    transport.check_hooks()
    backend.check_hooks()
    bare = types.SimpleNamespace(Channel=type("C", (), {}), Transport=object, MultiChannelPoller=object)
    with pytest.raises(ConfigurationError, match=r"Channel\._brpop_read"):
        transport.check_hooks(bare)
    with pytest.raises(ConfigurationError, match="CHORD_PART_RETURN_LUA"):
        backend.check_hooks(types.SimpleNamespace(RedisBackend=backend.stock.RedisBackend))


def test_the_url_is_known_without_an_import():
    code = (
        "import celery, kombu.transport, kombu.serialization as s\n"
        "celery.Celery(broker='tenantkv://')\n"
        "assert 'tenantkv' in kombu.transport.TRANSPORT_ALIASES\n"
        "kind, encoding, text = s.dumps({'a': 1}, 'tenantkv')\n"
        "assert kind == 'application/x-tenantkv-json'\n"
        "assert s.loads(text, kind, encoding, accept=[kind]) == {'a': 1}\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Messages


def test_a_message_opens_only_where_it_was_put(namespace):
    sealer = MessageSealer(namespace, 0)
    blob = sealer.seal(b"text", "list", b"celery")
    opened = sealer.open(blob, "list", b"celery")
    assert opened is not None and opened[0] == b"text"
    before = drops.counters().get("forged", 0)
    wrong = [
        (sealer, blob, "list", b"other"),
        (sealer, blob, "channel", b"celery"),
        (sealer, blob[:-1], "list", b"celery"),
        (sealer, blob[1:], "list", b"celery"),
        (sealer, b"", "list", b"celery"),
        (MessageSealer(namespace, 1), blob, "list", b"celery"),
        (MessageSealer(Namespace(Keyring.generate(os.urandom(96))), 0), blob, "list", b"celery"),
        (MessageSealer(namespace, 0, is_sealed=False), blob, "list", b"celery"),
    ]
    for reader, each, where, name in wrong:
        assert reader.open(each, where, name) is None
    assert drops.counters()["forged"] - before == len(wrong)


def test_messages_that_are_only_signed_hold_no_secrets(namespace):
    sealer = MessageSealer(namespace, 0, is_sealed=False)
    blob = sealer.seal(b'{"city": "Bern"}', "list", b"celery")
    assert b"Bern" in blob
    secret = json.dumps([[], {"password": "tr0ub4dor&3-horse"}, {}]).encode()
    body = {"body": base64.b64encode(secret).decode(), "properties": {"body_encoding": "base64"}}
    for payload in (json.dumps(body).encode(), secret, namespace.keyring.prefix.encode()):
        with pytest.raises(PlaintextRefusedError):
            sealer.seal(payload, "list", b"celery")


def test_members_are_deterministic_and_bound(namespace):
    sealer = MessageSealer(namespace, 0)
    member = sealer.seal_member(b"a", b"table")
    assert member == sealer.seal_member(b"a", b"table")
    assert sealer.open_member(member, b"table") == b"a"
    assert sealer.open_member(member, b"other") is None


def test_seen_forgets_the_oldest():
    seen = Seen(2)
    assert [seen.add(x) for x in ("a", "b", "a", "c", "a")] == [True, True, False, True, True]
    assert seen.holds("a") and not seen.holds("b")


def test_rows():
    row = Row("celery\x06\x169", b"\x01\xc1blob:with:colons")
    assert read_row(row.packed) == row
    assert row.id == message_id(row.blob)
    for wrong in (b"", b"x:y", b"999999:celery", b"-1:a", b"2:\xff\xfe"):
        assert read_row(wrong) is None


def test_scripts_name_every_key():
    for name in ("put", "claim", "finish", "renew", "audit"):
        body = script(name).body
        assert body.startswith(b"-- ")
        # A key is a KEYS[...] or a local made of them; never a text.
        assert b"redis.call('GET', '" not in body and b".. KEYS" not in body
    call = Names("unacked", "index").claim(
        "c", [("q", "q", True)], ["bell"], now=1.0, limits=read_options(with_defaults(None))
    )
    assert call.keys[-2:] == ["q", "bell"]
    assert call.arguments[-3:] == ["q", "q", "1"]


def test_parts_of_chords(namespace):
    sealer = MessageSealer(namespace, 0)
    name = b"group.j"
    parts = [seal_part(sealer, name, f"t{n}", n, b"r%d" % n) for n in (2, 0, 1)]
    last = seal_part(sealer, name, "t9", "+inf", b"r9")
    # Twice, forged, of another chord.
    more = [parts[0], b"garbage", seal_part(sealer, b"other.j", "t5", 5, b"r5")]
    read = read_parts(sealer, name, [last, *parts, *more])
    assert [part.encoded for part in read] == [b"r0", b"r1", b"r2", b"r9"]
    read = read_parts(sealer, name, parts, is_ordered=False)
    assert [part.encoded for part in read] == [b"r2", b"r0", b"r1"]


def test_names_as_they_are_sent():
    assert (as_bytes("é"), as_bytes(b"x"), as_bytes(1)) == ("é".encode(), b"x", b"1")
