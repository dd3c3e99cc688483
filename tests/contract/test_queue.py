"""What a queue promises, on every server at hand and in both worlds."""

from __future__ import annotations

import math
import time
import uuid
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import fakeredis
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from tenantkv import ConfigurationError, Secret
from tenantkv.errors import CodecError, PlaintextRefusedError
from tenantkv.queue import (
    Outgoing,
    QueueFullError,
    QueueLossWarning,
    QueueLostError,
    ResultLostError,
    ResultTimeoutError,
    StaleReceiptError,
)
from tests.cutting_proxy import CuttingProxy
from tests.queues import Place, bare
from tests.sealers import flip
from tests.servers import RealServer, installed, start_server

BOTH = ("sync", "asyncio")
PROGRAMS = installed()
# Both worlds in memory, on the default program and on another product; one will do for other versions
# and for RESP2.
PLACES: list[tuple[str, str | None, int, str]] = [("memory", None, 3, world) for world in BOTH]
for program in PROGRAMS:
    is_old = program.product == PROGRAMS[0].product and program is not PROGRAMS[0]
    PLACES += [
        (f"{program.product}-{program.version}", program.path, 3, w) for w in BOTH[: 1 if is_old else 2]
    ]
PLACES.append((f"{PROGRAMS[0].product}-{PROGRAMS[0].version}", PROGRAMS[0].path, 2, "asyncio"))


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, RealServer]]:
    running: dict[str, RealServer] = {}
    yield running
    for server in running.values():
        server.stop()


@pytest.fixture(
    params=PLACES,
    ids=lambda param: f"{param[0]}-resp{param[2]}-{param[3]}",
)
def place(request: pytest.FixtureRequest, servers: dict[str, RealServer]) -> Iterator[Place]:
    name, path, protocol, world = request.param
    is_async = world == "asyncio"
    if path is None:
        server = fakeredis.FakeServer(version=(7, 0))
        operator: Any = fakeredis.FakeRedis(server=server)
        made = Place("memory://", operator, is_async=is_async, server=server)
    else:
        if name not in servers:
            servers[name] = start_server("shared", binary=path)
        made = Place(servers[name].url, servers[name].operator(), is_async=is_async, protocol=protocol)
    yield made
    made.close()


VALUES = [b"\0\xff", "text", {"page": 7, "tags": ["a", None, 1.5]}, [], None, 0, ""]


def test_what_is_sent_is_received_once_in_order(place: Place) -> None:
    queue = place.queue()
    ids = [queue.send(value).id for value in VALUES]
    ids += [each.id for each in queue.send_many(VALUES)]
    got = [queue.receive() for _ in VALUES]
    got += queue.receive_many(100)
    assert [each.value for each in got] == VALUES * 2
    assert [each.id for each in got] == ids
    assert {each.deliveries for each in got} == {1} and not got[0].wants_reply
    assert abs(got[0].sent_at - time.time()) < 60
    assert queue.receive() is None
    assert queue.ack_many(got) == []
    numbers = queue.metrics()
    assert (numbers.ready, numbers.in_flight, numbers.totals["acknowledged"]) == (0, 0, 14)
    # Nothing but the queue's memory of itself is left.
    left = [place.operator.exists(place.wire(part)) for part in ("bodies", "ready", "flight", "state")]
    assert left == [0, 0, 0, 0]


def test_a_message_comes_back_after_its_visibility_timeout_unless_extended(place: Place) -> None:
    queue = place.queue(visibility=0.6)
    queue.send_many([1, 2])
    first, second = queue.receive_many(2)
    queue.extend(second, visibility=60)
    again = queue.receive(wait=5)
    assert again.id == first.id and again.deliveries == 2
    with pytest.raises(StaleReceiptError):
        queue.ack(first)
    with pytest.raises(StaleReceiptError):
        queue.extend(first)
    queue.ack(again)
    queue.ack(second)
    assert bare(first).state == "stale" and queue.metrics().totals["timed_out"] == 1


