"""Refusals as redis-py's callers know them: each is also a ``ResponseError``.

Libraries such as RQ catch ``ResponseError`` where a server lacks a command, and must be able to treat a
refusal in the same way. So is an `OpenError` that a client raises: it is the reply of one command and says
nothing about the connection, and a pipeline goes on to collect the replies behind it only past a
``ResponseError``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from tenantkv.commands.rule import Rule
from tenantkv.errors import (
    ForbiddenCommandError,
    MalformedCommandError,
    NamespaceRequiredError,
    OpenError,
    PlaintextRefusedError,
    RefusedError,
    UnknownCommandError,
    UnknownKeyError,
)
from tenantkv.namespace import Namespace


class ForbiddenCommandResponse(ForbiddenCommandError, ResponseError):
    """A forbidden command, as an answer of the server's."""


class MalformedCommandResponse(MalformedCommandError, ResponseError):
    """A malformed command, as an answer of the server's."""


class NamespaceRequiredResponse(NamespaceRequiredError, ResponseError):
    """A command without a namespace, as an answer of the server's."""


class UnknownCommandResponse(UnknownCommandError, ResponseError):
    """An unknown command, as an answer of the server's."""


class PlaintextRefusedResponse(PlaintextRefusedError, ResponseError):
    """A refused plaintext, as an answer of the server's."""


class OpenErrorResponse(OpenError, ResponseError):
    """An envelope that does not open, as the answer of one command."""


class UnknownKeyResponse(UnknownKeyError, ResponseError):
    """An envelope of an unknown key, as the answer of one command."""


class RefusedResponse(RefusedError, ResponseError):
    """Any other refusal, as an answer of the server's."""


_KINDS: tuple[tuple[type[RefusedError], type[RefusedError]], ...] = (
    (ForbiddenCommandError, ForbiddenCommandResponse),
    (MalformedCommandError, MalformedCommandResponse),
    (NamespaceRequiredError, NamespaceRequiredResponse),
    (UnknownCommandError, UnknownCommandResponse),
)


def as_response(error: RefusedError) -> RefusedError:
    """Return `error` as the class that is a ``ResponseError`` too."""
    if isinstance(error, ResponseError):
        return error
    if isinstance(error, PlaintextRefusedError):
        return PlaintextRefusedResponse(error.command, error.rule, error.name, error.field)
    kind = next((shell for pure, shell in _KINDS if isinstance(error, pure)), RefusedResponse)
    return kind(error.command, error.reason, error.instead)


def unopened(error: OpenError) -> OpenError:
    """Return `error` as the class that is a ``ResponseError`` too."""
    if isinstance(error, ResponseError):
        return error
    if isinstance(error, UnknownKeyError):
        return UnknownKeyResponse(error.key_id, error.kind, error.name, error.field)
    return OpenErrorResponse(error.kind, error.name, error.field)


def no_namespace(arguments: Sequence[Any]) -> NamespaceRequiredError:
    """Return the error for a command on a connection that speaks for nobody."""
    name = str(arguments[0])[:40] if arguments else "the command"
    return NamespaceRequiredError(
        name,
        "this connection has no namespace.",
        "Make clients with tenantkv.connect() or pools with tenantkv.connection_pool().",
    )


def subscription_among_others(rule: Rule) -> ForbiddenCommandError:
    """Return the error for a subscription in a packet or a transaction with other commands."""
    return ForbiddenCommandError(
        rule.name,
        "its acknowledgements would be taken for the replies of the commands beside it.",
        "Use pubsub().",
    )


def redacted(error: ResponseError, namespace: Namespace) -> ResponseError:
    """Take wire names out of an error's text, in place, and return it."""
    error.args = tuple(namespace.redact(part) if isinstance(part, str) else part for part in error.args)
    return error
