"""Replies decoded as redis-py's parsers do while they read, and the way back."""

from __future__ import annotations

from typing import Any


def decode_deep(reply: Any, decode: Any) -> Any:
    """Decode every string in a reply, as redis-py's parsers do while they read."""
    if isinstance(reply, bytes):
        return decode(reply)
    if isinstance(reply, list):
        return [decode_deep(item, decode) for item in reply]
    if isinstance(reply, dict):
        return {decode_deep(k, decode): decode_deep(v, decode) for k, v in reply.items()}
    if isinstance(reply, (set, tuple)):
        return type(reply)(decode_deep(item, decode) for item in reply)
    return reply


def encode_deep(reply: Any, encode: Any) -> Any:
    """Undo `decode_deep` for a list, such as a pub/sub message."""
    if isinstance(reply, str):
        return encode(reply)
    return [encode_deep(item, encode) for item in reply] if isinstance(reply, list) else reply
