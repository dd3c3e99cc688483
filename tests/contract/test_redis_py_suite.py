"""redis-py's own tests run unchanged through our client; see `tests/redis_py_suite`.

By default a good part of them, once each over RESP2 and RESP3, sync and asyncio; everything with
``--redis-py-suite=full`` or ``TENANTKV_FULL_SUITE=1``.
"""

from __future__ import annotations

import os

import pytest

from tests.redis_py_suite.exemptions import EXEMPTIONS, excuse, short
from tests.redis_py_suite.run import Verdict, compare_all, full_jobs, quick_jobs, report, unneeded


@pytest.fixture(scope="module")
def verdicts(request: pytest.FixtureRequest) -> list[Verdict]:
    full = request.config.getoption("--redis-py-suite", "quick") == "full"
    jobs = full_jobs() if full or os.environ.get("TENANTKV_FULL_SUITE") == "1" else quick_jobs()
    found = compare_all(jobs)
    print(report(found))
    return found


@pytest.mark.timeout(3600)
def test_what_passes_with_redis_py_passes_with_ours(verdicts):
    assert [verdict.regressions for verdict in verdicts if verdict.regressions] == []
    # A comparison that ran nothing finds nothing.
    assert all(len(verdict.ours.named("passed")) > 300 for verdict in verdicts)


@pytest.mark.timeout(3600)
def test_no_key_outside_of_the_namespace(verdicts):
    assert [verdict.strays for verdict in verdicts if verdict.strays] == []


@pytest.mark.timeout(3600)
def test_every_exemption_is_needed(verdicts):
    assert unneeded(verdicts) == []


def test_an_exemption_excuses_only_what_it_says():
    test = "tests/test_asyncio/test_commands.py::TestRedisCommands::test_config_set[pool]"
    assert short(test) == "test_commands.py::test_config_set"
    assert excuse(test, "ForbiddenCommandResponse: CONFIG SET refused: ...", "direct")
    assert excuse(test, "AssertionError: assert False", "direct") is None
    assert all(exemption.reason for exemption in EXEMPTIONS)
