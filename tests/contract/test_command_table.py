"""The command table against what real servers say of themselves: `COMMAND` and `COMMAND GETKEYS`.

A server that offers a command which the table does not know fails here. Where key positions differ, the
server must be wrong, and `SERVER_IS_WRONG` says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import pytest
import redis

from tenantkv.commands.table import RULES, find_rule
from tenantkv.errors import ForbiddenCommandError, MalformedCommandError, RefusedError
from tenantkv.transport.redis_py import CHECKOUT
from tests.servers import RealServer
from tests.shapes import OTHER_SHAPES, OWN_TESTS, SETUP, SHAPES, name_of, shapes_by_name

# Shapes for which GETKEYS does not name the keys that the server uses.
SERVER_IS_WRONG = {
    b"XREADGROUP COUNT 1 GROUP STREAMS c STREAMS stream >": "its key spec searches for the word STREAMS "
    "and finds the group's name; the server reads the stream behind the second one",
    b"MSETEX 2 a 1 b 2 EX 1000": "Redis 8.4 names the first key only, and sets both",
}
# Its second key spec begins behind the last argument, which the server takes for "no keys at all".
NO_SOURCES = (b"PFMERGE", b"arg1")

# GETKEYS has no answer for these: the names are patterns.
SERVER_IS_SILENT = {"KEYS", "SCAN"}

# Channels stand where these servers' first and last key point, marked NOT_KEY in their key specs.
CHANNELS = {"SPUBLISH", "SSUBSCRIBE", "SUNSUBSCRIBE"}

# Commands that change no keys but must not be sent twice or by readers, and are marked as writing here.
WRITES_WITHOUT_THE_FLAG = {
    *("PUBLISH", "SPUBLISH", "EVAL", "EVALSHA", "FCALL", "MULTI", "EXEC", "DISCARD"),
}


@dataclass(frozen=True, slots=True)
class Offered:
    """What a server says of one command."""

    name: str
    arity: int
    flags: frozenset[str]
    first_key: int
    last_key: int
    step: int
    container: bool

    @property
    def keyed(self) -> bool:
        return self.first_key > 0 or "movablekeys" in self.flags


@cache
def offered(server: RealServer) -> tuple[Offered, ...]:
    connection = server.operator().connection_pool.get_connection(*CHECKOUT)
    try:
        connection.send_command("COMMAND")
        rows = connection.read_response()
    finally:
        server.operator().connection_pool.release(connection)
    return tuple(_flatten(rows))


def _flatten(rows: list) -> list[Offered]:
    found = []
    for row in rows:
        name, arity, flags, first, last, step = row[:6]
        subcommands = row[9] if len(row) > 9 else []
        name = name.decode().upper().replace("|", " ")
        # Redis 6.2 lists no subcommands; there the table's own say that a command has some.
        container = bool(subcommands) or any(known.startswith(f"{name} ") for known in RULES)
        flags = frozenset(flag.decode() for flag in flags)
        found.append(Offered(name, arity, flags, first, last, step, container))
        found += _flatten(subcommands)
    return found


def judge(name: str) -> str:
    """Return what the table does with a command: its policy, "refuse", or "unknown"."""
    rule = RULES.get(name)
    if rule is not None:
        return rule.policy
    try:
        find_rule([word.encode() for word in name.split()] + [b"x"] * 9)
    except ForbiddenCommandError:
        return "refuse"
    except RefusedError:
        return "unknown"
    raise AssertionError(f"{name} has a rule under another name")


def getkeys(server: RealServer, shape: tuple[bytes, ...]) -> list[bytes]:
    try:
        names = server.operator().execute_command("COMMAND GETKEYS", *shape)
    except redis.ResponseError as error:
        # Redis 6.2 has the second text for a command that could have keys and has none.
        if "no key arguments" in str(error) or "Invalid arguments specified" in str(error):
            return []
        raise
    # redis-py decodes this reply, whatever its client was told.
    return sorted(name.encode() if isinstance(name, str) else name for name in names)


def located(shape: tuple[bytes, ...]) -> list[bytes]:
    locate = find_rule(list(shape)).locate
    return sorted(shape[position] for position in locate(shape)) if locate else []


def test_every_command_has_a_row_or_a_refusal(any_server: RealServer) -> None:
    commands = offered(any_server)
    assert len(commands) > 200
    missing = [
        command.name
        for command in commands
        # The second word decides; the container alone is no command.
        if judge(command.name) == "unknown" and not command.container
    ]
    assert missing == []


def test_every_keyed_command_is_namespaced_or_refused(any_server: RealServer) -> None:
    loose = [
        (command.name, judge(command.name))
        for command in offered(any_server)
        if command.keyed and not command.container and command.name not in CHANNELS
        if judge(command.name) not in ("namespace", "refuse")
    ]
    assert loose == []
    assert {judge(name) for name in CHANNELS} == {"channel"}


def test_flags_agree(any_server: RealServer) -> None:
    wrong = []
    for command in offered(any_server):
        rule = RULES.get(command.name)
        if rule is None or rule.policy == "refuse" or command.container:
            continue
        if "write" in command.flags and not rule.writes:
            wrong.append(f"{command.name} writes")
        if "readonly" in command.flags and (not rule.reads or rule.writes):
            wrong.append(f"{command.name} only reads")
        known = {"write"} & command.flags or command.name in WRITES_WITHOUT_THE_FLAG
        if rule.writes and not known:
            wrong.append(f"{command.name} does not write")
        if "blocking" in command.flags and not rule.blocks:
            wrong.append(f"{command.name} blocks")
    assert wrong == []


def test_fewest_arguments_agree(any_server: RealServer) -> None:
    too_strict = [
        (command.name, RULES[command.name].min_args, command.arity)
        for command in offered(any_server)
        if command.name in RULES and RULES[command.name].policy != "refuse"
        # Redis 6.0 counts XTRIM's words only when it runs.
        if RULES[command.name].min_args > abs(command.arity) - 1 and command.name != "XTRIM"
    ]
    assert too_strict == []


def test_every_command_with_names_has_a_shape(any_server: RealServer) -> None:
    bare = [
        command.name
        for command in offered(any_server)
        if not command.container and judge(command.name) == "namespace"
        if command.name not in shapes_by_name()
    ]
    assert bare == []
    assert set(map(name_of, OTHER_SHAPES)) == set(OWN_TESTS)


def test_positions_agree_with_getkeys(any_server: RealServer) -> None:
    names = {command.name for command in offered(any_server)}
    tops = {name.split()[0] for name in names}
    compared, differing = 0, []
    for shape in SHAPES + OTHER_SHAPES:
        if shape[0].decode() not in tops or name_of(shape) in SERVER_IS_SILENT:
            continue
        compared += 1
        ours, theirs = located(shape), getkeys(any_server, shape)
        if ours != theirs and b" ".join(shape) not in SERVER_IS_WRONG:
            differing.append((shape, ours, theirs))
    assert differing == []
    assert compared > 190


def test_the_server_is_wrong_as_written(any_server: RealServer) -> None:
    """A server that was corrected makes its line in the list superfluous; so does our mistake."""
    text = b"XREADGROUP COUNT 1 GROUP STREAMS c STREAMS stream >"
    assert text in SERVER_IS_WRONG and len(SERVER_IS_WRONG) == 2
    shape = tuple(text.split())
    assert located(shape) == [b"stream"]
    client = any_server.operator()
    client.execute_command("XGROUP", "CREATE", "stream", "STREAMS", "0", "MKSTREAM")
    client.execute_command("XADD", "stream", "1-1", "f", "v")
    assert client.execute_command(*shape)[0][0] == b"stream"
    if "MSETEX" in {command.name for command in offered(any_server)}:
        client.execute_command("MSETEX", 2, "a", 1, "b", 2)
        assert client.mget("a", "b") == [b"1", b"2"]


def generated(command: Offered) -> list[tuple[bytes, ...]]:
    """Return argument lists of several lengths, every argument another word."""
    words = command.name.encode().split()
    fewest = abs(command.arity)
    # Where the arity is exact there is one length only.
    lengths = range(fewest, fewest + 6) if command.arity < 0 else (fewest,)
    return [(*words, *(b"arg%d" % position for position in range(len(words), length))) for length in lengths]


def test_positions_agree_on_generated_arguments(any_server: RealServer) -> None:
    """Wherever a server's key positions are fixed, ours are the same at any length."""
    compared, differing = 0, []
    for command in offered(any_server):
        if command.first_key <= 0 or "movablekeys" in command.flags or command.container:
            continue
        if judge(command.name) != "namespace":
            continue
        for shape in generated(command):
            try:
                ours = located(shape)
            except MalformedCommandError:
                continue  # such as an odd number of keys and values
            compared += 1
            theirs = getkeys(any_server, shape)
            if ours != theirs and shape != NO_SOURCES:
                differing.append((shape, ours, theirs))
    assert differing == []
    assert compared > 400


def test_pfmerge_without_sources_uses_its_destination(any_server: RealServer) -> None:
    any_server.operator().execute_command(*NO_SOURCES)
    assert any_server.dump_keys() == {b"arg1"}


DOUBLE = [
    "GEORADIUS geo 15 37 200 km STORE a STORE b",
    "GEORADIUS geo 15 37 200 km STORE a STOREDIST b",
    "GEORADIUSBYMEMBER geo Palermo 200 km store a Store b",
    "SORT nums STORE a STORE b",
]


@pytest.mark.parametrize("text", DOUBLE)
def test_a_second_destination_is_refused(any_server: RealServer, text: str) -> None:
    """The server keeps the last one, and its own key specs may name another."""
    shape = tuple(word.encode() for word in text.split())
    with pytest.raises(MalformedCommandError, match="twice"):
        located(shape)
    for command in SETUP:
        any_server.operator().execute_command(*command)
    any_server.operator().execute_command(*shape)
    names = any_server.dump_keys()
    assert b"b" in names and b"a" not in names
