"""``tenantkv acl``: the rule with which an operator lets the server itself enforce the namespace."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
from dataclasses import dataclass

from tenantkv.cli import output
from tenantkv.cli.client import add_target_arguments
from tenantkv.cli.name import open_namespace
from tenantkv.cli.seal import read_input
from tenantkv.errors import ConfigurationError
from tenantkv.namespace import Namespace

_LONGEST_PASSWORD = 4096
_SHORTEST_PASSWORD = 20
_USER = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")

_EPILOG = """\
examples:
  openssl rand -base64 32 | tee password | tenantkv acl --password -
  tenantkv acl --user mytool --format file >> users.acl
  tenantkv acl --child customer-17

This SHOWS THE PREFIX, which is otherwise secret: give the rule to the server's operator and nobody else. The
user then sees, changes and hears its own keys and channels only, whatever it sends, and cannot list, flush or
configure anything. Connect with the registry on, as SCAN is not among its commands. The password is read
from standard input only, and appears as its SHA-256.
"""

#: What servers have that goes beyond names, or tells of others'. Categories first; of what is given back
#: behind them, SCRIPT and the like are as this package and redis-py use them.
COMMANDS = (
    "+@all",
    "-@admin",
    *("-keys", "-scan", "-randomkey", "-dbsize"),
    *("-flushall", "-flushdb", "-swapdb", "-move", "-migrate"),
    *("-script", "+script|load", "+script|exists"),
    *("-pubsub", "+pubsub|numsub"),
)
#: From Redis 7.0 on; older servers do not know them.
NEWER_COMMANDS = ("-function", "+pubsub|shardnumsub")


@dataclass(frozen=True, slots=True)
class AclReport:
    """The rule.

    Attributes:
        user: the server's user.
        rules: the words of ``ACL SETUSER``, behind the user. They hold the prefix.
        setuser: the whole command.
        file: the line for an ACL file.
        has_password: whether the rule holds the digest of one.
    """

    user: str
    rules: tuple[str, ...]
    setuser: str
    file: str
    has_password: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``acl``."""
    parser.description = "Print the ACL rule that confines a user to this namespace. SHOWS THE PREFIX."
    parser.epilog = _EPILOG
    parser.add_argument("--user", metavar="NAME", help="the server's user; tenant-FINGERPRINT if left out")
    parser.add_argument(
        "--password",
        metavar="-",
        type=_standard_input_only,
        help="read the user's password from standard input",
    )
    parser.add_argument(
        "--format", choices=("setuser", "file"), default="setuser", help="a command, or a line of an ACL file"
    )
    parser.add_argument("--redis6", action="store_true", help="for a server older than Redis 7.0")
    add_target_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run ``acl``."""
    space = open_namespace(os.environ, namespace=arguments.namespace, path=arguments.child)
    password = _read_password() if arguments.password else None
    report = describe(space, user=arguments.user, password=password, is_old=arguments.redis6)
    if arguments.json:
        output.print_json(report)
    else:
        if sys.stdout.isatty():
            output.warn("what follows shows the prefix, and this terminal may keep it in its scrollback")
        output.print_text(report.setuser if arguments.format == "setuser" else report.file)
    if not report.has_password:
        output.note("The user cannot log in yet: add >PASSWORD to the rule, or run this with --password -")
    return 0


def describe(
    space: Namespace, *, user: str | None = None, password: bytes | None = None, is_old: bool = False
) -> AclReport:
    """Return the rule for a namespace.

    Raises:
        ConfigurationError: the user's name cannot stand in a rule.
    """
    name = user or f"tenant-{space.fingerprint}"
    if not _USER.match(name):
        raise ConfigurationError("a user's name is 1 to 64 of A-Z a-z 0-9 _ . -")
    # The prefix holds no glob character, so these patterns match names of this namespace only.
    secrets = () if password is None else ("#" + hashlib.sha256(password).hexdigest(),)
    names = (f"~{space.wire_prefix.decode()}*", f"&{space.channel_prefix.decode()}*")
    commands = COMMANDS if is_old else (*COMMANDS, *NEWER_COMMANDS)
    rules = ("on", *secrets, *names, *commands)
    return AclReport(
        user=name,
        rules=("reset", "resetchannels", *rules),
        setuser=" ".join(("ACL SETUSER", name, "reset", "resetchannels", *rules)),
        file=" ".join(("user", name, "resetchannels", *rules)),
        has_password=password is not None,
    )


def _read_password() -> bytes:
    password = read_input(_LONGEST_PASSWORD).strip()
    if len(password) < _SHORTEST_PASSWORD or len(password.split()) != 1:
        # Its digest is no protection for one that can be guessed.
        raise ConfigurationError(
            f"the password has less than {_SHORTEST_PASSWORD} characters, or blanks; "
            "try: openssl rand -base64 32"
        )
    return password


def _standard_input_only(value: str) -> str:
    if value != "-":
        # argparse repeats a wrong value in its message, but not with this error.
        raise argparse.ArgumentTypeError(
            "is only '-', that is standard input: other users can read a command line"
        )
    return value
