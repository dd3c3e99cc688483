"""``huey.RedisHuey(..., serializer=tenantkv.contrib.huey.Serializer())``: tasks and results as sealed JSON.

Beside JSON's own, arguments and results may be tuples, bytes, datetimes and timedeltas.
"""

from __future__ import annotations

import base64
import datetime
import json
from typing import Any

from huey.registry import Message
from huey.serializer import Serializer as BaseSerializer
from huey.utils import SKIPPED, Error

from tenantkv.contrib.payloads import Payloads
from tenantkv.namespace import Namespace

__all__ = ["Serializer"]

_Base: Any = BaseSerializer


class Serializer(_Base):
    """Seals tasks and results, and opens them before it looks at them.

    Args:
        namespace: the tenant's; by default that of the environment.
        options: as for Huey's own: ``compression`` ...
    """

    def __init__(self, namespace: Namespace | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._payloads = Payloads("huey", namespace)

    def _serialize(self, data: Any) -> bytes:
        return self._payloads.seal(json.dumps(_simple(data), separators=(",", ":")).encode())

    def _deserialize(self, data: bytes) -> Any:
        return _whole(json.loads(self._payloads.open(data)))


def _simple(value: Any) -> Any:
    """Return a value as JSON holds it: whatever is no list or scalar stands in a dict under its kind."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Message):
        return {"message": [_simple(part) for part in value]}
    if isinstance(value, Error):
        return {"error": _simple(value.metadata)}
    if value is SKIPPED:
        return {"skipped": True}
    if isinstance(value, list):
        return [_simple(part) for part in value]
    if isinstance(value, tuple):
        return {"tuple": [_simple(part) for part in value]}
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return {"dict": {name: _simple(part) for name, part in value.items()}}
    if isinstance(value, datetime.datetime):
        return {"datetime": value.isoformat()}
    if isinstance(value, datetime.timedelta):
        return {"seconds": value.total_seconds()}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": base64.b64encode(bytes(value)).decode()}
    raise TypeError(f"a task of Huey's holds JSON, bytes and times here, and no {type(value).__name__}")


def _whole(value: Any) -> Any:
    if isinstance(value, list):
        return [_whole(part) for part in value]
    if not isinstance(value, dict):
        return value
    ((kind, part),) = value.items()
    return _KINDS[kind](part)


_KINDS: dict[str, Any] = {
    "message": lambda parts: Message(*map(_whole, parts)),
    "error": lambda part: Error(_whole(part)),
    "skipped": lambda _: SKIPPED,
    "tuple": lambda parts: tuple(map(_whole, parts)),
    "dict": lambda parts: {name: _whole(part) for name, part in parts.items()},
    "datetime": datetime.datetime.fromisoformat,
    "seconds": lambda seconds: datetime.timedelta(seconds=seconds),
    "bytes": base64.b64decode,
}
