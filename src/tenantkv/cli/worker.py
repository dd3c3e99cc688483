"""``tenantkv worker``: run a queue's handler, in threads or tasks, until a signal says stop."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
import signal
import sys
from typing import Any

from tenantkv.cli import output
from tenantkv.errors import ConfigurationError
from tenantkv.queue import AsyncQueue, Queue
from tenantkv.queue.worker import AsyncWorker, Worker

_STOPS: tuple[int, ...] = (signal.SIGTERM, signal.SIGINT)

_EPILOG = """\
examples:
  tenantkv worker thumbs:queue                  thumbs.py has: queue = tenantkv.connect().queue("thumbs")
                                                and a function under @queue.handler
  tenantkv worker thumbs:queue -c 4             four messages at a time
  tenantkv worker thumbs:queue --drain          end when there is nothing more to receive

SIGTERM and SIGINT stop it gracefully: handlers under way are finished, nothing more is received. A second
one ends it at once; what was being handled goes to others after the visibility timeout. Messages are
delivered at least once, so a handler has to bear one that it has seen before. docs/queue.md has the rest.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``worker``."""
    parser.description = "Handle the messages of a queue."
    parser.epilog = _EPILOG
    parser.add_argument("queue", metavar="MODULE:QUEUE", help="where the queue is, such as thumbs:queue")
    parser.add_argument(
        "-c", "--concurrency", metavar="N", type=int, default=1, help="how many messages at the same time"
    )
    parser.add_argument(
        "-p",
        "--prefetch",
        metavar="N",
        type=int,
        help="how many messages to fetch at a time; by default 0.05 seconds of work, one to 20",
    )
    parser.add_argument("--drain", action="store_true", help="end when there is nothing more to receive")
    parser.add_argument("-v", "--verbose", action="store_true", help="log to standard error")


def run(arguments: argparse.Namespace) -> int:
    """Run ``worker``."""
    if arguments.verbose:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    queue = load_queue(arguments.queue)
    options = {name: getattr(arguments, name) for name in ("concurrency", "prefetch", "drain")}
    if isinstance(queue, AsyncQueue):
        tally = asyncio.run(_run_async(queue, options))
    else:
        tally = _run(queue, options)
    output.print_text(f"worker of queue {queue.name!r} stopped: {tally!r}")
    return 0


def load_queue(place: str) -> Queue | AsyncQueue:
    """Return the queue at ``module:name``; modules of the working directory count.

    Raises:
        ConfigurationError: there is no such module or name, or it is no queue.
    """
    module_name, _, attribute = place.partition(":")
    if not module_name or not attribute:
        raise ConfigurationError("say where the queue is as MODULE:QUEUE, such as thumbs:queue")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        if error.name != module_name.partition(".")[0] and error.name != module_name:
            raise
        raise ConfigurationError(f"there is no module {module_name!r} here") from None
    except AttributeError:
        raise ConfigurationError(f"module {module_name!r} has no {attribute!r}") from None
    if not isinstance(found, (Queue, AsyncQueue)):
        raise ConfigurationError(f"{place!r} is no queue but of type {type(found).__name__}")
    return found


def _run(queue: Queue, options: dict[str, Any]) -> object:
    worker = Worker(queue, **options)
    previous: dict[int, Any] = {}

    def stop(number: int, _frame: object) -> None:
        worker.stop()
        signal.signal(number, previous[number])

    for number in _STOPS:
        previous[number] = signal.signal(number, stop)
    try:
        worker.run()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return worker.tally


async def _run_async(queue: AsyncQueue, options: dict[str, Any]) -> object:
    worker = AsyncWorker(queue, **options)
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        worker.stop()
        loop.remove_signal_handler(number)

    for number in _STOPS:
        loop.add_signal_handler(number, stop, number)
    try:
        await worker.run()
    finally:
        await queue.client.aclose()
    return worker.tally
