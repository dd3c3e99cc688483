"""Sealed commands on real servers: what a tenant reads is what it would read without sealing.

Each command runs twice over plain redis-py connections: through a `SealPlan` on one database, and as it
is on another. Replies are taken undecoded, in RESP2 and RESP3, the first is opened, and both must be
equal. What stands on the server in between must hold no value in clear.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenantkv.commands.decisions import decide
from tenantkv.commands.sealing import SealPlan, ValueSealer, values_of
from tenantkv.commands.table import find_rule
from tenantkv.errors import RefusedError
from tenantkv.keyring import Keyring
from tenantkv.sealing import LiveSealer
from tenantkv.transport.redis_py import CHECKOUT, no_maintenance_notifications
from tests.sealers import TaggingSealer
from tests.servers import RealServer
from tests.shapes import SETUP, SHAPES, Shape

SEALED, CLEAR = 1, 2
ONE_CONTEXT = {b"*": b"all"}

# Replies that are never the same twice, or that tell of stored bytes.
VOLATILE = {
    "DUMP": "it gives the stored bytes",
    "EXPIRETIME": "a moment may pass between the two",
    "MEMORY USAGE": "seals need memory",
    "OBJECT ENCODING": "seals are longer than the shortest encodings admit",
    "OBJECT FREQ": "the two are not read equally often",
    "OBJECT IDLETIME": "a moment may pass between the two",
    "OBJECT REFCOUNT": "small numbers are shared objects",
    "EVAL": "scripts see the seals",
    "EVAL_RO": "scripts see the seals",
    "XINFO CONSUMERS": "it tells how long ago",
    "SCAN": "a page holds as many keys as the table of the whole database gives it",
    "XPENDING": "it tells how long ago",
    "XINFO STREAM": "it tells of the tree in memory; compared by itself below",
}
# Any of several members.
RANDOM = {"SPOP", "SRANDMEMBER", "HRANDFIELD", "ZRANDMEMBER"}
# Members in no order, or in one that depends on their bytes.
UNORDERED = {
    *("SMEMBERS", "SINTER", "SUNION", "SDIFF", "SSCAN", "HGETALL", "HKEYS", "HSCAN", "KEYS", "SCAN"),
    *("SPOP", "SRANDMEMBER"),
}


class Client:
    """Two databases of one server: values are sealed in one and in clear in the other."""

    def __init__(
        self, server: RealServer, protocol: int, *, sealer: ValueSealer | None = None, **options: Any
    ) -> None:
        self.plan = SealPlan(sealer or TaggingSealer(), **options)
        self._pools = {
            number: redis.ConnectionPool(
                connection_class=redis.UnixDomainSocketConnection,
                path=server.socket_path,
                db=number,
                protocol=protocol,
                **no_maintenance_notifications(),
            )
            for number in (SEALED, CLEAR)
        }
        self._connections = {number: pool.get_connection(*CHECKOUT) for number, pool in self._pools.items()}

    def raw(self, number: int, *command: bytes) -> Any:
        connection = self._connections[number]
        connection.send_command(*command)
        try:
            return connection.read_response(disable_decoding=True)
        except redis.ResponseError as error:
            return error

    def sealed(self, command: list[bytes]) -> Any:
        words, opener = self.plan.apply(command, find_rule(command))
        reply = self.raw(SEALED, *words)
        return reply if opener is None or isinstance(reply, Exception) else opener(reply)

    def clear(self, command: list[bytes]) -> Any:
        return self.raw(CLEAR, *command)

    def both(self, text: str) -> tuple[Any, Any]:
        command = words(text)
        return self.sealed(command), self.clear(command)

    def setup(self, commands: tuple[Shape, ...] = SETUP) -> None:
        for number in (SEALED, CLEAR):
            self.raw(number, b"FLUSHDB")
        for command in commands:
            try:
                self.sealed(list(command))
            except RefusedError:
                continue
            self.clear(list(command))

    def close(self) -> None:
        for pool in self._pools.values():
            pool.disconnect()


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def protocol(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def client(any_server: RealServer, protocol: int) -> Iterator[Client]:
    made = Client(any_server, protocol, contexts=ONE_CONTEXT)
    yield made
    made.close()


def words(text: str) -> list[bytes]:
    return [word.encode() for word in shlex.split(text)]


def comparable(name: str, reply: Any) -> Any:
    """Return a reply in a form that is equal where the two mean the same."""
    if isinstance(reply, Exception):
        return type(reply), str(reply).partition(" ")[0]
    if name.endswith("SCAN") and isinstance(reply, list):
        return [reply[0], _bag(name, reply[1])]
    return _bag(name, reply) if name in UNORDERED else reply


def _bag(name: str, reply: Any) -> Any:
    """Return members, or pairs of field and value, without their order."""
    if isinstance(reply, (set, dict)):
        return reply
    if not isinstance(reply, list):
        return reply
    if name in ("HGETALL", "HSCAN", "ZSCAN"):
        return sorted(itertools.zip_longest(reply[::2], reply[1::2], fillvalue=b""))
    return sorted(reply)


def run_both(client: Client, command: list[bytes]) -> None:
    rule = find_rule(command)
    ours, theirs = client.sealed(command), client.clear(command)
    if rule.name in RANDOM:
        assert _flat_types(ours) == _flat_types(theirs), command
    elif rule.name in VOLATILE:
        assert type(ours) is type(theirs), command
    else:
        assert comparable(rule.name, ours) == comparable(rule.name, theirs), command


def _flat_types(reply: Any) -> Any:
    if isinstance(reply, (list, set)):
        return type(reply), len(reply), frozenset(_flat_types(item) for item in reply)
    return type(reply)


def everything(client: Client) -> bytes:
    """Return what is stored in the sealed database, as one run of bytes."""
    names = client.raw(SEALED, b"KEYS", b"*")
    return b"\n".join(client.raw(SEALED, b"DUMP", name) or b"" for name in names)


@pytest.mark.parametrize("contexts", [ONE_CONTEXT, {}], ids=["one-context", "no-context"])
def test_every_shape_answers_as_in_clear(
    any_server: RealServer, protocol: int, contexts: dict[bytes, bytes]
) -> None:
    client = Client(any_server, protocol, contexts=contexts)
    compared, refused = 0, 0
    for shape in SHAPES:
        client.setup()
        try:
            client.plan.apply(list(shape), find_rule(list(shape)))
        except RefusedError:
            refused += 1
            continue
        run_both(client, list(shape))
        compared += 1
    client.close()
    assert compared > 140 and refused > 40


def test_every_shape_works_under_plaintext_names(any_server: RealServer, protocol: int) -> None:
    """With everything in clear there are no refusals, and nothing is changed."""
    client = Client(any_server, protocol, plaintext_keys=[b"*"])
    for shape in SHAPES:
        client.setup()
        run_both(client, list(shape))
    client.close()


# Sequences, since each command works on what the ones before left. `->` says what is expected of both.
STORIES = {
    "strings": """
        SET k v EX 100 NX
        SET k w GET
        GETSET k x
        GETEX k PERSIST
        MSET a 1 b 2 c ""
        MGET a none c b
        MSETNX a 1 z 2
        SETNX a 9
        PSETEX p 100000 v
        GETDEL a
        GET a
        RENAME b d
        COPY d e
        MGET b d e
        DEL d e none
        TYPE k
    """,
    "hashes": """
        HSET h f v g w
        HMSET h i x
        HSETNX h f other
        HGET h f
        HGET h none
        HMGET h g none f
        HGETALL h
        HGETALL none
        HKEYS h
        HLEN h
        HEXISTS h g
        HSCAN h 0 MATCH [fg] COUNT 100
        HSCAN h 0
        HRANDFIELD h -7 WITHVALUES
        HRANDFIELD h
        RENAME h moved
        HGETALL moved
        HSET same WITHVALUES 1
        HRANDFIELD same 1 WITHVALUES
        HDEL moved f
        HGETALL moved
    """,
    "lists": """
        RPUSH l a b c d a
        LPUSH l z
        LPUSHX l y
        RPUSHX none y
        LRANGE l 0 -1
        LRANGE l 9 10
        LINDEX l 1
        LINDEX l 99
        LSET l 1 changed
        LPOP l
        LPOP l 2
        RPOP l 0
        LMOVE l m RIGHT LEFT
        RPOPLPUSH l m
        BRPOPLPUSH l m 0.01
        BLMOVE l m LEFT LEFT 0.01
        LRANGE m 0 -1
        BLPOP none m 0.01
        BRPOP none m 0.01
        BLPOP none 0.01
        LMPOP 2 none m LEFT COUNT 5
        BLMPOP 0.01 1 none LEFT
        LLEN m
        LTRIM m 0 0
    """,
    "sets": """
        SADD s a b c a
        SADD s a
        SADD t b c d
        SCARD s
        SISMEMBER s a
        SISMEMBER s x
        SMISMEMBER s a x c
        SMEMBERS s
        SMEMBERS none
        SINTER s t
        SUNION s t none
        SDIFF s t
        SINTERCARD 2 s t LIMIT 5
        SINTERSTORE i s t
        SMEMBERS i
        SUNIONSTORE u s t
        SDIFFSTORE d s t
        SMEMBERS d
        SMOVE s t a
        SMOVE s t nothing
        SMEMBERS t
        SREM t a none
        SSCAN t 0 COUNT 100
        SRANDMEMBER t -5
        SRANDMEMBER none
        SPOP d 9
        SPOP d 9
        SPOP none
    """,
    "sorted sets": """
        ZADD z 1 a 2 b 3 c
        ZADD z NX 9 a 4 d
        ZADD z XX CH 5 a
        ZADD z INCR 2 a
        ZADD y 10 b 20 e
        ZINCRBY z 0.5 b
        ZSCORE z b
        ZSCORE z none
        ZMSCORE z a none c
        ZRANK z b
        ZREVRANK z b
        ZRANK z none
        ZRANGE z 0 -1
        ZRANGE z 0 -1 WITHSCORES
        ZRANGE z 0 -1 REV WITHSCORES
        ZRANGE z 2 (7 BYSCORE LIMIT 0 2
        ZRANGE z +inf -inf BYSCORE REV LIMIT 0 2 WITHSCORES
        ZRANGE none 0 -1 WITHSCORES
        ZREVRANGE z 0 1 WITHSCORES
        ZRANGEBYSCORE z 2 4 WITHSCORES LIMIT 0 2
        ZREVRANGEBYSCORE z 4 2
        ZCOUNT z 2 4
        ZRANDMEMBER z -9 WITHSCORES
        ZRANDMEMBER z
        ZSCAN z 0 MATCH * COUNT 100
        ZUNION 2 z y WITHSCORES
        ZINTER 2 z y WEIGHTS 1 2 AGGREGATE MAX WITHSCORES
        ZINTER 2 z y
        ZDIFF 2 z y WITHSCORES
        ZUNIONSTORE u 2 z y AGGREGATE MIN
        ZINTERSTORE i 2 z y
        ZDIFFSTORE d 2 z y
        ZRANGESTORE r z 0 1
        ZRANGE u 0 -1 WITHSCORES
        ZRANGE r 0 -1 WITHSCORES
        ZINTERCARD 2 z y
        ZREM z a none
        ZPOPMIN z
        ZPOPMAX z 2
        ZPOPMIN none
        ZPOPMIN none 3
        BZPOPMIN none u 0.01
        BZPOPMAX none 0.01
        ZMPOP 2 none u MAX COUNT 2
        BZMPOP 0.01 1 u MIN
        ZMPOP 1 none MIN
        ZREMRANGEBYRANK u 0 0
        ZREMRANGEBYSCORE d -inf +inf
        ZCARD z
    """,
    "a set among sorted sets": """
        SADD s a b c
        ZADD z 5 b 7 d
        ZINTER 2 z s WITHSCORES
        ZDIFF 2 z s
        ZUNIONSTORE u 2 s z WEIGHTS 0 1
        ZSCORE u a
        ZSCORE u b
        ZRANGE u 5 7 BYSCORE
    """,
    "streams": """
        XADD x 1-1 f v g w
        XADD x NOMKSTREAM MAXLEN ~ 100 2-1 f STREAMS f again
        XADD none NOMKSTREAM * f v
        XADD x MINID 1-0 3-1 COUNT v
        XLEN x
        XRANGE x - +
        XRANGE x - + COUNT 1
        XREVRANGE x + -
        XRANGE none - +
        XREAD COUNT 2 STREAMS none x 0 0
        XREAD STREAMS none $
        XGROUP CREATE x g 0
        XREADGROUP GROUP g c COUNT 2 STREAMS x >
        XREADGROUP GROUP g c STREAMS x 0
        XDEL x 1-1
        XREADGROUP GROUP g c STREAMS x 0
        XCLAIM x g d 0 2-1
        XCLAIM x g d 0 2-1 JUSTID
        XAUTOCLAIM x g e 0 0 COUNT 5
        XAUTOCLAIM x g e 0 0 JUSTID
        XACK x g 2-1
        XINFO GROUPS x
        XTRIM x MAXLEN 1
        XRANGE x - +
    """,
}


@pytest.mark.parametrize("story", STORIES)
def test_stories(client: Client, story: str) -> None:
    client.setup(())
    for line in STORIES[story].strip().splitlines():
        run_both(client, words(line))


@pytest.mark.parametrize("story", STORIES)
def test_stories_with_the_real_envelope(any_server: RealServer, protocol: int, story: str) -> None:
    """And no value is on the server in clear at any time."""
    sealer = LiveSealer(Keyring.generate(bytes(range(96))))
    client = Client(any_server, protocol, sealer=sealer, contexts=ONE_CONTEXT)
    client.setup(())
    told: set[bytes] = set()
    for line in STORIES[story].strip().splitlines():
        command = words(line)
        run_both(client, command)
        # Shorter ones may stand in any bytes by chance.
        told |= {value for value, _, _ in values_of(command, find_rule(command)) if len(value) > 4}
        stored = everything(client)
        assert [value for value in told if value in stored] == [], command
    client.close()


NEWER = """
HSETEX h EX 100 FIELDS 2 f v g w
HGETEX h PERSIST FIELDS 3 g none f
HGETEX none FIELDS 1 f
HSETEX h FXX KEEPTTL FIELDS 1 f x
HGETDEL h FIELDS 2 f none
HGETALL h
MSETEX 2 a 1 b 2 EX 100
MGET a b
HRANDFIELD h 5 WITHVALUES
ZRANK z a WITHSCORE
HSCAN h 0 NOVALUES
"""


def test_newer_commands_where_the_server_has_them(client: Client) -> None:
    """Errors are compared too, so a server without them agrees as well."""
    client.setup(tuple(tuple(words(line)) for line in ("ZADD z 1 a 2 b",)))
    for line in filter(None, NEWER.splitlines()):
        run_both(client, words(line))


def test_xinfo_stream(client: Client) -> None:
    client.setup()
    for text in ("XINFO STREAM stream", "XINFO STREAM stream FULL"):
        ours, theirs = (_as_map(reply) for reply in client.both(text))
        for name in (b"length", b"first-entry", b"last-entry", b"entries", b"last-generated-id"):
            assert ours.get(name) == theirs.get(name), name
        assert ours.keys() == theirs.keys()


def _as_map(reply: Any) -> dict[Any, Any]:
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def test_moving_without_a_context_would_lose_the_value(any_server: RealServer) -> None:
    """Why it is refused: the server says OK, and the value does not open any more."""
    client = Client(any_server, 2)
    client.setup(((b"SET", b"a", b"v"),))
    with pytest.raises(RefusedError):
        client.sealed(words("RENAME a b"))
    assert client.raw(SEALED, b"RENAME", b"a", b"b") == b"OK"
    with pytest.raises(Exception, match="not at"):
        client.sealed(words("GET b"))
    client.close()


DAMAGE = {
    "APPEND k x": "OK, and the seal is broken",
    "SETRANGE k 3 x": "OK, and the seal is broken",
    "SETBIT k 8 1": "OK, and the seal is broken",
    "BITFIELD k SET u8 0 255": "OK, and the seal is broken",
}


@pytest.mark.parametrize("text", DAMAGE)
def test_what_is_refused_would_damage_without_an_error(any_server: RealServer, text: str) -> None:
    client = Client(any_server, 2)
    client.setup(((b"SET", b"k", b"v"),))
    with pytest.raises(RefusedError):
        client.sealed(words(text))
    assert client.sealed(words("GET k")) == b"v"
    assert not isinstance(client.raw(SEALED, *words(text)), Exception)
    with pytest.raises(Exception, match="not at"):
        client.sealed(words("GET k"))
    client.close()


# ---- random sequences

NAMES = [b"a", b"b", b"in:clear"]
# A member's score ends in its own digit, so that no two are ever equal.
MEMBERS = {b"m%d" % digit: digit for digit in range(1, 5)} | {b"": 5, b"WITHSCORES": 6, b"\x00\xff\r\n": 7}
VALUES = [*MEMBERS, b"GET", b"NX", b"5", b"*", b"x" * 100]
name = st.sampled_from(NAMES)
value = st.sampled_from(VALUES)
member = st.sampled_from([*MEMBERS])
field = st.sampled_from([b"f", b"g", b"FIELDS", b""])
index = st.sampled_from([b"0", b"1", b"-1"])
end = st.sampled_from([b"LEFT", b"RIGHT"])


def _one(command: str, *parts: Any) -> st.SearchStrategy[list[bytes]]:
    """Return a strategy for a command; lists of a part are put in one behind the other."""
    return st.tuples(*parts).map(lambda drawn: [*command.encode().split(), *_flat(drawn)])


def _flat(drawn: Any) -> Iterator[bytes]:
    for part in drawn:
        if isinstance(part, bytes):
            yield part
        else:
            yield from _flat(part)


def _some(*parts: Any) -> st.SearchStrategy[Any]:
    return st.lists(st.tuples(*parts), min_size=1, max_size=3)


def _option(*words_: bytes) -> st.SearchStrategy[Any]:
    return st.sampled_from([(), *((word,) for word in words_)])


scored = member.flatmap(
    lambda which: st.integers(0, 2).map(lambda tens: (b"%d" % (tens * 10 + MEMBERS[which]), which))
)

STRINGS = st.one_of(
    _one("SET", name, value, _option(b"NX", b"XX", b"GET", b"KEEPTTL")),
    _one("GET", name),
    _one("MSET", _some(name, value)),
    _one("MGET", st.lists(name, min_size=1, max_size=3)),
    _one("GETDEL", name),
    _one("GETSET", name, value),
    _one("SETNX", name, value),
)
HASHES = st.one_of(
    _one("HSET", name, _some(field, value)),
    _one("HSETNX", name, field, value),
    _one("HGET", name, field),
    _one("HMGET", name, st.lists(field, min_size=1, max_size=3)),
    _one("HGETALL", name),
    _one("HDEL", name, field),
    _one("HSCAN", name, st.just(b"0")),
)
LISTS = st.one_of(
    _one("RPUSH", name, st.lists(value, min_size=1, max_size=3)),
    _one("LPUSH", name, value),
    _one("LRANGE", name, index, index),
    _one("LINDEX", name, index),
    _one("LSET", name, index, value),
    _one("LPOP", name, _option(b"1", b"2")),
    _one("LMOVE", name, name, end, end),
    # Redis 6.2 rounds a millisecond down to none, which means for ever.
    _one("BLPOP", name, name, st.just(b"0.01")),
)
SETS = st.one_of(
    _one("SADD", name, st.lists(member, min_size=1, max_size=3)),
    _one("SREM", name, member),
    _one("SMEMBERS", name),
    _one("SMISMEMBER", name, st.lists(member, min_size=1, max_size=3)),
    _one("SMOVE", name, name, member),
    _one("SINTER", name, name),
    _one("SUNIONSTORE", name, name, name),
    _one("SDIFFSTORE", name, name, name),
)
SORTED_SETS = st.one_of(
    _one("ZADD", name, _option(b"NX", b"XX", b"GT", b"CH"), st.lists(scored, min_size=1, max_size=3)),
    # Not ZINCRBY: on nothing it would leave a score without its member's digit.
    _one("ZADD", name, st.just((b"XX", b"INCR")), st.sampled_from([b"10", b"-10"]), member),
    _one("ZRANGE", name, index, index, _option(b"WITHSCORES", b"REV")),
    _one("ZRANGEBYSCORE", name, st.just(b"-inf"), st.just(b"15"), _option(b"WITHSCORES")),
    _one("ZMSCORE", name, st.lists(member, min_size=1, max_size=3)),
    _one("ZRANK", name, member),
    _one("ZPOPMIN", name, _option(b"2")),
    _one("ZREM", name, member),
    _one("ZRANGESTORE", name, name, index, index),
)
STREAMS = st.one_of(
    _one(
        "XADD", name, _option(b"NOMKSTREAM"), st.sampled_from([b"1-1", b"2-1", b"3-1"]), _some(field, value)
    ),
    _one("XRANGE", name, st.just(b"-"), st.just(b"+")),
    _one("XREAD STREAMS", name, name, st.just(b"0"), st.just(b"0")),
    _one("XDEL", name, st.just(b"1-1")),
)
ANY = st.one_of(
    _one("DEL", name),
    _one("RENAME", name, name),
    _one("COPY", name, name),
    _one("TYPE", name),
    _one("EXISTS", name),
)
sequences = st.lists(
    st.one_of(STRINGS, HASHES, LISTS, SETS, SORTED_SETS, STREAMS, ANY), min_size=5, max_size=40
)
HEALTH = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.mark.parametrize("kind", ["mixed", "one"])
def test_random_sequences_answer_as_in_clear(any_server: RealServer, protocol: int, kind: str) -> None:
    """Whole sequences on few names, of all types at once, and of one type at a time."""
    client = Client(any_server, protocol, contexts=ONE_CONTEXT, plaintext_keys=[b"in:*"])
    types = [STRINGS, HASHES, LISTS, SETS, SORTED_SETS, STREAMS]
    drawn = (
        sequences
        if kind == "mixed"
        else st.one_of(
            *(st.lists(st.one_of(each, each, each, ANY), min_size=5, max_size=40) for each in types)
        )
    )

    @settings(max_examples=60, deadline=None, suppress_health_check=HEALTH)
    @given(drawn)
    def check(commands: list[list[bytes]]) -> None:
        client.setup(())
        for command in commands:
            try:
                client.plan.apply(command, find_rule(command))
            except RefusedError:
                assert decide(find_rule(command)).what == "context", command
                continue
            run_both(client, command)

    check()
    client.close()


def test_messages(any_server: RealServer, protocol: int) -> None:
    """Sealed on the way, opened by subscribers, and dropped when a neighbour made them up."""
    client = Client(any_server, protocol, plaintext_channels=[b"open"])
    listener = redis.ConnectionPool(
        connection_class=redis.UnixDomainSocketConnection,
        path=any_server.socket_path,
        protocol=protocol,
        **no_maintenance_notifications(),
    ).get_connection(*CHECKOUT)

    def hear() -> Any:
        return client.plan.open_message(
            listener.read_response(disable_decoding=True, **({"push_request": True} if protocol == 3 else {}))
        )

    for command in ("SUBSCRIBE", "c", "open"), ("PSUBSCRIBE", "n*"):
        listener.send_command(*command)
    assert [hear()[0] for _ in range(3)] == [b"subscribe", b"subscribe", b"psubscribe"]
    for text in ("PUBLISH c message", "PUBLISH open message", "PUBLISH news message"):
        assert client.sealed(words(text)) == 1
    assert [hear() for _ in range(3)] == [
        [b"message", b"c", b"message"],
        [b"message", b"open", b"message"],
        [b"pmessage", b"n*", b"news", b"message"],
    ]
    client.clear(words("PUBLISH c forged"))
    assert hear() is None and client.plan.dropped_messages == 1
    listener.disconnect()
    client.close()
