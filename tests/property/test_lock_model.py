"""The lock against a model, over a network that fails: mutual exclusion holds, and fencing numbers grow."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

import tenantkv
from tenantkv import Keyring, Namespace
from tests import sockets
from tests.servers import RealServer

FAULTS = ["none", "before", "after", "in the reply", "delay"]


class FaultyProxy:
    """Hands bytes on, and does to the next request with a script what it was told.

    Attributes:
        port: where it listens on 127.0.0.1.
        fault: what it does: nothing, cut before the request gets through, after it was carried out, in
            the middle of the reply, or keep the reply back for a while.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.fault = "none"
        self.done: dict[str, int] = dict.fromkeys(FAULTS, 0)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        sockets.end(self._listener)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _take(self, data: bytes) -> str:
        if b"EVALSHA" not in data:
            return "none"
        with self._lock:
            fault, self.fault = self.fault, "none"
            self.done[fault] += 1
        return fault

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._path)
        with client, server:
            try:
                while data := client.recv(65536):
                    fault = self._take(data)
                    if fault == "before":
                        return
                    server.sendall(data)
                    # One request, one reply; a blocking one may take its time.
                    reply = server.recv(65536)
                    if fault == "after":
                        return
                    if fault == "in the reply":
                        client.sendall(reply[:2])
                        return
                    if fault == "delay":
                        time.sleep(0.02)
                    client.sendall(reply)
            except OSError:
                return


class LockMachine(RuleBasedStateMachine):
    """Three processes' clients and one lock. The server keeps its data unless a rule says otherwise."""

    server: RealServer
    proxy: FaultyProxy
    fair = False

    @initialize()
    def begin(self) -> None:
        namespace = Namespace(Keyring.generate(os.urandom(96)))
        url = f"redis://127.0.0.1:{self.proxy.port}"
        self.proxy.fault = "none"
        self.clients = [tenantkv.connect(url, namespace=namespace, protocol=2) for _ in range(3)]
        self.locks: list[Any] = [
            client.lock("job", lease=60, wait=0, fair=self.fair) for client in self.clients
        ]
        for client in self.clients:
            client.ping()
        self.neighbour = self.server.operator()
        self.key = namespace.wire_name(self.locks[0]._place.key)
        self.holder: int | None = None
        # Who believes to hold it, though the server has lost it.
        self.deceived: set[int] = set()
        self.last_fence = 0

    @rule(who=st.integers(0, 2), fault=st.sampled_from(FAULTS))
    def take(self, who: int, fault: str) -> None:
        if who == self.holder or who in self.deceived:
            return
        self.proxy.fault = fault
        taken = self.locks[who].acquire()
        assert taken == (self.holder is None)
        if taken:
            assert self.locks[who].fence > self.last_fence
            self.last_fence, self.holder = self.locks[who].fence, who

    @rule(who=st.integers(0, 2), fault=st.sampled_from(FAULTS))
    def give_back(self, who: int, fault: str) -> None:
        lock = self.locks[who]
        if who in self.deceived:
            self.proxy.fault = fault
            with pytest.raises(tenantkv_lost()):
                lock.release()
            self.deceived.discard(who)
        elif who == self.holder:
            self.proxy.fault = fault
            lock.release()
            self.holder = None

    @rule(who=st.integers(0, 2), fault=st.sampled_from(FAULTS))
    def renew(self, who: int, fault: str) -> None:
        if who != self.holder and who not in self.deceived:
            return
        self.proxy.fault = fault
        lease = self.locks[who].lease
        if who == self.holder:
            lease.extend(60, replace=True)
        elif not lease.lost:
            with pytest.raises(tenantkv_lost()):
                lease.extend(60, replace=True)

    @rule(deed=st.sampled_from(["evicted", "another type", "no TTL"]))
    def lose(self, deed: str) -> None:
        """The server loses the lock, or a neighbour takes it."""
        if self.holder is None:
            return
        self.neighbour.delete(self.key)
        if deed == "another type":
            self.neighbour.rpush(self.key, "x")
        elif deed == "no TTL":
            self.neighbour.set(self.key, "x")
        self.deceived.add(self.holder)
        self.holder = None

    @rule(rest=st.sampled_from([b":fence", b":wake", b":queue", b":alive"]))
    def lose_what_is_beside(self, rest: bytes) -> None:
        self.neighbour.delete(self.key + rest)

    @rule()
    def forget_scripts(self) -> None:
        self.neighbour.script_flush()

    @invariant()
    def one_holds_it(self) -> None:
        if hasattr(self, "locks") and self.holder is not None:
            assert [lock.owned() for lock in self.locks] == [who == self.holder for who in range(3)]

    def teardown(self) -> None:
        self.proxy.fault = "none"
        for client in getattr(self, "clients", []):
            client.close()


class FairLockMachine(LockMachine):
    fair = True


def tenantkv_lost() -> type[Exception]:
    from tenantkv.lock import LeaseLostError

    return LeaseLostError


@pytest.mark.parametrize("machine", [LockMachine, FairLockMachine])
def test_the_lock_is_what_the_model_says(machine, shared_server):
    proxy = FaultyProxy(shared_server.socket_path)
    machine.server, machine.proxy = shared_server, proxy
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=25,
                stateful_step_count=20,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        proxy.close()
    # The faults were not only asked for.
    assert all(proxy.done[fault] for fault in FAULTS)


@pytest.mark.parametrize("fair", [False, True])
def test_one_at_a_time_whatever_the_network_does(shared_server, fair):
    proxy = FaultyProxy(shared_server.socket_path)
    namespace = Namespace(Keyring.generate(os.urandom(96)))
    random_ = random.Random(7)
    inside: list[int] = []
    fences: list[int] = []
    failures: list[BaseException] = []

    def work(number: int) -> None:
        kv = tenantkv.connect(f"redis://127.0.0.1:{proxy.port}", namespace=namespace, protocol=2)
        try:
            for _ in range(12):
                with kv.lock("job", lease=60, wait=120, fair=fair) as lock:
                    inside.append(number)
                    fences.append(lock.fence)
                    proxy.fault = random_.choice(FAULTS)
                    assert inside == [number]
                    inside.clear()
        except BaseException as error:
            failures.append(error)
        finally:
            kv.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    proxy.close()
    assert failures == []
    assert len(fences) == 48 and fences == sorted(set(fences))
    assert sum(proxy.done[fault] for fault in FAULTS[1:]) > 10
