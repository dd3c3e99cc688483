"""The doctor's judgement, without a server."""

from __future__ import annotations

import os
from typing import Any

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from tenantkv import Keyring, Namespace
from tenantkv.config import resolve
from tenantkv.doctor import Finding, accept, verdict
from tenantkv.doctor.advisories_table import ADVISORIES
from tenantkv.doctor.exposure_table import ASKED, EXPOSURES
from tenantkv.doctor.facts import Facts, gather
from tenantkv.doctor.identity import prefix
from tenantkv.doctor.network import check_access, check_url, latency
from tenantkv.doctor.raw import READ_ONLY, RawServer
from tenantkv.doctor.server import check_server, concerns, exposure, parse_version, version
from tenantkv.doctor.tenant import Tenant, holds, tenant_of
from tenantkv.doctor.traces import check_traces

ALL = dict.fromkeys(ASKED, True)
SEALED = Tenant(b"p" * 44, b"c" * 16, (), seals=True)
HIDDEN = Tenant(b"p" * 44, b"c" * 16, (), seals=True, hides=True)
CLEAR = Tenant(b"p" * 44, b"c" * 16, ())


def facts(**info: Any) -> Facts:
    fields = {
        "redis_version": "8.6.9",
        "role": "master",
        "maxmemory": "100",
        "maxmemory_policy": "noeviction",
    }
    return Facts({**fields, "aof_enabled": "1", **info}, ALL)


def by_check(findings: Any) -> dict[str, Finding]:
    found = {each.check: each for each in findings}
    for each in found.values():
        # A finding that is not in order says what follows and what to do.
        assert each.evidence and (each.severity == "ok" or (each.consequence and each.remedy)), each
    return found


@pytest.mark.parametrize(
    ("product", "number", "severity"),
    [
        ("redis", "6.2.5", "fail"),
        ("redis", "6.2.22", "ok"),
        ("redis", "7.0.15", "warn"),  # kept by a distribution
        ("redis", "7.0.14", "fail"),
        ("redis", "7.2.13", "fail"),
        ("redis", "7.2.14", "ok"),
        ("redis", "8.4.2", "fail"),
        ("redis", "8.8.0", "ok"),
        ("redis", "6.0.16", "warn"),
        ("redis", "", "warn"),
        ("redis", "unstable", "warn"),
        ("valkey", "8.1.1", "warn"),
        ("valkey", "8.1.8", "fail"),
        ("valkey", "9.1.2", "ok"),
        ("valkey", "10.0.0", "ok"),
    ],
)
def test_versions(product: str, number: str, severity: str) -> None:
    info = {f"{product}_version": number} | ({"redis_version": "7.2.4"} if product == "valkey" else {})
    assert version(Facts(info, ALL)).severity == severity


def test_each_advisory_ends_with_each_of_its_fixes() -> None:
    for advisory in ADVISORIES:
        assert list(advisory.fixed) == sorted(advisory.fixed)
        for fixed in advisory.fixed:
            assert not concerns(advisory, advisory.product, fixed)
            if fixed[2]:
                assert concerns(advisory, advisory.product, (*fixed[:2], fixed[2] - 1))
        assert not concerns(advisory, "other", (1,))
        assert not concerns(advisory, advisory.product, (99, 0, 0))


def test_versions_are_read_with_patience() -> None:
    assert parse_version("7.2.4-rc1") == (7, 2, 4) and parse_version("v7") == () and parse_version("") == ()


@pytest.mark.parametrize(
    ("tenant", "copies", "names", "logs"),
    [
        (None, "fail", "fail", "warn"),
        (CLEAR, "fail", "fail", "warn"),
        (SEALED, "warn", "warn", "warn"),
        (HIDDEN, "ok", "ok", "ok"),
        (Tenant(b"p", b"c", (), hides=True), "fail", "warn", "ok"),
    ],
)
def test_what_an_exposure_means_depends_on_seals_and_names(
    tenant: Tenant | None, copies: str, names: str, logs: str
) -> None:
    found = by_check(check_server(facts(), tenant))
    assert found["exposure.copies"].severity == copies
    assert found["exposure.names"].severity == names
    assert found["exposure.logs"].severity == logs
    assert found["exposure.service"].severity == "warn"


