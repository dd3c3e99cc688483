"""``serializer="tenantkv.contrib.rq.Serializer"``: RQ's jobs and results as sealed JSON, no pickles."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from tenantkv.contrib.payloads import Payloads
from tenantkv.namespace import Namespace

__all__ = ["Serializer"]


class Serializer:
    """Seals jobs for the tenant of the environment. RQ takes the class itself, by its path.

    For another tenant, derive a class in a module that the workers can import.

    Attributes:
        namespace: whose jobs, in a class of one's own; ``None`` for the environment's.
    """

    namespace: ClassVar[Namespace | None] = None
    _payloads: ClassVar[Payloads] = Payloads("rq")

    def __init_subclass__(cls) -> None:
        cls._payloads = Payloads("rq", cls.namespace)

    @classmethod
    def dumps(cls, value: Any, *_: Any, **__: Any) -> bytes:
        """Return a value as a payload.

        Raises:
            TypeError: JSON has no form for the value.
        """
        return cls._payloads.seal(json.dumps(value, separators=(",", ":")).encode())

    @classmethod
    def loads(cls, payload: bytes, *_: Any, **__: Any) -> Any:
        """Return a payload's value.

        Raises:
            OpenError: it was not made by this tenant.
        """
        return json.loads(cls._payloads.open(payload))
