"""Taking leases: for a client, with what is at hand for it in this process."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from tenantkv.lock.keeper import LOST, Abandoned, AsyncKeeper, Keeper
from tenantkv.lock.lease import AsyncLease, Lease, Terms, new_token
from tenantkv.namespace import Namespace
from tenantkv.ops import directory
from tenantkv.ops import lock as operations
from tenantkv.ops.effects import Operation
from tenantkv.ops.lock_places import Exclusive, Place, key_of
from tenantkv.transport.pool import MAX_CONNECTIONS
from tenantkv.transport.speaking import LentPool

# Locks of one client whose keys are remembered.
_LOCKS = 1024


@dataclass(eq=False, slots=True)
class Desk:
    """What is at hand for a client's leases, so that a lock costs little to make.

    Attributes:
        namespace: the client's.
        keeper: what looks after its leases, shared by all clients of a pool.
        memory: what this process has noted in the directory.
        locks: the locks that were made lately, by name and whether fair and hidden.
    """

    namespace: Namespace
    keeper: Keeper
    memory: directory.DirectoryMemory
    locks: dict[tuple[bytes, bool, bool], Exclusive] = field(default_factory=dict)

    def lock(self, name: bytes, fair: bool, hidden: bool) -> Exclusive:
        """Return a lock's keys and scripts."""
        wanted = (name, fair, hidden)
        place = self.locks.get(wanted)
        if place is None:
            place = Exclusive(key_of(self.namespace, "lock", name, hidden=hidden), fair)
            if len(self.locks) >= _LOCKS:
                self.locks.clear()
            self.locks[wanted] = place
        return place


# Gone with their clients and pools. A keeper is for a pool, or a Cluster's client, with all its views.
_desks: WeakKeyDictionary[Any, Desk] = WeakKeyDictionary()
_keepers: WeakKeyDictionary[Any, Keeper] = WeakKeyDictionary()
_async_keepers: WeakKeyDictionary[Any, AsyncKeeper] = WeakKeyDictionary()


def _forget() -> None:
    """A child process has none of the threads, and renews nothing: its parent does."""
    _desks.clear()
    _keepers.clear()
    _async_keepers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _root(client: Any) -> tuple[Any, int]:
    """Return what a client shares with its views, and how many connections that has."""
    parent = getattr(client, "_parent", None)
    if parent is not None:
        return parent, MAX_CONNECTIONS
    pool = getattr(client, "connection_pool", None)
    if pool is None:
        return client, MAX_CONNECTIONS
    if isinstance(pool, LentPool):
        pool = pool._pool
    return pool, pool.max_connections


def desk_of(client: Any) -> Desk:
    """Return what is at hand for a client's leases."""
    desk = _desks.get(client)
    # A Cluster's view begins as a copy.
    if desk is None or desk.namespace is not client.namespace:
        root, connections = _root(client)
        # Of two threads that come at once one wins, and both use its keeper.
        keeper = _keepers.setdefault(root, Keeper(connections))
        namespace = client.namespace
        _desks[client] = desk = Desk(namespace, keeper, directory.memory_of(namespace))
    return desk


def async_keeper_of(client: Any) -> AsyncKeeper:
    """Return what looks after the leases of an asyncio client on the running loop."""
    root, connections = _root(client)
    loop = asyncio.get_running_loop()
    keeper = _async_keepers.get(root)
    if keeper is None or keeper.loop is not loop:
        _async_keepers[root] = keeper = AsyncKeeper(connections, loop)
    return keeper


def take(client: Any, place: Place, terms: Terms, wait: float | None, token: bytes = b"") -> Lease | None:
    """Take a lease, or return ``None`` when `wait` is over. See `tenantkv.ops.lock.acquire`."""
    desk = desk_of(client)
    keeper = desk.keeper
    if desk.memory.take(terms.primitive, terms.name, time.monotonic()):
        try:
            client.run(noting(client, terms))
        except LOST:
            pass  # Taking the lease will tell.
    token = token or new_token()
    try:
        grant = client.run(_taking(place, terms, wait, token, keeper.gate))
    except BaseException as error:
        if _may_hold(error):
            keeper.add(Abandoned(client, place, token, time.monotonic() + terms.lease_ms / 1000))
        raise
    if grant is None:
        return None
    lease = Lease(client, place, token, terms, grant, keeper)
    if terms.renews or terms.on_lost is not None:
        keeper.add(lease)
    return lease


async def async_take(
    client: Any, place: Place, terms: Terms, wait: float | None, token: bytes = b""
) -> AsyncLease | None:
    """Take a lease, or return ``None`` when `wait` is over; the twin of `take`."""
    keeper = async_keeper_of(client)
    if desk_of(client).memory.take(terms.primitive, terms.name, time.monotonic()):
        try:
            await client.run(noting(client, terms))
        except LOST:
            pass  # Taking the lease will tell.
    token = token or new_token()
    try:
        grant = await client.run(_taking(place, terms, wait, token, keeper.gate))
    except BaseException as error:
        if _may_hold(error):
            keeper.add(Abandoned(client, place, token, time.monotonic() + terms.lease_ms / 1000))
        raise
    if grant is None:
        return None
    lease = AsyncLease(client, place, token, terms, grant, keeper)
    if terms.renews or terms.on_lost is not None:
        keeper.add(lease)
    return lease


def noting(client: Any, terms: Terms) -> Operation[None]:
    """Write a name into the directory."""
    return directory.note(client.namespace, client.sealer, terms.primitive, terms.name, time.time())


def _taking(
    place: Place, terms: Terms, wait: float | None, token: bytes, gate: operations.Gate
) -> Operation[operations.Grant | None]:
    return operations.acquire(
        place,
        token,
        terms.lease_ms,
        wait,
        clock=time.monotonic,
        gate=gate,
        poll=terms.poll,
        lost=LOST,
    )


def _may_hold(error: BaseException) -> bool:
    """Whether the server may have granted a lease though its taker got an error.

    Not if it has answered with the error: a lost connection, an interrupt or a cancelled task.
    """
    return isinstance(error, LOST) or not isinstance(error, Exception)
