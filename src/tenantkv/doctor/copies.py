"""Copies of the prefix and the keys where they should not be: the environment, files around, git's history.

What is looked for is never on a command line: git gets it by standard input, or its output is searched here.
Everything is bounded, and says so when a bound was met.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tenantkv.doctor.finding import Finding
from tenantkv.doctor.tenant import Tenant
from tenantkv.keyring_files import in_git_work_tree
from tenantkv.keyring_store import INLINE_VARIABLE

_FILES_AT_MOST = 5000
_LARGEST_BYTES = 512 * 1024
_ALL_BYTES = 128 * 1024 * 1024
_HISTORY_SECONDS = 15.0
_SKIPPED = frozenset(
    {
        ".git",
        ".hg",
        ".venv",
        "venv",
        "env",
        "node_modules",
        "__pycache__",
        ".tox",
        ".mypy_cache",
        "site-packages",
    }
)


@dataclass(frozen=True, slots=True)
class Tree:
    """Files below a directory.

    Attributes:
        root: the directory.
        files: those to look at, sorted.
        is_whole: whether that is all of them.
    """

    root: Path
    files: tuple[Path, ...]
    is_whole: bool

    def shown(self, path: Path) -> str:
        """Return a file's name as the user would say it."""
        return str(path.relative_to(self.root))


def walk(root: Path) -> Tree:
    """Return the files of a project, without what others made (virtual environments, caches, git's own)."""
    found: list[Path] = []
    size = 0
    for place, directories, names in os.walk(root):
        directories[:] = sorted(name for name in directories if name not in _SKIPPED)
        for name in sorted(names):
            if len(found) >= _FILES_AT_MOST or size > _ALL_BYTES:
                return Tree(root, tuple(found), False)
            path = Path(place, name)
            found.append(path)
            try:
                size += min(path.lstat().st_size, _LARGEST_BYTES)
            except OSError:
                found.pop()
    return Tree(root, tuple(found), True)


def read(path: Path) -> bytes:
    """Return a file's content; nothing of what is no plain file, too long, or may not be read."""
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _LARGEST_BYTES:
            return b""
        return path.read_bytes()
    except OSError:
        return b""


def check_copies(
    tenant: Tenant, environ: Mapping[str, str], tree: Tree | None, *, keyring: Path | None
) -> Iterator[Finding]:
    """Look for copies.

    Args:
        tenant: whose prefix and keys.
        environ: the environment.
        tree: the project's files; ``None`` to leave them alone.
        keyring: the file that may hold them.
    """
    needles = (tenant.prefix, *tenant.secrets)
    yield _environment(needles, environ)
    if tree is not None:
        yield _files(needles, tree, keyring)
        if in_git_work_tree(tree.root):
            yield _history(needles, tree.root)


def _environment(needles: tuple[bytes, ...], environ: Mapping[str, str]) -> Finding:
    values = {name: os.fsencode(value) for name, value in environ.items() if name != INLINE_VARIABLE}
    names = sorted(name for name, value in values.items() if any(each in value for each in needles))
    if not names:
        return Finding("copies.environment", "ok", "no copies in the environment", f"{len(values)} variables")
    return Finding(
        "copies.environment",
        "warn",
        "variables hold the prefix or a key",
        ", ".join(names),
        "Child processes, crash reports and debug pages show the environment.",
        f"take them out: the keyring, or {INLINE_VARIABLE}, is enough",
    )


def _files(needles: tuple[bytes, ...], tree: Tree, keyring: Path | None) -> Finding:
    known = None if keyring is None else keyring.resolve()
    hits = []
    for path in tree.files:
        data = read(path)
        if data and any(each in data for each in needles) and path.resolve() != known:
            hits.append(tree.shown(path))
    looked = f"{len(tree.files)} files" + ("" if tree.is_whole else ", and there are more")
    if not hits:
        return Finding("copies.files", "ok", "no copies in the files around", looked)
    return Finding(
        "copies.files",
        "fail",
        "files hold the prefix or a key",
        f"{', '.join(hits[:10])}{' ...' if len(hits) > 10 else ''} (of {looked})",
        "Files are copied, shared, backed up and committed.",
        "take it out, and let the program find the keyring",
    )


def _history(needles: tuple[bytes, ...], root: Path) -> Finding:
    outcome = _search_history(needles, root)
    if outcome is None:
        return Finding(
            "copies.history",
            "warn",
            "git's history was not looked at to the end",
            f"git is missing, failed, or took more than {_HISTORY_SECONDS:g} s",
            "A prefix or key that was once committed would still be there.",
            "look yourself, with the text on standard input: git log -p --all",
        )
    if outcome:
        return Finding(
            "copies.history",
            "fail",
            "git's history holds the prefix or a key",
            f"commit {outcome}",
            "Every copy of the repository has it; taking it out of the newest version changes nothing.",
            "take it for known: rotate the keys, and move to a new namespace",
        )
    return Finding("copies.history", "ok", "git's history does not hold them", "all branches")


def _search_history(needles: tuple[bytes, ...], root: Path) -> str | None:
    """Return the newest commit whose change holds a needle, empty if none does, ``None`` if not known."""
    program = shutil.which("git")
    if program is None:
        return None
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # Nothing that the repository names is run: no monitor, no external differ, no text converter.
    command = [program, "-c", "core.fsmonitor=false", "-C", str(root), "log", "--all", "-p", "--no-ext-diff"]
    command += ["--no-textconv", "--no-color", "--format=commit %h", "-U0"]
    end = time.monotonic() + _HISTORY_SECONDS
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environ | {"LC_ALL": "C"},
    ) as process:
        assert process.stdout is not None
        commit = "unknown"
        try:
            for line in process.stdout:
                if line.startswith(b"commit "):
                    commit = line[7:].strip().decode("ascii", "replace")
                elif line[:1] in b"+-" and any(each in line for each in needles):
                    return commit
                if time.monotonic() > end:
                    return None
        finally:
            process.kill()
    # A repository without commits fails too, and has nothing.
    return "" if process.returncode in (0, 128, -9) else None
