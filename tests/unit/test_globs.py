"""Our reading of glob patterns against a real server's `KEYS`."""

from __future__ import annotations

import platform
import time

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenantkv.commands.globs import glob_regex
from tests.servers import RealServer

# A server's ranges over bytes above 127 depend on its processor's C: characters have a sign on x86.
ALPHABET = b"abc*?[]^-\\\n\x00" + (b"\xff" if platform.machine() in ("x86_64", "AMD64", "i686") else b"")
PIECES = st.sampled_from([bytes([byte]) for byte in ALPHABET])
TEXTS = st.lists(PIECES, max_size=7).map(b"".join)
# Mostly brackets, which is where implementations differ.
CLASSES = st.lists(st.sampled_from([b"a", b"b", b"c", b"-", b"^", b"]", b"\\", b"*"]), max_size=6).map(
    lambda parts: b"[" + b"".join(parts)
)
PATTERNS = TEXTS | CLASSES | st.tuples(TEXTS, CLASSES, TEXTS).map(b"".join)

WRITTEN = [
    (b"*", [b"", b"a", b"a\nb", b"*"], []),
    (b"", [b""], [b"a"]),
    (b"a?c", [b"abc", b"a?c", b"a\nc"], [b"ac", b"abbc"]),
    (b"[abc]", [b"a", b"c"], [b"d", b"", b"ab"]),
    (b"[a-c]", [b"a", b"b"], [b"-", b"d"]),
    (b"[c-a]", [b"a", b"b"], [b"-", b"d"]),
    (b"[^a]", [b"b", b"^"], [b"a", b""]),
    (b"[a^]", [b"a", b"^"], [b"b"]),
    (b"[a-]", [b"a", b"]", b"^"], [b"b", b"-"]),
    (b"[\\]]", [b"]"], [b"\\"]),
    (b"[a", [b"a"], [b"[a"]),
    (b"\\*", [b"*"], [b"a", b"\\*"]),
    (b"a\\", [b"a\\"], [b"a"]),
    (b"h**llo", [b"hllo", b"heello"], [b"hell"]),
]


@pytest.mark.parametrize(("pattern", "yes", "no"), WRITTEN)
def test_written_cases(pattern: bytes, yes: list[bytes], no: list[bytes], any_server: RealServer) -> None:
    regex = glob_regex(pattern)
    assert [bool(regex.fullmatch(name)) for name in yes + no] == [True] * len(yes) + [False] * len(no)
    client = any_server.operator()
    client.mset(dict.fromkeys(yes + no, "v"))
    assert sorted(client.keys(pattern)) == sorted(yes)


@settings(
    max_examples=600,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(pattern=PATTERNS, names=st.lists(TEXTS, min_size=1, max_size=12))
def test_matches_what_the_server_matches(any_server: RealServer, pattern: bytes, names: list[bytes]) -> None:
    client: redis.Redis = any_server.operator()
    client.flushall()
    # Names that are likely to match: the pattern itself, and what its brackets hold.
    names = [*names, pattern, pattern.replace(b"[", b"")[:1], b"a", b"b", b"]", b"^", b"-", b"\\"]
    client.mset(dict.fromkeys(names, "v"))
    regex = glob_regex(pattern)
    assert {name for name in names if regex.fullmatch(name)} == set(client.keys(pattern))


def test_many_stars_take_no_time() -> None:
    pattern = glob_regex(b"*" * 200 + b"a*" * 12 + b"b")
    start = time.process_time()
    assert pattern.fullmatch(b"a" * 60) is None
    assert time.process_time() - start < 20
