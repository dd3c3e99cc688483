"""``tenantkv top`` as a process: on a terminal and without one, with rich and without."""

from __future__ import annotations

import importlib.util
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli_program import Program
from tests.operating import help_has_an_example, note
from tests.servers import RealServer

HOSTILE = "evil\x1b[5m[red]x[/red]"


@pytest.fixture
def program(tmp_path: Path, shared_server: RealServer) -> Program:
    return Program(tmp_path, shared_server.url)


@pytest.fixture
def kv(program: Program) -> Iterator[Any]:
    with program.connect() as client:
        client.queue("shallow").send("a")
        client.queue(HOSTILE).send_many(range(5))
        note(client, "queue", "shallow")
        note(client, "queue", HOSTILE)
        yield client


def on_a_terminal(program: Program, *words: str) -> tuple[int, bytes]:
    ours, theirs = pty.openpty()
    running = program.start("top", *words, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        shown += part
        if not part:
            break
    os.close(ours)
    return running.wait(timeout=30), shown


@pytest.mark.usefixtures("kv")
def test_without_a_terminal(program: Program) -> None:
    done = program.run("top", "--count", "2", "--every", "0.05", "--no-usage")
    text = done.stdout.decode()
    assert done.returncode == 0 and text.count("tenantkv top") == 2 and "\x1b" not in text
    # The deepest first, and what others have named cannot act on the terminal.
    assert text.index("evil\\x1b[5m[red]") < text.index("shallow")


@pytest.mark.usefixtures("kv")
@pytest.mark.parametrize("plain", [True, False])
def test_on_a_terminal(program: Program, plain: bool) -> None:
    if not plain and importlib.util.find_spec("rich") is None:
        pytest.skip("rich is not installed")
    program.environ |= {"TERM": "xterm", "COLUMNS": "200", "LINES": "60"}
    words = ["--count", "2", "--every", "0.05", "--no-usage", *(["--plain"] if plain else [])]
    code, shown = on_a_terminal(program, *words)
    assert code == 0
    assert shown.count(b"\x1b[?1049h") == shown.count(b"\x1b[?1049l") == 1
    assert b"shallow" in shown and b"\\x1b[5m[red]" in shown and b"\x1b[5m" not in shown


@pytest.mark.usefixtures("kv")
def test_the_screen_comes_back_when_it_is_interrupted(program: Program) -> None:
    ours, theirs = pty.openpty()
    program.environ["TERM"] = "xterm"
    running = program.start("top", "--plain", "--no-usage", stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    shown = b""
    while b"shallow" not in shown:
        shown += os.read(ours, 65536)
    running.send_signal(signal.SIGINT)
    while b"\x1b[?1049l" not in shown:
        shown += os.read(ours, 65536)
    assert running.wait(timeout=30) == 130
    os.close(ours)


def test_a_server_that_is_away_is_shown(program: Program) -> None:
    program.environ["TENANTKV_URL"] = "redis://127.0.0.1:1"
    done = program.run("top", "--count", "1")
    assert done.returncode == 0 and b"the server" in done.stdout


def test_help() -> None:
    help_has_an_example("top")
