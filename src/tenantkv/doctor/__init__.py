"""The doctor: a read-only audit of the server, the way to it, the settings, the files and the code around.

One module a family of checks. Judging is pure: facts come in, findings go out. What asks is in three places:
`raw` (the server), `copies` (files, environment, git) and `identity` (the keyring's file).
"""

from tenantkv.doctor.audit import FAMILIES, Scope, audit, check_families
from tenantkv.doctor.finding import SEVERITIES, Finding, Severity, accept, verdict, worst

__all__ = [
    "FAMILIES",
    "SEVERITIES",
    "Finding",
    "Scope",
    "Severity",
    "accept",
    "audit",
    "check_families",
    "verdict",
    "worst",
]
