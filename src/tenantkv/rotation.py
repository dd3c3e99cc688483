"""Rotation of a keyring's keys and of its prefix: which step gives which next generation.

The road of a key, with no moment at which a value that is in use does not open::

    add        (new)   -> active    it opens; wait until every process has read the keyring again
    promote    active  -> primary   it seals; the primary until now becomes active
    retire     active  -> retired   it no longer opens, and stays in the document as a record
    reinstate  retired -> active    retired too early: it opens again

Laws of this file:

1. Pure: a keyring in, its next generation out; `keyring_rewrite` puts it where it is read.
2. A step that is done already returns the same keyring, so that it can be repeated safely.
3. The naming secret never changes here. Children derive their prefixes from it and their keys from the
   keys, and so take part in every step of a key, and in none of the prefix.
4. A prefix that is replaced stays as the former one, so that nothing which lies under it is lost, until
   `retire_prefix`. Meanwhile the keyring makes no namespace: nobody reads or writes half of the keys.
   Own names and the naming secret stay, and with them what seals are bound to: no value has to be sealed
   anew, and a key is moved by giving it another wire name.
"""

from __future__ import annotations

from dataclasses import replace

from tenantkv.errors import KeyringError
from tenantkv.keyring import Former, Key, Keyring, KeyState

MOST_KEYS = 100


def add_key(keyring: Keyring, secret: bytes, *, created: str = "") -> Keyring:
    """Return the next generation, with one more active key.

    Args:
        keyring: the keyring as it is.
        secret: 32 random bytes.
        created: the time, as ISO 8601 in UTC.

    Raises:
        KeyringError: there are 100 keys, or one with the same id (then draw another secret).
    """
    if len(keyring.keys) >= MOST_KEYS:
        raise KeyringError(f"the keyring has {MOST_KEYS} keys, and more would make it too long to read")
    key = Key.from_secret(secret, state="active", created=created)
    if any(known.id == key.id for known in keyring.keys):
        raise KeyringError(f"the keyring has a key {key.id} already")
    return _next(keyring, (*keyring.keys, key))


def promote(keyring: Keyring, key_id: str) -> Keyring:
    """Return the next generation, in which that key seals and the primary until now only opens.

    Raises:
        KeyringError: there is no such key, or it is retired.
    """
    key = find_key(keyring, key_id)
    if key.state == "primary":
        return keyring
    if key.state == "retired":
        raise KeyringError(f"key {key_id} is retired; reinstate it first, or add a new one")
    return _with_states(keyring, {keyring.primary.id: "active", key_id: "primary"})


def retire(keyring: Keyring, key_id: str) -> Keyring:
    """Return the next generation, in which that key no longer opens anything.

    Raises:
        KeyringError: there is no such key, or it is the primary.
    """
    key = find_key(keyring, key_id)
    if key.state == "retired":
        return keyring
    if key.state == "primary":
        raise KeyringError(f"key {key_id} is the primary, which seals; promote another one first")
    return _with_states(keyring, {key_id: "retired"})


def reinstate(keyring: Keyring, key_id: str) -> Keyring:
    """Return the next generation, in which a retired key opens again.

    Raises:
        KeyringError: there is no such key.
    """
    if find_key(keyring, key_id).state != "retired":
        return keyring
    return _with_states(keyring, {key_id: "active"})


def replace_prefix(keyring: Keyring, prefix: str, *, since: str = "") -> Keyring:
    """Return the next generation, with a new prefix and the one until now as the former.

    Args:
        keyring: the keyring as it is.
        prefix: the new one, such as base64 of 32 random bytes.
        since: the time, as ISO 8601 in UTC.

    Raises:
        KeyringError: a prefix is being replaced already, or it is the same.
    """
    if keyring.former is not None:
        raise KeyringError("the prefix is being replaced already", source=keyring.source)
    if prefix == keyring.prefix:
        raise KeyringError("the new prefix is the old one", source=keyring.source)
    former = Former(keyring.prefix, since)
    return replace(keyring, prefix=prefix, former=former, generation=keyring.generation + 1)


def turn_back(keyring: Keyring) -> Keyring:
    """Return the next generation, with the former prefix in its old place and the new one as the former.

    Raises:
        KeyringError: no prefix is being replaced.
    """
    former = _former(keyring)
    if former.is_back:
        return keyring
    back = Former(keyring.prefix, former.since, is_back=True)
    return replace(keyring, prefix=former.prefix, former=back, generation=keyring.generation + 1)


def retire_prefix(keyring: Keyring) -> Keyring:
    """Return the next generation, which knows nothing of the former prefix.

    Only when nothing lies under it: nobody can find that again.

    Raises:
        KeyringError: no prefix is being replaced.
    """
    _former(keyring)
    return replace(keyring, former=None, generation=keyring.generation + 1)


def sides(keyring: Keyring) -> tuple[Keyring, Keyring]:
    """Return the identities under the former prefix and under the one that replaces it.

    Raises:
        KeyringError: no prefix is being replaced.
    """
    former = _former(keyring)
    return replace(keyring, prefix=former.prefix, former=None), settled(keyring)


def settled(keyring: Keyring) -> Keyring:
    """Return the identity under the prefix in a keyring, also while it replaces another: to look at only."""
    return replace(keyring, former=None)


def is_next(before: Keyring, after: Keyring) -> bool:
    """Whether `after` is a next generation of `before` that loses no prefix and no name."""
    if after.generation != before.generation + 1 or after.naming != before.naming:
        return False
    if after.prefix == before.prefix:
        return after.former is None or after.former == before.former
    was_going = before.former is not None and after.prefix != before.former.prefix
    return not was_going and after.former is not None and after.former.prefix == before.prefix


def _former(keyring: Keyring) -> Former:
    if keyring.former is None:
        raise KeyringError("no prefix is being replaced", source=keyring.source)
    return keyring.former


def find_key(keyring: Keyring, key_id: str) -> Key:
    """Return the key of that id.

    Raises:
        KeyringError: there is none. The text does not repeat what was asked for, which may have been
            a secret by mistake.
    """
    for key in keyring.keys:
        if key.id == key_id:
            return key
    known = ", ".join(key.id for key in keyring.keys)
    raise KeyringError(f"the keyring has no key of that id; it has {known}", source=keyring.source)


def _with_states(keyring: Keyring, states: dict[str, KeyState]) -> Keyring:
    keys = tuple(Key(key.id, key.secret, states.get(key.id, key.state), key.created) for key in keyring.keys)
    return _next(keyring, keys)


def _next(keyring: Keyring, keys: tuple[Key, ...]) -> Keyring:
    return replace(keyring, keys=keys, generation=keyring.generation + 1)
