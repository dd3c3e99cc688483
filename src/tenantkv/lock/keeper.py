"""Keepers: what renews leases in the background, and gives back those that nobody knows of.

One thread for a connection pool and all its views, or one timer on an event loop: not one for each lock.
All leases of a client that are due are renewed in one round trip.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tenantkv.lock.lease import LeaseState
from tenantkv.ops import lock as operations
from tenantkv.ops.effects import Operation
from tenantkv.ops.lock_places import Place

logger = logging.getLogger("tenantkv.lock")

#: What a lost connection looks like.
LOST: tuple[type[Exception], ...] = (RedisConnectionError, RedisTimeoutError, OSError)

# A thread that has nothing to do waits so long for more, since starting one takes a while.
_IDLE = 30.0
_BETWEEN_TRIES = 0.5


@dataclass(eq=False, slots=True)
class Abandoned:
    """A lease that may have been taken, whose taker never heard of it: its token is given back.

    Attributes:
        until: when it has ended in any case.
    """

    client: Any
    place: Place
    token: bytes
    until: float
    due: float = 0.0


Kept = LeaseState | Abandoned


def giving_up(entry: Abandoned) -> Operation[None]:
    """Give back what an abandoned token may hold, and its place in the queue."""
    leave = entry.place.leave(entry.token)
    if leave is not None:
        yield leave
    yield entry.place.release(entry.token, 0)


@dataclass(slots=True)
class Round:
    """What is due at one time.

    Attributes:
        groups: the leases that are renewed, those of one client together.
        fixed: leases that only run out.
        abandoned: tokens to give back.
    """

    groups: list[list[LeaseState]]
    fixed: list[LeaseState]
    abandoned: list[Abandoned]


def sorted_out(entries: Iterable[Kept]) -> Round:
    """Return what is to be done for entries that are due."""
    groups: dict[int, list[LeaseState]] = {}
    round_ = Round([], [], [])
    for entry in entries:
        if isinstance(entry, Abandoned):
            round_.abandoned.append(entry)
        elif entry.terms.renews:
            groups.setdefault(id(entry.client), []).append(entry)
        else:
            round_.fixed.append(entry)
    round_.groups = list(groups.values())
    return round_


def renewing(leases: list[LeaseState]) -> Operation[list[float | Exception | None]]:
    """Renew leases of one client."""
    asked = [(lease.place, lease.token, lease.terms.lease_ms) for lease in leases]
    return operations.renew_all(asked, clock=time.monotonic)


class Keeper:
    """A thread that renews the leases of one connection pool. It ends when there are none for a while."""

    def __init__(self, connections: int) -> None:
        #: Half of the connections may wait for locks; the rest is for whoever holds them.
        self.gate = ThreadGate(connections // 2)
        self._condition = threading.Condition()
        self._entries: dict[int, Kept] = {}
        self._thread: threading.Thread | None = None
        self._sleeps_until = 0.0

    def add(self, entry: Kept) -> None:
        """Look after a lease from now on."""
        with self._condition:
            self._entries[id(entry)] = entry
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tenantkv-leases", daemon=True)
                self._thread.start()
            elif entry.due < self._sleeps_until:
                # Slept towards even if the lease is gone by then: else each of a quick succession of
                # leases would wake the thread once more.
                self._sleeps_until = entry.due
                self._condition.notify()

    def discard(self, entry: Kept) -> None:
        """Look after a lease no more. Takes no lock: it is safe in a child process too."""
        self._entries.pop(id(entry), None)

    def _run(self) -> None:
        while True:
            due = self._wait()
            if due is None:
                return
            try:
                self._keep(due)
            except Exception:
                logger.exception("a round of renewals failed")

    def _wait(self) -> list[Kept] | None:
        """Return what is due; ``None`` when there was nothing for long, and the thread ends."""
        idle_until = time.monotonic() + _IDLE
        with self._condition:
            while True:
                now = time.monotonic()
                # A copy: `discard` takes no lock.
                entries = list(self._entries.values())
                due = [entry for entry in entries if entry.due <= now]
                if due:
                    self._sleeps_until = 0.0
                    return due
                if entries:
                    idle_until = now + _IDLE
                elif now >= idle_until:
                    self._thread = None
                    return None
                wanted = self._sleeps_until if self._sleeps_until > now else idle_until
                self._sleeps_until = min([wanted, *(entry.due for entry in entries)])
                self._condition.wait(self._sleeps_until - now)

    def _keep(self, due: list[Kept]) -> None:
        round_ = sorted_out(due)
        for lease in round_.fixed:
            if not lease.expire(time.monotonic()):
                self.discard(lease)
        for group in round_.groups:
            outcomes: list[Any]
            try:
                outcomes = group[0].client.run(renewing(group))
            except Exception as error:
                outcomes = [error] * len(group)
            now = time.monotonic()
            for lease, outcome in zip(group, outcomes, strict=True):
                if not lease.settle(outcome, now):
                    self.discard(lease)
        for each in round_.abandoned:
            try:
                each.client.run(giving_up(each))
                self.discard(each)
            except Exception:
                each.due = time.monotonic() + _BETWEEN_TRIES
                if each.due > each.until:
                    self.discard(each)


class ThreadGate:
    """How many waiters may keep a connection each."""

    def __init__(self, places: int) -> None:
        self._places = threading.Semaphore(places)

    def enter(self) -> bool:
        """Whether one more may; then `leave` is called once it is done."""
        return self._places.acquire(blocking=False)

    def leave(self) -> None:
        """Let another one in."""
        self._places.release()


class AsyncKeeper:
    """A timer on an event loop that renews the leases of one connection pool."""

    def __init__(self, connections: int, loop: asyncio.AbstractEventLoop) -> None:
        self.gate = LoopGate(connections // 2)
        #: Whose leases these are; another loop has a keeper of its own.
        self.loop = loop
        self._entries: dict[int, Kept] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = 0.0
        self._tasks: set[asyncio.Future[Any]] = set()

    def add(self, entry: Kept) -> None:
        """Look after a lease from now on."""
        self._entries[id(entry)] = entry
        if self._timer is None or entry.due < self._wakes_at:
            self._set(entry.due)

    def discard(self, entry: Kept) -> None:
        """Look after a lease no more."""
        self._entries.pop(id(entry), None)

    def spawn(self, what: Awaitable[Any]) -> None:
        """Have something done, and hold on to it until it is."""
        task = asyncio.ensure_future(what)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("what was done for a lease failed", exc_info=task.exception())

    def _set(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_at = due
        # Loops may have a clock of their own.
        self._timer = self.loop.call_later(max(due - time.monotonic(), 0.0), self._wake)

    def _wake(self) -> None:
        self._timer = None
        now = time.monotonic()
        due = [entry for entry in self._entries.values() if entry.due <= now]
        for entry in due:
            # Not again while it is being done; each has an end of its own.
            self.discard(entry)
        round_ = sorted_out(due)
        for lease in round_.fixed:
            if lease.expire(now):
                self._entries[id(lease)] = lease
        for group in round_.groups:
            self.spawn(self._renew(group))
        for each in round_.abandoned:
            self.spawn(self._give_up(each))
        if self._entries and self._timer is None:
            self._set(min(entry.due for entry in self._entries.values()))

    async def _renew(self, group: list[LeaseState]) -> None:
        outcomes: list[Any]
        try:
            # Who holds the lease that ends first must know in time, however long the network takes.
            patience = max(min(lease.remaining for lease in group), 0.001)
            outcomes = await asyncio.wait_for(group[0].client.run(renewing(group)), patience)
        except Exception as error:
            outcomes = [error] * len(group)
        now = time.monotonic()
        for lease, outcome in zip(group, outcomes, strict=True):
            if lease.settle(outcome, now):
                self.add(lease)

    async def _give_up(self, entry: Abandoned) -> None:
        try:
            await entry.client.run(giving_up(entry))
        except Exception:
            entry.due = time.monotonic() + _BETWEEN_TRIES
            if entry.due <= entry.until:
                self.add(entry)


class LoopGate:
    """How many waiters of one loop may keep a connection each."""

    def __init__(self, places: int) -> None:
        self._places = places

    def enter(self) -> bool:
        """Whether one more may; then `leave` is called once it is done."""
        if self._places <= 0:
            return False
        self._places -= 1
        return True

    def leave(self) -> None:
        """Let another one in."""
        self._places += 1
