"""Interleaved timing: rounds in which every contestant runs the same work, and the median of ratios.

Machines drift by more than what is measured here, so no absolute time is compared across rounds: each
round gives one ratio, and the figure is the median of these.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """One row: what was run, by whom, and how it compares with the first contestant.

    Attributes:
        work: what was done.
        contestant: who did it.
        wall_us: median microseconds of wall time an operation.
        cpu_us: median microseconds of this process's CPU time an operation.
        wall_ratio: median of the rounds' wall ratios to the first contestant.
        cpu_ratio: the same for CPU time.
    """

    work: str
    contestant: str
    wall_us: float
    cpu_us: float
    wall_ratio: float
    cpu_ratio: float


def interleave(
    work: str, contestants: dict[str, Callable[[], object]], *, repeats: int, rounds: int
) -> list[Measured]:
    """Time each contestant `repeats` times in each of `rounds` rounds."""

    def once(function: Callable[[], object]) -> tuple[float, float]:
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(repeats):
            function()
        return time.perf_counter() - wall, time.process_time() - cpu

    for function in contestants.values():
        for _ in range(max(3, repeats // 10)):
            function()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for number in range(rounds):
        # Who goes first changes, as the first pays for what the machine did before.
        order = list(contestants.items())
        for name, function in order if number % 2 else reversed(order):
            times[name].append(once(function))
    return _rows(work, times, repeats)


async def interleave_async(
    work: str, contestants: dict[str, Callable[[], Awaitable[object]]], *, repeats: int, rounds: int
) -> list[Measured]:
    """Time coroutines in the same way, one after the other on the running loop."""

    async def once(function: Callable[[], Awaitable[object]]) -> tuple[float, float]:
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(repeats):
            await function()
        return time.perf_counter() - wall, time.process_time() - cpu

    for function in contestants.values():
        for _ in range(max(3, repeats // 10)):
            await function()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for number in range(rounds):
        order = list(contestants.items())
        for name, function in order if number % 2 else reversed(order):
            times[name].append(await once(function))
    return _rows(work, times, repeats)


def _rows(work: str, times: dict[str, list[tuple[float, float]]], repeats: int) -> list[Measured]:
    first = next(iter(times.values()))
    rows = []
    for name, measured in times.items():
        rows.append(
            Measured(
                work,
                name,
                statistics.median(wall for wall, _ in measured) / repeats * 1e6,
                statistics.median(cpu for _, cpu in measured) / repeats * 1e6,
                statistics.median(mine[0] / his[0] for mine, his in zip(measured, first, strict=True)),
                statistics.median(mine[1] / his[1] for mine, his in zip(measured, first, strict=True)),
            )
        )
    return rows


def table(rows: list[Measured]) -> str:
    """Return rows as a table for people."""
    lines = [f"{'work':24} {'client':22} {'wall µs':>9} {'cpu µs':>9} {'wall':>6} {'cpu':>6}"]
    for row in rows:
        lines.append(
            f"{row.work:24} {row.contestant:22} {row.wall_us:9.1f} {row.cpu_us:9.1f} "
            f"{row.wall_ratio:6.2f} {row.cpu_ratio:6.2f}"
        )
    return "\n".join(lines)
