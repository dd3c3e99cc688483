"""Key names that stand in a project's source, for servers that list none: literals, and patterns with gaps.

``f"mytool:user:{user_id}"`` is a pattern with the gap ``user_id``. What can fill it only its owner knows: a
server with SCAN is asked for the names that match; elsewhere the values have to be given.

Python is read by its grammar (f-strings, ``%``, ``.format`` and ``+``), and other languages by what stands
between quotes, with the gaps ``${x}``, ``{$x}``, ``$x`` and ``#{x}``. It has to begin as its owner says.
"""

from __future__ import annotations

import ast
import itertools
import math
import os
import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tenantkv.errors import ConfigurationError
from tenantkv.ops.adopt import SHORTEST_HEAD
from tenantkv.ops.registry import matching

_OTHERS = (".js", ".mjs", ".cjs", ".ts", ".tsx", ".php", ".rb", ".go", ".pl", ".sh", ".lua", ".rs", ".java")
_SKIPPED = frozenset({"node_modules", "vendor", "__pycache__", "site-packages", "venv"})
_MOST_BYTES = 4 * 1024 * 1024
_MOST_NAMES = 1_000_000
_LONGEST_GAP = 60

_GLOB = re.compile(rb"([*?\[\]\\])")
_QUOTED = re.compile(r"""(["'`])((?:(?!\1)[^\\\n])*)\1""")
_GAP = re.compile(r"[$#]\{([^{}]*)\}|\{\$([^{}]*)\}|\$([A-Za-z_]\w*)")
_PERCENT = re.compile(r"%(?:\(([^)]*)\))?[-#0 +]*[\d*]*(?:\.[\d*]+)?[a-zA-Z]|(%%)")
_RANGE = re.compile(r"(\d+)-(\d+)\Z")


@dataclass(frozen=True, slots=True)
class Gap:
    """A part of a name that the source does not tell: the expression that stands there."""

    name: str


Part = str | Gap


@dataclass(slots=True)
class Pattern:
    """A name, or names with gaps.

    Attributes:
        parts: texts and gaps in turn.
        places: where it stands, as ``file:line``.
    """

    parts: tuple[Part, ...]
    places: list[str] = field(default_factory=list)

    @property
    def gaps(self) -> list[str]:
        """The names of its gaps, each once."""
        return list(dict.fromkeys(part.name for part in self.parts if isinstance(part, Gap)))

    @property
    def glob(self) -> bytes:
        """What matches the names."""
        return b"".join(b"*" if isinstance(part, Gap) else _escaped(part) for part in self.parts)

    def names(self, values: Mapping[str, Sequence[str]]) -> Iterator[bytes]:
        """Yield the names for all values of its gaps."""
        for chosen in itertools.product(*(values[gap] for gap in self.gaps)):
            filled = dict(zip(self.gaps, chosen, strict=True))
            texts = (filled[part.name] if isinstance(part, Gap) else part for part in self.parts)
            yield os.fsencode("".join(texts))


def find_patterns(root: str, begins: str) -> list[Pattern]:
    """Return the names and patterns in the source files at or below a path, sorted.

    Args:
        root: a file or a directory.
        begins: what they begin with, three characters or more.

    Raises:
        ConfigurationError: the beginning is too short, or there is no such path.
    """
    if len(begins) < SHORTEST_HEAD:
        raise ConfigurationError(
            f"--begins says with what your names begin, {SHORTEST_HEAD} characters or more, such as 'mytool:'"
        )
    if not os.path.exists(root):
        raise ConfigurationError(f"there is no {root}")
    found: dict[tuple[Part, ...], Pattern] = {}
    for path in _files(root):
        text = path.read_bytes()[:_MOST_BYTES].decode("utf-8", "replace")
        for line, parts in _in_python(text) if path.suffix == ".py" else _in_others(text):
            if parts and isinstance(parts[0], str) and parts[0].startswith(begins):
                found.setdefault(parts, Pattern(parts)).places.append(f"{path}:{line}")
    return sorted(found.values(), key=lambda each: each.glob)


