"""A pytest plugin: in the process that loads it, ``redis://`` means our transport and result backend.

Many of Celery's tests skip themselves unless the URL begins with ``redis``. In channels_redis's tests the
layers are ours. What came of each test is written to ``SUITE_RESULT``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

outcomes: dict[str, str] = {}


def swap_celery() -> None:
    """Make ours what ``redis://`` leads to."""
    from celery.app.backends import BACKEND_ALIASES
    from kombu.transport import TRANSPORT_ALIASES

    from tenantkv.contrib.celery.register import TRANSPORT

    TRANSPORT_ALIASES["redis"] = TRANSPORT
    BACKEND_ALIASES["redis"] = "tenantkv.contrib.celery.backend:Backend"


def swap_channels() -> None:
    """Make channels_redis's classes ours, which take a URL instead of hosts."""
    import channels_redis.core
    import channels_redis.pubsub

    from tenantkv.contrib.channels import TenantChannelLayer, TenantPubSubChannelLayer

    class Layer(TenantChannelLayer):
        def __init__(self, hosts: object = None, **options: Any) -> None:
            super().__init__(os.environ["SUITE_URL"], **options)

    class PubSubLayer(TenantPubSubChannelLayer):
        def __init__(self, hosts: object = None, **options: Any) -> None:
            super().__init__(os.environ["SUITE_URL"], **options)

    channels_redis.core.RedisChannelLayer = Layer
    channels_redis.pubsub.RedisPubSubChannelLayer = PubSubLayer


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Any:
    """Let kombu's tests look at keys with the tenant's client instead of a raw one."""
    if os.environ["SUITE"] != "kombu" or fixturedef.argname != "redis_client":
        return None
    import tenantkv

    namespace = request.getfixturevalue("connection").transport.server.namespace
    client = tenantkv.connect(os.environ["SUITE_URL"], namespace=namespace, decode_responses=True)
    fixturedef.cached_result = (client, fixturedef.cache_key(request), None)  # type: ignore[arg-type]
    return client


def pytest_configure() -> None:
    (swap_channels if os.environ["SUITE"] == "channels-redis" else swap_celery)()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    name = report.nodeid.partition("/")[2].removeprefix("integration/")
    if hasattr(report, "wasxfail"):
        outcomes[name] = "expected to fail"
    elif report.outcome != "passed":
        outcomes[name] = f"{report.outcome}: {_line(report)}"
    elif report.when == "call":
        outcomes.setdefault(name, "passed")


def _line(report: pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.strip().splitlines()[-1][:200] if text.strip() else ""


def pytest_sessionfinish() -> None:
    Path(os.environ["SUITE_RESULT"]).write_text(json.dumps(outcomes))
