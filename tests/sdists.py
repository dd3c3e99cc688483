"""Tests of other projects, from the source distributions of the versions that are installed.

They lie in the git-ignored ``.cache``. Only what is wanted is unpacked, so that no copy of a package hides
the installed one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

CACHE = Path(__file__).parents[1] / ".cache"


def obtain(
    project: str, version: str, wanted: Callable[[tuple[str, ...]], bool], *, home: str, variable: str
) -> Path:
    """Return the directory in which a part of a source distribution lies.

    Args:
        project: its name in the package index.
        version: which.
        wanted: whether to unpack the file with that path, given in parts and without the first.
        home: the directory's name.
        variable: names the source distribution in the environment where no package index can be reached.

    Raises:
        RuntimeError: it cannot be downloaded.
    """
    place = CACHE / home
    if not (place / "complete").exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as name:
            unpacked = Path(name) / "unpacked"
            _unpack(archive(project, version, Path(name), variable), unpacked, wanted)
            (unpacked / "complete").touch()
            shutil.rmtree(place, ignore_errors=True)
            try:
                unpacked.rename(place)
            except OSError:  # Another process was faster.
                if not (place / "complete").exists():
                    raise
    return place


def archive(project: str, version: str, directory: Path, variable: str) -> Path:
    """Return a source distribution, downloaded into a directory or named by the environment."""
    given = os.environ.get(variable)
    if given:
        return Path(given)
    wanted = f"{project}=={version}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "--no-deps", "--no-binary", project, "--dest", str(directory), wanted],
        capture_output=True,
        text=True,
        check=False,
    )
    found = list(directory.glob("*.tar.gz"))
    if done.returncode or not found:
        raise RuntimeError(
            f"cannot download the source distribution of {wanted} ({done.stderr.strip()[-500:]}); "
            f"name it in {variable}"
        )
    return found[0]


def _unpack(packed: Path, target: Path, wanted: Callable[[tuple[str, ...]], bool]) -> None:
    with tarfile.open(packed) as tar:
        for member in tar:
            inside = Path(member.name).parts[1:]
            if member.isfile() and ".." not in inside and wanted(inside):
                path = target.joinpath(*inside)
                path.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(member)
                assert content is not None
                path.write_bytes(content.read())
