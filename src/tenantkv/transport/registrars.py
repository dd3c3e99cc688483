"""The registries that a pool keeps: one for its own namespace, and one for each that has a view of it."""

from __future__ import annotations

from typing import Any

from tenantkv.namespace import Namespace
from tenantkv.ops.registry import REFRESH, Registrar
from tenantkv.ops.registry_cover import SealedCover

#: Namespaces of one pool whose registrations are remembered; views of more begin anew.
NAMESPACES = 1024


def include(registrars: dict[Namespace, Registrar], namespace: Namespace) -> None:
    """Keep a registry for one more namespace of a pool that keeps one for its own."""
    if registrars and namespace not in registrars:
        if len(registrars) >= NAMESPACES:
            # The first is the pool's own.
            for oldest in list(registrars)[1:2]:
                registrars.pop(oldest, None)
        first = next(iter(registrars.values()))
        registrars[namespace] = registrar_for(namespace, first.refresh)


def registrar_for(namespace: Namespace, refresh: float = REFRESH) -> Registrar:
    """Return a registrar for a namespace, whose names may be hidden."""
    if namespace.protection.names != "hidden":
        return Registrar(refresh)

    def sealer() -> Any:
        # Here, as the ciphers take 30 ms to import.
        from tenantkv.sealing import sealer_of

        return sealer_of(namespace)

    return Registrar(refresh, SealedCover(namespace.hidden_name, sealer))