def test_what_is_not_offered_is_no_exposure() -> None:
    for row in EXPOSURES:
        found = exposure(row, Facts({}, {**ALL, **dict.fromkeys(row.commands, False)}), CLEAR)
        assert found.severity == "ok" and found.title.startswith("not here")
        assert exposure(row, Facts({}, {}), CLEAR).title.startswith("not known")


def test_a_server_that_tells_users_apart_takes_the_edge_off() -> None:
    row = EXPOSURES[0]
    told = Facts({}, ALL, user="anna")
    assert exposure(row, told, CLEAR).severity == "warn"
    assert exposure(row, Facts({}, ALL, user="default"), CLEAR).severity == "fail"
    assert exposure(row, Facts({}, ALL, denied=("SLOWLOG GET",)), CLEAR).severity == "warn"


def test_half_the_commands_missing() -> None:
    half = {name: at % 2 == 0 for at, name in enumerate(ASKED)}
    found = by_check(check_server(Facts({}, {**half, "EVAL": False}), CLEAR))
    assert found["server.commands"].severity == "fail" and "EVAL" in found["server.commands"].evidence
    assert by_check(check_server(Facts({}, {}), CLEAR))["server.commands"].severity == "warn"


@pytest.mark.parametrize(
    ("info", "check", "severity"),
    [
        ({"maxmemory_policy": "allkeys-lru"}, "server.eviction", "warn"),
        ({"maxmemory_policy": "volatile-ttl"}, "server.eviction", "warn"),
        ({}, "server.eviction", "ok"),
        ({"maxmemory": "0"}, "server.eviction", "warn"),
        ({"role": "slave"}, "server.role", "fail"),
        ({"loading": "1"}, "server.role", "fail"),
        ({"aof_enabled": "0"}, "server.persistence", "warn"),
        ({"rdb_last_bgsave_status": "err"}, "server.persistence", "warn"),
        ({"connected_clients": "50", "maxclients": "100"}, "server.clients", "ok"),
        ({"connected_clients": "80", "maxclients": "100"}, "server.clients", "warn"),
        ({"connected_clients": "96", "maxclients": "100"}, "server.clients", "fail"),
        (
            {"connected_clients": "1", "maxclients": "100", "rejected_connections": "3"},
            "server.clients",
            "warn",
        ),
        ({"connected_clients": "nonsense", "maxclients": "-5"}, "server.clients", "ok"),
    ],
)
def test_how_the_server_is_kept(info: dict[str, str], check: str, severity: str) -> None:
    assert by_check(check_server(facts(**info), CLEAR))[check].severity == severity


def test_idle_connections() -> None:
    def idle(seconds: str) -> str:
        told = Facts({}, ALL, settings={"timeout": seconds})
        return by_check(check_server(told, CLEAR))["server.idle"].severity

    assert [idle(each) for each in ("0", "30", "600", "nonsense")] == ["ok", "warn", "ok", "ok"]


@pytest.mark.parametrize(
    ("url", "severity"),
    [
        ("redis://127.0.0.1:6379", "ok"),
        ("redis://[::1]:6379", "ok"),
        ("redis://localhost", "ok"),
        ("unix:///run/redis.sock", "ok"),
        ("redis://redis.example.org", "warn"),
        ("redis://:secret@redis.example.org", "fail"),
        ("rediss://redis.example.org", "ok"),
        ("rediss://redis.example.org?ssl_cert_reqs=none", "fail"),
        ("sentinel://127.0.0.1:26379,10.0.0.1:26379/main", "warn"),
    ],
)
def test_the_way_to_the_server(url: str, severity: str) -> None:
    found = by_check(check_url(resolve(url, environ={})))
    assert found["network.tls"].severity == severity
    assert "secret" not in repr(found)


def test_no_server_is_set() -> None:
    assert by_check(check_url(resolve(environ={})))["network.url"].severity == "fail"
    assert by_check(check_url(resolve("memory://", environ={})))["network.url"].severity == "ok"


