"""redis-py's own tests, from the source distribution of the version that is installed.

Only its ``tests`` directory is unpacked, so that its copy of the package never hides the installed one.
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

# What redis-py's own configuration says, and what its tests need of it, for every version.
_CONFIGURATION = """\
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
timeout = 60
filterwarnings = ignore
markers =
    asyncio
    cp_integration
    experimental
    fixed_client
    multidb_integration
    no_mock_connections
    onlycluster
    onlynoncluster
    pipeline
    redismod
    replica
    ssl
"""


def installed_version() -> str:
    """Return the version of redis-py that this interpreter has."""
    return version("redis")


def obtain() -> Path:
    """Return the directory that holds the ``tests`` of the installed redis-py.

    The environment variable ``TENANTKV_REDIS_PY_SDIST`` names its source distribution where no package
    index can be reached.

    Raises:
        RuntimeError: it cannot be downloaded.
    """
    home = CACHE / f"redis-py-{installed_version()}"
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
    (home / "pytest.ini").write_text(_CONFIGURATION)
    return home


def _archive(directory: Path) -> Path:
    given = os.environ.get("TENANTKV_REDIS_PY_SDIST")
    if given:
        return Path(given)
    wanted = f"redis=={installed_version()}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "--no-deps", "--no-binary", "redis", "--dest", str(directory), wanted],
        capture_output=True,
        text=True,
        check=False,
    )
    found = list(directory.glob("redis-*.tar.gz"))
    if done.returncode or not found:
        raise RuntimeError(
            f"cannot download the source distribution of {wanted} ({done.stderr.strip()[-500:]}); "
            "name it in TENANTKV_REDIS_PY_SDIST"
        )
    return found[0]


def _unpack(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            inside = Path(member.name).parts[1:]
            if inside[:1] == ("tests",) and member.isfile() and ".." not in inside:
                path = target.joinpath(*inside)
                path.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(member)
                assert content is not None
                path.write_bytes(content.read())
