"""Django's own tests, from the source distribution of the version that is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import django

CACHE = Path(__file__).parents[2] / ".cache"
_WANTED = ("cache", "sessions_tests", "template_tests", "templates", "urls.py")


def obtain() -> Path:
    """Return the ``tests`` directory of the installed Django.

    The environment variable ``TENANTKV_DJANGO_SDIST`` names its source distribution where no package
    index can be reached.

    Raises:
        RuntimeError: it cannot be downloaded.
    """
    home = CACHE / f"django-{django.__version__}"
    if not (home / "complete").exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as name:
            unpacked = Path(name) / "unpacked"
            _unpack(_archive(Path(name)), unpacked)
            (unpacked / "complete").touch()
            shutil.rmtree(home, ignore_errors=True)
            try:
                unpacked.rename(home)
            except OSError:  # Another process was faster.
                if not (home / "complete").exists():
                    raise
    return home / "tests"


def _archive(directory: Path) -> Path:
    given = os.environ.get("TENANTKV_DJANGO_SDIST")
    if given:
        return Path(given)
    wanted = f"django=={django.__version__}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "--no-deps", "--no-binary", "django", "--dest", str(directory), wanted],
        capture_output=True,
        text=True,
        check=False,
    )
    found = [*directory.glob("[Dd]jango-*.tar.gz")]
    if done.returncode or not found:
        raise RuntimeError(
            f"cannot download the source distribution of {wanted} ({done.stderr.strip()[-500:]}); "
            "name it in TENANTKV_DJANGO_SDIST"
        )
    return found[0]


def _unpack(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            inside = Path(member.name).parts[1:]
            if inside[:1] != ("tests",) or inside[1:2] == () or inside[1] not in _WANTED:
                continue
            if member.isfile() and ".." not in inside:
                path = target.joinpath(*inside)
                path.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(member)
                assert content is not None
                path.write_bytes(content.read())
