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
    *("OurCacheDBSessionWithTimeZoneTests", "OurCacheTagTests", "OurCacheTests"),
)
# Part -> its words, how many pass at the least with Django 4.2, and whether all is sealed.
PARTS = {
    "sync": ([f"{_SUITE}.Base"], 50, False),
    "sync-sealed": ([f"{_SUITE}.Base"], 50, True),
    "async, a loop a call": ([f"{_SUITE}.Async"], 50, False),
    "async, one loop": ([f"{_SUITE}.AsyncLoop"], 48, False),
    "middleware, sessions, templates": ([f"{_SUITE}.{name}" for name in _REST], 180, False),
}


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


@pytest.fixture(scope="module")
def results(server: RealServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run all parts, and return what came of each."""
    obtain()
    django_redis.obtain()
    place = tmp_path_factory.mktemp("django")
    files = {name: place / f"{at}.json" for at, name in enumerate([*PARTS, "django-redis"])}
    running = {
        name: start(
            "tests.django_suite.run", server.url, files[name], words, **({"SUITE_SEAL": "1"} if seal else {})
        )
        for name, (words, _, seal) in PARTS.items()
    }
    running["django-redis"] = start("tests.django_suite.django_redis", server.url, files["django-redis"], [])
    found: dict[str, Any] = {}
    for name, process in running.items():
        try:
            output, _ = process.communicate(timeout=110)
        finally:
            process.kill()
        assert files[name].exists(), output[-4000:]
        found[name] = json.loads(files[name].read_text())
    return found


@pytest.mark.parametrize("part", PARTS)
def test_djangos_own_tests_pass(part: str, results: dict[str, Any]) -> None:
    found = results[part]
    assert found["failed"] == {}
    assert len(found["passed"]) >= PARTS[part][1]
    unexplained = [
        name for name in found["skipped"] if not any(fnmatch(name, pattern) for pattern in EXEMPTIONS)
    ]
    assert unexplained == []


def test_django_redis_own_tests_pass(results: dict[str, Any]) -> None:
    outcomes = {name.rpartition("::")[2]: outcome for name, outcome in results["django-redis"].items()}
    failed = {name for name, outcome in outcomes.items() if outcome == "failed"}
    assert failed - django_redis.EXEMPTIONS.keys() == set()
    # An exemption that is not needed any more has to go.
    assert django_redis.EXEMPTIONS.keys() - failed <= set(django_redis.LOCKS)
    assert len(outcomes) - len(failed) >= 145
