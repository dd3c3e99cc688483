"""The two drivers: what an operation asks for, done with a sync or an asyncio connection pool."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tenantkv.commands.own_scripts import OwnCommand, OwnWord
from tenantkv.ops.effects import Batch, Call, Command, Effect, Operation, Sleep
from tenantkv.transport.redis_py import connection_of

Result = TypeVar("Result")
Words = tuple[Any, ...]

# Types that are the same in every encoding.
_WITHOUT_TEXT = frozenset([OwnCommand, bytes, int, float])
# What the retry policy decides about: a lost connection, and a primary that has become a replica.
_MAY_REPEAT = (RedisConnectionError, RedisTimeoutError, TimeoutError, ReadOnlyError)


def _steps(effect: Batch | Call | Command) -> list[Any]:
    """Return an effect's commands and calls, one or several."""
    if isinstance(effect, Batch):
        return list(effect.commands)
    return [effect if isinstance(effect, Call) else effect.arguments]


def _words(steps: Iterable[Any]) -> list[Words]:
    return [in_utf8(step.by_digest if isinstance(step, Call) else step) for step in steps]


def in_utf8(arguments: Words) -> Words:
    """Return a command of our own: told by its type, and UTF-8 whatever the user's connection encodes in."""
    if type(arguments[0]) is OwnCommand and _WITHOUT_TEXT.issuperset(map(type, arguments)):
        return arguments
    words = [word.encode() if isinstance(word, str) else word for word in arguments]
    if type(words[0]) is bytes:
        words[0] = OwnWord(words[0])
    return tuple(words)


def _unknown_scripts(steps: Sequence[Any], replies: Sequence[Any]) -> list[int]:
    """Return where calls stand whose scripts the server does not have."""
    return [
        at
        for at, reply in enumerate(replies)
        if isinstance(reply, NoScriptError) and isinstance(steps[at], Call)
    ]


def _whole(steps: Sequence[Any], missing: Iterable[int]) -> list[Words]:
    return [in_utf8(steps[at].whole) for at in missing]


def _outcome(effect: Effect, replies: list[Any]) -> Any:
    if isinstance(effect, Batch):
        return replies
    reply = replies[0]
    if isinstance(reply, ResponseError):
        if isinstance(effect, Command) and effect.absent_ok:
            return None
        raise reply
    return reply


def run(pool: Any, operation: Operation[Result]) -> Result:
    """Drive an operation with the connections of a sync pool."""
    return drive(partial(exchange, pool), operation)


def drive(swap: Callable[[list[Words]], list[Any]], operation: Operation[Result]) -> Result:
    """Drive an operation with a function that returns the raw replies of commands."""
    try:
        effect = next(operation)
        while True:
            try:
                outcome = _perform(swap, effect)
            except Exception as error:
                effect = operation.throw(error)
            else:
                effect = operation.send(outcome)
    except StopIteration as stop:
        result: Result = stop.value
        return result


def _perform(swap: Callable[[list[Words]], list[Any]], effect: Effect) -> Any:
    if type(effect) is Call:
        # The most frequent, and the short way: one command, one reply.
        (reply,) = swap([in_utf8(effect.by_digest)])
        if isinstance(reply, ResponseError):
            if not isinstance(reply, NoScriptError):
                raise reply
            (reply,) = swap([in_utf8(effect.whole)])
            return _outcome(effect, [reply])
        return reply
    if isinstance(effect, Sleep):
        return time.sleep(effect.seconds)
    steps = _steps(effect)
    replies = swap(_words(steps))
    missing = _unknown_scripts(steps, replies)
    if missing:
        for at, reply in zip(missing, swap(_whole(steps, missing)), strict=True):
            replies[at] = reply
    return _outcome(effect, replies)


def exchange(pool: Any, commands: Sequence[Words]) -> list[Any]:
    """Return the raw replies of commands, errors among them, in one round trip."""
    connection = pool.get_connection()
    try:
        return exchange_on(connection, commands)
    except _MAY_REPEAT as error:
        first: list[Exception] = [error]

        def once() -> list[Any]:
            if first:
                raise first.pop()
            return exchange_on(connection, commands)

        return connection.retry.call_with_retry(once, lambda *_: connection.disconnect())  # type: ignore[no-any-return]
    finally:
        pool.release(connection)


def exchange_on(connection: Any, commands: Sequence[Words]) -> list[Any]:
    """Return what `exchange` does, on a connection that the caller has; nothing is sent twice."""
    if len(commands) == 1:
        # As the client sends one: a blocking one may take its time, a replica's refusal is repeated.
        connection.send_command(*commands[0])
        try:
            return [connection.read_response(disable_decoding=True)]
        except ReadOnlyError:
            raise
        except ResponseError as error:
            return [error]
    connection.send_packed_command(connection.pack_commands(commands))
    found: list[Any] = connection_of(connection).read_replies(len(commands))
    return found


async def arun(pool: Any, operation: Operation[Result]) -> Result:
    """Drive an operation with the connections of an asyncio pool."""
    return await adrive(partial(aexchange, pool), operation)


async def adrive(swap: Callable[[list[Words]], Awaitable[list[Any]]], operation: Operation[Result]) -> Result:
    """Drive an operation with a function that returns the raw replies of commands."""
    try:
        effect = next(operation)
        while True:
            try:
                outcome = await _aperform(swap, effect)
            except Exception as error:
                effect = operation.throw(error)
            else:
                effect = operation.send(outcome)
    except StopIteration as stop:
        result: Result = stop.value
        return result


async def _aperform(swap: Callable[[list[Words]], Awaitable[list[Any]]], effect: Effect) -> Any:
    if type(effect) is Call:
        (reply,) = await swap([in_utf8(effect.by_digest)])
        if isinstance(reply, ResponseError):
            if not isinstance(reply, NoScriptError):
                raise reply
            (reply,) = await swap([in_utf8(effect.whole)])
            return _outcome(effect, [reply])
        return reply
    if isinstance(effect, Sleep):
        return await asyncio.sleep(effect.seconds)
    steps = _steps(effect)
    replies = await swap(_words(steps))
    missing = _unknown_scripts(steps, replies)
    if missing:
        for at, reply in zip(missing, await swap(_whole(steps, missing)), strict=True):
            replies[at] = reply
    return _outcome(effect, replies)


async def aexchange(pool: Any, commands: Sequence[Words]) -> list[Any]:
    """Return the raw replies of commands, errors among them, in one round trip."""
    connection = await pool.get_connection()
    try:
        return await aexchange_on(connection, commands)
    except _MAY_REPEAT as error:
        first: list[Exception] = [error]

        async def once() -> list[Any]:
            if first:
                raise first.pop()
            return await aexchange_on(connection, commands)

        return await connection.retry.call_with_retry(once, lambda *_: connection.disconnect())  # type: ignore[no-any-return]
    finally:
        await pool.release(connection)


async def aexchange_on(connection: Any, commands: Sequence[Words]) -> list[Any]:
    """Return what `aexchange` does, on a connection that the caller has; nothing is sent twice."""
    if len(commands) == 1:
        await connection.send_command(*commands[0])
        try:
            return [await connection.read_response(disable_decoding=True)]
        except ReadOnlyError:
            raise
        except ResponseError as error:
            return [error]
    await connection.send_packed_command(connection.pack_commands(commands))
    found: list[Any] = await connection.read_replies(len(commands))
    return found
