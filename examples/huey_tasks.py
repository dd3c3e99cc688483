"""Huey on a shared server.

The consumer, in a terminal of its own::

    huey_consumer huey_tasks.huey -w 2

Enqueue, and wait for the result::

    python huey_tasks.py
"""

import huey as huey_library

import tenantkv

# Huey makes its own client, so it gets a pool. It may hold a connection for each worker, the scheduler
# and the signal handlers.
huey = huey_library.RedisHuey("reports", connection_pool=tenantkv.connection_pool(max_connections=8))


@huey.task(retries=1, retry_delay=0)
def count_words(text: str) -> int:
    return len(text.split())


@huey.task(retries=1, retry_delay=0)
def fail_once(name: str) -> str:
    if huey.storage.conn.incr(f"tries:{name}") == 1:
        raise ValueError("the first time always fails")
    return "second time"


if __name__ == "__main__":
    # As the consumer knows the module; tasks of "__main__" would have another name.
    from huey_tasks import count_words as task

    print(task("one two three")(blocking=True, timeout=20))
