"""Errors of pipelines say which command failed, on which key, and never what it was to store."""

from __future__ import annotations

import os
import traceback
from typing import Any

import pytest
import redis
from redis.exceptions import ResponseError

import tenantkv
from tenantkv import Keyring, Namespace
from tenantkv.commands.decisions import decide
from tenantkv.commands.table import find_rule
from tenantkv.errors import OpenError, RefusedError
from tenantkv.secret import Secret
from tenantkv.transport.pipeline import annotate, quoted
from tests.shapes import OTHER_SHAPES, SHAPES
from tests.taint import chain

VALUE = "a-value-of-mine-7531"

# Each fails on a key that holds a string, with VALUE in every place where a value or a member stands.
FAILING: list[tuple[Any, ...]] = [
    ("LPUSH", "text", VALUE),
    ("RPUSHX", "text", VALUE, VALUE),
    ("LSET", "text", 0, VALUE),
    ("LREM", "text", 0, VALUE),
    ("LPOS", "text", VALUE),
    ("LINSERT", "text", "BEFORE", VALUE, VALUE),
    ("SADD", "text", VALUE),
    ("SREM", "text", VALUE),
    ("SISMEMBER", "text", VALUE),
    ("SMOVE", "text", "other", VALUE),
    ("ZADD", "text", 1, VALUE),
    ("ZINCRBY", "text", 1, VALUE),
    ("ZREM", "text", VALUE),
    ("ZSCORE", "text", VALUE),
    ("ZRANGEBYLEX", "text", f"[{VALUE}", "+"),
    ("ZREMRANGEBYLEX", "text", f"[{VALUE}", f"({VALUE}"),
    ("HSET", "text", "field", VALUE),
    ("HSETNX", "text", "field", VALUE),
    ("XADD", "text", "*", "field", VALUE),
    ("PFADD", "text", VALUE),
    ("GEOADD", "text", 1, 1, VALUE),
    ("SET", "text", VALUE, "EX", "never"),
    ("SETEX", "text", 0, VALUE),
    ("INCRBY", "text", VALUE),
    ("EVAL", "return redis.call('LPUSH', KEYS[1], ARGV[1])", 1, "text", VALUE),
]


def everything(error: BaseException) -> str:
    parts: list[str] = []
    for each in chain(error):
        parts += [str(each), repr(each), repr(each.args), repr(getattr(each, "__dict__", {}))]
        parts += traceback.format_exception_only(type(each), each)
    return "\n".join(parts)


@pytest.fixture
def namespace() -> Namespace:
    return Namespace(Keyring.generate(os.urandom(96)))


@pytest.mark.parametrize("transaction", [True, False], ids=["multi", "plain"])
@pytest.mark.parametrize("command", FAILING, ids=lambda command: command[0])
@pytest.mark.parametrize("as_bytes", [False, True], ids=["text", "bytes"])
def test_sync(namespace: Namespace, command: Any, transaction: bool, as_bytes: bool) -> None:
    kv = tenantkv.connect("memory://", namespace=namespace)
    kv.set("text", "x")
    if as_bytes:
        command = tuple(part.encode() if isinstance(part, str) else part for part in command)
    pipeline = kv.pipeline(transaction=transaction).get("text").execute_command(*command).get("text")
    with pytest.raises(ResponseError) as caught:
        pipeline.execute()
    assert VALUE not in everything(caught.value)
    assert "Command # 2 (" in str(caught.value) and "text" in str(caught.value)
    # As an item of the results as well.
    pipeline.get("text").execute_command(*command)
    _, error = pipeline.execute(raise_on_error=False)
    assert isinstance(error, ResponseError) and VALUE not in everything(error)
    kv.close()


@pytest.mark.parametrize("transaction", [True, False], ids=["multi", "plain"])
@pytest.mark.parametrize("command", FAILING, ids=lambda command: command[0])
async def test_asyncio(namespace: Namespace, command: Any, transaction: bool) -> None:
    kv = tenantkv.asyncio.connect("memory://", namespace=namespace)
    await kv.set("text", "x")
    pipeline = kv.pipeline(transaction=transaction)
    pipeline.get("text")
    pipeline.execute_command(*command)
    with pytest.raises(ResponseError) as caught:
        await pipeline.execute()
    assert VALUE not in everything(caught.value)
    assert "Command # 2 (" in str(caught.value) and "text" in str(caught.value)
    await kv.aclose()


