"""The queue against bare redis-py that sends the same scripts, and against libraries, end to end.

``bare`` calls the very scripts with arguments made beforehand: what is measured against it is what the
queue does in Python (ids, envelopes, checks). ``list`` is what people write by hand: LPUSH, LMOVE, LREM.
End to end is: send so many messages, then receive and settle each with a handler that does nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import redis
import redis.asyncio

import tenantkv
from benchmarks.timing import Measured, interleave
from tenantkv import Keyring, Namespace, embedded
from tenantkv.ops.queue_ids import make_ids
from tenantkv.ops.queue_keys import queue_keys
from tenantkv.ops.queue_scripts import queue_script
from tenantkv.queue import AsyncQueue, Queue
from tenantkv.queue.worker import Worker

VALUE = os.urandom(1024)
BATCH = 100
REASON = "random bytes of a benchmark"


class Bare:
    """The queue's scripts, called with redis-py and arguments that need no work."""

    def __init__(self, url: str, namespace: Namespace) -> None:
        self.client: Any = redis.Redis.from_url(url)
        self.keys = [namespace.wire_name(key) for key in queue_keys(namespace, "bare").core]
        self.number = 0
        self.shas: dict[str, Any] = {}
        for name in ("send", "receive"):
            self.shas[name] = self.client.script_load(queue_script(name).body)
        self.envelope = VALUE + bytes(32)
        self.prefix = 0

    def _call(self, name: str, *arguments: Any) -> Any:
        self.number += 1
        head = (b"incarnation", b"lane", self.number, 1_209_600_000, 10_000, 5)
        return self.client.evalsha(self.shas[name], len(self.keys), *self.keys, *head, *arguments)

    def send(self, count: int = 1) -> None:
        self.prefix += 1
        words: list[Any] = []
        for message_id in make_ids(self.prefix.to_bytes(9, "big"), count, 4):
            words += (message_id, self.envelope)
        self._call("send", 1_000_000, "raise", 0, 300_000, "plain", *words)

    def receive(self, count: int = 1, done: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        reply = self._call("receive", count, 30_000, 0, *done)
        return tuple(word for at in range(7, len(reply), 3) for word in (reply[at], reply[6]))


class ByHand:
    """A list and a list of what is being worked on."""

    def __init__(self, url: str) -> None:
        self.client: Any = redis.Redis.from_url(url)

    def send(self) -> None:
        self.client.lpush("by-hand", VALUE)

    def receive_and_ack(self) -> None:
        value = self.client.lmove("by-hand", "by-hand:doing", "RIGHT", "LEFT")
        self.client.lrem("by-hand:doing", 1, value)


def run(*, rounds: int = 25, quick: bool = False, only: str = "") -> list[Measured]:
    """Measure everything, or the work whose name contains `only`."""
    logging.disable(logging.WARNING)
    rows: list[Measured] = []
    scale = 4 if quick else 1
    # Not the shared profile, whose bound on memory would have the server drop what waits in the queues.
    with embedded.start() as server:
        for work, contestants, repeats in _commands(server.url):
            if only in work:
                rows += interleave(work, contestants, repeats=max(2, repeats // scale), rounds=rounds)
        if only in "end to end":
            amount = 100 if quick else 300
            with contextlib.ExitStack() as stack:
                peers = {name: stack.enter_context(make(server.url, amount)) for name, make in _peers()}
                found = interleave("end to end", peers, repeats=1, rounds=min(rounds, 7))
            print(f"end to end: {amount} messages an operation")
            rows += found
    return rows


def _commands(url: str) -> Iterator[tuple[str, dict[str, Callable[[], object]], int]]:
    namespace = Namespace(Keyring.generate(os.urandom(96)))
    kv = tenantkv.connect(url, namespace=namespace)
    signed = Queue(kv, "signed", seal=False, plaintext_ok=REASON)
    sealed = Queue(kv, "sealed")
    bare, hand = Bare(url, namespace), ByHand(url)
    again = Bare(url, Namespace(Keyring.generate(os.urandom(96))))

    batch = [VALUE] * BATCH
    ours = {"signed": signed, "sealed": sealed}

    def fill(batches: int) -> None:
        """Have enough in each queue that no round runs dry."""
        for _ in range(batches):
            bare.send(BATCH)
            again.send(BATCH)
            hand.client.lpush("by-hand", *batch)
            for queue in ours.values():
                queue.send_many(batch)

    def bare_receive(contestant: Bare, count: int) -> None:
        contestant.receive(0, contestant.receive(count))

    def receive(queue: Queue, count: int) -> None:
        queue.ack_many(queue.receive_many(count))

    yield (
        "send",
        {
            "bare": bare.send,
            "bare again": again.send,
            "list by hand": hand.send,
            **{name: partial(queue.send, VALUE) for name, queue in ours.items()},
        },
        200,
    )
    fill(60)
    yield (
        "receive + ack",
        {
            "bare": partial(bare_receive, bare, 1),
            "bare again": partial(bare_receive, again, 1),
            "list by hand": hand.receive_and_ack,
            **{name: partial(receive, queue, 1) for name, queue in ours.items()},
        },
        100,
    )
    held: dict[str, Any] = {"bare": (), "signed": (), "sealed": ()}

    def bare_step() -> None:
        held["bare"] = bare.receive(1, held["bare"])

    def step(name: str) -> None:
        held[name] = ours[name].receive_many(1, ack=held[name])

    yield "ack + receive in one", {"bare": bare_step, **{n: partial(step, n) for n in ours}}, 100
    yield (
        "send 100",
        {
            "bare": partial(bare.send, BATCH),
            "bare again": partial(again.send, BATCH),
            **{name: partial(queue.send_many, batch) for name, queue in ours.items()},
        },
        10,
    )
    fill(290)
    yield (
        "receive + ack 100",
        {
            "bare": partial(bare_receive, bare, BATCH),
            "bare again": partial(bare_receive, again, BATCH),
            **{name: partial(receive, queue, BATCH) for name, queue in ours.items()},
        },
        10,
    )
    kv.close()


Contestant = contextlib.AbstractContextManager[Callable[[], object]]


def _peers() -> Iterator[tuple[str, Callable[[str, int], Contestant]]]:
    yield "tenantkv", _tenantkv
    yield "tenantkv, prefetch=1", partial(_tenantkv, prefetch=1)
    yield "tenantkv, batches and prefetch", _prefetching
    yield "tenantkv asyncio", _tenantkv_asyncio
    for name, make in (("rq", _rq), ("huey", _huey), ("saq", _saq), ("arq", _arq)):
        if importlib.util.find_spec(name) is None:
            print(f"{name}: not installed, so left out")
        else:
            yield name, make


@contextlib.contextmanager
def _tenantkv(url: str, amount: int, prefetch: int | None = None) -> Iterator[Callable[[], object]]:
    kv = tenantkv.connect(url, namespace=Namespace(Keyring.generate(os.urandom(96))))
    queue = Queue(kv, "bench")

    def once() -> None:
        for _ in range(amount):
            queue.send(VALUE)
        Worker(queue, lambda message: None, drain=True, prefetch=prefetch).run()

    yield once
    kv.close()


@contextlib.contextmanager
def _prefetching(url: str, amount: int) -> Iterator[Callable[[], object]]:
    kv = tenantkv.connect(url, namespace=Namespace(Keyring.generate(os.urandom(96))))
    queue = Queue(kv, "bench")

    def once() -> None:
        queue.send_many([VALUE] * amount)
        with queue.receiver(prefetch=20, wait=0) as receiver:
            for message in receiver:
                with message:
                    pass

    yield once
    kv.close()


@contextlib.contextmanager
def _tenantkv_asyncio(url: str, amount: int) -> Iterator[Callable[[], object]]:
    loop = asyncio.new_event_loop()
    kv = tenantkv.asyncio.connect(url, namespace=Namespace(Keyring.generate(os.urandom(96))))
    queue = AsyncQueue(kv, "bench")

    async def once() -> None:
        for _ in range(amount):
            await queue.send(VALUE)
        done: list[Any] = []
        while (message := await queue.receive(ack=done)) is not None:
            done = [message]

    yield lambda: loop.run_until_complete(once())
    loop.run_until_complete(kv.aclose())
    loop.close()


def nothing(value: bytes) -> None:
    """What RQ's jobs do."""


@contextlib.contextmanager
def _rq(url: str, amount: int) -> Iterator[Callable[[], object]]:
    from rq import Queue as RQueue
    from rq import SimpleWorker

    client: Any = redis.Redis.from_url(url)
    queue = RQueue("bench", connection=client)

    def once() -> None:
        for _ in range(amount):
            queue.enqueue(nothing, VALUE, result_ttl=0)
        SimpleWorker([queue], connection=client).work(burst=True, logging_level="CRITICAL")

    yield once
    client.close()


@contextlib.contextmanager
def _huey(url: str, amount: int) -> Iterator[Callable[[], object]]:
    from huey import RedisHuey

    huey = RedisHuey("bench", url=url, results=False)
    task = huey.task()(nothing)

    def once() -> None:
        for _ in range(amount):
            task(VALUE)
        while (job := huey.dequeue()) is not None:
            huey.execute(job)

    # Its BRPOP would wait for a second at the end of each round.
    huey.storage.blocking = False
    yield once


@contextlib.contextmanager
def _saq(url: str, amount: int) -> Iterator[Callable[[], object]]:
    import saq
    from saq.queue.redis import RedisQueue

    loop = asyncio.new_event_loop()
    queue = RedisQueue(redis.asyncio.Redis.from_url(url))

    async def work(_context: Any, *, value: str) -> None:
        pass

    text = VALUE.hex()[:1024]

    async def once() -> None:
        await queue.connect()
        for _ in range(amount):
            await queue.enqueue("work", value=text)
        worker = saq.Worker(queue, functions=[("work", work)], concurrency=1)
        for _ in range(amount):
            await worker.process()

    yield lambda: loop.run_until_complete(once())
    loop.run_until_complete(queue.disconnect())
    loop.close()


@contextlib.contextmanager
def _arq(url: str, amount: int) -> Iterator[Callable[[], object]]:
    from arq.connections import ArqRedis
    from arq.worker import Worker as ArqWorker
    from arq.worker import func

    loop = asyncio.new_event_loop()
    pool: Any = ArqRedis.from_url(url)

    async def work(_context: Any, value: bytes) -> None:
        pass

    async def once() -> None:
        for _ in range(amount):
            await pool.enqueue_job("work", VALUE)
        worker = ArqWorker(
            functions=[func(work, name="work", keep_result=0)],
            redis_pool=pool,
            burst=True,
            max_jobs=1,
            poll_delay=0.0,
            handle_signals=False,
        )
        await worker.async_run()

    yield lambda: loop.run_until_complete(once())
    loop.run_until_complete(pool.aclose())
    loop.close()
