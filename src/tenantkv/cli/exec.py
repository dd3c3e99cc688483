"""``tenantkv exec``: one command in own names, as ``redis-cli`` would run it on a server of one's own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from tenantkv.cli import output
from tenantkv.cli.client import add_target_arguments, own_name, talking
from tenantkv.cli.replies import lines, plain
from tenantkv.cli.seal import read_input
from tenantkv.envelope import LARGEST_VALUE_BYTES
from tenantkv.errors import ConfigurationError, ForbiddenCommandError

FAILURE = 1

_EPILOG = """\
examples:
  tenantkv exec -- HGETALL user:7
  tenantkv exec --json -- ZRANGE board 0 9 REV WITHSCORES
  printf 'a value' | tenantkv exec --stdin -- SET note
  tenantkv exec -- SCAN 0 MATCH 'user:*'

Names are namespaced, values sealed, and commands refused as in Python. Other users can read a command line:
what is secret goes through --stdin. FLUSHDB is 'tenantkv clear' here; subscribing needs a program.
"""

#: What only makes sense where something else is said about it.
_ELSEWHERE = {
    **dict.fromkeys(("FLUSHDB", "FLUSHALL"), "Use 'tenantkv clear', which leaves queues alone."),
    **dict.fromkeys(
        ("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "MONITOR"),
        "Use a program: tenantkv.connect().pubsub().",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``exec``."""
    parser.description = "Run one command in own names."
    parser.epilog = _EPILOG
    parser.usage = "tenantkv exec [OPTION ...] -- COMMAND [ARGUMENT ...]"
    parser.add_argument("--reveal", action="store_true", help="show sealed values")
    parser.add_argument("--stdin", action="store_true", help="standard input is the last argument")
    add_target_arguments(parser)
    parser.add_argument(
        "words",
        metavar="COMMAND ...",
        nargs=argparse.REMAINDER,
        help="a command and its arguments, behind --",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run ``exec``."""
    words = [own_name(word) for word in arguments.words]
    if words[:1] == [b"--"]:
        del words[0]
    if not words:
        raise ConfigurationError("say a command behind --, such as: tenantkv exec -- GET user:7")
    if arguments.stdin:
        words.append(read_input(LARGEST_VALUE_BYTES))
    with talking(arguments, reveal=arguments.reveal) as client:
        speak_plainly(client)
        reply = execute(client, words)
    if arguments.json:
        output.print_json(plain(reply))
    elif isinstance(reply, bytes) and not sys.stdout.isatty():
        # Another program gets the very bytes.
        sys.stdout.buffer.write(reply)
    else:
        for line in lines(reply):
            output.print_text(line)
    return FAILURE if isinstance(reply, Exception) else 0


def speak_plainly(client: Any) -> None:
    """Let a client return replies as the server gave them, but in own names and opened.

    A Cluster's client stays as it is: its replies come from the clients of several nodes.
    """
    callbacks = getattr(client, "response_callbacks", {})
    # What the client emulates is in Python's terms from the beginning.
    for name in [name for name in callbacks if str(name).upper() != "SCAN"]:
        del callbacks[name]


def execute(client: Any, words: Sequence[bytes]) -> Any:
    """Run one command; an error of the server's is returned.

    Raises:
        ForbiddenCommandError: it is one that has no place here.
        RefusedError: as in Python.
    """
    from redis.exceptions import ResponseError

    from tenantkv.errors import RefusedError

    name = words[0].decode("ascii", "replace").upper()
    if name in _ELSEWHERE:
        raise ForbiddenCommandError(name, "it is not run here.", _ELSEWHERE[name])
    try:
        # The name as text, since the client looks it up.
        return client.execute_command(name, *words[1:])
    except RefusedError:
        raise
    except ResponseError as error:
        return error
