"""The one exception tree of tenantkv.

::

    TenantKVError
    ├── ConfigurationError          settings, URLs or arguments contradict each other
    │   └── EmbeddedServerError     no server binary, or it would not start
    ├── KeyringError                anything about the identity document
    │   ├── KeyringNotFoundError    there is none, and only ``tenantkv init`` makes one
    │   ├── KeyringPermissionError  other users of the machine could read it
    │   └── KeyringFormatError      damaged, half-written or of a foreign format
    └── RefusedError                a command that we do not send
        ├── UnknownCommandError     not in the command table
        ├── ForbiddenCommandError   would touch other tenants or the server
        ├── MalformedCommandError   names cannot be told from the rest of the arguments
        └── NamespaceRequiredError  a connection without a namespace, or bytes packed elsewhere

A refused command is also a ``redis.exceptions.ResponseError``, because libraries such as RQ
catch that when a server lacks a command, and must be able to treat a refusal in the same way.
The combined classes live in ``transport/refusals.py``, since this module must not import redis.
No text in this tree ever holds a wire name, a prefix or key material.
"""

from __future__ import annotations


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