def test_release_retry_bury_and_redrive(place: Place) -> None:
    queue = place.queue(max_deliveries=2, retry_delay=0.05)
    queue.send("a")
    queue.receive().release()
    second = queue.receive()
    assert second.deliveries == 2
    queue.retry(second)
    assert queue.receive() is None
    (dead,) = queue.peek("dead")
    assert (dead.value, dead.why, dead.deliveries) == ("a", "deliveries", 2)
    assert queue.redrive() == 1 and queue.metrics().dead == 0
    again = queue.receive()
    assert again.value == "a" and again.deliveries == 1
    again.bury("not now; see #7")
    assert queue.peek("dead")[0].why == "not_now_see_7"
    assert queue.drop_dead(ids=[again.id]) == 1 and queue.redrive() == 0
    patient = place.queue(max_deliveries=2, retry_delay=60.0)
    patient.send("b")
    patient.retry(patient.receive())
    assert patient.receive() is None and patient.metrics().delayed == 1
    patient.purge()
    queue.send("b")
    queue.retry(queue.receive())
    later = queue.receive(wait=30)
    assert later.value == "b" and later.deliveries == 2
    assert queue.give_back([later]) == []
    assert queue.receive().deliveries == 2, "giving back does not count"


def test_an_error_in_the_block_means_a_retry_and_none_means_done(place: Place) -> None:
    queue = place.queue(retry_delay=0.0)
    queue.send("a")
    with pytest.raises(ZeroDivisionError), queue.receive():
        raise ZeroDivisionError
    with pytest.raises(KeyboardInterrupt), queue.receive():
        raise KeyboardInterrupt
    with queue.receive() as message:
        assert message.deliveries == 2
    assert queue.receive() is None and queue.metrics().totals["acknowledged"] == 1


def test_delay_and_eta_to_the_millisecond(place: Place) -> None:
    queue = place.queue()
    at = datetime.now(timezone.utc) + timedelta(seconds=1.2)
    queue.send("third", at=at)
    queue.send("second", delay=0.8)
    queue.send("first", at=time.time() - 5)
    assert [each.value for each in queue.receive_many(5)] == ["first"]
    assert queue.metrics().delayed == 2
    due = queue.peek("delayed")[1].when
    assert due == pytest.approx(at.timestamp(), abs=0.0011)
    second = queue.receive(wait=5)
    third = queue.receive(wait=5, ack=[second])
    assert (second.value, third.value) == ("second", "third")
    # The clock of the server decides, and it is this machine's.
    assert time.time() >= at.timestamp()


def test_priorities_come_first_and_keep_their_order(place: Place) -> None:
    queue = place.queue()
    sent = [(4, "a"), (0, "b"), (9, "c"), (4, "d"), (9, "e")]
    queue.send_many([Outgoing(value, priority=priority) for priority, value in sent])
    got = queue.receive_many(10)
    assert [each.value for each in got] == ["c", "e", "a", "d", "b"]
    assert [each.priority for each in got] == [9, 9, 4, 4, 0]


def test_groups_are_in_order_one_at_a_time_and_do_not_hold_up_others(place: Place) -> None:
    queue = place.queue(retry_delay=0.0, max_deliveries=2)
    queue.send_many([Outgoing(f"{group}{n}", group=group) for n in range(4) for group in "xy"])
    queue.send("free")
    order: dict[str, list[str]] = {"x": [], "y": [], "f": []}
    seen_failures = 0
    while batch := queue.receive_many(10):
        groups = [each.value[0] for each in batch]
        assert len(groups) == len(set(groups)), "two of a group at the same time"
        for each in batch:
            if each.value == "x1" and each.deliveries == 1:
                seen_failures += 1
                each.retry()
            elif each.value == "y2":
                each.bury()
            else:
                order[each.value[0]].append(each.value)
                each.ack()
    assert order == {"x": ["x0", "x1", "x2", "x3"], "y": ["y0", "y1", "y3"], "f": ["free"]}
    assert seen_failures == 1 and queue.metrics().waiting == 0
    # A redriven one goes behind what its group has by then.
    queue.send("y9", group="y")
    queue.redrive()
    assert queue.receive().value == "y9"


