"""`Secret`: a value that its owner says must be sealed."""

from __future__ import annotations

import hmac
from typing import Generic, NoReturn, TypeVar, final

T = TypeVar("T")


@final
class Secret(Generic[T]):
    """A value that is stored sealed, whatever the namespace does with others.

    It does not show itself: not in a repr, a format string, a traceback's locals or a log, and it can be
    neither pickled nor turned into JSON by accident. Two of them compare in constant time if they hold
    bytes or text; a `Secret` never equals a bare value.

    Example:
        >>> password = Secret("correct horse")
        >>> password
        Secret(...)
        >>> password.reveal()
        'correct horse'
    """

    __slots__ = ("_value",)

    # Hashing would put it into sets and dictionaries, where it is compared and kept unnoticed.
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: T) -> None:
        if isinstance(value, Secret):
            raise TypeError("this is a Secret already")
        object.__setattr__(self, "_value", value)

    def reveal(self) -> T:
        """Return the value."""
        value: T = object.__getattribute__(self, "_value")
        return value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        mine, theirs = self.reveal(), other.reveal()
        left, right = _as_bytes(mine), _as_bytes(theirs)
        if left is None or right is None:
            return type(mine) is type(theirs) and bool(mine == theirs)
        return isinstance(mine, str) == isinstance(theirs, str) and hmac.compare_digest(left, right)

    def __repr__(self) -> str:
        return "Secret(...)"

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Secret cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a Secret cannot be changed")

    def __copy__(self) -> Secret[T]:
        return self

    def __deepcopy__(self, memo: object) -> Secret[T]:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled: seal it, or reveal() it where it is needed")


def _as_bytes(value: object) -> bytes | None:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return bytes(value) if isinstance(value, (bytes, bytearray, memoryview)) else None
