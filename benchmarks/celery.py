"""Tasks sent, and completed by a prefork worker of two processes: on the stock transport, and sealed on ours.

Completed many at once, and one after the other, when it is the latency that counts.

Below the table stands what an idle worker costs the server: commands a second and connections.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis

from benchmarks.timing import Measured, interleave
from tenantkv import Keyring, Namespace, embedded

#: What a worker runs; the environment says which transport.
PROGRAM = """
import os
from celery import Celery

app = Celery("bench", broker=os.environ["BENCH_URL"], backend=os.environ["BENCH_URL"])
app.conf.worker_hijack_root_logger = False
if os.environ["BENCH_URL"].startswith("tenantkv"):
    from tenantkv.contrib.celery import configure

    configure(app, os.environ["BENCH_URL"])


@app.task(name="noop")
def noop():
    return None
"""


class Contestant:
    """A worker process and an application that sends it tasks."""

    def __init__(self, place: str, url: str, namespace: Namespace | None) -> None:
        from celery import Celery

        self.app: Any = Celery("bench", broker=url, backend=url, set_as_current=False)
        if namespace is not None:
            from tenantkv.contrib.celery import configure

            configure(self.app, url, namespace=namespace)
        environment = {**os.environ, "BENCH_URL": url, "PYTHONPATH": place, "PYTHONWARNINGS": "ignore"}
        if namespace is not None:
            environment["TENANTKV_SECRET_KEYRING"] = namespace.keyring.dump(compact=True)
        command = [sys.executable, "-m", "celery", "-A", "bench_app", "worker", "-c", "2", "-l", "ERROR"]
        self.worker = subprocess.Popen(
            command,
            env=environment,
            cwd=place,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.send().get(timeout=60)

    def send(self) -> Any:
        return self.app.send_task("noop")

    def send_many(self, number: int) -> list[Any]:
        return [self.send() for _ in range(number)]

    def complete(self, number: int) -> None:
        for result in self.send_many(number):
            result.get(timeout=120)

    def one_by_one(self, number: int) -> None:
        for _ in range(number):
            self.send().get(timeout=120)

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.worker.pid, signal.SIGKILL)
        self.worker.wait()
        self.app.close()


@contextlib.contextmanager
def contestants(server: Any) -> Iterator[dict[str, Contestant]]:
    """Both, each with its worker, on databases of their own."""
    found: dict[str, Contestant] = {}
    with tempfile.TemporaryDirectory() as place:
        Path(place, "bench_app.py").write_text(PROGRAM)
        path = server.socket_path
        try:
            found["stock redis"] = Contestant(place, f"redis+socket://{path}?virtual_host=1", None)
            namespace = Namespace(Keyring.generate(os.urandom(96)))
            url = f"tenantkv+socket://{path}?virtual_host=2"
            found["tenantkv, sealed"] = Contestant(place, url, namespace)
            yield found
        finally:
            for each in found.values():
                each.stop()


def run(*, rounds: int = 25, quick: bool = False, only: str = "") -> list[Measured]:
    """Measure; the ratio is to Celery's own Redis transport and backend."""
    try:
        import celery  # noqa: F401
    except ImportError:
        print("celery is not installed: pip install 'tenantkv[celery]'")
        return []
    number = 100 if quick else 500
    rounds = min(rounds, 9)
    rows: list[Measured] = []
    server = embedded.start()
    try:
        with contestants(server) as found:
            works: dict[str, tuple[int, Callable[[Contestant, int], object]]] = {
                "task sent": (number, Contestant.send_many),
                "task completed": (number, Contestant.complete),
                # The worker has nothing to do when a task comes.
                "task waited for": (number // 4, Contestant.one_by_one),
            }
            for work, (count, function) in works.items():
                if only in work:
                    settled = {name: _settled(each, function, count) for name, each in found.items()}
                    rows += _per_task(interleave(work, settled, repeats=1, rounds=rounds), count)
        if not only or only in "idle worker":
            _show_idle(quick=quick)
    finally:
        server.stop()
    return rows


def _settled(
    each: Contestant, function: Callable[[Contestant, int], object], number: int
) -> Callable[[], object]:
    return lambda: function(each, number)


def _per_task(rows: list[Measured], number: int) -> list[Measured]:
    return [
        Measured(r.work, r.contestant, r.wall_us / number, r.cpu_us / number, r.wall_ratio, r.cpu_ratio)
        for r in rows
    ]


def _show_idle(*, quick: bool) -> None:
    """Print what a worker that has nothing to do asks of a server of its own."""
    seconds = 15 if quick else 60
    for name in ("stock redis", "tenantkv, sealed"):
        server = embedded.start()
        client = redis.Redis(unix_socket_path=server.socket_path, protocol=2)
        try:
            with tempfile.TemporaryDirectory() as place:
                Path(place, "bench_app.py").write_text(PROGRAM)
                scheme = "redis" if name == "stock redis" else "tenantkv"
                namespace = None if scheme == "redis" else Namespace(Keyring.generate(os.urandom(96)))
                each = Contestant(place, f"{scheme}+socket://{server.socket_path}?virtual_host=0", namespace)
                try:
                    each.app.backend.client.connection_pool.disconnect()
                    each.app.pool.force_close_all()
                    time.sleep(3)
                    before = _commands(client)
                    time.sleep(seconds)
                    rate = (_commands(client) - before - 1) / seconds
                    # One is the operator's.
                    connections = int(client.info("clients")["connected_clients"]) - 1
                finally:
                    each.stop()
            print(f"idle worker, {name}: {rate:.2f} commands/s, {connections} connections")
        finally:
            client.close()
            server.stop()


def _commands(client: Any) -> int:
    return int(client.info("stats")["total_commands_processed"])
