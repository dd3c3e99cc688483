"""``tenantkv key``: the keys that seal and open values, and their rotation."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass

from tenantkv.cli import output, reseal
from tenantkv.cli.client import add_actions, add_json_argument, add_namespace_argument
from tenantkv.config import resolve
from tenantkv.errors import ConfigurationError
from tenantkv.keyring import Keyring
from tenantkv.keyring_rewrite import add_random_key, rewrite_keyring
from tenantkv.keyring_store import load_keyring
from tenantkv.rotation import promote, reinstate, retire

_EPILOG = """\
examples:
  tenantkv key list
  tenantkv key add                      1. a new key, which opens and does not yet seal
  tenantkv key promote 9f31c2aa         2. it seals, once every host has the new keyring
  tenantkv key reseal                   3. what the old one has sealed is sealed with the new one
  tenantkv key retire 52d0b7e4          4. the old one no longer opens, once nothing is sealed with it

Running programs notice by themselves: readers at once, writers within a minute. Copy the keyring to
every host between the steps. No secret is printed.
"""

_ACTIONS = {
    "list": "show the keys, no secrets",
    "add": "add a random key, which opens and does not yet seal",
    "promote": "seal with that key from now on",
    "reseal": "seal every value anew that an older key has sealed",
    "retire": "do not open anything with that key any more",
}


@dataclass(frozen=True, slots=True)
class KeyState:
    """A key, without its secret."""

    id: str
    state: str
    created: str


@dataclass(frozen=True, slots=True)
class KeysReport:
    """The keys of a keyring.

    Attributes:
        action: what was done: ``list``, ``add``, ``promote``, ``retire`` or ``reinstate``.
        changed: whether the keyring was rewritten.
        id: the key that it was about; ``None`` for ``list``.
        fingerprint: names the identity.
        source: where the keyring lies.
        generation: how often it was written.
        keys: its keys.
    """

    action: str
    changed: bool
    id: str | None
    fingerprint: str
    source: str
    generation: int
    keys: tuple[KeyState, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``key``."""
    parser.description = "Show and rotate the keys that seal and open values."
    parser.epilog = _EPILOG
    for action, subparser in add_actions(parser, _ACTIONS, _example):
        if action in ("promote", "retire"):
            subparser.add_argument("id", metavar="ID", help="eight digits, as 'tenantkv key list' shows them")
        if action == "retire":
            subparser.add_argument("--undo", action="store_true", help="let a retired key open again")
        add_namespace_argument(subparser)
        add_json_argument(subparser)
        if action == "reseal":
            reseal.add_arguments(subparser)


def _example(action: str) -> str:
    return f"example:\n  tenantkv key {action}{' 9f31c2aa' if action in ('promote', 'retire') else ''}\n"


def run(arguments: argparse.Namespace) -> int:
    """Run ``key``."""
    if arguments.action == "reseal":
        return reseal.run(arguments)
    action = "reinstate" if getattr(arguments, "undo", False) else arguments.action
    key_id = getattr(arguments, "id", None)
    report = rotate(action, key_id, os.environ, namespace=arguments.namespace)
    if arguments.json:
        output.print_json(report)
        return 0
    output.print_table([(key.id, key.state, key.created) for key in report.keys])
    if action != "list":
        output.note(_NEXT[action] if report.changed else "Nothing to do: it is so already.")
    return 0


def rotate(
    action: str, key_id: str | None, environ: Mapping[str, str], *, namespace: str | None = None
) -> KeysReport:
    """Make a step of rotation in the keyring in use, or only look (``list``), and report."""
    settings = resolve(environ=environ, namespace=namespace)
    before = load_keyring(namespace=settings.namespace, environ=environ)
    after = _step(action, key_id, before)
    if action == "add":
        key_id = after.keys[-1].id
    return KeysReport(
        action=action,
        changed=after.generation != before.generation,
        id=key_id,
        fingerprint=after.fingerprint,
        source=after.source or "",
        generation=after.generation,
        keys=tuple(KeyState(key.id, key.state, key.created) for key in after.keys),
    )


_NEXT = {
    "add": "It opens, and does not seal yet. Copy the keyring to every host, wait a minute, then promote it.",
    "promote": "New values are sealed with it, and the one before still opens. For what that has sealed: "
    "tenantkv key reseal",
    "retire": "What is still sealed with it no longer opens ('tenantkv key reseal --dry-run' counts that). "
    "To take it back: tenantkv key retire --undo ID",
    "reinstate": "It opens again.",
}
_STEPS = {"promote": promote, "retire": retire, "reinstate": reinstate}


def _step(action: str, key_id: str | None, keyring: Keyring) -> Keyring:
    if action == "list":
        return keyring
    if action == "add":
        return add_random_key(keyring)
    if key_id is None:
        raise ConfigurationError(f"'{action}' needs the id of a key")
    wanted = key_id.lower()
    return rewrite_keyring(keyring, lambda now: _STEPS[action](now, wanted))
