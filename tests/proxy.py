"""A TCP proxy on loopback, in the place of a virtual address, a load balancer or a bad network."""

from __future__ import annotations

import contextlib
import socket
import threading

from tests.sockets import end


class Proxy:
    """Passes bytes between clients and a server that can be exchanged while it runs.

    Attributes:
        port: where clients connect.
        target: the server's port; new connections go there, present ones stay where they are.
        accepted: how many connections clients made.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.accepted = 0
        self._cut_after: int | None = None
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def cut_reply(self, after_bytes: int = 0) -> None:
        """Let the next request through, and end its connection after so many bytes of the reply."""
        self._cut_after = after_bytes

    @property
    def will_cut(self) -> bool:
        """Whether a cut that was asked for has not happened yet."""
        return self._cut_after is not None

    def cut_all(self) -> None:
        """End every connection."""
        with self._lock:
            sockets, self._open = self._open, set()
        for each in sockets:
            end(each)

    def stop(self) -> None:
        end(self._listener)
        self.cut_all()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                end(client)
                continue
            with self._lock:
                self._open |= {client, server}
            for pump, source, sink in ((self._up, client, server), (self._down, server, client)):
                threading.Thread(target=pump, args=(source, sink), daemon=True).start()

    def _up(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        self._close(source, sink)

    def _down(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                cut = self._cut_after
                if cut is not None:
                    sink.sendall(data[:cut])
                    self._cut_after = None
                    break
                sink.sendall(data)
        self._close(source, sink)

    def _close(self, *sockets: socket.socket) -> None:
        with self._lock:
            self._open -= set(sockets)
        for each in sockets:
            end(each)
