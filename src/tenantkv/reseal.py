"""Resealing with a client: the operation of `ops/reseal.py` with this machine's clock and randomness."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from tenantkv.envelope import Sealer
from tenantkv.ops.reseal import Checkpoint, Resealing, Sealers
from tenantkv.suites import CODES

__all__ = ["Checkpoint", "Resealing", "resealing"]


def resealing(
    client: Any,
    *,
    contexts: Mapping[str, str] | None = None,
    is_dry: bool = False,
    start: Checkpoint | None = None,
) -> Resealing:
    """Return the work of sealing a client's values anew with the primary key. No round trip.

    The keys are those that the client was connected with, so connect after ``tenantkv key promote``.

    Args:
        client: a sync or an asyncio one; its namespace's values and no child's.
        contexts: as for :func:`tenantkv.connect`, in addition to the client's own.
        is_dry: look and count, and change nothing.
        start: the ``checkpoint`` of earlier work on the same namespace.

    Example:
        >>> import tenantkv
        >>> kv = tenantkv.connect("memory://", namespace=getfixture("namespace"))
        >>> work = resealing(kv)
        >>> while kv.run(work.step(time.time())):  # On asyncio: await kv.run(...)
        ...     pass
        >>> work.tally.resealed
        0
    """
    namespace = client.namespace
    # Each envelope keeps its suite, so all are admitted whatever the mode is.
    sealer = Sealer(namespace.keyring, entropy=os.urandom, clock=time.time, suites=CODES)
    return Resealing(
        namespace, Sealers(sealer, sealer), client.registrar, contexts=contexts, is_dry=is_dry, start=start
    )
