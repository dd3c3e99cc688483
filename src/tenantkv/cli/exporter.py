"""``tenantkv exporter``: the state of things for Prometheus, over HTTP."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import math
import signal
import socket
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tenantkv.cli import output
from tenantkv.cli.client import add_target_arguments, talking
from tenantkv.cli.status_prometheus import CONTENT_TYPE, render
from tenantkv.errors import ConfigurationError, TenantKVError

if TYPE_CHECKING:
    from tenantkv.cli.status_source import Source

_EPILOG = """\
examples:
  tenantkv exporter
  tenantkv exporter --listen 127.0.0.1:9121 --queue thumbs
  curl http://127.0.0.1:9121/metrics

It listens on this machine only, unless told otherwise: the metrics name queues and locks. A scrape looks at
the server, the queues and the locks; which queues and locks there are, and how many keys, is found out beside
it (--refresh). Scrapes that come within half a second of each other get the same answer.
"""

_PINGS = 3
_SHARED_FOR = 0.5
_REQUEST_SECONDS = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``exporter``."""
    parser.description = "Serve metrics for Prometheus."
    parser.epilog = _EPILOG
    parser.add_argument(
        "--listen", metavar="HOST:PORT", default="127.0.0.1:9121", help="where; 127.0.0.1:9121 if left out"
    )
    parser.add_argument(
        "--refresh", metavar="SECONDS", type=float, default=30.0, help="for names and own keys; 30"
    )
    parser.add_argument(
        "--queue", metavar="NAME", action="append", default=[], help="this queue too; give it again for more"
    )
    parser.add_argument("--usage", action="store_true", default=None, help="count own keys whatever it takes")
    parser.add_argument("--no-usage", action="store_false", dest="usage", help="do not count own keys")
    add_target_arguments(parser, json=False)


def run(arguments: argparse.Namespace) -> int:
    """Run ``exporter``."""
    from tenantkv.cli.status_source import Source

    host, port = parse_address(arguments.listen)
    with talking(arguments) as client:
        source = Source(
            client,
            queues=arguments.queue,
            pings=_PINGS,
            usage=arguments.usage,
            names_every=math.inf,
            usage_every=math.inf,
        )
        _serve(Scraper(source), host, port, max(arguments.refresh, 0.1))
    return 0


def parse_address(text: str) -> tuple[str, int]:
    """Return a host and a port.

    Raises:
        ConfigurationError: it is no HOST:PORT.

    Example:
        >>> parse_address("127.0.0.1:9121"), parse_address("[::1]:9121")
        (('127.0.0.1', 9121), ('::1', 9121))
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535 or (":" in host) != host.startswith("["):
        raise ConfigurationError("--listen is HOST:PORT, such as 127.0.0.1:9121 or [::1]:9121")
    return host.strip("[]") or "127.0.0.1", int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Scraper:
    """Looks when it is asked to, for one asker at a time.

    Args:
        source: what to look at.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._text = ""
        self._until = 0.0

    def scrape(self) -> str:
        """Return the metrics; of a server that is away, that it is."""
        with self._lock:
            if time.monotonic() >= self._until:
                started = time.perf_counter()
                try:
                    seen = self._source.look()
                except _troubles():
                    seen = None
                self._text = render(seen, seconds=time.perf_counter() - started)
                self._until = time.monotonic() + _SHARED_FOR
            return self._text

    def refresh(self) -> None:
        """Find out which queues and locks there are, and how many own keys, if the server answers."""
        with contextlib.suppress(*_troubles()):
            self._source.refresh()


def _troubles() -> tuple[type[Exception], ...]:
    from redis.exceptions import RedisError

    return (RedisError, OSError, TenantKVError)


class Handler(BaseHTTPRequestHandler):
    """Answers GET /metrics."""

    server_version = "tenantkv"
    sys_version = ""
    timeout = _REQUEST_SECONDS

    @property
    def _exporter(self) -> Exporter:
        server = self.server
        assert isinstance(server, Exporter)
        return server

    def do_GET(self) -> None:
        """Answer; called by the base."""
        path = self.path.partition("?")[0]
        if not self._is_meant():
            self._answer(HTTPStatus.FORBIDDEN, "this address serves this machine only\n", "text/plain")
        elif path == "/metrics":
            self._answer(HTTPStatus.OK, self._exporter.scraper.scrape(), CONTENT_TYPE)
        elif path in ("/", "/-/healthy"):
            self._answer(HTTPStatus.OK, "tenantkv exporter: see /metrics\n", "text/plain")
        else:
            self._answer(HTTPStatus.NOT_FOUND, "there is /metrics\n", "text/plain")

    def _is_meant(self) -> bool:
        """Whether the request names this machine: a web page may not ask for it under a name of its own."""
        if not self._exporter.is_private:
            return True
        host = self.headers.get("Host", "localhost")
        bare = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        return is_loopback(bare.strip("[]"))

    def _answer(self, status: HTTPStatus, text: str, content_type: str) -> None:
        body = text.encode("utf-8", "backslashreplace")
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a request every few seconds is no news."""


class Exporter(ThreadingHTTPServer):
    """The HTTP server.

    Args:
        address: host and port.
        scraper: gives the metrics.
    """

    daemon_threads = True

    def __init__(self, address: tuple[str, int], scraper: Scraper) -> None:
        self.scraper = scraper
        self.is_private = is_loopback(address[0])
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Forget about a reader that went away."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def _serve(scraper: Scraper, host: str, port: int, every: float) -> None:
    try:
        server = Exporter((host, port), scraper)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    if not server.is_private:
        output.warn(f"others can reach {host}: the metrics name queues and locks, and anybody may read them")
    stopped = threading.Event()

    def refresh() -> None:
        while not stopped.is_set():
            scraper.refresh()
            stopped.wait(every)

    def stop(_number: int, _frame: object) -> None:
        # From another thread, as shutdown() waits for the loop that this one runs.
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    # Once before the first scrape, so that it misses nothing.
    scraper.refresh()
    threading.Thread(target=refresh, daemon=True).start()
    shown = f"[{host}]" if ":" in host else host
    output.note(f"http://{shown}:{server.server_address[1]}/metrics")
    try:
        server.serve_forever(poll_interval=0.1)
    finally:
        stopped.set()
        server.server_close()
