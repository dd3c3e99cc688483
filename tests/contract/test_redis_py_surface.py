"""What we use of redis-py beyond its public surface is written down, and the installed one has it.

`tenantkv.transport.redis_py` lists the names. A new redis-py that drops one fails here, by name; and a
private name that slips into our code without being listed fails too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import redis

import tenantkv
from tenantkv.transport.redis_py import SOMETIMES, USED

REDIS_PY = Path(redis.__file__).parent
TRANSPORT = sorted((Path(tenantkv.__file__).parent / "transport").glob("*.py"))

# Parts of redis-py that our classes neither extend nor call.
_ASIDE = ("commands", "observability", "auth", "http", "multidb", "asyncio/multidb")

# Private names that redis-py has too, on classes that ours do not extend, or that only look private.
OWN = {
    "_client": "an attribute of cluster_pipeline.Channels, which extends nothing of redis-py's",
    "_execute": "redis-py's is a method of PubSub, ours one of the clients",
}


@cache
def defined_in(path: Path) -> frozenset[str]:
    """Return the names that a module gives to functions, methods and attributes."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Attribute, ast.Name)) and isinstance(node.ctx, ast.Store):
            found.add(node.attr if isinstance(node, ast.Attribute) else node.id)
    return frozenset(found)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_names_of_redis_py() -> frozenset[str]:
    paths = (
        path
        for path in REDIS_PY.rglob("*.py")
        if not path.relative_to(REDIS_PY).as_posix().startswith(_ASIDE)
    )
    return frozenset(filter(is_private, frozenset().union(*map(defined_in, paths))))


def private_names_in(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and name of what a module of ours reads, calls, sets or overrides."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        name: object = None
        if isinstance(node, ast.Attribute):
            name = node.attr
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            name = node.name
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            # getattr(x, "_name", default) and hasattr
            at = node.args[1] if len(node.args) > 1 else None
            if node.func.id in ("getattr", "hasattr", "setattr") and isinstance(at, ast.Constant):
                name = at.value
        if isinstance(name, str) and is_private(name):
            yield getattr(node, "lineno", 0), name


@pytest.mark.parametrize("module", USED)
def test_redis_py_has_what_we_use(module):
    names = set(USED[module])
    assert names - defined_in(REDIS_PY / f"{module}.py") == set()


@pytest.mark.parametrize("path", TRANSPORT, ids=lambda path: path.stem)
def test_private_names_of_redis_py_are_listed(path):
    listed = {name for names in (*USED.values(), *SOMETIMES.values()) for name in names}
    theirs = private_names_of_redis_py() - listed - OWN.keys()
    assert [f"{path}:{line} {name}" for line, name in private_names_in(path) if name in theirs] == []


def test_what_is_listed_is_used():
    used = {name for path in TRANSPORT for _, name in private_names_in(path)}
    listed = {name for names in (*USED.values(), *SOMETIMES.values()) for name in names}
    assert {name for name in listed if is_private(name)} - used == set()
    assert OWN.keys() - used == set()


def test_the_scanner_sees_every_form(tmp_path):
    module = tmp_path / "x.py"
    module.write_text("def _a(self): pass\nx._b\nx._c = 1\ngetattr(x, '_d', None)\nx.__dict__\ny.z\n")
    assert {name for _, name in private_names_in(module)} == {"_a", "_b", "_c", "_d"}
