"""Where an interrupted ``tenantkv key reseal`` goes on: a small file beside the keyring.

The file holds a sealed `Checkpoint`, which opens only with the keyring and the primary key that it was
made with: another tenant's or an older file is none. No name, value or secret can be read from it.
"""

from __future__ import annotations

import base64
import json
import os
import time
from copy import deepcopy
from pathlib import Path

from tenantkv.cli import output
from tenantkv.envelope import Sealer
from tenantkv.errors import KeyringError, KeyringNotFoundError, OpenError
from tenantkv.keyring_files import (
    LARGEST_DOCUMENT_BYTES,
    create_secret_file,
    read_secret_file,
    replace_secret_file,
)
from tenantkv.namespace import Namespace
from tenantkv.ops.reseal import Checkpoint

_NAME = b"reseal state"
_KIND = "tenantkv_reseal"
_VERSION = 1
# The shortest time between two writes of the file, which wait for the disk.
_PAUSE = 1.0


class StateFile:
    """The file of one namespace, or none where there is no place for one.

    Args:
        namespace: whose values are sealed anew.
        path: the file; beside the keyring if left out.
    """

    def __init__(self, namespace: Namespace, path: str | None) -> None:
        self.path = Path(path) if path is not None else _beside(namespace)
        self._is_asked_for = path is not None
        self._sealer = Sealer(namespace.keyring, entropy=os.urandom, clock=time.time)
        self._binding = f"{namespace.fingerprint}:{namespace.keyring.primary.id}".encode()
        self._saved: Checkpoint | None = None
        self._next = 0.0

    def load(self) -> Checkpoint | None:
        """Return where the last run stopped, if it was one of this namespace with this primary key.

        Raises:
            KeyringError: others could have written the file.
        """
        if self.path is None:
            return None
        try:
            text = read_secret_file(self.path, symlinks=False, permissions="strict")
        except KeyringNotFoundError:
            return None
        try:
            document = json.loads(text)
            sealed = base64.b64decode(document["state"], validate=True)
            if document[_KIND] != _VERSION:
                return None
            opened = self._sealer.open(sealed, kind="registry", name=_NAME, field=self._binding)
            return Checkpoint.from_json(json.loads(opened))
        except (OpenError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def save(self, checkpoint: Checkpoint, *, now: float) -> None:
        """Write the file, if a second has passed and there is news.

        Args:
            checkpoint: where to go on.
            now: monotonic seconds; infinity to write at once.
        """
        if self.path is None or checkpoint is self._saved or now < self._next:
            return
        text = self._write(checkpoint)
        try:
            if not create_secret_file(self.path, text):
                replace_secret_file(self.path, text)
        except KeyringError as error:
            if self._is_asked_for:
                raise
            output.warn(f"{error}; an interrupted run begins anew (--state FILE puts the file elsewhere)")
            self.path = None
        self._saved, self._next = checkpoint, now + _PAUSE

    def _write(self, checkpoint: Checkpoint) -> str:
        kept = deepcopy(checkpoint)
        tally = kept.tally
        while True:
            body = json.dumps(kept.to_json(), separators=(",", ":")).encode()
            sealed = self._sealer.seal(body, kind="registry", name=_NAME, field=self._binding, compress=True)
            text = json.dumps({_KIND: _VERSION, "state": base64.b64encode(sealed).decode()}) + "\n"
            if len(text) <= LARGEST_DOCUMENT_BYTES or not tally.problems:
                return text
            # Too long to be read again: fewer names for the report, of which the number stays.
            half = len(tally.problems) // 2
            tally.unlisted += len(tally.problems) - half
            del tally.problems[half:]

    def remove(self) -> None:
        """Remove the file, as everything is done."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _beside(namespace: Namespace) -> Path | None:
    source = namespace.root.source
    if source is None or source.startswith("env:"):
        return None
    return Path(source).parent / f"{namespace.root.namespace}.{namespace.fingerprint}.reseal"
