"""Workers: threads, tasks and the command line; heartbeats, failures, journals and graceful stops."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

import tenantkv
from tenantkv import ConfigurationError
from tenantkv.queue import AsyncQueue, Outgoing, Queue
from tenantkv.queue.journal import Journal
from tenantkv.queue.worker import AsyncWorker, Reject, Worker
from tests.cutting_proxy import CuttingProxy
from tests.neighbourhood import Neighbourhood, neighbourhood, wait_for
from tests.servers import RealServer


@pytest.fixture
def place(shared_server: RealServer) -> Any:
    with neighbourhood(shared_server) as place:
        place.plant(lambda client: client.set("someone", "else's"))
        yield place


def queue_of(place: Neighbourhood, **options: Any) -> Queue:
    return Queue(place.kv, "work", on_loss="raise", **options)


@pytest.mark.parametrize("prefetch", [1, 7, None])
def test_threads_handle_everything_once(place: Neighbourhood, prefetch: int | None) -> None:
    queue = queue_of(place)
    queue.send_many(range(200))
    handled: list[int] = []
    lock = threading.Lock()

    @queue.handler
    def note(message: Any) -> None:
        with lock:
            handled.append(message.value)

    worker = Worker(queue, concurrency=4, drain=True, prefetch=prefetch)
    worker.run()
    assert sorted(handled) == list(range(200)) and worker.tally.done == 200
    assert queue.metrics().totals["acknowledged"] == 200


def test_tasks_handle_everything_once(place: Neighbourhood) -> None:
    async def main() -> tuple[list[int], Any]:
        kv = tenantkv.asyncio.connect(place.server.url, namespace=place.namespace)
        queue = AsyncQueue(kv, "work", on_loss="raise")
        asked = await queue.send(1000, reply=True)
        await queue.send_many(range(100))
        handled: list[int] = []

        async def note(message: Any) -> int:
            await asyncio.sleep(0)
            handled.append(message.value)
            return int(message.value) + 1

        await AsyncWorker(queue, note, concurrency=8, drain=True, prefetch=3).run()
        result = await asked.result(timeout=5)
        await kv.aclose()
        return handled, result

    handled, result = asyncio.run(main())
    assert sorted(handled) == [*range(100), 1000] and result == 1001


def test_failures_are_retried_then_dead_and_rejected_ones_at_once(
    place: Neighbourhood, caplog: pytest.LogCaptureFixture
) -> None:
    queue = queue_of(place, retry_delay=0.0, max_deliveries=3)
    queue.send_many(["fails", "useless", "works at last"])
    seen: list[str] = []

    def handle(message: Any) -> None:
        seen.append(message.value)
        if message.value == "useless":
            raise Reject("no use")
        if message.value == "fails" or message.deliveries < 2:
            raise ValueError("with a secret in the text")

    worker = Worker(queue, handle, drain=True)
    with caplog.at_level(logging.INFO):
        worker.run()
    assert sorted(seen) == sorted(["fails"] * 3 + ["useless"] + ["works at last"] * 2)
    dead = {each.value: each.why for each in queue.peek("dead")}
    assert dead == {"fails": "deliveries", "useless": "no_use"}
    assert (worker.tally.done, worker.tally.failed, worker.tally.rejected) == (1, 4, 1)
    assert "ValueError" in caplog.text and "secret" not in caplog.text


def test_a_heartbeat_keeps_a_long_running_message(place: Neighbourhood) -> None:
    queue = queue_of(place, visibility=1.0)
    queue.send("slow")
    seen = []

    def handle(message: Any) -> None:
        seen.append(message.deliveries)
        # Somebody else who looks for work all the time does not get it.
        assert queue.receive(wait=2.5) is None

    Worker(queue, handle, drain=True).run()
    assert seen == [1] and "timed_out" not in queue.metrics().totals


def test_what_was_fetched_ahead_does_not_wait_behind_a_slow_one(place: Neighbourhood) -> None:
    queue = queue_of(place)
    queue.send_many(["quick", "slow", "behind", "far behind"])
    others: list[Any] = []

    def handle(message: Any) -> None:
        if message.value == "slow":
            # The heartbeat gives back what is behind, as if never delivered, and ends what is done.
            while len(others) < 2:
                others.extend(queue.receive_many(2, wait=30))
            wait_for("the acknowledgement", lambda: queue.metrics().totals.get("acknowledged") == 1)

    worker = Worker(queue, handle, drain=True, prefetch=4, heartbeat=0.1)
    worker.run()
    assert [each.value for each in others] == ["behind", "far behind"]
    assert {each.deliveries for each in others} == {1}
    assert worker.tally.done == 2 and worker.tally.lost == 0
    queue.ack_many(others)
    totals = queue.metrics().totals
    assert totals["acknowledged"] == 4 and "timed_out" not in totals


def test_the_asyncio_worker_gives_back_in_the_same_way(place: Neighbourhood) -> None:
    async def main() -> tuple[list[Any], Any]:
        kv = tenantkv.asyncio.connect(place.server.url, namespace=place.namespace)
        queue = AsyncQueue(kv, "work", on_loss="raise")
        await queue.send_many(["slow", "behind"])
        others: list[Any] = []

        async def handle(message: Any) -> None:
            while not others:
                others.extend(await queue.receive_many(1, wait=30))

        worker = AsyncWorker(queue, handle, drain=True, prefetch=2, heartbeat=0.1)
        await worker.run()
        await queue.ack_many(others)
        totals = (await queue.metrics()).totals
        await kv.aclose()
        return others, totals

    others, totals = asyncio.run(main())
    assert [(each.value, each.deliveries) for each in others] == [("behind", 1)]
    assert totals["acknowledged"] == 2 and "timed_out" not in totals


def test_a_worker_survives_lost_connections(place: Neighbourhood) -> None:
    proxy = CuttingProxy(place.server.socket_path)
    kv = tenantkv.connect(proxy.url, namespace=place.namespace)
    queue = Queue(kv, "work", on_loss="raise")
    queue.send_many(range(30))
    handled: list[int] = []

    def handle(message: Any) -> None:
        handled.append(message.value)
        if message.value % 5 == 0:
            proxy.cut(b"EVALSHA")

    Worker(queue, handle, drain=True).run()
    assert handled == list(range(30)) and queue.metrics().totals["acknowledged"] == 30
    kv.close()
    proxy.close()


MODULE = """
import time
import tenantkv

