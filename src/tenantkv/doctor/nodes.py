"""The servers behind a URL: one, or each primary of a Cluster; and their findings, told once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from redis.exceptions import RedisError

from tenantkv.config import Settings
from tenantkv.doctor.facts import Facts, gather
from tenantkv.doctor.finding import SEVERITIES, Finding
from tenantkv.doctor.raw import MOST_PRIMARIES, RawServer, open_primaries, open_raw

#: What each server says, or why it says nothing, by its name; of a single one the name is empty.
Nodes = Mapping[str, Facts | Exception]

# Named in one finding.
_MOST_NAMES = 8


def ask(settings: Settings, timeout: float) -> Nodes:
    """Ask the server of a URL, or each primary of a Cluster.

    Args:
        settings: with the URL.
        timeout: seconds for connecting and for each reply.

    Raises:
        redis.exceptions.RedisError: it cannot be reached, or refuses the password.
    """
    if settings.kind != "cluster":
        return {"": _gathered(open_raw(settings, timeout=timeout))}
    nodes: dict[str, Facts | Exception] = {}
    for name, server in open_primaries(settings, timeout=timeout):
        if isinstance(server, Exception):
            nodes[name] = server
            continue
        try:
            nodes[name] = _gathered(server)
        except (RedisError, OSError) as error:
            nodes[name] = error
    return nodes


def _gathered(server: RawServer) -> Facts:
    try:
        return gather(server)
    finally:
        server.close()


def merged(found: Mapping[str, Sequence[Finding]]) -> list[Finding]:
    """Return the findings of several servers, each check once: the most serious, and where it was seen.

    Args:
        found: findings by the server's name.
    """
    if len(found) == 1:
        return [each for findings in found.values() for each in findings]
    by_check: dict[str, dict[str, Finding]] = {}
    for name, findings in found.items():
        for each in findings:
            by_check.setdefault(each.check, {})[name] = each
    return [_merge(each, len(found)) for each in by_check.values()]


def _merge(found: Mapping[str, Finding], count: int) -> Finding:
    worst = max((each.severity for each in found.values()), key=SEVERITIES.index)
    serious = {name: each for name, each in found.items() if each.severity == worst}
    first = next(iter(serious.values()))
    if len(serious) == count and len({each.evidence for each in serious.values()}) == 1:
        evidence = f"{first.evidence} (all of {count} primaries)"
    else:
        places: dict[str, list[str]] = {}
        for name, each in serious.items():
            places.setdefault(each.evidence, []).append(name)
        evidence = "; ".join(f"{_names(names)}: {seen}" for seen, names in places.items())
        if len(serious) < count:
            evidence += f" ({len(serious)} of {count} primaries)"
    if count >= MOST_PRIMARIES:
        evidence += "; there may be more primaries, which were not looked at"
    return replace(first, evidence=evidence)


def _names(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
