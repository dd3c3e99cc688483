"""The short way for ``GET key`` and ``SET key value``, which is most of what a sealed namespace sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tenantkv.commands.packing import Packer
from tenantkv.commands.rule import Rule, reading_class
from tenantkv.commands.table import RULES
from tenantkv.namespace import OURS, Namespace
from tenantkv.secret import Secret

if TYPE_CHECKING:
    from tenantkv.protector import Protector

_GET = frozenset({"GET", "get", b"GET", b"get"})
_SET = frozenset({"SET", "set", b"SET", b"set"})


class SealedStrings:
    """Seals and opens strings without taking commands apart.

    Args:
        protector: the namespace's, which seals and opens.
        name_of: the name in a key's seal, or ``None`` for a key in clear.
        hides: whether names are hidden.
    """

    def __init__(
        self, protector: Protector, name_of: Callable[[bytes], bytes | None], *, hides: bool
    ) -> None:
        self._seal = protector.seal
        self._open = protector.open
        self._name_of = name_of
        self._hides = hides
        self._reading: Any = reading_class(RULES["GET"], self._opened, glances=False)

    def pack(self, packer: Packer, arguments: Sequence[Any], namespace: Namespace) -> tuple[Any, Rule] | None:
        """Return what `Protector.pack` returns, or ``None`` where it takes the long way."""
        count = len(arguments)
        if count not in (2, 3) or not isinstance(arguments[0], (str, bytes)):
            return None
        word = arguments[0]
        is_get = count == 2 and word in _GET
        if not is_get and not (count == 3 and word in _SET and type(arguments[2]) is not Secret):
            return None
        key = packer.to_bytes(arguments[1])
        name = self._name_of(key)
        if name is None or key.startswith(OURS):
            return None
        if self._hides:
            key = namespace.hidden_name(key)
        if is_get:
            packed, _ = packer.pack((word, key), namespace)
            return packed, self._reading(packer, name)
        return packer.pack(
            (word, key, self._seal(packer.to_bytes(arguments[2]), kind="kv", name=name)), namespace
        )

    def _opened(self, _rule: Rule, _packer: Packer, name: Any, reply: Any) -> Any:
        return self._open(reply, kind="kv", name=name) if isinstance(reply, bytes) else reply
