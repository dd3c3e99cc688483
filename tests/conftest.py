"""Fixtures that every test may ask for.

* ``shared_server``: the default program with the shared profile (the reduced command set).
* ``open_server``: the default program without restrictions.
* ``any_server``: every program that this machine has, in turn, without restrictions.
* ``any_shared_server``: every program, in turn, with the shared profile.

They live as long as the session and are empty at the start of each test that asks for one.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tenantkv import embedded
from tenantkv.errors import EmbeddedServerError
from tests.servers import RealServer, installed, start_server

pytest_plugins = ["tests.taint"]

_SERVER_FIXTURES = ("shared_server", "open_server", "any_server", "any_shared_server")
_PROGRAMS = [pytest.param(b, id=f"{b.product}-{b.version}") for b in installed()]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--redis-py-suite",
        choices=("quick", "full"),
        default="quick",
        help="how much of redis-py's own tests tests/contract/test_redis_py_suite.py runs",
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    """Fail rather than skip when no real server can run: without one nothing is proved."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As a job in a script's background, which passes it on to the programs that tests interrupt.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        embedded.start("shared").stop()
    except EmbeddedServerError as error:
        pytest.exit(f"no real server can be started: {error}", returncode=1)


@pytest.fixture(scope="session")
def shared_server() -> Iterator[RealServer]:
    yield from _running("shared", None)


@pytest.fixture(scope="session")
def open_server() -> Iterator[RealServer]:
    yield from _running(None, None)


@pytest.fixture(scope="session", params=_PROGRAMS)
def any_server(request: pytest.FixtureRequest) -> Iterator[RealServer]:
    yield from _running(None, request.param.path)


@pytest.fixture(scope="session", params=_PROGRAMS)
def any_shared_server(request: pytest.FixtureRequest) -> Iterator[RealServer]:
    yield from _running("shared", request.param.path)


@pytest.fixture(autouse=True)
def _empty_servers(request: pytest.FixtureRequest) -> None:
    for name in _SERVER_FIXTURES:
        if name in request.fixturenames:
            request.getfixturevalue(name).flush()


def _running(profile: str | None, binary: str | None) -> Iterator[RealServer]:
    server = start_server(profile, binary=binary)
    yield server
    server.stop()
