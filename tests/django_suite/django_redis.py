"""django-redis's own API tests, from its source distribution, against our backend.

``python -m tests.django_suite.django_redis URL RESULT`` runs them in this process and writes JSON. Its
conftest is left out, as it starts a matrix of settings; ours has the two fixtures that are needed.
"""

from __future__ import annotations

import json
import sys
import tarfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sdists import CACHE, archive

VERSION = "7.0.0"
FILES = ("test_backend.py", "test_backend_sorted_sets.py", "test_session.py", "settings_wrapper.py")

#: Test -> why it does not hold here. All others pass.
EXEMPTIONS = {
    "test_set_call_empty_pipeline": "is about the commands that django-redis's own client sends",
    "test_delete_pattern_with_custom_count": "is about django-redis's own client, which is mocked",
    "test_delete_pattern_with_settings_default_scan_count": "the same",
    "test_primary_replica_switching": "replicas are found by Sentinel or a Cluster, and not named",
    "test_primary_replica_switching_with_index": "the same",
    "test_close_client": "is about django-redis's own client, which is mocked",
    "test_close_with_signal_parameter": "the same; close() takes the parameter",
    "test_hash_key_structure_in_redis": "where a hash lies is not what make_key() says",
    "test_lock": "asks for a cache key of the lock's name: locks lie elsewhere, so that clear() frees none",
    "test_lock_not_blocking": "the same",
    "test_lock_released_by_thread": "the lock that the test before leaves",
}


LOCKS = ("test_lock", "test_lock_not_blocking", "test_lock_released_by_thread")


def obtain() -> Path:
    """Return the directory with django-redis's tests; ``TENANTKV_DJANGO_REDIS_SDIST`` may name the sdist.

    Raises:
        RuntimeError: it cannot be downloaded.
    """
    home = CACHE / f"django-redis-{VERSION}"
    if not (home / "tests" / "test_session.py").exists():
        (home / "tests").mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive("django-redis", VERSION, home, "TENANTKV_DJANGO_REDIS_SDIST")) as tar:
            for member in tar:
                parts = Path(member.name).parts
                if len(parts) == 3 and parts[1] == "tests" and parts[2] in FILES:
                    content = tar.extractfile(member)
                    assert content is not None
                    # Its package is called like ours.
                    text = content.read().replace(b"from tests.settings_wrapper", b"from settings_wrapper")
                    (home / "tests" / parts[2]).write_bytes(text)
    return home / "tests"


class Plugin:
    """Fixtures that django-redis's tests ask for, and a list of how they ended."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}

    @pytest.fixture
    def cache(self) -> Iterator[Any]:
        from django.core.cache import cache

        yield cache
        cache.clear()
        from django.core.cache import caches

        for alias in ("sample", "with_prefix"):
            caches[alias].clear()

    @pytest.fixture
    def settings(self) -> Iterator[Any]:
        from settings_wrapper import SettingsWrapper  # type: ignore[import-not-found]

        wrapper = SettingsWrapper()
        yield wrapper
        wrapper.finalize()

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        # These leave a lock behind, or wait for it: test_django.py has tests of locks in their place.
        items[:] = [item for item in items if item.name not in LOCKS]

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            before = self.outcomes.get(report.nodeid)
            if before in (None, "passed"):
                self.outcomes[report.nodeid] = report.outcome


def main() -> int:
    """Run them."""
    url, result = sys.argv[1:3]
    tests = obtain()
    sys.path.insert(0, str(tests))
    # Only classes of it are asked for by the tests.
    try:
        import msgpack  # noqa: F401
    except ImportError:
        sys.modules["msgpack"] = types.ModuleType("msgpack")
    from django.conf import settings

    ours = {"BACKEND": "tenantkv.contrib.django.TenantCache", "LOCATION": url}
    options = {"registry": True, "allow_forever": True}
    settings.configure(
        SECRET_KEY="django_tests_secret_key",
        CACHES={
            "default": {**ours, "OPTIONS": options},
            "sample": {**ours, "OPTIONS": {**options, "name": "sample"}},
            "with_prefix": {**ours, "KEY_PREFIX": "test-prefix", "OPTIONS": options},
            "doesnotexist": {**ours, "LOCATION": "redis://127.0.0.1:1"},
        },
        INSTALLED_APPS=[f"django.contrib.{name}" for name in ("auth", "contenttypes", "sessions")],
        USE_TZ=False,
    )
    import django

    django.setup()
    from tenantkv.contrib.django.backend import Clients

    # They ask of what class it is.
    Clients._serializer = None  # type: ignore[attr-defined]
    Clients._has_compression_enabled = lambda self: False  # type: ignore[attr-defined]
    plugin = Plugin()
    words = ["-q", "-p", "no:cacheprovider", "-p", "no:valkey", "--confcutdir", str(tests), "--tb=short"]
    (tests / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    words += ["-c", str(tests / "pytest.ini"), *sys.argv[3:]]
    pytest.main([*words, *(str(tests / name) for name in FILES[:3])], plugins=[plugin])
    Path(result).write_text(json.dumps(plugin.outcomes, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
