"""What the workers of `test_celery*.py` run; it finds its tenant in the environment."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

import tenantkv
from tenantkv.contrib.celery import configure, counters

app = Celery("tool")
configure(app, **json.loads(os.environ.get("TOOL_OPTIONS", "{}")))

if "TOOL_RESULT_PATIENCE" in os.environ:
    app.conf.redis_socket_timeout = float(os.environ["TOOL_RESULT_PATIENCE"])
app.conf.beat_schedule = {"tick": {"task": "celery_tool.count", "schedule": 0.5, "args": ["tick"]}}

# Not through the proxy that a test may have put in front of the broker.
kv = tenantkv.connect(os.environ["TOOL_KV_URL"])


@app.task(bind=True)
def who(self: Any, token: str = "") -> list[str]:
    """Say whose worker this is, and count the runs of `token`."""
    if token:
        kv.incr(f"ran:{token}")
    return [os.environ.get("TOOL_NAME", ""), token]


@app.task(acks_late=True, ignore_result=True)
def count(token: str) -> None:
    """Count the runs of `token`; a worker that dies meanwhile has not done it."""
    kv.incr(f"ran:{token}")


@app.task
def add(left: int, right: int) -> int:
    return left + right


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(bind=True, max_retries=3)
def third_time(self: Any) -> int:
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return int(self.request.retries)


@app.task
def fail(secret: str) -> None:
    raise ValueError(f"with {secret}")


@app.task(bind=True, acks_late=True)
def hold(self: Any, token: str, seconds: float) -> bool:
    """Take some time; say whether the message had been delivered before."""
    kv.incr(f"began:{token}")
    time.sleep(seconds)
    kv.incr(f"ran:{token}")
    return bool((self.request.delivery_info or {}).get("redelivered"))


@app.task
def counted() -> dict[str, int]:
    """Return what this process dropped; with the solo pool it is the one that receives."""
    return counters()


@app.task
def patient(token: str, seconds: float) -> str:
    """Take some time, or say that it was too much."""
    kv.incr(f"began:{token}")
    try:
        time.sleep(seconds)
    except SoftTimeLimitExceeded:
        return "too long"
    return "in time"


@app.task(acks_late=True, reject_on_worker_lost=True)
def mortal(token: str) -> int:
    """Take the process along at the first run."""
    runs = int(kv.incr(f"ran:{token}"))
    if runs == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return runs


@app.task(ignore_result=True)
def line_up(token: str) -> None:
    """Note the order in which tasks run."""
    kv.rpush("order", token)
