"""What the audit has to know about the tenant; it is never shown."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from tenantkv.namespace import Namespace

# A prefix cut off in a log is still one: 16 characters of base64 do not come up by chance.
_PART = 16


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant's secrets, to be looked for, and how its values and names are kept.

    Attributes:
        prefix: of names.
        channel_prefix: of channels.
        secrets: forms in which key material is written.
        seals: whether all values are sealed, so that they cannot be read.
        hides: whether names are hidden.
        lists: whether own names are indexed (the registry).
        plaintext: what becomes of secrets in clear: ``refuse``, ``warn`` or ``off``.
    """

    prefix: bytes = field(repr=False)
    channel_prefix: bytes = field(repr=False)
    secrets: tuple[bytes, ...] = field(repr=False)
    seals: bool = False
    hides: bool = False
    lists: bool = False
    plaintext: str = "refuse"

    @property
    def needle(self) -> bytes:
        """What to look for where the prefix may have been cut off."""
        return self.prefix[: max(_PART, len(self.prefix) // 3)]


def tenant_of(space: Namespace, *, lists: bool) -> Tenant:
    """Return what is to be known of a namespace."""
    ring, protection = space.keyring, space.protection
    material = [ring.naming, *(key.secret for key in ring.keys)]
    forms = [form for raw in material for form in (base64.b64encode(raw), base64.urlsafe_b64encode(raw))]
    return Tenant(
        prefix=ring.prefix.encode(),
        channel_prefix=space.channel_prefix,
        secrets=tuple(dict.fromkeys(form.rstrip(b"=") for form in forms)),
        seals=protection.seal and protection.mode == "seal",
        hides=protection.names == "hidden",
        lists=lists or protection.names == "hidden",
        plaintext=protection.plaintext,
    )


def holds(found: object, needle: bytes) -> bool:
    """Whether `needle` stands anywhere in a reply, however deep.

    Example:
        >>> holds([1, [b"GET", b"xNAMEx"]], b"NAME")
        True
    """
    if isinstance(found, bytes):
        return needle in found
    if isinstance(found, (list, tuple)):
        return any(holds(each, needle) for each in found)
    if isinstance(found, dict):
        return any(holds(each, needle) for pair in found.items() for each in pair)
    return False
