"""The doctor's look at code, files, the environment, git and libraries."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tenantkv import Keyring, Namespace
from tenantkv.doctor.copies import check_copies, walk
from tenantkv.doctor.libraries import check_libraries
from tenantkv.doctor.sources import check_sources
from tenantkv.doctor.sources_table import RULES
from tenantkv.doctor.tenant import Tenant, tenant_of


@pytest.fixture
def tenant() -> Tenant:
    return tenant_of(Namespace(Keyring.generate(os.urandom(96))), lists=False)


def judged(folder: Path, source: str, *, seals: bool = False) -> dict[str, str]:
    (folder / "settings.py").write_text(source)
    return {each.check: each.evidence for each in check_sources(walk(folder), seals=seals)}


UNSAFE = {
    "code.pickle": "import redis, pickle\nvalue = pickle.loads(redis.Redis().get('a'))\n",
    "code.celery_pickle": "app.conf.update(accept_content=['json', 'pickle'])  # celery\n",
    "code.celery_prefix": "broker_transport_options = {'global_keyprefix': 'x'}  # celery\n",
    "code.celery_queue": "CELERY_DEFAULT_QUEUE = 'mine'\n",
    "code.django_cache": "CACHES = {'default': {'BACKEND': 'django.core.cache.backends.redis.RedisCache'}}\n",
    "code.django_sessions": "SESSION_SERIALIZER = 'django.contrib.sessions.serializers.PickleSerializer'\n",
    "code.flask_cache": "from flask_caching import Cache\nconfig = {'CACHE_TYPE': 'RedisCache'}\n",
    "code.flask_sessions": "app.config['SESSION_TYPE'] = 'redis'\n",
    "code.rq": "from rq import Queue\nqueue = Queue(connection=None)\n",
    "code.bare_client": "import redis\nclient = redis.Redis.from_url('redis://')\n",
}


def test_there_is_a_case_for_each_rule() -> None:
    assert UNSAFE.keys() == {rule.check for rule in RULES}


@pytest.mark.parametrize("check", sorted(UNSAFE))
def test_unsafe_settings_are_found(tmp_path: Path, check: str) -> None:
    found = judged(tmp_path, UNSAFE[check])
    assert check in found and found[check].startswith("settings.py:")


@pytest.mark.parametrize(
    "source",
    [
        "import tenantkv\nkv = tenantkv.connect()  # redis\n",
        "app.conf.accept_content = ['json']  # celery\n",
        "CELERY_TASK_DEFAULT_QUEUE = 'mine'\n",
        "CACHES = {'default': {'BACKEND': 'tenantkv.contrib.django.TenantCache'}}\n",
        "CACHES = {'default': {'BACKEND': 'django_redis.cache.RedisCache',"
        " 'OPTIONS': {'SERIALIZER': 'django_redis.serializers.json.JSONSerializer'}}}\n",
        "from flask_caching import Cache\nimport tenantkv\nconfig = {'CACHE_TYPE': 'RedisCache',"
        " 'CACHE_REDIS_HOST': tenantkv.connect(seal=True)}\n",
        "from rq import Queue\nqueue = Queue(serializer='json')\n",
        "SESSION_TYPE = 'filesystem'\n",
        "import pickle\npickle.loads(open('redis').read())\n",
    ],
)
def test_safe_settings_are_left_alone(tmp_path: Path, source: str) -> None:
    assert judged(tmp_path, source).keys() == {"code.settings"}


def test_a_sealing_environment_counts(tmp_path: Path) -> None:
    source = "import tenantkv\nfrom rq import Queue\nqueue = Queue(connection=tenantkv.connect())\n"
    assert "code.rq" in judged(tmp_path, source)
    assert "code.rq" not in judged(tmp_path, source, seals=True)


def test_code_is_never_run_and_may_be_anything(tmp_path: Path) -> None:
    for name, data in {
        "broken.py": b"def redis(:\n",
        "binary.py": b"\x00\xff redis celery",
        "deep.py": b"redis = " + b"(" * 5000 + b")" * 5000,
        "runs.py": b"import redis\nopen('ran', 'w')\nraise SystemExit\n",
    }.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "loop.py").symlink_to("loop.py")
    os.mkfifo(tmp_path / "pipe.py")
    assert {each.check for each in check_sources(walk(tmp_path))} == {"code.settings"}
    assert not (tmp_path / "ran").exists()


def test_other_peoples_code_is_not_looked_at(tmp_path: Path) -> None:
    inside = tmp_path / ".venv" / "lib"
    inside.mkdir(parents=True)
    (inside / "x.py").write_text(UNSAFE["code.pickle"])
    assert {each.check for each in check_sources(walk(tmp_path))} == {"code.settings"}


def copies(
    tenant: Tenant, folder: Path, environ: dict[str, str] | None = None, **options: Path
) -> dict[str, str]:
    found = check_copies(tenant, environ or {}, walk(folder), keyring=options.get("keyring"))
    shown = {each.check: f"{each.severity}: {each.evidence}" for each in found}
    assert tenant.prefix.decode() not in repr(shown)
    return shown


def test_copies_in_the_environment(tenant: Tenant, tmp_path: Path) -> None:
    environ = {
        "OLD_PREFIX": tenant.prefix.decode(),
        "A_KEY": tenant.secrets[0].decode(),
        "TENANTKV_SECRET_KEYRING": tenant.prefix.decode(),
        "OTHER": "x",
    }
    assert copies(tenant, tmp_path, environ)["copies.environment"] == "warn: A_KEY, OLD_PREFIX"


def test_copies_in_files(tenant: Tenant, tmp_path: Path) -> None:
    keyring = tmp_path / "k.json"
    keyring.write_bytes(tenant.prefix)
    assert copies(tenant, tmp_path, keyring=keyring)["copies.files"].startswith("ok")
    (tmp_path / "app.env").write_bytes(b"PREFIX=" + tenant.prefix)
    assert copies(tenant, tmp_path, keyring=keyring)["copies.files"].startswith("fail: app.env")


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


def test_what_was_committed_once_stays_in_the_history(tenant: Tenant, tmp_path: Path) -> None:
    git(tmp_path, "init")
    assert copies(tenant, tmp_path)["copies.history"].startswith("ok")
    (tmp_path / "conf").write_bytes(tenant.prefix)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "oops")
    (tmp_path / "conf").write_text("gone")
    git(tmp_path, "commit", "-am", "out again")
    found = copies(tenant, tmp_path)
    assert found["copies.files"].startswith("ok") and found["copies.history"].startswith("fail: commit ")


def test_a_repository_cannot_have_a_program_started(tenant: Tenant, tmp_path: Path) -> None:
    git(tmp_path, "init")
    (tmp_path / ".gitattributes").write_text("* diff=evil\n")
    (tmp_path / "a").write_text("x")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "a")
    for name in ("diff.evil.command", "diff.evil.textconv", "diff.external", "core.fsmonitor", "core.pager"):
        git(tmp_path, "config", name, f"touch {tmp_path}/started; cat")
    assert copies(tenant, tmp_path)["copies.history"].startswith("ok")
    assert not (tmp_path / "started").exists()


def test_libraries_with_traps() -> None:
    versions = {"redis": "7.4.0", "kombu": "5.6.2", "python-socketio": "5.13.0", "django": "5.2"}
    found = {each.check: each.severity for each in check_libraries(lambda name: versions.get(name, ""))}
    assert found == {
        "libraries.redis": "warn",
        "libraries.kombu": "warn",
        "libraries.python-socketio": "fail",
        "libraries.versions": "ok",
    }
    assert [each.check for each in check_libraries(lambda _: "")] == ["libraries.versions"]
