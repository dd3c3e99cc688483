"""A queue from both ends: send, receive, fail and try again, ask for a result, look at what died.

Run it with:  python examples/queue_thumbs.py [URL]
"""

import sys

import tenantkv
from tenantkv.queue import Outgoing
from tenantkv.queue.worker import Reject, Worker


def main(url: str = "embedded://?profile=shared") -> None:
    queue = tenantkv.connect(url).queue("thumbs", retry_delay=0.01, max_deliveries=3)

    queue.send({"page": 7})
    with queue.receive(wait=5) as message:
        print("received:", message.value)

    queue.send_many([Outgoing({"page": n}, priority=9 if n == 3 else 1) for n in range(4)])
    queue.send({"page": -1})
    asked = queue.send({"page": 100}, reply=True, delay=0.05)

    @queue.handler
    def make_thumbnail(message):
        if message.value["page"] < 0:
            raise Reject("no_such_page")
        return f"thumbnail of page {message.value['page']}"

    worker = Worker(queue, drain=True)
    worker.run()
    print("worker:", worker.tally)

    # A command line would do the same: tenantkv worker module:queue -c 4
    message = queue.receive(wait=5)
    message.reply(make_thumbnail(message))
    print("result:", asked.result(timeout=5))

    for dead in queue.peek("dead"):
        print("dead letter:", dead.value, dead.why)
    print("redriven:", queue.redrive(), "purged:", queue.purge())


if __name__ == "__main__":
    main(*sys.argv[1:])
