"""Locks, read/write locks and semaphores: leases that are renewed, fenced and woken.

::

    locks.py           Lock, AsyncLock; state.py: what both have in common, whose lease is meant
    read_write.py      ReadWriteLock, AsyncReadWriteLock: pairs of locks
    semaphore.py       Semaphore, AsyncSemaphore
    lease.py           Lease, AsyncLease: what one holds, and how it ends
    taking.py          how a client takes one
    keeper.py          what renews them in the background

`tenantkv.ops.lock` has what happens on the server.
"""

from tenantkv.lock.lease import AsyncLease, Lease, LeaseLostError
from tenantkv.lock.locks import AsyncLock, Lock
from tenantkv.lock.read_write import AsyncReadWriteLock, ReadWriteLock
from tenantkv.lock.semaphore import AsyncSemaphore, Semaphore

__all__ = [
    "AsyncLease",
    "AsyncLock",
    "AsyncReadWriteLock",
    "AsyncSemaphore",
    "Lease",
    "LeaseLostError",
    "Lock",
    "ReadWriteLock",
    "Semaphore",
]
