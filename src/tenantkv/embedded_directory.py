"""A persistent data directory, and the one server that may serve it.

========================  ======================================================================
In the data directory
========================  ======================================================================
``tenantkv.lock``         locked by the server as long as it lives: two never write the same files
``tenantkv.sock``         a link to the socket, which lies in a directory with a short path
------------------------  ----------------------------------------------------------------------
Beside the socket
========================  ======================================================================
``owner``                 locked by the process that started the server. Once it is free, the
                          server is about to end, though it may still answer for a moment
========================  ======================================================================

Locks are ``flock``'s: the kernel drops them with the last process that holds them.
"""

from __future__ import annotations

import os
from pathlib import Path

from tenantkv.errors import EmbeddedServerError

LOCK = "tenantkv.lock"
OWNER = "owner"
_LINK = "tenantkv.sock"


def prepared(directory: Path) -> Path:
    """Return the directory's real path; make it, for this user alone, where it is missing."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
    except OSError as error:
        raise EmbeddedServerError(f"cannot use {directory}: {error.strerror}") from error
    if status.st_uid != os.geteuid() or status.st_mode & 0o002:
        raise EmbeddedServerError(
            f"{directory} belongs to somebody else or is writable by everybody; use a directory of your own"
        )
    return directory.resolve()


def locked(path: Path) -> int | None:
    """Return a descriptor that holds a file's lock, or ``None`` if somebody else holds it."""
    import fcntl  # Not on Windows, where start() has refused already.

    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def publish(directory: Path, socket_path: str) -> None:
    """Lead other processes to the directory's server."""
    fresh = directory / f"{_LINK}.{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(socket_path)
    fresh.replace(directory / _LINK)


def published(directory: Path) -> Path | None:
    """Return the socket of the directory's server if the process that started it still lives."""
    import fcntl

    try:
        socket_path = (directory / _LINK).readlink()
        owner = os.open(socket_path.with_name(OWNER), os.O_RDONLY)
    except OSError:
        return None
    try:
        # Shared, so that two who look at the same time do not take each other for the owner.
        fcntl.flock(owner, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return socket_path
    finally:
        os.close(owner)
    return None
