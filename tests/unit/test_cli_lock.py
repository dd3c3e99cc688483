"""`tenantkv lock`, as far as it needs no server: what stands under a lock's keys, and what is made of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from tenantkv import Keyring, Namespace
from tenantkv.ops import status_look
from tenantkv.ops.directory import Entry
from tenantkv.ops.effects import Batch, Call, Command
from tenantkv.ops.lock_places import LONGEST_LEASE
from tenantkv.ops.status import LockState

SPACE = Namespace(Keyring.generate(os.urandom(96)))
WRONG = ValueError("WRONGTYPE")


def look(primitive: str, answer: Callable[[Any], Any]) -> LockState:
    """Drive the operation with a function that answers each command or call."""
    operation = status_look.locks(SPACE, [Entry(primitive, b"a", 0.0)])
    try:
        effect = next(operation)
        while True:
            assert isinstance(effect, (Batch, Command))
            steps = effect.commands if isinstance(effect, Batch) else [effect.arguments]
            effect = operation.send([answer(step) for step in steps])
    except StopIteration as stop:
        (state,) = stop.value
        assert isinstance(state, LockState)
        return state


def exclusive(value: Any, ttl: Any, fence: Any = b"") -> Callable[[Any], Any]:
    hidden = status_look.keys_of(SPACE, Entry("lock", b"a", 0.0))[0]

    def answer(step: Any) -> Any:
        if isinstance(step, Call):
            return [0, 0]
        if step[1] not in (hidden, hidden + b":fence"):
            return {"GETRANGE": b"", "PTTL": -2, "EXISTS": 0}.get(step[0], [])
        return {"PTTL": ttl}.get(step[0], fence if step[1].endswith(b":fence") else value)

    return answer


@pytest.mark.parametrize(
    ("value", "ttl", "mode"),
    [
        (b"t" * 22, 5000, "held"),
        (b"t" * 22 + b"+", 5000, "held"),
        (b"", -2, "free"),
        (b"t" * 22, -1, "foreign"),  # immortal: planted
        (b"t" * 22, int(LONGEST_LEASE * 1000) + 1000, "foreign"),
        (WRONG, 5000, "foreign"),
    ],
)
def test_what_stands_under_a_lock(value: Any, ttl: Any, mode: str) -> None:
    state = look("lock", exclusive(value, ttl, b"17"))
    assert state.mode == mode and state.fence == 17
    assert (state.left is not None) == (mode == "held") and state.is_waited == (value == b"t" * 22 + b"+")


def test_the_token_is_not_shown() -> None:
    token = b"secret-token-of-22-chr"
    state = look("lock", exclusive(token, 5000))
    assert token.decode() not in repr(state) and len(state.holder) == 8
    assert state.holder == look("lock", exclusive(token + b"+", 5000)).holder
    assert state.holder != look("lock", exclusive(b"x" * 22, 5000)).holder


def test_semaphores() -> None:
    state = look("semaphore", lambda _: [2, 5000])
    assert (state.holders, state.left, state.mode) == (2, 5.0, "held")
    assert look("semaphore", lambda _: WRONG).mode == "foreign"
    assert look("semaphore", lambda _: [0, 0]).mode == "free"


def test_names_with_braces_have_one_form() -> None:
    hidden, same = status_look.keys_of(SPACE, Entry("lock", b"a{b", 0.0))
    assert hidden == same
