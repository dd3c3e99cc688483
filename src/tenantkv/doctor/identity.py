"""The tenant's identity on this machine: its keyring, its prefix, and how it keeps values and names."""

from __future__ import annotations

import math
import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tenantkv.doctor.facts import Facts
from tenantkv.doctor.finding import Finding
from tenantkv.doctor.tenant import Tenant
from tenantkv.errors import KeyringError, KeyringNotFoundError
from tenantkv.keyring import Keyring
from tenantkv.keyring_files import check_git

_WEAK_BITS, _GOOD_BITS = 64.0, 120.0


def check_no_keyring(error: KeyringError) -> Finding:
    """Judge a keyring that cannot be used; its error says what is wrong with mode, owner or format."""
    is_missing = isinstance(error, KeyringNotFoundError)
    return Finding(
        "identity.keyring",
        "fail",
        "there is no keyring" if is_missing else "the keyring cannot be used",
        str(error),
        "Clients do not start.",
        "run 'tenantkv init' once, or copy the keyring here" if is_missing else "do what the text says",
    )


def check_keyring(keyring: Keyring) -> Iterator[Finding]:
    """Judge where a keyring lies and who could read it. Its mode and owner were checked when it was read."""
    source = keyring.source or ""
    shown = f"{source}, fingerprint {keyring.fingerprint}, generation {keyring.generation}"
    if not source or source.startswith("env:"):
        yield Finding(
            "identity.keyring",
            "ok",
            "the keyring comes from the environment",
            shown,
            "Programs that this one starts inherit it, and error reports that list the environment show it.",
        )
    else:
        yield _file(Path(source), shown)
        yield _git(Path(source))
    yield prefix(keyring.prefix)
    if keyring.former is not None:
        yield Finding(
            "identity.rotation",
            "fail",
            "the prefix is being replaced",
            f"since {keyring.former.since or 'an unknown time'}",
            "No program of this namespace can connect until it has ended; some keys lie under each prefix.",
            "'tenantkv rotate run' and then 'tenantkv rotate finish'; or 'tenantkv rotate abort'",
        )


def _file(path: Path, shown: str) -> Finding:
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    evidence = f"{shown}, mode {mode:04o}, owner {status.st_uid}"
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return Finding(
            "identity.keyring",
            "warn",
            "others on this machine can read the keyring",
            evidence,
            "TENANTKV_KEYRING_PERMISSIONS=container allows that; outside of a container it is too much.",
            f"chmod 600 {path}",
        )
    if status.st_uid not in (os.geteuid(), 0):
        return Finding(
            "identity.keyring", "fail", "the keyring belongs to another user", evidence, "", "chown it"
        )
    return Finding("identity.keyring", "ok", "only this user can read the keyring", evidence)


def _git(path: Path) -> Finding:
    try:
        check_git(path)
    except KeyringError as error:
        return Finding(
            "identity.git",
            "fail",
            "git would take the keyring into a repository",
            str(error),
            "Whoever can read the repository can name and open everything of yours, for ever.",
            "move the keyring out of the work tree; if it was committed, make a new identity",
        )
    return Finding("identity.git", "ok", "git does not take the keyring", str(path))


def bits_of(prefix: str) -> float:
    """Estimate how many bits a guesser has to try for a prefix, from how its characters are spread.

    A random one of 44 characters has about 200 by this measure; words and repetitions have few.

    Example:
        >>> bits_of("aaaaaaaaaaaaaaaa"), round(bits_of("my-tool-my-tool-"))
        (0.0, 41)
    """
    counts = Counter(prefix)
    spread = -sum(n / len(prefix) * math.log2(n / len(prefix)) for n in counts.values())
    # Base64's other characters count as digits, of which a random prefix now and then has none.
    classes = (str.isupper, str.islower, "0123456789+/=".__contains__)
    mixed = sum(any(map(kind, prefix)) for kind in classes)
    # Lower-case words with joints are found in dictionaries: a letter of text has about 1.5 bits.
    each = spread if mixed == 3 else min(spread, 2.6 if mixed == 2 else 2.55)
    return abs(each) * len(prefix)


def prefix(text: str) -> Finding:
    """Judge whether a prefix can be guessed."""
    bits = bits_of(text)
    evidence = f"{len(text)} characters, about {bits:.0f} bits as they are spread"
    if bits >= _GOOD_BITS:
        return Finding("identity.prefix", "ok", "the prefix cannot be guessed", evidence)
    return Finding(
        "identity.prefix",
        "fail" if bits < _WEAK_BITS else "warn",
        "the prefix may be guessed",
        evidence,
        "Whoever guesses it can name your keys, and everybody may know it who ever saw one.",
        "seal values and hide names; for new data use a namespace of its own, with a random prefix ("
        "'tenantkv init --namespace NAME')",
    )


def check_protection(tenant: Tenant, facts: Facts | None) -> Iterator[Finding]:
    """Judge how values and names are kept, on this server."""
    if tenant.seals:
        yield Finding("identity.values", "ok", "values are sealed", "seal=yes")
    else:
        yield Finding(
            "identity.values",
            "warn",
            "values are readable on the server",
            "seal=no",
            "Whoever can name or copy a key reads it, and can put another value in its place.",
            "seal=True or TENANTKV_SEAL=yes ('tenantkv init --seal' for a new namespace); caches, queues and "
            "sessions of tenantkv are authenticated in any case",
        )
    if tenant.hides:
        yield Finding("identity.names", "ok", "names are hidden", "names=hidden")
    else:
        yield Finding(
            "identity.names",
            "ok",
            "names are readable on the server, where it shows them",
            "names=plain",
            "Keep nothing secret in a name, such as a session's key.",
        )
    if tenant.plaintext == "refuse" or tenant.seals:
        yield Finding(
            "identity.secrets", "ok", "secrets in clear are refused", f"plaintext={tenant.plaintext}"
        )
    else:
        yield Finding(
            "identity.secrets",
            "fail" if tenant.plaintext == "off" else "warn",
            "secrets may be stored in clear",
            f"plaintext={tenant.plaintext}",
            "Passwords and tokens on the server can be read by everybody.",
            "plaintext='refuse', and Secret(...) for what has to be stored",
        )
    if facts is not None and facts.commands:
        yield _registry(tenant, facts)


def _registry(tenant: Tenant, facts: Facts) -> Finding:
    if tenant.lists:
        return Finding("identity.registry", "ok", "own keys can be listed", "registry=on")
    if facts.has("SCAN"):
        return Finding("identity.registry", "ok", "own keys can be listed by SCAN", "registry=off")
    return Finding(
        "identity.registry",
        "warn",
        "own keys cannot be listed",
        "registry=off, and the server offers no SCAN",
        "keys(), scan_iter(), dbsize() and flushdb() raise; nobody can tell what is yours.",
        "registry=True or TENANTKV_REGISTRY=yes, before there is much to list",
    )
