"""What the operator of the server does for some tests.

A few of redis-py's tests use a command that we refuse on the way to something else: to empty the server,
to switch notifications on, to look at the traffic, to provoke an error. In those files that command, and
no other, is done by a plain client, so that the rest of the test tries our client. Where the command
itself is what the test is about, the test stands in `exemptions` instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis
from redis import asyncio as aredis

from tenantkv.commands import table
from tenantkv.commands.rule import Rule
from tenantkv.transport.async_client import AsyncTenantRedis
from tenantkv.transport.client import TenantRedis


@dataclass(frozen=True, slots=True)
class Loan:
    """Methods that a plain client does in the place of ours.

    Attributes:
        files: where, as the end of the file's path.
        methods: the client's methods.
        reason: what the tests need them for.
        but: words in names of tests that are about the methods themselves.
    """

    files: tuple[str, ...]
    methods: tuple[str, ...]
    reason: str
    but: tuple[str, ...] = ()


LOANS = (
    Loan(
        ("test_scripting.py",),
        ("script_flush",),
        "a fixture empties the script cache before each test",
        but=("test_script_flush",),
    ),
    Loan(
        ("test_lock.py", "test_encoding.py", "test_connection_pool.py"),
        ("flushall",),
        "the tests clean up with it; the keys are all the tenant's",
    ),
    Loan(
        ("test_pipeline.py",),
        ("monitor",),
        "the tests look at what arrives at the server",
    ),
    Loan(
        ("test_keyspace_notifications.py",),
        ("config_get", "config_set"),
        "a fixture switches notifications on and off",
    ),
)

# Tests that let the server answer with an error of their choice, to see what the connection does.
_OPENED = (("test_connection_pool.py", "DEBUG"),)


@contextlib.contextmanager
def lent(test: str, url: str) -> Iterator[None]:
    """Lend a test what it needs, by its id."""
    path, _, name = test.partition("::")
    methods = [
        method
        for loan in LOANS
        if path.endswith(loan.files) and not any(word in name for word in loan.but)
        for method in loan.methods
    ]
    commands = [command for file, command in _OPENED if path.endswith(file)]
    with contextlib.ExitStack() as stack:
        for method in methods:
            stack.enter_context(_replaced(TenantRedis, method, _plain(method, url)))
            stack.enter_context(_replaced(AsyncTenantRedis, method, _plain_async(method, url)))
        for command in commands:
            stack.enter_context(_opened(command))
        yield


@contextlib.contextmanager
def _replaced(cls: Any, name: str, value: Any) -> Iterator[None]:
    setattr(cls, name, value)
    try:
        yield
    finally:
        delattr(cls, name)


@contextlib.contextmanager
def _opened(command: str) -> Iterator[None]:
    before = table._rules[command]
    table._rules[command] = Rule(command, "pass", min_args=1, flags="r")
    try:
        yield
    finally:
        table._rules[command] = before


def _plain(method: str, url: str) -> Any:
    def call(_self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(redis.Redis.from_url(url), method)(*args, **kwargs)

    return call


def _plain_async(method: str, url: str) -> Any:
    def client(_self: Any) -> Any:
        return aredis.Redis.from_url(url)

    if method == "monitor":
        return lambda self: client(self).monitor()

    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        async with client(self) as plain:
            return await getattr(plain, method)(*args, **kwargs)

    return call
