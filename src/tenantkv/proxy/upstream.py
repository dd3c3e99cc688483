"""One client's connection to the server: opened by tenantkv's own class, then spoken over in frames."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from tenantkv.transport.session import Session

#: After these, another connection would not do what the client has asked this one for.
MARKING = frozenset(
    {"CLIENT TRACKING", "CLIENT CACHING", "CLIENT NO-TOUCH", "CLIENT CAPA", "READONLY", "ASKING"}
)

_DRAIN_ABOVE_BYTES = 1_048_576


class Upstream:
    """An open connection to the server, with the session that rewrites what goes over it.

    It is made by the pool's connection class, so TLS, passwords, Sentinels and time-outs are as in Python;
    the pool itself does not lend it, since a client may keep it for as long as it likes.

    Args:
        connection: opened.
        registrar: the client's registry, or ``None``.
    """

    def __init__(self, connection: Any, registrar: Any) -> None:
        self._connection = connection
        self.reader: asyncio.StreamReader = connection._reader
        self._writer: asyncio.StreamWriter = connection._writer
        self.session: Session = connection.session
        self.session.registrar = registrar
        #: Whether the server keeps something about this connection that a new one would lack.
        self.is_marked = False

    @classmethod
    async def open(cls, pool: Any, namespace: Any, protocol: int) -> Upstream:
        """Connect. Raises as redis-py does."""
        base = getattr(pool, "_pool", pool)
        options = {**base.connection_kwargs, "namespace": namespace, "protocol": protocol}
        connection = base.connection_class(**options)
        await connection.connect()
        return cls(connection, pool.registrars.get(namespace))

    async def send(self, pieces: Iterable[bytes]) -> None:
        """Send bytes that went through the session; waits only while the server reads slowly."""
        self._writer.writelines(pieces)
        if self._writer.transport.get_write_buffer_size() > _DRAIN_ABOVE_BYTES:
            await self._writer.drain()

    async def close(self) -> None:
        """Close at once; commands of our own learn that they were not answered."""
        await self._connection.disconnect(nowait=True)
