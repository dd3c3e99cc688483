"""Workers killed with SIGKILL under load: an exact account of every message."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tenantkv.queue import Queue
from tests.neighbourhood import Neighbourhood, neighbourhood, wait_for
from tests.servers import RealServer

PROGRAM = Path(__file__).with_name("queue_program.py")
WORKERS = 3


class Crew:
    """Workers that are killed and replaced.

    Attributes:
        killed: the logs of those that were killed.
    """

    def __init__(self, place: Neighbourhood, folder: Path, batch: int) -> None:
        self.place = place
        self.folder = folder
        self.batch = batch
        self.running: list[tuple[subprocess.Popen[bytes], Path]] = []
        self.killed: set[Path] = set()
        self.made = 0

    def start(self) -> None:
        log = self.folder / f"worker-{self.made}"
        log.touch()
        self.made += 1
        words = [sys.executable, str(PROGRAM), "work", str(log), str(self.batch)]
        self.running.append((subprocess.Popen(words, env=self.place.environment()), log))

    def kill_one(self) -> None:
        process, log = self.running.pop(random.randrange(len(self.running)))
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.killed.add(log)

    def end(self) -> list[int]:
        """Stop gracefully; returns the exit codes."""
        for process, _ in self.running:
            process.terminate()
        return [process.wait(30) for process, _ in self.running]

    def abandon(self) -> None:
        for process, _ in self.running:
            process.kill()
            process.wait()

    def handled(self) -> dict[Path, list[int]]:
        logs = {}
        for log in sorted(self.folder.glob("worker-*")):
            data = log.read_bytes()
            logs[log] = [int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data) // 4 * 4, 4)]
        return logs


def account(server: RealServer, folder: Path, messages: int, kills: int, batch: int) -> str:
    """Run it; returns what happened as a line of text."""
    with neighbourhood(server) as place:
        place.plant(lambda client: client.set("someone", "else's"))
        crew = Crew(place, folder, batch)
        queue = Queue(place.kv, "kills", max_deliveries=1000, on_loss="raise")
        words = [sys.executable, str(PROGRAM), "send", str(messages)]
        sender = subprocess.Popen(words, env=place.environment(), stdout=subprocess.DEVNULL)
        began = time.monotonic()
        try:
            for _ in range(WORKERS):
                crew.start()
            for number in range(kills):
                # Spread over the work, not over time: each kill hits workers that are busy.
                target = messages * (number + 1) // (kills + 2)
                wait_for(
                    "progress", lambda at=target: queue.metrics().totals.get("acknowledged", 0) >= at, 300
                )
                crew.kill_one()
                crew.start()
            wait_for("the end", lambda: queue.metrics().totals.get("acknowledged", 0) >= messages, 300)
            # One that was only just started may not have got as far as to end by itself.
            assert set(crew.end()) <= {0, -signal.SIGTERM}
            assert sender.wait(10) == 0
        finally:
            crew.abandon()
            sender.kill()
            sender.wait()
        numbers = queue.metrics()
        logs = crew.handled()
        times = Counter(number for handled in logs.values() for number in handled)
        # None lost, none invented, none left.
        assert set(times) == set(range(messages))
        assert (numbers.ready, numbers.in_flight, numbers.delayed, numbers.dead) == (0, 0, 0, 0)
        assert not numbers.lost and not numbers.foreign
        assert numbers.totals["sent"] == messages == numbers.totals["acknowledged"]
        # Each duplicate is explained: all handlings but one were those of a worker that was killed
        # before its acknowledgement, and it held one batch at the most.
        survivors = Counter(n for log, handled in logs.items() if log not in crew.killed for n in handled)
        assert max(survivors.values()) == 1
        duplicates = sum(count - 1 for count in times.values())
        assert duplicates <= numbers.totals.get("timed_out", 0) <= kills * 2 * batch
        took = time.monotonic() - began
    return (
        f"{messages} messages, {kills} kills: none lost, {duplicates} handled twice, "
        f"{numbers.totals.get('timed_out', 0)} went back after their visibility timeout, {took:.1f} s"
    )


def test_no_message_is_lost_by_killing_workers(shared_server: RealServer, tmp_path: Path) -> None:
    print(account(shared_server, tmp_path, 4000, 4, 20))


@pytest.mark.slow
def test_a_hundred_thousand_messages_and_twenty_kills(shared_server: RealServer, tmp_path: Path) -> None:
    print(account(shared_server, tmp_path, 100_000, 20, 50))