queue = tenantkv.connect().queue("cli", on_loss="raise", visibility=30)

@queue.handler
def handle(message):
    # In one write each: lines of other threads come in between.
    print(f"begin {message.value}\\n", end="", flush=True)
    time.sleep(0.3)
    print(f"end {message.value}\\n", end="", flush=True)
"""


def test_the_command_line_stops_gracefully(place: Neighbourhood, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(MODULE)
    queue = Queue(place.kv, "cli", on_loss="raise")
    queue.send_many(range(40))
    words = [sys.executable, "-m", "tenantkv", "worker", "tasks:queue", "-c", "3", "-p", "2"]
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(words, env=place.environment(), cwd=tmp_path, stdout=file)
    wait_for("work", lambda: queue.metrics().totals.get("acknowledged", 0) >= 3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    output = log.read_text()
    assert "stopped: done=" in output
    begun, ended = output.count("begin "), output.count("end ")
    numbers = queue.metrics()
    # What was begun was finished and acknowledged; what was only fetched is there for others at once.
    assert begun == ended == numbers.totals["acknowledged"] and numbers.in_flight == 0, output
    assert numbers.ready == 40 - ended


def test_the_command_line_with_drain_and_with_mistakes(place: Neighbourhood, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(MODULE.replace("0.3", "0"))
    Queue(place.kv, "cli").send_many(range(5))

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tenantkv", "worker", *words]
        return subprocess.run(
            command,
            env=place.environment(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    done = call("tasks:queue", "--drain")
    assert done.returncode == 0 and "done=5" in done.stdout
    for words in ("tasks", "nosuch:queue", "tasks:nosuch", "tasks:time"):
        wrong = call(words)
        assert wrong.returncode == 1 and wrong.stderr and "Traceback" not in wrong.stderr


def test_a_queue_without_a_handler_has_no_worker(place: Neighbourhood) -> None:
    with pytest.raises(ConfigurationError, match="handler"):
        Worker(queue_of(place))


def test_the_journal_resends_what_was_not_confirmed(place: Neighbourhood, tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    away = tenantkv.connect("redis://127.0.0.1:1", namespace=place.namespace, retry=None)
    sender = Queue(away, "work", journal=path)
    for value in ("a", Outgoing("b", delay=0.01), Outgoing("c", group="g")):
        with pytest.raises(RedisConnectionError):
            sender.send(value)
    assert os.stat(path).st_mode & 0o077 == 0
    # The program ends here; the next one finds the file.
    back = Queue(place.kv, "work", journal=path, on_loss="raise")
    assert back.resend() == 3 and back.resend() == 0
    time.sleep(0.02)
    assert {each.value for each in back.receive_many(10)} == {"a", "b", "c"}
    # One that had arrived, and was even done, is told and not sent again.
    proxy = CuttingProxy(place.server.socket_path)
    impatient = tenantkv.connect(proxy.url, namespace=place.namespace, retry=None)
    cut = Queue(impatient, "work", journal=Journal(path))
    proxy.cut(b"raise", times=50)
    with pytest.raises(RedisConnectionError):
        cut.send("d")
    proxy.cut(b"raise", times=0)
    message = back.receive(wait=10)
    assert message is not None and message.value == "d"
    message.ack()
    assert back.resend() == 0 and back.receive() is None
    proxy.close()
    with pytest.raises(ConfigurationError):
        Queue(place.kv, "work", journal=tmp_path)


def test_an_idle_receiver_is_woken_at_once_and_does_not_poll(place: Neighbourhood) -> None:
    queue = queue_of(place, keep_alive=30.0)
    got: list[Any] = []
    waiter = threading.Thread(target=lambda: got.append(queue.receive(wait=20)))
    waiter.start()
    wait_for("the waiter", lambda: int(place.server.operator().info("clients")["blocked_clients"]) == 1)
    before = place.server.operator().info("stats")["total_commands_processed"]
    time.sleep(0.5)
    after = place.server.operator().info("stats")["total_commands_processed"]
    assert after - before <= 2, "the waiter sent commands while there was nothing to do"
    queue.send("now")
    waiter.join(timeout=10)
    assert got and got[0].value == "now"
    # And by what falls due, without anybody's word.
    queue.send("later", delay=0.2)
    assert queue.receive(wait=10).value == "later"  # type: ignore[union-attr]
