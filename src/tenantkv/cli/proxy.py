"""``tenantkv proxy``: RESP for programs in other languages, on the same table and keyring."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from tenantkv.cli import output
from tenantkv.cli.client import add_target_arguments, natural, without_url
from tenantkv.config import resolve
from tenantkv.errors import ConfigurationError

if TYPE_CHECKING:
    from tenantkv.proxy.server import Address

#: What clients have to say in AUTH; from the environment, since other users can read a command line.
PASSWORD = "TENANTKV_PROXY_PASSWORD"

_SHORTEST_PASSWORD = 16

_EPILOG = """\
examples:
  tenantkv proxy --listen unix:/run/user/1000/tool.sock
  redis-cli -s /run/user/1000/tool.sock SET greeting hello
  tenantkv proxy --listen 127.0.0.1:6380
  TENANTKV_PROXY_PASSWORD=... tenantkv proxy --listen 10.0.0.7:6380 --allow-remote

Clients connect without knowing the prefix or a key: every command is namespaced, values are sealed, and what
would leave the namespace is refused, as in Python. Whoever can connect has the whole namespace: prefer a Unix
socket, which is yours alone (mode 0600), and set TENANTKV_PROXY_PASSWORD for TCP.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``proxy``."""
    parser.description = "Serve one namespace over RESP, to redis-cli and programs in other languages."
    parser.epilog = _EPILOG
    parser.add_argument(
        "--listen", metavar="ADDRESS", required=True, help="unix:PATH, or HOST:PORT on this machine"
    )
    parser.add_argument(
        "--allow-remote",
        action="store_true",
        help=f"listen on a host that others can reach; needs a password in {PASSWORD}",
    )
    parser.add_argument("--max-clients", metavar="N", type=natural, default=100, help="at the same time; 100")
    parser.add_argument(
        "--max-command", metavar="BYTES", type=natural, default=67_108_864, help="of one command; 64 MiB"
    )
    parser.add_argument(
        "--allow-flush",
        action="store_true",
        help="let FLUSHDB delete the whole namespace",
    )
    add_target_arguments(parser, json=False)


def run(arguments: argparse.Namespace) -> int:
    """Run ``proxy``."""
    # Here, as help and completion need no proxy.
    from tenantkv.proxy.limits import Limits
    from tenantkv.proxy.server import Address, bound

    address = Address.parse(arguments.listen)
    password = os.fsencode(os.environ.get(PASSWORD, "")) or None
    _check_reach(address, arguments.allow_remote, password)
    limits = Limits(
        clients=max(arguments.max_clients, 1),
        request_bytes=max(arguments.max_command, 1024),
        may_flush=arguments.allow_flush,
    )
    logging.basicConfig(format="tenantkv: %(message)s", stream=sys.stderr)
    with bound(address) as listener:
        asyncio.run(_serve(_client(arguments), listener, limits, password))
    return 0


def _check_reach(address: Address, allow_remote: bool, password: bytes | None) -> None:
    if password is not None and len(password) < _SHORTEST_PASSWORD:
        raise ConfigurationError(f"{PASSWORD} is too short: it takes {_SHORTEST_PASSWORD} bytes or more")
    if not address.is_private:
        if not allow_remote:
            raise ConfigurationError(
                f"others can reach {address.host}, and whoever connects has the whole namespace; "
                f"listen on 127.0.0.1 or a Unix socket, or say --allow-remote and set {PASSWORD}"
            )
        if password is None:
            raise ConfigurationError(f"--allow-remote needs a password in {PASSWORD}")
        output.warn("what goes over the network to this proxy is not encrypted, its password included")
    elif not address.path and password is None:
        output.warn(f"every user of this machine can connect; set {PASSWORD}, or listen on a Unix socket")


def _client(arguments: argparse.Namespace) -> Any:
    from tenantkv.transport.async_connect import connect

    settings = resolve(environ=os.environ, namespace=arguments.namespace)
    if settings.url_source == "default":
        raise without_url("so there is no server to ask")
    if settings.kind in ("cluster", "memory"):
        raise ConfigurationError(f"the proxy speaks to one server; {settings.kind} URLs are not for it")
    registry = None if settings.is_registry_chosen else True
    client: Any = connect(
        namespace=arguments.namespace, registry=registry, protocol=2, decode_responses=False
    )
    for name in arguments.child:
        client = client.child(name)
    return client


async def _serve(client: Any, listener: Any, limits: Any, password: bytes | None) -> None:
    from tenantkv.proxy.server import Server

    server = Server(client, limits=limits, password=password)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await server.listen(listener)
    name = listener.getsockname()
    output.note(f"unix:{name}" if isinstance(name, str) else _shown(name))
    await stopped.wait()
    await server.stop()


def _shown(name: tuple[Any, ...]) -> str:
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{host}:{name[1]}"
