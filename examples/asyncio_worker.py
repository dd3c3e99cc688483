"""asyncio: a producer and a consumer on a stream, and a blocking pop longer than the socket's time-out.

Run it with:  python examples/asyncio_worker.py [URL]
"""

import asyncio
import sys

import tenantkv


async def main(url: str = "embedded://?profile=shared") -> None:
    akv = tenantkv.asyncio.connect(url, decode_responses=True, socket_timeout=0.5)
    await akv.xgroup_create("events", "workers", mkstream=True)

    async def produce() -> None:
        for number in range(3):
            await akv.xadd("events", {"number": number})
        await asyncio.sleep(1)
        await akv.lpush("done", "all")

    async def consume() -> None:
        batches = await akv.xreadgroup("workers", "me", {"events": ">"}, count=10, block=2000)
        pairs = batches.items() if isinstance(batches, dict) else batches
        for stream, entries in pairs:
            print("stream:", stream, len(entries) > 0)
        print("popped:", list(await akv.brpop(["done"], timeout=5)))

    await asyncio.gather(produce(), consume())
    await akv.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:2]))
