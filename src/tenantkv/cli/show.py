"""``tenantkv show``: which identity and which server are in use, without their secrets."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass

from tenantkv.cli import output
from tenantkv.config import resolve
from tenantkv.keyring_store import load_keyring
from tenantkv.namespace import Namespace
from tenantkv.rotation import settled

_EPILOG = """\
examples:
  tenantkv show
  tenantkv show --json | jq -r .fingerprint

The fingerprint names the identity and tells nothing about it: compare it between hosts.
"""


@dataclass(frozen=True, slots=True)
class KeyReport:
    """A key, without its secret."""

    id: str
    state: str
    created: str


@dataclass(frozen=True, slots=True)
class ShowReport:
    """What is in use.

    Attributes:
        namespace: the label.
        fingerprint: names the identity.
        source: where the keyring was found: a path, or ``env:NAME``.
        generation: how often the keyring was written.
        keys: its keys.
        prefix_length: how many characters stand in front of every key name.
        rotating_since: when the replacement of the prefix began, if it has not ended; otherwise empty.
        channel_prefix_length: how many stand in front of every channel name.
        url: the server, without password.
        url_source: ``argument``, the name of a variable, or ``default``.
        placement: ``spread`` or ``slot``.
        registry: whether own names are indexed on the server.
        seal: ``seal`` or ``sign`` for all values, or ``no``.
        names: ``plain`` or ``hidden``.
        plaintext: what becomes of secrets in clear: ``refuse``, ``warn`` or ``off``.
    """

    namespace: str
    fingerprint: str
    source: str
    generation: int
    keys: tuple[KeyReport, ...]
    prefix_length: int
    rotating_since: str
    channel_prefix_length: int
    url: str
    url_source: str
    placement: str
    registry: bool
    seal: str
    names: str
    plaintext: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``show``."""
    parser.description = "Show which identity and server are in use. Prints no secret."
    parser.epilog = _EPILOG
    parser.add_argument("--namespace", metavar="NAME", help="label, for tenants with several namespaces")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run ``show``."""
    report = describe(os.environ, namespace=arguments.namespace)
    if arguments.json:
        output.print_json(report)
    else:
        output.print_table(_rows(report))
    return 0


def describe(environ: Mapping[str, str], *, namespace: str | None = None) -> ShowReport:
    """Return what is in use in that environment."""
    settings = resolve(environ=environ, namespace=namespace)
    keyring = load_keyring(namespace=settings.namespace, environ=environ)
    space = Namespace(settled(keyring), placement=settings.placement)
    protection = settings.protect(keyring)
    return ShowReport(
        namespace=keyring.namespace,
        fingerprint=keyring.fingerprint,
        source=keyring.source or "",
        generation=keyring.generation,
        keys=tuple(KeyReport(key.id, key.state, key.created) for key in keyring.keys),
        prefix_length=len(keyring.prefix),
        rotating_since="" if keyring.former is None else keyring.former.since or "an unknown time",
        channel_prefix_length=len(space.channel_prefix),
        url=settings.redacted_url,
        url_source=settings.url_source,
        placement=settings.placement,
        registry=settings.registry or (protection.names == "hidden" and not settings.is_registry_chosen),
        seal=protection.mode if protection.seal else "no",
        names=protection.names,
        plaintext=protection.plaintext,
    )


_VALUES = {
    "no": "in clear, but for those written as Secret",
    "seal": "sealed",
    "sign": "signed, and readable on the server",
}
_SECRETS = {
    "refuse": "refused where they would be stored in clear",
    "warn": "warned about where they are stored in clear",
    "off": "not looked for",
}


def _rows(report: ShowReport) -> list[tuple[str, str]]:
    origin = report.url_source
    if origin == "default":
        origin = "no URL is set: a private server that ends with the process"
    rows = [
        ("namespace", report.namespace),
        ("fingerprint", report.fingerprint),
        ("keyring", report.source),
        ("generation", str(report.generation)),
    ]
    for key in report.keys:
        rows.append(("key", f"{key.id} {key.state} {key.created}".rstrip()))
    rows += [
        ("prefix", f"{report.prefix_length} characters, secret{_rotating(report)}"),
        (
            "channels",
            f"{report.channel_prefix_length} characters of their own, derived; everybody on the "
            "server can list channels",
        ),
        ("server", f"{report.url} ({origin})"),
        ("placement", report.placement),
        ("registry", "on" if report.registry else "off"),
        ("values", _VALUES[report.seal]),
        ("names", "keyed hashes" if report.names == "hidden" else "readable on the server"),
        ("secrets", _SECRETS[report.plaintext]),
    ]
    return rows


def _rotating(report: ShowReport) -> str:
    if not report.rotating_since:
        return ""
    return f"; replaces another since {report.rotating_since}: see 'tenantkv rotate status'"
