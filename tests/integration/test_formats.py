"""What ``tenantkv init --format`` writes works in the places that it is for, with the real things."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.servers import RealServer

DJANGO = """
import sys, types
import django.conf
settings = types.ModuleType("settings")
exec(open(sys.argv[1]).read(), settings.__dict__)
caches = settings.CACHES
caches["default"]["LOCATION"] = sys.argv[2]
django.conf.settings.configure(CACHES=caches)
from django.core.cache import cache
cache.set("page", {"title": "hello"}, 60)
assert cache.get("page") == {"title": "hello"}
assert cache.get_many(["page", "other"]) == {"page": {"title": "hello"}}
cache.set("count", 1); assert cache.incr("count") == 2
try:
    cache.clear()
except Exception as error:
    print("clear:", error)
"""


def run(home: Path, *words: str) -> str:
    ours = ("TENANTKV_", "TOOL_", "REDIS_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    environment.update(HOME=str(home), XDG_CONFIG_HOME=str(home / "config"))
    done = subprocess.run(
        [sys.executable, *words], env=environment, cwd=home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_django_settings_make_djangos_own_cache_namespaced(
    shared_server: RealServer, tmp_path: Path
) -> None:
    (tmp_path / "settings.txt").write_text(run(tmp_path, "-m", "tenantkv", "init", "--format", "django"))
    said = run(tmp_path, "-c", DJANGO, str(tmp_path / "settings.txt"), shared_server.url)
    assert "FLUSHDB refused" in said
    keys = shared_server.dump_keys()
    assert len(keys) == 2
    assert all(key[44:] in (b"::1:page", b"::1:count") for key in keys)
