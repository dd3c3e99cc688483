"""A tenant as an ACL user who may touch nothing but the tenant's names: the server finds every stray.

Each shape of `tests/shapes.py` goes through our client in several forms, and the answer is compared
with that of a plain client on an empty database of the same server. NOPERM anywhere fails, and so does
a change of any key outside the tenant's prefix.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import redis

import tenantkv
from tenantkv import Keyring, Namespace
from tenantkv.commands.table import RULES
from tenantkv.transport import async_client, async_pool, client, pool, redis_py
from tests.servers import RealServer
from tests.shapes import SETUP, SHAPES, name_of
from tests.twins import Outcome, alike, async_outcome, contents, of_reply, outcome

# Databases: the tenant and a neighbour in 0, and a plain client alone in 9.
PLAIN = 9
SERVER_QUIRK = "denied due to insufficient ACL permissions"
Shape = tuple[bytes, ...]


def is_sort_by_pattern(shape: Shape) -> bool:
    """Whether servers from 7.0 on want a user with access to all keys, whatever the pattern is.

    They cannot tell which keys a pattern of SORT's BY or GET will reach, so they refuse it as a whole.
    """
    return shape[0] in (b"SORT", b"SORT_RO") and bool({b"BY", b"GET"} & set(shape))


@pytest.fixture
def namespace() -> Namespace:
    return Namespace(Keyring.generate(os.urandom(96)))


@pytest.fixture(params=["lean", "redis-py's own paths"])
def lean(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    on = bool(request.param == "lean")
    for module in (async_client, async_pool, client, pool, redis_py):
        monkeypatch.setattr(module, "LEAN", on)
    return on


class Stage:
    """One server with a confined tenant, a neighbour who uses the same names, and a plain twin."""

    def __init__(self, server: RealServer, namespace: Namespace, protocol: int) -> None:
        self.server = server
        self.namespace = namespace
        self.options: dict[str, Any] = {
            "namespace": namespace,
            "username": "tenant",
            "password": "word",
            "protocol": protocol,
        }
        allow_user(server, namespace)
        self.plain = redis.Redis(unix_socket_path=server.socket_path, db=PLAIN, protocol=protocol)
        self.tenant = tenantkv.connect(server.url, **self.options)
        self.outside = self.server.operator()

    def set_up(self) -> None:
        """Give tenant, neighbour and twin the same keys under the same own names."""
        self.outside.execute_command("FLUSHALL")
        prefix = self.namespace.wire_prefix
        for side, start in ((self.outside, prefix), (self.outside, b""), (self.plain, b"")):
            with side.pipeline(transaction=False) as lot:
                for name, *rest in SETUP:
                    # Every key of SETUP is the first argument, but behind XGROUP CREATE.
                    at = 1 if name == b"XGROUP" else 0
                    rest[at] = start + rest[at]
                    lot.execute_command(name, *rest)
                lot.execute()
        self.neighbour = self._outside()

    def check(self) -> None:
        """Assert that nothing outside changed, and that inside is what a plain client would see."""
        assert self._outside() == self.neighbour
        prefix = self.namespace.wire_prefix
        own = [name for name in self.outside.keys("*") if name.startswith(prefix)]
        ours = contents(self.outside, own, prefix)
        assert ours == contents(self.plain, self.plain.keys("*"))

    def _outside(self) -> dict[tuple[int, bytes], Any]:
        prefix = self.namespace.wire_prefix
        return {
            key: value
            for key, value in self.server.dump().items()
            if key[0] != PLAIN and not key[1].startswith(prefix)
        }

    def close(self) -> None:
        self.tenant.close()
        self.plain.close()


def allow_user(server: RealServer, namespace: Namespace) -> None:
    """Make the user `tenant`, confined to one namespace."""
    keys, channels = namespace.wire_prefix.decode(), namespace.channel_prefix.decode()
    rules = f"reset resetchannels on >word ~{keys}* &{channels}* +@all -@admin"
    server.command("ACL", "SETUSER", "tenant", *rules.split())


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def stage(
    request: pytest.FixtureRequest, any_server: RealServer, namespace: Namespace, lean: bool
) -> Iterator[Stage]:
    stage = Stage(any_server, namespace, request.param)
    yield stage
    stage.close()


def in_pipeline(client: redis.Redis, shape: Shape, transaction: bool) -> Outcome:
    """Run one shape between two others, so that a wrong pairing of replies shows."""
    with client.pipeline(transaction=transaction) as lot:
        lot.execute_command("LMOVE", "list", "list", "LEFT", "LEFT")
        lot.execute_command(*shape)
        lot.execute_command("BLPOP", "nums", "0.01")
        replies = lot.execute(raise_on_error=False)
    assert replies[2] == (b"nums", b"3") or shape[0].startswith(b"SORT"), replies[2]
    return of_reply(replies[1])


def run_async(stage: Stage, shapes: Sequence[Shape]) -> Callable[[Shape], Outcome]:
    async def run(shape: Shape) -> Outcome:
        client = tenantkv.asyncio.connect(stage.server.url, **stage.options)
        try:
            return await async_outcome(client.execute_command, *shape)
        finally:
            await client.aclose()

    return lambda shape: asyncio.run(run(shape))


FORMS = ["single", "lower case", "pipeline", "transaction", "asyncio"]


@pytest.mark.parametrize("form", FORMS)
def test_every_shape_stays_inside(stage: Stage, form: str) -> None:
    ran = 0
    through = run_async(stage, SHAPES)
    for shape in SHAPES:
        if not offers(stage, shape):
            continue
        ran += 1
        stage.set_up()
        if form in ("pipeline", "transaction"):
            ours = outcome_of_pipeline(stage.tenant, shape, form)
            theirs = outcome_of_pipeline(stage.plain, shape, form)
        elif form == "asyncio":
            ours = through(shape)
            theirs = outcome(stage.plain.execute_command, *shape)
        else:
            words = (shape[0].lower(), *shape[1:]) if form == "lower case" else shape
            ours = outcome(stage.tenant.execute_command, *words)
            theirs = outcome(stage.plain.execute_command, *words)
        text = str(ours[1]) if ours[0] != "value" else ""
        assert "NOPERM" not in text and "No permissions" not in text, (shape, text)
        if SERVER_QUIRK in text and is_sort_by_pattern(shape):
            continue
        assert alike(name_of(shape), ours, theirs), (shape, ours, theirs)
        if name_of(shape) not in ("SPOP",):
            stage.check()
    assert ran > 180


def outcome_of_pipeline(client: redis.Redis, shape: Shape, form: str) -> Outcome:
    return in_pipeline(client, shape, form == "transaction")
