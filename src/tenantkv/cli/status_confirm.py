"""Asking before something that cannot be undone."""

from __future__ import annotations

import sys

from tenantkv.cli import output
from tenantkv.errors import ConfigurationError


def confirm(what: str, *, yes: bool) -> None:
    """Ask whether to do `what`, unless the caller has said yes already.

    Raises:
        ConfigurationError: the answer is no, or nobody can be asked.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError(f"this would {what}; say --yes")
    sys.stderr.write(f"{output.clean(what)}? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ConfigurationError("nothing was done")
