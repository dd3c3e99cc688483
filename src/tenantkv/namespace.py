"""The namespace: how a tenant's own names and the server's wire names relate.

Laws of this file:

1. wire name = prefix + ``:`` + own name (``{prefix}:`` with ``placement="slot"``). A prefix holds no
   ``:`` , no glob character and no brace, so no tenant's wire prefix is the start of another's,
   and a wire prefix in front of a glob pattern matches only itself.
2. Channels carry a prefix of their own, derived from the naming secret: channel names are visible to
   everybody on the server, and must tell nothing about keys.
3. A name is rewritten once, at the wire. Nothing above the wire calls these methods, but for showing.
"""

from __future__ import annotations

import base64
import hashlib
import re
import weakref
from typing import Literal

from tenantkv.errors import ConfigurationError, PrefixRotatedError
from tenantkv.keyring import Keyring, check_prefix
from tenantkv.protection import Protection

Placement = Literal["spread", "slot"]

#: What the own names of the cache's, the locks' and the queues' keys and channels begin with. Their values
#: have envelopes of their own, and their names are hidden where they should be: a sealed namespace
#: leaves them as they are.
PRIMITIVES = b"tkv:"
#: What the own names of the registry begin with; they are not listed.
RESERVED = b"__tenantkv__:"
#: Names that only tenantkv's own code writes.
OURS = (PRIMITIVES, RESERVED)

# Every living namespace of this process, so that a pickle can be a reference and carry no secret.
_alive: weakref.WeakValueDictionary[tuple[str, str, Protection], Namespace] = weakref.WeakValueDictionary()


_UNSEALED = Protection()