def test_dedupe_within_a_window(place: Place) -> None:
    queue = place.queue(dedupe_window=1.5)
    first = queue.send("a", dedupe="order-1")
    queue.ack(queue.receive())
    second = queue.send("a", dedupe="order-1")
    other = queue.send("a", dedupe="order-2")
    assert (first.is_duplicate, second.is_duplicate, other.is_duplicate) == (False, True, False)
    assert second.id == first.id and queue.metrics().totals["duplicates"] == 1
    time.sleep(1.6)
    assert not queue.send("a", dedupe="order-1").is_duplicate
    lot = [Outgoing(n, dedupe=f"lot-{n % 2}") for n in range(4)]
    assert [each.is_duplicate for each in queue.send_many(lot)] == [False, False, True, True]


def test_messages_stop_being_worth_it(place: Place) -> None:
    queue = place.queue()
    queue.send("short", ttl=0.05)
    queue.send("long", ttl=60)
    time.sleep(0.1)
    assert [each.value for each in queue.receive_many(10)] == ["long"]
    assert queue.metrics().totals["expired"] == 1


def test_a_bound_raises_waits_or_drops(place: Place) -> None:
    queue = place.queue(max_messages=2)
    queue.send_many([1, 2])
    for value in ([3], [4, 5]):
        with pytest.raises(QueueFullError):
            queue.send_many(value)
    queue.ack(queue.receive())
    queue.send(3)
    dropping = place.queue(max_messages=2, overflow="drop_oldest")
    dropping.send(4)
    assert [each.value for each in queue.peek()] == [3, 4]
    waiting = place.queue(max_messages=2, overflow="wait")
    with pytest.raises(QueueFullError):
        waiting.send(5, wait=0.05)
    queue.bury(queue.receive())
    # A dead letter is not counted, so there is room.
    waiting.send(5, wait=5)
    assert [each.value for each in queue.peek()] == [4, 5]
    with pytest.raises(QueueFullError):
        dropping.send_many([6, 7, 8])


def test_acknowledging_and_receiving_in_one_round_trip(place: Place) -> None:
    queue = place.queue(visibility=0.1)
    queue.send_many([1, 2, 3])
    late = queue.receive()
    time.sleep(0.15)
    again = queue.receive(visibility=60)
    done = queue.receive(visibility=60)
    after = queue.receive(ack=[late, done], visibility=60)
    assert again.id == late.id and after.value == 3
    assert (bare(late).state, bare(done).state) == ("stale", "done")


def test_a_receiver_prefetches_and_gives_back_what_it_did_not_hand_out(place: Place) -> None:
    queue = place.queue()
    queue.send_many(range(10))
    seen = []
    with queue.receiver(prefetch=4, wait=0) as receiver:
        for message in receiver:
            with message:
                seen.append(message.value)
            if len(seen) == 6:
                break
    numbers = queue.metrics()
    assert seen == list(range(6)) and (numbers.ready, numbers.in_flight) == (4, 0)
    with queue.receiver(prefetch=4, wait=0) as receiver:
        for message in receiver:
            with message:
                seen.append(message.value)
    assert sorted(seen) == list(range(10)) and queue.metrics().totals["acknowledged"] == 10


def test_results(place: Place) -> None:
    queue = place.queue()
    asked = queue.send("2 + 2", reply=True)
    with pytest.raises(ResultTimeoutError):
        asked.result(timeout=0.01)
    message = queue.receive()
    assert message.wants_reply
    message.reply({"sum": 4})
    assert asked.result(timeout=5) == {"sum": 4} == queue.result(asked.id, timeout=0)
    with pytest.raises(StaleReceiptError):
        message.reply({"sum": 5})
    doomed = queue.send("x", reply=True)
    queue.bury(queue.receive(), why="useless")
    with pytest.raises(ResultLostError) as caught:
        doomed.result(timeout=5)
    assert (caught.value.state, caught.value.why) == ("dead", "useless")
    with pytest.raises(ResultLostError) as caught:
        queue.result("4" + "A" * 16, timeout=5)
    assert caught.value.state == "gone"


