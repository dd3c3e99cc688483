"""The tests of Celery and of channels_redis, from the source distributions of the installed versions.

Only the tests are unpacked, so that no copy of a package hides the installed one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache"

#: Distribution -> what of it is unpacked.
_WANTED = {
    "celery": ("t/integration/", "t/__init__.py", "t/canvas_helpers.py", "t/skip.py"),
    "channels-redis": ("tests/",),
}

_CONFIGURATION = """\
[pytest]
python_classes = test_*
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
timeout = 300
filterwarnings = ignore
markers =
    amqp
    celery
    flaky
    patched_environ
    timeout
"""


def obtain(name: str) -> Path:
    """Return the directory that holds the tests of an installed distribution.

    The environment variable ``TENANTKV_CELERY_SDIST`` or ``TENANTKV_CHANNELS_REDIS_SDIST`` names its source
    distribution where no package index can be reached.

    Raises:
        RuntimeError: it cannot be downloaded.
    """
    home = CACHE / f"{name}-{version(name)}-tests"
    if not (home / "complete").exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as place:
            unpacked = Path(place) / "unpacked"
            _unpack(_archive(name, Path(place)), unpacked, _WANTED[name])
            (unpacked / "complete").touch()
            shutil.rmtree(home, ignore_errors=True)
            try:
                unpacked.rename(home)
            except OSError:  # Another process was faster.
                if not (home / "complete").exists():
                    raise
    (home / "pytest.ini").write_text(_CONFIGURATION)
    return home


def _archive(name: str, directory: Path) -> Path:
    variable = f"TENANTKV_{name.upper().replace('-', '_')}_SDIST"
    given = os.environ.get(variable)
    if given:
        return Path(given)
    wanted = f"{name}=={version(name)}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "--no-deps", "--no-binary", name, "--dest", str(directory), wanted],
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


def _unpack(archive: Path, target: Path, wanted: tuple[str, ...]) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            inside = member.name.partition("/")[2]
            if member.isfile() and inside.startswith(wanted) and ".." not in inside.split("/"):
                path = target / inside
                path.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(member)
                assert content is not None
                path.write_bytes(content.read())
