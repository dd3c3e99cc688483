"""Refusals as redis-py's callers know them: each is also a ``ResponseError``.

Libraries such as RQ catch ``ResponseError`` where a server lacks a command, and must be able to treat a
refusal in the same way.
"""

from __future__ import annotations

from redis.exceptions import ResponseError

from tenantkv.errors import (
    ForbiddenCommandError,
    MalformedCommandError,
    NamespaceRequiredError,
    RefusedError,
    UnknownCommandError,
)


class ForbiddenCommandResponse(ForbiddenCommandError, ResponseError):
    """A forbidden command, as an answer of the server's."""


class MalformedCommandResponse(MalformedCommandError, ResponseError):
    """A malformed command, as an answer of the server's."""


class NamespaceRequiredResponse(NamespaceRequiredError, ResponseError):
    """A command without a namespace, as an answer of the server's."""


class UnknownCommandResponse(UnknownCommandError, ResponseError):
    """An unknown command, as an answer of the server's."""


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
    kind = next((shell for pure, shell in _KINDS if isinstance(error, pure)), RefusedResponse)
    return kind(error.command, error.reason, error.instead)
