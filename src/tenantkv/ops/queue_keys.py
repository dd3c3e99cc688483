"""Under which own names a queue lies: a handful of keys, one slot, and nothing in them tells its name.

``tkv:queue:{<hidden name>}:<letter>``; the order of `CORE` is that of KEYS in every script of the queue.
"""

from __future__ import annotations

from dataclasses import dataclass

from tenantkv.namespace import PRIMITIVES, Namespace

# meta, state, bodies, ready, flight, delayed, dead, groups, wake, space
_CORE = b"msbrfdxgwy"


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The own names of one queue's keys.

    Attributes:
        stem: what they begin with.
        core: what every script takes.
        wake: receivers wait here.
        space: senders wait here.
        dedupe: ids to tell duplicates by, of this window and of the one before.
        results: results and when they go.
        idle: what a keep-alive touches.
    """

    stem: bytes
    core: tuple[bytes, ...]
    wake: bytes
    space: bytes
    dedupe: tuple[bytes, ...]
    results: tuple[bytes, ...]

    def asked(self, message_id: bytes) -> bytes:
        """Return where somebody waits for that message's result; it exists for moments only."""
        return b"%ba:%b" % (self.stem, message_id)

    @property
    def idle(self) -> tuple[bytes, ...]:
        """What a keep-alive touches: all that holds anything while nobody works on the queue."""
        return (*self.core[:8], *self.dedupe, *self.results)


def queue_keys(namespace: Namespace, name: str) -> QueueKeys:
    """Return the keys of the queue `name`. No round trip."""
    hidden = namespace.hidden_name(b"queue:" + name.encode())
    stem = b"%bqueue:{%b}:" % (PRIMITIVES, hidden)

    def of(letters: bytes) -> tuple[bytes, ...]:
        return tuple(stem + letters[at : at + 1] for at in range(len(letters)))

    core = of(_CORE)
    return QueueKeys(stem, core, core[8], core[9], of(b"uv"), of(b"oq"))
