"""Workers through a failover, a restart of the server and connections that fall silent."""

from __future__ import annotations

import socket
import threading
import time

import pytest
import redis

from tests.integration.celery_place import tool
from tests.neighbourhood import wait_for
from tests.proxy import Proxy
from tests.servers import start_tcp
from tests.topologies import start_sentinel


@pytest.fixture(scope="module")
def server():
    """Where tests count what ran; the broker is another one."""
    running = start_tcp("shared")
    yield running
    running.stop()


def send(place, *words, patience=60.0, **options):
    """Send a task as a program does that tries again until it is told that it was sent."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return place.call(*words, **options)
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def answers(place):
    """Say whether the worker answers; the first to ask after an outage may be the one who notices it."""
    try:
        return place.app.control.ping(timeout=5, destination=["worker@host"])
    except redis.RedisError:
        return None


@pytest.mark.topology
@pytest.mark.timeout(180)
def test_a_worker_follows_the_primary(server, tmp_path):
    with start_sentinel("shared") as topology:
        url = f"sentinel://{topology.url}/{topology.service_name}/0"
        with tool(server, tmp_path, url=url, visibility_timeout=3) as one:
            one.start("-c", "2", pool="prefork")
            assert one.call("who", "before").get(timeout=30)[1] == "before"
            # One that runs, and more than are fetched, when the primary ends.
            held = one.call("hold", "held", 6.0)
            wait_for("it to begin", lambda: one.ran("held", "began"))
            waiting = [one.call("count", f"waiting{n}") for n in range(50)]
            topology.primary.operator().wait(1, 2000)
            topology.fail_over()
            after = [send(one, "who", f"after{n}") for n in range(10)]
            assert [result.get(timeout=60)[1] for result in after] == [f"after{n}" for n in range(10)]
            for number in range(len(waiting)):
                wait_for("a task from before", lambda n=number: one.ran(f"waiting{n}"), patience=60)
            assert held.get(timeout=60) in (True, False)
            wait_for("remote control", lambda: answers(one))


def test_a_worker_outlives_a_server_that_comes_back_empty(server, tmp_path):
    first = start_tcp("shared")
    second = start_tcp("shared")
    try:
        with (
            Proxy(first.port) as proxy,
            tool(server, tmp_path, url=proxy.url, visibility_timeout=3, upkeep_interval=1) as one,
        ):
            worker = one.start("-E", pool="threads")
            assert one.call("who", "before").get(timeout=30)[1] == "before"
            held = one.call("hold", "held", 3.0)
            wait_for("it to begin", lambda: one.ran("held", "began"))
            # Its queues, bindings, claims, scripts and subscriptions are gone, and so it is for a moment.
            proxy.target = 1
            proxy.cut_all()
            first.kill()
            time.sleep(1)
            proxy.target = second.port
            after = send(one, "who", "after")
            assert after.get(timeout=60)[1] == "after"
            assert held.get(timeout=60) in (True, False)
            # Once more if its claim was put back before Celery gave back what ran when the server was lost.
            assert one.ran("held", "began") in (1, 2)
            wait_for("remote control", lambda: answers(one))
            assert worker.poll() is None
    finally:
        first.stop()
        second.stop()


class SilencingProxy(Proxy):
    """A proxy whose connections can fall silent: nobody closes them, and nothing comes any more."""

    def __init__(self, target):
        self._silent: set[socket.socket] = set()
        self._ended = threading.Event()
        super().__init__(target)

    def silence(self):
        """Let nothing through on the connections that there are now."""
        with self._lock:
            self._silent |= self._open

    def stop(self):
        self._ended.set()
        super().stop()

    def _up(self, source, sink):
        super()._up(_Muffled(source, self), sink)

    def _down(self, source, sink):
        super()._down(_Muffled(source, self), sink)

    def _close(self, *sockets):
        super()._close(*(getattr(each, "inner", each) for each in sockets))


class _Muffled:
    """A socket whose bytes are taken and forgotten once it has fallen silent."""

    def __init__(self, inner, proxy):
        self.inner = inner
        self._proxy = proxy

    def recv(self, size):
        while True:
            data = self.inner.recv(size)
            if self.inner not in self._proxy._silent:
                return data
            if not data:
                # The other side is not told either.
                self._proxy._ended.wait()
                return b""


@pytest.mark.slow
def test_a_worker_notices_connections_that_fell_silent(server, tmp_path):
    quick = {"socket_timeout": 1, "health_check_interval": 1, "visibility_timeout": 3}
    with SilencingProxy(server.port) as proxy, tool(server, tmp_path, url=proxy.url, **quick) as one:
        one.app.conf.redis_socket_timeout = one.app.conf.redis_backend_health_check_interval = 1
        one.start("-E", pool="threads", TOOL_RESULT_PATIENCE="1")
        assert one.call("who", "before").get(timeout=30)[1] == "before"
        accepted = proxy.accepted
        proxy.silence()
        result = send(one, "who", "after")
        assert result.get(timeout=60)[1] == "after"
        wait_for("remote control", lambda: answers(one))
        assert proxy.accepted > accepted
