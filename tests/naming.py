"""Names for tests that are the same in every process, so that several can share tests out."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def shown(value: object) -> str:
    """Return an object's repr without its address; a set's in order."""
    if isinstance(value, (set, frozenset)):
        return f"{{{', '.join(sorted(map(repr, value)))}}}"
    return _ADDRESS.sub("", repr(value))
