"""``tenantkv demo`` as a process: the README's first command, on a server that it starts itself."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli_program import Program
from tests.operating import help_has_an_example


def test_every_step_holds(tmp_path: Path) -> None:
    # The address of nobody: the demonstration is not to touch a server of the user's.
    program = Program(tmp_path, "redis://127.0.0.1:1")
    done = program.run("demo", "--json")
    assert done.returncode == 0, done.stderr
    steps = json.loads(done.stdout)
    assert [step["title"] for step in steps if not step["holds"]] == []
    titles = " ".join(step["title"] for step in steps)
    for subject in ("name", "channel", "script", "refused", "secret", "sealed", "cache", "lock", "queue"):
        assert subject in titles
    assert all(len(line) == 2 and line[0] for step in steps for line in step["lines"])
    assert not program.shows_a_secret(done)


def test_for_people(tmp_path: Path) -> None:
    done = Program(tmp_path, "redis://127.0.0.1:1").run("demo")
    text = done.stdout.decode()
    assert done.returncode == 0, done.stderr
    assert "13. " in text and "All as it should be." in text and "\x1b" not in text
    help_has_an_example("demo")
