"""What sealing a value costs, next to Fernet: seal and open again, in one process and interleaved."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from cryptography.fernet import Fernet

from benchmarks.timing import Measured, interleave
from tenantkv.envelope import Sealer
from tenantkv.keyring import Keyring
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
    return rows


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
