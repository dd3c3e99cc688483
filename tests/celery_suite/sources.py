"""The tests of Celery, kombu and channels_redis, from the source distributions of the installed versions.

Only the tests are unpacked, so that no copy of a package hides the installed one.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from tests import sdists

#: Distribution -> what of it is unpacked.
_WANTED = {
    "celery": ("t/integration/", "t/__init__.py", "t/canvas_helpers.py", "t/skip.py"),
    "channels-redis": ("tests/",),
    "kombu": ("t/integration/", "t/__init__.py", "t/skip.py", "t/mocks.py"),
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
    env
    flaky
    patched_environ
    timeout
"""


def obtain(name: str) -> Path:
    """Return the directory that holds the tests of an installed distribution.

    The environment variable ``TENANTKV_CELERY_SDIST``, ``TENANTKV_CHANNELS_REDIS_SDIST`` or
    ``TENANTKV_KOMBU_SDIST`` names its source distribution where no package index can be reached.

    Raises:
        RuntimeError: it cannot be downloaded.
    """
    wanted = _WANTED[name]
    home = sdists.obtain(
        name,
        version(name),
        lambda inside: "/".join(inside).startswith(wanted),
        home=f"{name}-{version(name)}-tests",
        variable=f"TENANTKV_{name.upper().replace('-', '_')}_SDIST",
    )
    (home / "pytest.ini").write_text(_CONFIGURATION)
    return home
