"""Steps and who takes them: what a method does is written once, as a generator, for both worlds.

A step is an operation to run on the server, or whatever else ``run`` takes, `COMPUTE` for calling the
caller's function, or a `Wait`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

from tenantkv.cache.flights import Flight
from tenantkv.ops.effects import Operation

Result = TypeVar("Result")


class Compute:
    """The step of calling what the caller gave. Sent back: its result."""


COMPUTE = Compute()


class Wait:
    """The step of waiting until another thread or task has landed a flight."""

    __slots__ = ("flight",)

    def __init__(self, flight: Flight) -> None:
        self.flight = flight


Step = Operation[Any] | Compute | Wait
Steps = Generator[Step, Any, Result]


def drive(
    steps: Steps[Result], run: Callable[[Any], Any], compute: Callable[[], Any] | None = None
) -> Result:
    """Take steps one after the other, in a thread."""
    try:
        step = next(steps)
        while True:
            try:
                if isinstance(step, Compute):
                    assert compute is not None
                    outcome = compute()
                elif isinstance(step, Wait):
                    outcome = step.flight.event.wait()
                else:
                    outcome = run(step)
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(outcome)
    except StopIteration as stop:
        result: Result = stop.value
        return result


async def adrive(
    steps: Steps[Result],
    run: Callable[[Any], Awaitable[Any]],
    compute: Callable[[], Awaitable[Any]] | None = None,
) -> Result:
    """Take steps one after the other, in a task."""
    try:
        step = next(steps)
        while True:
            try:
                if isinstance(step, Compute):
                    assert compute is not None
                    outcome = await compute()
                elif isinstance(step, Wait):
                    outcome = await step.flight.event.wait()
                else:
                    outcome = await run(step)
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(outcome)
    except StopIteration as stop:
        result: Result = stop.value
        return result
