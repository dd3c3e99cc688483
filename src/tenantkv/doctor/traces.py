"""Traces of the tenant on the server: own names that others can read in logs and lists. Pure.

The prefix is looked for here, in what the server sent; it is never sent as a pattern, since patterns show in
the very same logs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tenantkv.doctor.facts import Facts
from tenantkv.doctor.finding import Finding
from tenantkv.doctor.tenant import Tenant, holds

_WORD = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._|")


def check_traces(facts: Facts, tenant: Tenant) -> Iterator[Finding]:
    """Look for the tenant's names in what everybody can read."""
    places = {
        "traces.channels": ("PUBSUB CHANNELS", "PUBSUB SHARDCHANNELS"),
        "traces.slow": ("SLOWLOG GET", *(f"COMMANDLOG GET {kind}" for kind in _KINDS)),
        "traces.users": ("ACL LOG",),
        "traces.functions": ("FUNCTION LIST WITHCODE",),
    }
    for check, sources in places.items():
        yield _prefix(check, {name: facts.logs[name] for name in sources if name in facts.logs}, tenant)
    yield _events(facts, tenant)
    yield _channels(facts, tenant)


_KINDS = ("slow", "large-request", "large-reply")
_TITLES = {
    "traces.channels": ("names of channels", "a library subscribes under the prefix of your keys"),
    "traces.slow": ("the logs of slow and large commands", "such a command named a key of yours"),
    "traces.users": ("the log of refused commands", "a command of yours was refused by an ACL"),
    "traces.functions": ("function libraries", "a function has your prefix in its code"),
}


def _prefix(check: str, replies: dict[str, Any], tenant: Tenant) -> Finding:
    where, how = _TITLES[check]
    if not replies:
        return Finding(check, "ok", f"{where} cannot be read by everybody", "not offered")
    found = {name: _entries(reply, tenant.needle) for name, reply in replies.items()}
    shown = [f"{name}: {entries}" for name, entries in found.items() if entries]
    if not shown:
        looked = sum(len(reply) for reply in replies.values() if isinstance(reply, (list, tuple)))
        return Finding(
            check, "ok", f"your prefix does not stand in {where}", f"{looked} entries were looked at"
        )
    return Finding(
        check,
        "warn" if tenant.hides and tenant.seals else "fail",
        f"your prefix stands in {where}",
        "; ".join(shown),
        f"Everybody on the server can read it there ({how}). "
        + (
            "Your other names stay hidden, and values sealed."
            if tenant.hides and tenant.seals
            else "Whoever knows it can name your keys: read what is in clear, change it, delete it."
        ),
        "take the prefix for known: seal values, hide names, and move to a new namespace when you can; find "
        "the command and make it smaller or quicker",
    )


def _entries(reply: Any, needle: bytes) -> str:
    """Say which entries of a log hold the needle, without anything of a user's."""
    if not isinstance(reply, (list, tuple)):
        return "1 entry" if holds(reply, needle) else ""
    hits = [entry for entry in reply if holds(entry, needle)]
    if not hits:
        return ""
    commands = sorted({name for entry in hits if (name := _command(entry))})
    noun = "entry" if len(hits) == 1 else "entries"
    return f"{len(hits)} {noun}" + (f" ({', '.join(commands[:5])})" if commands else "")


def _command(entry: Any) -> str:
    """Return the name of a logged command; empty for what is none."""
    words = entry[3] if isinstance(entry, (list, tuple)) and len(entry) > 3 else None
    first = words[0] if isinstance(words, (list, tuple)) and words else None
    text = first.decode("latin-1") if isinstance(first, bytes) else ""
    return text.upper() if text and len(text) < 30 and set(text) <= _WORD else ""


def _events(facts: Facts, tenant: Tenant) -> Finding:
    """Judge whether the server tells everybody which keys change: who listens needs no other permission."""
    setting = facts.settings.get("notify-keyspace-events", "")
    if not setting and not facts.heard:
        told = (
            "notify-keyspace-events is off" if "notify-keyspace-events" in facts.settings else "nothing heard"
        )
        evidence = told if facts.heard is not None or facts.settings else "the server cannot be listened to"
        return Finding("traces.events", "ok", "changed keys are not announced to everybody", evidence)
    heard = facts.heard or ()
    own = sum(holds(channel, tenant.needle) for channel in heard)
    evidence = f"{len(heard)} announcements heard, {own} of them with your prefix"
    if setting:
        evidence = f"notify-keyspace-events:{setting}; {evidence}"
    is_covered = tenant.hides and tenant.seals
    return Finding(
        "traces.events",
        "warn" if is_covered else "fail",
        "the server announces every changed key to whoever listens (PSUBSCRIBE)",
        evidence,
        "With the first write of yours, everybody who listens has your prefix"
        + (
            ". Your other names stay hidden, and values sealed."
            if is_covered
            else " and the key's name, and can then read, change and delete what is in clear."
        ),
        "ask the operator to switch notify-keyspace-events off; seal values and hide names",
    )


def _channels(facts: Facts, tenant: Tenant) -> Finding:
    """Tell what of the tenant's can be listened to, and whether somebody listens by patterns."""
    listed = facts.logs.get("PUBSUB CHANNELS"), facts.logs.get("PUBSUB SHARDCHANNELS")
    names = [name for reply in listed if isinstance(reply, list) for name in reply]
    own = sum(holds(name, tenant.channel_prefix) for name in names)
    evidence = f"{own} channels of yours among {len(names)}"
    patterns = facts.logs.get("PUBSUB NUMPAT")
    if isinstance(patterns, int):
        evidence += f"; {patterns} patterns are listened to, by anybody"
    catches = " Who listens by a pattern such as * hears what is published there." if patterns else ""
    if not own:
        return Finding(
            "traces.listeners", "ok", "nobody listens to channels of yours now", evidence, catches[1:]
        )
    return Finding(
        "traces.listeners",
        "ok",
        "channels of yours can be seen and listened to, as everybody's can",
        evidence,
        "Their prefix is derived for channels alone and tells nothing of your keys." + catches,
    )
