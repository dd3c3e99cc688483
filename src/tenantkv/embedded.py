"""A private, real server for a first run, demos and tests: what ``embedded://`` connects to.

``start()`` runs a server of this machine (or the one that ``tenantkv[embedded]`` brings along) on
a unix socket in a directory that only this user can enter. It opens no port, keeps nothing
on disk unless a directory is given, and ends with the process that started it, also after SIGKILL
(``embedded_watchdog.py`` says how). A prefork server's workers use the server of the process that
forked them, do not stop it when they end, and lose it when that process ends.

``profile="shared"`` gives it the limits and refusals of a shared server (``profiles/shared.conf``),
so that what works here works there.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tenantkv.embedded_binary import (
    ServerBinary,
    find_binary,
    inspect_binary,
    installed_binaries,
    last_lines,
)
from tenantkv.embedded_config import checked_profile, config_text, headline, socket_directory
from tenantkv.embedded_directory import LOCK, OWNER, locked, prepared, publish, published
from tenantkv.embedded_watchdog import Watchdog
from tenantkv.errors import EmbeddedServerError

__all__ = [
    "EmbeddedOptions",
    "EmbeddedServer",
    "ServerBinary",
    "find_binary",
    "inspect_binary",
    "installed_binaries",
    "parse_url",
    "shared_server",
    "start",
]

# A large append-only file takes seconds to load; anything else is there within 50 ms.
_START_PATIENCE = 60.0
_POLL_INTERVAL = 0.004


@dataclass(frozen=True, slots=True)
class EmbeddedOptions:
    """What an ``embedded://`` URL asks for; equal options share one server in a process."""

    profile: str | None = None
    persistent_dir: str | None = None


class EmbeddedServer:
    """A running private server; ``start()`` makes one. A context manager that stops it.

    Attributes:
        socket_path: the unix socket it listens on.
        pid: its process id.
        product: ``redis``, ``valkey`` or the like.
        version: for example ``7.0.15``.
        binary: path of its program.
        profile: ``"shared"`` or ``None``.
    """

    def __init__(
        self,
        socket_path: str,
        info: Mapping[str, Any],
        *,
        profile: str | None,
        watchdog: Watchdog | None,
    ) -> None:
        """Describe a server that answers; use ``start()`` instead."""
        self.socket_path = socket_path
        self.profile = profile
        self.pid = int(info["process_id"])
        self.product = str(info.get("server_name", "redis"))
        self.version = str(info.get(f"{self.product}_version", info["redis_version"]))
        self.binary = str(info.get("executable", ""))
        self._watchdog = watchdog
        # Runs at garbage collection and at exit, and holds no reference to this object.
        self._finalizer = weakref.finalize(self, watchdog.stop) if watchdog else None

    @property
    def url(self) -> str:
        """The ``unix://`` URL that redis-py's ``from_url`` takes."""
        return f"unix://{quote(self.socket_path)}"

    @property
    def owned(self) -> bool:
        """Whether this process started the server, so that ``stop()`` ends it."""
        return self._watchdog is not None and self._watchdog.owned

    @property
    def running(self) -> bool:
        """Whether the server is still there."""
        if self._watchdog is not None and self._watchdog.owned:
            return self._watchdog.running
        return _accepts(self.socket_path)

    def stop(self) -> None:
        """End the server if this process started it, and remove its directory.

        In a forked child, and for a server that another process started, nothing happens.
        A second call does nothing either.
        """
        if self._watchdog is not None:
            self._watchdog.stop()

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<EmbeddedServer {self.product} {self.version} pid={self.pid} {self.profile or ''}>"


def start(
    profile: str | None = None,
    *,
    persistent_dir: str | os.PathLike[str] | None = None,
    binary: str | os.PathLike[str] | None = None,
    extra_config: Mapping[str, str | Sequence[str]] | None = None,
    arguments: Sequence[str] = (),
) -> EmbeddedServer:
    """Start a private server and wait until it answers (about 30 ms).

    Args:
        profile: ``"shared"`` for the limits and refusals of a shared server, ``None`` for none.
        persistent_dir: keep the data there, and share the server with other processes of this
            user that name the same directory: the first one starts and owns it, and the
            others lose it when that one ends. Made with mode 0700 when it is missing.
        binary: the program to run instead of what ``find_binary`` finds.
        extra_config: more directives; a sequence writes its directive once for each item.
        arguments: more command line arguments, such as ``--sentinel``.

    Returns:
        The running server. Call ``stop()`` or use it in ``with``; the end of the process
        or of the last reference stops it as well.

    Raises:
        EmbeddedServerError: there is no program to run, or it did not start; the message
            holds the last lines that it wrote.

    Example:
        >>> with start("shared") as server:
        ...     redis.Redis.from_url(server.url).ping()
        True
    """
    checked_profile(profile)
    if os.name != "posix":
        raise EmbeddedServerError(
            "an embedded server needs Linux or macOS; use a server's URL, or memory:// for tests"
        )
    launch = _Launch(profile, binary, extra_config or {}, arguments)
    if persistent_dir is not None:
        return _start_persistent(launch, Path(persistent_dir))
    return _start(launch)


def shared_server(url: str = "embedded://") -> EmbeddedServer:
    """Return this process's server for an ``embedded://`` URL; the first call starts it.

    Forked children get their parent's server while it runs.

    Args:
        url: ``embedded://``, ``embedded://?profile=shared``, or ``embedded:///directory``.

    Raises:
        EmbeddedServerError: the URL cannot be understood, or the server does not start.
    """
    options = parse_url(url)
    with _shared_lock:
        server = _shared.get(options)
        if server is None or not server.running:
            server = start(options.profile, persistent_dir=options.persistent_dir)
            _shared[options] = server
        return server


