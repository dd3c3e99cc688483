"""Sessions of PHP and Node through ``tenantkv proxy``, also with hidden names."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cli_program import Program, neighbours_names
from tests.integration.test_proxy import Proxy, running
from tests.servers import RealServer

SESSIONS = Path(__file__).parent / "sessions"
# Where Debian's php-nrk-predis puts it.
PREDIS = Path("/usr/share/php/Predis/Autoloader.php")
HIDDEN = {"seal": "yes", "names": "hidden", "plaintext_keys": "n"}


@functools.cache
def _says(*words: str) -> str:
    if not shutil.which(words[0]):
        return ""
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False).stdout


def phpredis() -> Sequence[str]:
    if "redis" not in _says("php", "-m").split():
        pytest.skip("PHP with phpredis is not installed (Debian: php-cli php-redis)")
    return "php", str(SESSIONS / "session.php")


def predis() -> Sequence[str]:
    if not _says("php", "-v") or not PREDIS.exists():
        pytest.skip("PHP with predis is not installed (Debian: php-cli php-nrk-predis)")
    return "php", str(SESSIONS / "session.php")


def ioredis() -> Sequence[str]:
    if "found" not in _says("node", "-e", "require('ioredis'); console.log('found')"):
        pytest.skip("ioredis is not installed (npm install ioredis, and name its directory in NODE_PATH)")
    return "node", str(SESSIONS / "session.js")


def talk(proxy: Proxy, words: Sequence[str], *more: str) -> Any:
    """Run a session, to whose channel somebody publishes now and then."""
    ended = threading.Event()

    def publish() -> None:
        with proxy.connect() as kv:
            # With silence in between, which phpredis waits for.
            while not ended.wait(1.0):
                kv.publish("news", "said")

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        done = subprocess.run(
            [*words, proxy.path, *more], capture_output=True, text=True, timeout=60, check=False
        )
    finally:
        ended.set()
        publisher.join()
    assert done.returncode == 0, done.stdout + done.stderr
    assert proxy.program.ring.prefix not in done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("settings", [{}, HIDDEN], ids=["plain", "hidden"])
@pytest.mark.parametrize("library", [phpredis, predis, ioredis], ids=lambda each: each.__name__)
def test_a_session(library: Any, settings: dict[str, str], tmp_path: Path, shared_server: RealServer) -> None:
    words = library()
    more = [str(PREDIS)] if library is predis else []
    theirs = neighbours_names(shared_server)
    program = Program(tmp_path, shared_server.url, settings)
    with running(program) as proxy:
        got = talk(proxy, words, *more)
    assert got["get"] == ["hello", "000d0aff", True, False if library is phpredis else None]
    assert got["hash"] == {"f": "v", "g": "w"}
    assert got["list"] == [["one", "two"], ["l", "one"]]
    assert (got["counter"], got["pipeline"], got["multi"]) == ([1, 42], [43, "hello"], [44, "hello"])
    # A script of somebody else's may make names, so there is none where they are hidden.
    assert "EVAL refused" in got["eval"] if settings else got["eval"] == ["greeting", "hello", "x"]
    assert got["scan"] == ["greeting"]
    assert got["refused"] == [True, True, True]
    assert got["heard"] == ["news", "said"]
    names = shared_server.dump_keys()
    assert names >= theirs.keys()
    assert all(name in theirs or name.startswith(program.namespace.wire_prefix) for name in names)
    shown = b"".join(names)
    assert (b"greeting" in shown) == (not settings)
