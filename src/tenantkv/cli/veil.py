"""Something that stands for sealed values on a screen, until somebody says ``--reveal``."""

from __future__ import annotations

from tenantkv.envelope_header import Kind, read_header_unverified
from tenantkv.namespace import Namespace
from tenantkv.protector import Protector


class Veiled(bytes):
    """What is shown in the place of a sealed value. Only values that open have one."""

    __slots__ = ()


class VeilingProtector(Protector):
    """Opens sealed values, and hands out only that it could, and how long they are.

    Signed values are readable by everybody on the server, so they are shown.
    """

    def open(self, blob: bytes, *, kind: Kind, name: bytes, field: bytes = b"") -> bytes:
        """Return what stands for the value; raises as `Protector.open`."""
        value = super().open(blob, kind=kind, name=name, field=field)
        header = read_header_unverified(blob)
        if header is None or header.suite == "sign":
            return value
        return Veiled(b"(sealed, %d bytes)" % len(value))


def veil(namespace: Namespace) -> None:
    """Let every client of this namespace see veiled values only, in this process."""
    namespace.protector = VeilingProtector(namespace)
