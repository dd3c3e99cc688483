"""How long ``import tenantkv`` takes beyond ``import redis``, in fresh interpreters."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.timing import Measured, interleave


def run(*, rounds: int = 25, quick: bool = False, only: str = "") -> list[Measured]:
    """Measure a whole process each time; the ratio is to ``import redis``."""

    # As installed: compiled once, then read from the cache.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}

    def process(code: str) -> object:
        return subprocess.run([sys.executable, "-c", code], check=True, env=environment)

    contestants = {
        "import redis": lambda: process("import redis"),
        "import tenantkv": lambda: process("import tenantkv"),
    }
    return interleave("start-up", contestants, repeats=1, rounds=rounds)
