"""The embedded server's directory and configuration file.

Directives go into a file rather than on the command line, which every user of the machine reads.
"""

from __future__ import annotations

import importlib.resources
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tenantkv.errors import EmbeddedServerError

PROFILES = ("shared",)

# sun_path holds 108 bytes on Linux and 104 on macOS and the BSDs, with the final NUL.
_SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103

_EPHEMERAL = ('save ""', "appendonly no", "stop-writes-on-bgsave-error no")
_PERSISTENT = ("save 300 1", "appendonly yes", "appendfsync everysec")


def checked_profile(profile: str | None) -> str | None:
    """Return ``profile`` if it is ``None`` or one that we have."""
    if profile is not None and profile not in PROFILES:
        raise EmbeddedServerError(f"unknown profile {profile!r}; there is: {', '.join(PROFILES)}")
    return profile


def config_text(
    profile: str | None,
    extra: Mapping[str, str | Sequence[str]],
    socket_path: str,
    data_dir: Path | None,
) -> str:
    """Write the whole configuration; ``extra`` comes last and wins."""
    lines = [headline(profile)]
    if profile is not None:
        resource = importlib.resources.files("tenantkv") / "profiles" / f"{profile}.conf"
        lines.append(resource.read_text(encoding="utf-8"))
    lines += [
        "port 0",
        f"unixsocket {_quoted(socket_path)}",
        "unixsocketperm 700",
        f"dir {_quoted(data_dir or Path(socket_path).parent)}",
        "daemonize no",
        'logfile ""',
        *(_PERSISTENT if data_dir else _EPHEMERAL),
    ]
    for directive, values in extra.items():
        lines += [f"{directive} {v}" for v in ([values] if isinstance(values, str) else values)]
    # A line break in a value would be another directive.
    if any("\n" in line or "\r" in line or "\0" in line for line in lines[2 if profile else 1 :]):
        raise EmbeddedServerError("extra_config must not hold line breaks or NUL")
    return "\n".join(lines) + "\n"


def headline(profile: str | None) -> str:
    """Return the first line, by which another process tells the profile."""
    return f"# tenantkv embedded server, profile: {profile or 'none'};"


def _quoted(path: str | os.PathLike[str]) -> str:
    """Write a path as the server's configuration reads a quoted string."""
    safe = re.compile(rb"[A-Za-z0-9/._-]")
    octets = (bytes([octet]) for octet in os.fsencode(path))
    return '"' + "".join(o.decode() if safe.match(o) else f"\\x{o.hex()}" for o in octets) + '"'


def socket_directory() -> str:
    """Make a directory that only this user can enter, with a path short enough for a socket."""
    for base in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")):
        if len(os.fsencode(base)) + len("/tenantkv-________/s") > _SOCKET_PATH_BYTES:
            continue
        try:
            return tempfile.mkdtemp(prefix="tenantkv-", dir=base)
        except OSError:
            continue
    raise EmbeddedServerError(
        "no writable temporary directory whose path is short enough for a unix socket; set TMPDIR to one"
    )
