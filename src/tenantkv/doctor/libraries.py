"""The libraries that are installed here, by their versions."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Iterator

from tenantkv.doctor.finding import Finding
from tenantkv.doctor.libraries_table import SHOWN, TRAPS, Trap
from tenantkv.doctor.server import parse_version

Installed = Callable[[str], str]


def installed(package: str) -> str:
    """Return an installed package's version, or empty."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def check_libraries(version_of: Installed = installed) -> Iterator[Finding]:
    """Judge what is installed.

    Args:
        version_of: tells a package's version, empty if it is not there.
    """
    have = {name: version for name in SHOWN if (version := version_of(name))}
    shown = ", ".join(f"{name} {version}" for name, version in have.items())
    trapped = False
    for trap in TRAPS:
        version = version_of(trap.package)
        if version and catches(trap, version) and not (trap.unless and version_of(trap.unless)):
            trapped = True
            yield Finding(
                f"libraries.{trap.package}",
                trap.severity,
                f"{trap.package} has a trap for shared servers",
                f"{trap.package} {version}",
                trap.what + ".",
                trap.remedy,
            )
    python = f"Python {platform.python_version()}, {shown}"
    title = "the other libraries are in order" if trapped else "the libraries are in order"
    yield Finding("libraries.versions", "ok", title, python)


def catches(trap: Trap, version: str) -> bool:
    """Whether a version falls into a trap."""
    found = parse_version(version)
    return bool(found) and trap.since <= found < trap.below
