"""What `status` compares, judges, keeps and prints, without a server."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tenantkv.cli.status import away, print_report
from tenantkv.cli.status_prometheus import render
from tenantkv.cli.status_source import StateFile
from tenantkv.cli.status_text import broker_rows, lock_rows, queue_rows, server_rows
from tenantkv.errors import ConfigurationError
from tenantkv.ops.status import (
    BrokerQueue,
    BrokerState,
    Change,
    LockState,
    Own,
    QueueState,
    Snapshot,
    Thresholds,
    Trend,
    change,
    parse_thresholds,
)
from tenantkv.ops.status_alarms import judge, severity_of
from tenantkv.ops.status_info import keys_in, read_info, whole_of
from tenantkv.ops.status_look import latency_of, load_of

LOAD = replace(
    load_of({"redis_version": "7.0.15", "run_id": "a"}, 0), memory_limit_bytes=1000, clients_limit=100
)
SEEN = Snapshot(1000.0, latency_of([0.001]), LOAD)


def alarms(
    seen: Snapshot, before: Snapshot | None = None, limits: Thresholds | None = None
) -> dict[str, str]:
    found = judge(seen, change(before, seen), Trend(), limits or Thresholds())
    return {alarm.check: alarm.severity for alarm in found}


@pytest.mark.parametrize(
    ("depth", "severity"), [(999, None), (1000, "warn"), (9999, "warn"), (10_000, "fail"), (10**9, "fail")]
)
def test_depths(depth: int, severity: str | None) -> None:
    seen = replace(SEEN, queues=(QueueState("q", True, ready=depth),))
    assert alarms(seen).get("queue_depth") == severity


@pytest.mark.parametrize(("used", "severity"), [(899, None), (900, "warn"), (979, "warn"), (980, "fail")])
def test_memory(used: int, severity: str | None) -> None:
    assert alarms(replace(SEEN, load=replace(LOAD, memory_bytes=used))).get("memory") == severity
    unlimited = replace(LOAD, memory_bytes=used, memory_limit_bytes=0)
    assert "memory" not in alarms(replace(SEEN, load=unlimited))


@pytest.mark.parametrize(
    ("evicted", "rejected", "expected"),
    [(0, 0, {}), (1, 0, {"evicted": "warn"}), (10, 1, {"evicted": "fail", "rejected": "warn"})],
)
def test_counters_count_since_the_look_before(evicted: int, rejected: int, expected: dict[str, str]) -> None:
    before = replace(SEEN, load=replace(LOAD, evicted=500, rejected=5))
    seen = replace(SEEN, time=1010.0, load=replace(LOAD, evicted=500 + evicted, rejected=5 + rejected))
    assert alarms(seen, before) == expected
    # Nothing to compare with, or another server: nothing is new.
    assert alarms(seen) == {} and alarms(replace(seen, load=replace(seen.load, run_id="b")), before) == {}


def test_clients_and_blocked_ones() -> None:
    seen = replace(SEEN, load=replace(LOAD, clients=96, blocked_clients=50))
    assert alarms(seen) == {"clients": "fail", "blocked": "warn"}


def test_a_queue_that_grows_look_after_look() -> None:
    trend, limits = Trend(), Thresholds()
    for depth in (10, 50, 90, 120):
        trend.note({"q": depth})
    assert trend.growth("q") == 110
    seen = replace(SEEN, queues=(QueueState("q", True, ready=120),))
    assert [alarm.check for alarm in judge(seen, Change(), trend, limits)] == ["queue_growth"]
    trend.note({"q": 119})
    assert trend.growth("q") == 0 and trend.growth("unknown") == 0
    for _ in range(50):
        trend.note({"q": 119})
    assert trend.growth("q") == 0 and len(trend.depths["q"]) == 12


def test_queues_of_celery_count_like_others() -> None:
    trend, limits = Trend(), parse_thresholds(["queue-age=60,600"])
    for depth in (1000, 1100, 1200, 1300):
        queues = (BrokerQueue("celery", depth, 90.0, lost=2), BrokerQueue("small", 1))
        broker = BrokerState("celery", queues, unacked=20_000, lapsed=3)
        seen = replace(SEEN, brokers=(broker,), queues=(QueueState("celery", True, ready=5),))
        trend.note(seen.depths)
    assert seen.depths == {"celery": 5, "celery:celery": 1300, "celery:small": 1}
    found = [(each.check, each.severity, each.subject) for each in judge(seen, Change(), trend, limits)]
    assert found == [
        ("unacked", "fail", "celery"),
        ("queue_depth", "warn", "celery:celery"),
        ("queue_age", "warn", "celery:celery"),
        ("queue_growth", "warn", "celery:celery"),
    ]
    rows = broker_rows(seen.brokers, {"celery:celery": 100})
    assert rows[1:] == [
        ("celery", "celery", "1300", "+100", "", "", "90 s", "2"),
        ("celery", "small", "1", "", "", "", "-", "0"),
        ("celery", "", "", "", "20000", "3", "", ""),
    ]
    text = render(seen)
    assert 'tenantkv_broker_messages{broker="celery",queue="celery"} 1300' in text
    assert 'tenantkv_broker_unacked{broker="celery"} 20000' in text


def test_the_serious_come_first() -> None:
    seen = replace(SEEN, load=replace(LOAD, memory_bytes=950), queues=(QueueState("q", True, ready=20_000),))
    found = judge(seen, Change(), Trend(), Thresholds())
    assert [alarm.severity for alarm in found] == ["fail", "warn"] and severity_of(found) == "fail"
    assert severity_of(found[1:]) == "warn" and severity_of([]) == "ok"


def test_thresholds_are_set_by_name() -> None:
    limits = parse_thresholds(["queue-depth=5,", "memory=,0.5", "latency=0,0"])
    assert limits.queue_depth == (5.0, None) and limits.memory == (None, 0.5) and limits.latency == (0.0, 0.0)
    assert limits.evicted == Thresholds().evicted


@pytest.mark.parametrize("word", ["depth=1", "queue-depth=x", "memory=-1", "memory=nan", "memory=inf", "="])
def test_thresholds_without_meaning(word: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_thresholds([word])


def test_hit_rate_and_commands() -> None:
    before = replace(SEEN, load=replace(LOAD, hits=100, misses=100, commands=50))
    seen = replace(SEEN, time=1002.0, load=replace(LOAD, hits=130, misses=110, commands=150))
    found = change(before, seen)
    assert (found.hit_rate, found.commands_per_second, found.seconds) == (0.75, 50.0, 2.0)
    assert change(seen, before) == Change()


# INFO


def test_info_of_any_shape() -> None:
    text = b"# Server\r\nredis_version:7\r\nbad\r\n:empty\r\ndb0:keys=12,expires=3\r\n"
    text += b"used_memory:-5\r\n\xff:\xff\r\n"
    info = read_info(text)
    assert info["redis_version"] == "7" and keys_in(info, 0) == 12 and keys_in(info, 1) == 0
    assert whole_of(info, "used_memory") == 0 and whole_of({"a": "9" * 30}, "a") == 0
    assert read_info(None) == {} and read_info(5) == {} and load_of({}, 0).version == ""


def test_percentiles() -> None:
    found = latency_of([index / 100 for index in range(100)])
    assert (found.median, found.p95, found.p99, found.longest) == (0.5, 0.95, 0.99, 0.99)
    assert latency_of([]).median == 0.0


# The state file


def test_the_state_is_kept(tmp_path: Path) -> None:
    state = StateFile(str(tmp_path / "s.json"))
    trend = Trend()
    trend.note({"q": 7})
    state.save(replace(SEEN, load=replace(LOAD, evicted=9)), trend)
    before, known = state.load()
    assert before is not None and before.load.evicted == 9 and known.depths == {"q": [7]}
    assert (tmp_path / "s.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["s.json"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"time": 1}', '{"load": {}, "depths": {}, "time": 1}']
)
def test_a_damaged_state_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(text)
    before, trend = StateFile(str(path)).load()
    assert before is None and trend.depths == {}
    assert StateFile(str(tmp_path / "none")).load()[0] is None


def test_a_state_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot write"):
        StateFile(str(tmp_path / "missing" / "s.json")).save(SEEN, Trend())


# What is printed

HOSTILE = 'evil"\\\n\x1b[2J{}\udcff'
FULL = replace(
    SEEN,
    own=Own(3, 300, 1, "registry", 3),
    queues=(QueueState(HOSTILE, True, ready=3, oldest_age=1.5, is_paused=True), QueueState("gone", False)),
    locks=(LockState("lock", HOSTILE, 1, "held", 5.0, 7, "abcd1234", True), LockState("semaphore", "free")),
)


def test_prometheus_reads_it() -> None:
    families = {family.name: family for family in text_string_to_metric_families(render(FULL, seconds=0.01))}
    (paused,) = families["tenantkv_queue_paused"].samples
    assert paused.value == 1 and paused.labels["queue"].startswith('evil"\\\n\x1b[2J{}')
    assert {family.type for family in families.values()} == {"gauge", "counter"}
    messages = {s.labels["state"]: s.value for s in families["tenantkv_queue_messages"].samples}
    assert messages["ready"] == 3 and len(messages) == 6
    assert families["tenantkv_up"].samples[0].value == 1


def test_prometheus_of_a_server_that_is_away() -> None:
    assert [line for line in render(None).splitlines() if line[0] != "#"] == ["tenantkv_up 0"]


def test_tables_for_people() -> None:
    assert queue_rows([]) == [] and lock_rows([]) == []
    rows = queue_rows(FULL.queues, {HOSTILE: 5})
    assert rows[1][2] == "+5" and rows[1][-1] == "paused" and rows[2][-1] == "nothing there"
    assert len(lock_rows(FULL.locks, shows_free=False)) == 2
    told = dict(row for row in server_rows(FULL, Change()))
    assert "3, about 300 B" in told["own keys"] and told["memory"].startswith("0 B")
    assert "not counted: why" in dict(server_rows(replace(SEEN, own_note="why"), Change()))["own keys"]


def test_everything_is_json() -> None:
    assert math.isfinite(json.loads(json.dumps(latency_of([0.1]).median)))


def test_a_server_that_is_away_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(away("the server: \x1b[2Jgone"))
    assert capsys.readouterr().out == "fail: the server: \\x1b[2Jgone\n"
