"""Ending a listener that a thread waits at."""

from __future__ import annotations

import socket


def end(listener: socket.socket) -> None:
    """Close a listening socket, and wake who is in ``accept()``.

    Closing alone wakes nobody: the port stays open, and when the call is begun again by the system, it
    accepts for whatever has got the descriptor's number by then, such as the next test's listener.
    """
    try:
        listener.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    listener.close()


__all__ = ["end"]
