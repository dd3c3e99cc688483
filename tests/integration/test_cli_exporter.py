"""``tenantkv exporter`` as a process: what it serves, to whom, and that it outlives the server."""

from __future__ import annotations

import http.client
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cli_program import Program
from tests.operating import help_has_an_example, note
from tests.servers import RealServer, start_server


class Exporter:
    """A running exporter."""

    def __init__(self, program: Program, *words: str) -> None:
        self.process = program.start(
            *("exporter", "--listen", "127.0.0.1:0", *words),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline().decode()
        assert line.startswith("http://127.0.0.1:"), line
        self.port = int(line.rpartition(":")[2].partition("/")[0])

    def get(self, path: str = "/metrics", **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def metrics(self) -> dict[str, dict[tuple[str, ...], float]]:
        status, text = self.get()
        assert status == 200
        return {
            family.name: {tuple(sample.labels.values()): sample.value for sample in family.samples}
            for family in text_string_to_metric_families(text)
        }

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=30)
        return self.process.returncode


@pytest.fixture
def program(tmp_path: Path, shared_server: RealServer) -> Program:
    return Program(tmp_path, shared_server.url)


@pytest.fixture
def kv(program: Program) -> Iterator[Any]:
    with program.connect() as client:
        yield client


def test_scraping(program: Program, kv: Any) -> None:
    kv.queue('th"umbs').send_many(["a", "b"])
    note(kv, "queue", 'th"umbs')
    with kv.lock("rebuild"):
        exporter = Exporter(program)
        try:
            found = exporter.metrics()
            assert found["tenantkv_up"] == {(): 1.0}
            assert found["tenantkv_queue_messages"]['th"umbs', "ready"] == 2
            assert found["tenantkv_lock_holders"]["lock", "rebuild"] == 1
            assert found["tenantkv_own_keys"][()] > 3
            assert exporter.get("/")[0] == exporter.get("/-/healthy")[0] == 200
            assert exporter.get("/nothing")[0] == 404
            # A web page that has a name lead here reads nothing.
            assert exporter.get("/metrics", Host="evil.example.org")[0] == 403
            assert exporter.get("/metrics", Host=f"localhost:{exporter.port}")[0] == 200
            assert program.ring.prefix not in exporter.get()[1]
        finally:
            assert exporter.stop() == 0


def test_new_queues_are_found(program: Program, kv: Any) -> None:
    exporter = Exporter(program, "--refresh", "0.1", "--no-usage")
    try:
        assert "tenantkv_queue_messages" not in exporter.metrics()
        kv.queue("thumbs").send("a")
        note(kv, "queue", "thumbs")
        while "tenantkv_queue_messages" not in exporter.metrics():
            time.sleep(0.2)
        assert "tenantkv_own_keys" not in exporter.metrics()
    finally:
        exporter.stop()


def test_it_outlives_the_server(tmp_path: Path) -> None:
    server = start_server("shared")
    exporter = Exporter(Program(tmp_path, server.url), "--no-usage")
    try:
        assert exporter.metrics()["tenantkv_up"] == {(): 1.0}
        server.kill()
        while exporter.metrics()["tenantkv_up"] != {(): 0.0}:
            time.sleep(0.2)
        assert exporter.stop() == 0
    finally:
        exporter.process.kill()
        exporter.process.communicate()
        server.stop()


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:99999", "::1:9121", "203.0.113.1:9121"])
def test_addresses_that_cannot_be(program: Program, address: str) -> None:
    done = program.run("exporter", "--listen", address)
    assert done.returncode == 1 and b"listen" in done.stderr and b"Traceback" not in done.stderr


def test_help() -> None:
    help_has_an_example("exporter")
