"""Where the proxy listens, for how many, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tenantkv.errors import ConfigurationError
from tenantkv.proxy.conversation import Conversation
from tenantkv.proxy.limits import Limits
from tenantkv.proxy.local import Visitor

_BACKLOG = 128
_FULL = b"-ERR max number of clients reached\r\n"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a path, or a host and a port.

    Attributes:
        path: of a Unix socket; empty for TCP.
        host, port: for TCP.
    """

    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``unix:PATH`` or ``HOST:PORT``.

        Raises:
            ConfigurationError: it is neither.

        Example:
            >>> Address.parse("unix:/run/tool.sock").path, Address.parse("[::1]:6379").host
            ('/run/tool.sock', '::1')
        """
        if text.startswith("unix:"):
            path = text[5:].removeprefix("//")
            if not path.startswith("/") or "\0" in path:
                raise ConfigurationError("--listen unix: takes an absolute path, such as unix:/run/tool.sock")
            return cls(path=path)
        host, colon, port = text.rpartition(":")
        is_bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not host or not port.isdigit() or int(port) > 65535 or (":" in host) != is_bracketed:
            raise ConfigurationError(
                "--listen is unix:PATH or HOST:PORT, such as unix:/run/tool.sock or 127.0.0.1:6379"
            )
        return cls(host=host.strip("[]"), port=int(port))

    @property
    def is_private(self) -> bool:
        """Whether only this machine can reach it."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class Server:
    """Listens, and serves each client with a `Conversation`.

    Args:
        client: tenantkv's asyncio client for one server.
        limits: how much clients may take.
        password: what they have to say, or ``None``.
    """

    def __init__(self, client: Any, *, limits: Limits, password: bytes | None = None) -> None:
        self._client = client
        self._limits = limits
        self._password = password
        self._conversations: set[Conversation] = set()
        self._listening: asyncio.AbstractServer | None = None
        self._count = 0

    async def listen(self, listener: socket.socket) -> None:
        """Begin to serve who connects to a bound socket."""
        start = asyncio.start_unix_server if listener.family == socket.AF_UNIX else asyncio.start_server
        self._listening = await start(self._welcome, sock=listener, backlog=_BACKLOG)

    async def stop(self) -> None:
        """Take no more clients, let replies that are on their way come back, and end."""
        if self._listening is not None:
            self._listening.close()
        if self._conversations:
            await asyncio.gather(*(each.finish() for each in self._conversations), return_exceptions=True)
        deadline = asyncio.get_running_loop().time() + self._limits.grace
        while self._conversations and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        await self._client.aclose()

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._conversations) >= self._limits.clients:
            writer.write(_FULL)
            writer.close()
            return
        self._count += 1
        visitor = Visitor(self._count, self._password)
        conversation = Conversation(self._client, self._limits, visitor, reader, writer)
        self._conversations.add(conversation)
        try:
            await conversation.run()
        finally:
            self._conversations.discard(conversation)


@contextlib.contextmanager
def bound(address: Address) -> Iterator[socket.socket]:
    """Give a bound socket; that of a path has mode 0600 from the beginning, and goes at the end.

    Raises:
        ConfigurationError: it cannot be bound.
    """
    if address.path:
        with _bound_path(address.path) as listener:
            yield listener
        return
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _cannot(f"{address.host}:{address.port}", error) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
    except OSError as error:
        listener.close()
        raise _cannot(f"{address.host}:{address.port}", error) from None
    with listener:
        yield listener


@contextlib.contextmanager
def _bound_path(path: str) -> Iterator[socket.socket]:
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The mode is that of the moment in which the socket appears.
    before = os.umask(0o177)
    try:
        listener.bind(path)
        made = os.lstat(path)
    except OSError as error:
        listener.close()
        raise _cannot(path, error) from None
    finally:
        os.umask(before)
    try:
        with listener:
            yield listener
    finally:
        with contextlib.suppress(OSError):
            found = os.lstat(path)
            # Somebody may have put another one in its place.
            if (found.st_dev, found.st_ino) == (made.st_dev, made.st_ino):
                os.unlink(path)


def _remove_stale(path: str) -> None:
    """Remove a socket on which nobody listens."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _cannot(path, error) from None
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigurationError(f"cannot listen on {path}: there is something that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError as error:
            raise _cannot(path, error) from None
        else:
            raise ConfigurationError(f"cannot listen on {path}: somebody does already")


def _cannot(place: str, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"cannot listen on {place}: {error.strerror or error}")
