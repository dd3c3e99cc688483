"""Fill the generated parts of the docs: ``python tools/write_docs.py [--bench FILE.json]``.

The refusals in docs/commands.md come from the command table (`tests/meta/test_docs.py` fails where they
are out of date); the figures in README.md come from ``python -m benchmarks overhead --json FILE``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tenantkv.commands.keyless_table import REFUSALS, REFUSED_FAMILIES

ROOT = Path(__file__).resolve().parents[1]


def refusals() -> str:
    """Return the table of refused commands."""
    lines = ["| commands | refused because | instead |", "|---|---|---|"]
    for reason, instead, names in REFUSALS:
        shown = ", ".join(f"`{name}`" for name in names.split(", "))
        lines.append(f"| {shown} | {reason} | {instead or '-'} |")
    for family, (reason, instead) in REFUSED_FAMILIES.items():
        lines.append(f"| `{family}*` | {reason} | {instead or '-'} |")
    return "\n".join(lines)


def figures(path: str) -> str:
    """Return the table of ratios from a benchmark's JSON."""
    rows = json.loads(Path(path).read_text())["overhead"]
    ratio = {(row["work"], row["contestant"]): row["wall_ratio"] for row in rows}
    works = [row["work"] for row in rows if row["contestant"] == "tenantkv"]
    lines = ["| work | sync | asyncio |", "|---|---|---|"]
    for work in works:
        if not work.startswith("async "):
            other = ratio.get((f"async {work}", "tenantkv"))
            lines.append(f"| {work} | {ratio[work, 'tenantkv']:.2f} | {f'{other:.2f}' if other else ''} |")
    return "\n".join(lines)


def fill(path: Path, name: str, text: str) -> None:
    """Replace what stands between a page's markers."""
    page = path.read_text()
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")


if __name__ == "__main__":
    fill(ROOT / "docs" / "commands.md", "refusals", refusals())
    if sys.argv[1:2] == ["--bench"]:
        fill(ROOT / "README.md", "bench", figures(sys.argv[2]))
