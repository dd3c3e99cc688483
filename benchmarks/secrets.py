"""What the plaintext-secret detector costs a write, beside what the program does anyway.

The first contestant of every row is ``json.dumps`` of a value of that size. "Dense" JSON is full of ids,
addresses and names that sound like a secret's.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import partial

from benchmarks.timing import Measured, interleave
from tenantkv.secrets import Detector
from tests import corpus

OWN = (b"P" * 44, b"N" * 44, b"K" * 44)

# Repeated to 64 KB: what makes the detector look closest.
ADVERSARIAL = {
    "names": b'"api_key":"x_y_z",',
    "names without end": b"password:",
    "runs": b"dp.pt.aaaaaaaaaaaaaaaaaaaa",
    "urls": b"://a:b@",
    "half a token": b"eyJ" + b"a" * 17 + b".",
    "dollars": b"$6$a$aaa ",
}


def run(*, rounds: int = 25, quick: bool = False, only: str = "") -> list[Measured]:
    """Measure ordinary values by size, and 64 KB of the worst."""
    detector = Detector(own=OWN)
    rows: list[Measured] = []
    for work, value in _values().items():
        if only not in work:
            continue
        text = value.decode("latin-1")
        contestants: dict[str, Callable[[], object]] = {
            "json.dumps": partial(json.dumps, [text]),
            "detector": partial(detector.find, value, name=b"user:17:profile"),
        }
        repeats = max(1, 400_000 // (len(value) + 400)) // (10 if quick else 1) or 1
        rows += interleave(work, contestants, repeats=repeats, rounds=rounds)
    return rows


def _values() -> dict[str, bytes]:
    rng = random.Random(3)
    records = json.dumps([_record(rng, number) for number in range(500)]).encode()
    dense = json.dumps([corpus.record(rng) for _ in range(200)]).encode()
    prose = " ".join(rng.choices(corpus.WORDS[:96], k=14_000)).encode()
    values = {"integer": b"12345678", "sha1": b"0a1b2c3d4e" * 4}
    for size in (200, 1000, 10_000, 65_536):
        values[f"json {size} B"] = records[:size]
        values[f"text {size} B"] = prose[:size]
        values[f"dense json {size} B"] = dense[:size]
        values[f"random {size} B"] = rng.randbytes(size)
    for name, piece in ADVERSARIAL.items():
        values[f"64 KB of {name}"] = (piece * (65_536 // len(piece) + 1))[:65_536]
    return values


def _record(rng: random.Random, number: int) -> dict[str, object]:
    """Return a record without ids and tokens; those of the corpus are dense with both."""
    return {
        "id": number,
        "name": rng.choice(corpus.WORDS),
        "text": " ".join(rng.choices(corpus.WORDS[:96], k=12)),
        "url": f"https://example.test/{rng.choice(corpus.WORDS)}/{number}",
        "created": "2026-01-01T00:00:00Z",
        "score": round(rng.random(), 3),
    }
