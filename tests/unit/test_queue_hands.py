"""What a worker has in hand, and how much it fetches ahead; without a server, a clock or threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tenantkv.queue.hands import Hand, Pace


@dataclass
class Held:
    """As much of a message as a hand looks at."""

    name: str
    state: str = "held"


def hand_of(names: str) -> tuple[Hand[Any], list[Held]]:
    hand: Hand[Any] = Hand()
    messages = [Held(name) for name in names]
    hand.fill(messages)  # type: ignore[arg-type]
    return hand, messages


def test_a_fixed_pace_stays() -> None:
    pace = Pace(7)
    pace.note(7, 100.0)
    pace.note(7, 0.0)
    assert pace.count == 7


def test_a_free_pace_follows_the_handlers() -> None:
    pace = Pace(None)
    counts = [pace.count]
    for _ in range(6):
        pace.note(pace.count, pace.count * 0.0001)
        counts.append(pace.count)
    assert counts == [1, 2, 4, 8, 16, 20, 20]
    pace.note(20, 20 * 0.01)
    assert pace.count == 5
    pace.note(5, 30.0)
    assert pace.count == 1
    pace.note(0, 1.0)
    assert pace.count == 1, "nothing was received, so nothing is known"


@pytest.mark.parametrize("seconds", [0.0, 1e-9])
def test_no_time_at_all_is_no_trouble(seconds: float) -> None:
    pace = Pace(None)
    pace.note(1, seconds)
    assert pace.count == 2


def test_messages_go_from_waiting_to_done() -> None:
    hand, (a, b, c) = hand_of("abc")
    assert hand.begin() is a
    hand.end(is_done=True)
    assert hand.begin() is b
    hand.end(is_done=False)
    assert hand.begin() is c
    hand.end(is_done=True)
    assert hand.begin() is None
    assert hand.finished() == [a, c] and hand.finished() == []


def test_a_stop_takes_what_was_not_finished() -> None:
    hand, (a, b, c) = hand_of("abc")
    hand.begin()
    hand.end(is_done=True)
    hand.begin()
    assert hand.rest() == [b, c] and hand.rest() == []
    assert hand.begin() is None and hand.finished() == [a]


def test_a_beat_extends_all_and_the_next_one_gives_back_what_waits_behind_the_same() -> None:
    hand, (a, b, c) = hand_of("abc")
    hand.begin()
    hand.end(is_done=True)
    hand.begin()
    assert hand.look() == ([b, c, a], [], [])
    assert hand.look() == ([b], [c], [a])
    assert hand.look() == ([b], [], [])
    hand.end(is_done=True)
    assert hand.begin() is None and hand.finished() == [b]


def test_a_beat_between_others_gives_nothing_back() -> None:
    hand, (a, b, c) = hand_of("abc")
    hand.begin()
    hand.look()
    hand.end(is_done=True)
    hand.begin()
    assert hand.look() == ([b, c, a], [], [])
    b.state = "done"
    assert hand.look() == ([], [c], [a]), "settled by its handler, so it is not extended"
    assert Hand[Any]().look() == ([], [], [])
