"""The client of commands that talk to the server: from the environment and keyring, as ``connect()``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tenantkv.config import resolve
from tenantkv.errors import ConfigurationError, TenantKVError

#: Nothing to show or do: there is no such key, or something was left.
LEFT = 3


class ServerError(TenantKVError):
    """What the server, or the way to it, has said; free of wire names."""


def add_target_arguments(parser: argparse.ArgumentParser, *, json: bool = True) -> None:
    """Add what these commands share: whose names, and how to print.

    The server's URL comes from the environment only, since other users can read a command line.
    """
    add_child_argument(parser)
    add_namespace_argument(parser)
    if json:
        add_json_argument(parser)


def add_child_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--child``."""
    parser.add_argument(
        "--child",
        metavar="NAME",
        action="append",
        default=[],
        help="of that child namespace; give it again for a grandchild",
    )


def add_namespace_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--namespace``."""
    parser.add_argument("--namespace", metavar="NAME", help="label, for tenants with several namespaces")


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def add_actions(
    parser: argparse.ArgumentParser, actions: Mapping[str, str], epilog: str | Callable[[str], str]
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Add the actions of a command, and yield each with its parser.

    Args:
        parser: the command's.
        actions: what each does, in small letters and without a full stop.
        epilog: examples, or what gives those of one action.
    """
    subparsers = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for action, summary in actions.items():
        subparser = subparsers.add_parser(
            action,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=epilog if isinstance(epilog, str) else epilog(action),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        yield action, subparser


def context_argument(text: str) -> tuple[str, str]:
    """Read ``GLOB=NAME``, for `argparse`."""
    glob, equals, name = text.partition("=")
    if not (glob and equals and name):
        raise argparse.ArgumentTypeError("it has the form GLOB=NAME")
    return glob, name


def without_url(consequence: str) -> ConfigurationError:
    """Return the error for a command that needs a server, where no URL says which."""
    return ConfigurationError(
        f"no server URL is set (TENANTKV_URL, TOOL_REDIS_URI or REDIS_URL), {consequence}: "
        "say which with export TENANTKV_URL=redis://HOST:6379/0"
    )


@contextmanager
def talking(arguments: argparse.Namespace, *, reveal: bool = True) -> Iterator[Any]:
    """Give a client for the namespace and server in use.

    The registry is on unless the environment says no: without it a server that has no SCAN could list
    nothing, and what these commands write would not be listed either.

    Args:
        arguments: with what `add_target_arguments` has added.
        reveal: whether sealed values are shown, or something that stands for them.

    Raises:
        ServerError: the server, or the way to it, failed.
        ConfigurationError: there is no URL in the environment.
    """
    # Here, as help and completion need no client.
    from redis.exceptions import RedisClusterException, RedisError

    from tenantkv.transport.connect import connect

    settings = resolve(environ=os.environ, namespace=arguments.namespace)
    if settings.url_source == "default":
        raise without_url("so there is no server to ask")
    # On a Cluster a registry needs all keys in one slot.
    is_spread = settings.kind == "cluster" and settings.placement != "slot"
    registry = None if settings.is_registry_chosen or is_spread else True
    client: Any = None
    try:
        client = connect(namespace=arguments.namespace, registry=registry, protocol=2, decode_responses=False)
        made = client
        for name in arguments.child:
            client = client.child(name)
        if not reveal:
            from tenantkv.cli.veil import veil

            veil(client.namespace)
        try:
            yield client
        finally:
            made.close()
    except TenantKVError:
        # A refusal is an error of redis-py's as well.
        raise
    except (RedisError, RedisClusterException) as error:
        raise ServerError(f"the server: {error}") from None


def natural(text: str) -> int:
    """Read a number that counts something, for `argparse`."""
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise argparse.ArgumentTypeError("it is a whole number, 0 or more")
    return number


def own_name(text: str) -> bytes:
    """Return an own name in the bytes that the shell gave."""
    return os.fsencode(text)


def as_text(data: bytes) -> str:
    """Return bytes for a report; those that are not UTF-8 appear as lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


def is_cluster(client: Any) -> bool:
    """Whether a client is one of a Cluster, which has no single connection pool."""
    return hasattr(client, "_registrars")


def seconds(value: float | None) -> str:
    """Return a time for people, in the unit that suits it."""
    if value is None:
        return "-"
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if value >= 2 * length:
            return f"{value / length:.1f} {unit}"
    return f"{value:.0f} s"


def size(count: float | None) -> str:
    """Return a number of bytes for people."""
    if count is None:
        return "-"
    for unit, length in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count:.0f} B"
