"""Two tenants and random commands: neither changes what the other has, and each is answered as if alone.

Each tenant's commands go to a plain redis-py on a private server as well, tenant 0 in its database 0 and
tenant 1 in its database 1, and the answers are compared (`tests/twins.py` lists what cannot be, and why).
After every step the other tenant's dump and everything outside both namespaces must be unchanged.

Bounded and reproducible by default; `TENANTKV_PROPERTY_EXAMPLES=5000` searches longer, at random.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import tenantkv
from tenantkv import Keyring, Namespace
from tenantkv.errors import ForbiddenCommandError, MalformedCommandError, UnknownCommandError
from tenantkv.ops.registry import RESERVED
from tests.property.strategies import Step, spelled, steps
from tests.servers import OPERATOR_WORD, RealServer, start_server
from tests.shapes import SETUP, Shape, name_of
from tests.twins import Outcome, alike, contents, of_reply, outcome, snapshot

EXAMPLES = int(os.environ.get("TENANTKV_PROPERTY_EXAMPLES", "0"))
SHORT = 250

# Commands whose effect is another on each server or at each moment: from then on only isolation is checked.
DIVERGE = {
    "SPOP": "takes members at random",
    "EVAL": "may do any of these",
    "XADD": "may take its id from the clock",
    "XCLAIM": "looks at idle times",
    "XAUTOCLAIM": "looks at idle times",
    "XGROUP SETID": "may take the last id",
    "RESTORE": "may carry a relative time",
    "SORT": "may store what is not sorted",
}
# Times of life as short as our random numbers run out while we look.
EXPIRING = frozenset(
    {"EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT", "SET", "SETEX", "PSETEX", "GETEX", "MSETEX"}
    | {"HEXPIRE", "HPEXPIRE", "HEXPIREAT", "HPEXPIREAT", "HSETEX", "HGETEX"}
)

# What we refuse although the server takes it; its own effect is another or is ambiguous.
STRICTER = (
    "twice",  # the server takes the last STORE, or the last MATCH
    "DB option",  # COPY into another database
    "REDIRECT",
)


class Side:
    """One tenant, its client, and the plain client that must be answered alike."""

    def __init__(self, server: RealServer, twin: RealServer, number: int, protocol: int, more: Any) -> None:
        self.namespace = Namespace(Keyring.generate(bytes([number + 1]) * 96))
        self.client = tenantkv.connect(server.url, namespace=self.namespace, protocol=protocol, **more)
        self.plain = twin.plain(database=number, protocol=protocol, socket_timeout=5)
        self.reader = twin.plain(database=number, protocol=2, socket_timeout=5)

    def close(self) -> None:
        for client in (self.client, self.plain, self.reader):
            client.close()


class World:
    """A server with two tenants, and a private server."""

    def __init__(self, server: RealServer, protocol: int, **options: Any) -> None:
        self.server = server
        self.twin = start_server(server.profile, binary=server.server.binary)
        self.sides = [Side(server, self.twin, number, protocol, options) for number in (0, 1)]
        self.operator = server.operator()
        self.keys = f"{OPERATOR_WORD}KEYS" if server.profile == "shared" else "KEYS"

    def set_up(self) -> None:
        self.server.command("FLUSHALL")
        self.twin.command("FLUSHALL")
        self.operator.set("neighbour", "x")
        for side in self.sides:
            for client in (side.client, side.plain):
                with client.pipeline(transaction=False) as lot:
                    for command in SETUP:
                        lot.execute_command(*command)
                    lot.execute()
        self.diverged = [False, False]

    def others(self, tenant: int) -> dict[bytes, Any]:
        """Return all keys that are not the tenant's, but for those that have run out by now."""
        prefix = self.sides[tenant].namespace.wire_prefix
        found = snapshot(self.operator, self.keys)
        return {
            name: value
            for name, (value, expires) in found.items()
            if not name.startswith(prefix) and not expires
        }

    def contents(self, tenant: int) -> tuple[dict, dict]:
        """Return what a tenant has, and what its plain twin has."""
        side = self.sides[tenant]
        prefix = side.namespace.wire_prefix
        names = [name for name in snapshot(self.operator, self.keys) if name.startswith(prefix)]
        own = [name for name in names if not name.startswith(prefix + RESERVED)]
        plain = side.reader.execute_command(self.keys, "*")
        return contents(self.operator, own, prefix), contents(side.reader, plain)

    def close(self) -> None:
        for side in self.sides:
            side.close()
        self.twin.stop()


