"""One process that serves many customers over one small pool, each in a namespace of its own.

Run it with:  python examples/many_tenants.py [URL]
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import tenantkv


def main(url: str = "embedded://?profile=shared") -> None:
    kv = tenantkv.connect(url, registry=True, max_connections=4, decode_responses=True)

    def serve(number: int) -> str:
        customer = kv.child(f"customer-{number}")
        customer.set("greeting", f"hello from {number}")
        customer.rpush("orders", *range(number))
        return f"customer {number}: {customer.get('greeting')!r}, {customer.llen('orders')} orders"

    with ThreadPoolExecutor(max_workers=16) as threads:
        for line in threads.map(serve, range(1, 6)):
            print(line)

    leaving = kv.child("customer-3")
    leaving.flushdb()
    print(
        "customer 3 has left:",
        leaving.dbsize(),
        "keys; customer 4 still has",
        kv.child("customer-4").dbsize(),
    )


if __name__ == "__main__":
    main(*sys.argv[1:2])
