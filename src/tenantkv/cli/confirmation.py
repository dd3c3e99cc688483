"""Asking a person before something is done that cannot be taken back."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tenantkv.cli import output
from tenantkv.cli.client import as_text
from tenantkv.errors import ConfigurationError

_SHOWN = 10


def confirm(question: str, *, unasked: str, names: Sequence[bytes] = (), declined: str = "done") -> None:
    """Ask on the terminal, with the first of the names that are concerned.

    Args:
        question: what a ``yes`` stands for.
        unasked: what is said where nobody can be asked.
        names: own names.
        declined: what nothing of was done, for whoever does not type ``yes``.

    Raises:
        ConfigurationError: standard input is no terminal, or the answer is not ``yes``.
    """
    if not sys.stdin.isatty():
        raise ConfigurationError(unasked)
    for name in names[:_SHOWN]:
        output.note(as_text(name[:200]))
    if len(names) > _SHOWN:
        output.note(f"... and {len(names) - _SHOWN} more")
    output.note(f"{question} Type yes:")
    if sys.stdin.readline().strip().lower() != "yes":
        raise ConfigurationError(f"nothing was {declined}")
