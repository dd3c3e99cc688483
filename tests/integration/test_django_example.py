"""The example site, as a user runs it: its commands, and its pages beside neighbours and in an outage."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.neighbourhood import EXAMPLES, neighbourhood
from tests.servers import start_tcp

SITE = EXAMPLES / "django_site"

# Runs in a process of its own, where the site's settings are the only ones.
BROWSE = """
import os, sys
sys.path.insert(0, os.environ["SITE"])
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
import django; django.setup()
from django.test import Client

alice, bob = Client(), Client()
assert "Hello, stranger" in alice.get("/").content.decode()
assert "Hello, Alice" in alice.post("/login", {"name": "Alice"}).content.decode()
text = alice.get("/").content.decode()
assert "Hello, Alice" in text and "You were here 3 times, and everybody 3 times" in text, text
assert "You were here 1 times, and everybody 4 times" in bob.get("/").content.decode()
assert [alice.get("/slow").content for _ in range(3)] == [b"computed 1 times"] * 3
assert [alice.get("/counter").content for _ in range(3)] == [b"1", b"2", b"3"]
assert alice.post("/clear").content == b"cleared"
assert alice.get("/slow").content == b"computed 2 times"
assert "Hello, stranger" in alice.get("/").content.decode()
alice.post("/login", {"name": "Alice"})
print("ready", flush=True)
sys.stdin.readline()
response = alice.get("/slow")
assert response.status_code == 200 and response.content == b"computed 3 times", response.content
cookie = alice.cookies["sessionid"].value
text = alice.get("/").content.decode()
assert "Hello, stranger" in text and "everybody" not in text, text
assert "Hello, Alice" in alice.post("/login", {"name": "Alice"}).content.decode()
visitor = Client()
assert visitor.get("/").status_code == 200
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
        (status,) = json.loads(manage("tenantkv", "status", "--json"))
        assert status["is_up"] and status["sessions"] == "sealed" and status["registry"]
        assert manage("tenantkv", "clear") == "cleared default\n"
