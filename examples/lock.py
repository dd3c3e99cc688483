"""Locks that last, writes that are fenced, places that are counted: what a nightly job and its helpers need.

Run it with:  python examples/lock.py [URL]
"""

import sqlite3
import sys
import threading
import time

import tenantkv


def main(url: str = "embedded://?profile=shared") -> None:
    kv = tenantkv.connect(url)
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.execute("CREATE TABLE report (text TEXT, fence INTEGER NOT NULL)")
    database.execute("INSERT INTO report VALUES ('', 0)")

    def store(text: str, fence: int) -> bool:
        """Write, unless somebody with a later lease has written already."""
        with database:
            changed = database.execute(
                "UPDATE report SET text = ?, fence = ? WHERE fence < ?", (text, fence, fence)
            )
        return changed.rowcount == 1

    # One at a time, on all machines. The lease is renewed until the block ends.
    with kv.lock("rebuild", lease=30, wait=10) as lock:
        late = lock.fence
        lock.check()  # raises if the lease was lost: no round trip, so it may stand in every loop

    # Who held the lock before and comes late is turned away by the database.
    with kv.lock("rebuild", lease=30) as lock:
        print("stored:", store("tonight's", lock.fence))
        print("stored late:", store("yesterday's", late))

    # At most two at a time.
    places = kv.semaphore("api", 2, lease=30)
    most, inside, mutex = 0, 0, threading.Lock()

    def call() -> None:
        nonlocal most, inside
        with places:
            with mutex:
                inside += 1
                most = max(most, inside)
            time.sleep(0.01)
            with mutex:
                inside -= 1

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("at a time:", most)

    # At most three in any minute, for each address.
    limit = kv.rate_limit("login", 3, per=60)
    print("logins:", [bool(limit.hit("192.0.2.7")) for _ in range(4)])


if __name__ == "__main__":
    main(*sys.argv[1:2])
