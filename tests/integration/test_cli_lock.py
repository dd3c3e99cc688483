"""``tenantkv lock`` as a process: who holds what, and ending a lease whose holder is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tenantkv
from tests.cli_program import Program
from tests.neighbourhood import wait_for
from tests.operating import help_has_an_example, report
from tests.servers import RealServer


@pytest.fixture
def server(shared_server: RealServer) -> RealServer:
    return shared_server


@pytest.fixture
def program(tmp_path: Path, server: RealServer) -> Program:
    return Program(tmp_path, server.url)


@pytest.fixture
def kv(program: Program) -> Iterator[Any]:
    with program.connect() as client:
        yield client


def take(place: Any, **options: Any) -> Any:
    lease = place.take(**options)
    assert lease is not None
    return lease


def test_listing(program: Program, kv: Any) -> None:
    leases = [
        take(kv.lock("rebuild", lease=30)),
        take(kv.lock("plain", hidden=False)),
        take(kv.semaphore("api", 5)),
        take(kv.semaphore("api", 5)),
        take(kv.read_write_lock("report").write()),
    ]
    take(kv.lock("over")).release()
    found = {each["name"]: each for each in report(program, "lock", "ls")}
    assert {name: (each["primitive"], each["mode"], each["holders"]) for name, each in found.items()} == {
        "rebuild": ("lock", "held", 1),
        "plain": ("lock", "held", 1),
        "api": ("semaphore", "held", 2),
        "report": ("rwlock", "write", 1),
        "over": ("lock", "free", 0),
    }
    assert 0 < found["rebuild"]["left"] <= 30 and found["rebuild"]["fence"] == leases[0].fence
    held = report(program, "lock", "ls", "--held")
    assert {each["name"] for each in held} == {"rebuild", "plain", "api", "report"}
    assert len(report(program, "lock", "ls", "--kind", "semaphore")) == 1
    done = program.run("lock", "ls")
    assert b"rebuild" in done.stdout and not any(lease.token in done.stdout for lease in leases)
    for lease in leases:
        lease.release()


def test_who_waits_gets_it_and_the_holder_is_told(program: Program, kv: Any) -> None:
    lost = threading.Event()
    holder = take(kv.lock("rebuild", lease=600, on_lost=lambda _: lost.set()))
    got: list[Any] = []
    waiter = threading.Thread(target=lambda: got.append(kv.lock("rebuild", lease=5).take(wait=60)))
    waiter.start()
    wait_for("a waiter", lambda: report(program, "lock", "ls")[0]["is_waited"])
    broken = report(program, "lock", "break", "rebuild", "--yes")
    waiter.join(timeout=30)
    assert broken["ended"] and broken["was"]["mode"] == "held"
    assert got[0].fence > holder.fence
    with pytest.raises(tenantkv.LeaseLostError):
        holder.release()
    got[0].release()


@pytest.mark.parametrize("kind", ["lock", "rwlock", "semaphore", "readers"])
def test_every_kind_can_be_ended(program: Program, kv: Any, kind: str) -> None:
    place = {
        "lock": lambda: kv.lock("x", fair=True),
        "rwlock": lambda: kv.read_write_lock("x").write(),
        "semaphore": lambda: kv.semaphore("x", 1),
        "readers": lambda: kv.read_write_lock("x").read(),
    }[kind]()
    lease = take(place)
    assert report(program, "lock", "break", "x", "--yes")["ended"]
    with pytest.raises(tenantkv.LeaseLostError):
        lease.release()
    take(place, wait=0).release()


def test_it_asks_and_needs_the_kind_where_there_are_several(program: Program, kv: Any) -> None:
    lease, place = take(kv.lock("x")), take(kv.semaphore("x", 1))
    done = program.run("lock", "break", "x")
    assert done.returncode == 1 and b"--kind" in done.stderr
    done = program.run("lock", "break", "x", "--kind", "lock")
    assert done.returncode == 1 and b"say --yes" in done.stderr
    lease.release()
    place.release()


def test_nobody_holds_it(program: Program) -> None:
    done = program.run("lock", "break", "x", "--yes")
    assert done.returncode == 3 and b"Nobody holds 'x'" in done.stderr
    assert program.run("lock", "break", "", "--yes").returncode == 1


def test_what_a_neighbour_has_planted(program: Program, kv: Any, server: RealServer) -> None:
    lease = take(kv.lock("x"))
    key = program.namespace.wire_name(lease.place.key)
    server.operator().delete(key)
    server.operator().rpush(key, "planted")
    (found,) = report(program, "lock", "ls")
    assert found["mode"] == "foreign"
    assert report(program, "lock", "break", "x", "--yes")["ended"]
    server.operator().set(key, "immortal")
    assert report(program, "lock", "break", "x", "--yes")["ended"] and not server.operator().exists(key)
    with pytest.raises(tenantkv.LeaseLostError):
        lease.release()


def test_only_the_lease_that_was_looked_at_is_ended(program: Program, kv: Any) -> None:
    from tenantkv.cli.lock_break import end_lease
    from tenantkv.ops.directory import Entry

    lease = take(kv.lock("x"))
    assert not kv.run(end_lease(kv.namespace, Entry("lock", b"x", time.time()), "00000000"))
    lease.release()


def test_hostile_names(program: Program, kv: Any) -> None:
    leases = [take(kv.lock(name)) for name in (b"\xff\x00\x1b[2J", "a{b}c", "\u202eevil")]
    assert len(report(program, "lock", "ls")) == 3
    shown = program.run("lock", "ls").stdout
    assert b"\x1b" not in shown and "\u202e" not in shown.decode()
    for lease in leases:
        lease.release()


def test_help() -> None:
    for words in ((), ("ls",), ("break",)):
        help_has_an_example("lock", *words)
