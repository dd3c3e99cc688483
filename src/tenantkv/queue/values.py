"""Values to envelopes and back: authenticated always, encrypted where the namespace or the caller asks."""

from __future__ import annotations

from collections.abc import Sequence
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

    def encode(self, value: Any, *, plaintext_ok: str | None = None) -> tuple[bytes, bool]:
        """Return a value's bytes, and whether it has to be sealed.

        Raises:
            CodecError: it cannot be encoded.
            ConfigurationError: it is too long.
            PlaintextRefusedError: it looks like a secret and would be readable.
        """
        is_sealed = self._is_sealed
        if type(value) is Secret:
            value, is_sealed = value.reveal(), True
        data = encode(value, allow_pickle=self._pickle)
        if len(data) > self._max_bytes:
            raise ConfigurationError(
                f"the message has {len(data)} bytes, and this queue takes {self._max_bytes}: "
                "store it elsewhere and send its name"
            )
        if not is_sealed and self._policy is not None:
            self._policy.check(data[1:], command="send", name=self._name, plaintext_ok=plaintext_ok)
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
        # The first one looks after the keyring, for all.
        first = self.seal(*encoded[0], message_ids[0], head)
        seal = (self._sealing if self._is_sealed else self._signing).sealer.seal
        queue = self._name
        rest = zip(encoded[1:], message_ids[1:], strict=True)
        return [first, *(seal(head + data, kind=_KIND, name=queue, field=name) for (data, _), name in rest)]

    def open(self, envelope: bytes, message_id: bytes) -> tuple[Head, Any]:
        """Return the head and the value of a message.

        Raises:
            OpenError: the envelope does not open: it was made, changed or moved by somebody else.
            CodecError: the value cannot be decoded by this program.
        """
        body = self._open(envelope, message_id)
        head = unpack_head(body)
        if head is None:
            raise CodecError("the message is of a newer format")
        return head, decode(body[HEAD_BYTES:], is_authentic=True)

    def seal_result(self, value: Any, message_id: bytes, now_ms: int) -> bytes:
        """Return the envelope of a message's result."""
        data, is_sealed = self.encode(value)
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


def protection_of(client: Any) -> tuple[bool, Policy | None, str | None]:
    """Return what a client's namespace says: whether to seal, what looks at readable values, an excuse."""
    protection = client.namespace.protection
    policy: Policy | None = None if protection.plaintext == "off" else client.protector.policy
    is_readable = protection.seal and protection.mode == "sign"
    return not is_readable, policy, protection.plaintext_ok