def test_pause_resume_purge_peek_touch_and_metrics(place: Place) -> None:
    queue = place.queue()
    queue.send_many([1, 2, 3])
    held = queue.receive()
    queue.pause()
    assert queue.receive() is None and queue.metrics().is_paused
    queue.ack(held)
    queue.resume()
    assert not queue.metrics().is_paused
    assert [each.value for each in queue.peek(count=5)] == [2, 3]
    assert [each.value for each in queue.peek(count=1, start=1)] == [3]
    held = queue.receive()
    assert [each.value for each in queue.peek("in_flight")] == [2]
    numbers = queue.metrics()
    assert (numbers.ready, numbers.in_flight, numbers.clients > 0) == (1, 1, True)
    assert numbers.oldest_age is not None and 0 <= numbers.oldest_age < 60
    assert set(numbers.rates) == {"sent", "received", "acknowledged"}
    assert queue.touch() >= 4
    assert queue.purge() == 2 and queue.receive() is None
    with pytest.raises(StaleReceiptError):
        queue.ack(held)
    queue.send("after")
    assert queue.receive().value == "after"


def test_every_key_of_a_queue_expires_and_shares_a_slot_and_hides_its_name(place: Place) -> None:
    queue = place.queue("the-secret-name", retention=3600.0)
    queue.send_many([1, 2, Outgoing(3, delay=60), Outgoing(4, group="the-secret-group")])
    queue.send(5, group="the-secret-group", dedupe="the-secret-id", reply=True)
    queue.bury(queue.receive())
    message = queue.receive()
    queue.reply(queue.receive(), 4)
    del message
    keys = place.keys("the-secret-name")
    names = [place.namespace.wire_name(key) for key in (*keys.core, *keys.dedupe, *keys.results)]
    found = [name for name in names if place.operator.exists(name)]
    assert len(found) >= 9
    assert all(0 < place.operator.pttl(name) <= 7_200_000 for name in found), "a key without a TTL"
    assert len({name[name.index(b"{") : name.index(b"}")] for name in names}) == 1
    for name in found:
        kind = place.operator.type(name)
        text = (
            name
            + repr(
                place.operator.hgetall(name)
                if kind == b"hash"
                else place.operator.zrange(name, 0, -1)
                if kind == b"zset"
                else place.operator.lrange(name, 0, -1)
            ).encode()
        )
        assert b"secret" not in text


# What a caller can get wrong


def test_bad_values_and_bad_receipts(place: Place) -> None:
    queue, other = place.queue(max_bytes=100), place.queue("other")
    with pytest.raises(CodecError):
        queue.send(object())
    with pytest.raises(CodecError):
        queue.send({"t": (1, 2)})
    with pytest.raises(ConfigurationError):
        queue.send(b"x" * 100)
    with pytest.raises(CodecError):
        queue.send_many(["good", object()])
    assert queue.receive() is None, "all are checked before one is sent"
    queue.send("a")
    message = queue.receive()
    with pytest.raises(StaleReceiptError):
        other.ack(message)
    with pytest.raises(StaleReceiptError):
        queue.ack("4abc")
    bare(message).receipt += 1
    with pytest.raises(StaleReceiptError):
        queue.ack(message)
    bare(message).receipt -= 1
    assert queue.ack_many([message, message]) == []
    with pytest.raises(StaleReceiptError):
        queue.ack(message)
    for bad in ({"visibility": -1}, {"wait": math.nan}, {"wait": "1"}, {"visibility": 0}):
        with pytest.raises(ConfigurationError):
            queue.receive(**bad)
    with pytest.raises(ConfigurationError):
        queue.receive_many(501)
    for settings in ({"visibility": -1}, {"overflow": "x"}, {"max_deliveries": 0}, {"colour": 1}):
        with pytest.raises(ConfigurationError):
            place.queue(**settings)
    for name in ("", "x" * 201, b"\xff", 7):
        with pytest.raises(ConfigurationError):
            place.queue(name)


