"""Sites as they are served: by a real ASGI server, under gevent, and with django-debug-toolbar."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.neighbourhood import EXAMPLES, Neighbourhood, neighbourhood, wait_for
from tests.servers import RealServer

SITE = EXAMPLES / "django_site"


def run(place: Neighbourhood, program: str, **environment: str) -> str:
    """Run a program for the tenant and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**place.environment(), "SITE": str(SITE), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert place.namespace.keyring.prefix not in done.stdout + done.stderr
    return done.stdout


def test_an_asgi_server_opens_no_connection_for_a_request(shared_server: RealServer) -> None:
    pytest.importorskip("uvicorn")
    with neighbourhood(shared_server) as place, tempfile.TemporaryDirectory() as directory:
        place.plant(lambda client: client.set(":1:asynchronous", 99))
        path = Path(directory, "s")
        # A busy machine is no outage.
        patient = "from settings import *\nCACHES['default']['OPTIONS']['patience'] = 30.0\n"
        Path(directory, "patient.py").write_text(patient)
        environment = place.environment()
        environment["PYTHONPATH"] += os.pathsep + directory
        words = ["--factory", "django.core.asgi:get_asgi_application", "--lifespan", "off"]
        program = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", *words, "--uds", str(path), "--app-dir", str(SITE)],
            env={**environment, "DJANGO_SETTINGS_MODULE": "patient"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            wait_for("the server", path.exists, 60)
            transport = httpx.HTTPTransport(uds=str(path), retries=3)
            with httpx.Client(transport=transport, base_url="http://localhost", timeout=60) as browser:

                def count() -> int:
                    shown = re.search(r'id="count">(\d+)<', browser.get("/counter").text)
                    assert shown is not None
                    return int(shown[1])

                # The loop's own connection is opened by one of the first calls.
                assert [count() for _ in range(10)] == list(range(1, 11))
                before = connections(shared_server)
                assert [count() for _ in range(200)] == list(range(11, 211))
                assert connections(shared_server) == before
        finally:
            program.terminate()
            output, _ = program.communicate(timeout=60)
        assert "Traceback" not in output, output
        place.check()


def connections(server: RealServer) -> int:
    return int(server.operator().info("stats")["total_connections_received"])


GEVENT_DJANGO = """
from gevent import monkey; monkey.patch_all()
import gevent, time
from django.conf import settings
settings.configure(CACHES={"default": {
    "BACKEND": "tenantkv.contrib.django.TenantCache",
    "OPTIONS": {"max_connections": 4, "patience": 30.0},
}})
from django.core.cache import cache
from tenantkv.contrib.django import get_redis_connection

ended = []

def work(number):
    for step in range(10):
        cache.set(f"k{number}", [number, step])
        assert cache.get(f"k{number}") == [number, step]
        assert cache.get_many([f"k{number}"]) == {f"k{number}": [number, step]}
        cache.incr("sum") if cache.add("sum", 1) is False else None
    ended.append(number)

def wait(number):
    # Holds a connection of its own while the others work.
    assert get_redis_connection().blpop(f"list{number}", 60) == (f"list{number}".encode(), b"x")
    ended.append(f"waited {number}")

waiting = [gevent.spawn(wait, number) for number in range(3)]
gevent.joinall([gevent.spawn(work, number) for number in range(20)], raise_error=True)
assert len(ended) == 20, ended
assert cache.get("sum") == 200, cache.get("sum")
for number in range(3):
    get_redis_connection().rpush(f"list{number}", "x")
gevent.joinall(waiting, raise_error=True)
pool = cache._store.main._wire._pool
assert 1 < pool._created_connections <= 4, pool._created_connections
print("served")
"""

GEVENT_FLASK = """
from gevent import monkey; monkey.patch_all()
import gevent, http.client
from gevent.pywsgi import WSGIServer
import flask
from tenantkv.contrib.flask import TenantKV
from tenantkv.contrib.flask.sessions import TenantSessions

app = flask.Flask(__name__)
app.config.update(TENANTKV_CACHE={"timeout": 30.0})
tenant = TenantKV(app)
app.session_interface = TenantSessions(app, timeout=30.0)

@app.post("/login/<name>")
def login(name):
    app.session_interface.regenerate(flask.session)
    flask.session["name"] = name
    return name

@app.get("/")
def front():
    tenant.cache.incr("visits", initial=1)
    return flask.session["name"]

server = WSGIServer(("127.0.0.1", 0), app, log=None)
server.start()

def browse(number):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)

    def ask(method, path, cookie=""):
        connection.request(method, path, None, {"Cookie": cookie})
        answer = connection.getresponse()
        assert (answer.status, answer.read().decode()) == (200, f"visitor{number}")
        return (answer.headers.get("Set-Cookie") or "").split(";")[0] or cookie

    cookie = ask("POST", f"/login/visitor{number}")
    for _ in range(5):
        cookie = ask("GET", "/", cookie)
    return True

jobs = [gevent.spawn(browse, number) for number in range(20)]
gevent.joinall(jobs, raise_error=True)
assert all(job.value for job in jobs)
with app.app_context():
    assert tenant.cache.get("visits") == 100
    assert 1 < tenant.cache._wire._pool._created_connections <= 16
server.stop()
print("served")
"""


@pytest.mark.parametrize("program", [GEVENT_DJANGO, GEVENT_FLASK], ids=["Django", "Flask"])
def test_greenlets_share_a_pool_and_no_connection(program: str, shared_server: RealServer) -> None:
    pytest.importorskip("gevent", reason="gevent is not installed")
    with neighbourhood(shared_server) as place:
        place.plant(lambda client: client.set("visits", 99))
        assert run(place, program) == "served\n"
        place.check()


TOOLBAR = """
import asyncio, json, os, sys
sys.path.insert(0, os.environ["SITE"])
import settings as site
from django.conf import settings
given = {name: getattr(site, name) for name in dir(site) if name.isupper()}
given["INSTALLED_APPS"] = [*given["INSTALLED_APPS"], "django.contrib.staticfiles", "debug_toolbar"]
given["MIDDLEWARE"] = ["debug_toolbar.middleware.DebugToolbarMiddleware", *given["MIDDLEWARE"]]
# A busy machine is no outage.
given["CACHES"]["default"]["OPTIONS"]["patience"] = 30.0
given["TEMPLATES"] = [{**given["TEMPLATES"][0], "APP_DIRS": True}]
given["DEBUG_TOOLBAR_PANELS"] = ["debug_toolbar.panels.cache.CachePanel"]
given["DEBUG_TOOLBAR_CONFIG"] = {"SHOW_TOOLBAR_CALLBACK": lambda request: True, "IS_RUNNING_TESTS": False}
settings.configure(**{**given, "ROOT_URLCONF": "pages", "STATIC_URL": "/static/"})
import django; django.setup()
import types
from debug_toolbar.toolbar import debug_toolbar_urls
import urls
from django.core.cache import cache
from django.http import HttpResponse
from django.urls import path

async def coroutines(request):
    await cache.aset("page:7", "x")
    await cache.aget("page:7")
    return HttpResponse("<body></body>")

def functions(request):
    cache.set_many({"a": 1, "b": 2})
    cache.get_many(["a", "b", "c"])
    cache.add("number", 0)
    cache.incr("number")
    cache.get_or_set("made", lambda: "value")
    cache.delete("a")
    return HttpResponse("<body></body>")

pages = types.ModuleType("pages")
pages.urlpatterns = [path("co", coroutines), path("fun", functions), *urls.urlpatterns, *debug_toolbar_urls()]
sys.modules["pages"] = pages
from debug_toolbar.toolbar import DebugToolbar
from django.test import AsyncClient, Client

seen = {}
DebugToolbar._created.connect(lambda sender, toolbar, **_: seen.update(toolbar=toolbar), weak=False)

def calls():
    panel = seen["toolbar"].get_panel_by_id("CachePanel")
    shown = panel.content
    return [[call["name"], repr(call["args"])] for call in panel.get_stats()["calls"]], shown

found = {}
assert Client().get("/fun").status_code == 200
found["fun"], shown = calls()

async def often():
    client = AsyncClient()
    for _ in range(12):
        assert (await client.get("/co")).status_code == 200
    return calls()

found["co"], more = asyncio.run(often())
assert Client().get("/slow").status_code == 200
found["slow"], most = calls()
print(json.dumps([found, shown + more + most]))
"""


def test_the_debug_toolbar_shows_calls_in_own_names(shared_server: RealServer) -> None:
    pytest.importorskip("debug_toolbar")
    with neighbourhood(shared_server) as place:
        place.plant(lambda client: client.set(":1:a", 99))
        found: dict[str, Any]
        found, shown = json.loads(run(place, TOOLBAR))
        assert [name for name, _ in found["fun"]] == [
            *("set_many", "get_many", "add", "incr", "get_or_set", "delete"),
        ]
        assert found["fun"][1][1] == "(['a', 'b', 'c'],)"
        assert found["co"] == [["set", "('page:7', 'x')"], ["get", "('page:7',)"]]
        assert any("views.decorators.cache.cache_page" in words for _, words in found["slow"])
        assert "page:7" in shown and "tkv:" not in shown and place.namespace.keyring.prefix not in shown
        place.check()
