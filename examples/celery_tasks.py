"""Celery on a shared server.

A worker, in a terminal of its own::

    celery -A celery_tasks worker

Send a task, and wait for its result::

    python celery_tasks.py
"""

import sys

from celery import Celery

from tenantkv.contrib.celery import configure

app = Celery("reports")
# Broker, results and settings, by TENANTKV_URL and the keyring that `tenantkv init` made.
configure(app)


@app.task
def count_words(text: str) -> int:
    return len(text.split())


def main() -> int:
    # By name: what runs as a script is "__main__" here, and something else in the worker.
    result = app.send_task("celery_tasks.count_words", ["one two three"])
    print("words:", result.get(timeout=30))
    return 0


if __name__ == "__main__":
    sys.exit(main())
