"""The libraries below: limits for rate limits, in threads and in asyncio, and cachelib for a cache.

Run it with:  python examples/limits_cachelib.py [URL]
"""

import asyncio
import sys

import limits
import limits.aio.strategies
import limits.strategies

import tenantkv.contrib.limits  # makes tenantkv:// known
from tenantkv.contrib.cachelib import TenantCache

PER_MINUTE = limits.parse("3/minute")


async def count(url: str) -> list[bool]:
    storage = tenantkv.contrib.limits.AsyncTenantStorage(f"async+tenantkv+{url}")
    limiter = limits.aio.strategies.MovingWindowRateLimiter(storage)
    return [await limiter.hit(PER_MINUTE, "ada") for _ in range(2)]


def main(url: str = "embedded://?profile=shared") -> None:
    cache = TenantCache(url=url, name="reports", default_timeout=60)
    cache.set("front", {"seen": (1, 2)})
    print("cached:", cache.get("front"), "counted:", cache.inc("hits", 2))
    cache.clear()
    print("cleared:", cache.get_dict("front", "hits"))

    storage = limits.storage.storage_from_string(f"tenantkv+{url}")
    storage.reset()
    limiter = limits.strategies.MovingWindowRateLimiter(storage)
    print("in threads:", [limiter.hit(PER_MINUTE, "ada") for _ in range(2)])
    print("in asyncio:", asyncio.run(count(url)))


if __name__ == "__main__":
    main(*sys.argv[1:2])
