"""The operator's commands as processes: their JSON is checked against its published schema."""

from __future__ import annotations

import contextlib
import io
import json
import time
from typing import Any

import pytest

from tenantkv.cli.main import main
from tenantkv.ops import directory
from tests.cli_program import ROOT, Program, check

SCHEMAS = json.loads((ROOT / "docs" / "schemas" / "operate.json").read_text())["$defs"]


def report(program: Program, *words: str, code: int | None = 0) -> Any:
    """Run with --json and return the report."""
    done = program.run(*words, "--json")
    assert code is None or done.returncode == code, (done.returncode, done.stdout, done.stderr)
    found = json.loads(done.stdout)
    name = " ".join(words[:2]) if " ".join(words[:2]) in SCHEMAS else words[0]
    check(found, SCHEMAS[name], name)
    assert not program.shows_a_secret(done)
    return found


def note(client: Any, primitive: str, name: str) -> None:
    """Note a name in the directory, as processes do that use it."""
    client.run(directory.note(client.namespace, client.sealer, primitive, name.encode(), time.time()))


def help_has_an_example(*words: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as shown, pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    text = shown.getvalue()
    assert ended.value.code == 0 and "examples:" in text and f"tenantkv {words[0]}" in text
