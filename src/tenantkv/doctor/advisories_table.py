"""Published advisories for Redis and Valkey that matter where strangers share a server, and their fixes.

Sources: the release notes of Redis and Valkey, as of 2026-11. For each line of releases (``7.2``) the
first release with the fix; a line between the oldest and the newest one listed never got one of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Advisory:
    """One row.

    Attributes:
        product: ``redis`` or ``valkey``.
        names: the CVE numbers.
        what: what whoever may connect can do.
        fixed: the first release of each line that has the fix.
        since: the first affected release.
    """

    product: str
    names: str
    what: str
    fixed: tuple[Version, ...]
    since: Version = (0,)


ADVISORIES: tuple[Advisory, ...] = (
    Advisory("redis", "CVE-2022-24735", "run code in the scripts of other tenants", ((6, 2, 7), (7, 0, 0))),
    Advisory(
        "redis", "CVE-2024-31449", "take the server over by a script", ((6, 2, 16), (7, 2, 6), (7, 4, 1))
    ),
    Advisory(
        "redis", "CVE-2024-46981", "take the server over by a script", ((6, 2, 17), (7, 2, 7), (7, 4, 2))
    ),
    Advisory(
        "redis",
        "CVE-2025-21605",
        "use up the server's memory without logging in",
        ((6, 2, 18), (7, 2, 8), (7, 4, 3)),
    ),
    Advisory(
        "redis",
        "CVE-2025-32023, CVE-2025-48367",
        "corrupt the server's memory, or keep others out",
        ((6, 2, 19), (7, 2, 10), (7, 4, 5), (8, 0, 3)),
    ),
    Advisory(
        "redis",
        "CVE-2025-49844, CVE-2025-46817, CVE-2025-46818, CVE-2025-46819",
        "take the server over by a script, or run code as other tenants",
        ((6, 2, 20), (7, 2, 11), (7, 4, 6), (8, 0, 4), (8, 2, 2)),
    ),
    Advisory(
        "redis",
        "CVE-2026-23479, CVE-2026-25243, CVE-2026-23631",
        "take the server over",
        ((7, 2, 14), (7, 4, 9), (8, 2, 6), (8, 4, 3), (8, 6, 3)),
        since=(7, 2, 0),
    ),
    Advisory(
        "valkey",
        "CVE-2025-49844, CVE-2025-46817, CVE-2025-46818, CVE-2025-46819",
        "take the server over by a script, or run code as other tenants",
        ((7, 2, 11), (8, 0, 6), (8, 1, 4)),
    ),
    Advisory(
        "valkey",
        "CVE-2026-56684, CVE-2026-63639",
        "take the server over",
        ((7, 2, 14), (8, 0, 10), (8, 1, 9), (9, 0, 5), (9, 1, 1)),
    ),
)

#: Versions that Debian, Ubuntu and Red Hat keep, with fixes that do not show in the number.
DISTRIBUTIONS: frozenset[tuple[str, str]] = frozenset(
    {
        *(
            ("redis", version)
            for version in (
                "5.0.3",
                "5.0.7",
                "5.0.14",
                "6.0.16",
                "6.2.7",
                "7.0.12",
                "7.0.15",
                "7.2.4",
                "8.0.2",
            )
        ),
        *(("valkey", version) for version in ("7.2.5", "7.2.8", "8.0.1", "8.1.1", "8.1.4")),
    }
)
