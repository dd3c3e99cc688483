"""Values to envelopes and back: authenticated always, encrypted where the namespace or the caller asks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tenantkv.codec import decode, encode
from tenantkv.envelope_header import Kind
from tenantkv.errors import CodecError, ConfigurationError
from tenantkv.namespace import Namespace
from tenantkv.ops.queue_ids import HEAD_BYTES, Head, pack_head, unpack_head
from tenantkv.sealing import sealer_of
from tenantkv.secrets import Policy, Secret
from tenantkv.suites import CODES

_KIND: Kind = "queue"
_RESULT = b"result:"
_FEW = 4
_SIGNED = bytes((CODES["sign"],))


class ValueBox:
    """Puts the values of one queue into envelopes, and takes them out.

    An envelope is bound to the queue's name and the message's id: nowhere else does it open.

    Args:
        namespace: whose keys seal.
        queue: the queue's own name.
        seal: whether values are encrypted; otherwise they are signed, and readable.
        pickle: whether values may be pickled.
        max_bytes: of an encoded value.
        policy: looks at what would be readable; ``None`` if nobody needs to.
    """

    def __init__(
        self,
        namespace: Namespace,
        queue: str,
        *,
        seal: bool,
        pickle: bool,
        max_bytes: int,
        policy: Policy | None,
    ) -> None:
        self._name = queue.encode()
        self._is_sealed = seal
        self._pickle = pickle
        self._max_bytes = max_bytes
        self._policy = policy
        self._sealing = sealer_of(namespace)
        self._signing = sealer_of(namespace, mode="sign")

    def encode(self, values: Iterable[Any], *, plaintext_ok: str | None = None) -> list[tuple[bytes, bool]]:
        """Return the bytes of each value, and whether it has to be sealed.

        Raises:
            CodecError: one cannot be encoded.
            ConfigurationError: one is too long.
            PlaintextRefusedError: one looks like a secret and would be readable.
        """
        encoded = [self._encode(value) for value in values]
        if self._policy is not None:
            readable = [data[1:] for data, is_sealed in encoded if not is_sealed]
            self._policy.check_many(readable, command="send", name=self._name, plaintext_ok=plaintext_ok)
        return encoded

    def _encode(self, value: Any) -> tuple[bytes, bool]:
        is_sealed = self._is_sealed
        if type(value) is Secret:
            value, is_sealed = value.reveal(), True
        data = encode(value, allow_pickle=self._pickle)
        if len(data) > self._max_bytes:
            raise ConfigurationError(
                f"the message has {len(data)} bytes, and this queue takes {self._max_bytes}: "
                "store it elsewhere and send its name"
            )
        return data, is_sealed

    def seal(self, data: bytes, is_sealed: bool, message_id: bytes, head: bytes) -> bytes:
        """Return the envelope of a message."""
        sealer = self._sealing if is_sealed else self._signing
        return sealer.seal(head + data, kind=_KIND, name=self._name, field=message_id)

    def seal_all(
        self, encoded: Sequence[tuple[bytes, bool]], message_ids: Sequence[bytes], head: bytes
    ) -> list[bytes]:
        """Return the envelopes of messages with the same head."""
        if len(encoded) < _FEW or any(is_sealed != self._is_sealed for _, is_sealed in encoded):
            return [self.seal(*each, name, head) for each, name in zip(encoded, message_ids, strict=True)]
        sealer = self._sealing if self._is_sealed else self._signing
        bodies = [head + data for data, _ in encoded]
        return sealer.seal_many(bodies, kind=_KIND, name=self._name, fields=message_ids)

    def open_many(
        self, envelopes: Sequence[bytes], message_ids: Sequence[bytes]
    ) -> list[tuple[Head, Any] | None]:
        """Return what `open` returns, as far as it goes the usual way; ``None`` says to ask `open`."""
        if len(envelopes) < _FEW:
            return [None] * len(envelopes)
        sealer = self._sealing if self._is_sealed else self._signing
        bodies = sealer.open_many(envelopes, kind=_KIND, name=self._name, fields=message_ids)
        found: list[tuple[Head, Any] | None] = []
        # What was sent together has equal heads.
        heads: dict[bytes, Head] = {}
        for body in bodies:
            try:
                found.append(None if body is None else _read(body, heads))
            except CodecError:
                found.append(None)
        return found

    def open(self, envelope: bytes, message_id: bytes) -> tuple[Head, Any]:
        """Return the head and the value of a message.

        Raises:
            OpenError: the envelope does not open: it was made, changed or moved by somebody else.
            CodecError: the value cannot be decoded by this program.
        """
        return _read(self._open(envelope, message_id), {})

    def seal_result(self, value: Any, message_id: bytes, now_ms: int) -> bytes:
        """Return the envelope of a message's result."""
        ((data, is_sealed),) = self.encode((value,))
        return self.seal(data, is_sealed, _RESULT + message_id, pack_head(now_ms, wants_reply=False))

    def open_result(self, envelope: bytes, message_id: bytes) -> Any:
        """Return a message's result; raises as `open` does."""
        return self.open(envelope, _RESULT + message_id)[1]

    def _open(self, envelope: bytes, message_id: bytes) -> bytes:
        # The second byte says where to look for a key; the seal itself decides.
        if not self._is_sealed and envelope[1:2] == _SIGNED:
            return self._signing.open(envelope, kind=_KIND, name=self._name, field=message_id)
        # A `Secret` among readable messages, or the only kind that a sealed queue takes.
        return self._sealing.open(envelope, kind=_KIND, name=self._name, field=message_id)


def _read(body: bytes, heads: dict[bytes, Head]) -> tuple[Head, Any]:
    """Return the head and the value of an authentic body; `heads` are those that were read before."""
    start = body[:HEAD_BYTES]
    head = heads.get(start)
    if head is None:
        head = unpack_head(body)
        if head is None:
            raise CodecError("the message is of a newer format")
        heads[start] = head
    return head, decode(body[HEAD_BYTES:], is_authentic=True)


def protection_of(client: Any) -> tuple[bool, Policy | None, str | None]:
    """Return what a client's namespace says: whether to seal, what looks at readable values, an excuse."""
    protection = client.namespace.protection
    policy: Policy | None = None if protection.plaintext == "off" else client.protector.policy
    is_readable = protection.seal and protection.mode == "sign"
    return not is_readable, policy, protection.plaintext_ok
