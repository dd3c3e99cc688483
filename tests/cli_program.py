"""``tenantkv`` as a process of its own, for one tenant on one server; and what its JSON has to look like."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tenantkv
from tenantkv import Keyring, Namespace
from tenantkv.keyring_store import create_keyring
from tests.servers import RealServer

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = json.loads((ROOT / "docs" / "schemas" / "cli.json").read_text())["$defs"]

KINDS: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}

Done = subprocess.CompletedProcess[bytes]


class Program:
    """Runs the command line in a home directory of its own.

    Args:
        place: an empty directory.
        url: of the server.
        settings: of the keyring, such as ``{"seal": "yes"}``.
    """

    def __init__(self, place: Path, url: str, settings: Mapping[str, str] | None = None) -> None:
        self.home = place / "home"
        self.home.mkdir(mode=0o700)
        self.url = url
        self.environ = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(tenantkv.__file__).parents[1]),
            "LC_ALL": "C.UTF-8",
            "TENANTKV_URL": url,
            "TENANTKV_SECRET_KEYRING_FILE": str(self.home / "k.json"),
        }
        self.ring: Keyring = create_keyring(path=self.home / "k.json", settings=dict(settings or {})).keyring
        self.namespace = Namespace(self.ring)

    def start(self, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tenantkv", *words], cwd=self.home, env=self.environ, **options
        )

    def run(self, *words: str | bytes, stdin: bytes = b"", **options: Any) -> Done:
        return subprocess.run(
            [sys.executable, "-m", "tenantkv", *words],
            cwd=self.home,
            env=self.environ,
            input=stdin,
            stdout=options.pop("stdout", subprocess.PIPE),
            stderr=subprocess.PIPE,
            check=False,
            timeout=90,
            **options,
        )

    def json(self, *words: str | bytes, stdin: bytes = b"", code: int = 0) -> Any:
        """Run with --json, and return the report, which matches the published schema."""
        done = self.run(words[0], "--json", *words[1:], stdin=stdin)
        assert done.returncode == code, done.stderr
        report = json.loads(done.stdout)
        check(report, SCHEMAS[os.fsdecode(words[0])], os.fsdecode(words[0]))
        return report

    def connect(self, **options: Any) -> Any:
        return tenantkv.connect(self.url, keyring=self.ring, registry=True, **options)

    def shows_a_secret(self, *results: Done) -> bool:
        fields = json.loads(self.ring.dump())
        secrets = [self.ring.prefix, fields["naming"], fields["keys"][0]["secret"]]
        shown = b"".join(done.stdout + done.stderr for done in results)
        return any(secret.encode() in shown for secret in secrets)


def check(value: Any, schema: Any, where: str) -> None:
    """Check a value against the few words of JSON Schema that the published ones use."""
    unknown = schema.keys() - {"type", "properties", "required", "additionalProperties", "items", "anyOf"}
    assert not unknown, f"{where}: the check does not know {unknown}"
    if "anyOf" in schema:
        assert any(fits(value, each, where) for each in schema["anyOf"]), f"{where}: {value!r}"
        return
    if "type" not in schema:
        return
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "boolean": bool,
        "null": type(None),
    }
    kind = kinds.get(schema["type"], (int, float))
    assert isinstance(value, kind) and (kind is bool or not isinstance(value, bool)), f"{where}: {value!r}"
    if isinstance(value, list):
        for at, each in enumerate(value):
            check(each, schema["items"], f"{where}[{at}]")
    if isinstance(value, dict):
        known, more = schema.get("properties", {}), schema["additionalProperties"]
        assert (
            known.keys() >= set(schema.get("required", ()))
            and set(schema.get("required", ())) <= value.keys()
        )
        for name, each in value.items():
            assert name in known or more is not False, f"{where}: {name} is not in the schema"
            check(each, known.get(name, more), f"{where}.{name}")


def fits(value: Any, schema: Any, where: str) -> bool:
    try:
        check(value, schema, where)
    except AssertionError:
        return False
    return True


def neighbours_names(server: RealServer, count: int = 3) -> dict[bytes, bytes]:
    """Give a neighbour some keys, and return them."""
    found = {b"neighbour:%d" % number: b"theirs" for number in range(count)}
    server.operator().mset(found)  # type: ignore[arg-type]
    return found
