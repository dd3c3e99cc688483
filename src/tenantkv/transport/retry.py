"""When a command is sent again: only if its reply cannot have been the second of its kind.

redis-py repeats every command after a lost connection, also an INCR or an RPUSH that the server has
already carried out. Here the connection marks an error while such a reply was due, and these policies
hand a marked error on at once. Waits are jittered, so that the tenants of a server that comes back do
not all return in the same millisecond ("full jitter": M. Brooker, Exponential Backoff And Jitter, 2015).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from redis.asyncio.retry import Retry as _AsyncRetry
from redis.backoff import FullJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry as _Retry

from tenantkv.commands.rule import Rule
from tenantkv.transport.asides import AsideRule

T = TypeVar("T")

_MARK = "_tenantkv_unrepeatable"

#: Repeats after the first try; with the waits below about five seconds in all.
RETRIES = 6
BASE_WAIT = 0.05
LONGEST_WAIT = 2.0

# A primary that has become a replica refused the write, so it may be repeated; a new connection finds
# the new primary behind a virtual address.
_SUPPORTED: Any = (RedisConnectionError, RedisTimeoutError, TimeoutError, ReadOnlyError)


class _UnrepeatableError(Exception):
    """Carries a marked error past redis-py's retry loop, which catches only what it supports."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


def mark_unrepeatable(error: BaseException) -> None:
    """Note on `error` that a reply was lost which must not be asked for again."""
    setattr(error, _MARK, True)


def is_unrepeatable(error: BaseException) -> bool:
    """Whether repeating what failed with `error` could do it twice."""
    return bool(getattr(error, _MARK, False))


class SafeRetry(_Retry):
    """redis-py's retry policy, for what may be repeated."""

    def call_with_retry(self, do: Callable[[], T], fail: Any, *args: Any, **kwargs: Any) -> T:
        """Call `do` until it succeeds, the tries are used up, or it must not be repeated."""

        def once() -> T:
            try:
                return do()
            except Exception as error:
                if is_unrepeatable(error):
                    raise _UnrepeatableError(error) from None
                raise

        try:
            return super().call_with_retry(once, fail, *args, **kwargs)
        except _UnrepeatableError as carried:
            raise carried.error from None


class AsyncSafeRetry(_AsyncRetry):
    """redis-py's asyncio retry policy, for what may be repeated."""

    async def call_with_retry(
        self, do: Callable[[], Awaitable[T]], fail: Any, *args: Any, **kwargs: Any
    ) -> T:
        """Call `do` until it succeeds, the tries are used up, or it must not be repeated."""

        async def once() -> T:
            try:
                return await do()
            except Exception as error:
                if is_unrepeatable(error):
                    raise _UnrepeatableError(error) from None
                raise

        try:
            return await super().call_with_retry(once, fail, *args, **kwargs)
        except _UnrepeatableError as carried:
            raise carried.error from None


def default_retry() -> SafeRetry:
    """Return the policy for a shared server."""
    return SafeRetry(FullJitterBackoff(cap=LONGEST_WAIT, base=BASE_WAIT), RETRIES, _SUPPORTED)


def default_async_retry() -> AsyncSafeRetry:
    """Return the policy for a shared server, for asyncio."""
    return AsyncSafeRetry(FullJitterBackoff(cap=LONGEST_WAIT, base=BASE_WAIT), RETRIES, _SUPPORTED)


def leave_to_policy(connection: Any) -> None:
    """Have every error of a connection reach our policy, which knows what it repeats.

    redis-py 5 asks it about a pipeline only after errors of ``retry_on_error``, later versions always. Set
    when the connection is made: given to it, they would be added to what the policy repeats.
    """
    if isinstance(connection.retry, (SafeRetry, AsyncSafeRetry)):
        connection.retry_on_error = list(_SUPPORTED)


def may_repeat(rules: Iterable[Rule]) -> bool:
    """Whether commands that went out together do and answer the same when they are sent again.

    Each for itself must be repeatable, and none may read what a later one has written by then.
    """
    has_read = False
    for rule in rules:
        if not rule.repeatable or (rule.writes and has_read):
            return False
        has_read = has_read or (rule.reads and not isinstance(rule, AsideRule))
    return True
