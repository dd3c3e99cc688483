"""A TCP proxy on loopback that loses connections where a test wants it to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from tests import sockets


class CuttingProxy:
    """Hands bytes on between clients and a server, and cuts the connection after a request.

    The request that is cut has reached the server and was carried out; only its reply is lost. That is
    what a client cannot tell from a request that never arrived.

    Attributes:
        port: where it listens on 127.0.0.1.
        cuts: how many connections it has cut.
        meddled: how often somebody came in between two requests.
    """

    def __init__(self, socket_path: str) -> None:
        self._path = socket_path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.cuts = 0
        self._left = 0
        self._marker = b""
        self._answer: bytes | None = None
        self.meddled = 0
        self._meddler: Callable[[], object] | None = None
        self._before_meddling = 0
        self._lock = threading.Lock()
        self._carried_out = threading.Condition(self._lock)
        self._under_way = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def cut(self, marker: bytes, *, times: int = 1, answer: bytes | None = None) -> None:
        """Lose the reply of the next requests with `marker` in them, or give `answer` and go on."""
        with self._lock:
            self._marker, self._left, self._answer, self.cuts = marker, times, answer, 0

    def meddle(self, deed: Callable[[], object], *, after: int = 0) -> None:
        """Do something ahead of the next request, or when some more have passed."""
        with self._lock:
            self._meddler, self._before_meddling, self.meddled = deed, after, 0

    def settle(self) -> None:
        """Disturb nothing more, and wait until the server has carried out what was cut."""
        with self._lock:
            self._left, self._meddler = 0, None
            assert self._carried_out.wait_for(lambda: not self._under_way, 60)

    def close(self) -> None:
        sockets.end(self._listener)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._path)
            except OSError:  # It has been stopped.
                client.close()
                server.close()
                continue
            threading.Thread(target=self._requests, args=(client, server), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        was_cut = False
        with client, server:
            replies = threading.Thread(target=_hand_back, args=(server, client), daemon=True)
            replies.start()
            try:
                while data := client.recv(65536):
                    self._let_meddle()
                    if self._is_answered(client, data):
                        continue
                    was_cut = was_cut or self._is_cut(client, data)
                    server.sendall(data)
                # Half of it: what the server was sent last is still carried out.
                server.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            replies.join()
        if was_cut:
            self._end()

    def _end(self) -> None:
        with self._lock:
            self._under_way -= 1
            self._carried_out.notify_all()

    def _let_meddle(self) -> None:
        with self._lock:
            deed = self._meddler
            self._before_meddling -= 1
            if deed is None or self._before_meddling >= 0:
                return
            self._meddler = None
            self.meddled += 1
            self._under_way += 1
        try:
            deed()
        finally:
            self._end()

    def _is_due(self, data: bytes) -> bool:
        if self._left <= 0 or self._marker not in data:
            return False
        self._left -= 1
        self.cuts += 1
        return True

    def _is_answered(self, client: socket.socket, data: bytes) -> bool:
        with self._lock:
            answer = self._answer
            if answer is None or not self._is_due(data):
                return False
        client.sendall(answer)
        return True

    def _is_cut(self, client: socket.socket, data: bytes) -> bool:
        with self._lock:
            if self._answer is not None or not self._is_due(data):
                return False
            self._under_way += 1
        try:
            # The client's side first: the reply must not get through.
            client.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        return True


def _hand_back(server: socket.socket, client: socket.socket) -> None:
    """Give replies to a client for as long as it is there, and take them in any case."""
    while data := _received(server):
        try:
            client.sendall(data)
        except OSError:
            pass
    try:
        client.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def _received(source: socket.socket) -> bytes:
    try:
        return source.recv(65536)
    except OSError:
        return b""
