"""redis-benchmark against the server and against the proxy, by turns, on the shared profile.

The proxy is a process of its own. A row's figure is the wall time an operation takes with 20 clients at the
same time, as redis-benchmark counts it; the CPU columns are not measured (0).
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.timing import Measured
from tenantkv import Keyring, embedded

_ROUNDS = 5
_CLIENTS = 20
_WORK = {"set": "SET", "get": "GET", "incr": "INCR", "lrange_100": "LRANGE_100 (first 100 elements)"}


def run(*, rounds: int = 25, quick: bool = False, only: str = "") -> list[Measured]:
    """Measure each command with one command in flight a connection, and with 16."""
    if not shutil.which("redis-benchmark"):
        print("redis-benchmark is not installed")
        return []
    rows: list[Measured] = []
    with tempfile.TemporaryDirectory() as place, embedded.start("shared") as server:
        path = str(Path(place) / "proxy.sock")
        environment = {
            **os.environ,
            "TENANTKV_URL": server.url,
            "TENANTKV_SECRET_KEYRING": Keyring.generate(os.urandom(96)).dump(compact=True),
        }
        words = [sys.executable, "-m", "tenantkv", "proxy", "--listen", f"unix:{path}"]
        with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE) as proxy:
            assert proxy.stderr is not None
            proxy.stderr.readline()
            try:
                for depth in (1, 16):
                    for command in _WORK:
                        if only in command:
                            rows += _compare(
                                command, depth, server.socket_path, path, min(rounds, _ROUNDS), quick
                            )
            finally:
                proxy.terminate()
    return rows


def _compare(command: str, depth: int, direct: str, path: str, rounds: int, quick: bool) -> list[Measured]:
    contestants = {"direct": direct, "direct again": direct, "proxy": path}
    count = (4_000 if quick else 20_000) * (2 if depth > 1 else 1)
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        order = list(contestants.items())
        for name, socket_path in order if number % 2 else reversed(order):
            times[name].append(1e6 / _per_second(command, depth, socket_path, count))
    return [
        Measured(
            f"{command} P={depth}",
            name,
            statistics.median(measured),
            0.0,
            statistics.median(mine / first for mine, first in zip(measured, times["direct"], strict=True)),
            0.0,
        )
        for name, measured in times.items()
    ]


def _per_second(command: str, depth: int, path: str, count: int) -> float:
    words = ["redis-benchmark", "-s", path, "-t", command, "-n", str(count), "-c", str(_CLIENTS)]
    done = subprocess.run([*words, "-P", str(depth), "--csv"], capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        cells = [cell.strip('"') for cell in line.split('","')]
        if cells[0].strip('"') == _WORK[command]:
            return float(cells[1])
    raise RuntimeError(f"redis-benchmark says nothing of {command}: {done.stdout[-200:]}")
