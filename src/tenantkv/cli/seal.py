"""``tenantkv seal``: seal standard input as a value of one key, for scripts and other programs."""

from __future__ import annotations

import argparse
import base64
import os
import sys
import time

from tenantkv.cli import output
from tenantkv.cli.client import add_target_arguments
from tenantkv.cli.name import open_namespace
from tenantkv.envelope import LARGEST_VALUE_BYTES, Sealer
from tenantkv.envelope_header import KINDS, Kind
from tenantkv.errors import ConfigurationError
from tenantkv.suites import SuiteName

_EPILOG = """\
examples:
  printf hello | tenantkv seal --name greeting --text
  tenantkv seal --name report < report.pdf | redis-cli -x set "$(tenantkv name report)"
  tenantkv seal --name user:1 --kind hash --field token --expires 3600 < token > sealed

The value is read from standard input only, since other users can read a command line. What comes out
opens only under the same name, kind and field, with 'tenantkv open' or a sealing client.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``seal``."""
    parser.description = "Seal standard input to standard output."
    parser.epilog = _EPILOG
    add_place_arguments(parser)
    parser.add_argument(
        "--expires", metavar="SECONDS", type=float, help="from now; after that it does not open"
    )
    parser.add_argument(
        "--member", action="store_true", help="the same value always looks the same (members of sets)"
    )
    parser.add_argument("--text", action="store_true", help="print base64")


def add_place_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``seal`` and ``open`` share: where the value stands."""
    parser.add_argument("--name", metavar="KEY", required=True, help="the key's own name")
    parser.add_argument(
        "--kind", choices=sorted(KINDS), default="kv", help="what the value is part of; kv if left out"
    )
    parser.add_argument("--field", metavar="FIELD", default="", help="the field of a hash or stream")
    parser.add_argument(
        "--mode",
        choices=("seal", "sign"),
        default="seal",
        help="sign leaves the value readable and vouches for it",
    )
    add_target_arguments(parser, json=False)


def run(arguments: argparse.Namespace) -> int:
    """Run ``seal``."""
    if not arguments.text and sys.stdout.isatty():
        raise ConfigurationError("an envelope is binary: send it to a file or program, or add --text")
    sealer = open_sealer(arguments)
    value = read_input(LARGEST_VALUE_BYTES)
    kind, name, field = place(arguments)
    if arguments.member:
        if arguments.expires is not None:
            raise ConfigurationError("a member's envelope does not expire; leave out --expires or --member")
        sealed = sealer.seal_member(value, kind=kind, name=name, field=field)
    else:
        expires = None if arguments.expires is None else time.time() + arguments.expires
        sealed = sealer.seal(value, kind=kind, name=name, field=field, expires=expires)
    if arguments.text:
        output.print_text(base64.b64encode(sealed).decode())
    else:
        sys.stdout.buffer.write(sealed)
    return 0


def open_sealer(arguments: argparse.Namespace) -> Sealer:
    """Return the sealer of the namespace in use, in the mode that was asked for."""
    space = open_namespace(os.environ, namespace=arguments.namespace, path=arguments.child)
    suites: tuple[SuiteName, ...] = ("sign",) if arguments.mode == "sign" else ("xaes", "siv")
    return Sealer(space.keyring, entropy=os.urandom, clock=time.time, mode=arguments.mode, suites=suites)


def place(arguments: argparse.Namespace) -> tuple[Kind, bytes, bytes]:
    """Return kind, name and field, in the bytes that the shell gave."""
    return arguments.kind, os.fsencode(arguments.name), os.fsencode(arguments.field)


def read_input(largest_bytes: int) -> bytes:
    """Return standard input.

    Raises:
        ConfigurationError: it is a terminal (which would show what is typed), or too long.
    """
    if sys.stdin.isatty():
        raise ConfigurationError("the value is read from standard input; pipe it in, or use '< FILE'")
    data = sys.stdin.buffer.read(largest_bytes + 1)
    if len(data) > largest_bytes:
        raise ConfigurationError(f"standard input is longer than {largest_bytes} bytes")
    return data
