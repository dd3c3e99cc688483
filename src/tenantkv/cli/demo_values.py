"""The demonstration's steps about values: what a neighbour who knows every name on the server gets."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import redis

from tenantkv import Secret
from tenantkv.cli.demo_step import Step
from tenantkv.errors import OpenError, PlaintextRefusedError

# Has a token's form; made here, and nobody's.
_TOKEN = "ghp_" + "Ab3dEf6hIj" * 4


def value_steps(anna: Any, neighbour: redis.Redis) -> Iterator[Step]:
    """Show what a hostile neighbour can do to a tenant's values.

    Args:
        anna: the tenant's client, with a registry.
        neighbour: a client without a namespace; it can read, write and delete whatever it can name.
    """
    yield _secrets(anna, neighbour)
    yield _moved(anna, neighbour)
    yield _cache(anna, neighbour)
    yield _lock(anna)
    yield _queue(anna, neighbour)


def _secrets(anna: Any, neighbour: redis.Redis) -> Step:
    try:
        refused = repr(anna.set("oauth:7", _TOKEN))
    except PlaintextRefusedError as error:
        refused = f"refused: it looks like a {error.rule}"
    anna.set("oauth:7", Secret(_TOKEN))
    seen = neighbour.get(anna.namespace.wire_name(b"oauth:7"))
    assert isinstance(seen, bytes)
    read = anna.get("oauth:7")
    lines = (
        ('anna.set("oauth:7", a token)', refused),
        ('anna.set("oauth:7", Secret(the token))', "True"),
        ('anna.get("oauth:7")', "the token" if read == _TOKEN else repr(read)),
        ("a neighbour who knows the name reads", f"{len(seen)} bytes: {seen[-12:].hex(' ')} …"),
    )
    holds = refused.startswith("refused") and read == _TOKEN and _TOKEN.encode() not in seen
    return Step("A secret is not stored in clear, and can be stored sealed", lines, holds)


def _moved(anna: Any, neighbour: redis.Redis) -> Step:
    vault = anna.using(seal=True)
    vault.set("role:ben", "reader")
    vault.set("role:anna", "admin")
    ours, theirs = (anna.namespace.wire_name(name) for name in (b"role:anna", b"role:ben"))
    neighbour.copy(ours, theirs, replace=True)
    swapped = _read(vault, "role:ben")
    neighbour.set(theirs, "admin")
    forged = _read(vault, "role:ben")
    lines = (
        ('sealed.get("role:anna")', repr(vault.get("role:anna"))),
        ("a neighbour copies anna's value over ben's; sealed.get says", swapped),
        ("it writes one of its own there; sealed.get says", forged),
    )
    holds = swapped == forged == "OpenError" and vault.get("role:anna") == "admin"
    return Step("A sealed value cannot be moved or forged", lines, holds)


def _read(client: Any, name: str) -> str:
    try:
        return repr(client.get(name))
    except OpenError:
        return "OpenError"


def _cache(anna: Any, neighbour: redis.Redis) -> Step:
    pages = anna.cache("pages", ttl=60)
    made: list[str] = []

    def compute() -> str:
        made.append("one")
        time.sleep(0.05)  # So that the others come while it runs.
        return "<html>"

    callers = [threading.Thread(target=pages.get_or_compute, args=("front", compute)) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    computed = len(made)
    for name in _new_names(neighbour, lambda: pages.set("side", "<nav>")):
        neighbour.set(name, b"cos\nsystem\n(S'a planted pickle'\ntR.")
    planted = pages.get("side", default="a miss")
    lines = (
        ("8 threads ask for the same page; computed", str(computed)),
        ("a neighbour plants a pickle in an entry; the cache says", repr(planted)),
        ("counted as tampered with", str(pages.stats.tampered)),
    )
    holds = computed == 1 and planted == "a miss" and pages.stats.tampered == 1
    return Step("A cache that computes once, and takes nothing from strangers", lines, holds)


def _lock(anna: Any) -> Step:
    fences = []
    for _ in range(2):
        with anna.lock("rebuild", lease=10, wait=5) as lock:
            fences.append(lock.fence)
    with anna.lock("rebuild", lease=10):
        second = anna.lock("rebuild", lease=10).acquire(blocking=False)
    lines = (
        ("two holders, one after the other; the fencing number grows", str(fences[0] < fences[1])),
        ("while it is held, another gets it", repr(second)),
    )
    return Step("A lock that a database can check", lines, fences[0] < fences[1] and not second)


def _queue(anna: Any, neighbour: redis.Redis) -> Step:
    jobs = anna.queue("thumbs")
    names = _new_names(neighbour, lambda: jobs.send_many([{"image": number} for number in range(3)]))
    with jobs.receive(wait=5) as job:
        first = job.value
    neighbour.delete(*names)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        rest = jobs.receive(wait=0)
    said = str(told[0].message).partition(": ")[2] if told else "nothing"
    lines = (
        ("3 jobs sent, one received and acknowledged", repr(first)),
        ("a neighbour deletes the queue; what is received then", repr(rest)),
        ("and what anna is told", said),
    )
    holds = first == {"image": 0} and not rest and "2 messages" in said
    return Step("A queue that notices what the server lost", lines, holds)


def _new_names(neighbour: redis.Redis, act: Callable[[], object]) -> set[bytes]:
    """Return the keys on the server that something makes, without those of registries."""
    before = _names(neighbour)
    act()
    return {name for name in _names(neighbour) - before if b":__tenantkv__:" not in name}


def _names(neighbour: redis.Redis) -> set[bytes]:
    # The word under which the profile's operator keeps KEYS to themselves.
    names: Any = neighbour.execute_command("operatorKEYS", "*")
    return set(names)