WORLDS = {
    "open-RESP2": ("open_server", 2, {}),
    "open-RESP3": ("open_server", 3, {}),
    "shared-RESP2": ("shared_server", 2, {}),
    "shared-RESP3": ("shared_server", 3, {}),
    # Commands of our own ride along, whose replies must never be taken for the tenant's.
    "shared-RESP3-registry": ("shared_server", 3, {"registry": True}),
}


@pytest.fixture(scope="module", params=list(WORLDS.values()), ids=list(WORLDS))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    server, protocol, options = request.param
    world = World(request.getfixturevalue(server), protocol, **options)
    yield world
    world.close()


def send(client: redis.Redis, form: str, commands: list[tuple[Any, ...]]) -> list[Outcome]:
    if form == "single":
        return [outcome(client.execute_command, *commands[0])]
    with client.pipeline(transaction=form == "transaction") as lot:
        for command in commands:
            lot.execute_command(*command)
        kind, replies = outcome(lot.execute, False)
    return [of_reply(reply) for reply in replies] if kind == "value" else [(kind, replies)]


def diverges(shape: Shape) -> bool:
    name = name_of(shape)
    if name in EXPIRING:
        return any(word.lstrip(b"+ ").isdigit() and int(word) < 100_000 for word in shape[1:])
    return name in DIVERGE


def emulated(world: World, shape: Shape) -> bool:
    """Whether the client answers by itself, or refuses where the plain server would not know it."""
    return name_of(shape) in ("DBSIZE", "FLUSHDB", "RANDOMKEY") or (
        world.server.profile == "shared" and name_of(shape) in ("KEYS", "SCAN")
    )


def run(world: World, step: Step) -> None:
    """Send one step as a tenant and as its twin, and compare."""
    side = world.sides[step.tenant]
    before = world.others(step.tenant)
    sent = [spelled(shape, step.spelling) for shape in step.commands]
    ours = send(side.client, step.form, sent)
    assert world.others(step.tenant) == before, "a stray"
    refused = ours[0][0] == "refused"
    if refused and not (step.form == "single" and is_servers_too(ours[0])):
        return
    if any(map(lambda shape: emulated(world, shape), step.commands)):
        world.diverged[step.tenant] = True
        return
    theirs = send(side.plain, step.form, sent)
    if refused:
        assert theirs[0][0] == "error", (step, ours, theirs)
        return
    if not world.diverged[step.tenant]:
        assert len(ours) == len(theirs), (ours, theirs)
        # A pipeline that failed as a whole has one outcome.
        shapes = step.commands if len(ours) == len(step.commands) else step.commands[:1]
        for shape, own, plain in zip(shapes, ours, theirs, strict=True):
            if diverges(shape):
                world.diverged[step.tenant] = True
                break
            assert alike(name_of(shape), own, plain), (shape, own, plain, str(own[1]), str(plain[1]))
    no_secret(world, ours)


def is_servers_too(refusal: Outcome) -> bool:
    """Whether the server would not take it either: what we call malformed it calls an error."""
    error = refusal[1]
    assert isinstance(error, redis.ResponseError)
    assert isinstance(error, (ForbiddenCommandError, MalformedCommandError, UnknownCommandError))
    return isinstance(error, MalformedCommandError) and not any(word in error.reason for word in STRICTER)


def no_secret(world: World, found: list[Outcome]) -> None:
    text = "".join(f"{value!r} {value}" for _, value in found)
    for side in world.sides:
        # Also not in part, as where a server cuts off what it quotes.
        assert side.namespace.keyring.prefix[:6] not in text
        assert side.namespace.channel_prefix.decode()[:6] not in text


@settings(
    max_examples=EXAMPLES or SHORT,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example([Step(0, "single", ((b"XREADGROUP", b"GROUP", b"STREAMS", b"c", b"STREAMS", b"stream", b">"),), 0)])
@example([Step(1, "transaction", ((b"BLPOP", b"", b"nums", b"0.01"), (b"LPUSH", b"", b"STORE")), 3)])
@given(st.lists(steps(), min_size=1, max_size=10))
@pytest.mark.timeout(3600 if EXAMPLES else 120)
def test_tenants_are_alone(world: World, todo: list[Step]) -> None:
    world.set_up()
    for step in todo:
        run(world, step)
    for tenant in (0, 1):
        if not world.diverged[tenant]:
            ours, theirs = world.contents(tenant)
            assert ours == theirs
    assert world.operator.get("neighbour") == b"x"
    # The connections are usable, whatever went before.
    for side in world.sides:
        assert side.client.set("str", "end") is True and side.client.get("str") == b"end"
