"""``tenantkv scan`` as a real process."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import tenantkv
from tests import corpus

TOKEN = "gh" + "p_" + corpus.letters(random.Random(9), corpus.ALNUM, 36)
LINES = f'{{"visits": 17}}\n{{"password": "tr0ub{4}dor"}}\nplain\nnote {TOKEN}\n'


def scan(*words: str, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(tenantkv.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, "-m", "tenantkv", "scan", *words],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=cwd,
        env=environ,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mixed").write_text(LINES)
    (tmp_path / "clean").write_text('{"visits": 17}\n')
    return tmp_path


def test_a_file_is_one_value(folder: Path) -> None:
    done = scan("mixed", "clean", cwd=folder)
    assert done.returncode == 1
    assert done.stdout == "mixed:4: github-token (tier 1), would be refused\n"
    assert scan("clean", cwd=folder).returncode == 0


def test_lines(folder: Path) -> None:
    done = scan("--lines", "mixed", cwd=folder)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "mixed:2: named-password (tier 2), would be refused",
        "mixed:4: github-token (tier 1), would be refused",
    ]
    assert TOKEN not in done.stdout + done.stderr and "tr0ub" not in done.stdout + done.stderr


def test_standard_input_json_and_names() -> None:
    done = scan("-", "--json", "--name", "db:password", stdin="tr0ub4dor\n")
    assert done.returncode == 1
    assert json.loads(done.stdout) == [
        {"file": "-", "line": 1, "rule": "named-password", "tier": 2, "refused": True}
    ]
    assert scan("-", "--json", stdin="tr0ub4dor\n").stdout == "[]\n"
    assert scan("-", "--field", "password", stdin="tr0ub4dor\n").returncode == 1


def test_a_warning_is_no_refusal() -> None:
    done = scan("-", "--name", "config:x", stdin=corpus.base64_of(random.Random(3), 32))
    assert done.returncode == 0 and "high-entropy (tier 3), would be warned about" in done.stdout


def test_what_cannot_be_read_does_not_hide_the_rest(folder: Path) -> None:
    done = scan("missing", "mixed", cwd=folder)
    assert done.returncode == 2
    assert "missing: No such file" in done.stderr and "mixed:4:" in done.stdout


def test_long_values_are_told(folder: Path) -> None:
    (folder / "long").write_text("some words " * 20_000)
    assert "first 48 and last 16 KB" in scan("long", cwd=folder).stderr


def test_help_has_an_example() -> None:
    done = scan("--help")
    assert done.returncode == 0 and "examples:" in done.stdout and "tenantkv scan" in done.stdout
