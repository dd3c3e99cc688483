"""A tenant with hostile neighbours: libraries do real work here, and nobody's keys may change.

A neighbour is whoever runs the same library on the same server under the same names: once without any
prefix, as most tenants of a shared server do, and once as a second tenant of ours.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import redis

import tenantkv
from tenantkv import Keyring, Namespace
from tests.servers import RealServer

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


class Neighbourhood:
    """One tenant on a server with neighbours.

    Attributes:
        server: the server.
        namespace: the tenant's namespace.
        kv: the tenant's client.
        naive: a plain client, of a neighbour without a prefix.
        other: the client of a second tenant.
    """

    def __init__(self, server: RealServer, *, registry: bool) -> None:
        self.server = server
        self.registry = registry
        self.namespace = Namespace(Keyring.generate(os.urandom(96)))
        self.kv = self.connect()
        self.naive = redis.Redis(unix_socket_path=server.socket_path, protocol=2)
        self.other = tenantkv.connect(server.url, namespace=Namespace(Keyring.generate(os.urandom(96))))
        self._planted: Mapping[Any, Any] = {}

    def connect(self, **options: Any) -> Any:
        """Return another client of the tenant's."""
        return tenantkv.connect(self.server.url, namespace=self.namespace, registry=self.registry, **options)

    def pool(self, **options: Any) -> Any:
        """Return a pool of the tenant's."""
        return tenantkv.connection_pool(
            self.server.url, namespace=self.namespace, registry=self.registry, **options
        )

    def environment(self) -> dict[str, str]:
        """Return the environment in which ``tenantkv.connect()`` finds this tenant and server."""
        own = {
            "TENANTKV_URL": self.server.url,
            "TENANTKV_SECRET_KEYRING": self.namespace.keyring.dump(compact=True),
            "TENANTKV_REGISTRY": "1" if self.registry else "0",
            "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}{os.pathsep}{EXAMPLES}",
            "PYTHONUNBUFFERED": "1",
        }
        return {**os.environ, **own}

    def plant(self, *write: Callable[[Any], object]) -> None:
        """Have each neighbour write the same, and note what they have now."""
        for each in write:
            each(self.naive)
            each(self.other)
        self._planted = self._foreign()
        assert self._planted, "the neighbours wrote nothing"

    def check(self) -> None:
        """Fail unless the neighbours have what they had, and nobody else has anything."""
        assert self._foreign() == self._planted

    def own_names(self) -> set[bytes]:
        """Return the tenant's names as the operator finds them, without those that tenantkv keeps."""
        prefix = self.namespace.wire_prefix
        names = {name[len(prefix) :] for name in self.server.dump_keys() if name.startswith(prefix)}
        return {name for name in names if not name.startswith(b"__tenantkv__:")}

    def run(self, *words: str, timeout: float = 60) -> str:
        """Run a program in the tenant's environment to its end and return what it printed."""
        done = subprocess.run(
            words,
            env=self.environment(),
            cwd=EXAMPLES,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self._check_silence(done.stdout + done.stderr)
        return done.stdout

    @contextlib.contextmanager
    def started(self, *words: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """Run a program in the tenant's environment for as long as the block lasts."""
        with log.open("wb") as output:
            process = subprocess.Popen(
                words,
                env=self.environment(),
                cwd=EXAMPLES,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield process
        except BaseException:
            print(log.read_text(errors="replace")[-6000:], file=sys.stderr)
            raise
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                print(log.read_text(errors="replace")[-6000:], file=sys.stderr)
            finally:
                # With the processes that it started; they are a group of their own.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._check_silence(log.read_text(errors="replace"))

    def close(self) -> None:
        for client in (self.kv, self.naive, self.other):
            client.close()

    def _check_silence(self, text: str) -> None:
        assert self.namespace.keyring.prefix not in text, "the prefix is in a program's output"

    def _foreign(self) -> Mapping[Any, Any]:
        prefix = self.namespace.wire_prefix
        return {
            place: value for place, value in self.server.dump().items() if not place[1].startswith(prefix)
        }


@contextlib.contextmanager
def neighbourhood(server: RealServer, *, registry: bool = False) -> Iterator[Neighbourhood]:
    """A tenant with neighbours, whose keys are compared at the end."""
    place = Neighbourhood(server, registry=registry)
    try:
        yield place
        place.check()
    finally:
        place.close()


def wait_for(what: str, condition: Callable[[], Any], patience: float = 30.0) -> Any:
    """Return what `condition` gives as soon as that is true."""
    deadline = time.monotonic() + patience
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)
