"""Resealing: every value that an older key has sealed is sealed anew with the primary.

Laws of this file:

1. A value is replaced only while it is still the one that was read (``lua/reseal_swap.lua``), so nothing
   that others write meanwhile is lost. TTLs and scores stay, and so do suite and expiry of the envelope.
2. Only what opens is sealed anew, for the place where it opened. Everything else stays as it is, and is
   counted.
3. Everything in small pages: no command is slow, and memory is bounded. Values are read only if their
   first bytes say that another key than the primary has made them.
4. A step can be repeated. What was done is found to be done, so stopping anywhere costs nothing.

Streams cannot be changed in place: what stands in them is counted. The keys of the primitives
(``tkv:...``) have envelopes of their own kinds, which use renews: they are counted too.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from tenantkv.commands.sealing import SealPlan
from tenantkv.envelope import Sealer
from tenantkv.errors import ForbiddenCommandError
from tenantkv.namespace import PRIMITIVES, Namespace
from tenantkv.ops import registry
from tenantkv.ops.effects import Batch, Command, Operation
from tenantkv.ops.listing import run_of_server, way_done
from tenantkv.ops.registry import RESERVED, SHARDS, Registrar
from tenantkv.ops.reseal_tally import Tally
from tenantkv.ops.reseal_values import Walk, Walks

_SCAN_PAGE = 1000


@dataclass(slots=True)
class Checkpoint:
    """Where to go on, and what was counted up to there.

    Attributes:
        source: ``"scan"``, ``"registry"``, or empty before the first step.
        cursor: of SCAN, or the number of a shard.
        server: the run in which the cursor has a meaning.
        tally: what was counted.
    """

    source: str = ""
    cursor: int = 0
    server: str = ""
    tally: Tally = field(default_factory=Tally)

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return {
            "source": self.source,
            "cursor": self.cursor,
            "server": self.server,
            "tally": self.tally.to_json(),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Checkpoint:
        """Return the checkpoint that was stored."""
        return cls(**{**document, "tally": Tally.from_json(document["tally"])})


@dataclass(frozen=True, slots=True)
class Sealers:
    """What opens and seals a namespace's values, and the members of its registry."""

    values: Sealer
    registry: Sealer


