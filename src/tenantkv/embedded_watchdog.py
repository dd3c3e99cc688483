"""The shell process that ends an embedded server together with the process that started it.

Laws of this file:

* The server ends with its starter, however the starter ends (return, exception, SIGKILL).
  The starter holds the only write end of a pipe; the kernel closes it, nobody has to run code.
  ``PR_SET_PDEATHSIG`` would do this on Linux alone, and fires at the end of a *thread*.
* A forked child is not the starter. It inherits the write end, so it closes its copy at once
  (``os.register_at_fork``), and its exit, its ``atexit`` and its garbage collector stop nothing.
  The pipe is close-on-exec, so programs that the starter runs never hold it either.
* No process is ever signalled by an id that may have been given to somebody else: the shell is
  the server's parent and has not waited for it yet when it sends a signal.
* The server runs in a session of its own, so that Ctrl-C in the starter's terminal reaches the
  starter alone, which may still need the server to finish its work.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence

# Arguments: the directory to remove, the signal that ends the server, the server's command line.
# Standard error brings the descriptor that the server shall hold: a shell cannot name those
# above 9. Jobs in the background read /dev/null, hence the pipe moves to 3. The reader is ended
# with KILL since a shell cannot undo signals that its starter ignores.
_SCRIPT = """
umask 077
exec 3<&0 4>&2 2>&1 </dev/null
directory=$1 signal=$2
shift 2
"$@" 3<&- &
server=$!
exec 4>&-
(
    while read -r _; do :; done
    kill -s "$signal" "$server"
    [ "$signal" = KILL ] && exit
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        sleep 1
    done
    kill -s KILL "$server"
) <&3 >/dev/null 2>&1 &
reader=$!
exec 3<&-
trap 'kill -s "$signal" "$server"' HUP INT TERM
while kill -0 "$server" 2>/dev/null; do
    wait "$server"
done
kill -s KILL "$reader"
rm -rf -- "$directory"
"""

# Longer than the shell's own patience (20 seconds) before it kills a server that still saves.
_PATIENCE = 25.0

# Reentrant, since the garbage collector may stop a server inside any of our own blocks.
_lock = threading.RLock()
_alive: set[Watchdog] = set()


class Watchdog:
    """A running server with the shell that looks after it."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        directory: str,
        ending: signal.Signals,
        log: int,
        held: int | None = None,
        owner: int | None = None,
    ) -> None:
        """Start ``command`` and look after it.

        Args:
            command: the server's command line.
            directory: removed with everything in it when the server has ended.
            ending: the signal that ends the server; SIGTERM lets it save, SIGKILL does not.
            log: descriptor that receives what the server prints.
            held: a descriptor that stays open as long as the server lives, such as a lock.
            owner: a descriptor that stays open as long as this process wants the server.
        """
        self.directory = directory
        self._owner = os.getpid()
        # No fork may fall between the pipe's creation and its entry in the set: the child would
        # keep the server alive without knowing it.
        with _lock:
            reading, writing = os.pipe()
            self._ours = [writing] if owner is None else [owner, writing]
            _alive.add(self)
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _SCRIPT, "tenantkv", directory, ending.name[3:], *command],
                stdin=reading,
                stdout=log,
                stderr=log if held is None else held,
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            self._close()
            raise
        finally:
            os.close(reading)

    @property
    def owned(self) -> bool:
        """Whether this process, rather than a parent that forked it, started the server."""
        return os.getpid() == self._owner

    @property
    def running(self) -> bool:
        """Whether the server runs; only its starter can tell."""
        return self.owned and self._process.poll() is None

    def stop(self) -> None:
        """End the server and remove its directory; nothing happens twice or in a forked child."""
        if not self.owned:
            return
        self._close()
        if self._process.returncode is not None:
            return
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            # The shell leads its own group and has not been waited for: the id is still its own.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _close(self) -> None:
        with _lock:
            if self in _alive:
                _alive.discard(self)
                for descriptor in self._ours:
                    os.close(descriptor)

    def _disown(self) -> None:
        for descriptor in self._ours:
            os.close(descriptor)
        # Not our child: keeps Popen from waiting for it and from warning that it still runs.
        if hasattr(self, "_process"):
            self._process.returncode = 0


def _after_fork_in_child() -> None:
    for watchdog in _alive:
        watchdog._disown()
    _alive.clear()
    _lock.release()


if hasattr(os, "register_at_fork"):  # Not on Windows, where nothing forks.
    os.register_at_fork(
        before=_lock.acquire,
        after_in_parent=_lock.release,
        after_in_child=_after_fork_in_child,
    )
