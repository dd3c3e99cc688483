"""``python -m tests.django_suite.run URL RESULT``: run Django's tests on a server, write JSON.

The keyring comes from the environment, as for any program of ours.
"""

from __future__ import annotations

import json
import os
import sys
import unittest
from pathlib import Path
from typing import Any

from tests.django_suite.sources import obtain


def set_up(tests: Path) -> None:
    """Make of this process what Django's runtests.py makes of its own, as far as these tests need it."""
    from django.conf import settings

    contrib = ("contenttypes", "auth", "sites", "sessions", "messages", "admin.apps.SimpleAdminConfig")
    middleware = ("sessions.middleware.SessionMiddleware", "auth.middleware.AuthenticationMiddleware")
    settings.configure(
        DATABASES={
            alias: {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
            for alias in ("default", "other")
        },
        SECRET_KEY="django_tests_secret_key",
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        INSTALLED_APPS=[
            *(f"django.contrib.{name}" for name in contrib),
            "django.contrib.staticfiles",
            "cache",
            "sessions_tests",
        ],
        MIDDLEWARE=[f"django.contrib.{name}" for name in middleware],
        ROOT_URLCONF="urls",
        STATIC_URL="static/",
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "DIRS": [str(tests / "templates")],
                "APP_DIRS": True,
            }
        ],
        LANGUAGE_CODE="en",
        SITE_ID=1,
        USE_TZ=False,
        CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
    )
    import django

    django.setup()


class Result(unittest.TextTestResult):
    """Remembers which tests passed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.passed: list[str] = []

    def addSuccess(self, test: Any) -> None:
        super().addSuccess(test)
        self.passed.append(test.id())


def main() -> int:
    """Run all, and write who passed, failed and was skipped."""
    url, result_path = sys.argv[1:3]
    os.environ["SUITE_URL"] = url
    tests = obtain()
    sys.path.insert(0, str(tests))
    set_up(tests)
    from django.test.runner import DiscoverRunner

    class Runner(DiscoverRunner):
        def run_checks(self, databases: Any) -> None:
            """Leave out the system checks, which ask for a whole site."""

        def get_resultclass(self) -> Any:
            return Result

        def suite_result(self, suite: Any, result: Any, **kwargs: Any) -> int:
            found = {
                "passed": result.passed,
                "failed": {test.id(): text for test, text in [*result.failures, *result.errors]},
                "skipped": {test.id(): reason for test, reason in result.skipped},
            }
            Path(result_path).write_text(json.dumps(found, indent=1))
            return len(found["failed"])

    labels = sys.argv[3:] or ["tests.django_suite.suite"]
    return int(bool(Runner(verbosity=1, interactive=False).run_tests(labels)))


if __name__ == "__main__":
    sys.exit(main())
