"""A cache: values, tags, one computation for many callers, and a neighbour who meddles.

Run it with:  python examples/cache.py [URL]
"""

import sys
import threading

import redis

import tenantkv
from tenantkv.cache import Cache


def main(url: str = "embedded://?profile=shared") -> None:
    kv = tenantkv.connect(url)
    pages = Cache(kv, "pages", ttl=3600, negative=5)

    pages.set("front", {"title": "Hello"}, tags=["news"])
    print("get:", pages.get("front"))
    pages.invalidate_tag("news")
    print("after its tag was invalidated:", pages.get("front"))

    computed = []

    def report() -> str:
        computed.append(threading.current_thread().name)
        return "42 pages"

    threads = [threading.Thread(target=pages.get_or_compute, args=("report", report)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("eight threads, computed:", len(computed), "time(s):", pages.get("report"))

    @pages.cached(ttl=300, key="user:{uid}", tags=["user:{uid}"])
    def profile(uid: int) -> dict[str, int]:
        return {"id": uid}

    print("decorated:", profile(7), profile.cache_key(7))

    # What a neighbour could do, who knows the key: it is a miss, and it is counted.
    place = kv.connection_pool.connection_kwargs
    neighbour = redis.Redis(
        host=place.get("host", ""), port=place.get("port", 0), unix_socket_path=place.get("path")
    )
    neighbour.set(kv.namespace.wire_name(b"tkv:cache:{pages}v1:report"), "forged", ex=60)
    print("forged:", pages.get("report"), "tampered:", pages.stats.tampered)

    pages.clear()
    print("cleared:", pages.get_many(["report", "user:7"]))


if __name__ == "__main__":
    main(*sys.argv[1:2])
