"""The queue against a model, with faults from a proxy: random programs, every promise checked.

The model knows what was sent, what was acknowledged and who holds what. Promises: nothing acknowledged is
delivered again, nothing unacknowledged is lost while the server keeps its data, a group keeps its order
with one message at a time, and a dedupe id is taken once in its window. A call that fails because its
connection was cut may have been carried out or not; the model then allows both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import tenantkv
from tenantkv import Keyring, Namespace
from tenantkv.queue import Message, Outgoing, Queue, StaleReceiptError
from tests.cutting_proxy import CuttingProxy
from tests.servers import RealServer

GROUPS = (None, None, "x", "y")
# What every request of a queue has in it.
MARKER = b"EVALSHA"
VERBS = ("ack", "release", "extend", "back")
# Which of two clients.
BY = st.integers(0, 1)


class QueueModel(RuleBasedStateMachine):
    """Two clients, one of which loses replies now and then."""

    server: RealServer
    proxy: CuttingProxy

    def __init__(self) -> None:
        super().__init__()
        namespace = Namespace(Keyring.generate(os.urandom(96)))
        options: dict[str, Any] = {"max_deliveries": 1000, "retry_delay": 0.0, "on_loss": "raise"}
        self.clients = [
            tenantkv.connect(url, namespace=namespace) for url in (self.server.url, self.proxy.url)
        ]
        self.queues = [Queue(client, "model", visibility=600.0, **options) for client in self.clients]
        self.sent: list[int] = []
        self.groups: dict[int, str | None] = {}
        self.acknowledged: set[int] = set()
        self.held: dict[int, Message] = {}
        self.old: list[Message] = []
        self.dedupe: set[str] = set()
        self.delivered_in_group: dict[str, int] = {}

    def teardown(self) -> None:
        self.proxy.cut(MARKER, times=0)
        for message in self.held.values():
            self.queues[0].give_back([message])
        self.held.clear()
        remaining = self._drain()
        assert sorted(remaining) == sorted(set(self.sent) - self.acknowledged), "lost, or delivered again"
        numbers = self.queues[0].metrics()
        assert (numbers.ready, numbers.in_flight, numbers.delayed, numbers.waiting) == (0, 0, 0, 0)
        assert not numbers.lost and not numbers.foreign
        for client in self.clients:
            client.close()

    def _drain(self) -> list[int]:
        values: list[int] = []
        while batch := self.queues[0].receive_many(50):
            for message in batch:
                self._check(message)
                values.append(message.value)
                message.ack()
        return values

    def _check(self, message: Message) -> None:
        """What is promised of every delivery."""
        value = message.value
        assert value not in self.acknowledged, "acknowledged, and delivered again"
        assert value not in self.held, "held by somebody, and delivered again"
        group = self.groups[value]
        if group is not None:
            assert not any(self.groups[held] == group for held in self.held), "two of a group at once"
            # Never behind one that was acknowledged after it: order of first deliveries is order of sending.
            assert value >= self.delivered_in_group.get(group, -1), "out of its group's order"
            self.delivered_in_group[group] = value

    def _new(self, group: str | None) -> int:
        value = len(self.groups)
        self.groups[value] = group
        return value

    @rule(lots=st.lists(st.sampled_from(GROUPS), min_size=1, max_size=5), by=BY, cut=st.booleans())
    def send(self, lots: list[str | None], by: int, cut: bool) -> None:
        if cut:
            self.proxy.cut(MARKER)
        values = [self._new(group) for group in lots]
        sent = self.queues[by].send_many([Outgoing(v, group=self.groups[v]) for v in values])
        assert not any(each.is_duplicate for each in sent)
        self.sent += values

    @rule(text=st.sampled_from(["a", "b", "c"]), by=st.integers(0, 1), cut=st.booleans())
    def send_once(self, text: str, by: int, cut: bool) -> None:
        if cut:
            self.proxy.cut(MARKER)
        value = self._new(None)
        sent = self.queues[by].send(value, dedupe=text)
        assert sent.is_duplicate == (text in self.dedupe)
        if not sent.is_duplicate:
            self.sent.append(value)
            self.dedupe.add(text)

    @rule(count=st.integers(1, 5), by=st.integers(0, 1), cut=st.booleans(), data=st.data())
    def receive(self, count: int, by: int, cut: bool, data: st.DataObject) -> None:
        # Not in the order of ids, which are random: a batch that is told once more comes in it.
        held = [self.held[value] for value in sorted(self.held)]
        done = [each for each in held if data.draw(st.booleans())]
        # Acknowledged before more is delivered, in the same request.
        for each in done:
            del self.held[each.value]
            self.acknowledged.add(each.value)
        if cut:
            self.proxy.cut(MARKER)
        got = self.queues[by].receive_many(count, ack=[self._at(each, by) for each in done])
        for message in got:
            self._check(message)
            self.held[message.value] = message
        assert len(got) <= count
        waiting = set(self.sent) - self.acknowledged - self.held.keys()
        if not got and waiting:
            stuck = {self.groups[value] for value in waiting}
            assert None not in stuck, "there were messages, and none came"
            assert all(any(self.groups[h] == group for h in self.held) for group in stuck)
        self.old += done

    def _at(self, message: Message, by: int) -> Message:
        """Return a message as one that the other client of the queue can settle."""
        message.queue = self.queues[by]
        return message

    @precondition(lambda self: self.held)
    @rule(data=st.data(), by=BY, cut=st.booleans(), verb=st.sampled_from(VERBS))
    def settle(self, data: st.DataObject, by: int, cut: bool, verb: str) -> None:
        message = data.draw(st.sampled_from(sorted(self.held.values(), key=lambda each: each.value)))
        if cut:
            self.proxy.cut(MARKER)
        queue = self.queues[by]
        if verb == "ack":
            # One that was carried out and whose reply was lost is told as the success that it was.
            queue.ack(message)
            self.acknowledged.add(message.value)
        elif verb == "release":
            queue.release(message)
        elif verb == "back":
            assert queue.give_back([message]) == []
        else:
            queue.extend(message, visibility=900)
            return
        del self.held[message.value]
        self.old.append(message)

    @precondition(lambda self: self.old)
    @rule(data=st.data(), verb=st.sampled_from(["ack", "release", "extend", "bury"]))
    def settle_what_is_over(self, data: st.DataObject, verb: str) -> None:
        message = data.draw(st.sampled_from(self.old))
        with pytest.raises(StaleReceiptError):
            getattr(self.queues[0], verb)(message)

    @invariant()
    def counts_agree(self) -> None:
        self.proxy.cut(MARKER, times=0)
        numbers = self.queues[0].metrics()
        unfinished = len(set(self.sent) - self.acknowledged)
        assert numbers.in_flight == len(self.held)
        assert numbers.ready + numbers.waiting + numbers.in_flight == unfinished
        assert numbers.totals.get("acknowledged", 0) == len(self.acknowledged)


@pytest.fixture
def machine(shared_server: RealServer) -> Iterator[type[QueueModel]]:
    QueueModel.server = shared_server
    QueueModel.proxy = CuttingProxy(shared_server.socket_path)
    yield QueueModel
    QueueModel.proxy.close()


def check(machine: type[QueueModel], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_queue_keeps_its_promises(machine: type[QueueModel]) -> None:
    check(machine, 30, 25)


@pytest.mark.slow
def test_the_queue_keeps_its_promises_for_long(machine: type[QueueModel]) -> None:
    check(machine, 400, 60)
