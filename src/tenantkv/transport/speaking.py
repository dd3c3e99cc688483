"""What the sync and the asyncio classes have in common: whose names are spoken.

`Speaking` is for connections, `LentPool` for pools that lend another pool's connections, and
`SpeakingClient` for clients.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from tenantkv.commands.own_batch import EntryBatch
from tenantkv.errors import ConfigurationError
from tenantkv.namespace import Namespace
from tenantkv.protection import Protection
from tenantkv.transport.session import Packed, Session

if TYPE_CHECKING:
    from tenantkv.protector import Protector
    from tenantkv.sealing import LiveSealer


class Speaking:
    """A connection that speaks for a namespace, and packs commands through the table."""

    session: Session

    @property
    def namespace(self) -> Namespace | None:
        """Whose names this connection speaks at the moment; a shared pool changes it at checkout."""
        return self.session.namespace

    @namespace.setter
    def namespace(self, namespace: Namespace | None) -> None:
        self.session.namespace = namespace

    def pack_command(self, *args: Any) -> Packed:
        """Return a command as bytes for `send_packed_command`, refused or rewritten."""
        return self.session.pack_all([args])

    def pack_commands(self, commands: Iterable[Any]) -> Packed:
        """Return commands as bytes for `send_packed_command`; all of them, or none."""
        session = self.session
        if type(commands) is EntryBatch and session.namespace is not None and session.registrar is None:
            return Packed(commands.pack(session.namespace.wire_prefix), commands.rules)
        return session.pack_all(commands)

    def repr_pieces(self) -> list[tuple[str, Any]]:
        """What the repr shows: never the prefix."""
        return [*super().repr_pieces(), ("namespace", self.namespace)]  # type: ignore[misc]


class SpeakingClient:
    """A client that speaks for a namespace."""

    namespace: Any

    @property
    def sealer(self) -> LiveSealer:
        """What seals and opens single values with the namespace's keys. No round trip."""
        # Here, as the ciphers take 30 ms to import, and not everybody seals.
        from tenantkv.sealing import sealer_of

        return sealer_of(self.namespace)

    @property
    def protector(self) -> Protector:
        """What refuses, seals and hides for this client, with its counters. No round trip."""
        from tenantkv.protector import protector_of

        return protector_of(self.namespace)

    @property
    def hides_names(self) -> bool:
        """Whether key names are keyed hashes on the server."""
        return bool(self.namespace.protection.names == "hidden")

    def using(self, **protection: Any) -> Self:
        """Return a client for the same names with other settings, on the same connections.

        No round trip.

        Args:
            protection: some of the attributes of :class:`tenantkv.Protection`, but for ``names``.

        Raises:
            ConfigurationError: one of them has no meaning.

        Example:
            >>> kv = getfixture("kv")
            >>> kv.using(plaintext_ok="a sample for the docs").set("db:password", "tr0ub4dor")
            True
        """
        namespace: Namespace = self.namespace
        settings = Protection.of(namespace.protection, **protection)
        if settings.names != namespace.protection.names:
            raise ConfigurationError("'names' is one for all clients of a namespace: say it at connect()")
        client: Self = self.for_namespace(namespace.protected(settings))  # type: ignore[attr-defined]
        return client


class LentPool:
    """A pool that lends another pool's connections, speaking for a namespace of its own.

    It owns no connection: closing it closes nothing, and a fork is the other pool's business.
    """

    _pool: Any
    _namespace: Namespace
    _view_kwargs: dict[str, Any]

    def lend(self, pool: Any, namespace: Namespace) -> None:
        """Take the place of the base's constructor, which would make locks and lists that nobody uses."""
        self._pool = pool
        self._namespace = namespace
        self._view_kwargs = {**pool.connection_kwargs, "namespace": namespace}
        self.connection_class = pool.connection_class

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_pool":
            raise AttributeError(name)
        return getattr(self._pool, name)

    @property
    def connection_kwargs(self) -> dict[str, Any]:
        """The connections' arguments, with this view's namespace."""
        return self._view_kwargs

    @connection_kwargs.setter
    def connection_kwargs(self, value: dict[str, Any]) -> None:
        self._view_kwargs = value

    @property
    def lacks_scan(self) -> bool:
        """Whether the server was seen not to offer SCAN."""
        return bool(self._pool.lacks_scan)

    @lacks_scan.setter
    def lacks_scan(self, lacks_scan: bool) -> None:
        self._pool.lacks_scan = lacks_scan

    @property
    def namespace(self) -> Namespace:
        """Whose names the view's connections speak."""
        return self._namespace

    def reset(self) -> None:
        """Do nothing: the connections serve others too, and the shared pool watches for forks."""

    def __del__(self) -> None:
        """Do nothing: there is nothing to record."""

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__}({self._namespace!r})>"
