"""Looking at a queue and waiting for results: operations beside those that move messages."""

from __future__ import annotations

import time
from typing import Any

from tenantkv.errors import CodecError, ConfigurationError, OpenError
from tenantkv.ops import queue as ops
from tenantkv.ops.effects import Operation
from tenantkv.queue.core import QueueCore, returned
from tenantkv.queue.errors import ResultLostError, ResultTimeoutError
from tenantkv.queue.message import Peeked, QueueMetrics
from tenantkv.queue.settings import whole

_WHERE = {"ready": "ready", "delayed": "delayed", "in_flight": "flight", "dead": "dead"}
_CONTROL = ("pause", "resume", "purge")
_CLIENT_SEEN_MS = 60_000
_RATED = ("sent", "received", "acknowledged")


class QueueView:
    """What there is to see of one queue.

    Args:
        core: the queue.
    """

    def __init__(self, core: QueueCore) -> None:
        self._core = core
        self._last: tuple[float, dict[str, int]] | None = None

    def metrics(self) -> Operation[QueueMetrics]:
        """Return the queue in numbers. One round trip."""
        report = yield from ops.ask("look", self._core.keys.core, self._core.no_lane, "none", 0, 0)
        self._core.watch.notice(report)
        sizes, oldest, flat = report.rest[:3]
        counters = _counters(flat)
        totals = {
            name: int(value)
            for name, value in counters.items()
            if len(name) > 1 and ":" not in name and value.isdigit()
        }
        _, ready, flight, delayed, dead, groups, _ = map(int, sizes)
        return QueueMetrics(
            ready=ready,
            delayed=delayed,
            in_flight=flight,
            dead=dead,
            waiting=groups,
            oldest_age=int(oldest) / 1000 if int(oldest) >= 0 else None,
            clients=_clients(counters, report.now_ms),
            is_paused=bool(counters.get("p")),
            totals=totals,
            lost=_parts(counters, "lost:"),
            foreign=_parts(counters, "foreign:"),
            rates=self._rates(totals),
        )

    def _rates(self, totals: dict[str, int]) -> dict[str, float]:
        now, last = time.monotonic(), self._last
        self._last = now, totals
        if last is None or now <= last[0]:
            return {}
        return {name: (totals.get(name, 0) - last[1].get(name, 0)) / (now - last[0]) for name in _RATED}

    def peek(self, where: str, count: int, start: int) -> Operation[list[Peeked]]:
        """Return messages without receiving them. One round trip."""
        if where not in _WHERE:
            raise ConfigurationError(f"'where' is one of {', '.join(_WHERE)}")
        whole(count, "count", 1, ops.PAGE)
        whole(start, "start", 0, 2**40)
        core = self._core
        report = yield from ops.ask("look", core.keys.core, core.no_lane, _WHERE[where], start, count)
        core.watch.notice(report)
        flat = report.rest[3:]
        return [self._peeked(*flat[at : at + 4]) for at in range(0, len(flat), 4)]

    def _peeked(self, message_id: bytes, envelope: bytes, when: bytes, returns: bytes) -> Peeked:
        try:
            value, is_readable = self._core.box.open(envelope, message_id)[1], True
        except (OpenError, CodecError):
            value, is_readable = None, False
        why = returns.partition(b" ")[2].decode("utf-8", "replace")
        shown = message_id.decode("utf-8", "replace")
        return Peeked(shown, value, is_readable, int(when) / 1000, returned(returns), why)

    def control(self, what: str) -> Operation[int]:
        """Pause, resume or purge; says how many messages a purge removed."""
        assert what in _CONTROL
        core = self._core
        report = yield from core.with_lane(lambda heads: ops.ask("control", core.keys.core, heads(), what))
        core.watch.notice(report)
        return int(float(report.rest[0]))

    def redrive(self, verb: str, most: int | None, ids: list[str] | None) -> Operation[int]:
        """Redrive or drop dead letters; says how many. A round trip for each hundred."""
        core = self._core
        if most is not None:
            whole(most, "most", 0, 10**9)
        if ids is not None and not ids:
            return 0
        chosen = [each.encode() for each in ids or ()]
        report, moved = yield from core.with_lane(
            lambda heads: ops.redrive(core.keys, heads, verb, most, chosen)
        )
        if report is not None:
            core.watch.notice(report)
        return int(moved)

    def result(self, message_id: str, timeout: float | None) -> Operation[Any]:
        """Wait for a message's result."""
        core = self._core
        waiting = core.waiting(timeout) or ops.Waiting(0.0, 0.0, time.monotonic, ())
        name = message_id.encode()
        report, state, what = yield from ops.result(core.keys, core.no_lane, name, waiting)
        core.watch.notice(report)
        if state == "done":
            try:
                return core.box.open_result(what, name)
            except (OpenError, CodecError):
                state = "gone"
        if state == "pending":
            raise ResultTimeoutError(f"no result came from queue {core.name!r} in time", core.name)
        why = what.partition(b" ")[2].decode("utf-8", "replace") if state == "dead" else ""
        text = {
            "dead": f"the message is a dead letter of queue {core.name!r} now",
            "gone": f"queue {core.name!r} has neither the message nor a result that can be read",
        }[state]
        raise ResultLostError(text, core.name, state, why)


def _counters(flat: Any) -> dict[str, str]:
    """Return a hash of the server's as text, as RESP2 (flat) or RESP3 (a map) give it."""
    pairs = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=False)
    return {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in pairs}


def _parts(counters: dict[str, str], start: str) -> dict[str, int]:
    names = {"b": "messages", "r": "ready", "f": "in flight", "d": "delayed", "x": "dead", "g": "in groups"}
    return {
        names.get(name[len(start) :], "state"): int(value)
        for name, value in counters.items()
        if name.startswith(start) and value.isdigit()
    }


def _clients(counters: dict[str, str], now_ms: int) -> int:
    """Count the lanes that asked for something within a minute."""
    stamps = (value.split("|", 2)[1:2] for name, value in counters.items() if name.startswith("c:"))
    return sum(
        1 for stamp in stamps if stamp and stamp[0].isdigit() and int(stamp[0]) > now_ms - _CLIENT_SEEN_MS
    )
