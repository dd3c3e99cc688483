"""INFO's reply as fields."""

from __future__ import annotations

from typing import Any

_LONGEST = 200


def read_info(reply: Any) -> dict[str, str]:
    """Return INFO's fields by their names; what is no field is left out.

    Args:
        reply: the raw reply: bytes, or text.

    Example:
        >>> read_info(b"# Server\\r\\nredis_version:7.0.15\\r\\n\\r\\nbad line\\r\\n")
        {'redis_version': '7.0.15'}
    """
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply or "")
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and name and not line.startswith("#"):
            fields[name.strip()] = value.strip()[:_LONGEST]
    return fields


def whole_of(fields: dict[str, str], name: str) -> int:
    """Return a field as a whole number, 0 if it is none."""
    text = fields.get(name, "")
    return int(text) if text.isdigit() and len(text) < 20 else 0


def keys_in(fields: dict[str, str], database: int) -> int:
    """Return how many keys all tenants together have in a database."""
    for part in fields.get(f"db{database}", "").split(","):
        name, _, value = part.partition("=")
        if name == "keys" and value.isdigit():
            return int(value)
    return 0