def test_who_may_connect() -> None:
    open_to_all = by_check(check_access(facts(), resolve("redis://db", environ={})))
    with_password = by_check(check_access(facts(), resolve("redis://:x@db", environ={})))
    assert (
        open_to_all["network.access"].severity == "warn" and with_password["network.access"].severity == "ok"
    )


def test_latency() -> None:
    assert latency([0.001] * 20).severity == "ok" and latency([0.2] * 20).severity == "warn"
    assert latency([]).severity == "ok"


def test_prefixes_that_can_be_guessed() -> None:
    random_one = Keyring.generate(os.urandom(96)).prefix
    assert prefix(random_one).severity == "ok"
    assert prefix("my-tool-my-tool-").severity == "fail" and prefix("a" * 40).severity == "fail"
    assert prefix("0123456789abcdef0123").severity in ("warn", "fail")
    for shown in (prefix(random_one), prefix("my-tool-my-tool-")):
        assert random_one not in repr(shown) and "my-tool" not in repr(shown)


def test_random_prefixes_never_look_guessable() -> None:
    assert {prefix(Keyring.generate(os.urandom(96)).prefix).severity for _ in range(500)} == {"ok"}


# Traces


def tenant() -> Tenant:
    return tenant_of(Namespace(Keyring.generate(os.urandom(96))), lists=False)


def test_the_prefix_is_found_wherever_it_stands_and_never_shown() -> None:
    who = tenant()
    key = who.prefix + b":user:1"
    slow = [[1, 2, 3, [b"smembers", key], b"addr", b""], [2, 2, 3, [b"\x1b[31mevil", key[:20]], b"", b""]]
    logs = {
        "SLOWLOG GET": slow,
        "PUBSUB CHANNELS": [b"other", key],
        "ACL LOG": [[b"object", key, b"username", b"default"]],
        "FUNCTION LIST WITHCODE": [[b"library_code", b"redis.call('GET', '" + key + b"')"]],
        "COMMANDLOG GET large-request": [],
    }
    found = by_check(check_traces(Facts({}, ALL, logs=logs), who))
    named = ("traces.slow", "traces.channels", "traces.users", "traces.functions")
    assert [found[check].severity for check in named] == ["fail"] * 4
    assert found["traces.slow"].evidence == "SLOWLOG GET: 2 entries (SMEMBERS)"
    assert who.prefix.decode()[:12] not in repr(found) and "evil" not in repr(found)


def test_what_is_sealed_and_hidden_is_less_of_a_loss() -> None:
    logs = {"SLOWLOG GET": [[1, 2, 3, [b"get", b"p" * 44]]]}
    assert by_check(check_traces(Facts({}, ALL, logs=logs), HIDDEN))["traces.slow"].severity == "warn"


def test_nothing_is_found_where_nothing_is() -> None:
    logs = {"SLOWLOG GET": [[1, 2, 3, [b"get", b"other"]]], "PUBSUB CHANNELS": [b"c" * 16 + b":news"]}
    found = by_check(check_traces(Facts({}, ALL, logs=logs), CLEAR))
    assert {each.severity for each in found.values()} == {"ok"}
    assert found["traces.listeners"].evidence == "1 channels of yours among 1"


def test_what_neighbours_can_listen_to() -> None:
    who = tenant()
    key = b"__keyspace@0__:" + who.prefix + b":user:1"
    listed = {"PUBSUB CHANNELS": [b"other", who.channel_prefix + b"news"], "PUBSUB NUMPAT": 2}
    found = by_check(check_traces(Facts({}, ALL, logs=listed, heard=(key, b"__keyevent@0__:set")), who))
    assert found["traces.events"].severity == "fail"
    assert found["traces.events"].evidence == "2 announcements heard, 1 of them with your prefix"
    assert "1 channels of yours among 2; 2 patterns" in found["traces.listeners"].evidence
    assert who.prefix.decode()[:12] not in repr(found)
    for told, severity in (
        ({"notify-keyspace-events": "AKE"}, "fail"),
        ({"notify-keyspace-events": ""}, "ok"),
    ):
        found = by_check(check_traces(Facts({}, ALL, settings=told, heard=()), who))
        assert found["traces.events"].severity == severity
    found = by_check(check_traces(Facts({}, ALL, heard=(b"x",)), HIDDEN))
    assert found["traces.events"].severity == "warn"


