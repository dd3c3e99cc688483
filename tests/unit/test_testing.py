"""`tenantkv.testing`: what its documentation shows runs under pytest, and the parts do what they say."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tenantkv
from tenantkv.errors import ConfigurationError
from tenantkv.testing import Kind, PrivateServer, new_keyring

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "testing.md").read_text()


@pytest.fixture(scope="module", params=["shared", "open", "memory"])
def server(request: pytest.FixtureRequest) -> Iterator[PrivateServer]:
    with PrivateServer(request.param) as running:
        yield running


def write_example(place: Path) -> None:
    for name, block in re.findall(r"<!-- (\S+) -->\n```python\n(.*?)```", PAGE, re.DOTALL):
        (place / name).write_text(block)


def run_pytest(place: Path, *words: str) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TENANTKV_", "PYTEST_", "REDIS_"))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:valkey", *words]
    done = subprocess.run(
        command, cwd=place, env={**clean, "HOME": str(place)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_examples_of_the_documentation_pass(tmp_path: Path) -> None:
    """Those with a real server, and beside them those that the page shows how to override for fakeredis."""
    write_example(tmp_path)
    below = tmp_path / "memory"
    below.mkdir()
    (block,) = re.findall(r"```python\n(import pytest\n.*?)```", PAGE, re.DOTALL)
    (below / "conftest.py").write_text(block)
    (below / "test_hidden.py").write_text(
        "def test_hidden(tenantkv_client, tenantkv_server):\n"
        "    assert tenantkv_client.hides_names and tenantkv_server.kind == 'memory'\n"
        "    tenantkv_client.set('a', 1)\n    assert tenantkv_client.keys() == [b'a']\n"
    )
    words = ("asyncio_mode=auto", "asyncio_default_fixture_loop_scope=function")
    shown = run_pytest(tmp_path, *(part for word in words for part in ("-o", word)))
    assert "5 passed" in shown


def test_tenants_do_not_see_each_other(server: PrivateServer) -> None:
    ring = new_keyring()
    with server.client(keyring=ring) as one, server.client() as other, server.client(keyring=ring) as again:
        one.set("a", "mine")
        assert (other.get("a"), again.get("a"), other.keys(), again.keys()) == (None, b"mine", [], [b"a"])
        server.lose_everything()
        assert one.get("a") is None


def test_asyncio(server: PrivateServer) -> None:
    async def go() -> None:
        async with server.async_client(seal=True) as kv:
            await kv.set("a", "mine")
            assert await kv.get("a") == b"mine" and await kv.keys() == [b"a"]

    asyncio.run(go())


def test_the_environment_is_put_back(server: PrivateServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENANTKV_URL", "redis://elsewhere")
    monkeypatch.delenv("TENANTKV_SECRET_KEYRING", raising=False)
    ring = new_keyring()
    with server.environment(ring), tenantkv.connect() as kv:
        assert kv.namespace.fingerprint == ring.fingerprint and kv.ping()
    assert os.environ["TENANTKV_URL"] == "redis://elsewhere" and "TENANTKV_SECRET_KEYRING" not in os.environ


def test_the_limits_of_a_shared_server(server: PrivateServer) -> None:
    if server.kind == "memory":
        with pytest.raises(ConfigurationError, match="no neighbours"):
            server.plain()
        return
    with server.plain() as neighbour:
        commands = neighbour.execute_command("COMMAND INFO", "FLUSHALL")
    assert any(commands.values() if isinstance(commands, dict) else commands) == (server.kind == "open")


def test_unknown_kinds_and_stopping() -> None:
    wrong: Kind = "cluster"  # type: ignore[assignment]
    with pytest.raises(ConfigurationError, match="'shared', 'open' or 'memory'"):
        PrivateServer(wrong)
    server = PrivateServer("open")
    socket = Path(server.url.removeprefix("unix://").partition("?")[0])
    assert socket.exists()
    server.stop()
    assert not socket.exists()
