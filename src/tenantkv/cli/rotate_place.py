"""What a step of ``tenantkv rotate`` works with: clients under both prefixes, and nobody else at work."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tenantkv.cli.adopt_journal import Journal, beside
from tenantkv.cli.client import ServerError, without_url
from tenantkv.cli.rotate_server import Mover
from tenantkv.cli.rotate_work import Moving, Names, Show
from tenantkv.config import resolve
from tenantkv.errors import ConfigurationError, TenantKVError
from tenantkv.keyring import Keyring
from tenantkv.keyring_store import load_keyring
from tenantkv.namespace import Namespace
from tenantkv.rotation import sides

# A child's names do not hang on the prefix, so both sides find the same lock; and nobody else knows it.
_CHILD = "tenantkv rotate"


def keyring_of(arguments: argparse.Namespace) -> Keyring:
    """Return the keyring in use."""
    settings = resolve(environ=os.environ, namespace=arguments.namespace)
    return load_keyring(namespace=settings.namespace)


class Place:
    """Both sides of a rotation; before it has begun, the same one twice.

    Args:
        arguments: of the command.
        keyring: as it is in the file.
        former: the identity under the prefix that is left.
        new: the identity under the one where keys go.

    Attributes:
        keyring: as it is in the file.
        names: what lies under the prefix that is left.
        seals: whether the namespace seals its values.
        mover: moves keys between the two.
        journal: what an earlier run has moved and not yet read; while `alone`.
    """

    journal: Journal

    def __init__(
        self, arguments: argparse.Namespace, keyring: Keyring, former: Keyring, new: Keyring
    ) -> None:
        from tenantkv.transport.connect import connect

        settings = resolve(environ=os.environ, namespace=arguments.namespace)
        if settings.url_source == "default":
            raise without_url("and keys lie on one")
        asked = {"contexts": dict(arguments.context)} if getattr(arguments, "context", None) else {}
        spaces = [
            Namespace(each, placement=settings.placement, protection=settings.protect(each, asked))
            for each in (former, new)
        ]
        self.keyring = keyring
        self._given = _read_names(getattr(arguments, "names_file", None))
        self.seals = spaces[0].protection.seal
        self._prefer = getattr(arguments, "prefer", None)
        self.mover = Mover(arguments.namespace, *spaces)
        options: dict[str, Any] = {"registry": True, "protocol": 2, "decode_responses": False}
        self._source, self._target = (connect(namespace=space, **options) for space in spaces)
        self.names = Names(self._source, self.mover)

    @classmethod
    @contextmanager
    def before(cls, arguments: argparse.Namespace) -> Iterator[Place]:
        """Give the place where there is one prefix only."""
        keyring = keyring_of(arguments)
        with cls._open(arguments, keyring, keyring, keyring) as place:
            yield place

    @classmethod
    @contextmanager
    def between(cls, arguments: argparse.Namespace, keyring: Keyring) -> Iterator[Place]:
        """Give the place between two prefixes."""
        with cls._open(arguments, keyring, *sides(keyring)) as place:
            yield place

    @classmethod
    @contextmanager
    def _open(cls, arguments: argparse.Namespace, *keyrings: Keyring) -> Iterator[Place]:
        from redis.exceptions import RedisError

        place: Place | None = None
        try:
            place = cls(arguments, *keyrings)
            yield place
        except TenantKVError:
            # A refusal is an error of redis-py's as well.
            raise
        except RedisError as error:
            raise ServerError(f"the server: {error}") from None
        finally:
            if place is not None:
                place.close()

    def moving(self, show: Show, *, plain: Sequence[str] = ()) -> Moving:
        """Return the work between the two sides; while `alone`."""
        return Moving(
            self.names,
            self._source,
            self._target,
            self.mover,
            self.journal,
            plain=plain,
            prefer=self._prefer,
            show=show,
        )

    def wanted(self) -> dict[bytes, bytes | None]:
        """Return what is to be moved: the names in the file, or all that the server lists."""
        return self.names.find() if self._given is None else self.names.named(self._given)

    def lists_keys(self) -> bool:
        """Whether the server can say what is left: with SCAN, or by a registry that somebody has kept."""
        return self.names.origin == "scan" or self.mover.has_registry()

    def left(self) -> list[bytes]:
        """Return the names of what lies under the prefix that is left, those in a file among them."""
        found = {} if self._given is None else self._there(self.names.named(self._given))
        found.update(self.names.find())
        return [stored if own is None else own for stored, own in found.items()]

    def _there(self, names: dict[bytes, bytes | None]) -> dict[bytes, bytes | None]:
        from tenantkv.ops.adopt import send

        owns = [own for own in names.values() if own is not None]
        replies = self._source.run(send([("EXISTS", own) for own in owns])) if owns else []
        return {name: own for (name, own), is_there in zip(names.items(), replies, strict=True) if is_there}

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other operators out, on this host by the journal's file and elsewhere by a lock."""
        lock = self._target.child(_CHILD).lock(_CHILD, lease=60, renew=True)
        if not lock.acquire(blocking=False):
            raise ConfigurationError("another 'tenantkv rotate' is at work; try again in a minute")
        try:
            path = beside(self._target.namespace).with_name(f"{self.keyring.namespace}.rotate")
            self.journal = Journal(self._target.namespace, str(path), make=True, command="rotate")
            try:
                yield
            finally:
                self.journal.close()
        finally:
            # Lost, it says so; what was done so far is done.
            lock.release()

    def close(self) -> None:
        """Close all connections."""
        self._source.close()
        self._target.close()
        self.mover.close()


def _read_names(path: str | None) -> list[bytes] | None:
    """Return the names in a file, one a line; ``None`` if there is none."""
    if path is None:
        return None
    text = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    return list(dict.fromkeys(line for line in text.split(b"\n") if line))
