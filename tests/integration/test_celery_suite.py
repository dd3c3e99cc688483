"""The integration tests of Celery and kombu, and channels_redis's own tests, against our plug-ins.

Which cannot pass, and why, stands in `tests.celery_suite.exemptions`. Celery's take half an hour,
so that only a few of them run by default; kombu's take a minute, and none does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

import pytest

from tenantkv import Keyring
from tests.celery_suite.exemptions import CELERY, CHANNELS, FILES, KOMBU
from tests.celery_suite.sources import obtain
from tests.servers import start_tcp

ROOT = Path(__file__).resolve().parents[2]


def run(name, result, *words):
    """Run tests of a distribution in a process of their own, and return what came of each."""
    home = obtain(name)
    # Open, since the tests themselves look around on it; what the plug-ins send is the same.
    server = start_tcp()
    ours = ("TENANTKV_", "TOOL_", "REDIS_", "TEST_")
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(ours)},
        "SUITE": name,
        "SUITE_URL": server.tcp_url,
        "SUITE_RESULT": str(result),
        "TEST_BROKER": server.tcp_url,
        "TEST_BACKEND": server.tcp_url,
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(server.port),
        "REDIS_6379_TCP": str(server.port),
        "TENANTKV_SECRET_KEYRING": Keyring.generate(os.urandom(96)).dump(compact=True),
        # Some start a program 'celery'.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT), str(home)]),
    }
    plugins = ["-p", "no:cacheprovider", "-p", "no:xdist", "-p", "tests.celery_suite.plugin"]
    if name == "celery":
        plugins += ["-p", "celery.contrib.pytest"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "--tb=short", *plugins, *words],
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    finally:
        server.stop()
    assert result.exists(), done.stdout[-4000:] + done.stderr[-2000:]
    return json.loads(result.read_text()), done.stdout


def check(outcomes, output, exemptions, least):
    failed = {name for name, outcome in outcomes.items() if outcome.startswith("failed")}
    unexplained = {name for name in failed if not any(fnmatch(name, each) for each in exemptions)}
    assert unexplained == set(), output[-8000:]
    skipped = [outcome for outcome in outcomes.values() if outcome.startswith("skipped")]
    # They skip themselves where the URL is not Redis's, and then nothing would have been tested.
    assert not any("edis" in outcome for outcome in skipped), skipped
    assert sum(outcome == "passed" for outcome in outcomes.values()) >= least


# Their modules of tasks import it.
needs_pydantic = pytest.mark.skipif(find_spec("pydantic") is None, reason="pydantic is not installed")
needs_channels_redis = pytest.mark.skipif(
    find_spec("channels_redis") is None or find_spec("async_timeout") is None,
    reason="channels_redis, or async_timeout, which its tests import, is not installed",
)


@needs_pydantic
@pytest.mark.timeout(300)
def test_some_of_celerys_tests(tmp_path):
    files = ("t/integration/test_inspect.py", "t/integration/test_redis_backend.py")
    some = "ping or churn or reentrant or concurrent or chord_expires"
    outcomes, output = run("celery", tmp_path / "result.json", *files, "-k", some)
    check(outcomes, output, CELERY, 5)


@needs_pydantic
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_of_celerys_tests(tmp_path):
    ignored = [f"--ignore=t/integration/{name}" for name in FILES]
    outcomes, output = run("celery", tmp_path / "result.json", "t/integration", *ignored)
    check(outcomes, output, CELERY, 250)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_of_kombus_tests(tmp_path):
    files = ("t/integration/test_redis.py", "t/integration/test_redis_brpop_qos.py")
    outcomes, output = run("kombu", tmp_path / "result.json", *files)
    check(outcomes, output, KOMBU, 95)


@needs_channels_redis
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("some", "least"),
    [("receive or groups_basic or bad", 12), pytest.param("not performance", 30, marks=pytest.mark.slow)],
    ids=["some", "all"],
)
def test_channels_redis_own_tests(tmp_path, some, least):
    words = ("tests/test_core.py", "tests/test_pubsub.py", "-k", some)
    outcomes, output = run("channels-redis", tmp_path / "result.json", *words)
    check(outcomes, output, CHANNELS, least)