class Namespace:
    """A tenant's isolated key space; a value object that shows no secret.

    Args:
        keyring: the identity document.
        placement: ``"spread"`` leaves Cluster slots to the own names, so that the tenant's hash tags
            work; ``"slot"`` puts the whole tenant into one slot, so that every multi-key command works.
        path: the names of the children on the way to this namespace.
        root: the document's keyring, if this is a child.
        protection: what is done to its values and names.

    Example:
        >>> from tenantkv.keyring import Keyring
        >>> namespace = Namespace(Keyring.generate(bytes(range(96))))
        >>> namespace.own_name(namespace.wire_name(b"a")) == b"a"
        True
    """

    __slots__ = (
        "__weakref__",
        "_keyring",
        "_name_key",
        "channel_prefix",
        "follower",
        "path",
        "placement",
        "protection",
        "protector",
        "root",
        "wire_prefix",
    )

    def __init__(
        self,
        keyring: Keyring,
        *,
        placement: Placement = "spread",
        path: tuple[str, ...] = (),
        root: Keyring | None = None,
        protection: Protection = _UNSEALED,
    ) -> None:
        if placement not in ("spread", "slot"):
            raise ConfigurationError(f"placement is 'spread' or 'slot', not {placement!r}")
        if (root or keyring).former is not None:
            raise PrefixRotatedError(
                "the prefix of this namespace is being replaced, and some of its keys lie under the former "
                "one: go on with 'tenantkv rotate run' and 'tenantkv rotate finish', or go back with "
                "'tenantkv rotate abort'; then start this program again",
                source=(root or keyring).source,
            )
        prefix = check_prefix(keyring.prefix)
        channel = base64.urlsafe_b64encode(keyring.derive("channel-prefix", 24)).decode()
        form = "{%s}:" if placement == "slot" else "%s:"
        self._keyring = keyring
        self._name_key: bytes | None = None
        #: The document's keyring, of which this one is a child if there is a path.
        self.root = root or keyring
        self.path = path
        self.placement: Placement = placement
        self.protection = protection
        #: What acts on the protection; see `protector.py`, which is made with the first command.
        self.protector: object = None
        #: What looks whether the prefix was replaced; see `keyring_reload`, which makes it on connecting.
        self.follower: object = None
        self.wire_prefix: bytes = (form % prefix).encode()
        self.channel_prefix: bytes = (form % channel).encode()
        _alive[self.fingerprint, placement, protection] = self

    @property
    def keyring(self) -> Keyring:
        """The identity behind this namespace."""
        return self._keyring

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that name this namespace and tell nothing about it."""
        return self._keyring.fingerprint

    @property
    def _identity(self) -> tuple[str, str]:
        return self.fingerprint, self.placement

    def wire_name(self, own: bytes) -> bytes:
        """Return the name under which the server stores `own`."""
        return self.wire_prefix + own

    def own_name(self, wire: bytes) -> bytes | None:
        """Return the tenant's name of a wire name, or ``None`` if it belongs to somebody else."""
        if wire.startswith(self.wire_prefix):
            return wire[len(self.wire_prefix) :]
        return None

    def hidden_name(self, own: bytes) -> bytes:
        """Return what stands for `own` where names are hidden: 24 characters that tell nothing of it.

        The same in every process of this namespace: BLAKE2b (RFC 7693) under a key of its own, 144 bits
        in URL-safe base64. No round trip.
        """
        if self._name_key is None:
            self._name_key = self._keyring.derive("key-name", 32)
        digest = hashlib.blake2b(own, key=self._name_key, digest_size=18).digest()
        return base64.urlsafe_b64encode(digest)

    def child(self, name: str) -> Namespace:
        """Return the sub-tenant `name`, isolated from this namespace and from its siblings.

        The same parent and name give the same child in every process. No round trip.
        """
        if not name:
            raise ConfigurationError("a child namespace needs a name")
        keyring = self._keyring.child(name)
        return Namespace(
            keyring,
            placement=self.placement,
            path=(*self.path, name),
            root=self.root,
            protection=self.protection,
        )

    def protected(self, protection: Protection) -> Namespace:
        """Return the same namespace with other settings for its values and names. No round trip."""
        return Namespace(
            self._keyring,
            placement=self.placement,
            path=self.path,
            root=self.root,
            protection=protection,
        )

    def redact(self, text: str) -> str:
        """Return `text` without this namespace's prefixes, for errors and logs."""
        for secret in (self.wire_prefix.decode(), self.channel_prefix.decode()):
            text = _without_cut(text, secret).replace(secret, "")
        bare = self.keyring.prefix
        return text.replace(bare, "<prefix>") if bare in text else text

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Namespace):
            return NotImplemented
        return self._identity == other._identity and self.wire_prefix == other.wire_prefix

    def __hash__(self) -> int:
        return hash(self._identity)

    def __repr__(self) -> str:
        path = "".join(f".child({part!r})" for part in self.path)
        return f"<Namespace {self.fingerprint}{path} placement={self.placement}>"

    def __copy__(self) -> Namespace:
        return self

    def __deepcopy__(self, memo: object) -> Namespace:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        # `keyring_store` registers the reducer (copyreg): a pickle carries a reference, never a secret.
        raise TypeError("a Namespace is pickled by reference only, and that needs 'import tenantkv'")


# How servers quote a command that they do not know: its arguments, cut off after 128 bytes, which are
# at least 32 characters.
_QUOTED = re.compile(r"with args beginning with: (?=.{32})(?:.*[ ,])?(['`])([^'` ]+)\1,? ?\Z", re.DOTALL)


def _without_cut(text: str, secret: str) -> str:
    """Return `text` without the beginning of `secret` at which a server's quotation was cut off."""
    quoted = _QUOTED.search(text)
    if quoted is None or not secret.startswith(quoted[2]):
        return text
    return text[: quoted.start(2)] + text[quoted.end(2) :]


def find_alive(fingerprint: str, placement: Placement, protection: Protection) -> Namespace | None:
    """Return this process's namespace of that fingerprint, if it still has one."""
    return _alive.get((fingerprint, placement, protection))
