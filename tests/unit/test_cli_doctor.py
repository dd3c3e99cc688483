"""`tenantkv doctor` without a server: exit codes, scopes, and what is printed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from redis.exceptions import AuthenticationError, InvalidResponse, RedisError

from tenantkv.cli import doctor
from tenantkv.config import Settings
from tenantkv.doctor import FAMILIES, Finding, Scope, audit, check_families
from tenantkv.doctor.facts import Facts
from tenantkv.errors import ConfigurationError


@pytest.mark.parametrize(
    ("severity", "fail_on", "code"),
    [
        *[("ok", "warn", 0), ("warn", "warn", 1), ("fail", "warn", 2)],
        *[("warn", "fail", 0), ("fail", "fail", 2), ("fail", "never", 0)],
    ],
)
def test_exit_codes(severity: str, fail_on: str, code: int) -> None:
    report = doctor.describe([Finding("a.b", severity, "t", "e")])  # type: ignore[arg-type]
    assert doctor.exit_code(report, fail_on) == code


def test_what_servers_say_cannot_act_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    evil = Finding("server.x", "warn", "t\x1b[2J", "e\x07\u202e", "c\r", "r\x9b")
    doctor._print(doctor.describe([evil]), shows_all=False)
    shown = capsys.readouterr().out
    assert "\\x1b[2J" in shown and not any(each in shown for each in "\x1b\x07\r\x9b\u202e")


def scope(answer: Facts | Exception, *families: str, url: str = "redis://10.0.0.1", **options: Path) -> Scope:
    def reads(_settings: Settings, _timeout: float) -> dict[str, Facts | Exception]:
        if isinstance(answer, Exception):
            raise answer
        return {"": answer}

    environ = {"TENANTKV_URL": url, "HOME": "/nonexistent", "XDG_CONFIG_HOME": "/nonexistent"}
    return Scope(environ, families=frozenset(families), reads=reads, path=options.get("path"))


@pytest.mark.parametrize(
    ("error", "title"),
    [
        (RedisError("gone"), "the server cannot be reached"),
        (OSError("gone"), "the server cannot be reached"),
        (AuthenticationError("x"), "the server wants a password, or another one"),
        (InvalidResponse("x"), "what answers is no Redis or Valkey"),
    ],
)
def test_a_server_that_does_not_answer_as_it_should(error: Exception, title: str) -> None:
    found = {each.check: each for each in audit(scope(error, "network"))}
    assert found["network.server"].title == title and found["network.server"].severity == "fail"


def test_a_user_who_may_see_nothing() -> None:
    found = {each.check: each for each in audit(scope(Facts({}, {}, denied=("INFO",)), "network"))}
    assert found["network.server"].severity == "warn"


def test_without_a_keyring_the_server_is_looked_at_all_the_same() -> None:
    found = {each.check: each for each in audit(scope(Facts({"redis_version": "8.8.0"}, {"GET": True})))}
    assert (
        found["identity.keyring"].severity == "fail" and "tenantkv init" in found["identity.keyring"].remedy
    )
    assert found["server.version"].severity == "ok"


def test_the_primaries_of_a_cluster_are_told_of_together() -> None:
    def reads(_settings: Settings, _timeout: float) -> dict[str, Facts | Exception]:
        sound = {
            "redis_version": "8.8.0",
            "role": "master",
            "maxmemory": "5",
            "maxmemory_policy": "noeviction",
        }
        return {
            "a:1": Facts({**sound, "evicted_keys": "1"}, {"GET": True}),
            "b:1": Facts({**sound, "redis_version": "6.0.1"}, {"GET": True}),
            "c:1": Facts({**sound, "role": "slave"}, {"GET": True}),
            "d:1": RedisError("gone"),
        }

    asked = replace(scope(RedisError("x"), "network", "server"), reads=reads)
    found = {each.check: each for each in audit(asked)}
    assert len(found) == len(audit(asked))
    assert found["network.server"].severity == "fail" and "d:1: " in found["network.server"].evidence
    assert found["server.version"].evidence.startswith("b:1: redis 6.0.1") and "(1 of 4 primaries)" in (
        found["server.version"].evidence
    )
    assert found["server.role"].title == "this is a replica" and "c:1" in found["server.role"].evidence
    # Where they differ in evidence alone, each is named.
    assert "a:1: " in found["server.eviction"].evidence and "b:1, c:1: " in found["server.eviction"].evidence


def test_families(tmp_path: Path) -> None:
    assert check_families(["server", "code"]) == {"server", "code"}
    with pytest.raises(ConfigurationError, match="there is no family 'x'"):
        check_families(["x"])
    asked = scope(Facts({"redis_version": "8.8.0"}, {"GET": True}), "libraries", path=tmp_path)
    assert {each.family for each in audit(asked)} == {"libraries"}
    order = [FAMILIES.index(each.family) for each in audit(scope(RedisError("x")))]
    assert order == sorted(order)


def test_a_private_server_is_not_audited() -> None:
    found = audit(scope(AssertionError("asked"), "network", "server", url="memory://"))
    assert [each.check for each in found] == ["network.url"]
