"""A sealed and a plain tenant with random commands: the same answers; and openers that only ever refuse.

Bounded and reproducible by default; `TENANTKV_PROPERTY_EXAMPLES=5000` searches longer, at random.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import tenantkv
from tenantkv import Keyring, Namespace
from tenantkv.commands.sealing_replies import FORMS
from tenantkv.envelope_header import KINDS, MAGIC
from tenantkv.errors import OpenError, RefusedError
from tenantkv.found_envelopes import may_hold_envelope
from tenantkv.protection import Protection
from tenantkv.protector import protector_of
from tenantkv.sealing import LiveSealer
from tenantkv.secrets import Detector, Finding
from tenantkv.suites import CODES
from tests.property.strategies import calm, mutated_shapes
from tests.servers import RealServer, start_server
from tests.shapes import SETUP, Shape, name_of
from tests.twins import alike, contents, of_reply, outcome

EXAMPLES = int(os.environ.get("TENANTKV_PROPERTY_EXAMPLES", "0"))
SEALED = {"seal": True, "contexts": {"*": "all"}}

# They tell of the stored bytes, give them to scripts, or take them.
OF_STORED_BYTES = frozenset(
    {"OBJECT ENCODING", "OBJECT REFCOUNT", "EVAL", "EVAL_RO", "EVALSHA", "EVALSHA_RO", "DUMP", "RESTORE"}
)
# What they take differs between two keys that mean the same: any member, or the clock.
DIVERGE = frozenset({"SPOP", "XADD", "XCLAIM", "XAUTOCLAIM", "XREADGROUP"})
# The server orders members of equal score, and intersections, by their bytes.
BY_BYTES = frozenset(
    {"ZRANGE", "ZREVRANGE", "ZRANGEBYSCORE", "ZREVRANGEBYSCORE", "ZRANK", "ZREVRANK", "ZPOPMIN", "ZPOPMAX"}
    | {"ZMPOP", "BZMPOP", "BZPOPMIN", "BZPOPMAX", "ZUNION", "ZINTER", "ZDIFF", "ZRANGESTORE", "ZSCAN"}
    | {"ZREMRANGEBYRANK", "ZREMRANGEBYSCORE"}
)


CALM: list[Any] = list(HealthCheck)


def bounded(examples: int) -> Any:
    if EXAMPLES:
        return settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=CALM)
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=CALM,
    )


class Two:
    """A sealed and a plain tenant of one server."""

    def __init__(self, server: RealServer, **said: Any) -> None:
        namespace = Namespace(Keyring.generate(os.urandom(96)))
        self.server = server
        self.sealed = tenantkv.connect(
            server.url, namespace=namespace.child("sealed"), plaintext="off", **{**SEALED, **said}
        )
        self.plain = tenantkv.connect(server.url, namespace=namespace.child("plain"), plaintext="off")

    def sends(self, command: Shape) -> bool:
        """Whether the sealed tenant may say that."""
        connection = self.sealed.connection_pool.get_connection()
        try:
            connection.pack_command(*command)
        except RefusedError:
            return False
        finally:
            self.sealed.connection_pool.release(connection)
        return True

    def begin(self) -> None:
        self.server.flush()
        setup = [command for command in SETUP if self.sends(command)]
        for client in (self.sealed, self.plain):
            with client.pipeline(transaction=False) as pipeline:
                for command in setup:
                    pipeline.execute_command(*command)
                pipeline.execute()

    def has_ties(self) -> bool:
        """Whether a sorted set has members of one score, which the server orders by their bytes."""
        for name in self.plain.keys("*"):
            if self.plain.type(name) == b"zset":
                scores = [score for _, score in self.plain.zrange(name, 0, -1, withscores=True)]
                if len(set(scores)) < len(scores):
                    return True
        return False

    def close(self) -> None:
        self.sealed.close()
        self.plain.close()


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    running = start_server()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def two(server: RealServer) -> Iterator[Two]:
    made = Two(server)
    yield made
    made.close()


def comparable_name(name: str) -> bool:
    return name not in OF_STORED_BYTES


def same_contents(two: Two) -> None:
    clients: tuple[Any, ...] = (two.sealed, two.plain)
    held = [contents(client, sorted(client.keys("*"))) for client in clients]
    assert held[0] == held[1]


@bounded(120)
@given(st.lists(mutated_shapes().map(calm), min_size=1, max_size=6))
@example([(b"SET", b"a", b"GET"), (b"SET", b"a", b"x", b"GET")])
@example([(b"HSET", b"a", b"WITHVALUES", b"1"), (b"HRANDFIELD", b"a", b"1", b"WITHVALUES")])
@example([(b"SADD", b"a", b"", b"\xff\xfe"), (b"SMEMBERS", b"a"), (b"SREM", b"a", b"")])
@example([(b"XADD", b"s", b"1-1", b"f", b"v", b"f", b""), (b"XRANGE", b"s", b"-", b"+")])
def test_one_by_one(two: Two, commands: list[Shape]) -> None:
    two.begin()
    for command in commands:
        name = name_of(command) if command else ""
        if not two.sends(command) or not comparable_name(name):
            continue
        if name in BY_BYTES and two.has_ties():
            continue
        ours = outcome(two.sealed.execute_command, *command)
        theirs = outcome(two.plain.execute_command, *command)
        assert alike(name, ours, theirs), (command, ours, theirs)
        if name in DIVERGE:
            return
    same_contents(two)


@bounded(40)
@given(st.lists(mutated_shapes().map(calm), min_size=1, max_size=8), st.booleans())
def test_in_pipelines(two: Two, commands: list[Shape], transaction: bool) -> None:
    two.begin()
    lot = [
        command
        for command in commands
        if two.sends(command)
        and comparable_name(name_of(command))
        and name_of(command) not in DIVERGE | BY_BYTES
    ]
    if not lot:
        return
    replies = []
    for client in (two.sealed, two.plain):
        with client.pipeline(transaction=transaction) as pipeline:
            for command in lot:
                pipeline.execute_command(*command)
            kind, found = outcome(pipeline.execute, False)
            # A transaction with what the server cannot parse is one error.
            replies.append([found] * len(lot) if kind != "value" else found)
    for command, ours, theirs in zip(lot, *replies, strict=True):
        assert alike(name_of(command), of_reply(ours), of_reply(theirs)), (command, ours, theirs)
    same_contents(two)


@bounded(40)
@given(st.lists(mutated_shapes().map(calm), min_size=1, max_size=6))
def test_no_command_leaves_a_name_where_names_are_hidden(server: RealServer, commands: list[Shape]) -> None:
    two = Two(server, names="hidden", registry=False)
    try:
        two.server.flush()
        for command in commands:
            marked = tuple(b"own-name-" + word if n else word for n, word in enumerate(command))
            for each in (command, marked):
                outcome(two.sealed.execute_command, *each)
        names = b" ".join(server.dump_keys())
        assert b"own-name-" not in names
        prefix = two.sealed.namespace.wire_prefix
        assert all(len(name) == len(prefix) + 24 for name in server.dump_keys())
    finally:
        two.close()


# ---- the opener: any bytes at all are an OpenError, and nothing else

NAMESPACE = Namespace(Keyring.generate(bytes(range(96))), protection=Protection(seal=True))
SEALER = LiveSealer(NAMESPACE.keyring)
SIGNER = LiveSealer(NAMESPACE.keyring, mode="sign")
KEY_ID = bytes.fromhex(NAMESPACE.keyring.primary.id)
GOOD = [
    SEALER.seal(b"value", kind="kv", name=b"a"),
    SEALER.seal(b"value" * 100, kind="kv", name=b"a", compress=True),
    SEALER.seal(b"value", kind="kv", name=b"a", expires=4_000_000_000),
    SEALER.seal_member(b"value", kind="kv", name=b"a"),
    SIGNER.seal(b"value", kind="kv", name=b"a"),
]


@st.composite
def headed(draw: Any) -> bytes:
    """Bytes behind a header that is ours, or nearly."""
    suite = draw(st.sampled_from([*CODES.values(), 0x14, 0]))
    flags = draw(st.sampled_from([0, 1, 2, 3, 4, 255]))
    key_id = draw(st.sampled_from([KEY_ID, bytes(4)]) | st.binary(min_size=4, max_size=4))
    return bytes([MAGIC, suite, flags]) + key_id + draw(st.binary(max_size=80))


@st.composite
def damaged(draw: Any) -> bytes:
    """A good envelope with some bytes replaced, inserted or dropped."""
    blob = bytearray(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(blob)))
        how = draw(st.sampled_from(["replace", "insert", "drop", "cut", "repeat"]))
        if how == "insert":
            blob[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif how == "drop":
            del blob[at : at + 1]
        elif how == "cut":
            del blob[at:]
        elif how == "repeat":
            blob += blob[at:]
        elif at < len(blob):
            blob[at] ^= draw(st.integers(1, 255))
    return bytes(blob)


blobs = headed() | damaged() | st.binary(max_size=200)


@bounded(600)
@given(blobs, st.sampled_from(KINDS), st.sampled_from([b"a", b"b", b""]), st.sampled_from([b"", b"f"]))
def test_the_opener_refuses_everything_else(blob: bytes, kind: Any, name: bytes, field: bytes) -> None:
    for sealer in (SEALER, SIGNER):
        try:
            opened = sealer.open(blob, kind=kind, name=name, field=field)
        except OpenError as error:
            assert (error.kind, error.name, error.field) == (kind, name, field)
        else:
            # Only what was left as it was, and only in its place.
            assert blob in GOOD and (kind, name, field) == ("kv", b"a", b"")
            assert opened in (b"value", b"value" * 100)


replies = st.recursive(
    st.none() | st.integers() | blobs | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@bounded(400)
@given(st.sampled_from(sorted(FORMS)), replies)
def test_no_reply_form_gives_back_what_did_not_open(form: str, reply: Any) -> None:
    """A hostile server, or a reply of an odd shape, gives an error or nothing of what it sent as a value."""
    from tenantkv.commands.sealing_replies import Opening

    told: list[bytes] = []

    def open_(blob: bytes, *, kind: Any, name: bytes, field: bytes = b"") -> bytes:
        told.append(blob)
        return SEALER.open(blob, kind=kind, name=name, field=field)

    opening = Opening(open_, "kv", lambda name: name)
    arguments = [b"CMD", b"a", b"FIELDS", b"1", b"f"]
    try:
        FORMS[form](opening, arguments, reply)
    except OpenError:
        assert told
    except (RefusedError, ValueError, TypeError, IndexError):
        # A reply of a shape that the server never gives for this command.
        pass


@bounded(400)
@given(replies)
def test_a_quick_look_misses_no_envelope(reply: Any) -> None:
    def holds(part: Any) -> bool:
        if isinstance(part, bytes):
            return part[:1] == bytes([MAGIC])
        if isinstance(part, list):
            return any(map(holds, part))
        return isinstance(part, dict) and any(map(holds, part.values()))

    assert may_hold_envelope(reply) is holds(reply)


@bounded(300)
@given(blobs)
def test_messages_never_raise(blob: bytes) -> None:
    settings_of: list[dict[str, Any]] = [{}, {"seal": True}, {"seal": True, "mode": "sign"}]
    for said in settings_of:
        protector = protector_of(NAMESPACE.protected(Protection.of(**said)))
        message = protector.open_message([b"message", b"a", blob])
        assert message is None or (not said and message[2] == blob)


# ---- the detector: any bytes are a finding or none, after a bounded number of steps

PIECES = [
    *(b"password", b"token", b"api_key", b"secret", b"=", b":", b'"', b"{", b"}", b"[", b",", b" ", b"\n"),
    *(b"ghp_", b"AKIA", b"eyJ", b".", b"sk-", b"-----BEGIN ", b"xox", b"//", b"@", b"%3a", b"\\", b"\\u0022"),
    *(b"A" * 20, b"0" * 32, b"aB3" * 12, b"\x80\x04\x95", b"\xc1", b"\xff", b"<", b"&quot;"),
]
pieces = st.lists(st.sampled_from(PIECES) | st.binary(max_size=6), max_size=60).map(b"".join)


@bounded(400)
@given(
    pieces | st.text(max_size=80),
    st.sampled_from([b"", b"db:password", b"\xff"]) | st.binary(max_size=8),
    pieces,
)
def test_the_detector_only_finds(value: Any, name: bytes, field: bytes) -> None:
    found = Detector().find(value, name=name, field=field)
    assert found is None or isinstance(found, Finding)
    if found is not None:
        assert 0 <= found.offset <= len(value) * 4 + len(field)
        again = Detector().find(value, name=name, field=field)
        assert again == found


@pytest.mark.parametrize(
    "piece", [*PIECES, b"password=", b'"token":"', b"ghp_aaaaaaaaaaaaaaaaaaaa", b"a.", b"="]
)
def test_the_detectors_work_grows_no_faster_than_the_value(piece: bytes) -> None:
    """Counted in the interpreter's steps rather than in seconds, which a busy machine stretches."""
    import sys

    def steps(size: int) -> int:
        value = (piece * (size // len(piece) + 1))[:size]
        count = 0

        def watch(frame: Any, event: str, argument: Any) -> Any:
            nonlocal count
            count += 1
            return watch

        before = sys.gettrace()
        sys.settrace(watch)
        try:
            Detector().find(value, name=b"name")
        finally:
            sys.settrace(before)
        return count

    small, large = steps(2_000), steps(32_000)
    assert large <= 16 * small + 2_000
    # And beyond 64 KB not at all.
    assert steps(400_000) <= steps(80_000) * 1.2 + 2_000
