"""The server: its version, its commands, how it keeps data, and what it can take. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tenantkv.doctor.advisories_table import ADVISORIES, DISTRIBUTIONS, Advisory, Version
from tenantkv.doctor.exposure_table import EXPOSURES, NEEDS, Exposure
from tenantkv.doctor.facts import Facts
from tenantkv.doctor.finding import Finding, Severity, milder
from tenantkv.doctor.tenant import Tenant

_OLDEST_TESTED = (6, 0)
_REMEDIES = {
    "content": "seal values (seal=True, or 'tenantkv init --seal' for a new namespace) and hide names",
    "names": "seal values, and hide names if they tell anything; ask the operator to take the commands away",
    "logs": "hide names, and keep commands small: the registry, caches and queues of tenantkv do",
    "messages": "publish nothing secret; where a listener acts on it, use a queue, which is authentic",
    "service": "keep here only what can be made again; use queues with a journal for what cannot",
}


def check_server(facts: Facts, tenant: Tenant | None) -> Iterator[Finding]:
    """Judge a server.

    Args:
        facts: what it says.
        tenant: whose values are there; ``None`` if that is not known.
    """
    yield version(facts)
    yield from needs(facts)
    for row in EXPOSURES:
        yield exposure(row, facts, tenant)
    yield role(facts)
    yield eviction(facts)
    yield persistence(facts)
    yield idle(facts)
    yield clients(facts)


def parse_version(text: str) -> Version:
    """Return a version as numbers; empty for what is none.

    Example:
        >>> parse_version("7.0.15"), parse_version("255.255.255-beta"), parse_version("unknown")
        ((7, 0, 15), (255, 255, 255), ())
    """
    numbers = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def concerns(advisory: Advisory, product: str, found: Version) -> bool:
    """Whether a release is without an advisory's fix, going by its number."""
    if advisory.product != product or not found or found < advisory.since:
        return False
    for fixed in advisory.fixed:
        if fixed[:2] == found[:2]:
            return found < fixed
    # A line of its own: older than all lines with a fix, between them without one, or newer than all.
    return found < max(advisory.fixed)


def version(facts: Facts) -> Finding:
    """Judge the version."""
    found = parse_version(facts.version)
    shown = f"{facts.product} {facts.version or 'of an unknown version'}"
    if not found:
        return Finding(
            "server.version",
            "warn",
            "the server does not tell its version",
            "INFO has no version",
            "Whether published advisories concern it cannot be told.",
            "ask the operator",
        )
    open_ones = [row for row in ADVISORIES if concerns(row, facts.product, found)]
    if not open_ones:
        old = found[:2] < _OLDEST_TESTED
        return Finding(
            "server.version",
            "warn" if old else "ok",
            "older than what tenantkv is tested with" if old else "no advisory known for this version",
            shown,
            remedy="ask the operator for Redis 6.2 or newer, or Valkey" if old else "",
        )
    is_kept = (facts.product, facts.version) in DISTRIBUTIONS
    what = "; ".join(dict.fromkeys(row.what for row in open_ones))
    note = "a distribution keeps this version and may have fixed it without changing the number"
    return Finding(
        "server.version",
        "warn" if is_kept else "fail",
        "published advisories concern this version",
        f"{shown}: {', '.join(row.names for row in open_ones)}" + (f" ({note})" if is_kept else ""),
        f"By its number, whoever may connect can {what}. Then nothing is safe but what is sealed.",
        "ask the operator which fixes it has" if is_kept else "ask the operator to update the server",
    )


def needs(facts: Facts) -> Iterator[Finding]:
    """Judge whether what tenantkv needs is there."""
    if not facts.commands:
        why = "its ACL refuses COMMAND INFO" if facts.denied else "it has no COMMAND INFO"
        yield Finding(
            "server.commands",
            "warn",
            "the server does not tell which commands it offers",
            why,
            "What neighbours can do, and what works here, can be found out by trying only.",
            "ask the operator",
        )
        return
    missing = {
        what: lacks for what, names in NEEDS if (lacks := [name for name in names if not facts.has(name)])
    }
    if not missing:
        yield Finding("server.commands", "ok", "all that tenantkv needs is offered", f"{len(NEEDS)} features")
        return
    yield Finding(
        "server.commands",
        "fail",
        "commands are missing that tenantkv needs",
        "; ".join(f"{what}: {', '.join(lacks)}" for what, lacks in missing.items()),
        f"These do not work here: {', '.join(missing)}.",
        "ask the operator for these commands, or do without these features",
    )


def exposure(row: Exposure, facts: Facts, tenant: Tenant | None) -> Finding:
    """Judge what neighbours can do with some commands."""
    offered = [name for name in row.commands if facts.has(name)]
    if not offered:
        known = bool(facts.commands)
        title = f"not here: {row.title}" if known else f"not known: {row.title}"
        evidence = f"{'not offered' if known else 'not told'}: {', '.join(row.commands)}"
        return Finding(row.check, "ok", title, evidence)
    severity = _reached(row, tenant)
    evidence = f"offered: {', '.join(offered)}"
    if facts.is_restricted:
        severity = milder(severity)
        evidence += "; the server tells users apart, so its rules may keep neighbours from it"
    is_protected = tenant is not None and (tenant.seals or tenant.hides) and row.protected
    return Finding(
        row.check,
        severity,
        row.title,
        evidence,
        row.protected if is_protected else row.in_clear,
        "" if severity == "ok" else _REMEDIES[row.reach],
    )