def test_secrets_are_refused_or_sealed(place: Place) -> None:
    queue = place.queue(seal=False)
    secret = {"password": "tr0ub4dor&3xyz"}
    with pytest.raises(PlaintextRefusedError):
        queue.send(secret)
    queue.send(secret, plaintext_ok="a test account")
    queue.send(Secret("correct horse"))
    sealed = place.queue("sealed")
    sealed.send(secret)
    assert [each.value for each in queue.receive_many(5)] == [secret, "correct horse"]
    assert sealed.receive().value == secret
    stored = b"".join(place.operator.hvals(place.wire("bodies")))
    assert b"tr0ub4dor" in stored and b"correct horse" not in stored
    assert b"tr0ub4dor" not in b"".join(place.operator.hvals(place.wire("bodies", "sealed")))
    # What is only signed does not pass for sealed.
    readable = place.queue("sealed", seal=False, plaintext_ok="x")
    readable.send("signed")
    assert sealed.receive() is None and sealed.peek("dead")[0].why == "unreadable"


def test_a_namespace_that_signs_signs(place: Place) -> None:
    queue = place.queue(client=place.client().using(seal=True, mode="sign"))
    with pytest.raises(PlaintextRefusedError):
        queue.send({"password": "tr0ub4dor&3xyz"})
    queue.send({"colour": "blue as can be"})
    assert b"blue as can be" in b"".join(place.operator.hvals(place.wire("bodies")))
    assert queue.receive().value == {"colour": "blue as can be"}


def test_pickles_only_where_asked(place: Place) -> None:
    queue = place.queue(pickle=True)
    value = {"id": uuid.UUID(int=7), "pair": (1, 2)}
    queue.send(value)
    assert queue.receive().value == value


# Lost replies


def test_a_lost_reply_repeats_nothing(place: Place, servers: dict[str, RealServer]) -> None:
    if place.url.startswith("memory"):
        pytest.skip("there is no connection to lose")
    proxy = CuttingProxy(place.url.removeprefix("unix://").partition("?")[0])
    try:
        queue = place.queue(client=place.client(proxy.url), visibility=60.0)
        queue.send("warm")
        queue.ack(queue.receive())
        for value in range(3):
            proxy.cut(b"raise")
            assert not queue.send(value).is_duplicate
            assert proxy.cuts == 1
        proxy.cut(b"raise")
        queue.send_many([3, 4])
        assert queue.metrics().ready == 5
        proxy.cut(b"60000")
        got = queue.receive_many(2)
        # All that was delivered, if not in its order.
        assert proxy.cuts == 1 and sorted(each.value for each in got) == [0, 1]
        proxy.cut(b"60000")
        more = queue.receive_many(2, ack=got)
        assert proxy.cuts == 1 and sorted(each.value for each in more) == [2, 3]
        assert [bare(each).state for each in got] == ["done", "done"]
        proxy.cut(b"EVALSHA")
        queue.ack(more[0])
        proxy.cut(b"EVALSHA")
        more[1].release()
        assert queue.receive().deliveries == 2, "released once"
        numbers = queue.metrics()
        assert (numbers.in_flight, numbers.ready, numbers.totals["returned"]) == (1, 1, 1)
    finally:
        proxy.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"-READONLY You can't write against a read only replica.\r\n",
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-NOSCRIPT No matching script.\r\n",
    ],
    ids=lambda answer: answer[1:9].decode(),
)
def test_a_server_that_is_not_ready_is_asked_again(answer: bytes, place: Place) -> None:
    if place.url.startswith("memory"):
        pytest.skip("there is no connection to lose")
    proxy = CuttingProxy(place.url.removeprefix("unix://").partition("?")[0])
    try:
        queue = place.queue(client=place.client(proxy.url), visibility=60.0)
        queue.send("warm")
        proxy.cut(b"EVALSHA", answer=answer)
        queue.send("a")
        proxy.cut(b"EVALSHA", answer=answer)
        got = queue.receive_many(5)
        assert [each.value for each in got] == ["warm", "a"]
        proxy.cut(b"EVALSHA", answer=answer)
        assert queue.ack_many(got) == [] and proxy.cuts == 1
    finally:
        proxy.close()


