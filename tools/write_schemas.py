"""Write ``docs/schemas/cli.json``: what the commands about own keys print with ``--json``, as JSON Schema.

The report dataclasses say it; a test compares. Run: ``python -m tools.write_schemas``.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any

from tenantkv.cli import acl, adopt, clear, keys, rotate_report, transfer, usage_report, values, values_change

PATH = Path(__file__).resolve().parents[1] / "docs" / "schemas" / "cli.json"

#: By command, what it prints.
REPORTS: dict[str, type] = {
    "acl": acl.AclReport,
    "adopt": adopt.AdoptReport,
    "clear": clear.ClearReport,
    "del": values_change.ChangeReport,
    "dump": values.DumpReport,
    "expire": values_change.ChangeReport,
    "export": transfer.ExportReport,
    "get": values.ValueReport,
    "import": transfer.ImportReport,
    "keys": keys.KeysReport,
    "load": values_change.ChangeReport,
    "rename": values_change.ChangeReport,
    "rotate": rotate_report.RotateReport,
    "set": values_change.ChangeReport,
    "ttl": values.FactReport,
    "type": values.FactReport,
    "usage": usage_report.UsageReport,
}
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def schema() -> dict[str, Any]:
    """Return the document: one definition a command."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tenantkv COMMAND --json",
        "description": "Bytes that are not UTF-8 are lone surrogates in texts (Python's surrogateescape).",
        "$defs": {command: of(report) for command, report in REPORTS.items()},
    }


def of(kind: Any) -> dict[str, Any]:
    """Return the schema of a type of a report."""
    if kind is Any:
        return {}
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        names = [field.name for field in dataclasses.fields(kind)]
        return {
            "type": "object",
            "properties": {name: of(hints[name]) for name in names},
            "required": names,
            "additionalProperties": False,
        }
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [of(argument) for argument in arguments]}
    if origin is tuple:
        return {"type": "array", "items": of(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": of(arguments[1])}
    raise TypeError(f"{kind} has no schema")


def text() -> str:
    """Return the document as it stands in the file."""
    return json.dumps(schema(), indent=2) + "\n"


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(text())