@pytest.mark.parametrize(
    "reply", [None, 5, b"x", [], [None], [[]], {b"a": [b"b"]}, [[1, 2, 3, 4]], [[1, 2, 3, [None]]]]
)
def test_replies_of_any_shape(reply: Any) -> None:
    logs = {
        "SLOWLOG GET": reply,
        "PUBSUB CHANNELS": reply if isinstance(reply, list) else [],
        "ACL LOG": reply,
        "PUBSUB NUMPAT": reply,
    }
    assert {each.severity for each in check_traces(Facts({}, ALL, logs=logs), CLEAR)} == {"ok"}


def test_holds_looks_everywhere() -> None:
    assert holds({b"a": [(b"xyNEEDLEz",)]}, b"NEEDLE") and not holds({b"a": 1}, b"NEEDLE")


# Asking


class FakeServer:
    """Answers as told, and remembers what it was asked."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, ...]] = []

    def ask(self, *words: str) -> Any:
        self.asked.append(words)
        return self.answers.get(
            " ".join(words[:2]), self.answers.get(words[0], ResponseError("unknown command"))
        )

    def pings(self, count: int) -> list[float]:
        return [0.001] * count

    def listen(self, seconds: float) -> list[bytes] | None:
        return self.answers.get("PSUBSCRIBE")


def rows(*present: str) -> list[Any]:
    return [[name.lower().encode(), 1] if not present or name in present else None for name in ASKED]


def test_only_what_exists_is_asked_and_only_what_reads() -> None:
    server = FakeServer({"INFO": b"redis_version:7.0.15\r\n", "COMMAND INFO": rows("SLOWLOG", "GET")})
    found = gather(server)
    assert [words[:2] for words in server.asked][-1] == ("SLOWLOG", "GET") and len(server.asked) == 3
    assert found.has("GET") and not found.has("SET") and found.version == "7.0.15"
    everything = FakeServer({"INFO": b"", "COMMAND INFO": rows()})
    gather(everything)
    assert all(words[:2] in READ_ONLY or words[:1] in READ_ONLY for words in everything.asked)


def test_an_acl_that_refuses_is_told() -> None:
    no = NoPermissionError("this user has no permissions")
    found = gather(FakeServer({"INFO": b"", "COMMAND INFO": rows(), "SLOWLOG": no, "ACL": no}))
    assert found.denied == ("SLOWLOG GET", "ACL LOG", "ACL WHOAMI") and found.is_restricted


def test_a_server_that_answers_nonsense() -> None:
    found = gather(FakeServer({"INFO": 5, "COMMAND INFO": [], "ACL": b"x", "CONFIG": b"x"}))
    assert found.commands == {} and found.info == {}
    assert by_check(check_server(found, CLEAR))["server.version"].severity == "warn"


def test_what_is_not_on_the_list_is_never_sent() -> None:
    class Nothing:
        def send_command(self, *words: str) -> None:
            raise RuntimeError("sent")

    for words in (("GET", "x"), ("SLOWLOG", "RESET"), ("ACL", "SETUSER"), ("CONFIG", "SET"), ("SYNC",)):
        with pytest.raises(AssertionError):
            RawServer(Nothing()).ask(*words)


# The whole


def test_accepted_findings_do_not_count() -> None:
    found = [Finding("a.b", "fail", "t", "e"), Finding("a.c", "warn", "t", "e")]
    assert verdict(found) == "fail" and verdict([]) == "ok"
    assert verdict(accept(found, ["a.b"])) == "warn" and verdict(accept(found, ["a.b", "a.c"])) == "ok"


def test_a_tenant_does_not_show_itself() -> None:
    who = tenant()
    assert who.prefix.decode() not in repr(who) and all(
        each.decode() not in repr(who) for each in who.secrets
    )
