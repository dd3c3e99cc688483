"""The docs are true: every Python block runs, every command line exists, generated parts are current."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tenantkv.cli.main import COMMANDS
from tools.write_docs import refusals

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[object]:
    found: list[object] = []
    for page in PAGES:
        # Recipes for libraries need their own set-up: `tests/integration/test_docs_libraries.py` runs them.
        if page.name == "libraries.md":
            continue
        for number, block in enumerate(_BLOCK.findall(page.read_text())):
            found.append(pytest.param(block, id=f"{page.name}-{number}"))
    return found


@pytest.mark.parametrize("block", blocks())
def test_every_python_block_runs(block: str, tmp_path: Path) -> None:
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("TENANTKV_", "TOOL_", "REDIS_"))},
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    subprocess.run(
        [sys.executable, "-m", "tenantkv", "init"],
        check=True,
        env=environment,
        cwd=tmp_path,
        capture_output=True,
    )
    # A warning is a thing that a reader would see, so it fails the block.
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_there_are_blocks_to_run() -> None:
    assert len(blocks()) >= 6


def test_the_refusals_are_those_of_the_table() -> None:
    assert refusals() in (ROOT / "docs" / "commands.md").read_text()


def test_every_command_line_in_the_docs_exists() -> None:
    known = {command.name for command in COMMANDS}
    used = {
        word
        for page in PAGES
        for word in re.findall(r"(?:^\$ |`|\| )tenantkv ([a-z]+)", page.read_text(), re.MULTILINE)
    }
    assert used and used <= known


def test_every_command_is_documented() -> None:
    text = "".join(page.read_text() for page in PAGES)
    assert [c.name for c in COMMANDS if f"tenantkv {c.name}" not in text and c.name != "demo"] == []


def test_links_lead_somewhere() -> None:
    missing = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert missing == []
