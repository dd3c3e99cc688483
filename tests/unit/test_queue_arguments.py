"""What a caller can get wrong, and everything that is decided before anything is sent."""

from __future__ import annotations

import copy
import math
import os
import pickle
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import fakeredis
import pytest

import tenantkv
from tenantkv import ConfigurationError, Keyring, Namespace
from tenantkv.ops import queue as ops
from tenantkv.ops.effects import Call, Command
from tenantkv.ops.queue_ids import Head, extend_id, make_ids, pack_head, priority_of, unpack_head
from tenantkv.ops.queue_keys import queue_keys
from tenantkv.ops.queue_scripts import queue_script
from tenantkv.queue import (
    Outgoing,
    Queue,
    QueueError,
    QueueFullError,
    QueueLoss,
    QueueLostError,
    QueueSettings,
    ResultLostError,
)
from tenantkv.queue.lanes import Lanes, RandomPieces
from tenantkv.queue.losses import LossWatch
from tenantkv.queue.settings import moment_ms, seconds, word

namespace = Namespace(Keyring.generate(bytes(range(96))))


@pytest.fixture
def queue() -> Iterator[Queue]:
    kv = tenantkv.connect("memory://", namespace=namespace, server=fakeredis.FakeServer(version=(7, 0)))
    yield Queue(kv, "thumbs")
    kv.close()


@pytest.mark.parametrize(
    "options",
    [
        {"delay": -1},
        {"delay": math.nan},
        {"delay": math.inf},
        {"delay": "1"},
        {"delay": True},
        {"ttl": 0},
        {"ttl": -1},
        {"at": datetime(2030, 1, 1)},
        {"at": math.nan},
        {"at": 1, "delay": 1},
        {"priority": 10},
        {"priority": -1},
        {"priority": 1.5},
        {"group": ""},
        {"group": "g", "delay": 1},
        {"dedupe": 7},
    ],
    ids=repr,
)
def test_bad_arguments_of_send(options: dict[str, Any], queue: Queue) -> None:
    with pytest.raises(ConfigurationError):
        queue.send("a", **options)
    assert queue.metrics().totals.get("sent") is None


def test_times_and_words() -> None:
    assert moment_ms(datetime(2030, 1, 1, tzinfo=timezone.utc)) == 1_893_456_000_000
    assert moment_ms(1.0001) == 1001 and seconds(3, "x") == 3.0
    assert word("a b/c") == "a_b_c" and word("") == "unknown" and len(word("x" * 100)) == 60


def test_ids_tell_what_the_scripts_need() -> None:
    first, second = make_ids(bytes(9), 2, 4)
    assert len(first) == 17 and first < second and priority_of(first) == 4
    hidden = namespace.hidden_name(b"g")
    extended = extend_id(first, expires_ms=1234, group=hidden)
    assert extended == first + b"~1234@" + hidden[:16]


def test_heads() -> None:
    assert unpack_head(pack_head(1234, wants_reply=True) + b"x") == Head(True, 1234)
    assert unpack_head(b"\x02" + bytes(9)) is None and unpack_head(b"") is None


def test_keys_hide_the_name_and_share_a_slot() -> None:
    keys = queue_keys(namespace, "thumbs")
    every = [*keys.core, *keys.dedupe, *keys.results, keys.asked(b"4abc")]
    assert len(set(every)) == len(every)
    assert all(key.startswith(keys.stem) and b"thumbs" not in key for key in every)
    assert keys.stem.startswith(b"tkv:queue:{") and queue_keys(namespace, "other").stem != keys.stem


@pytest.mark.parametrize(
    "name", ["send", "receive", "settle", "reply", "result", "redrive", "look", "control"]
)
def test_scripts_say_what_they_take(name: str) -> None:
    body = queue_script(name).body.decode()
    assert queue_script(name).repeatable
    assert body.count("-- KEYS") == 2 and body.count("-- Returns") == 1
    assert "KEYS[#" not in body and "redis.call('KEYS'" not in body


# Operations by hand


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class LostError(Exception):
    pass


def heads() -> tuple[Any, ...]:
    return ("inc", "lane", 1, 1, 1, 1)


def reply(*rest: Any) -> list[Any]:
    return [b"inc", b"1000", 3, b"r=2,b=-1", *rest]


def test_a_receive_waits_until_something_falls_due_and_acknowledges_once() -> None:
    clock = Clock()
    waiting = ops.Waiting(10.0, 2.0, clock, (LostError,))
    keys = queue_keys(namespace, "thumbs")
    operation = ops.receive(keys, heads, [(b"4a", 7)], 5, 30_000, waiting)
    call = next(operation)
    assert isinstance(call, Call) and call.arguments[6:] == (5, 30_000, 3000, b"4a", 7)
    wait = operation.send(reply(b"0", 700, 0))
    assert isinstance(wait, Command) and wait.arguments == (b"BLPOP", keys.wake, b"0.700")
    clock.now = 0.7
    call = operation.send(None)
    assert isinstance(call, Call) and call.arguments[6:] == (5, 30_000, 3000)
    wait = operation.send(reply(b"", -1, 0))
    assert isinstance(wait, Command) and wait.arguments[2] == b"2.000"
    clock.now = 9.5
    # A lost connection is as good as a token: the next request finds out.
    call = operation.throw(LostError())
    assert isinstance(call, Call) and call.arguments[8] == 1500
    with pytest.raises(StopIteration) as stop:
        operation.send(reply(b"", 5, 9, b"4b", b"envelope", b"0"))
    got = stop.value.value
    assert got.stale == [0] and got.receipt == 9 and got.messages == [b"4b", b"envelope", b"0"]
    assert got.report.losses == {"r": 2, "b": -1} and got.report.unfinished == 3