def parse_url(url: str) -> EmbeddedOptions:
    """Read an ``embedded://`` URL.

    Raises:
        EmbeddedServerError: another scheme, a host, an unknown or repeated option.
    """
    parts = urlsplit(url)
    form = "embedded://[/directory][?profile=shared]"
    if parts.scheme != "embedded" or parts.netloc or parts.fragment:
        raise EmbeddedServerError(f"not an URL of the form {form}")
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = dict(pairs)
    if len(query) != len(pairs) or query.keys() - {"profile"}:
        raise EmbeddedServerError(f"unknown or repeated option in an URL of the form {form}")
    profile = checked_profile(query.get("profile"))
    directory = unquote(parts.path)
    if directory in ("", "/"):
        return EmbeddedOptions(profile)
    return EmbeddedOptions(profile, os.path.realpath(directory))


@dataclass(frozen=True, slots=True)
class _Launch:
    """What to run, and how."""

    profile: str | None
    binary: str | os.PathLike[str] | None
    extra_config: Mapping[str, str | Sequence[str]]
    arguments: Sequence[str]


def _start(launch: _Launch, *, data_dir: Path | None = None, lock: int | None = None) -> EmbeddedServer:
    binary = inspect_binary(find_binary(launch.binary)).path
    directory = socket_directory()
    socket_path = f"{directory}/s"
    config = Path(directory, "server.conf")
    log = os.open(Path(directory, "server.log"), os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        config.write_text(config_text(launch.profile, launch.extra_config, socket_path, data_dir))
        watchdog = Watchdog(
            [binary, str(config), *launch.arguments],
            directory=directory,
            ending=signal.SIGTERM if data_dir else signal.SIGKILL,
            log=log,
            held=lock,
            owner=locked(Path(directory, OWNER)) if data_dir else None,
        )
        try:
            info = _wait_until_ready(watchdog, socket_path, log, launch.extra_config)
        except BaseException:
            watchdog.stop()
            raise
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    finally:
        os.close(log)
    return EmbeddedServer(socket_path, info, profile=launch.profile, watchdog=watchdog)


def _start_persistent(launch: _Launch, directory: Path) -> EmbeddedServer:
    """Start the directory's server, or use the one that another process runs there."""
    directory = prepared(directory)
    deadline = time.monotonic() + _START_PATIENCE
    while time.monotonic() < deadline:
        lock = locked(directory / LOCK)
        if lock is not None:
            try:
                server = _start(launch, data_dir=directory, lock=lock)
            finally:
                os.close(lock)
            publish(directory, server.socket_path)
            return server
        attached = _attach(directory, launch.profile)
        if attached is not None:
            return attached
        time.sleep(_POLL_INTERVAL)
    raise EmbeddedServerError(f"a server holds {directory}, but it does not answer")


def _attach(directory: Path, profile: str | None) -> EmbeddedServer | None:
    socket_path = published(directory)
    info = _server_info(str(socket_path), None) if socket_path else None
    if socket_path is None or info is None:
        return None
    try:
        config = socket_path.with_name("server.conf").read_text()
    except FileNotFoundError:
        return None  # It ended just now.
    if not config.startswith(headline(profile)):
        raise EmbeddedServerError(
            f"another process already serves {directory} with another profile than {profile!r}"
        )
    return EmbeddedServer(str(socket_path), info, profile=profile, watchdog=None)


def _wait_until_ready(
    watchdog: Watchdog, socket_path: str, log: int, config: Mapping[str, str | Sequence[str]]
) -> dict[str, Any]:
    password = config.get("requirepass")
    deadline = time.monotonic() + _START_PATIENCE
    while True:
        # Asked before the server is, so that a server which dies in between is asked again.
        alive = watchdog.running
        info = _server_info(socket_path, password if isinstance(password, str) else None)
        if info is not None:
            return info
        if not alive or time.monotonic() > deadline:
            size = os.fstat(log).st_size
            said = os.pread(log, 8192, max(0, size - 8192)).decode(errors="replace")
            problem = "did not answer in time" if alive else "ended at once"
            raise EmbeddedServerError(f"the server {problem}:\n{last_lines(said)}")
        time.sleep(_POLL_INTERVAL)


def _server_info(socket_path: str, password: str | None) -> dict[str, Any] | None:
    """Return INFO's server section, or ``None`` from a server that is not (yet) ready."""
    client = redis.Redis(
        unix_socket_path=socket_path,
        password=password,
        socket_timeout=5,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        client.ping()  # Fails while data is being loaded; INFO would not.
        return client.info("server")
    except redis.AuthenticationError as error:
        raise EmbeddedServerError("the server wants a password that is not ours") from error
    except (redis.ConnectionError, redis.TimeoutError):
        return None
    finally:
        client.close()


def _accepts(socket_path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        try:
            connection.connect(socket_path)
        except OSError:
            return False
    return True


_shared: dict[EmbeddedOptions, EmbeddedServer] = {}
_shared_lock = threading.Lock()


def _renew_lock() -> None:
    """Let a forked child go on when another thread of its parent held the lock."""
    global _shared_lock  # noqa: PLW0603 - a lock cannot be renewed in place
    _shared_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
