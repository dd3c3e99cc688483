"""``tenantkv open``: open an envelope from standard input."""

from __future__ import annotations

import argparse
import base64
import sys

from tenantkv.cli import output
from tenantkv.cli.seal import add_place_arguments, open_sealer, place, read_input
from tenantkv.envelope import LARGEST_VALUE_BYTES, Sealer
from tenantkv.envelope_header import read_header_unverified
from tenantkv.errors import ConfigurationError, OpenError

# Beside the value: the header, a nonce, a tag and an expiry, with some room.
_LARGEST_ENVELOPE_BYTES = LARGEST_VALUE_BYTES + 1024

_EPILOG = """\
examples:
  redis-cli get "$(tenantkv name report)" | head -c -1 | tenantkv open --name report > report.pdf
  tenantkv open --name greeting --text < sealed.txt

What was sealed is written to standard output and nowhere else. Name, kind and field have to be those
of sealing. If it does not open, nothing is written, and the exit code is 1.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``open``."""
    parser.description = "Open a sealed value from standard input and write what is in it."
    parser.epilog = _EPILOG
    add_place_arguments(parser)
    parser.add_argument("--text", action="store_true", help="the input is base64")


def run(arguments: argparse.Namespace) -> int:
    """Run ``open``."""
    sealer = open_sealer(arguments)
    # Base64 is a third longer.
    blob = read_input(_LARGEST_ENVELOPE_BYTES * 3 // 2 if arguments.text else _LARGEST_ENVELOPE_BYTES)
    if arguments.text:
        blob = _decode(blob)
    kind, name, field = place(arguments)
    try:
        value = sealer.open(blob, kind=kind, name=name, field=field)
    except OpenError:
        output.note(explain_unverified(blob, sealer))
        raise
    if sys.stdout.isatty():
        output.print_text(output.clean(value.decode(errors="backslashreplace")))
    else:
        sys.stdout.buffer.write(value)
    return 0


def explain_unverified(blob: bytes, sealer: Sealer) -> str:
    """Return what an envelope that did not open says of itself, which may be a lie."""
    header = read_header_unverified(blob)
    if header is None:
        return "The input has not the form of an envelope."
    state = next((key.state for key in sealer.keyring.keys if key.id == header.key_id), "unknown here")
    how = {"xaes": "sealed", "siv": "sealed as a member", "sign": "signed only"}[header.suite]
    text = f"The input says of itself, unverified: {how}, with key {header.key_id} ({state})"
    if header.expires:
        text += ", with an expiry"
    if header.suite == "sign" and sealer.mode != "sign":
        text += "; to open what is only signed, add --mode sign"
    return text + "."


def _decode(text: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except ValueError:
        problem = "standard input is not base64, which --text stands for"
    raise ConfigurationError(problem)
