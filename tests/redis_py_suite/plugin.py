"""A pytest plugin for runs of redis-py's tests: swaps their clients, writes down every outcome.

After each test it looks at the server from outside: a key that is not the tenant's was made by a plain
client or is a leak. It is noted with the test's name and removed.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import redis

from .lending import lent
from .swap import WORLDS, Swap

# Whoever reads a failure wants its end, and the comparison looks for words in it.
_TEXT_LIMIT = 6000

# Where their tests look for servers by default: whoever runs one there means it for something else.
_FOREIGN_PORTS = frozenset({6379, 6380, 6390, 6479, 6666, 16379, *range(26379, 26382)})


def pytest_addoption(parser: Any) -> None:
    group = parser.getgroup("redis-py-suite")
    group.addoption("--suite-world", choices=("plain", *WORLDS), default="plain")
    group.addoption("--suite-report", help="file for the outcomes (JSON)")
    group.addoption("--suite-only", help="file with the ids of the tests to run, one a line")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: Any) -> None:
    """Begin to watch, before redis-py's conftest is read."""
    _stay_away_from(_FOREIGN_PORTS)
    world = config.getoption("--suite-world")
    swap = None if world == "plain" else Swap(world)
    config.pluginmanager.register(Outcomes(config, swap), "redis-py-suite-outcomes")


def _stay_away_from(ports: frozenset[int]) -> None:
    """Have connections to these ports refused, as if nobody listened."""
    connect = socket.socket.connect

    def guarded(self: Any, address: Any) -> None:
        if isinstance(address, tuple) and address[1] in ports:
            raise ConnectionRefusedError(f"tests stay away from port {address[1]}")
        connect(self, address)

    setattr(socket.socket, "connect", guarded)  # noqa: B010


class Outcomes:
    """What happened to each test."""

    def __init__(self, config: Any, swap: Swap | None) -> None:
        self.config = config
        self.swap = swap
        self.tests: dict[str, dict[str, str]] = {}
        self.strays: dict[str, list[str]] = {}
        url = config.getoption("--redis-url")
        self._operator = redis.Redis.from_url(url, single_connection_client=True, protocol=2)

    @pytest.hookimpl(tryfirst=True)
    def pytest_plugin_registered(self, plugin: Any) -> None:
        name = getattr(plugin, "__name__", "")
        if name == "tests.conftest":
            # It traces every allocation, which doubles the time and tells nothing here.
            vars(plugin).pop("enable_tracemalloc", None)
            if self.swap is not None:
                self.swap.into_conftest(plugin)
        elif name == "tests.test_asyncio.conftest" and self.swap is not None:
            self.swap.into_async_conftest(plugin)

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        path = self.config.getoption("--suite-only")
        if path:
            wanted = set(Path(path).read_text().splitlines())
            items[:] = [item for item in items if item.nodeid in wanted]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: Any) -> Any:
        if self.swap is None:
            return (yield)
        with lent(item.nodeid, self.config.getoption("--redis-url")):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: Any) -> Any:
        try:
            return (yield)
        finally:
            self._look_outside(item.nodeid)

    def _look_outside(self, test: str) -> None:
        """Note and remove keys that are not the tenant's, in any database."""
        if self.swap is None:
            return
        own = self.swap.spoken.wire_prefix
        for database in self._operator.info("keyspace"):
            self._operator.execute_command("SELECT", database.removeprefix("db"))
            names = self._operator.execute_command("KEYS", "*")
            strays = [name for name in names if not name.startswith(own)]
            if strays:
                self.strays.setdefault(test, []).extend(repr(name) for name in strays)
                self._operator.execute_command("DEL", *strays)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: Any, call: Any) -> Any:
        report = yield
        known = self.tests.setdefault(item.nodeid, {"outcome": "passed", "text": ""})
        if report.failed:
            known["outcome"] = "failed"
            known["text"] += report.longreprtext[-_TEXT_LIMIT:]
        elif report.skipped and known["outcome"] == "passed":
            known["outcome"] = "xfailed" if hasattr(report, "wasxfail") else "skipped"
        return report

    def pytest_sessionfinish(self) -> None:
        path = self.config.getoption("--suite-report")
        if path:
            found = {"tests": self.tests, "strays": self.strays}
            Path(path).write_text(json.dumps(found, indent=1))
