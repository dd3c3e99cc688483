"""``tenantkv doctor`` as a process, on real servers: what it finds, and that it changes and shows nothing."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import sockets
from tests.cli_program import Program, check
from tests.integration.test_tls import Terminator, certificate
from tests.operating import SCHEMAS, help_has_an_example, report
from tests.servers import RealServer, start_server
from tests.topologies import start_cluster

QUICK = ("--no-files",)


@pytest.fixture
def program(tmp_path: Path, shared_server: RealServer) -> Program:
    return Program(tmp_path, shared_server.url)


def severities(found: Any) -> dict[str, str]:
    return {each["check"]: each["severity"] for each in found["findings"]}


def test_a_shared_server_as_a_stranger_sees_it(tmp_path: Path, any_shared_server: RealServer) -> None:
    program = Program(tmp_path, any_shared_server.url)
    found = report(program, "doctor", *QUICK, code=2)
    seen = severities(found)
    assert found["severity"] == "fail"
    assert seen["exposure.copies"] == seen["exposure.users"] == "fail"
    # Renamed there, and found without running them.
    assert seen["exposure.names"] == seen["exposure.monitor"] == seen["exposure.tracking"] == "ok"
    assert seen["server.eviction"] == seen["network.access"] == seen["identity.values"] == "warn"
    assert seen["server.commands"] == seen["identity.keyring"] == seen["identity.prefix"] == "ok"
    assert {check for check, each in seen.items() if check.startswith("traces.") and each != "ok"} == set()
    (version,) = [each for each in found["findings"] if each["check"] == "server.version"]
    assert (
        any_shared_server.version in version["evidence"] and any_shared_server.product in version["evidence"]
    )


def test_seals_and_hidden_names_make_the_difference(tmp_path: Path, shared_server: RealServer) -> None:
    program = Program(tmp_path, shared_server.url, {"seal": "yes", "names": "hidden"})
    seen = severities(report(program, "doctor", *QUICK, code=1))
    assert "fail" not in seen.values() and seen["exposure.copies"] == "ok"


def test_for_people(program: Program) -> None:
    done = program.run("doctor", *QUICK)
    text = done.stdout.decode()
    assert done.returncode == 2 and "neighbours can copy the whole database" in text
    assert text.count("seen: ") == text.count("so:   ") == text.count("do:   ") > 4
    assert "[server.role]" not in text and "\x1b" not in text
    assert "[server.role]" in program.run("doctor", *QUICK, "--all").stdout.decode()


def test_for_continuous_integration(program: Program) -> None:
    found = report(program, "doctor", *QUICK, "--only", "exposure", "--accept", "exposure.copies",
                   "--accept", "exposure.users", code=1)  # fmt: skip
    assert found["counts"]["accepted"] == 2 and found["severity"] == "warn"
    assert {each["check"].partition(".")[0] for each in found["findings"]} == {"exposure"}
    assert program.run("doctor", *QUICK, "--fail-on", "never").returncode == 0
    assert program.run("doctor", *QUICK, "--only", "nonsense").returncode == 3


def test_nothing_is_changed_and_only_reading_commands_are_sent(
    tmp_path: Path, open_server: RealServer
) -> None:
    program = Program(tmp_path, open_server.url)
    with program.connect() as kv:
        kv.set("a", "1")
        kv.rpush("list", "x")
    before = open_server.dump()
    sent: list[dict[str, Any]] = []
    with open_server.operator().monitor() as monitor:
        monitor.connection.settimeout = None
        done = program.run("doctor", *QUICK)
        open_server.operator().echo("the end")
        for command in monitor.listen():
            if "the end" in command["command"]:
                break
            sent.append(command)
    assert done.returncode == 2 and open_server.dump() == before
    names = {" ".join(each["command"].split(" ")[:2]).upper() for each in sent}
    allowed = {
        *("PING", "INFO EVERYTHING", "PUBSUB CHANNELS", "PUBSUB SHARDCHANNELS", "SLOWLOG GET", "ACL LOG"),
        *(
            "PUBSUB NUMPAT",
            "PSUBSCRIBE __KEY*@*__:*",
            "ACL WHOAMI",
            "FUNCTION LIST",
            "CONFIG GET",
            "COMMANDLOG GET",
            "CLIENT SETINFO",
            "HELLO 2",
        ),
    }
    assert {name for name in names if not name.startswith("COMMAND INFO")} <= allowed and len(names) > 6
    # Not a part of it, as a pattern or otherwise.
    assert not any(program.ring.prefix[:12] in each["command"] for each in sent)


@pytest.fixture
def slow_log(open_server: RealServer) -> Iterator[None]:
    (before,) = open_server.operator().config_get("slowlog-log-slower-than").values()
    open_server.command("CONFIG", "SET", "slowlog-log-slower-than", "0")
    yield
    open_server.command("CONFIG", "SET", "slowlog-log-slower-than", before)
    open_server.operator().slowlog_reset()


@pytest.mark.usefixtures("slow_log")
def test_names_in_logs_and_functions_are_found(tmp_path: Path, open_server: RealServer) -> None:
    program = Program(tmp_path, open_server.url)
    with program.connect() as kv:
        kv.set("a", "1")
        listener = kv.pubsub()
        listener.subscribe("news")
        listener.get_message(timeout=2)
        code = f"#!lua name=lib\nredis.register_function('f', function() return '{program.ring.prefix}' end)"
        open_server.operator().function_load(code)
        found = report(program, "doctor", *QUICK, "--only", "traces", code=2)
        listener.close()
    seen = severities(found)
    assert seen["traces.slow"] == seen["traces.functions"] == "fail"
    assert seen["traces.channels"] == seen["traces.listeners"] == "ok"
    (slow,) = [each for each in found["findings"] if each["check"] == "traces.slow"]
    assert "SET" in slow["evidence"]


def test_announcements_of_changed_keys_are_heard(tmp_path: Path) -> None:
    server = start_server(extra_config={"notify-keyspace-events": "KA", "rename-command": ['CONFIG ""']})
    program = Program(tmp_path, server.url)
    stop = threading.Event()

    def write() -> None:
        with program.connect() as kv:
            while not stop.wait(0.02):
                kv.set("a", "1")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = report(program, "doctor", *QUICK, "--only", "traces", code=2)
    finally:
        stop.set()
        writer.join()
        server.stop()
    (events,) = [each for each in found["findings"] if each["check"] == "traces.events"]
    assert events["severity"] == "fail" and "0 of them" not in events["evidence"]


@pytest.mark.topology
def test_every_primary_of_a_cluster_is_looked_at(tmp_path: Path) -> None:
    with start_cluster("shared") as cluster:
        last = cluster.nodes[-1]
        program = Program(tmp_path, f"redis+cluster://127.0.0.1:{cluster.nodes[0].port}")
        # One of them alone has a prefix of ours in its code.
        code = f"#!lua name=lib\nredis.register_function('f', function() return '{program.ring.prefix}' end)"
        last.operator().function_load(code)
        found = report(program, "doctor", *QUICK, code=2)
        by_check = {each["check"]: each for each in found["findings"]}
        assert len(by_check) == len(found["findings"])
        functions = by_check["traces.functions"]
        assert functions["severity"] == "fail"
        assert f"127.0.0.1:{last.port}: " in functions["evidence"]
        assert f":{cluster.nodes[0].port}" not in functions["evidence"]
        assert by_check["server.version"]["evidence"].endswith("(all of 3 primaries)")
        last.kill()
        found = report(program, "doctor", *QUICK, "--timeout", "2", code=2)
        (away,) = [each for each in found["findings"] if each["check"] == "network.server"]
        assert f"127.0.0.1:{last.port}: " in away["evidence"] and "(1 of 3 primaries)" in away["evidence"]


def test_a_server_with_users(tmp_path: Path, open_server: RealServer) -> None:
    open_server.operator().execute_command(
        "ACL SETUSER anna on >word ~anna:* +@all -@admin -@dangerous +info"
    )
    program = Program(tmp_path, f"unix://anna:word@{open_server.socket_path}")
    found = report(program, "doctor", *QUICK, code=None)
    seen = severities(found)
    assert seen["network.access"] == "ok" and "fail" not in {seen["exposure.copies"], seen["exposure.names"]}
    program.environ["TENANTKV_URL"] = f"unix://anna:wrong@{open_server.socket_path}"
    seen = severities(report(program, "doctor", *QUICK, code=2))
    assert seen["network.server"] == "fail" and "server.version" not in seen


def test_a_password_that_is_missing(tmp_path: Path) -> None:
    server = start_server()
    try:
        server.command("CONFIG", "SET", "requirepass", "word")
        program = Program(tmp_path, server.url)
        found = report(program, "doctor", *QUICK, code=2)
        (finding,) = [each for each in found["findings"] if each["check"] == "network.server"]
        assert "password" in finding["title"]
    finally:
        server.stop()


def test_tls(tmp_path: Path, shared_server: RealServer) -> None:
    cert, key = certificate(tmp_path)
    terminator = Terminator(shared_server.socket_path, cert, key)
    program = Program(tmp_path, f"rediss://127.0.0.1:{terminator.port}?ssl_ca_certs={cert}")
    seen = severities(report(program, "doctor", *QUICK, code=2))
    assert seen["network.tls"] == "ok" and seen["server.role"] == "ok"
    program.environ["TENANTKV_URL"] = f"rediss://127.0.0.1:{terminator.port}"
    assert severities(report(program, "doctor", *QUICK, code=2))["network.server"] == "fail"


def test_no_server(program: Program) -> None:
    program.environ["TENANTKV_URL"] = "redis://127.0.0.1:1"
    seen = severities(report(program, "doctor", *QUICK, code=2))
    assert seen["network.server"] == "fail" and seen["identity.keyring"] == "ok"
    del program.environ["TENANTKV_URL"]
    assert severities(report(program, "doctor", *QUICK, code=2))["network.url"] == "fail"
    program.environ["TENANTKV_URL"] = "ftp://secret:word@x"
    done = program.run("doctor", *QUICK)
    assert done.returncode == 3 and b"word" not in done.stderr


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 64, b""])
def test_the_wrong_server(program: Program, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(1000)
                    peer.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        program.environ["TENANTKV_URL"] = f"redis://127.0.0.1:{listener.getsockname()[1]}"
        found = report(program, "doctor", *QUICK, "--timeout", "2", code=2)
        sockets.end(listener)
    assert severities(found)["network.server"] == "fail"


def test_half_the_commands_missing(tmp_path: Path) -> None:
    gone = ["COMMAND", "SLOWLOG", "PUBSUB", "ACL", "FUNCTION", "LATENCY", "EVAL", "MEMORY"]
    server = start_server(extra_config={"rename-command": [f'{name} ""' for name in gone]})
    try:
        program = Program(tmp_path, server.url)
        seen = severities(report(program, "doctor", *QUICK, code=None))
        assert seen["server.commands"] == "warn" and seen["server.role"] == "ok"
    finally:
        server.stop()


def test_a_keyring_that_others_can_read(program: Program) -> None:
    (program.home / "k.json").chmod(0o644)
    found = report(program, "doctor", *QUICK, code=2)
    (finding,) = [each for each in found["findings"] if each["check"] == "identity.keyring"]
    assert finding["severity"] == "fail" and "0644" in finding["evidence"]


def test_the_project_around(program: Program) -> None:
    (program.home / "settings.py").write_text("SESSION_SERIALIZER = 'x.PickleSerializer'\n")
    (program.home / "notes.txt").write_text(f"prefix: {program.ring.prefix}\n")
    program.environ["COPY"] = program.ring.prefix
    seen = severities(report(program, "doctor", "--only", "code,copies", code=2))
    assert seen["code.django_sessions"] == seen["copies.files"] == "fail"
    assert seen["copies.environment"] == "warn"


def test_watching_tells_what_changes(program: Program) -> None:
    watching = program.start(
        *("doctor", "--no-files", "--watch", "0.2", "--json", "--only", "identity"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert watching.stdout is not None
    try:
        first = json.loads(watching.stdout.readline())
        check(first, SCHEMAS["doctor"], "doctor")
        (program.home / "k.json").chmod(0o666)
        while severities(found := json.loads(watching.stdout.readline()))["identity.keyring"] == "ok":
            pass
        assert found["severity"] == "fail" and severities(first)["identity.keyring"] == "ok"
    finally:
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=20) == 130


def test_help() -> None:
    help_has_an_example("doctor")
