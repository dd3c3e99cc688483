"""Fill the tables of docs/sealed-commands.md from the value table: ``python tools/write_sealed_commands.py``.

`tests/unit/test_sealing.py` fails where the page is out of date.
"""

from __future__ import annotations

import re
from pathlib import Path

from tenantkv.commands.decisions import DECISIONS, members_of
from tenantkv.commands.value_table import OPTION_REFUSALS, REFUSED

PAGE = Path(__file__).resolve().parents[1] / "docs" / "sealed-commands.md"

# The first pattern that matches a command's name says where it is shown.
GROUPS = (
    ("Scripts and dumps", r"EVAL|FCALL|DUMP|RESTORE"),
    ("Channels", r".*SUBSCRIBE|S?PUBLISH|PUBSUB"),
    ("Modules and other types", r".*\.|V|AR|PF|GEO"),
    (
        "Any key",
        r"(?:COPY|DEL|EXISTS|P?EXPIRE|PERSIST|RENAME|P?TTL|TOUCH|TYPE|UNLINK|WATCH|KEYS|SCAN|MEMORY|OBJECT)"
        r"(?:AT|TIME|NX| .*)?$|SORT",
    ),
    ("Streams", r"X"),
    ("Sorted sets", r"B?Z"),
    ("Hashes", r"H"),
    ("Lists", r"B?[LR](?:PUSH|POP|MOVE|MPOP|RANGE|SET|TRIM|LEN|INDEX|INSERT|REM|POS)"),
    ("Strings", r".*(?:GET|SET|INCR|DECR|STR|BIT|RANGE)|APPEND|DELEX|DELIFEQ|DIGEST|LCS|STRALGO"),
    ("Sets", r"S"),
)
ORDER = ("Any key", "Strings", "Hashes", "Lists", "Sets", "Sorted sets", "Streams", "Channels")
_COLUMNS = (
    ("works", ("untouched", "sealed", "opaque")),
    ("works within one context", ("context",)),
    ("refused", ("refuse",)),
)


def group_of(name: str) -> str:
    """Return the heading under which a command is shown."""
    if name in ("SETRANGE", "MSET", "MGET", "MSETNX", "MSETEX"):
        return "Strings"
    return next(title for title, pattern in GROUPS if re.match(pattern, name))


def by_type() -> str:
    """Return a table of all commands, a row for each data type."""
    lines = [f"| | {' | '.join(title for title, _ in _COLUMNS)} |", "|---|---|---|---|"]
    for heading in (*ORDER, "Scripts and dumps", "Modules and other types"):
        cells = (_cell(heading, whats) for _, whats in _COLUMNS)
        lines.append(f"| **{heading}** | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(heading: str, whats: tuple[str, ...]) -> str:
    own = [
        name for name, decision in DECISIONS.items() if decision.what in whats and group_of(name) == heading
    ]
    families = {name: family for family in _FAMILIES for name in members_of(family)}
    shown = sorted({families.get(name, name) for name in own})
    return ", ".join(f"`{name}`" for name in shown) or "-"


_FAMILIES = [name for _, _, names in REFUSED for name in names.split() if name.endswith("*")]


def refusals() -> str:
    """Return a table of the refused commands with reasons, and what to do instead."""
    lines = ["| refused | because | instead |", "|---|---|---|"]
    for reason, instead, names in REFUSED:
        shown = ", ".join(f"`{name.replace('|', ' ')}`" for name in names.split())
        lines.append(f"| {shown} | {reason} | {instead} |")
    return "\n".join(lines)


def options() -> str:
    """Return a table of options that are refused in commands that work without them."""
    merged: dict[tuple[str, str, str], list[str]] = {}
    for choice, texts in OPTION_REFUSALS.items():
        merged.setdefault(texts, []).append(f"`{choice.upper()}`")
    lines = ["| command | option | refused because | instead |", "|---|---|---|---|"]
    lines += [f"| {', '.join(names)} | {' | '.join(texts)} |" for texts, names in merged.items()]
    return "\n".join(lines)


def page_parts() -> dict[str, str]:
    """Return the generated parts of the page by their markers."""
    return {"sealed-types": by_type(), "sealed-refusals": refusals(), "sealed-options": options()}


if __name__ == "__main__":
    text = PAGE.read_text()
    for name, part in page_parts().items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{part}\n{end}{rest.partition(end)[2]}"
    PAGE.write_text(text)
