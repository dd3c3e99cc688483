"""The server's clock is set forward and back by an hour, under queues, locks and rate limits.

What comes of it stands in the tables of ``docs/queue.md`` and ``docs/lock.md``; each row has a test.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tenantkv.lock import LeaseLostError
from tenantkv.queue import Outgoing, Queue, ResultLostError, StaleReceiptError
from tests.faketime import MovableClock
from tests.neighbourhood import Neighbourhood, wait_for

HOUR = 3600


@pytest.fixture(scope="module")
def clock() -> Iterator[MovableClock]:
    try:
        clock = MovableClock()
    except LookupError as error:
        pytest.skip(str(error))
    yield clock
    clock.stop()


@pytest.fixture
def place(clock: MovableClock) -> Iterator[Neighbourhood]:
    clock.set(0)
    clock.server.flush()
    place = Neighbourhood(clock.server, registry=False)
    yield place
    place.close()


def filled(place: Neighbourhood) -> tuple[Queue, Any]:
    """Return a queue with messages of every kind, and one of them that is in flight."""
    queue = Queue(place.kv, "work", on_loss="raise")
    queue.send("held")
    held = queue.receive(visibility=600)
    queue.send_many(["a", "b", Outgoing("later", delay=600), Outgoing("short", ttl=600)])
    queue.send_many([Outgoing(n, group="g") for n in (1, 2)])
    queue.send("once", dedupe="order-1")
    return queue, held


def drained(queue: Queue) -> list[Any]:
    values = []
    while got := queue.receive_many(20):
        values += [each.value for each in got]
        assert queue.ack_many(got) == []
    return values


def test_a_queue_whose_clock_jumps_ahead_delivers_early_and_in_order(
    clock: MovableClock, place: Neighbourhood
) -> None:
    queue, held = filled(place)
    clock.set(HOUR)
    # Not sent a second time within the window by any honest clock, but the server's is past it.
    assert not queue.send("once more", dedupe="order-1").is_duplicate
    values = drained(queue)
    # In flight and delayed ones are due; what had a ttl is over; the rest is in its order.
    assert sorted(map(str, values)) == sorted(["held", "a", "b", "later", "1", "2", "once", "once more"])
    rest = [value for value in values if value not in ("held", "later")]
    assert rest == ["a", "b", 1, "once", "once more", 2]
    with pytest.raises(StaleReceiptError):
        queue.ack(held)
    numbers = queue.metrics()
    assert numbers.totals["timed_out"] == 1 and numbers.totals["expired"] == 1 and not numbers.lost


def test_a_queue_whose_clock_jumps_back_delivers_late_and_in_order(
    clock: MovableClock, place: Neighbourhood
) -> None:
    queue, held = filled(place)
    clock.set(-HOUR)
    assert queue.send("once more", dedupe="order-1").is_duplicate
    queue.send("after")
    numbers = queue.metrics()
    assert (numbers.ready, numbers.oldest_age) == (6, 0.0), "an age is never below nothing"
    assert drained(queue) == ["a", "b", "short", 1, "once", "after", 2]
    # Still held, and still delayed; the one who holds it may go on as long as it likes.
    queue.extend(held, visibility=60)
    assert queue.metrics().delayed == 1
    queue.ack(held)
    clock.set(0)
    assert queue.receive() is None
    clock.set(HOUR)
    assert drained(queue) == ["later"]
    numbers = queue.metrics()
    assert not numbers.lost and numbers.totals["acknowledged"] == 9


def test_what_nobody_acknowledges_comes_late_after_a_jump_back(
    clock: MovableClock, place: Neighbourhood
) -> None:
    queue, held = filled(place)
    clock.set(-HOUR)
    drained(queue)
    assert queue.receive() is None and queue.metrics().in_flight == 1
    clock.set(601)
    again = queue.receive()
    assert again is not None and (again.value, again.deliveries) == ("held", 2)
    with pytest.raises(StaleReceiptError):
        queue.ack(held)


@pytest.mark.parametrize("seconds", [HOUR, -HOUR], ids=["ahead", "back"])
def test_a_receiver_that_waits_is_woken_whatever_the_clock_does(
    clock: MovableClock, place: Neighbourhood, seconds: int
) -> None:
    queue = Queue(place.kv, "work", on_loss="raise")
    queue.send("warm")
    drained(queue)
    got: list[Any] = []
    waiter = threading.Thread(target=lambda: got.append(queue.receive(wait=60)))
    began = time.monotonic()
    waiter.start()
    wait_for("the waiter", lambda: int(place.server.operator().info("clients")["blocked_clients"]) == 1)
    clock.set(seconds)
    queue.send("now")
    waiter.join(timeout=60)
    assert got and got[0].value == "now" and time.monotonic() - began < 55


def test_results_go_early_or_late(clock: MovableClock, place: Neighbourhood) -> None:
    queue = Queue(place.kv, "work", on_loss="raise")
    asked = queue.send("work", reply=True)
    message = queue.receive()
    assert message is not None
    queue.reply(message, "done", keep=600)
    clock.set(-HOUR)
    assert asked.result(timeout=0) == "done"
    clock.set(HOUR)
    # Results that are over go as others come.
    queue.send("next", reply=True)
    following = queue.receive()
    assert following is not None
    queue.reply(following, "done")
    with pytest.raises(ResultLostError):
        asked.result(timeout=0)


def test_a_lock_ends_early_when_the_clock_jumps_ahead_and_its_number_grows(
    clock: MovableClock, place: Neighbourhood
) -> None:
    first = place.kv.lock("report", lease=30, renew=False)
    assert first.acquire()
    before = first.fence
    clock.set(HOUR)
    second = place.kv.lock("report", lease=30, wait=0, renew=False)
    assert second.acquire(), "the server's lease is over"
    # Two hold it by their own clocks; the number tells the database which one is late.
    assert second.fence > before
    with pytest.raises(LeaseLostError):
        first.release()
    second.release()


def test_who_holds_a_lock_is_told_that_it_ended_early(clock: MovableClock, place: Neighbourhood) -> None:
    lease = place.kv.lock("report", lease=3).take()
    clock.set(HOUR)
    wait_for("the next renewal", lambda: lease.lost)
    with pytest.raises(LeaseLostError):
        lease.check()


def test_a_lock_lasts_longer_when_the_clock_jumps_back_and_its_number_grows(
    clock: MovableClock, place: Neighbourhood
) -> None:
    first = place.kv.lock("report", lease=30, renew=False)
    assert first.acquire()
    before = first.fence
    # A little less than an hour, which is as far ahead as a number may be.
    clock.set(-HOUR + 60)
    second = place.kv.lock("report", lease=30, wait=0, renew=False)
    assert not second.acquire(), "held for as much longer"
    first.release()
    assert second.acquire() and second.fence > before
    second.release()


def test_semaphores_and_read_write_locks_end_early_or_late(clock: MovableClock, place: Neighbourhood) -> None:
    semaphore = place.kv.semaphore("api", 1, lease=30, wait=0)
    assert semaphore.acquire()
    clock.set(-HOUR)
    assert place.kv.semaphore("api", 1, lease=30, wait=0).taken() == 1
    clock.set(HOUR)
    other = place.kv.semaphore("api", 1, lease=30, wait=0)
    assert other.taken() == 0 and other.acquire()
    other.release()


def test_a_rate_limit_begins_anew_whichever_way_the_clock_jumps(
    clock: MovableClock, place: Neighbourhood
) -> None:
    limit = place.kv.rate_limit("login", 3, per=60)
    for seconds in (HOUR, -HOUR, 0):
        assert [bool(limit.hit()) for _ in range(4)] == [True, True, True, False]
        clock.set(seconds)
        decision = limit.hit(cost=0)
        assert decision and decision.remaining == 3
