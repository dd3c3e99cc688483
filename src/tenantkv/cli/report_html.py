"""The page of ``tenantkv usage --html``: one file with its charts inside, which needs no network.

Names come from a server that others write to, so everything is escaped, control characters first; the
page's own policy forbids scripts and anything from elsewhere.
"""

from __future__ import annotations

import html
import time
from collections.abc import Sequence

from tenantkv.cli import output
from tenantkv.cli.client import seconds, size
from tenantkv.cli.usage_report import GroupReport, KeyCost, UsageReport

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --faint: #5b6570; --line: #d8dee4;
  --bar: #2f6fb2; --immortal: #c4622d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --paper: #15181c; --faint: #9aa4af;
  --line: #333a42; --bar: #6aa5e0; --immortal: #e39362; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p.faint, td.faint { color: var(--faint); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 1rem; margin: 1rem 0; }
dl div { border: 1px solid var(--line); border-radius: .4rem; padding: .6rem .8rem; }
dt { color: var(--faint); font-size: .85rem; } dd { margin: 0; font-size: 1.3rem; }
svg { width: 100%; min-width: 40rem; height: auto; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg .faint { fill: var(--faint); } svg .bar { fill: var(--bar); } svg .immortal { fill: var(--immortal); }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.name { overflow-wrap: anywhere; font-family: ui-monospace, monospace; font-size: .9rem; }
"""

_ROW = 26
_LABEL = 200
_WIDTH = 760
_SPACE = 110


def render(report: UsageReport) -> str:
    """Return the page for a report."""
    place = ":".join((report.namespace, *report.child))
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(report.taken))
    estimate = "" if report.measured >= report.keys else f" Sizes are estimated from {report.measured} keys."
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src '
        "'unsafe-inline'\">",
        f"<title>tenantkv usage: {_text(place)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>Namespace {_text(place)}</h1>",
        f'<p class="faint">{when}, names by {_text(report.source)}, pattern {_text(report.pattern)}.'
        f"{estimate}</p>",
        _facts(report),
        _growth(report),
        "<h2>Memory by first segment</h2>",
        _group_chart(report.groups) if report.groups else "<p>There are no keys.</p>",
        '<p class="faint">The orange end of each bar is what never expires.</p>' if report.groups else "",
        "<h2>Memory by type</h2>",
        _bars([(each.type, each.bytes, 0, f"{each.keys} keys") for each in report.types]),
        _table("Biggest keys that were measured", report.biggest),
        _table("Biggest keys without a TTL", report.immortal),
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _text(text: str) -> str:
    # A surrogate could not be written as UTF-8; `clean` writes it as an escape, as it does what acts.
    return html.escape(output.clean(text))


def _facts(report: UsageReport) -> str:
    facts = [
        ("keys", f"{report.keys}"),
        ("memory", size(report.bytes)),
        ("never expires", f"{report.immortal_keys} keys, {size(report.immortal_bytes)}"),
    ]
    if report.day_keys is not None:
        facts.append(("used within a day", f"{report.day_keys} keys, {size(report.day_bytes)}"))
    if report.server_limit:
        share = report.server_bytes / report.server_limit
        facts.append(("server, all tenants", f"{size(report.server_bytes)}, {share:.0%} full"))
        facts.append(("your share of the server", f"{report.bytes / report.server_limit:.1%}"))
    return "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts) + "</dl>"


def _growth(report: UsageReport) -> str:
    from tenantkv.cli.usage import meaning

    lines = meaning(report)
    return (
        "<h2>Growth</h2>" + "".join(f"<p>{_text(line[0].upper() + line[1:])}.</p>" for line in lines)
        if lines
        else ""
    )


def _group_chart(groups: Sequence[GroupReport]) -> str:
    return _bars(
        [(group.segment, group.bytes, group.immortal_bytes, f"{group.keys} keys") for group in groups]
    )


def _bars(rows: Sequence[tuple[str, int, int, str]]) -> str:
    """Return a bar chart: label, value, the part of it that is marked, and what a pointer is told."""
    if not rows:
        return ""
    largest = max(value for _, value, _, _ in rows) or 1
    room = _WIDTH - _LABEL - _SPACE
    drawn = []
    for number, (label, value, marked, hint) in enumerate(rows):
        top = number * _ROW
        full = max(1.0, room * value / largest) if value else 0.0
        part = full * min(marked, value) / value if value else 0.0
        short = label if len(label) <= 28 else label[:27] + "…"
        drawn.append(
            f"<g><title>{_text(label[:500])}: {size(value)}, {_text(hint)}</title>"
            f'<text x="{_LABEL - 8}" y="{top + 17}" text-anchor="end">{_text(short)}</text>'
            f'<rect class="bar" x="{_LABEL}" y="{top + 4}" width="{full:.1f}" height="{_ROW - 8}"/>'
            f'<rect class="immortal" x="{_LABEL + full - part:.1f}" y="{top + 4}" width="{part:.1f}" '
            f'height="{_ROW - 8}"/>'
            f'<text class="faint" x="{_LABEL + full + 6:.1f}" y="{top + 17}">{size(value)}</text></g>'
        )
    height = len(rows) * _ROW
    return (
        f'<div class="wide"><svg role="img" aria-label="bar chart" viewBox="0 0 {_WIDTH} {height}">'
        + "".join(drawn)
        + "</svg></div>"
    )


def _table(title: str, keys: Sequence[KeyCost]) -> str:
    if not keys:
        return ""
    rows = "".join(
        f'<tr><td class="name">{_text(key.name[:500])}</td><td>{_text(key.type)}</td>'
        f'<td class="number">{size(key.bytes)}</td>'
        f'<td class="number">{"none" if key.ttl is None else seconds(key.ttl)}</td>'
        f'<td class="number">{seconds(key.idle)}</td></tr>'
        for key in keys
    )
    head = (
        '<tr><th>key</th><th>type</th><th class="number">size</th><th class="number">TTL</th>'
        '<th class="number">idle</th></tr>'
    )
    return f'<h2>{title}</h2><div class="wide"><table>{head}{rows}</table></div>'
