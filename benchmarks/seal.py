"""What sealing costs: one value next to Fernet, and a sealed client next to plain redis-py.

One process, interleaved; the client on the shared profile and a unix socket.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import redis
from cryptography.fernet import Fernet

import tenantkv
from benchmarks.timing import Measured, interleave
from tenantkv import embedded
from tenantkv.envelope import Sealer
from tenantkv.keyring import Keyring
from tenantkv.namespace import Namespace
from tenantkv.sealing import LiveSealer

SIZES = {"100 B": 100, "1 KB": 1000, "10 KB": 10_000, "1 MB": 1_000_000}
NAME = b"user:1234:profile"


def run(*, rounds: int = 25, quick: bool = False, only: str = "") -> list[Measured]:
    """Measure each way at each size; the ratio is to Fernet."""
    rows: list[Measured] = []
    for label, size in SIZES.items():
        if only not in f"seal+open {label}":
            continue
        # The same share of time at every size.
        repeats = max(3, (200 if quick else 1000) // max(1, size // 5000))
        rows += interleave(f"seal+open {label}", _contestants(size), repeats=repeats, rounds=rounds)
    return rows + _run_clients(rounds, quick, only)


def _run_clients(rounds: int, quick: bool, only: str) -> list[Measured]:
    """Measure whole commands; the ratio is to plain redis-py, which stores the value in clear."""
    rows: list[Measured] = []
    space = Namespace(Keyring.generate(os.urandom(96)))
    with embedded.start(profile="shared") as server:
        clients: dict[str, redis.Redis] = {
            "redis-py": redis.Redis.from_url(server.url),
            "in clear": tenantkv.connect(server.url, namespace=space),
            "sealed": tenantkv.connect(server.url, namespace=space, seal=True),
            "sealed, hidden": tenantkv.connect(
                server.url, namespace=space.child("hidden"), seal=True, names="hidden"
            ),
            "signed": tenantkv.connect(server.url, namespace=space.child("signed"), seal=True, mode="sign"),
        }
        for label, size in {"100 B": 100, "1 KB": 1000, "10 KB": 10_000}.items():
            value = os.urandom(size // 2).hex().encode()
            for command in ("GET", "SET"):
                if only in f"{command} {label}":
                    contestants = {
                        name: _command(client, f"{name}:{label}", command, value)
                        for name, client in clients.items()
                    }
                    repeats = 100 if quick else 300
                    rows += interleave(f"{command} {label}", contestants, repeats=repeats, rounds=rounds)
    return rows


def _command(client: redis.Redis, key: str, command: str, value: bytes) -> Callable[[], object]:
    client.set(key, value)
    return (lambda: client.get(key)) if command == "GET" else (lambda: client.set(key, value))


def _contestants(size: int) -> dict[str, Callable[[], object]]:
    ring = Keyring.generate(os.urandom(96))
    fernet = Fernet(Fernet.generate_key())
    sealer = Sealer(ring, entropy=os.urandom, clock=time.time)
    signer = Sealer(ring, entropy=os.urandom, clock=time.time, mode="sign")
    live = LiveSealer(ring)
    value, later = os.urandom(size), time.time() + 1e6
    return {
        "Fernet": lambda: fernet.decrypt(fernet.encrypt(value)),
        "sealed": lambda: sealer.open(sealer.seal(value, kind="kv", name=NAME), kind="kv", name=NAME),
        "sealed, expiry": lambda: sealer.open(
            sealer.seal(value, kind="kv", name=NAME, expires=later), kind="kv", name=NAME
        ),
        "sealed, follows keys": lambda: live.open(
            live.seal(value, kind="kv", name=NAME), kind="kv", name=NAME
        ),
        "member": lambda: sealer.open(
            sealer.seal_member(value, kind="set", name=NAME), kind="set", name=NAME
        ),
        "signed": lambda: signer.open(signer.seal(value, kind="kv", name=NAME), kind="kv", name=NAME),
    }
