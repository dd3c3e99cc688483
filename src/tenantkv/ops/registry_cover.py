"""What the registry of hidden names holds: sealed members, which tell nobody the names.

A member is sealed by the registry's shard, the same for the same name, so that it can be found again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from tenantkv.errors import TenantKVError
from tenantkv.namespace import PRIMITIVES


class Cover(Protocol):
    """Stands between own names and what a shard holds of them."""

    def key(self, name: bytes) -> bytes:
        """Return the name that stands on the server for an own name."""
        ...

    def member(self, shard: bytes, name: bytes) -> bytes:
        """Return a shard's member for an own name."""
        ...

    def name(self, shard: bytes, member: Any) -> bytes | None:
        """Return the own name of a shard's member, or ``None`` for one that somebody planted."""
        ...


class PlainCover:
    """Members are the names themselves."""

    def key(self, name: bytes) -> bytes:
        return name

    def member(self, shard: bytes, name: bytes) -> bytes:
        return name

    def name(self, shard: bytes, member: Any) -> bytes | None:
        return member if isinstance(member, bytes) else None


class SealedCover:
    """Members are sealed names.

    Args:
        hidden: gives the name on the server for an own name.
        sealer: gives the namespace's sealer; called when the first member is sealed.
    """

    def __init__(self, hidden: Callable[[bytes], bytes], sealer: Callable[[], Any]) -> None:
        self._hidden = hidden
        self._sealer = sealer

    def key(self, name: bytes) -> bytes:
        # The primitives hide what is to be hidden themselves.
        return name if name.startswith(PRIMITIVES) else self._hidden(name)

    def member(self, shard: bytes, name: bytes) -> bytes:
        sealed: bytes = self._sealer().seal_member(name, kind="registry", name=shard)
        return sealed

    def name(self, shard: bytes, member: Any) -> bytes | None:
        if not isinstance(member, bytes):
            return None
        try:
            opened: bytes = self._sealer().open(member, kind="registry", name=shard)
        except TenantKVError:
            return None
        return opened


PLAIN = PlainCover()
