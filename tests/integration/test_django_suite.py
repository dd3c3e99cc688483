"""Django's own tests and django-redis's, against `TenantCache` on a server with the shared profile.

They wait a lot, for time-outs to end, so all parts run at the same time, each as a tenant of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from tenantkv import Keyring
from tests.django_suite import django_redis
from tests.django_suite.exemptions import EXEMPTIONS
from tests.django_suite.sources import obtain
from tests.servers import RealServer, start_server

ROOT = Path(__file__).resolve().parents[2]
_SUITE = "tests.django_suite.suite"
_REST = (
    *("OurCacheUtils", "OurPrefixedCacheUtils", "OurCacheHEADTest", "OurCacheI18nTest"),
    *("OurPrefixedCacheI18nTest", "OurCacheMiddlewareTest", "OurTestWithTemplateResponse"),
    *("OurCacheHandlerTest", "OurCacheSessionTests", "OurCacheDBSessionTests"),
    *("OurCacheDBSessionWithTimeZoneTests", "OurCacheTagTests", "OurCacheTests", "OurEngineTests"),
)
# Part -> its words, how many pass at the least with Django 4.2, and whether all is sealed.
PARTS = {
    "sync": ([f"{_SUITE}.Base"], 50, False),
    "sync-sealed": ([f"{_SUITE}.Base"], 50, True),
    "async, a loop a call": ([f"{_SUITE}.Async"], 50, False),
    "async, one loop": ([f"{_SUITE}.AsyncLoop"], 48, False),
    "middleware, sessions, templates": ([f"{_SUITE}.{name}" for name in _REST], 180, False),
}
SLOW = ["sync-sealed", "async, a loop a call"]
QUICK = [name for name in PARTS if name not in SLOW]

# They wait for time-outs of a second or two, a few dozen times.
pytestmark = pytest.mark.timeout(300)


def start(module: str, url: str, result: Path, words: list[str], **variables: str) -> subprocess.Popen[str]:
    ours = ("TENANTKV_SECRET", "TENANTKV_URL", "TENANTKV_KEYRING", "DJANGO_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    environment |= {
        "TENANTKV_SECRET_KEYRING": Keyring.generate(os.urandom(96)).dump(compact=True),
        **variables,
    }
    environment["PYTHONPATH"] = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", module, url, str(result), *words],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    server = start_server("shared")
    yield server
    server.stop()


def run(parts: list[str], url: str, place: Path, *, with_django_redis: bool = False) -> dict[str, Any]:
    """Run parts at the same time, and return what came of each."""
    obtain()
    running = {}
    for name in parts:
        words, _, is_sealed = PARTS[name]
        sealed = {"SUITE_SEAL": "1"} if is_sealed else {}
        running[name] = start("tests.django_suite.run", url, place / f"{len(running)}.json", words, **sealed)
    if with_django_redis:
        django_redis.obtain()
        result = place / f"{len(running)}.json"
        running["django-redis"] = start("tests.django_suite.django_redis", url, result, [])
    found: dict[str, Any] = {}
    for at, (name, process) in enumerate(running.items()):
        try:
            output, _ = process.communicate(timeout=280)
        finally:
            process.kill()
        assert (place / f"{at}.json").exists(), output[-4000:]
        found[name] = json.loads((place / f"{at}.json").read_text())
    return found


@pytest.fixture(scope="module")
def results(server: RealServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(QUICK, server.url, tmp_path_factory.mktemp("django"), with_django_redis=True)


@pytest.fixture(scope="module")
def slow_results(server: RealServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(SLOW, server.url, tmp_path_factory.mktemp("django"))


def check(part: str, found: dict[str, Any]) -> None:
    assert found["failed"] == {}
    assert len(found["passed"]) >= PARTS[part][1]
    unexplained = [
        name for name in found["skipped"] if not any(fnmatch(name, pattern) for pattern in EXEMPTIONS)
    ]
    assert unexplained == []


@pytest.mark.parametrize("part", QUICK)
def test_djangos_own_tests_pass(part: str, results: dict[str, Any]) -> None:
    check(part, results[part])


@pytest.mark.slow
@pytest.mark.parametrize("part", SLOW)
def test_djangos_own_tests_pass_in_other_ways(part: str, slow_results: dict[str, Any]) -> None:
    check(part, slow_results[part])


def test_django_redis_own_tests_pass(results: dict[str, Any]) -> None:
    outcomes = {name.rpartition("::")[2]: outcome for name, outcome in results["django-redis"].items()}
    failed = {name for name, outcome in outcomes.items() if outcome == "failed"}
    assert failed - django_redis.EXEMPTIONS.keys() == set()
    # An exemption that is not needed any more has to go.
    assert django_redis.EXEMPTIONS.keys() - failed <= set(django_redis.LOCKS)
    assert len(outcomes) - len(failed) >= 145
