"""Tools on one server, each with its own keyring and workers, and a neighbour who knows every name."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import redis
from celery import Celery

import tenantkv
from tenantkv import Keyring, Namespace
from tenantkv.contrib.celery import configure
from tests.neighbourhood import wait_for
from tests.servers import RealServer

ROOT = Path(__file__).resolve().parents[2]


class Tool:
    """A tenant with a Celery application called ``tool``, as everybody's is.

    Attributes:
        app: the application of this process; it knows its tasks by their names only.
        kv: the tenant's client.
        raw: a neighbour's client, without any prefix.
    """

    def __init__(self, server: RealServer, logs: Path, name: str, *, url: str = "", **options: Any) -> None:
        self.server = server
        self.name = name
        self.url = url or server.tcp_url
        self.options = options
        self.namespace = Namespace(Keyring.generate(os.urandom(96)))
        self.app = Celery("tool", set_as_current=False)
        configure(self.app, self.broker_url, namespace=self.namespace, **options)
        self.kv = tenantkv.connect(server.tcp_url, namespace=self.namespace)
        self.raw = redis.Redis(port=server.port, protocol=2)
        self.logs = logs
        self._workers: list[subprocess.Popen[bytes]] = []
        # A result that is collected unsubscribes, in whatever thread that happens: it must not be the one
        # that passes the bytes of the very connection on.
        self._results: list[Any] = []

    @property
    def broker_url(self) -> str:
        return "tenantkv+" + self.url

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("TENANTKV_", "TOOL_", "REDIS_"))}
        return {
            **kept,
            "TENANTKV_URL": self.url,
            "TENANTKV_SECRET_KEYRING": self.namespace.keyring.dump(compact=True),
            "TOOL_KV_URL": self.server.tcp_url,
            "TOOL_NAME": self.name,
            "TOOL_OPTIONS": json.dumps(self.options),
            "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{Path(__file__).parent}",
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "ignore",
        }

    def log(self, name: str) -> str:
        return (self.logs / f"{self.name}-{name}.log").read_text(errors="replace")

    def start(self, *words: str, name: str = "worker", pool: str = "solo", **environment: str) -> Any:
        """Start a worker and wait until it is ready."""
        return self.start_all(*words, names=(name,), pool=pool, **environment)[0]

    def start_all(
        self, *words: str, names: Sequence[str], pool: str = "solo", **environment: str
    ) -> list[Any]:
        """Start several workers at once and wait until they are ready."""
        quiet = [] if "-E" in words else ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        found = {}
        for name in names:
            command = ("worker", "-l", "INFO", "-P", pool, *quiet, "-n", f"{name}@host", *words)
            found[name] = self.launch(*command, name=name, **environment)
        for name, process in found.items():
            wait_for(f"{name} to be ready", partial(self._is_settled, name, process))
            assert process.poll() is None, self.log(name)
        return list(found.values())

    def _is_settled(self, name: str, process: subprocess.Popen[bytes]) -> bool:
        return " ready." in self.log(name) or process.poll() is not None

    def launch(self, *words: str, name: str, **environment: str) -> Any:
        """Start one of Celery's programs, which ends with the tool."""
        path = self.logs / f"{self.name}-{name}.log"
        with path.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "celery_tool", *words],
                env={**self.environment(), **environment},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._workers.append(process)
        return process

    def call(self, task: str, *args: Any, **options: Any) -> Any:
        result = self.app.send_task(f"celery_tool.{task}", args, **options)
        self._results.append(result)
        return result

    def ran(self, token: str, what: str = "ran") -> int:
        return int(self.kv.get(f"{what}:{token}") or 0)

    def wire(self, own: str) -> bytes:
        """Return the wire name of an own name, as a neighbour may know it."""
        return self.namespace.wire_name(own.encode())

    def stop(self) -> None:
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
        # Results that are still waited for would be asked for once more when they are collected.
        self.app.backend.result_consumer.subscribed_to.clear()
        self.app.close()
        self.kv.close()
        self.raw.close()
        for path in self.logs.glob(f"{self.name}-*.log"):
            text = path.read_text(errors="replace")
            assert self.namespace.keyring.prefix not in text, "the prefix is in a worker's log"


@contextlib.contextmanager
def tool(server: RealServer, logs: Path, name: str = "one", **options: Any) -> Iterator[Tool]:
    """A tool, ended with its workers."""
    place = Tool(server, logs, name, **options)
    try:
        yield place
    except BaseException:
        for path in sorted(logs.glob(f"{name}-*.log")):
            print(f"--- {path.name}\n{path.read_text(errors='replace')[-4000:]}", file=sys.stderr)
        raise
    finally:
        place.stop()
