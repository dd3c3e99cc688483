"""The one exception tree of tenantkv.

::

    TenantKVError
    ├── ConfigurationError          settings, URLs or arguments contradict each other
    │   └── EmbeddedServerError     no server binary, or it would not start
    ├── KeyringError                anything about the identity document
    │   ├── KeyringNotFoundError    there is none, and only ``tenantkv init`` makes one
    │   ├── KeyringPermissionError  other users of the machine could read it
    │   ├── KeyringFormatError      damaged, half-written or of a foreign format
    │   └── PrefixRotatedError      its prefix is being replaced, or was since it was read
    ├── CodecError                  a value that cannot become bytes, or bytes that are no value
    ├── EnvelopeError               a value and its envelope
    │   ├── SealError               the value cannot be sealed
    │   └── OpenError               the envelope does not open; it never says why
    │       └── UnknownKeyError     its key is not in the keyring, which may be out of date
    └── RefusedError                a command that we do not send
        ├── UnknownCommandError     not in the command table
        ├── ForbiddenCommandError   would touch other tenants or the server
        ├── MalformedCommandError   names cannot be told from the rest of the arguments
        ├── NamespaceRequiredError  a connection without a namespace, or bytes packed elsewhere
        └── PlaintextRefusedError   it would store what looks like a secret in clear

A refused command is also a ``redis.exceptions.ResponseError``, because libraries such as RQ
catch that when a server lacks a command, and must be able to treat a refusal in the same way.
The combined classes live in ``transport/refusals.py``, since this module must not import redis.
No text in this tree ever holds a wire name, a prefix, key material or a value.
"""

from __future__ import annotations

from typing import Any


class TenantKVError(Exception):
    """Base of every error that tenantkv raises by itself."""


class ConfigurationError(TenantKVError, ValueError):
    """Settings, a URL or arguments that cannot be used as given."""


class EmbeddedServerError(ConfigurationError):
    """No server binary was found, or the embedded server did not start."""


class KeyringError(TenantKVError):
    """Something is wrong with the keyring.

    Attributes:
        source: where the keyring was looked for (a path or the name of a variable), or ``None``.
    """

    def __init__(self, message: str, *, source: str | None = None) -> None:
        super().__init__(message)
        self.source = source


class KeyringNotFoundError(KeyringError):
    """No keyring in any of the places where one is looked for."""


class KeyringPermissionError(KeyringError):
    """The keyring could be read or replaced by somebody else on this machine."""


class KeyringFormatError(KeyringError):
    """The keyring document is damaged, half-written or not one of ours."""


class PrefixRotatedError(KeyringError):
    """The prefix is being replaced, or was replaced after this program had read the keyring.

    A program that went on would look for keys where they no longer are.
    """


class CodecError(TenantKVError, ValueError):
    """A value that does not survive encoding, or bytes that cannot be decoded; shows neither."""


class EnvelopeError(TenantKVError):
    """A value that could not be sealed, or an envelope that could not be opened.

    Attributes:
        kind: what the value is part of, such as ``"kv"`` or ``"hash"``.
        name: the key's own name. It is not in the text, since names can be secrets too.
        field: the field, or empty.
    """

    def __init__(self, message: str, kind: str, name: bytes, field: bytes = b"") -> None:
        super().__init__(message)
        self.kind = kind
        self.name = name
        self.field = field


class SealError(EnvelopeError, ValueError):
    """A value that cannot be sealed: not bytes, too long, or already expired.

    Attributes:
        reason: what is wrong with it; never the value.
    """

    def __init__(self, reason: str, kind: str, name: bytes, field: bytes = b"") -> None:
        super().__init__(f"a value cannot be sealed: {reason}", kind, name, field)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.kind, self.name, self.field)


class OpenError(EnvelopeError):
    """An envelope that does not open.

    Changed, moved from another key or field, expired, signed where sealed is expected, made with a
    retired key, never an envelope: all of these are this one error with this one text, as whoever
    may write to the server could otherwise learn from the difference.
    """

    def __init__(self, kind: str, name: bytes, field: bytes = b"") -> None:
        text = "a sealed value does not open: it was changed, moved, has expired or was never sealed"
        super().__init__(text, kind, name, field)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.kind, self.name, self.field)


class UnknownKeyError(OpenError):
    """An envelope of a key that the keyring does not have; reading the keyring again may help.

    Attributes:
        key_id: the key's eight digits, as the envelope has them in clear. Anybody can write them.
    """

    def __init__(self, key_id: str, kind: str, name: bytes, field: bytes = b"") -> None:
        super().__init__(kind, name, field)
        self.args = (f"a sealed value does not open: the keyring has no key {key_id}",)
        self.key_id = key_id

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.key_id, self.kind, self.name, self.field)


class RefusedError(TenantKVError):
    """A command that was refused before its first byte was sent.

    Attributes:
        command: the command's name in upper case, with its subcommand where it has one.
        reason: why it is refused.
        instead: what to do instead; may be empty.
    """

    def __init__(self, command: str, reason: str, instead: str = "") -> None:
        self.command = command
        self.reason = reason
        self.instead = instead
        text = f"{command} refused: {reason}"
        super().__init__(f"{text} {instead}" if instead else text)

    def __reduce__(self) -> tuple[type[RefusedError], tuple[str, str, str]]:
        return type(self), (self.command, self.reason, self.instead)


class UnknownCommandError(RefusedError):
    """The command table has no row for this command, so its names are unknown."""


class ForbiddenCommandError(RefusedError):
    """The command would touch other tenants or the server itself."""


class MalformedCommandError(RefusedError):
    """The command's names cannot be told from its other arguments."""


class NamespaceRequiredError(RefusedError):
    """A connection without a namespace, or bytes that were packed by somebody else."""


class PlaintextRefusedError(RefusedError):
    """A write of something that looks like a secret, to a place where everybody can read it.

    Attributes:
        rule: what it looks like; a name of ours, never a part of the value.
        name: the key's own name.
        field: the field, or empty.
    """

    def __init__(self, command: str, rule: str, name: bytes, field: bytes = b"") -> None:
        place = repr(name)[1:] + (f" field {repr(field)[1:]}" if field else "")
        super().__init__(
            command,
            f"the value of {place} looks like a secret ({rule}), and everybody on the server could read it.",
            "Wrap it in tenantkv.Secret(...), seal the namespace (seal=True), or write it with "
            "using(plaintext_ok='reason').",
        )
        self.rule = rule
        self.name = name
        self.field = field

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.command, self.rule, self.name, self.field)
