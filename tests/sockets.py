"""Ending a socket that a thread waits at."""

from __future__ import annotations

import contextlib
import socket


def end(one: socket.socket) -> None:
    """Close a socket, and wake who is in its ``accept()`` or ``recv()``.

    Closing alone wakes nobody: a listener's port stays open, and when the call is begun again by the system,
    it accepts for whatever has got the descriptor's number by then, such as the next test's listener.
    """
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


__all__ = ["end"]
