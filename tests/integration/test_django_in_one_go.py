"""A Django site whose settings are one line: cache, sessions, a Celery worker and Channels together."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tenantkv.contrib.django import settings
from tenantkv.errors import ConfigurationError
from tests.neighbourhood import neighbourhood
from tests.servers import start_tcp

pytest.importorskip("channels")

SETTINGS = """
import os
from tenantkv.contrib.django import settings

SECRET_KEY = "only-for-this-test-and-of-fifty-different-characters-0123456789"
INSTALLED_APPS = ["django.contrib.sessions", "tenantkv.contrib.django"]
MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware"]
USE_TZ = True
vars().update(settings(os.environ.get("SITE_URL")))
CELERY_RESULT_EXPIRES = 600
"""

TASKS = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
import django; django.setup()
from asgiref.sync import async_to_sync
from celery import Celery
from channels.layers import get_channel_layer
from django.core.cache import cache

app = Celery("site")
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.task
def announce(word):
    cache.set("announced", word)
    async_to_sync(get_channel_layer().group_send)("room", {"type": "chat.message", "text": word})
    return word
"""

# A web process, which tells how far it is and is told when to go on.
WEB = """
import asyncio, sys
from site_tasks import announce, app
from channels.layers import get_channel_layer
from django.contrib.sessions.backends.base import SessionBase
from django.core.cache import cache, caches
from importlib import import_module
from django.conf import settings
from tenantkv.contrib.django import get_redis_connection

cache.set("page", "cached")
Session = import_module(settings.SESSION_ENGINE).SessionStore
session = Session()
session["user"] = "alice"
session.create()
layer = get_channel_layer()
assert app.conf.result_expires == 600 and app.conf.accept_content == ["json", "tenantkv"]


async def main():
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    result = announce.delay("hello from a queue")
    # The strongest that can be done to a cache, and more than Django's clear() does.
    assert cache.get("page") == "cached"
    cache.clear()
    get_redis_connection("default").flushdb()
    assert cache.get("page") is None
    print("cleared", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    message = await asyncio.wait_for(layer.receive(channel), 30)
    assert message == {"type": "chat.message", "text": "hello from a queue"}, message
    assert await asyncio.to_thread(result.get, timeout=30) == "hello from a queue"
    await layer.close_pools()


asyncio.run(main())
assert cache.get("announced") == "hello from a queue"
assert Session(session.session_key)["user"] == "alice"
caches["sessions"].clear()
assert "user" not in Session(session.session_key)
assert cache.get("announced") == "hello from a queue"
print("done", flush=True)
"""


@pytest.fixture(scope="module")
def server():
    running = start_tcp("shared")
    yield running
    running.stop()


@pytest.fixture
def site(tmp_path):
    (tmp_path / "site_settings.py").write_text(SETTINGS)
    (tmp_path / "site_tasks.py").write_text(TASKS)
    return tmp_path


@pytest.mark.parametrize(
    "is_argument", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["argument", "environment"]
)
def test_clearing_the_cache_touches_no_task_no_session_and_no_group(server, site, is_argument):
    server.flush()
    with neighbourhood(server, registry=True) as place:
        place.plant(lambda client: client.set("page", "the neighbour's"))
        environment = {**place.environment(), "DJANGO_SETTINGS_MODULE": "site_settings"}
        environment["PYTHONPATH"] += os.pathsep + str(site)
        environment["TENANTKV_URL"] = "redis://127.0.0.1:1" if is_argument else server.tcp_url
        if is_argument:
            environment["SITE_URL"] = server.tcp_url
        web = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", WEB],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        log = site / "worker.log"
        with log.open("wb") as output:
            worker = None
            try:
                assert web.stdout.readline() == "cleared\n", web.communicate()
                # The task waited for a worker while the cache's namespace was emptied.
                assert place.namespace.child("celery").wire_name(b"celery") in server.dump_keys()
                worker = subprocess.Popen(
                    [sys.executable, "-m", "celery", "-A", "site_tasks", "worker", "-P", "solo"],
                    env=environment,
                    stdout=output,
                    stderr=output,
                )
                printed, errors = web.communicate("go on\n", timeout=60)
                assert printed == "done\n", errors + log.read_text()
            finally:
                web.kill()
                web.wait()
                if worker is not None:
                    worker.kill()
                    worker.wait()
        own = {
            place.namespace.child(name).wire_prefix for name in ("cache", "sessions", "celery", "channels")
        }
        dump = server.dump()
        ours = {key: value for (_, key), (value, _) in dump.items() if key[:45] in own}
        assert {key[:45] for key in ours} == own
        place.namespace = _All(own)
        place.check()
        # Sealed, all of it; only the names of the cache's entries are plain.
        stored = b"".join([*ours, *ours.values()])
        for word in (b"hello from", b"alice", b"site_tasks", b"chat.message"):
            assert word not in stored


class _All:
    """Stands for the children's namespaces where a neighbourhood looks for what is foreign."""

    def __init__(self, prefixes):
        self.wire_prefix = tuple(prefixes)


def test_the_checks_have_nothing_to_say(server, site):
    server.flush()
    with neighbourhood(server) as place:
        environment = {**place.environment(), "SITE_URL": server.tcp_url, "PYTHONWARNINGS": "ignore"}
        environment["PYTHONPATH"] += os.pathsep + str(site)
        done = subprocess.run(
            [sys.executable, "-m", "django", "check", "--deploy", "--settings", "site_settings"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "tenantkv." not in done.stderr + done.stdout


def test_settings_need_no_keyring_and_no_server():
    """An image is built, and its static files are collected, where there is neither."""
    found = settings("redis://nobody.invalid:1", keyring="/nowhere/keyring.json", namespace="site")
    assert found["CHANNEL_LAYERS"]["default"]["CONFIG"]["keyring"] == "/nowhere/keyring.json"
    assert found["CELERY_BROKER_TRANSPORT_OPTIONS"]["namespace"] == "site"
    assert {c["OPTIONS"]["child"] for c in found["CACHES"].values()} == {"cache", "sessions"}
    with pytest.raises(ConfigurationError, match="path"):
        settings(keyring='{"v": 1}')


def test_signing_instead_of_sealing_leaves_sessions_sealed():
    found = settings("redis://localhost", seal=False)
    assert found["CACHES"]["default"]["OPTIONS"]["seal"] is False
    assert found["CACHES"]["sessions"]["OPTIONS"]["seal"] is True
    assert found["CELERY_BROKER_TRANSPORT_OPTIONS"]["seal"] is False


def test_sentinels_are_spelled_as_everywhere(monkeypatch):
    from kombu import Connection

    from tenantkv import Keyring

    monkeypatch.setenv("TENANTKV_SECRET_KEYRING", Keyring.generate(os.urandom(96)).dump(compact=True))
    found = settings("sentinel://one:26379,two:26379/main/0")
    connection = Connection(
        found["CELERY_BROKER_URL"], transport_options=found["CELERY_BROKER_TRANSPORT_OPTIONS"]
    )
    server = connection.transport.server.found.settings.server
    assert [host for host, _ in server.hosts] == ["one", "two"]
    assert (server.service, server.db) == ("main", 0)
