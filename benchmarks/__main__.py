"""``python -m benchmarks [overhead|startup|registry|scripts|seal ...] [--quick] [--json FILE]``."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import redis

from benchmarks.timing import table
from tenantkv.transport import redis_py

NAMES = (
    *("overhead", "startup", "registry", "secrets", "seal", "lock", "celery", "queue", "cache", "django"),
    "proxy",
)


def main() -> int:
    """Run benchmarks, print tables, and write JSON if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help="which; all if left out")
    parser.add_argument("--quick", action="store_true", help="fewer repeats and rounds")
    parser.add_argument("--only", default="", help="only work whose name contains this")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--without-hiredis", action="store_true", help="as if it were not installed")
    arguments = parser.parse_args()
    if arguments.without_hiredis:
        # redis-py looks for it at import, so this takes a fresh interpreter.
        blocked = "import sys; sys.modules['hiredis'] = None; sys.argv[0] = 'benchmarks'; "
        rest = [word for word in sys.argv[1:] if word != "--without-hiredis"]
        code = f"{blocked}from benchmarks.__main__ import main; sys.exit(main())"
        return subprocess.run([sys.executable, "-c", code, *rest], check=False).returncode
    figures: dict[str, Any] = {}
    for name in arguments.names or NAMES:
        print(f"\n{name}: redis-py {redis.__version__}, Python {platform.python_version()}, ", end="")
        print(f"hiredis {'yes' if redis_py.hiredis else 'no'}, lean {redis_py.LEAN}\n")
        module = importlib.import_module(f"benchmarks.{name}")
        rows = module.run(rounds=7 if arguments.quick else 25, quick=arguments.quick, only=arguments.only)
        print(table(rows))
        figures[name] = [asdict(row) for row in rows]
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
