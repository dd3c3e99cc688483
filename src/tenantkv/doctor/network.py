"""The way to the server: which URL, who can listen on it, and how long it takes. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from urllib.parse import parse_qsl

from tenantkv.config import Settings
from tenantkv.doctor.facts import Facts
from tenantkv.doctor.finding import Finding

_SLOW = 0.05


def check_url(settings: Settings) -> Iterator[Finding]:
    """Judge the URL by itself."""
    shown = f"{settings.redacted_url} (from {settings.url_source})"
    if settings.url_source == "default":
        yield Finding(
            "network.url",
            "fail",
            "no server is set",
            "none of TENANTKV_URL, TOOL_REDIS_URI and REDIS_URL",
            "Clients start a private server that ends with their process: nothing is shared or kept.",
            "set TENANTKV_URL, or say embedded:// if that is meant",
        )
        return
    if settings.kind in ("embedded", "memory"):
        yield Finding(
            "network.url",
            "ok",
            "a private server, for development and tests",
            shown,
            "There is nothing to audit: it belongs to one process.",
        )
        return
    note = "One of its nodes is looked at." if settings.kind == "cluster" else ""
    yield Finding("network.url", "ok", "a server is set", shown, note)
    yield _secrecy(settings)


def is_local(host: str) -> bool:
    """Whether a host is this machine.

    Example:
        >>> is_local("127.0.0.1"), is_local("::1"), is_local("redis.example.org")
        (True, True, False)
    """
    if host in ("localhost", ""):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _secrecy(settings: Settings) -> Finding:
    server = settings.server
    if server.scheme == "unix":
        return Finding("network.tls", "ok", "a unix socket: nobody listens in between", "unix://")
    if server.scheme == "rediss":
        query = dict(parse_qsl(server.query))
        if query.get("ssl_cert_reqs", "required").lower() in ("none", "optional"):
            return Finding(
                "network.tls",
                "fail",
                "the server's certificate is not checked",
                f"ssl_cert_reqs={query['ssl_cert_reqs']}",
                "Whoever stands in between can pose as the server, and read and change everything.",
                "leave ssl_cert_reqs out, and give ssl_ca_certs= if the authority is your own",
            )
        return Finding("network.tls", "ok", "encrypted on the way", "rediss://")
    if all(is_local(host) for host, _ in server.hosts):
        return Finding("network.tls", "ok", "the server is on this machine", "loopback")
    consequence = "Whoever can listen on the network between reads commands with names and values"
    has_password = ":" in server.userinfo
    return Finding(
        "network.tls",
        "fail" if has_password else "warn",
        "not encrypted on the way",
        "redis://" + (", with a password" if has_password else ""),
        consequence + (", and the password." if has_password else "; the prefix is in each."),
        "use rediss:// if the server offers it; seal values in any case",
    )


def check_access(facts: Facts, settings: Settings) -> Iterator[Finding]:
    """Judge who may connect."""
    userinfo = settings.server.userinfo
    who = facts.user or "not told"
    if facts.is_restricted:
        denied = f"; refused to us: {', '.join(facts.denied)}" if facts.denied else ""
        yield Finding("network.access", "ok", "the server tells users apart", f"user: {who}{denied}")
    elif userinfo:
        yield Finding(
            "network.access",
            "ok",
            "a password is needed",
            f"user: {who}",
            "It is the same for all who have it; the server does not tell tenants apart.",
        )
    else:
        yield Finding(
            "network.access",
            "warn",
            "everybody who can reach the server can use it",
            f"no password, user: {who}",
            "What keeps tenants apart is names that nobody can guess, and seals; not the server.",
            "nothing to do if that is what was offered; an ACL rule for your prefix would make it firm",
        )
    yield latency(facts.pings)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share of values lies; 0 of none.

    Example:
        >>> percentile([3, 1, 2, 4], 0.5), percentile([], 0.5)
        (2, 0.0)
    """
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 100) // 100) - 1)] if ordered else 0.0


def latency(pings: Sequence[float]) -> Finding:
    """Judge how long an answer takes."""
    median, most = percentile(pings, 0.5), max(pings, default=0.0)
    evidence = f"{len(pings)} PINGs: median {median * 1000:.2f} ms, longest {most * 1000:.2f} ms"
    if median >= _SLOW:
        return Finding(
            "network.latency",
            "warn",
            "answers take long",
            evidence,
            "Every command waits for so long; a page that makes fifty waits fifty times.",
            "use pipelines and get_many(), and a near cache; run closer to the server",
        )
    return Finding("network.latency", "ok", "answers are quick", evidence)
