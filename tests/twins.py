"""The same command to a tenant and to a plain redis-py, and whether both were answered alike.

Every exemption has its reason in the tables below.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import redis

from tenantkv.errors import RefusedError

# Sets and hashes have no order; a server's hash seed makes one.
UNORDERED = frozenset(
    {"SMEMBERS", "SUNION", "SINTER", "SDIFF", "HKEYS", "HVALS", "HGETALL"} | {"KEYS", "ACL CAT"}
)

# Answers that may differ between two servers, or between two moments, and why.
INCOMPARABLE = {
    "SPOP": "draws at random",
    "SRANDMEMBER": "draws at random",
    "HRANDFIELD": "draws at random",
    "ZRANDMEMBER": "draws at random",
    "RANDOMKEY": "draws at random",
    "DUMP": "sets are dumped in the order of the server's hash seed",
    "MEMORY USAGE": "counts the bytes of the wire name",
    "OBJECT ENCODING": "Redis 8.4 counts the wire name in whether a short value is embedded",
    "OBJECT IDLETIME": "time",
    "OBJECT FREQ": "time",
    "XINFO CONSUMERS": "idle times",
    "XPENDING": "idle times",
    "XINFO STREAM": "idle times in FULL",
    "TIME": "time",
    "LASTSAVE": "time",
    "INFO": "the server's own numbers",
    "ROLE": "the server's own numbers",
    "SCAN": "a page holds as many keys as the whole server's table gives it",
    "SORT": "what is not sorted comes in the order of the server's hash seed",
    "SORT_RO": "what is not sorted comes in the order of the server's hash seed",
    "SSCAN": "a cursor counts places in a hash table",
    "HSCAN": "a cursor counts places in a hash table",
    "ZSCAN": "a cursor counts places in a hash table",
    "ACL GENPASS": "random",
    "CLIENT ID": "counts connections",
    "CLIENT INFO": "the connection's own numbers",
    "LOLWUT": "random",
}
CLOCKS = frozenset(
    {"TTL", "PTTL", "HTTL", "HPTTL", "EXPIRETIME", "PEXPIRETIME", "HEXPIRETIME", "HPEXPIRETIME"}
)

# The guard's own refusals and line contents stand in these; their classes are compared.
FREE_TEXT = frozenset({"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO"})

Outcome = tuple[str, Any]


def outcome(call: Callable[..., Any], *arguments: Any) -> Outcome:
    """Return what a call gives: ("value", ...), ("refused", error) or ("error", error)."""
    try:
        return "value", call(*arguments)
    except RefusedError as error:
        return "refused", error
    except Exception as error:  # redis-py's callbacks fail on replies to options that they do not expect
        return "error", error


async def async_outcome(call: Callable[..., Awaitable[Any]], *arguments: Any) -> Outcome:
    """Return what an asyncio call gives, as `outcome` does."""
    try:
        return "value", await call(*arguments)
    except RefusedError as error:
        return "refused", error
    except Exception as error:  # redis-py's callbacks fail on replies to options that they do not expect
        return "error", error


def of_reply(reply: Any) -> Outcome:
    """Return one of a pipeline's replies as an outcome."""
    return ("error", reply) if isinstance(reply, Exception) else ("value", reply)


def alike(name: str, ours: Outcome, theirs: Outcome) -> bool:
    """Whether two outcomes of the command `name` are the same to whoever asked."""
    if ours[0] != theirs[0]:
        return False
    if ours[0] == "error":
        return _error(name, ours[1]) == _error(name, theirs[1])
    return bool(comparable(name, ours[1]) == comparable(name, theirs[1]))


def _error(name: str, error: Exception) -> tuple[type, str]:
    if name in FREE_TEXT:
        return type(error), ""
    # The server quotes arguments up to a length, of which the prefix takes its share. The name is in
    # capitals then, whatever the caller wrote.
    text = re.sub(r"(?s)(with args beginning with:).*", r"\1", str(error)).upper()
    # redis-py writes the command in front, in its pipelines, with its arguments up to a length.
    return type(error), re.sub(r"(?s)^COMMAND # \d+ \(.*\) OF PIPELINE CAUSED ERROR: ", "", text)


def comparable(name: str, value: Any) -> Any:
    """Return what of a reply must be the same."""
    if name in INCOMPARABLE:
        return type(value)
    if name in CLOCKS:
        return _without_clock(value)
    return ordered(value) if name in UNORDERED else value


def _without_clock(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_clock(item) for item in value]
    return "a time" if isinstance(value, int) and value > 0 else value


def ordered(value: Any) -> Any:
    """Return a reply with every list in one order."""
    if isinstance(value, (list, tuple, set)):
        return sorted((ordered(item) for item in value), key=repr)
    if isinstance(value, dict):
        return sorted(((key, ordered(item)) for key, item in value.items()), key=repr)
    return value


def contents(client: redis.Redis, names: Iterable[bytes], start: bytes = b"") -> dict[bytes, Any]:
    """Return what keys hold in a form that two servers can be compared by, under their own names."""
    names = list(names)
    types = _all(client, [("TYPE", name) for name in names])
    values = _all(client, [_READS[kind](name) for kind, name in zip(types, names, strict=True)])
    times = _all(client, [("PTTL", name) for name in names])
    found = zip(names, types, values, times, strict=True)
    return {name[len(start) :]: (kind, ordered(value), ms > 0) for name, kind, value, ms in found}


_READS: dict[bytes, Callable[[bytes], Sequence[Any]]] = {
    b"none": lambda name: ("EXISTS", name),
    b"string": lambda name: ("GET", name),
    b"list": lambda name: ("LRANGE", name, 0, -1),
    b"set": lambda name: ("SMEMBERS", name),
    b"zset": lambda name: ("ZRANGE", name, 0, -1, "WITHSCORES"),
    b"hash": lambda name: ("HGETALL", name),
    b"stream": lambda name: ("XRANGE", name, "-", "+"),
    b"vectorset": lambda name: ("VEMB", name, "a"),
}


def _all(client: redis.Redis, commands: Iterable[Sequence[Any]]) -> list[Any]:
    with client.pipeline(transaction=False) as lot:
        for command in commands:
            lot.execute_command(*command)
        return lot.execute(raise_on_error=False)


# KEYS has another name on the shared profile; the operator's word stands in front of it there.
_SNAPSHOT = """
local found = {}
for _, name in ipairs(redis.call(ARGV[1], '*')) do
  found[#found + 1] = {name, redis.call('DUMP', name), redis.call('PTTL', name)}
end
return found
"""


def snapshot(operator: redis.Redis, keys: str = "KEYS") -> dict[bytes, tuple[bytes, bool]]:
    """Return all of database 0 in one round trip: wire name to (serialized value, whether it expires)."""
    found = operator.execute_command("EVAL", _SNAPSHOT, 0, keys)
    return {name: (value, ms >= 0) for name, value, ms in found}
