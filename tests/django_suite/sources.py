"""Django's own tests, from the source distribution of the version that is installed."""

from __future__ import annotations

from pathlib import Path

import django

from tests import sdists

_WANTED = ("cache", "sessions_tests", "template_tests", "templates", "urls.py")


def obtain() -> Path:
    """Return the ``tests`` directory of the installed Django.

    The environment variable ``TENANTKV_DJANGO_SDIST`` names its source distribution where no package
    index can be reached.

    Raises:
        RuntimeError: it cannot be downloaded.
    """
    home = sdists.obtain(
        "django",
        django.__version__,
        lambda inside: inside[:1] == ("tests",) and inside[1:2] != () and inside[1] in _WANTED,
        home=f"django-{django.__version__}",
        variable="TENANTKV_DJANGO_SDIST",
    )
    return home / "tests"
