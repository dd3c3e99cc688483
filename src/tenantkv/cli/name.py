"""``tenantkv name``: an own name's wire name and back, for debugging with other tools."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tenantkv.cli import output
from tenantkv.cli.client import add_target_arguments
from tenantkv.config import resolve
from tenantkv.errors import ConfigurationError
from tenantkv.keyring_store import load_keyring
from tenantkv.namespace import Namespace

_EPILOG = """\
examples:
  tenantkv name lastupdated
  printf 'a\\nb\\n' | tenantkv name -
  tenantkv name --channel events
  redis-cli object freq ... | tenantkv name --own -

This SHOWS THE PREFIX, which is otherwise secret: whoever knows it can name your keys. Do not paste
the output into tickets or chats. Wire names are read from standard input only, since other users of
the machine can read a command line.
"""


@dataclass(frozen=True, slots=True)
class NameReport:
    """A name in both forms; bytes that are not UTF-8 appear as lone surrogates."""

    own: str
    wire: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``name``."""
    parser.description = "Show under which name the server stores a key. SHOWS THE PREFIX."
    parser.epilog = _EPILOG
    parser.add_argument(
        "names", metavar="KEY", nargs="+", help="own name; - reads one a line from standard input"
    )
    parser.add_argument("--channel", action="store_true", help="the names are of channels")
    parser.add_argument("--own", action="store_true", help="the other way: from wire names (KEY is - only)")
    add_target_arguments(parser, json=False)
    parser.add_argument("--json", action="store_true", help="print own and wire names as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run ``name``."""
    if arguments.own and arguments.names != ["-"]:
        raise ConfigurationError(
            "wire names are read from standard input only, since other users can read a command "
            "line; give '-' as the key"
        )
    space = open_namespace(os.environ, namespace=arguments.namespace, path=arguments.child)
    hides = space.protection.names == "hidden" and not arguments.channel
    if hides and arguments.own:
        raise ConfigurationError("names are hidden: what stands on the server is a hash, and tells no name")
    prefix = space.channel_prefix if arguments.channel else space.wire_prefix
    names = list(_names(arguments.names))
    if arguments.own:
        pairs = [_own_pair(prefix, name) for name in names]
    else:
        pairs = [(name, prefix + (space.hidden_name(name) if hides else name)) for name in names]
    if arguments.json:
        output.print_json([NameReport(os.fsdecode(own), os.fsdecode(wire)) for own, wire in pairs])
        return 0
    for own, wire in pairs:
        _print_name(own if arguments.own else wire)
    return 0


def open_namespace(
    environ: Mapping[str, str], *, namespace: str | None = None, path: Iterable[str] = ()
) -> Namespace:
    """Return the namespace in use in that environment, or one below it."""
    settings = resolve(environ=environ, namespace=namespace)
    keyring = load_keyring(namespace=settings.namespace, environ=environ)
    space = Namespace(keyring, placement=settings.placement, protection=settings.protect(keyring))
    for name in path:
        space = space.child(name)
    return space


def _names(words: list[str]) -> Iterable[bytes]:
    for word in words:
        if word == "-":
            yield from sys.stdin.buffer.read().splitlines()
        else:
            # The bytes as the shell gave them.
            yield os.fsencode(word)


def _own_pair(prefix: bytes, wire: bytes) -> tuple[bytes, bytes]:
    if not wire.startswith(prefix):
        # It may be somebody else's name, or this one's with a typing error: not repeated.
        raise ConfigurationError("a name on standard input does not belong to this namespace")
    return wire[len(prefix) :], wire


def _print_name(name: bytes) -> None:
    if sys.stdout.isatty():
        output.print_text(output.clean(name.decode(errors="backslashreplace")))
    else:
        # Another program gets the very bytes.
        sys.stdout.buffer.write(name + b"\n")
