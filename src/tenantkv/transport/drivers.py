"""The two drivers: what an operation asks for, done with a sync or an asyncio connection pool."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from redis.exceptions import ResponseError

from tenantkv.ops.effects import Batch, Effect, Operation

Result = TypeVar("Result")
Words = tuple[Any, ...]


def _commands(effect: Effect) -> list[Words]:
    many = effect.commands if isinstance(effect, Batch) else [effect.arguments]
    return [in_utf8(arguments) for arguments in many]


def in_utf8(arguments: Iterable[Any]) -> Words:
    """Return a command of our own, whose words are UTF-8 whatever the user's connection encodes in."""
    return tuple(word.encode() if isinstance(word, str) else word for word in arguments)


def _outcome(effect: Effect, replies: list[Any]) -> Any:
    if isinstance(effect, Batch):
        return replies
    reply = replies[0]
    if isinstance(reply, ResponseError):
        if effect.absent_ok:
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
                outcome = _outcome(effect, swap(_commands(effect)))
            except Exception as error:
                effect = operation.throw(error)
            else:
                effect = operation.send(outcome)
    except StopIteration as stop:
        result: Result = stop.value
        return result


def exchange(pool: Any, commands: list[Words]) -> list[Any]:
    """Return the raw replies of commands, errors among them, in one round trip."""
    connection = pool.get_connection()
    try:
        return connection.retry.call_with_retry(  # type: ignore[no-any-return]
            lambda: _once(connection, commands), lambda *_: connection.disconnect()
        )
    finally:
        pool.release(connection)


def _once(connection: Any, commands: list[Words]) -> list[Any]:
    connection.send_packed_command(connection.pack_commands(commands))
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(connection.read_response(disable_decoding=True))
        except ResponseError as error:
            replies.append(error)
    return replies


async def arun(pool: Any, operation: Operation[Result]) -> Result:
    """Drive an operation with the connections of an asyncio pool."""
    return await adrive(partial(aexchange, pool), operation)


async def adrive(swap: Callable[[list[Words]], Awaitable[list[Any]]], operation: Operation[Result]) -> Result:
    """Drive an operation with a function that returns the raw replies of commands."""
    try:
        effect = next(operation)
        while True:
            try:
                outcome = _outcome(effect, await swap(_commands(effect)))
            except Exception as error:
                effect = operation.throw(error)
            else:
                effect = operation.send(outcome)
    except StopIteration as stop:
        result: Result = stop.value
        return result


async def aexchange(pool: Any, commands: list[Words]) -> list[Any]:
    """Return the raw replies of commands, errors among them, in one round trip."""
    connection = await pool.get_connection()
    try:
        replies: list[Any] = await connection.retry.call_with_retry(
            lambda: _aonce(connection, commands), lambda *_: connection.disconnect()
        )
        return replies
    finally:
        await pool.release(connection)


async def _aonce(connection: Any, commands: list[Words]) -> list[Any]:
    await connection.send_packed_command(connection.pack_commands(commands))
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(await connection.read_response(disable_decoding=True))
        except ResponseError as error:
            replies.append(error)
    return replies