def read_fills(words: Iterable[str]) -> dict[str, list[str]]:
    """Return the values for gaps: ``NAME=1-500``, ``NAME=a,b,c`` or ``NAME=@FILE`` with one a line.

    Raises:
        ConfigurationError: one has no meaning.
    """
    fills: dict[str, list[str]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not (name and equals and text):
            raise ConfigurationError("--fill has the form NAME=1-500, NAME=a,b,c or NAME=@FILE")
        fills.setdefault(name, []).extend(_values(text))
    return fills


def names_of(
    patterns: Iterable[Pattern],
    fills: Mapping[str, Sequence[str]],
    find: Callable[[], Sequence[bytes] | None],
) -> tuple[list[bytes], list[Pattern]]:
    """Return the names of patterns, and the patterns for which nobody knows any.

    Args:
        patterns: as `find_patterns` gives them.
        fills: values for gaps.
        find: asks the server for all names with the beginning; ``None`` if it cannot tell. Called once, and
            only if there are gaps without values.

    Raises:
        ConfigurationError: the values make more than a million names.
    """
    names: dict[bytes, None] = {}
    open_ones: list[Pattern] = []
    for pattern in patterns:
        if not fills.keys() >= set(pattern.gaps):
            open_ones.append(pattern)
            continue
        if len(names) + math.prod(len(fills[gap]) for gap in pattern.gaps) > _MOST_NAMES:
            raise ConfigurationError(f"these values make more than {_MOST_NAMES} names")
        names.update(dict.fromkeys(pattern.names(fills)))
    listed = find() if open_ones else []
    if listed is None:
        return list(names), open_ones
    for pattern in open_ones:
        names.update(dict.fromkeys(matching(listed, pattern.glob)))
    return list(names), []


def own_glob(begins: str) -> bytes:
    """Return the glob of all names that begin so."""
    return _escaped(begins) + b"*"


def _values(text: str) -> list[str]:
    if text.startswith("@"):
        return [line for line in Path(text[1:]).read_text().splitlines() if line]
    span = _RANGE.match(text)
    if span is None:
        return [value for value in text.split(",") if value]
    first, last = int(span[1]), int(span[2])
    if not first <= last <= first + _MOST_NAMES:
        raise ConfigurationError(f"a range has up to {_MOST_NAMES} numbers, the smaller one first")
    return [str(number) for number in range(first, last + 1)]


def _files(root: str) -> Iterator[Path]:
    if os.path.isfile(root):
        yield Path(root)
        return
    for place, directories, files in os.walk(root):
        directories[:] = sorted(
            each for each in directories if each not in _SKIPPED and not each.startswith(".")
        )
        for name in sorted(files):
            if name.endswith((".py", *_OTHERS)):
                yield Path(place, name)


def _in_python(text: str) -> Iterator[tuple[int, tuple[Part, ...]]]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # Of another version, or a template: as any other language.
        yield from _in_others(text)
        return
    inside: set[int] = set()
    for node in ast.walk(tree):
        if id(node) in inside or not isinstance(node, ast.expr):
            continue
        parts = _parts(node)
        if parts is not None:
            # ast.walk goes from the outside to the inside: what is a part of this is none by itself.
            inside.update(map(id, ast.walk(node)))
            yield node.lineno, _joined(parts)


def _parts(node: ast.expr) -> list[Part] | None:
    """Return the parts of a text that an expression makes; ``None`` if it makes none that can be told."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)):
        value = node.value
        return [value if isinstance(value, str) else os.fsdecode(value)]
    if isinstance(node, ast.JoinedStr):
        return [
            str(each.value) if isinstance(each, ast.Constant) else _gap(getattr(each, "value", each))
            for each in node.values
        ]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        first = _parts(node.left)
        return None if first is None else first + (_parts(node.right) or [_gap(node.right)])
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod) and isinstance(node.left, ast.Constant):
        return _percent(node.left.value, node.right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        pattern = node.func.value
        if isinstance(pattern, ast.Constant) and isinstance(pattern.value, str):
            return _formatted(pattern.value, node)
    return None


def _gap(node: ast.AST) -> Gap:
    return Gap(ast.unparse(node)[:_LONGEST_GAP])


def _percent(pattern: object, right: ast.expr) -> list[Part] | None:
    if not isinstance(pattern, (str, bytes)):
        return None
    values = iter(right.elts if isinstance(right, ast.Tuple) else [right])
    parts: list[Part] = []
    done = 0
    text = pattern if isinstance(pattern, str) else os.fsdecode(pattern)
    for found in _PERCENT.finditer(text):
        parts.append(text[done : found.start()])
        done = found.end()
        if found[2]:
            parts.append("%")
        elif found[1] is not None:
            parts.append(Gap(found[1]))
        else:
            value = next(values, None)
            parts.append(Gap("?") if value is None else _gap(value))
    return [*parts, text[done:]]


def _formatted(pattern: str, call: ast.Call) -> list[Part] | None:
    parts: list[Part] = []
    try:
        fields = list(string.Formatter().parse(pattern))
    except ValueError:
        return None
    count = 0
    for text, name, _, _ in fields:
        parts.append(text)
        if name is None:
            continue
        place = name or str(count)
        count += not name
        is_argument = place.isdigit() and int(place) < len(call.args)
        parts.append(_gap(call.args[int(place)]) if is_argument else Gap(place))
    return parts


def _in_others(text: str) -> Iterator[tuple[int, tuple[Part, ...]]]:
    for number, line in enumerate(text.splitlines(), 1):
        for quoted in _QUOTED.finditer(line):
            parts: list[Part] = []
            done = 0
            for gap in _GAP.finditer(quoted[2]):
                inside = next(each for each in gap.groups() if each is not None)
                parts += [quoted[2][done : gap.start()], Gap(inside[:_LONGEST_GAP])]
                done = gap.end()
            yield number, _joined([*parts, quoted[2][done:]])


def _joined(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Return parts without empty texts, and with neighbouring texts as one."""
    found: list[Part] = []
    for part in parts:
        if isinstance(part, str) and found and isinstance(found[-1], str):
            found[-1] += part
        elif part != "":
            found.append(part)
    return tuple(found)


def _escaped(text: str) -> bytes:
    return _GLOB.sub(rb"\\\1", os.fsencode(text))


__all__ = ["Gap", "Pattern", "find_patterns", "names_of", "own_glob", "read_fills"]
