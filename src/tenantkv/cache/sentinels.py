"""Words for what is no value: `MISS`, `FOREVER`, and "as the cache is set up"."""

from __future__ import annotations

import math
from enum import Enum
from typing import Final


class Miss(Enum):
    """The type of `MISS`."""

    MISS = "MISS"

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "MISS"


#: Nothing is cached, or there is nothing; as distinct from a cached ``None``.
MISS: Final = Miss.MISS

#: As a TTL: never expires, for those who say so. The server may still evict it.
FOREVER: Final = math.inf
