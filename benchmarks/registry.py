"""What the registry costs: writes with it and without it, its memory, its slowest command, its miss window.

A server with the shared profile, without SCAN. "new" names are never written twice, so every one of them
is registered; "known" names were registered before, which is what a process does in the long run.
"""

from __future__ import annotations

import itertools
import os
import time
import tracemalloc
from typing import Any

import redis

import tenantkv
from benchmarks.timing import Measured, interleave
from tenantkv import Keyring, Namespace, embedded
from tenantkv.ops.registry import SHARDS, Registrar, shard_key, shard_of

_VALUE = b"x" * 100


def run(*, rounds: int, quick: bool, only: str) -> list[Measured]:
    """Measure, print what is no ratio, and return the ratios."""
    with embedded.start("shared", extra_config={"maxmemory": "2gb"}) as server:
        operator = redis.Redis(unix_socket_path=server.socket_path)
        off, on = _client(server.url, registry=False), _client(server.url, registry=True)
        rows: list[Measured] = []
        for work, act, repeats in _works():
            if only in work:
                contestants = {"off": _bound(act, off), "on": _bound(act, on)}
                rows += interleave(
                    work, contestants, repeats=repeats // 4 if quick else repeats, rounds=rounds
                )
                operator.execute_command("operatorFLUSHALL")
        if not only:
            _sizes(server.url, operator, 20_000 if quick else 100_000)
            _miss_window(server.url, operator)
        return rows


def _client(url: str, *, registry: bool) -> Any:
    return tenantkv.connect(url, namespace=Namespace(Keyring.generate(os.urandom(96))), registry=registry)


def _bound(act: Any, client: Any) -> Any:
    return lambda: act(client)


def _works() -> list[tuple[str, Any, int]]:
    """Return each work, what does it once, and how often a round does it."""
    count = itertools.count()

    def new() -> str:
        return f"some:session:{next(count)}"

    def fill(kv: Any, names: list[str], *, transaction: bool) -> None:
        pipe = kv.pipeline(transaction=transaction)
        for name in names:
            pipe.set(name, _VALUE)
        pipe.execute()

    known = [f"known:{number}" for number in range(100)]
    return [
        ("get known", lambda kv: kv.get("known:1"), 400),
        ("set known", lambda kv: kv.set("known:1", _VALUE), 400),
        ("incr known", lambda kv: kv.incr("counter"), 400),
        ("set new", lambda kv: kv.set(new(), _VALUE, ex=600), 400),
        ("pipeline 100 known", lambda kv: fill(kv, known, transaction=False), 20),
        ("pipeline 100 new", lambda kv: fill(kv, [new() for _ in known], transaction=False), 20),
        ("multi 100 known", lambda kv: fill(kv, known, transaction=True), 20),
        ("multi 100 new", lambda kv: fill(kv, [new() for _ in known], transaction=True), 20),
        ("mset 100 new", lambda kv: kv.mset({new(): _VALUE for _ in known}), 20),
    ]


def _sizes(url: str, operator: redis.Redis, count: int) -> None:
    """Print the memory a name takes on the server and here, and what listing all names takes."""
    names = [f"some:name:{number}" for number in range(count)]
    kv = _client(url, registry=True)
    operator.execute_command("operatorCONFIG", "SET", "slowlog-log-slower-than", "0")
    operator.execute_command("operatorCONFIG", "SET", "slowlog-max-len", "1000000")
    operator.execute_command("SLOWLOG", "RESET")
    for start in range(0, count, 1000):
        kv.mset(dict.fromkeys(names[start : start + 1000], 1))
    prefix = kv.namespace.wire_prefix
    shards = [prefix + shard_key(shard) for shard in range(SHARDS)]
    size = sum(operator.memory_usage(shard, samples=0) or 0 for shard in shards)
    print(f"server: {size / count:.0f} bytes a name ({count} names, {size / 1e6:.1f} MB)")
    tracemalloc.start()
    registrar = Registrar()
    for name in names[:50_000]:
        registrar.asides([name.encode()], time.time())
    here = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    print(f"client: {here / min(count, 50_000):.0f} bytes a remembered name, at most 65,536 of them")
    begun = time.perf_counter()
    listed = kv.dbsize()
    print(f"list {listed} names: {time.perf_counter() - begun:.2f} s")
    begun = time.perf_counter()
    kv.scan(0)
    print(f"scan, one of {SHARDS} calls: {(time.perf_counter() - begun) * 1000:.1f} ms")
    begun = time.perf_counter()
    kv.flushdb()
    print(f"flushdb: {time.perf_counter() - begun:.2f} s")
    _slowest(operator)


def _slowest(operator: redis.Redis) -> None:
    """Print how long each command takes on the server, but for one in a hundred runs.

    Not the slowest run, which on a busy machine tells how long the server had to wait for a processor.
    """
    took: dict[str, list[int]] = {}
    for entry in operator.slowlog_get(1_000_000):
        name = entry["command"].split()[0].decode("ascii", "replace").upper()
        if not name.startswith("OPERATOR") and name not in ("SLOWLOG", "MEMORY", "MSET", "HELLO", "PING"):
            took.setdefault(name, []).append(int(entry["duration"]))
    high = {name: sorted(times)[len(times) * 99 // 100] for name, times in took.items()}
    text = ", ".join(f"{name} {high[name]}" for name in sorted(high, key=lambda name: -high[name]))
    print(f"99 of 100 runs of each command on the server, in microseconds at the most: {text}")
    operator.execute_command("operatorCONFIG", "SET", "slowlog-log-slower-than", "10000")
    operator.execute_command("SLOWLOG", "RESET")


def _miss_window(url: str, operator: redis.Redis) -> None:
    """Print how long another process misses names after the server has evicted their shard."""
    kv = _client(url, registry=True)
    other = tenantkv.connect(url, namespace=kv.namespace, registry=True)
    for refresh in (0.25, 0.5, 1.0):
        kv.connection_pool.registrars[kv.namespace] = Registrar(refresh=refresh)
        kv.set("name", 1)
        operator.delete(kv.namespace.wire_prefix + shard_key(shard_of(b"name")))
        begun = time.perf_counter()
        while not other.keys("name"):
            kv.set("name", 1)
        took = time.perf_counter() - begun
        print(f"evicted shard, name written all the time, refresh {refresh} s: missed for {took:.2f} s")
    print()
