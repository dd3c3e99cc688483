"""The demonstration's steps about names: whatever two tenants do, neither meets the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import redis

from tenantkv.cli.demo_step import Step
from tenantkv.errors import RefusedError

# Builds a key's name from data, as RQ, limits and many others do.
_SCRIPT = """
local name = 'job:' .. ARGV[1]
redis.call('HSET', name, 'state', 'done', 'visits', redis.call('GET', KEYS[1]))
return {KEYS[1], redis.call('HGET', name, 'visits')}
"""


def name_steps(anna: Any, ben: Any, operator: redis.Redis) -> Iterator[Step]:
    """Show that two tenants who use the same names stay apart."""
    yield _same_names(anna, ben)
    yield _everyday(anna)
    yield _channels(anna, ben)
    yield _script(anna, ben)
    yield _refusals(anna)
    yield _children(anna)
    yield _server_view(anna, ben, operator)
    yield _listing(anna, ben)


def _same_names(anna: Any, ben: Any) -> Step:
    anna.set("lastupdated", "anna, just now", ex=60)
    ben.set("lastupdated", "ben, yesterday", ex=60)
    anna.set("visits", 7)
    lines = (
        ('anna.set("lastupdated", "anna, just now")', "True"),
        ('ben.set("lastupdated", "ben, yesterday")', "True"),
        ('anna.get("lastupdated")', repr(anna.get("lastupdated"))),
        ('ben.get("lastupdated")', repr(ben.get("lastupdated"))),
        ('ben.get("visits")', f"{ben.get('visits')!r}   (only anna has set it)"),
    )
    holds = anna.get("lastupdated") == "anna, just now" and ben.get("visits") is None
    return Step("Both write the same name, and each reads its own", lines, holds)


def _everyday(anna: Any) -> Step:
    pipe = anna.pipeline()
    pipe.rpush("queue", "a", "b")
    pipe.zadd("scores", {"x": 1.5})
    pipe.xadd("log", {"event": "start"})
    results = pipe.execute()
    popped = anna.blpop(["empty", "queue"], 1)
    streams = anna.xread({"log": "0"})
    name = next(iter(streams)) if isinstance(streams, dict) else streams[0][0]
    lines = (
        ("a transaction of RPUSH, ZADD and XADD", f"{len(results)} results"),
        ('anna.blpop(["empty", "queue"], 1)', repr(popped)),
        ('anna.xread({"log": "0"})', f"an entry of the stream {name!r}"),
    )
    return Step("Replies that hold names hold own names", lines, popped[0] == "queue" and name == "log")


def _channels(anna: Any, ben: Any) -> Step:
    with anna.pubsub() as hers, ben.pubsub() as his:
        hers.subscribe("news")
        his.subscribe("news")
        for subscriber in (hers, his):
            subscriber.get_message(timeout=2)
        anna.publish("news", "for anna's listeners")
        heard = hers.get_message(timeout=2)
        overheard = his.get_message(timeout=0.2)
    lines = (
        ('anna.publish("news", ...)', ""),
        ("anna's subscriber hears", f"{heard['channel']!r}: {heard['data']!r}" if heard else "nothing"),
        ("ben's subscriber hears", "nothing" if overheard is None else repr(overheard)),
    )
    return Step("The same channel name, and nobody overhears", lines, bool(heard) and overheard is None)


def _script(anna: Any, ben: Any) -> Step:
    ben.hset("job:42", "state", "ben's own job")
    returned = anna.register_script(_SCRIPT)(keys=["visits"], args=["42"])
    lines = (
        ("a script that builds the key 'job:42' in Lua", f"returns {returned!r}"),
        ('anna.hgetall("job:42")', repr(anna.hgetall("job:42"))),
        ('ben.hgetall("job:42")', repr(ben.hgetall("job:42"))),
    )
    holds = returned == ["visits", "7"] and ben.hget("job:42", "state") == "ben's own job"
    return Step("A script stays inside too, also with keys it makes up itself", lines, holds)


def _refusals(anna: Any) -> Step:
    tries = (("FLUSHALL",), ("CONFIG", "SET", "maxmemory", "1"), ("SWAPDB", "0", "1"), ("FROBNICATE", "x"))
    lines, holds = [], True
    for words in tries:
        try:
            lines.append((" ".join(words), repr(anna.execute_command(*words))))
            holds = False
        except RefusedError as error:
            lines.append((" ".join(words), f"refused: {error.reason}"))
    pipe = anna.pipeline().set("half", "done").execute_command("FLUSHALL")
    try:
        pipe.execute()
        holds = False
    except RefusedError:
        lines.append(("SET half done, then FLUSHALL, in a pipeline", f"refused whole: {anna.get('half')!r}"))
    return Step("What would reach others is refused before a byte is sent", tuple(lines), holds)


def _children(anna: Any) -> Step:
    lines, customers = [], [anna.child(f"customer-{number}") for number in (17, 18)]
    for number, customer in zip((17, 18), customers, strict=True):
        customer.set("plan", f"plan of {number}")
    for number, customer in zip((17, 18), customers, strict=True):
        lines.append((f'anna.child("customer-{number}").get("plan")', repr(customer.get("plan"))))
    lines.append(('anna.get("plan")', repr(anna.get("plan"))))
    for customer in customers:
        customer.flushdb()
    return Step("One process, many tenants, one pool of connections", tuple(lines), anna.get("plan") is None)


def _server_view(anna: Any, ben: Any, operator: redis.Redis) -> Step:
    tenants = {client.namespace.wire_prefix: name for client, name in ((anna, "anna"), (ben, "ben"))}
    lines, strays = [], 0
    # The word under which the profile's operator keeps KEYS to themselves.
    names: Any = operator.execute_command("operatorKEYS", "*")
    for wire in sorted(names):
        prefix, _, own = wire.partition(b":")
        owner = tenants.get(prefix + b":")
        strays += owner is None
        if not own.startswith(b"__tenantkv__:"):
            shown = f"{prefix[:6].decode()}…:{own.decode(errors='replace')}"
            lines.append((shown, f"{owner or 'nobody'}"))
    lines.append(("(and the registries of both)", f"{strays} keys outside of a namespace"))
    return Step("What the server itself holds, prefixes shortened", tuple(lines), strays == 0)


def _listing(anna: Any, ben: Any) -> Step:
    before = ben.dbsize()
    started = time.perf_counter()
    names = sorted(anna.scan_iter("*"))
    took = (time.perf_counter() - started) * 1000
    lines = (
        ("sorted(anna.scan_iter())", f"{names!r}   ({took:.0f} ms, no SCAN)"),
        ("anna.flushdb()", repr(anna.flushdb())),
        ("anna.dbsize(), ben.dbsize()", f"{anna.dbsize()}, {ben.dbsize()}   (ben had {before})"),
    )
    holds = "visits" in names and anna.dbsize() == 0 and ben.dbsize() == before
    return Step("Listing and clearing without KEYS, SCAN or FLUSHDB", lines, holds)
