"""A line on standard error that tells how far long work is, if that is a terminal."""

from __future__ import annotations

import os
import sys
import time

from tenantkv.cli import output

_WIDTH = 30
_PAUSE = 0.1


class Bar:
    """Shows a bar, at most ten times a second; use it as a context, which clears it at the end.

    Example:
        >>> with Bar() as bar:
        ...     bar.show(0.5, "50 keys")
    """

    def __init__(self) -> None:
        self._is_on = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._next = 0.0

    def show(self, fraction: float, text: str) -> None:
        """Show how far it is.

        Args:
            fraction: from 0 to 1.
            text: what has been done; cleaned.
        """
        now = time.monotonic()
        if not self._is_on or now < self._next:
            return
        self._next = now + _PAUSE
        full = int(min(max(fraction, 0.0), 1.0) * _WIDTH)
        bar = "#" * full + "." * (_WIDTH - full)
        sys.stderr.write(f"\r[{bar}] {fraction:4.0%}  {output.clean(text)}\x1b[K")
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._is_on:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