def test_a_receive_that_does_not_wait_asks_once() -> None:
    operation = ops.receive(queue_keys(namespace, "q"), heads, [], 1, 1000, None)
    next(operation)
    with pytest.raises(StopIteration):
        operation.send(reply(b"", -1, 0))


def test_a_send_waits_for_room_and_gives_up() -> None:
    clock = Clock()
    waiting = ops.Waiting(1.0, 2.0, clock, (LostError,))
    keys = queue_keys(namespace, "q")
    bounds = ops.Bounds(1, "wait", 1000)
    operation = ops.send(keys, heads, [(b"4" * 17, b"e", b"", b"")], bounds, waiting)
    call = next(operation)
    assert isinstance(call, Call) and call.arguments[10] == b"plain" and len(call.keys) == 10
    wait = operation.send(reply(b"full"))
    assert isinstance(wait, Command) and wait.arguments[1] == keys.space
    clock.now = 1.0
    operation.send(None)
    with pytest.raises(StopIteration) as stop:
        operation.send(reply(b"full"))
    assert stop.value.value[1] is None


def test_a_send_with_dedupe_names_two_keys_more_and_tells_duplicates() -> None:
    keys = queue_keys(namespace, "q")
    operation = ops.send(keys, heads, [(b"4a", b"e", b"+5", b"member")], ops.Bounds(0, "raise", 1), None)
    call = next(operation)
    assert isinstance(call, Call) and call.keys == (*keys.core, *keys.dedupe)
    assert call.arguments[10:] == (b"full", b"4a", b"e", b"+5", b"member")
    with pytest.raises(StopIteration) as stop:
        operation.send(reply(b"0=4first"))
    assert stop.value.value[1] == {0: b"4first"}


# What clients know


def report(incarnation: bytes, unfinished: int, **losses: int) -> ops.Report:
    return ops.Report(incarnation, 0, unfinished, losses, [])


def test_a_loss_is_what_differs_from_what_was_known() -> None:
    told: list[QueueLoss] = []
    watch = LossWatch("q", told.append)
    assert watch.notice(report(b"a", 5)) is None
    assert watch.notice(report(b"a", 4, b=2)) == told[0]
    assert told[0].missing == 2 and not told[0].is_whole and "2 messages" in str(told[0])
    # Another identity: all that was known is gone, but for what this request sent.
    watch.notice(report(b"b", 3), sent=3)
    assert told[1].is_whole and told[1].missing == 4 and (watch.losses, watch.missing) == (2, 6)
    strict = LossWatch("q", "raise")
    strict.notice(report(b"a", 5))
    with pytest.raises(QueueLostError):
        strict.notice(report(b"a", 5, r=1))
    with pytest.raises(ConfigurationError):
        LossWatch("q", "ignore")  # type: ignore[arg-type]


def test_a_fork_shares_neither_lanes_nor_random_bytes() -> None:
    lanes, pieces = Lanes(), RandomPieces(9)
    lane = lanes.take()
    lanes.give(lane)
    drawn = {pieces.draw() for _ in range(3)}
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # Nothing but this: the test's process is not to end twice.
        other = {pieces.draw() for _ in range(64)}
        os.write(
            writing, b"same" if lanes.take() is lane else b",".join(each.hex().encode() for each in other)
        )
        os._exit(0)
    os.waitpid(child, 0)
    answer = os.read(reading, 65536)
    os.close(reading)
    os.close(writing)
    assert answer != b"same"
    drawn |= {pieces.draw() for _ in range(64)}
    assert len(drawn) == 67
    assert not drawn & {bytes.fromhex(each.decode()) for each in answer.split(b",")}
    assert lanes.take() is lane


@pytest.mark.parametrize(
    "error",
    [
        QueueError("a", "q"),
        QueueFullError("a", "q"),
        QueueLostError("a", "q", QueueLoss("q", 1, {"messages": 1})),
        ResultLostError("a", "q", "dead", "why"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_pickling_and_copying(error: QueueError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error) and vars(again) == vars(error) and again.args == error.args


def test_nothing_of_a_message_shows(queue: Queue) -> None:
    queue.send("a value that nobody should log")
    message = queue.receive()
    shown = repr([queue, message, queue.core.watch, namespace])
    assert "nobody" not in shown and namespace.keyring.prefix not in shown


def test_settings_that_do_not_exist(queue: Queue) -> None:
    with pytest.raises(ConfigurationError, match="visibility"):
        Queue(queue.client, "q", colour="red")
    assert Queue(queue.client, "q", QueueSettings(visibility=5.0), max_dead=7).settings.visibility == 5.0
    assert Outgoing(1) == Outgoing(1)
