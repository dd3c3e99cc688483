"""``tenantkv init``: make the tenant's identity once, and say where it lies."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from dataclasses import dataclass

from tenantkv.cli import output
from tenantkv.cli.formats import FORMATS, SECRET_FORMATS, render
from tenantkv.errors import ConfigurationError
from tenantkv.keyring_store import FILE_VARIABLE, CreatedKeyring, create_keyring

_LONGEST_INPUT = 4096

_EPILOG = """\
examples:
  tenantkv init
  tenantkv init --seal --hide-names
  tenantkv init --import-prefix - < old-prefix.txt
  tenantkv init --format toolforge | sh

Running it again changes nothing and shows the existing identity. The prefix and keys are never
printed, unless --format env, k8s or toolforge asks for it.
"""


@dataclass(frozen=True, slots=True)
class InitReport:
    """What ``init`` did.

    Attributes:
        status: ``created`` or ``exists``.
        namespace: the label.
        source: where the keyring lies: a path, or ``env:NAME``.
        fingerprint: names the identity, tells nothing about it.
        settings: what its clients do without being told, such as ``seal=yes``.
    """

    status: str
    namespace: str
    source: str
    fingerprint: str
    settings: tuple[str, ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``init``."""
    parser.description = "Make this tenant's identity (prefix and keys) if there is none yet."
    parser.epilog = _EPILOG
    parser.add_argument(
        "--import-prefix",
        metavar="-",
        type=_standard_input_only,
        help="adopt a prefix that is in use already, read from standard input",
    )
    parser.add_argument("--namespace", metavar="NAME", help="label, for tenants with several namespaces")
    parser.add_argument(
        "--path",
        metavar="FILE",
        help=f"where the keyring shall lie, if not at the usual place; then set {FILE_VARIABLE}",
    )
    parser.add_argument(
        "--seal",
        action="store_true",
        help="write into the keyring that clients seal all values (they do not have to say so)",
    )
    parser.add_argument(
        "--hide-names",
        action="store_true",
        help="write into the keyring that key names are keyed hashes on the server",
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument(
        "--format",
        choices=sorted(FORMATS),
        help="print what another place needs; env, k8s and toolforge print the SECRET keyring",
    )
    shown.add_argument(
        "--print-env",
        action="store_const",
        dest="format",
        const="env",
        help="the same as --format env; prints the SECRET keyring",
    )
    shown.add_argument("--json", action="store_true", help="print the report as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run ``init``."""
    namespace = arguments.namespace or os.environ.get("TENANTKV_NAMESPACE") or "default"
    prefix = read_prefix() if arguments.import_prefix else None
    settings = {"seal": "yes"} if arguments.seal else {}
    if arguments.hide_names:
        settings["names"] = "hidden"
    made = create_keyring(namespace=namespace, path=arguments.path, prefix=prefix, settings=settings)
    if dict(made.keyring.settings) != {**dict(made.keyring.settings), **settings}:
        raise ConfigurationError(
            "the identity exists, and its keyring says otherwise of sealing or hidden names; what is stored "
            "would not be found. Say seal=True where you connect, or begin anew with another --namespace"
        )
    report = describe(made)
    if arguments.format:
        # The report goes to standard error, so that the snippet can be piped on.
        _print_report(report, made, to_stderr=True)
        _print_snippet(arguments.format, made)
    elif arguments.json:
        output.print_json(report)
    else:
        _print_report(report, made, to_stderr=False)
    return 0


def describe(made: CreatedKeyring) -> InitReport:
    """Return the report of what `create_keyring` did."""
    keyring = made.keyring
    return InitReport(
        status="created" if made.is_new else "exists",
        namespace=keyring.namespace,
        source=keyring.source or "",
        fingerprint=keyring.fingerprint,
        settings=tuple(f"{name}={value}" for name, value in keyring.settings),
    )


def read_prefix() -> str:
    """Read a prefix from standard input; from a terminal without showing it.

    Raises:
        ConfigurationError: it is too long or not text. What was read is not repeated.
    """
    if sys.stdin.isatty():
        text = getpass.getpass("prefix (not shown): ")
    else:
        data = sys.stdin.buffer.read(_LONGEST_INPUT + 1)
        if len(data) > _LONGEST_INPUT or not data.isascii():
            raise ConfigurationError("what stands on standard input is not a prefix")
        text = data.decode("ascii")
    # One colon at the end is the one that we put between prefix and name ourselves.
    return text.strip().removesuffix(":")


def _standard_input_only(value: str) -> str:
    if value != "-":
        # argparse repeats a wrong value in its message, but not with this error.
        raise argparse.ArgumentTypeError(
            "is only '-', that is standard input: other users can read a command line"
        )
    return value


def _print_report(report: InitReport, made: CreatedKeyring, *, to_stderr: bool) -> None:
    outcome = "made a new identity" if made.is_new else "the identity exists, nothing changed"
    rows = [
        ("namespace", report.namespace),
        ("keyring", report.source),
        ("fingerprint", report.fingerprint),
        *([("settings", " ".join(report.settings))] if report.settings else []),
        ("outcome", outcome),
    ]
    output.print_table(rows, stream=sys.stderr if to_stderr else sys.stdout)
    if not made.is_default:
        output.note(f"This is not a usual place: set {FILE_VARIABLE}={report.source}")
    if made.is_new:
        output.note("Copy it to every host that shares the namespace, and keep a backup.")


def _print_snippet(name: str, made: CreatedKeyring) -> None:
    if name in SECRET_FORMATS and sys.stdout.isatty():
        output.warn("what follows is secret, and this terminal may keep it in its scrollback")
    output.print_text(render(name, made.keyring, is_default=made.is_default))
