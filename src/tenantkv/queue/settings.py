"""A queue's settings, checked, and the checks of times and numbers that its calls share."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Literal, get_args

from tenantkv.errors import ConfigurationError

Overflow = Literal["raise", "wait", "drop_oldest"]

DAY = 86_400.0
_NAME_BYTES = 200
_WORD = re.compile(r"[^A-Za-z0-9_.:-]+")


def seconds(value: object, name: str, *, least: float = 0.0, most: float = 10 * 365 * DAY) -> float:
    """Return a time in seconds, checked.

    Raises:
        ConfigurationError: no number, NaN, negative or beyond all reason.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most:
        return float(value)
    raise ConfigurationError(f"{name!r} is a time in seconds from {least:g} to {most:g}")


def whole(value: object, name: str, least: int, most: int) -> int:
    """Return a whole number, checked."""
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise ConfigurationError(f"{name!r} is a whole number from {least} to {most}")


def moment_ms(value: object) -> int:
    """Return a point in time, given in Unix seconds or as a datetime with a zone, in ms since 1970."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ConfigurationError(
                "'at' needs a time zone: a datetime without one means another time elsewhere"
            )
        value = value.timestamp()
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**33:
        return math.ceil(value * 1000)
    raise ConfigurationError("'at' is a time in Unix seconds, or a datetime with a time zone")


def word(text: str) -> str:
    """Return the word that a message is buried with: short, without blanks, and no text of a user's."""
    return _WORD.sub("_", text)[:60] or "unknown"


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """How a queue behaves. All programs that use it should say the same.

    Attributes:
        visibility: for how long a received message stays with its receiver, in seconds, before others
            get it.
        max_deliveries: after so many without an acknowledgement the message is a dead letter.
        retry_delay: before the second delivery after a failure, in seconds; doubled each time, jittered.
        max_retry_delay: the longest of these.
        max_messages: bound on unfinished messages.
        overflow: what a send does when they are so many: ``raise``, ``wait`` or ``drop_oldest``.
        max_dead: bound on dead letters; the oldest go.
        max_bytes: of one message, encoded.
        dedupe_window: for how long dedupe ids are remembered, in seconds.
        retention: how long a queue that nobody uses stays, and how long a dead letter does, in seconds.
        keep_alive: how often whoever waits touches the queue's keys, in seconds.
        pickle: whether values that JSON does not bring back are pickled, within their envelope.
    """

    visibility: float = 30.0
    max_deliveries: int = 5
    retry_delay: float = 1.0
    max_retry_delay: float = 300.0
    max_messages: int = 1_000_000
    overflow: Overflow = "raise"
    max_dead: int = 10_000
    max_bytes: int = 1_048_576
    dedupe_window: float = 300.0
    retention: float = 14 * DAY
    keep_alive: float = 2.0
    pickle: bool = False

    def __post_init__(self) -> None:
        seconds(self.visibility, "visibility", least=0.01, most=7 * DAY)
        whole(self.max_deliveries, "max_deliveries", 1, 1_000_000)
        seconds(self.retry_delay, "retry_delay", most=7 * DAY)
        seconds(self.max_retry_delay, "max_retry_delay", least=self.retry_delay, most=7 * DAY)
        whole(self.max_messages, "max_messages", 1, 1_000_000_000)
        whole(self.max_dead, "max_dead", 1, 10_000_000)
        whole(self.max_bytes, "max_bytes", 1, 64 * 1024 * 1024 - 64)
        seconds(self.dedupe_window, "dedupe_window", least=1.0, most=7 * DAY)
        seconds(self.retention, "retention", least=60.0, most=365 * DAY)
        seconds(self.keep_alive, "keep_alive", least=0.05, most=60.0)
        if self.overflow not in get_args(Overflow):
            raise ConfigurationError(f"'overflow' is one of {', '.join(get_args(Overflow))}")


def settings_with(settings: QueueSettings | None, changes: dict[str, Any]) -> QueueSettings:
    """Return settings with some of them changed."""
    known = {field.name for field in fields(QueueSettings)}
    unknown = sorted(changes.keys() - known)
    if unknown:
        raise ConfigurationError(f"a queue has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}")
    return replace(settings or QueueSettings(), **changes)


def check_name(name: object) -> str:
    """Return a queue's name, checked."""
    if isinstance(name, bytes):
        try:
            name = name.decode()
        except UnicodeDecodeError:
            raise ConfigurationError("a queue's name is text, or bytes in UTF-8") from None
    if not isinstance(name, str) or not name or len(name.encode("utf-8", "replace")) > _NAME_BYTES:
        raise ConfigurationError(f"a queue needs a name, of at most {_NAME_BYTES} bytes")
    return name
