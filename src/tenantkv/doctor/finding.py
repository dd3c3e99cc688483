"""Findings: what the doctor saw, what follows from it, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Severity = Literal["ok", "warn", "fail"]

#: From harmless to serious.
SEVERITIES: tuple[Severity, ...] = ("ok", "warn", "fail")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: which check, such as ``server.version``; the part before the dot is its family.
        severity: ``ok``; ``warn``: know it and decide; ``fail``: something to act on.
        title: what was found, in one line.
        evidence: what was seen. Never a prefix, key or value.
        consequence: what it means for this tenant; empty if nothing.
        remedy: what to do; empty if nothing.
        accepted: whether the caller has said that it is known; then it does not count.
    """

    check: str
    severity: Severity
    title: str
    evidence: str
    consequence: str = ""
    remedy: str = ""
    accepted: bool = False

    @property
    def family(self) -> str:
        """The part of the audit that it belongs to."""
        return self.check.partition(".")[0]


def worst(severities: Iterable[Severity]) -> Severity:
    """Return the most serious of severities, ``ok`` of none.

    Example:
        >>> worst(["ok", "fail", "warn"])
        'fail'
    """
    seen = frozenset(severities)
    return "fail" if "fail" in seen else "warn" if "warn" in seen else "ok"


def milder(severity: Severity) -> Severity:
    """Return the severity below, where something takes the edge off a finding.

    Example:
        >>> milder("fail"), milder("warn"), milder("ok")
        ('warn', 'warn', 'ok')
    """
    return "warn" if severity == "fail" else severity


def accept(findings: Iterable[Finding], known: Iterable[str]) -> list[Finding]:
    """Return findings, with those marked that the caller has accepted by their check."""
    names = frozenset(known)
    return [replace(each, accepted=True) if each.check in names else each for each in findings]


def verdict(findings: Iterable[Finding]) -> Severity:
    """Return the severity of all findings together, but for those that are accepted."""
    return worst(each.severity for each in findings if not each.accepted)
