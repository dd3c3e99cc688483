"""The entry point: finds the command, imports its module, turns errors into exit codes.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple, Protocol, cast

from tenantkv.cli import output
from tenantkv.errors import TenantKVError

FAILURE = 1
INTERRUPTED = 130


class Command(NamedTuple):
    """A command: its name, the module that does it, and what it does."""

    name: str
    module: str
    summary: str


COMMANDS = (
    Command("init", "tenantkv.cli.init", "make this tenant's identity, once"),
    Command("show", "tenantkv.cli.show", "show the identity and the server in use, no secrets"),
    Command("name", "tenantkv.cli.name", "show under which name the server stores a key"),
    Command("key", "tenantkv.cli.key", "list, add, promote and retire the keys that seal, and reseal"),
    Command("rotate", "tenantkv.cli.rotate", "replace the prefix, when somebody else knows it"),
    Command("seal", "tenantkv.cli.seal", "seal standard input as a value"),
    Command("open", "tenantkv.cli.open", "open a sealed value from standard input"),
    Command("keys", "tenantkv.cli.keys", "list your own keys: type, size, TTL, idle time"),
    Command("get", "tenantkv.cli.values", "show what a key holds; sealed values with --reveal"),
    Command("set", "tenantkv.cli.values_change", "store standard input in a key"),
    Command("ttl", "tenantkv.cli.values", "show for how long a key stays"),
    Command("expire", "tenantkv.cli.values_change", "let a key expire, or never"),
    Command("del", "tenantkv.cli.values_change", "delete keys by name"),
    Command("rename", "tenantkv.cli.values_change", "give a key another name"),
    Command("type", "tenantkv.cli.values", "show a key's type"),
    Command("dump", "tenantkv.cli.values", "write a key in the server's own form"),
    Command("load", "tenantkv.cli.values_change", "make a key of what 'dump' wrote"),
    Command("usage", "tenantkv.cli.usage", "show what your keys cost, in tables and charts"),
    Command("clear", "tenantkv.cli.clear", "delete your own keys, and nothing that nobody meant"),
    Command("export", "tenantkv.cli.transfer", "write all own keys with their TTLs to an encrypted file"),
    Command("import", "tenantkv.cli.transfer", "make keys of what 'export' wrote"),
    Command("adopt", "tenantkv.cli.adopt", "move keys from before the namespace into it, and back"),
    Command("exec", "tenantkv.cli.exec", "run one command in own names"),
    Command("shell", "tenantkv.cli.shell", "a redis-cli that speaks own names"),
    Command("acl", "tenantkv.cli.acl", "print the rule that lets the server enforce the namespace"),
    Command("scan", "tenantkv.cli.scan", "tell whether values would be refused as plaintext secrets"),
    Command("doctor", "tenantkv.cli.doctor", "audit server, network, settings, files and code; read-only"),
    Command("status", "tenantkv.cli.status", "how the server and your part of it fare, against thresholds"),
    Command("top", "tenantkv.cli.top", "the server, your queues and locks, live in the terminal"),
    Command("exporter", "tenantkv.cli.exporter", "serve metrics for Prometheus"),
    Command("proxy", "tenantkv.cli.proxy", "serve the namespace to redis-cli and other languages"),
    Command("queue", "tenantkv.cli.queue", "list, look into, purge, redrive, pause and resume queues"),
    Command("lock", "tenantkv.cli.lock", "list locks and who holds them, and end leases"),
    Command("cache", "tenantkv.cli.cache", "what caches hold on the server, and clearing them"),
    Command("worker", "tenantkv.cli.worker", "handle the messages of a queue"),
    Command("celery", "tenantkv.cli.celery", "the queues and workers of a Celery application"),
    Command("demo", "tenantkv.cli.demo", "a guided run with two tenants on a server of our own"),
    Command("completion", "tenantkv.cli.completion", "print a completion script for a shell"),
)

_EXAMPLES = """\
examples:
  tenantkv init                      make the identity of this tenant
  tenantkv show                      which identity, from where, on which server
  tenantkv name lastupdated          the name of that key on the server
  source <(tenantkv completion bash)
"""


class CommandModule(Protocol):
    """What every command's module has."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments, description and example."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Run the command and return the exit code."""
        ...


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the whole command line.

    Args:
        only: the one command whose module to import and whose arguments to add; all if left out.
    """
    parser = argparse.ArgumentParser(
        prog="tenantkv",
        description="A namespaced, drop-in redis-py client for Redis servers that are shared with strangers.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tenantkv {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        subparser = commands.add_parser(
            command.name,
            help=command.summary,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if only is None or only == command.name:
            load(command).add_arguments(subparser)
    return parser


def load(command: Command) -> CommandModule:
    """Import a command's module."""
    return cast(CommandModule, importlib.import_module(command.module))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    # Options in front of the command take no values, so the first other word is the command.
    name = next((word for word in words if not word.startswith("-")), "")
    try:
        arguments = build_parser(name).parse_args(words)
        command = next(command for command in COMMANDS if command.name == arguments.command)
        code = load(command).run(arguments)
        sys.stdout.flush()
    except TenantKVError as error:
        output.fail(str(error))
        return FAILURE
    except BrokenPipeError:
        _discard_output()
        return FAILURE
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        output.fail(f"{error.filename or 'system'}: {error.strerror or error}")
        try:
            sys.stdout.flush()
        except OSError:
            # The disk is full, and would be when the interpreter ends.
            _discard_output()
        return FAILURE
    return code


def _discard_output() -> None:
    # The reader (head, less) is gone, or the disk full. What is still buffered must not raise at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _version() -> str:
    try:
        return importlib.metadata.version("tenantkv")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
