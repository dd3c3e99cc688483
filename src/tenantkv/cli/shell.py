"""``tenantkv shell``: a ``redis-cli`` that speaks own names, seals, and refuses as in Python."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from tenantkv.cli import output
from tenantkv.cli.client import add_target_arguments, talking
from tenantkv.cli.exec import execute, speak_plainly
from tenantkv.cli.replies import lines
from tenantkv.cli.shell_words import split
from tenantkv.errors import TenantKVError

FAILURE = 1

_EPILOG = """\
examples:
  tenantkv shell
  tenantkv shell --child web --reveal
  printf 'SET a 1\\nINCR a\\n' | tenantkv shell

With the extra tenantkv[cli] there is completion of commands and own names, and a history that holds commands
and names and no values (readable by you alone; --no-history for none). MULTI and WATCH work, as there is one
connection. 'exit' or Ctrl-D ends it, Ctrl-C drops the line.
"""
_HELP = """\
Commands are Redis's own, in own names: SET user:7 "two words", HGETALL user:7, MULTI ... EXEC.
help, exit"""

_Read = Callable[[str], str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``shell``."""
    parser.description = "Run commands in own names, one a line."
    parser.epilog = _EPILOG
    parser.add_argument("--reveal", action="store_true", help="show sealed values")
    parser.add_argument("--no-history", action="store_true", help="keep no history on disk")
    add_target_arguments(parser, json=False)


def run(arguments: argparse.Namespace) -> int:
    """Run ``shell``."""
    with talking(arguments, reveal=arguments.reveal) as client:
        shell = Shell(one_connection(client))
        if sys.stdin.isatty() and sys.stdout.isatty():
            return shell.converse(_reader(client, with_history=not arguments.no_history))
        return shell.execute_all(sys.stdin)


def one_connection(client: Any) -> Any:
    """Return a client that keeps one connection, so that MULTI and WATCH work; a Cluster's is as it is."""
    pool = getattr(client, "connection_pool", None)
    if pool is not None:
        client = type(client)(connection_pool=pool, single_connection_client=True)
    speak_plainly(client)
    return client


class Shell:
    """Runs lines and prints what came of them.

    Args:
        client: whose names are spoken.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._in_transaction = False

    @property
    def prompt(self) -> str:
        """What stands in front of a line."""
        space = self._client.namespace
        place = ":".join((space.root.namespace, *space.path))
        return output.clean(f"{place}{'(TX)' if self._in_transaction else ''}> ")

    def converse(self, read: _Read) -> int:
        """Read lines from a person until there are no more."""
        while True:
            try:
                line = read(self.prompt)
            except KeyboardInterrupt:
                # The line only, as in any shell.
                continue
            except EOFError:
                return 0
            word = line.strip().lower()
            if word in ("exit", "quit"):
                return 0
            if word == "help":
                output.print_text(_HELP)
                continue
            try:
                self.execute(line)
            except KeyboardInterrupt:
                self._interrupted()

    def execute_all(self, source: Any) -> int:
        """Run lines of a file or program; whether one has failed."""
        failed = False
        for line in source:
            if line.strip().lower() in ("exit", "quit"):
                break
            failed = not self.execute(line) or failed
        return FAILURE if failed else 0

    def execute(self, line: str) -> bool:
        """Run one line and print the reply; whether it went well."""
        from redis.exceptions import RedisClusterException, RedisError

        try:
            words = split(line)
            if not words:
                return True
            reply = execute(self._client, words)
        except TenantKVError as error:
            output.fail(str(error))
            return False
        except (RedisError, RedisClusterException) as error:
            self._in_transaction = False
            output.fail(f"the server: {error}")
            return False
        self._note(words[0].upper(), reply)
        for shown in lines(reply):
            output.print_text(shown)
        sys.stdout.flush()
        return not isinstance(reply, Exception)

    def _note(self, name: bytes, reply: Any) -> None:
        if name == b"MULTI" and not isinstance(reply, Exception):
            self._in_transaction = True
        elif name in (b"EXEC", b"DISCARD"):
            self._in_transaction = False

    def _interrupted(self) -> None:
        """Drop the connection, on which the reply to what was interrupted may still come."""
        connection = getattr(self._client, "connection", None)
        if connection is not None:
            connection.disconnect()
        was_open, self._in_transaction = self._in_transaction, False
        output.note("Interrupted." + (" The transaction is gone." if was_open else ""))


def _reader(client: Any, *, with_history: bool) -> _Read:
    try:
        from tenantkv.cli.shell_prompt import prompt_reader
    except ImportError:
        return input
    return prompt_reader(client, with_history=with_history)
