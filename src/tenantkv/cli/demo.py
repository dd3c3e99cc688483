"""``tenantkv demo``: two tenants on one real server with a shared server's limits, and what each sees."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from typing import Any

import redis

import tenantkv
from tenantkv import embedded
from tenantkv.cli import output
from tenantkv.cli.demo_names import name_steps
from tenantkv.cli.demo_step import Step
from tenantkv.cli.demo_values import value_steps

_EPILOG = """\
examples:
  tenantkv demo
  tenantkv demo --json | jq '.[] | select(.holds | not)'

Runs on a private server that ends with the command; needs no keyring and touches nothing of yours.
Exits with 1 if anything is not as it should be.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``demo``."""
    parser.description = "Run two tenants on one real server and show that neither meets the other."
    parser.epilog = _EPILOG
    parser.add_argument("--json", action="store_true", help="print the steps as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run ``demo``."""
    done: list[Step] = []
    with embedded.start("shared") as server:
        if not arguments.json:
            _introduce(server)
        for step in steps(server):
            done.append(step)
            if not arguments.json:
                _show(len(done), step)
    holds = all(step.holds for step in done)
    if arguments.json:
        output.print_json(done)
    elif holds:
        output.print_text("\nAll as it should be. The next step is yours: tenantkv init")
    if not holds:
        output.fail("not everything was as it should be; see the steps marked NO")
    return 0 if holds else 1


def _introduce(server: embedded.EmbeddedServer) -> None:
    output.print_text(
        f"A real {server.product} {server.version} on a socket of our own, with the limits of a"
    )
    output.print_text(
        "shared one: no password, no ACL, everything may be evicted, and no KEYS, SCAN, CLIENT,"
    )
    output.print_text(
        "CONFIG, MONITOR or FLUSHDB. Two tenants, anna and ben, who have never heard of each other:"
    )


def _show(number: int, step: Step) -> None:
    output.print_text("")
    mark = "" if step.holds else "  NO"
    output.print_text(f"{number}. {step.title}{mark}")
    output.print_table([(f"   {left}", right) for left, right in step.lines])


def steps(server: embedded.EmbeddedServer) -> Iterator[Step]:
    """Run the demonstration on a server with the shared profile, step by step."""
    anna, ben = (_tenant(server.url) for _ in range(2))
    operator = redis.Redis.from_url(server.url)
    yield from name_steps(anna, ben, operator)
    yield from value_steps(anna, operator)
    for client in (anna, ben, operator):
        client.close()


def _tenant(url: str) -> Any:
    # Identities of the moment; a tool's own is made once, by `tenantkv init`.
    keyring = tenantkv.Keyring.generate(os.urandom(96))
    return tenantkv.connect(url, namespace=tenantkv.Namespace(keyring), registry=True, decode_responses=True)