class Resealing:
    """Seals one namespace's values anew, step by step.

    Args:
        namespace: whose values.
        sealers: with the keyring as it is now.
        registrar: the client's registry, if on.
        contexts: for globs of own key names, the name in the seals of matching keys.
        is_dry: look and count, and change nothing.
        start: where an earlier run has stopped.

    Attributes:
        checkpoint: where to go on, as of the last whole page of names.

    Example:
        >>> while client.run(work.step(time.time())):  # doctest: +SKIP
        ...     print(work.progress)
    """

    def __init__(
        self,
        namespace: Namespace,
        sealers: Sealers,
        registrar: Registrar | None,
        *,
        contexts: Mapping[str, str] | None = None,
        is_dry: bool = False,
        start: Checkpoint | None = None,
    ) -> None:
        self._namespace = namespace
        self._sealers = sealers
        self._registrar = registrar
        settings = namespace.protection
        self._hides = settings.names == "hidden"
        pairs = {**dict(settings.contexts), **(contexts or {})}
        self._plan = SealPlan(
            sealers.values, contexts={glob.encode(): name.encode() for glob, name in pairs.items()}
        )
        # The document's ids of a child's keys.
        parents = zip(namespace.keyring.keys, namespace.root.keys, strict=True)
        ids = {key.id: parent.id for key, parent in parents}
        self._is_over = False
        self.checkpoint = start or Checkpoint()
        self._next = deepcopy(self.checkpoint)
        self._is_resumed = bool(self.checkpoint.source)
        self._walks = Walks(ids, namespace.path, self._next.tally, is_dry=is_dry)

    @property
    def tally(self) -> Tally:
        """What was found and done."""
        return self._next.tally

    @property
    def progress(self) -> float:
        """How much of the way is done, from 0 to 1; an estimate."""
        if self._is_over and not self._walks:
            return 1.0
        return way_done(self.checkpoint.source, self.checkpoint.cursor)

    def step(self, now: float) -> Operation[bool]:
        """Do a little: a page of names, or one of each of a few keys. At most a few round trips.

        Args:
            now: Unix seconds.

        Returns:
            Whether there is more to do.

        Raises:
            ForbiddenCommandError: the server has no SCAN, and no registry is on.
        """
        if self._walks:
            yield from self._walks.do_lot()
        elif not self._is_over:
            yield from self._find_names(now)
        if not self._walks:
            self.checkpoint = deepcopy(self._next)
        return bool(self._walks) or not self._is_over

    # Names

    def _find_names(self, now: float) -> Operation[None]:
        place = self._next
        if place.source == "" or self._is_resumed:
            yield from self._begin()
        if place.source == "scan":
            page = yield Command(("SCAN", place.cursor, "COUNT", _SCAN_PAGE), absent_ok=True)
            if page is not None:
                yield from self._take_page(page)
                return
            place.source = "registry"
        if self._registrar is None:
            raise ForbiddenCommandError(
                "SCAN",
                "this server does not offer it, so your keys cannot be listed.",
                "Reseal with the registry on (TENANTKV_REGISTRY=1), which your writers have to have on too.",
            )
        shard = place.cursor
        names = yield from registry.read_shards([shard], self._registrar, now)
        yield from self._enqueue(names)
        if self._hides:
            key = registry.shard_key(shard)
            self._walks.add(Walk(key, key, self._sealers.registry, "registry", (key,)))
        place.cursor += 1
        self._is_over = place.cursor >= SHARDS

    def _begin(self) -> Operation[None]:
        """Choose where names come from, and begin anew if an old cursor means nothing any more."""
        place, resumed = self._next, self._is_resumed
        self._is_resumed = False
        if not resumed:
            place.source = "registry" if self._hides else "scan"
        elif place.source == "scan" and place.server != (yield from run_of_server()):
            self._begin_anew()

    def _begin_anew(self) -> None:
        done = self.tally
        self._next.cursor, self._next.server = 0, ""
        self._next.tally = self._walks.tally = Tally(resealed=done.resealed, merged=done.merged)

    def _take_page(self, page: Any) -> Operation[None]:
        place = self._next
        cursor, names = int(page[0]), page[1]
        if cursor and not place.server:
            place.server = yield from run_of_server()
        elif not cursor and place.server and place.server != (yield from run_of_server()):
            # Another server by now, which counts its keys in another order: some may have been missed.
            self._begin_anew()
            return
        place.cursor = cursor
        self._is_over = cursor == 0
        # SCAN may tell a name twice.
        yield from self._enqueue(list(dict.fromkeys(names)))

    def _enqueue(self, names: list[bytes]) -> Operation[None]:
        ours = [name for name in names if name.startswith(PRIMITIVES)]
        for start in range(0, len(ours), 250):
            lot = ours[start : start + 250]
            times = yield Batch([("PTTL", name) for name in lot])
            for name, ttl in zip(lot, times, strict=True):
                if isinstance(ttl, int) and ttl != -2:
                    self.tally.skip(_primitive(name), ttl)
        hide = self._namespace.hidden_name if self._hides else _same
        for name in names:
            if name.startswith((PRIMITIVES, RESERVED)):
                continue
            context = self._plan.name_of(name)
            seal_names = (name,) if context in (None, name) else (context or name, name)
            self._walks.add(Walk(name, hide(name), self._sealers.values, None, seal_names))
            self.tally.keys += 1


def _primitive(name: bytes) -> str:
    """Return which primitive a key belongs to; cleaned, as anybody can plant a name."""
    word = name[len(PRIMITIVES) :].partition(b":")[0]
    return word.decode() if word in _KNOWN else "other"


_KNOWN = frozenset(b"cache celery directory lock queue rate rwlock semaphore".split())


def _same(name: bytes) -> bytes:
    return name


__all__ = ["Checkpoint", "Resealing", "Sealers"]