@pytest.mark.parametrize("said", [{}, {"seal": True}], ids=["plain", "sealed"])
def test_refusals_and_envelopes(namespace: Namespace, said: Any) -> None:
    kv: Any = tenantkv.connect("memory://", namespace=namespace, **said)
    token = "ghp_" + "Ab3dEf6hIj" * 4
    kv.set("a", Secret(VALUE))
    kv.rename("a", "b") if not said else kv.using(seal=False).rename("a", "b")
    for transaction in (True, False):
        with pytest.raises(OpenError) as caught:
            kv.pipeline(transaction=transaction).get("x").get("b").get("x").execute()
        assert "Command # 2 (GET b)" in str(caught.value) and VALUE not in everything(caught.value)
        if not said:
            with pytest.raises(RefusedError) as refused:
                kv.pipeline(transaction=transaction).set("c", VALUE).set("c", token).execute()
            assert token not in everything(refused.value) and VALUE not in everything(refused.value)
            assert kv.get("c") is None
    kv.close()


def test_a_lost_server(namespace: Namespace) -> None:
    retry = redis.retry.Retry(redis.backoff.NoBackoff(), 0)  # type: ignore[attr-defined]
    kv = tenantkv.connect("redis://127.0.0.1:1/0", namespace=namespace, retry=retry)
    for transaction in (True, False):
        with pytest.raises(redis.ConnectionError) as caught:
            kv.pipeline(transaction=transaction).set("a", VALUE).execute()
        assert VALUE not in everything(caught.value)


def test_no_shape_quotes_a_value() -> None:
    """Whatever stands where a value does, in any command, is dots."""
    looked = 0
    for shape in SHAPES + OTHER_SHAPES:
        words = list(shape)
        decision = decide(find_rule(words))
        for places in (decision.layout, decision.clear):
            try:
                found = places(words) if places is not None else ()
            except RefusedError:
                continue
            for at, _, _ in found:
                looked += 1
                assert VALUE not in quoted([*words[:at], VALUE, *words[at + 1 :]]), shape
                assert "7531" not in quoted([*words[:at], 7531, *words[at + 1 :]]), shape
    assert looked > 60


def test_a_refused_command_shows_nothing_but_its_keys() -> None:
    """Where nobody says what a word means, every word but a name may be a value."""
    looked = 0
    for shape in SHAPES + OTHER_SHAPES:
        words = list(shape)
        rule = find_rule(words)
        named = set(rule.locate(words)) if rule.locate is not None else set()
        if decide(rule).what not in ("refuse", "opaque"):
            continue
        for at in range(rule.words, len(words)):
            if at not in named:
                looked += 1
                shown = quoted(words)
                assert shown.count("...") >= len(words) - rule.words - len(named), shape
    assert looked > 60


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("SET", "a", VALUE), "SET a ..."),
        (("SET", "a", Secret(VALUE), "EX", 5), "SET a ... EX 5"),
        (("SET", "pin", 7531), "SET pin ..."),
        (("HSET", "a", "f", VALUE, "g", 7531), "HSET a f ... g ..."),
        (("MSET", "a", VALUE, "b", VALUE), "MSET a ... b ..."),
        (("ZADD", "a", "NX", 1, VALUE), "ZADD a NX 1 ..."),
        (("GET", b"\xff\xfe"), "GET \\xff\\xfe"),
        (("LRANGE", "a", 0, -1), "LRANGE a 0 -1"),
        (("GETRANGE", "a", 0, -1), "GETRANGE a ... ..."),
        (("DEL", "a", "b"), "DEL a b"),
        (("ECHO", VALUE), "ECHO ..."),
        (("AUTH", VALUE), "AUTH ..."),
        (("NOSUCH", VALUE, "b"), "NOSUCH ... ..."),
        (("HSET", "a", VALUE), "HSET ... ..."),
        (("ZADD", "a", VALUE, VALUE), "ZADD ... ... ..."),
        (("GET", "n" * 200), "GET " + "n" * 93 + "..."),
        (("SET", "a"), "SET ..."),
        ((), ""),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_quoted(command: Any, expected: str) -> None:
    assert quoted(list(command)) == expected


def test_annotate_takes_whatever_redis_py_gives() -> None:
    for error, command in (
        (ValueError(), ("GET", "a")),
        (ResponseError("no"), "MULTI"),
        (ResponseError(), iter(["GET"])),
    ):
        annotate(error, 1, command)
        assert error.args[0].startswith("Command # 1 (")
