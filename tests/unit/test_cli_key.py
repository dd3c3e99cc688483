"""``tenantkv key``, ``seal`` and ``open`` as real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tenantkv import keyring_store
from tenantkv.keyring import Keyring
from tenantkv.keyring_store import load_keyring

RING = Keyring.generate(bytes(range(96)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A keyring in a file, as ``tenantkv init`` leaves it."""
    directory = tmp_path / "keys"
    directory.mkdir(mode=0o700)
    file = directory / "default.json"
    file.write_text(RING.dump())
    file.chmod(0o600)
    return file


@pytest.fixture
def run(path: Path) -> Any:
    environ = {
        "HOME": str(path.parent),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(keyring_store.__file__).parents[1]),
        "TENANTKV_SECRET_KEYRING_FILE": str(path),
    }

    def run(
        *words: str, stdin: bytes = b"", code: int = 0, **more: str
    ) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [sys.executable, "-m", "tenantkv", *words],
            env=environ | more,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == code, done.stderr
        ring = load_keyring(path)
        for secret in (ring.prefix, *(field for key in ring.keys for field in (key.secret.hex(),))):
            assert secret.encode() not in done.stdout + done.stderr
        for key in json.loads(ring.dump())["keys"]:
            assert key["secret"].encode() not in done.stdout + done.stderr
        return done

    return run


def test_a_whole_rotation(run: Any, path: Path) -> None:
    sealed = run("seal", "--name", "n", stdin=b"old").stdout
    report = json.loads(run("key", "add", "--json").stdout)
    assert (report["action"], report["changed"], report["generation"]) == ("add", True, 2)
    new = report["id"]
    assert b"does not seal yet" in run("key", "add").stderr
    assert json.loads(run("key", "promote", new.upper(), "--json").stdout)["changed"] is True
    assert json.loads(run("key", "promote", new, "--json").stdout)["changed"] is False
    assert run("open", "--name", "n", stdin=sealed).stdout == b"old"
    assert run("seal", "--name", "n", stdin=b"x").stdout[3:7].hex() == new
    run("key", "retire", RING.primary.id)
    failed = run("open", "--name", "n", stdin=sealed, code=1)
    assert failed.stdout == b"" and b"(retired)" in failed.stderr
    run("key", "retire", "--undo", RING.primary.id)
    assert run("open", "--name", "n", stdin=sealed).stdout == b"old"
    listed = json.loads(run("key", "list", "--json").stdout)
    assert [key["state"] for key in listed["keys"]] == ["active", "primary", "active"]
    assert new.encode() in run("key", "list").stdout
    assert b"nothing to do" in run("key", "promote", new).stderr.lower()


def test_refusals(run: Any, path: Path) -> None:
    before = path.read_text()
    assert b"primary" in run("key", "retire", RING.primary.id, code=1).stderr
    assert b"no key of that id" in run("key", "promote", "ffffffff", code=1).stderr
    inline = {"TENANTKV_SECRET_KEYRING": RING.dump(compact=True)}
    assert b"--print-env" in run("key", "add", code=1, **inline).stderr
    for words in (
        ("key",),
        ("key", "rotate"),
        ("key", "promote"),
        ("key", "retire"),
        ("key", "add", "x"),
    ):
        run(*words, code=2)
    assert path.read_text() == before


def test_seal_and_open(run: Any) -> None:
    value = bytes(range(256)) * 100
    extras: tuple[tuple[str, ...], ...] = ((), ("--text",))
    for words in extras:
        sealed = run("seal", "--name", "n", *words, stdin=value).stdout
        assert run("open", "--name", "n", *words, stdin=sealed).stdout == value
    assert run("open", "--name", "n", stdin=run("seal", "--name", "n").stdout).stdout == b""
    sealed = run(
        "seal", "--name", "h", "--kind", "hash", "--field", "f", "--expires", "60", stdin=b"v"
    ).stdout
    assert run("open", "--name", "h", "--kind", "hash", "--field", "f", stdin=sealed).stdout == b"v"
    for words in (
        ("--kind", "hash"),
        ("--field", "f"),
        ("--kind", "kv", "--field", "f"),
        ("--child", "c"),
    ):
        failed = run("open", "--name", "h", *words, stdin=sealed, code=1)
        assert failed.stdout == b"" and b"does not open" in failed.stderr


def test_members_and_children_and_signatures(run: Any) -> None:
    twice = [run("seal", "--name", "s", "--kind", "set", "--member", stdin=b"m").stdout for _ in range(2)]
    assert twice[0] == twice[1] and len(twice[0]) == 24
    sealed = run("seal", "--name", "n", "--child", "a", "--child", "b", stdin=b"v").stdout
    assert run("open", "--name", "n", "--child", "a", "--child", "b", stdin=sealed).stdout == b"v"
    signed = run("seal", "--name", "n", "--mode", "sign", stdin=b"readable").stdout
    assert b"readable" in signed
    assert run("open", "--name", "n", "--mode", "sign", stdin=signed).stdout == b"readable"
    assert b"--mode sign" in run("open", "--name", "n", stdin=signed, code=1).stderr


def test_bad_input(run: Any) -> None:
    assert b"not the form" in run("open", "--name", "n", stdin=b"plaintext", code=1).stderr
    assert b"base64" in run("open", "--name", "n", "--text", stdin=b"\xff*", code=1).stderr
    assert b"TTL" in run("seal", "--name", "n", "--expires", "-5", stdin=b"v", code=1).stderr
    assert b"TTL" in run("seal", "--name", "n", "--expires", "nan", stdin=b"v", code=1).stderr
    run("seal", "--name", "n", "--member", "--expires", "5", stdin=b"v", code=1)
    run("seal", stdin=b"v", code=2)
    run("seal", "--name", "n", "--kind", "string", stdin=b"v", code=2)


def test_every_help_has_an_example(run: Any) -> None:
    for words in (
        ("key",),
        ("key", "list"),
        ("key", "add"),
        ("key", "promote"),
        ("key", "retire"),
        ("seal",),
        ("open",),
    ):
        text = run(*words, "--help").stdout.decode()
        assert "example" in text and f"tenantkv {' '.join(words)}" in text
