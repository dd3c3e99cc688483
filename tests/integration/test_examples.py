"""Every example runs as a user runs it, on a server of its own and on one that is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import RealServer

ROOT = Path(__file__).resolve().parents[2]
# What each one must print at its end, or a part of it.
EXPECTED = {
    "cache.py": "cleared: {}",
    "quickstart.py": "refused: FLUSHALL",
    "many_tenants.py": "customer 3 has left: 0 keys; customer 4 still has 2",
    "asyncio_worker.py": "popped: ['done', 'all']",
    "queue_thumbs.py": "redriven: 1 purged: 1",
    "lock.py": "logins: [True, True, True, False]",
    "fastapi_site.py": "logged out: bye nobody",
    "flask_site.py": "logged out: True",
    "limits_cachelib.py": "in asyncio: [True, False]",
}


def run(name: str, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    ours = ("TENANTKV_", "TOOL_", "REDIS_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    environment.update(HOME=str(home), XDG_CONFIG_HOME=str(home / "config"))
    subprocess.run(
        [sys.executable, "-m", "tenantkv", "init"], env=environment, check=True, capture_output=True
    )
    path = ROOT / "examples" / name
    return subprocess.run(
        [sys.executable, "-W", "error", str(path), *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=home,
    )


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_example(name: str, tmp_path: Path, shared_server: RealServer) -> None:
    alone = run(name, tmp_path)
    assert alone.returncode == 0, alone.stderr
    assert EXPECTED[name] in alone.stdout
    joined = run(name, tmp_path, shared_server.url)
    assert joined.returncode == 0, joined.stderr
    assert EXPECTED[name] in joined.stdout
    assert all(key[44:45] == b":" for key in shared_server.dump_keys())
