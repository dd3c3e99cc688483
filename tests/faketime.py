"""Servers whose clock can be moved while they run, by libfaketime (Debian's package of that name)."""

from __future__ import annotations

import glob
import os
import shlex
import subprocess
import tempfile
import time
from pathlib import Path

from tests.servers import installed, start_server
from tests.topologies import wait_until

_PLACES = ("/usr/lib/*/faketime", "/usr/lib/faketime", "/usr/lib64/faketime", "/usr/local/lib/faketime")


def library() -> str | None:
    """Return the path of libfaketime for programs with threads, or ``None``."""
    found = [path for place in _PLACES for path in glob.glob(f"{place}/libfaketimeMT.so.1")]
    return found[0] if found else None


class MovableClock:
    """A server, and its clock.

    Its monotonic clock is left alone, as it is when somebody sets a machine's clock.

    Raises:
        LookupError: there is no libfaketime, or no server program that runs with it. Those that are
            linked with jemalloc, such as Debian's, do not start.
    """

    def __init__(self) -> None:
        faked = library()
        if faked is None:
            raise LookupError("libfaketime is not installed")
        self._directory = tempfile.TemporaryDirectory()
        self._file = Path(self._directory.name) / "offset"
        self._write(0)
        settings = {
            "LD_PRELOAD": faked,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.server = start_server("shared", binary=self._program(settings))

    def _program(self, settings: dict[str, str]) -> str:
        """Return a program that starts a server with these settings in its environment."""
        wrapper = Path(self._directory.name) / "server"
        # Others first: one that hangs takes the whole patience.
        for each in sorted(installed(), key=lambda binary: binary.product == "redis"):
            lines = ["#!/bin/sh", *(f"export {name}={shlex.quote(text)}" for name, text in settings.items())]
            wrapper.write_text("\n".join([*lines, f'exec {shlex.quote(each.path)} "$@"', ""]))
            wrapper.chmod(0o700)
            try:
                said = subprocess.run([wrapper, "--version"], capture_output=True, timeout=5, check=False)
            except subprocess.TimeoutExpired:
                continue
            if said.returncode == 0 and b"faketime" not in said.stderr:
                return str(wrapper)
        self._directory.cleanup()
        raise LookupError("no server program here runs with libfaketime")

    def set(self, seconds: int) -> None:
        """Have the server's clock go ahead of ours by so much, or behind."""
        self._write(seconds)
        wait_until("the clock", lambda: abs(self.offset() - seconds) < 30)

    def offset(self) -> float:
        """Return by how much the server's clock goes ahead."""
        return float(self.server.operator().time()[0]) - time.time()

    def _write(self, seconds: int) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        os.replace(new, self._file)

    def stop(self) -> None:
        """End the server."""
        self.server.stop()
        self._directory.cleanup()
