"""``tenantkv set``, ``expire``, ``del``, ``rename`` and ``load``: change keys, in own names.

Values come from standard input and never from the command line, which other users can read.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from tenantkv.cli import output
from tenantkv.cli.client import LEFT, add_target_arguments, as_text, own_name, talking
from tenantkv.cli.seal import read_input
from tenantkv.cli.values import Action, add_name, one, several
from tenantkv.commands.own_scripts import reserved
from tenantkv.envelope import LARGEST_VALUE_BYTES
from tenantkv.errors import ConfigurationError, PlaintextRefusedError, RefusedError
from tenantkv.namespace import PRIMITIVES
from tenantkv.ops.registry import RESERVED

#: Of a dump: a value and what the server writes around it.
_LARGEST_DUMP_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ChangeReport:
    """What was done.

    Attributes:
        action: ``set``, ``expire``, ``del``, ``rename`` or ``load``.
        names: the own names that it was about.
        changed: how many keys are different now.
    """

    action: str
    names: tuple[str, ...]
    changed: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command that the parser is for."""
    action = ACTIONS[parser.prog.rpartition(" ")[2]]
    parser.description, parser.epilog = action.description, action.epilog
    action.add(parser)
    add_target_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run one of the commands."""
    return ACTIONS[arguments.command].run(arguments)


# set


def _add_set(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    # Somebody will write it, and it must not become a field with an empty value.
    parser.add_argument("value", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--field", metavar="FIELD", help="one field of a hash")
    parser.add_argument("--ttl", metavar="SECONDS", type=_time_to_live, help="expire after so many seconds")
    parser.add_argument("--keep-ttl", action="store_true", help="leave the TTL that the key has")
    parser.add_argument("--only-new", action="store_true", help="only if there is no such key")
    parser.add_argument("--seal", action="store_true", help="seal this value, as tenantkv.Secret does")
    parser.add_argument(
        "--plaintext-ok", metavar="REASON", help="why it may be stored in clear though it looks like a secret"
    )
    parser.add_argument("--line", action="store_true", help="without the newline at the end of the input")


def _set(arguments: argparse.Namespace) -> int:
    if arguments.ttl is not None and arguments.keep_ttl:
        raise ConfigurationError("give either --ttl or --keep-ttl")
    if arguments.value is not None:
        raise ConfigurationError(
            "a value is read from standard input, since others see command lines: "
            "printf hello | tenantkv set KEY; for one field of a hash, --field FIELD"
        )
    if arguments.field is not None and (arguments.ttl is not None or arguments.keep_ttl):
        raise ConfigurationError("a field has no TTL of its own: use 'tenantkv expire' for the key")
    value: Any = read_input(LARGEST_VALUE_BYTES)
    if arguments.line:
        value = value.removesuffix(b"\n").removesuffix(b"\r")
    name = own_name(arguments.name)
    with talking(arguments) as connected:
        client = connected
        if arguments.seal:
            from tenantkv.secret import Secret

            value = Secret(value)
        if arguments.plaintext_ok:
            client = client.using(plaintext_ok=arguments.plaintext_ok)
        write = _set_string if arguments.field is None else _set_field
        try:
            changed = write(client, arguments, name, value)
        except PlaintextRefusedError as error:
            # The error's own advice is for programs, and cannot be followed here.
            instead = "Seal it with --seal, or say with --plaintext-ok REASON why it may be read."
            raise RefusedError(error.command, error.reason, instead) from None
    return _report_change(arguments, [name], changed)


def _set_field(client: Any, arguments: argparse.Namespace, name: bytes, value: Any) -> int:
    words = ["HSETNX" if arguments.only_new else "HSET", name, own_name(arguments.field), value]
    reply = client.execute_command(*words)
    return int(bool(reply) or not arguments.only_new)


def _set_string(client: Any, arguments: argparse.Namespace, name: bytes, value: Any) -> int:
    done = client.set(
        name,
        value,
        px=None if arguments.ttl is None else max(1, round(arguments.ttl * 1000)),
        keepttl=arguments.keep_ttl,
        nx=arguments.only_new,
    )
    return int(bool(done))


# expire, del, rename


def _time_to_live(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError("it is a number of seconds") from None
    if not 0 < value < 1e10:
        raise argparse.ArgumentTypeError("it is a number of seconds, greater than 0")
    return value


def _add_expire(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    when = parser.add_mutually_exclusive_group(required=True)
    when.add_argument("seconds", metavar="SECONDS", type=_time_to_live, nargs="?", help="from now")
    when.add_argument("--never", action="store_true", help="make it immortal")


def _expire(arguments: argparse.Namespace) -> int:
    name = own_name(arguments.name)
    with talking(arguments) as client:
        if arguments.never:
            changed = client.run(one("PERSIST", name))
            # Immortal already is what was asked for.
            changed = changed or client.run(one("EXISTS", name))
        else:
            changed = client.run(one("PEXPIRE", name, max(1, round(arguments.seconds * 1000))))
    return _report_change(arguments, [name], changed)


def _add_del(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="KEY", nargs="+", help="own names, no globs; see 'tenantkv clear'")


def _del(arguments: argparse.Namespace) -> int:
    names = [own_name(name) for name in arguments.names]
    changed = 0
    with talking(arguments) as client:
        for start in range(0, len(names), 500):
            replies = client.run(several(*[("UNLINK", name) for name in names[start : start + 500]]))
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
                changed += reply
    return _report_change(arguments, names, changed)


def _add_rename(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    parser.add_argument("new", metavar="NEW", help="its new own name")
    parser.add_argument("--overwrite", action="store_true", help="also if there is a key of that name")


def _rename(arguments: argparse.Namespace) -> int:
    from redis.exceptions import ResponseError

    name, new = own_name(arguments.name), own_name(arguments.new)
    if new.startswith((PRIMITIVES, RESERVED)):
        raise reserved("RENAME")
    with talking(arguments) as client:
        if not client.run(one("EXISTS", name)):
            output.note("There is no such key.")
            return LEFT
        try:
            # As the tenant's own command, and not as an operation of ours, which may do more.
            changed = client.execute_command("RENAME" if arguments.overwrite else "RENAMENX", name, new)
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
            changed = 0
    return _report_change(arguments, [name, new], int(bool(changed)))


def _add_load(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    parser.add_argument("--ttl", metavar="SECONDS", type=_time_to_live, help="expire after so many seconds")
    parser.add_argument("--overwrite", action="store_true", help="also if there is a key of that name")


def _load(arguments: argparse.Namespace) -> int:
    from redis.exceptions import ResponseError

    name, data = own_name(arguments.name), read_input(_LARGEST_DUMP_BYTES)
    milliseconds = 0 if arguments.ttl is None else max(1, round(arguments.ttl * 1000))
    replace = ("REPLACE",) if arguments.overwrite else ()
    with talking(arguments) as client:
        try:
            client.execute_command("RESTORE", name, milliseconds, data, *replace)
        except ResponseError as error:
            if "BUSYKEY" in str(error):
                output.note("There is a key of that name; --overwrite replaces it.")
                return LEFT
            raise
    return _report_change(arguments, [name], 1)


def _report_change(arguments: argparse.Namespace, names: list[bytes], changed: int) -> int:
    report = ChangeReport(arguments.command, tuple(map(as_text, names)), changed)
    if arguments.json:
        output.print_json(report)
    elif arguments.command == "del":
        output.print_text(f"{changed} deleted")
    elif changed:
        output.print_text("done")
    else:
        output.note(_UNCHANGED.get(arguments.command, "There is no such key."))
    return 0 if changed else LEFT


_UNCHANGED = {
    "set": "Not set, as there is one already.",
    "rename": "Not renamed, as there is a key of the new name; --overwrite replaces it.",
}

ACTIONS = {
    "set": Action(
        "Store standard input in a key, or in one field of a hash.",
        "examples:\n  printf hello | tenantkv set greeting --ttl 3600\n"
        "  printf Ada | tenantkv set user:7 --field name\n"
        "  tenantkv set picture < picture.png\n  tenantkv set token --seal --line < token.txt\n\n"
        "What looks like a secret is refused unless it is sealed (--seal) or --plaintext-ok tells why it is "
        "none.\n",
        _add_set,
        _set,
    ),
    "expire": Action(
        "Let a key expire, or never.",
        "examples:\n  tenantkv expire user:7 3600\n  tenantkv expire user:7 --never\n",
        _add_expire,
        _expire,
    ),
    "del": Action(
        "Delete keys by name.",
        "examples:\n  tenantkv del user:7 user:8\n  tenantkv keys 'tmp:*' --null | xargs -0 tenantkv del\n",
        _add_del,
        _del,
    ),
    "rename": Action(
        "Give a key another name. Sealed values are bound to their name, and can move in a context only.",
        "example:\n  tenantkv rename report:draft report:final\n",
        _add_rename,
        _rename,
    ),
    "load": Action(
        "Make a key of what 'tenantkv dump' wrote, from standard input. The server trusts what it is given.",
        "example:\n  tenantkv load board --ttl 3600 < board.dump\n",
        _add_load,
        _load,
    ),
}
