"""redis-py's own tests, from the source distribution of the version that is installed.

Only its ``tests`` directory is unpacked, so that its copy of the package never hides the installed one.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from tests import sdists

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
    home = sdists.obtain(
        "redis",
        installed_version(),
        lambda inside: inside[:1] == ("tests",),
        home=f"redis-py-{installed_version()}",
        variable="TENANTKV_REDIS_PY_SDIST",
    )
    (home / "pytest.ini").write_text(_CONFIGURATION)
    return home
