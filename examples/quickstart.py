"""The first five minutes: strings, a pipeline, a script, a lock and pub/sub, in own names.

Run it with:  python examples/quickstart.py [URL]
"""

import sys

import tenantkv


def main(url: str = "embedded://?profile=shared") -> None:
    kv = tenantkv.connect(url, registry=True, decode_responses=True)

    kv.set("lastupdated", "now", ex=60)
    print("get:", kv.get("lastupdated"))

    with kv.pipeline() as pipe:
        pipe.incr("visits").expire("visits", 3600)
        print("pipeline:", pipe.execute())

    add = kv.register_script("return redis.call('INCRBY', 'total:' .. ARGV[1], ARGV[2])")
    print("script:", add(args=["today", 5]))

    with kv.lock("rebuild", lease=30) as lock:
        print("lock: held, with fencing number", lock.fence)

    with kv.pubsub() as subscriber:
        subscriber.subscribe("news")
        subscriber.get_message(timeout=1)
        kv.publish("news", "hello")
        message = subscriber.get_message(timeout=1)
        print("pub/sub:", message["channel"], message["data"])

    print("own keys:", sorted(kv.scan_iter()))
    try:
        kv.flushall()
    except tenantkv.RefusedError as error:
        print("refused:", error.command, "-", error.reason)


if __name__ == "__main__":
    main(*sys.argv[1:2])
