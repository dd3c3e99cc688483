"""RQ on a shared server.

Workers, in a terminal of their own (tenantkv finds the keyring and fills in the connection)::

    rq worker --connection-class tenantkv.TenantRedis --url "$TENANTKV_URL" --with-scheduler reports

Enqueue, and wait for the result::

    python rq_jobs.py
"""

import sys
import time

import rq

import tenantkv


def count_words(text: str) -> int:
    return len(text.split())


def fail(reason: str) -> None:
    raise ValueError(reason)


def main() -> int:
    kv = tenantkv.connect()
    queue = rq.Queue("reports", connection=kv)
    # By name: what runs as a script is "__main__" here, and something else in the worker.
    job = queue.enqueue("rq_jobs.count_words", "one two three")
    while not job.is_finished and not job.is_failed:
        time.sleep(0.1)
    print(job.get_status(), job.return_value())
    return 0


if __name__ == "__main__":
    sys.exit(main())
