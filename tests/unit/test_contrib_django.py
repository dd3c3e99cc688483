"""What CACHES may say, what `manage.py check` finds, and `manage.py tenantkv`."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from django.conf import settings

if not settings.configured:
    settings.configure(USE_TZ=False)

from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.test import override_settings

from tenantkv import Keyring, Namespace
from tenantkv.cache import Near
from tenantkv.contrib.django import TenantCache, checks
from tenantkv.contrib.django.management.commands.tenantkv import Command
from tenantkv.contrib.django.options import read
from tenantkv.contrib.django.reports import Reporter

BACKEND = "tenantkv.contrib.django.TenantCache"


def options(**given: Any) -> Any:
    return read("redis://db", {"OPTIONS": given})


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"jiter": 0.1}, "did you mean 'jitter'"),
        ({"single_fligth": True}, "did you mean 'single_flight'"),
        ({"SERIALIZER": "django_redis.serializers.json.JSONSerializer"}, "'codec'"),
        ({"COMPRESSOR": "django_redis.compressors.zlib.ZlibCompressor"}, "'compress': True"),
        ({"CLIENT_CLASS": "django_redis.client.ShardClient"}, "LOCATION"),
        ({"SENTINELS": []}, "sentinel://"),
        ({"TIMEOUT": 5}, "beside OPTIONS"),
        ({"nonsense_altogether": 5}, "it takes"),
        ({"on_outage": "stale"}, "needs 'near'"),
        ({"on_outage": "panic"}, "on_outage is one of miss, stale, raise"),
        ({"IGNORE_EXCEPTIONS": True, "on_outage": "raise"}, "said twice"),
        ({"codec": "yaml"}, "codec is one of"),
        ({"patience": -1}, "timeout"),
        ({"patience": None}, "number of seconds"),
        ({"near": 5}, "Near"),
        ({"single_flight": "yes"}, "True or False"),
        ({"jitter": 2}, "jitter"),
        ({"name": "with {braces}"}, "letters"),
    ],
)
def test_a_wrong_option_is_told_apart(given, text):
    with pytest.raises(ImproperlyConfigured, match=text):
        options(**given)


def test_equal_aliases_share_connections_and_breaker_and_others_do_not():
    def breaker(**given: Any) -> Any:
        given["namespace"] = namespace
        return TenantCache("redis://db", {"OPTIONS": given})._store.main._wire.breaker

    namespace = Namespace(Keyring.generate(bytes(range(96))))
    assert breaker(seal=True) is breaker(seal=True)
    assert breaker(seal=True) is not breaker(seal=False)
    assert breaker(name="a") is not breaker(name="b")


def test_options_of_other_backends_are_understood():
    found = options(
        SOCKET_TIMEOUT=2,
        SOCKET_CONNECT_TIMEOUT=1,
        PASSWORD="x",
        IGNORE_EXCEPTIONS=False,
        CONNECTION_POOL_KWARGS={"max_connections": 5},
        MAX_ENTRIES=10,
        db=3,
    )
    assert found.patience == 1 and found.raises
    assert found.connection == {"password": "x", "max_connections": 5, "db": 3}
    assert options(socket_timeout=0.2).patience == 0.2
    assert options(near=Near(entries=5), on_outage="stale").near == Near(entries=5)


@pytest.mark.parametrize(
    "location", [["redis://a", "redis://b"], "redis://a,redis://b", "redis://a; rediss://b"]
)
def test_one_server(location):
    with pytest.raises(ImproperlyConfigured, match="one server"):
        read(location, {})


def test_locations_and_names():
    assert read("", {}).url is None and read(["redis://a"], {}).url == "redis://a"
    assert read("sentinel://a,b/main", {}).url == "sentinel://a,b/main"
    with pytest.raises(ImproperlyConfigured):
        read(5, {})
    with pytest.raises(ImproperlyConfigured):
        read("", {"OPTIONS": ["x"]})
    names = [read("", {"KEY_PREFIX": prefix}).name for prefix in ("", "shop", "a{b}", "x" * 300, "y" * 300)]
    assert names[:3] == ["django", "django-shop", "django-a%7Bb%7D"]
    assert len(set(names)) == 5 and all(len(name) < 110 for name in names)


def test_one_line_in_a_while(caplog):
    now = 0.0
    reporter = Reporter("pages", clock=lambda: now)
    for moment in (0, 1, 2, 11, 12, 30):
        now = float(moment)
        reporter.note("refused", 1)
    shown = [record.getMessage().split()[0] for record in caplog.records]
    assert shown == ["1", "3", "2"]


# manage.py check


def caches(**more: Any) -> dict[str, Any]:
    made = {"namespace": Namespace(Keyring.generate(os.urandom(96)))}
    return {
        "BACKEND": BACKEND,
        "LOCATION": "memory://",
        **more,
        "OPTIONS": {**made, **more.get("OPTIONS", {})},
    }


def ids(*messages: Any) -> list[str]:
    return sorted(message.id for found in messages for message in found)


def test_nothing_to_say():
    with override_settings(CACHES={"default": caches()}):
        assert checks.check_settings() == [] and checks.check_deployment() == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"default": caches(OPTIONS={"jiter": 1})}, ["tenantkv.E001"]),
        ({"default": {**caches(), "TIMEOUT": None}}, ["tenantkv.W005"]),
        ({"default": {**caches(), "TIMEOUT": 10**9}}, ["tenantkv.W005"]),
        ({"default": {**caches(OPTIONS={"allow_forever": True}), "TIMEOUT": None}}, []),
        ({"a": caches(), "default": caches()}, ["tenantkv.I001"]),
        ({"a": caches(OPTIONS={"name": "a"}), "default": caches()}, []),
        ({"a": caches(OPTIONS={"seal": True}), "default": caches()}, ["tenantkv.E004"]),
        ({"default": {"BACKEND": "no.such.Backend"}}, []),
    ],
)
def test_settings_are_checked(given, expected):
    with override_settings(CACHES={"default": {"BACKEND": BACKEND}, **given}):
        assert ids(checks.check_settings()) == expected


def test_the_keyring_is_checked(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("TENANTKV_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with override_settings(CACHES={"default": {"BACKEND": BACKEND, "LOCATION": "memory://"}}):
        (message,) = checks.check_settings()
        assert message.id == "tenantkv.E002" and "tenantkv init" in message.hint
        monkeypatch.setenv("TENANTKV_SECRET_KEYRING", "{broken")
        assert ids(checks.check_settings()) == ["tenantkv.E003"]


@pytest.mark.parametrize(
    ("prefix", "is_so"),
    [
        ("acme-shop-production-cache", True),
        ("my_project_2026_cache", True),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaa", True),
        ("cMnpdk6ABnQPaEoWS5G2itVN4XVbWL1JYTCCECCC2Wo=", False),
        ("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", False),
    ],
)
def test_guessable_prefixes(prefix, is_so):
    assert checks.is_guessable(prefix) is is_so


def test_no_random_prefix_is_guessable():
    assert not any(checks.is_guessable(Keyring.generate(os.urandom(96)).prefix) for _ in range(2000))


@pytest.mark.parametrize(
    ("given", "more", "expected"),
    [
        ({"BACKEND": "django_redis.cache.RedisCache"}, {}, ["tenantkv.W002"]),
        ({"BACKEND": "django.core.cache.backends.redis.RedisCache"}, {}, ["tenantkv.W002"]),
        ({"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}, {}, ["tenantkv.W004"]),
        (
            {"BACKEND": "django.core.cache.backends.redis.RedisCache"},
            {"SESSION_ENGINE": "django.contrib.sessions.backends.cache"},
            ["tenantkv.W002", "tenantkv.W003"],
        ),
        (caches(), {"SESSION_ENGINE": "django.contrib.sessions.backends.cache"}, []),
        (
            caches(OPTIONS={"seal_sessions": False}),
            {"SESSION_ENGINE": "django.contrib.sessions.backends.cached_db"},
            ["tenantkv.W003"],
        ),
    ],
)
def test_deployment_is_checked(given, more, expected):
    with override_settings(CACHES={"default": given}, **more):
        assert ids(checks.check_deployment()) == expected


def test_celerys_settings_are_checked():
    pytest.importorskip("celery")
    given = {
        "CELERY_BROKER_URL": "tenantkv://",
        "CELERY_TASK_ALWAYS_EAGER": False,
        "CELERY_TASK_TIMELIMIT": 5,
        # It has an effect: see docs/celery.md.
        "CELERY_BROKER_TRANSPORT_OPTIONS": {"global_keyprefix": "x"},
    }
    with override_settings(CACHES={"default": caches()}, **given):
        found = {message.id: message for message in checks.check_celery()}
    assert set(found) == {"tenantkv.W006"}
    assert "CELERY_TASK_TIME_LIMIT" in found["tenantkv.W006"].hint


# manage.py tenantkv


def manage(*words: str) -> str:
    output = io.StringIO()
    call_command(Command(stdout=output, no_color=True), *words)
    return output.getvalue()


def test_the_command():
    from django.core.cache import cache
    from django.core.cache import caches as all_caches

    given = {"default": caches(), "pages": caches(OPTIONS={"name": "pages", "seal": True})}
    with override_settings(CACHES=given):
        assert [status["alias"] for status in json.loads(manage("status", "--json"))] == ["default", "pages"]
        shown = manage("status")
        assert "values sealed" in shown and "values signed" in shown and "answers in" in shown
        cache.set("a\x1b[2J", 1)
        cache.set("b", 1)
        all_caches["pages"].set("b", 2)
        assert manage("keys").splitlines() == [r"a\x1b[2J", "b"]
        assert json.loads(manage("keys", "b*", "--json")) == ["b"]
        assert manage("clear") == "cleared default\n"
        assert cache.get("b") is None and all_caches["pages"].get("b") == 2
        assert manage("doctor").count("ok ") == 2
        with pytest.raises(CommandError, match="no 'nowhere'"):
            manage("clear", "--cache", "nowhere")


def test_the_command_without_a_server():
    given = {"default": {**caches(), "LOCATION": "redis://:hunter2@127.0.0.1:1"}}
    with override_settings(CACHES=given):
        shown = manage("status")
        assert "does not answer" in shown and "hunter2" not in shown
        with pytest.raises(CommandError, match="does not answer"):
            manage("clear")
        with pytest.raises(CommandError, match="something is wrong"):
            manage("doctor")


def test_it_is_imported_without_settings():
    program = (
        "import tenantkv.contrib.django, tenantkv.contrib.django.locks, tenantkv.contrib.django.checks\n"
        "from django.conf import settings; assert not settings.configured"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_no_entry_of_ours():
    local = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    with override_settings(CACHES={"default": local}):
        assert "no entry of CACHES" in manage("status")
        assert "warn" in manage("doctor")
