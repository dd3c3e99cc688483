"""A cache for a server that evicts, restarts and has other tenants: `Cache` and `AsyncCache`.

::

    sync.py, aio.py        the public classes, thin
    shared.py              how they are made
    steps.py               what their methods do; computing.py: get_or_compute; driving.py drives both
    core.py                settings at work on keys, values and results
    wire.py, aio_wire.py   the way to the server; breaker.py, owed.py: while it is away
    near.py                the copy in this process; listener.py, aio_listener.py keep it true
    values.py              codecs; settings.py, sentinels.py, stats.py, flights.py, memo.py

`tenantkv.ops.cache` has what happens on the server.
"""

from tenantkv.cache.aio import AsyncCache
from tenantkv.cache.sentinels import FOREVER, MISS, Miss
from tenantkv.cache.settings import CacheSettings, Near
from tenantkv.cache.stats import CacheStats
from tenantkv.cache.sync import Cache

__all__ = ["FOREVER", "MISS", "AsyncCache", "Cache", "CacheSettings", "CacheStats", "Miss", "Near"]
