"""How a keyring's document is rewritten where it lies, by any number of processes at once.

Laws of this file:

1. Nobody ever reads half a document: temporary file, fsync, rename, fsync of the directory.
2. No step is lost: writers take turns by flock on a file beside the document, and the step is made
   on what is read under that lock. Where flock means nothing (old NFS), the generation is compared
   once more right before the rename and the document read back after it.
3. Only the keyring that was asked for is rewritten: the fingerprint has to be the same. A step may
   replace the prefix, and with it the fingerprint, if it keeps the prefix before as the former one.
4. What is written can be read: it is parsed first.
"""

from __future__ import annotations

import base64
import dataclasses
import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from tenantkv.errors import KeyringError
from tenantkv.keyring import Keyring
from tenantkv.keyring_files import Permissions, hold_lock, replace_secret_file
from tenantkv.keyring_store import load_keyring
from tenantkv.rotation import add_key, is_next, replace_prefix

_SECRET_BYTES = 32
_ATTEMPTS = 5


def rewrite_keyring(
    keyring: Keyring,
    step: Callable[[Keyring], Keyring],
    *,
    permissions: Permissions | None = None,
) -> Keyring:
    """Make a step of rotation in the file that `keyring` was read from, and return what it has then.

    The step is made on what the file has by now, which may be a later generation than `keyring`; and
    again, if another writer was faster.

    Args:
        keyring: as it was loaded; its ``source`` says where.
        step: such as ``lambda k: promote(k, key_id)``; the same keyring back means "nothing to do".
        permissions: as for `load_keyring`.

    Raises:
        KeyringError: it was not read from a file, the file is another identity by now or cannot be
            written, or the step refuses.
    """
    path = _file_of(keyring)
    with hold_lock(path):
        for _ in range(_ATTEMPTS):
            now = _read(path, keyring, permissions)
            then = step(now)
            if then is now:
                return now
            if not is_next(now, then):
                raise KeyringError("a step of rotation gives the next generation of the same identity")
            text = then.dump()
            Keyring.parse(text)
            if _read(path, keyring, permissions).generation != now.generation:
                continue
            replace_secret_file(path, text)
            if _read(path, then, permissions) == then:
                return then
    raise KeyringError(f"other processes keep rewriting {path}; try again", source=str(path))


def add_random_key(keyring: Keyring, *, permissions: Permissions | None = None) -> Keyring:
    """Add a random key to the file that `keyring` was read from; it opens, and does not yet seal.

    Raises:
        KeyringError: as `rewrite_keyring`.
    """
    created = _now()
    secret = os.urandom(_SECRET_BYTES)

    def add(now: Keyring) -> Keyring:
        if any(key.secret == secret for key in now.keys):  # Our own, seen again on a second attempt.
            return now
        return add_key(now, secret, created=created)

    return rewrite_keyring(keyring, add, permissions=permissions)


def replace_prefix_at_random(keyring: Keyring, *, permissions: Permissions | None = None) -> Keyring:
    """Give the file that `keyring` was read from a random prefix, with the one before as the former.

    Raises:
        KeyringError: as `rewrite_keyring`; a prefix is being replaced already.
    """
    since = _now()
    prefix = base64.b64encode(os.urandom(_SECRET_BYTES)).decode()
    return rewrite_keyring(
        keyring, lambda now: replace_prefix(now, prefix, since=since), permissions=permissions
    )


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _file_of(keyring: Keyring) -> Path:
    source = keyring.source
    if source is None or source.startswith("env:"):
        place = "an argument" if source is None else source.removeprefix("env:")
        raise KeyringError(
            f"the keyring came from {place}, where it cannot be rewritten; work on a file "
            "(TENANTKV_SECRET_KEYRING_FILE) and print it anew with 'tenantkv init --print-env'",
            source=source,
        )
    # A link was given explicitly, and shall go on leading there.
    return Path(os.path.realpath(source))


def _read(path: Path, keyring: Keyring, permissions: Permissions | None) -> Keyring:
    found = load_keyring(path, permissions=permissions)
    if found.fingerprint != keyring.fingerprint:
        raise KeyringError(f"{path} holds another identity by now; nothing was changed", source=str(path))
    # As it was named, which may have been by a link.
    return dataclasses.replace(found, source=keyring.source)
