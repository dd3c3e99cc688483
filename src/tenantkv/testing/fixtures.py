"""Fixtures for pytest: write ``pytest_plugins = ["tenantkv.testing.fixtures"]`` into the topmost conftest.py.

=========================  ====================================================================
``tenantkv_server``        a `PrivateServer`, one for the session
``tenantkv_keyring``       an identity of the test's own
``tenantkv_client``        a client with that identity, on that server
``tenantkv_async_client``  the same for asyncio; needs pytest-asyncio or anyio's plugin
``tenantkv_environment``   ``tenantkv.connect()`` in the code under test finds both
``tenantkv_kind``          override it: which kind of server; ``"shared"`` if left out
``tenantkv_options``       override it: arguments for the clients, such as ``{"seal": True}``
=========================  ====================================================================

Each test has names, keys and channels of its own, so tests do not see each other's data, also not when they
run at the same time (pytest-xdist starts one server a worker). What a test has written is deleted after it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest

from tenantkv.keyring import Keyring
from tenantkv.testing import Kind, PrivateServer, new_keyring
from tenantkv.transport.async_client import AsyncTenantRedis
from tenantkv.transport.client import TenantRedis

_async_fixture: Any
try:
    from pytest_asyncio import fixture as _async_fixture
except ImportError:
    # anyio's plugin runs plain ones.
    _async_fixture = pytest.fixture


@pytest.fixture(scope="session")
def tenantkv_kind() -> Kind:
    """Which kind of server: ``"shared"``, ``"open"`` or ``"memory"``."""
    return "shared"


@pytest.fixture(scope="session")
def tenantkv_server(tenantkv_kind: Kind) -> Iterator[PrivateServer]:
    """A server that ends with the session."""
    with PrivateServer(tenantkv_kind) as server:
        yield server


@pytest.fixture
def tenantkv_keyring() -> Keyring:
    """An identity of the test's own."""
    return new_keyring()


@pytest.fixture
def tenantkv_options() -> dict[str, Any]:
    """Arguments for `tenantkv.connect`, for the clients below."""
    return {}


@pytest.fixture
def tenantkv_client(
    tenantkv_server: PrivateServer, tenantkv_keyring: Keyring, tenantkv_options: Mapping[str, Any]
) -> Iterator[TenantRedis]:
    """A client whose keys are deleted after the test."""
    with tenantkv_server.client(keyring=tenantkv_keyring, **tenantkv_options) as client:
        yield client
        client.flushdb()


@_async_fixture  # type: ignore[untyped-decorator]
async def tenantkv_async_client(
    tenantkv_server: PrivateServer, tenantkv_keyring: Keyring, tenantkv_options: Mapping[str, Any]
) -> AsyncIterator[AsyncTenantRedis]:
    """An asyncio client whose keys are deleted after the test."""
    async with tenantkv_server.async_client(keyring=tenantkv_keyring, **tenantkv_options) as client:
        yield client
        await client.flushdb()


@pytest.fixture
def tenantkv_environment(
    tenantkv_server: PrivateServer, tenantkv_keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> Mapping[str, str]:
    """Variables with which ``tenantkv.connect()`` finds the server and the identity; set in this process."""
    wanted = tenantkv_server.environ(tenantkv_keyring)
    for name, value in wanted.items():
        monkeypatch.setenv(name, value)
    return wanted


__all__ = [
    "tenantkv_async_client",
    "tenantkv_client",
    "tenantkv_environment",
    "tenantkv_keyring",
    "tenantkv_kind",
    "tenantkv_options",
    "tenantkv_server",
]
