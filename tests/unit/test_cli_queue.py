"""`tenantkv queue`, as far as it needs no server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tenantkv.cli import queue
from tenantkv.cli.status_confirm import confirm
from tenantkv.errors import ConfigurationError
from tenantkv.queue.message import Peeked


@pytest.mark.parametrize(
    ("value", "shown"),
    [(b"\xff", {"base64": "/w=="}), ({"a": [1]}, {"a": [1]}), ({1, 2}, "{1, 2}"), (None, None)],
)
def test_any_value_can_be_written_as_json(value: Any, shown: Any) -> None:
    assert queue.jsonable(value) == shown
    json.dumps(queue.jsonable(value))


def test_values_show_only_when_asked_for() -> None:
    each = Peeked("id", "tr0ub4dor", True, 1.0, 0)
    assert "tr0ub4dor" not in repr(queue.describe(each, "ready", reveal=False))
    assert queue.describe(each, "ready", reveal=True).value == "tr0ub4dor"
    assert queue.describe(Peeked("id", None, False, 1.0, 0), "dead", reveal=True).value is None


def test_looking_buries_drops_and_forgets_nothing() -> None:
    # Every call of a queue says its caller's bounds, and the server keeps to them.
    settings = queue._lenient()
    usual = type(settings)()
    assert settings.max_deliveries > usual.max_deliveries and settings.max_dead > usual.max_dead
    assert settings.retention > usual.retention and settings.max_messages > usual.max_messages


def test_nobody_can_be_asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Terminal:
        def __init__(self, answer: str, is_terminal: bool = True) -> None:
            self.answer, self.is_terminal = answer, is_terminal

        def isatty(self) -> bool:
            return self.is_terminal

        def readline(self) -> str:
            return self.answer

    confirm("remove it", yes=True)
    for stdin in (Terminal("", False), Terminal("n\n"), Terminal("")):
        monkeypatch.setattr("sys.stdin", stdin)
        with pytest.raises(ConfigurationError):
            confirm("remove it", yes=False)
    monkeypatch.setattr("sys.stdin", Terminal("yes\n"))
    confirm("remove \x1b[2J", yes=False)
    assert "\x1b" not in capsys.readouterr().err