def test_a_server_that_is_away_is_an_error_of_redis_py(place: Place) -> None:
    if place.url.startswith("memory"):
        pytest.skip("there is no connection to lose")
    queue = place.queue(client=place.client("redis://127.0.0.1:1", retry=None))
    with pytest.raises(RedisConnectionError):
        queue.send("a")


# What neighbours and the server do


def stuffed(place: Place) -> Any:
    """Return a queue with ready, delayed, dead, grouped messages and one in flight."""
    queue = place.queue(on_loss="warn")
    queue.send_many(["dead", "held", "a", "b", Outgoing("later", delay=60)])
    queue.send_many([Outgoing(n, group="g") for n in (1, 2)])
    queue.bury(queue.receive())
    assert queue.receive().value == "held"
    return queue


def everything(queue: Any) -> list[Any]:
    """Acknowledge all that can be received, and return it."""
    values = []
    for _ in range(40):
        for each in queue.receive_many(50):
            values.append(each.value)
            each.ack()
    return values


@pytest.mark.parametrize("part", ["ready", "flight", "delayed", "groups", "state", "dead", "meta"])
@pytest.mark.parametrize("deed", ["delete", "replace"])
def test_any_index_may_go_and_no_message_with_it(part: str, deed: str, place: Place) -> None:
    queue = stuffed(place)
    name = place.wire(part)
    size = {b"hash": place.operator.hlen, b"zset": place.operator.zcard}[place.operator.type(name)](name)
    place.operator.delete(name)
    if deed == "replace":
        place.operator.set(name, "something else")
    with pytest.warns(QueueLossWarning) as told:
        queue.metrics()
    text = str(told[0].message)
    assert ("ledger was lost" in text) if part == "meta" else (f" {size}" in text)
    assert place.namespace.keyring.prefix not in text
    values = everything(queue)
    expected = {"a", "b", 1, 2}
    again = {"flight": {"held"}, "delayed": {"later"}, "dead": {"dead"}}.get(part, set())
    assert set(values) == expected | again
    assert len(values) == len(set(values))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        queue.send("afterwards")
        assert everything(queue) == ["afterwards"]
    if part != "meta":
        assert sum(queue.metrics().lost.values()) == size


@pytest.mark.parametrize("deed", ["delete", "replace"])
def test_lost_messages_are_counted(deed: str, place: Place) -> None:
    queue = stuffed(place)
    place.operator.delete(place.wire("bodies"))
    if deed == "replace":
        place.operator.lpush(place.wire("bodies"), "something else")
    losses: list[Any] = []
    watching = place.queue(on_loss=losses.append)
    assert watching.receive() is None
    (loss,) = losses
    assert (loss.missing, loss.parts["messages"], loss.is_whole) == (7, 7, False)
    queue.send("afterwards")
    assert everything(queue) == ["afterwards"]
    assert queue.metrics().lost["messages"] == 7


def test_indexes_that_outlive_messages_and_ledger_are_cleared(place: Place) -> None:
    old = place.queue(on_loss=lambda _: None)
    stuffed(place)
    old.metrics()
    place.operator.delete(place.wire("bodies"), place.wire("meta"))
    losses: list[Any] = []
    watching = place.queue(on_loss=losses.append)
    assert watching.receive() is None
    assert [(loss.missing, loss.is_whole) for loss in losses] == [(7, False)]
    numbers = watching.metrics()
    assert not (numbers.ready or numbers.in_flight or numbers.delayed or numbers.dead or numbers.waiting)
    assert numbers.lost["messages"] == 7 and "ghosts" not in numbers.totals
    watching.send("afterwards")
    assert everything(watching) == ["afterwards"] and len(losses) == 1


def test_a_part_of_the_messages_may_go(place: Place) -> None:
    queue = stuffed(place)
    bodies = place.wire("bodies")
    lost = queue.peek("ready")[0].id
    place.operator.hdel(bodies, lost)
    with pytest.warns(QueueLossWarning, match="1 messages are known to be missing"):
        values = everything(queue)
    assert set(values) == {"b", 1, 2} and queue.metrics().totals["ghosts"] == 1


