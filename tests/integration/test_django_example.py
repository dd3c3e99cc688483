"""The example site, as a user runs it: its commands, and its pages beside neighbours and in an outage."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.neighbourhood import EXAMPLES, neighbourhood
from tests.servers import start_tcp

SITE = EXAMPLES / "django_site"

# Runs in a process of its own, where the site's settings are the only ones.
BROWSE = r"""
import os, re, sys
sys.path.insert(0, os.environ["SITE"])
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
import django; django.setup()
from django.test import Client

alice, bob = Client(), Client()

def shown(client, path="/"):
    response = client.get(path)
    assert response.status_code == 200, response
    return dict(re.findall(r'id="(\w+)">([^<]*)<', response.content.decode()))

def log_in(client):
    assert client.post("/login", {"name": "Alice"}).status_code == 302

assert shown(alice)["name"] == "stranger"
log_in(alice)
page = shown(alice)
assert (page["name"], page["mine"], page["everybody"]) == ("Alice", "2", "2"), page
page = shown(bob)
assert (page["name"], page["mine"], page["everybody"]) == ("stranger", "1", "3"), page
assert len({shown(alice)["part"] for _ in range(3)}) == 1
computed = [shown(alice, "/slow")["computed"] for _ in range(3)]
assert len(set(computed)) == 1 and "computed 1 times" in computed[0], computed
assert [shown(alice, "/counter")["count"] for _ in range(3)] == ["1", "2", "3"]
assert alice.post("/clear").url == "/?cleared=now"
assert "computed 2 times" in shown(alice, "/slow")["computed"]
# The sessions are a cache of their own.
page = shown(alice)
assert (page["name"], page["everybody"]) == ("Alice", "1"), page
assert "The server answers." in page["status"]
print("ready", flush=True)
sys.stdin.readline()
assert "computed 3 times" in shown(alice, "/slow")["computed"]
cookie = alice.cookies["sessionid"].value
page = shown(alice)
assert page["name"] == "stranger" and page["everybody"] == "unknown", page
assert "The server is away." in page["status"]
assert "not now" in shown(alice, "/counter")["count"]
assert alice.post("/clear").url == "/?cleared=later"
assert alice.cookies["sessionid"].value == cookie
log_in(alice)
assert shown(Client())["name"] == "stranger"
print("survived", flush=True)
"""


def test_pages_beside_neighbours_and_in_an_outage():
    server = start_tcp("shared")
    try:
        with neighbourhood(server) as place:
            place.plant(lambda client: client.set(":1:visits", 99))
            environment = {**place.environment(), "SITE": str(SITE), "TENANTKV_URL": server.tcp_url}
            program = subprocess.Popen(
                [sys.executable, "-c", BROWSE],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert program.stdout.readline() == "ready\n", program.communicate()
            names = place.own_names()
            assert names and all(name.startswith(b"tkv:") for name in names)
            assert not any(b"sessions" in name for name in names)
            place.check()
            server.kill()
            output, errors = program.communicate("go on\n", timeout=60)
            assert output == "survived\n", errors
            assert place.namespace.keyring.prefix not in errors
            # There is nobody left to ask.
            place.check = lambda: None
    finally:
        server.stop()


def test_commands(shared_server):
    with neighbourhood(shared_server, registry=True) as place:
        place.plant(lambda client: client.set("a", 1))

        def manage(*words):
            return place.run(sys.executable, str(SITE / "manage.py"), *words)

        assert "(tenantkv" not in manage("check", "--deploy", "--fail-level", "CRITICAL")
        for status in json.loads(manage("tenantkv", "status", "--json")):
            assert status["is_up"] and status["sessions"] == "sealed" and status["registry"]
        assert manage("tenantkv", "clear", "--cache", "default") == "cleared default\n"