def _reached(row: Exposure, tenant: Tenant | None) -> Severity:
    if row.reach in ("messages", "service"):
        return "warn"
    seals, hides = (tenant.seals, tenant.hides) if tenant else (False, False)
    if row.reach == "logs":
        return "ok" if hides else "warn"
    if seals:
        return "ok" if hides else "warn"
    # Hidden names cannot be guessed, but a copy holds the values all the same.
    return "warn" if hides and row.reach == "names" else "fail"


def role(facts: Facts) -> Finding:
    """Judge whether it is the server to write to."""
    found = facts.info.get("role", "unknown")
    if facts.info.get("loading") == "1":
        return Finding(
            "server.role",
            "fail",
            "the server is still loading its data",
            "loading:1",
            "Commands fail until it is done.",
            "wait",
        )
    if found in ("slave", "replica"):
        return Finding(
            "server.role",
            "fail",
            "this is a replica",
            f"role:{found}",
            "Writes are refused or lost, and reads are behind.",
            "use the address of the primary, or sentinel:// to have it followed",
        )
    replicas = facts.info.get("connected_slaves", "0")
    copies = "After a failover the last writes may be gone, locks too." if replicas != "0" else ""
    return Finding("server.role", "ok", "it takes writes", f"role:{found}, replicas:{replicas}", copies)


def eviction(facts: Facts) -> Finding:
    """Judge what happens when memory is full."""
    policy = facts.info.get("maxmemory_policy", "")
    limit = facts.number("maxmemory")
    evicted = facts.info.get("evicted_keys", "0")
    evidence = (
        f"maxmemory_policy:{policy or 'unknown'}, maxmemory:{facts.info.get('maxmemory_human') or limit}, "
    )
    evidence += f"evicted_keys:{evicted}"
    if limit == 0:
        return Finding(
            "server.eviction",
            "warn",
            "the server's memory has no bound",
            evidence,
            "It grows until the machine's memory is used up and the system ends it.",
            "ask the operator for maxmemory; give every key a TTL",
        )
    if policy == "noeviction":
        return Finding(
            "server.eviction",
            "ok",
            "nothing is evicted",
            evidence,
            "When memory is full, writes fail with OOM, until something expires.",
        )
    which = "any key" if policy.startswith("allkeys") else "any key with a TTL"
    return Finding(
        "server.eviction",
        "warn",
        f"{which} may be evicted when neighbours fill the memory",
        evidence,
        "A lock can be lost while it is held, and so can messages of a queue. tenantkv tells.",
        "compare fencing numbers where a lock guards data; keep queues alive, and use a journal for what "
        "must not be lost",
    )


def persistence(facts: Facts) -> Finding:
    """Judge what is left after a restart."""
    info = facts.info
    evidence = ", ".join(
        f"{name}:{info[name]}"
        for name in ("aof_enabled", "rdb_last_bgsave_status", "rdb_changes_since_last_save")
        if name in info
    )
    if info.get("rdb_last_bgsave_status") == "err":
        return Finding(
            "server.persistence",
            "warn",
            "the server could not write its last snapshot",
            evidence,
            "After a crash it comes back with older data, or refuses writes now.",
            "tell the operator",
        )
    if info.get("aof_enabled") == "1":
        return Finding("server.persistence", "ok", "the server logs writes to disk", evidence)
    return Finding(
        "server.persistence",
        "warn",
        "a restart loses the latest writes, or all",
        evidence or "not told",
        "After a restart data may be hours old: acknowledged messages come back, sent ones are gone.",
        "keep here only what can be made again, and a journal for queues",
    )


def idle(facts: Facts) -> Finding:
    """Judge whether idle connections are closed before they are looked after."""
    text = facts.settings.get("timeout", "")
    if not text.isdigit():
        return Finding(
            "server.idle",
            "ok",
            "idle connections are checked every minute",
            "the server does not tell its time-out",
        )
    seconds = int(text)
    if 0 < seconds <= 60:
        return Finding(
            "server.idle",
            "warn",
            "the server closes idle connections sooner than they are checked",
            f"timeout:{seconds} s, health check: 60 s",
            "The first command after a pause may need a second connection.",
            f"connect with health_check_interval={max(1, seconds // 2)}",
        )
    return Finding("server.idle", "ok", "idle connections are checked in time", f"timeout:{seconds} s")


def clients(facts: Facts) -> Finding:
    """Judge whether connections are running out."""
    used, most = facts.number("connected_clients"), facts.number("maxclients")
    evidence = f"connected_clients:{used}, maxclients:{most if most is not None else 'not told'}"
    rejected = facts.number("rejected_connections") or 0
    if rejected:
        evidence += f", rejected_connections:{rejected}"
    share = used / most if used is not None and most else 0.0
    severity: Severity = "fail" if share >= 0.95 else "warn" if share >= 0.8 or rejected else "ok"
    if severity == "ok":
        return Finding("server.clients", "ok", "there is room for connections", evidence)
    return Finding(
        "server.clients",
        severity,
        "the server runs out of connections" if share >= 0.8 else "the server has turned connections away",
        evidence,
        "New connections are refused, for everybody.",
        "keep pools small (max_connections=) and processes few; tell the operator",
    )