def test_what_the_ledger_does_not_count_is_lost_as_the_docs_say(place: Place) -> None:
    queue = place.queue()
    queue.send("a", dedupe="order-1")
    asked = queue.send("b", reply=True)
    first, second = queue.receive_many(2)
    queue.ack(first)
    queue.reply(second, "done")
    keys = place.keys()
    place.operator.delete(*map(place.namespace.wire_name, (*keys.dedupe, *keys.results)))
    # Losses raise on this queue, and none does.
    assert not queue.send("a", dedupe="order-1").is_duplicate
    assert queue.send("a", dedupe="order-1").is_duplicate
    with pytest.raises(ResultLostError):
        asked.result(timeout=0)
    assert not queue.metrics().lost and everything(queue) == ["a"]


def test_a_whole_queue_may_go(place: Place) -> None:
    queue = stuffed(place)
    losses: list[Any] = []
    watching = place.queue(on_loss=losses.append)
    watching.metrics()
    place.operator.delete(*(place.wire(part) for part in ("meta", "bodies", "ready", "flight", "state")))
    place.operator.delete(*(place.wire(part) for part in ("delayed", "groups", "dead")))
    assert watching.receive() is None
    (loss,) = losses
    assert loss.is_whole and loss.missing == 6
    strict = place.queue(on_loss="raise")
    strict.send("a")
    place.operator.delete(place.wire("meta"), place.wire("bodies"))
    with pytest.raises(QueueLostError) as caught:
        strict.metrics()
    assert caught.value.loss.missing == 1
    del queue


def test_forged_changed_swapped_and_replayed_messages_are_not_delivered(place: Place) -> None:
    queue, other = place.queue(on_loss=lambda _: None), place.queue("other")
    queue.send_many(["a", "b", "c", "d"])
    other.send("of another queue")
    bodies, ready = place.wire("bodies"), place.wire("ready")
    a, b, c, _ = (each.id.encode() for each in queue.peek())
    stored = place.operator.hmget(bodies, a, b, c)
    place.operator.hset(bodies, mapping={a: stored[1], b: stored[0], c: flip(stored[2])})
    foreign = other.peek()[0].id
    envelope = place.operator.hget(place.wire("bodies", "other"), foreign)
    for member, value in ((b"4" + b"F" * 16, b"forged"), (foreign, envelope), (b"\xff\0", b"")):
        place.operator.hset(bodies, member, value)
        place.operator.zadd(ready, {member: 1})
    assert everything(queue) == ["d"]
    assert {each.why for each in queue.peek("dead")} == {"unreadable"} and len(queue.peek("dead")) == 6
    assert not any(each.is_readable for each in queue.peek("dead")[:1])
    assert queue.core.unreadable == 6 and sum(queue.metrics().foreign.values()) > 0
    # Nothing that a neighbour can write makes an expired message new again.
    queue.send("old", ttl=0.4)
    (old,) = queue.peek()
    kept = place.operator.hget(bodies, old.id)
    time.sleep(0.45)
    assert everything(queue) == []
    place.operator.hset(bodies, old.id, kept)
    place.operator.zadd(ready, {old.id: 1})
    assert everything(queue) == []


def test_nonsense_in_the_queues_memory_does_not_stop_it(place: Place) -> None:
    queue = stuffed(place)
    meta, state = place.wire("meta"), place.wire("state")
    place.operator.hset(meta, mapping=dict.fromkeys("iqtwzehbrfdxgs", "nonsense"))
    place.operator.hset(state, mapping=dict.fromkeys(place.operator.hkeys(state), "nonsense"))
    place.operator.set(place.wire("wake"), "x")
    place.operator.set(place.wire("space"), "x")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = everything(queue)
        queue.send("afterwards")
        assert queue.receive(wait=0.2).value == "afterwards"
    assert {"a", "b"} <= set(values)


def test_scripts_may_be_flushed_at_any_time(place: Place) -> None:
    queue = place.queue()
    for value in range(3):
        place.operator.script_flush()
        queue.send(value)
        place.operator.script_flush()
        message = queue.receive()
        place.operator.script_flush()
        message.ack()
    assert queue.metrics().totals["acknowledged"] == 3
