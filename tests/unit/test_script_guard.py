"""The guard as text, the book of digests, and guarded scripts under a test double."""

from __future__ import annotations

import threading

import fakeredis
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from tenantkv.commands import script_guard
from tenantkv.commands.core_table import KEY_ROWS
from tenantkv.commands.script_commands import COMMANDS, REASONS, lua_for
from tenantkv.commands.script_guard import ScriptBook, guard, own_sha, wire_sha

GET = b"return redis.call('GET', KEYS[1])"
PREFIX, CHANNELS = b"0123456789abcdef=:", b"fedcba9876543210:"


def prelude(script: bytes) -> bytes:
    return guard(script)[: -len(script)]


@given(st.binary() | st.text("#!lua\r\n 'redis.call(GET)_G", max_size=60).map(str.encode))
def test_lines_stay_where_they_are(script: bytes) -> None:
    guarded = guard(script)
    first, _, rest = script.partition(b"\n")
    if script.startswith(b"#!"):
        assert guarded.startswith(first + b"\n")
        assert guarded.endswith(b"; " + rest)
        assert guarded.count(b"\n") == max(1, script.count(b"\n"))
    else:
        assert guarded.endswith(b"; " + script)
        assert guarded.count(b"\n") == script.count(b"\n")


@given(st.binary())
def test_digests_depend_on_the_text_alone(script: bytes) -> None:
    assert wire_sha(script) == wire_sha(bytes(bytearray(script))) == own_sha(guard(script))
    assert ScriptBook().learn(script) == guard(script)


def test_own_sha_is_the_servers_digest() -> None:
    assert own_sha(b"return 1") == b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db"


def test_only_what_is_needed_goes_along() -> None:
    assert len(prelude(b"return 1")) < 150
    assert len(prelude(GET)) < 2000
    assert len(prelude(b"return redis.error_reply('no')")) < 300
    assert b"HGETALL" not in guard(GET)
    assert b"K[i]" not in guard(b"return redis.call('GET', ARGV[1])")


@pytest.mark.parametrize(
    "script",
    [
        b"return redis.call(ARGV[1], KEYS[1])",
        b"local call, p = redis.call, redis.pcall return call('GET', 'k')",
        b"local c = redis.call local d = c return d('GET', 'k')",
        b"return pcall(redis.call, 'GET', 'k')",
        b"return redis['call']('GET', 'k')",
        b"return redis.call('G' .. 'ET', 'k')",
        b"return redis.call('\\71ET', 'k')",
        b"return _G.redis.call('GET', 'k')",
        b"return loadstring(ARGV[1])()",
        b"return redis.call[[GET]]",
    ],
)
def test_the_whole_table_goes_along_where_a_name_may_be_computed(script: bytes) -> None:
    assert b"HGETALL" in guard(script)


@pytest.mark.parametrize(
    "script",
    [
        b'local rcall = redis.call\nreturn rcall("GET", KEYS[1])',
        b"-- load the value\nreturn redis.call('GET', KEYS[1])",
        b"local ok = pcall(cjson.decode, ARGV[1]) return redis.pcall ( 'GET' , KEYS[1])",
        b"local redis = redis return redis.call('GET', KEYS[1])",
    ],
)
def test_literal_names_are_found(script: bytes) -> None:
    assert b"HGETALL" not in guard(script)
    assert b"GET" in prelude(script)


def test_every_row_of_the_table_is_known_or_refused() -> None:
    for line in KEY_ROWS.split("\n"):
        words = line.split()
        if words:
            name = " ".join(words[: next(i for i, word in enumerate(words) if word.isdigit())])
            assert name in COMMANDS or name in REASONS, name


def test_no_command_is_both_allowed_and_refused() -> None:
    assert not COMMANDS.keys() & REASONS.keys()


@pytest.mark.parametrize(
    ("names", "lua"),
    [
        ("1", "put(a,2)"),
        ("1 2", "put(a,2,3)"),
        ("2..-1", "put(a,3,n)"),
        ("1..-2", "put(a,2,n-1)"),
        ("1..-1/3", "put(a,2,n,3)"),
        ("#1", "x=count(a,n,2)"),
        ("1 #2", "put(a,2)x=count(a,n,3)"),
        ("script", None),
    ],
)
def test_positions_in_lua(names: str, lua: str | None) -> None:
    assert lua_for(names) == lua


def test_declared_commands_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    script = b"return redis.call('MY.GET', KEYS[1])"
    before = guard(script)
    monkeypatch.setitem(COMMANDS, "MY.GET", "")
    script_guard.declare("my.get", "1")
    assert COMMANDS["MY.GET"] == "put(a,2)"
    assert guard(script) != before


def test_book_knows_both_digests_in_any_case() -> None:
    book = ScriptBook()
    assert book.wire_sha(own_sha(GET)) is None
    assert book.learn(GET) is book.learn(GET)
    assert book.wire_sha(own_sha(GET).upper()) == wire_sha(GET)
    assert book.own_sha(wire_sha(GET).upper()) == own_sha(GET)
    assert book.own_sha(own_sha(GET)) is None


def test_book_forgets_what_was_not_used_for_long() -> None:
    book = ScriptBook(limit=10)
    book.learn(GET)
    for number in range(200):
        book.learn(b"return %d" % number)
        assert book.wire_sha(own_sha(GET)) == wire_sha(GET)
    assert book.wire_sha(own_sha(b"return 0")) is None
    assert book.wire_sha(own_sha(b"return 199")) is not None


def test_book_bounds_its_bytes() -> None:
    book = ScriptBook(limit_bytes=10_000)
    for number in range(20):
        book.learn(b"return %d" % number + b" " * 5000)
    known = [n for n in range(20) if book.wire_sha(own_sha(b"return %d" % n + b" " * 5000))]
    assert 1 <= len(known) <= 4


def test_book_is_shared_by_threads() -> None:
    book = ScriptBook(limit=20)
    wrong: list[int] = []

    def work() -> None:
        for number in range(300):
            script = b"return %d" % (number % 50)
            if book.learn(script) != guard(script):
                wrong.append(number)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.fixture(params=["redis", "valkey"])
def double(request: pytest.FixtureRequest) -> fakeredis.FakeRedis:
    return fakeredis.FakeRedis(server_type=request.param)


def evaluate(client: fakeredis.FakeRedis, script: bytes, *keys: bytes) -> object:
    wire = [PREFIX + key for key in keys]
    return client.execute_command("EVAL", guard(script), len(keys), *wire, b"arg", PREFIX, CHANNELS)


def test_guard_runs_under_fakeredis(double: fakeredis.FakeRedis) -> None:
    assert evaluate(double, b"return redis.call('SET', KEYS[1], ARGV[1])", b"k") == b"OK"
    assert evaluate(double, b"return {KEYS[1], #ARGV, redis.call('get', 'k')}", b"k") == [b"k", 1, b"arg"]
    assert evaluate(double, b"local c = redis.call return c('keys', '*')") == [b"k"]
    assert double.keys() == [PREFIX + b"k"]


def test_errors_under_fakeredis(double: fakeredis.FakeRedis) -> None:
    double.set(PREFIX + b"k", "v")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        evaluate(double, b"return redis.call('LPUSH', 'k', 'v')")
    with pytest.raises(redis.ResponseError, match="refused in a script"):
        evaluate(double, b"return redis.call('FLUSHALL')")
    with pytest.raises(redis.ResponseError, match="deletes the keys of every tenant"):
        evaluate(double, b"return redis.pcall('FLUSHALL')")
    assert double.get(PREFIX + b"k") == b"v"
