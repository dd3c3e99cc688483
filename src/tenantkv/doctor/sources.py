"""The code around: settings of frameworks that are unsafe on a shared server, or without effect.

Files are parsed and never run. Rules look at calls, assignments and imports; they cannot see what is computed
at run time, so "nothing found" is no proof.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tenantkv.doctor.copies import Tree, read
from tenantkv.doctor.finding import Finding
from tenantkv.doctor.sources_table import RULES, Rule

_HITS_SHOWN = 5
_MAKERS = ("connect", "connection_pool")


@dataclass(slots=True)
class Page:
    """What a file says.

    Attributes:
        name: the file's.
        imports: modules that it imports, whole and by their first part.
        settings: names that are assigned, or are keys of dicts or keyword arguments, with the texts in
            their values and the line.
        calls: dotted names that are called, their keyword arguments' names, and the line.
        seals: whether clients seal without being told.
    """

    name: str
    imports: set[str] = field(default_factory=set)
    settings: list[tuple[str, frozenset[str], int]] = field(default_factory=list)
    calls: list[tuple[str, frozenset[str], int]] = field(default_factory=list)
    seals: bool = False

    @property
    def is_guarded(self) -> bool:
        """Whether it reads through tenantkv and seals, so that only what is authentic comes in."""
        return "tenantkv" in self.imports and (
            self.seals
            or any(
                name.startswith("tenantkv") and name.rpartition(".")[2] in _MAKERS and "seal" in keywords
                for name, keywords, _ in self.calls
            )
        )


def read_page(name: str, source: bytes) -> Page | None:
    """Return what a file says; ``None`` if it is no Python, or Python that this version cannot parse."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    page = Page(name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                page.imports |= {alias.name, alias.name.partition(".")[0]}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            page.imports |= {node.module, node.module.partition(".")[0]}
        elif isinstance(node, ast.Assign):
            page.settings += [
                (target, texts(node.value), node.lineno) for each in node.targets if (target := dotted(each))
            ]
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            page.settings.append((dotted(node.target), texts(node.value), node.lineno))
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    page.settings.append((key.value, texts(value), node.lineno))
        elif isinstance(node, ast.Call):
            keywords = [each for each in node.keywords if each.arg]
            page.calls.append((dotted(node.func), frozenset(str(each.arg) for each in keywords), node.lineno))
            page.settings += [(str(each.arg), texts(each.value), node.lineno) for each in keywords]
    return page


def dotted(node: ast.AST) -> str:
    """Return a name with its dots; of ``a["b"]`` the text, as settings are written so too."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        start = dotted(node.value)
        return f"{start}.{node.attr}" if start else node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return str(node.slice.value)
    return ""


def texts(node: ast.AST) -> frozenset[str]:
    """Return the texts in a value, however deep, and the names of what it refers to."""
    found = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, (str, bool, int, type(None))):
            found.add(str(each.value))
        elif isinstance(each, (ast.Name, ast.Attribute)):
            found.add(dotted(each))
    return frozenset(found)


def pages_of(tree: Tree, *, seals: bool) -> Iterator[Page]:
    """Return what a project's Python files say, those that mention anything of interest."""
    for path in tree.files:
        if path.suffix != ".py":
            continue
        source = read(path)
        if any(word in source.lower() for word in (b"redis", b"celery", b"cache", b"session", b"rq")):
            page = read_page(tree.shown(path), source)
            if page is not None:
                page.seals = seals
                yield page


def check_sources(tree: Tree, *, seals: bool = False) -> Iterator[Finding]:
    """Judge a project's code.

    Args:
        tree: its files.
        seals: whether clients seal without being told.
    """
    pages = list(pages_of(tree, seals=seals))
    hits = {rule.check: list(_hits(rule, pages)) for rule in RULES}
    for rule in RULES:
        lines = hits[rule.check]
        if lines:
            more = f" and {len(lines) - _HITS_SHOWN} more" if len(lines) > _HITS_SHOWN else ""
            evidence = ", ".join(lines[:_HITS_SHOWN]) + more
            yield Finding(rule.check, rule.severity, rule.title, evidence, rule.consequence, rule.remedy)
    if not any(hits.values()):
        looked = f"{len(pages)} files that mention Redis, Celery, caches or sessions"
        yield Finding("code.settings", "ok", "no unsafe setting was found in the code", looked)


def _hits(rule: Rule, pages: Iterable[Page]) -> Iterator[str]:
    for page in pages:
        for line in sorted(set(rule.find(page))):
            yield f"{page.name}:{line}"
