"""The cache's parts that need no server: settings, breaker, near store, single-flight, keys, counters."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantkv.cache import near as near_module
from tenantkv.cache.breaker import Breaker
from tenantkv.cache.flights import Flights
from tenantkv.cache.memo import Memo
from tenantkv.cache.near import NearStore
from tenantkv.cache.sentinels import FOREVER, MISS
from tenantkv.cache.settings import CacheOptions, CacheSettings, Near
from tenantkv.cache.stats import COUNTERS, CacheStats
from tenantkv.errors import ConfigurationError
from tenantkv.ops.cache_entry import FOREVER_MS, Entry
from tenantkv.ops.cache_names import Names

BAD: list[dict[str, Any]] = [
    *({"ttl": ttl} for ttl in (0, -1, math.nan, None, "60", True)),
    *({"stale": stale} for stale in (-1, math.nan, math.inf, None)),
    *({"jitter": jitter} for jitter in (-0.1, 1, math.nan)),
    *({"lease": lease} for lease in (0, math.inf, 3601)),
    *({"wait": wait} for wait in (-1, math.nan)),
    *({"timeout": timeout} for timeout in (0, -1, math.nan)),
    *({"negative": negative} for negative in (0, math.nan)),
    {"early": -1},
    {"largest_bytes": 0},
    {"codec": "yaml"},
    {"on_outage": "panic"},
    {"ttl": 100, "longest_ttl": 99},
    {"longest_ttl": math.inf},
]


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_bad_settings_are_refused(bad):
    with pytest.raises(ConfigurationError):
        CacheSettings(**bad)


def test_settings_and_their_types_agree():
    assert set(CacheOptions.__annotations__) == set(CacheSettings.__slots__)
    assert CacheSettings(ttl=FOREVER).ttl == math.inf
    for bad in ({"entries": 0}, {"largest_bytes": 0}, {"staleness": 0}, {"staleness": math.nan}):
        with pytest.raises(ConfigurationError):
            Near(**bad)


def test_miss_is_false_and_itself():
    assert not MISS and repr(MISS) == "MISS"


# The breaker


def test_the_breaker_lets_one_through_in_each_pause():
    now = [0.0]
    breaker = Breaker(clock=lambda: now[0], uniform=lambda: 1.0)
    assert not breaker.blocks() and not breaker.is_open
    breaker.fail()
    assert breaker.is_open and breaker.blocks() and breaker.remaining() == 0.5
    now[0] = 0.5
    assert not breaker.blocks() and breaker.blocks()
    for pause in (1.0, 2.0, 4.0, 5.0, 5.0):
        breaker.fail()
        assert breaker.remaining() == pause
        now[0] += pause
        assert not breaker.blocks()
    breaker.close()
    assert not breaker.blocks() and breaker.remaining() == 0 and breaker.opened == 1
    breaker.fail()
    assert breaker.remaining() == 0.5 and breaker.opened == 2


# The near store


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(near_module, "_monotonic", lambda: self.now)
        monkeypatch.setattr(time, "time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


NAMES = Names("pages", hide=lambda own: b"h" * 24)
A, B, C = (NAMES.entry(key, 1) for key in "abc")


def store(mode: Any = "server", uniform: float = 0.0, **bounds: Any) -> NearStore:
    made = NearStore(Near(**bounds), NAMES, early=1.0, uniform=lambda: uniform)
    made.begin_trust(mode)
    return made


def entry(payload: bytes = b"\1v", *, fresh: float = 1060.0, delta_ms: int = 0, tags: Any = ()) -> Entry:
    ms = FOREVER_MS if math.isinf(fresh) else int(fresh * 1000)
    return Entry(payload, stamp=b"", fresh_ms=ms, until_ms=ms, delta_ms=delta_ms, tags=tags)


def put(near: NearStore, name: bytes, value: Any = "v", **more: Any) -> None:
    near.finish(name, near.begin(name), entry(**more), value)


def test_what_was_read_is_near_until_it_changes(clock):
    near = store()
    put(near, A)
    assert near.get(A) == "v" and near.get(B) is MISS and len(near) == 1
    near.drop(A)
    assert near.get(A) is MISS and len(near) == 0


def test_an_invalidation_that_overtakes_the_reply_counts(clock):
    near = store()
    for change in (
        lambda: near.drop(A),
        near.clear,
        lambda: near.drop(NAMES.stamp),
        lambda: near.drop(NAMES.tag("t")),
    ):
        token = near.begin(A)
        change()
        near.finish(A, token, entry(), "old")
        assert near.get(A) is MISS
    # Of two readers the later one counts.
    first, second = near.begin(A), near.begin(A)
    near.finish(A, first, entry(), "first")
    assert near.get(A) is MISS
    near.finish(A, second, entry(), "second")
    assert near.get(A) is MISS


def test_nothing_is_served_without_trust(clock):
    near = store(staleness=5)
    put(near, A)
    clock.now += 4.9
    assert near.get(A) == "v"
    clock.now += 0.2
    assert near.get(A) is MISS
    near.prolong(clock.now)
    assert near.get(A) == "v"
    near.end_trust()
    assert near.get(A) is MISS and near.mode == "off"
    # While the server is away it may be asked for what there was, to its end.
    assert near.kept(A) == "v" and near.kept(B) is MISS
    clock.now += 60
    assert near.kept(A) is MISS
    near.begin_trust("server")
    assert near.kept(A) is MISS and len(near) == 0


def test_entries_leave_at_their_end_and_in_stream_mode_sooner(clock):
    near = store(staleness=1000)
    put(near, A, fresh=1002)
    put(near, B, fresh=math.inf)
    clock.now += 2.1
    assert near.get(A) is MISS and near.get(B) == "v"
    near = store("stream", staleness=5)
    put(near, A, fresh=math.inf)
    near.prolong(clock.now + 3)
    clock.now += 5.1
    assert near.get(A) is MISS
    # A reader that is the one to refresh early does not keep what it would serve beyond that.
    near = store(uniform=1 - math.exp(-3), staleness=1000)
    put(near, A, fresh=clock.now + 10, delta_ms=2000)
    clock.now += 3.9
    assert near.get(A) == "v"
    clock.now += 0.2
    assert near.get(A) is MISS
    put(near, A, fresh=clock.now + 1, delta_ms=2000)
    assert near.get(A) is MISS


def test_tags_take_theirs_and_stamps_take_all(clock):
    near = store()
    put(near, A, tags=[(b"t", b"")])
    put(near, B)
    near.drop(NAMES.tag("u"))
    assert len(near) == 2
    near.drop(NAMES.tag("t"))
    assert near.get(A) is MISS and near.get(B) == "v"
    near.drop(NAMES.stamp)
    assert len(near) == 0
    put(near, A)
    near.drop_all(None)
    assert len(near) == 0


def test_the_store_is_bounded_and_keeps_what_is_used(clock):
    near = store(entries=2)
    for name in (A, B):
        put(near, name)
    near.get(A)
    put(near, C)
    assert near.get(A) == "v" and near.get(B) is MISS and near.get(C) == "v"
    near = store(largest_bytes=2000)
    put(near, A, payload=b"\1" + b"x" * 900)
    put(near, B, payload=b"\1" + b"x" * 900)
    assert len(near) == 1 and near.get(B) == "v"
    put(near, C, payload=b"\1" + b"x" * 3000)
    assert near.get(C) is MISS
    for number in range(10):
        near.begin(b"%d" % number)
    assert len(near._pending) <= near.settings.entries + 1


def test_what_can_be_changed_is_not_shared(clock):
    near = store()
    put(near, A, value=[1], payload=b"\2[1]")
    near.get(A).append(2)
    assert near.get(A) == [1]
    assert near.kept(A) == [1]
    put(near, B, value=7, payload=b"\0027")
    assert near.get(B) == 7


def test_a_negative_entry_is_not_near(clock):
    near = store()
    put(near, A, value=MISS, payload=b"")
    assert near.get(A) is MISS and len(near) == 0


# Single-flight


def test_one_leads_and_the_others_get_what_it_found():
    flights = Flights()
    flight, leads = flights.enter(b"k")
    assert leads and flights.is_under_way(b"k")
    found: list[Any] = []

    def follow() -> None:
        other, leads = flights.enter(b"k")
        other.event.wait()
        found.append((leads, other.outcome()))

    threads = [threading.Thread(target=follow) for _ in range(8)]
    for thread in threads:
        thread.start()
    while sum(thread.is_alive() for thread in threads) < 8:
        pass
    flight.value, flight.is_done = "v", True
    # Whoever comes later leads anew, so all have to be in.
    time.sleep(0.05)
    flights.leave(b"k", flight)
    for thread in threads:
        thread.join()
    assert found == [(False, "v")] * 8
    assert flights.enter(b"k")[1]
    with pytest.raises(RuntimeError, match="the very same entry"):
        flights.enter(b"k")
    flights.forget()
    assert flights.enter(b"k")[1]


async def test_flights_of_tasks():
    flights = Flights(in_tasks=True)
    flight, leads = flights.enter(b"k")
    assert leads

    async def follow() -> Any:
        other, leads = flights.enter(b"k")
        assert not leads
        await other.event.wait()
        return other.outcome()

    tasks = [asyncio.create_task(follow()) for _ in range(8)]
    await asyncio.sleep(0)
    flight.error, flight.is_done = KeyError("x"), True
    flights.leave(b"k", flight)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [KeyError] * 8


# Keys of functions


def total(a: Any, b: Any = 2, *rest: Any, **more: Any) -> Any:
    return a


def test_templates_quote_so_that_no_two_calls_meet():
    memo = Memo(total, "sum:{a}:{b}", ["t:{a}"], {})
    assert memo.key_and_tags((1,), {"b": 3}) == ("sum:1:3", ["t:1"])
    assert memo.key(("x:y", "z"), {}) != memo.key(("x", "y:z"), {})
    assert memo.key((1, 2), {}) == memo.key((), {"b": 2, "a": 1}) == memo.key((1,), {})
    assert Memo(total, lambda a, **_: f"k{a}", lambda a, **_: [f"t{a}"], {}).key_and_tags((1,), {}) == (
        "k1",
        ["t1"],
    )


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3) | st.tuples(inner, inner)
    ),
)


@given(values, values)
def test_different_arguments_have_different_keys(one, other):
    memo = Memo(total, None, (), {})
    # repr, since 1 == True == 1.0; -0.0 and 0.0 may differ.
    same = repr(one) == repr(other)
    assert same <= (memo.key((one,), {}) == memo.key((other,), {}))
    if memo.key((one,), {}) == memo.key((other,), {}):
        assert one == other and type(one) is type(other)


def test_keys_that_cannot_be_made_are_refused():
    class Page:
        def show(self, n: int) -> int:
            return n

    for key, tags, options in (
        ("sum:{c}", (), {}),
        ("sum:{a}", ["t:{c}"], {}),
        (None, "users", {}),
        (None, (), {"colour": 1}),
        (None, (), {"ttl": 0}),
    ):
        with pytest.raises(ConfigurationError):
            Memo(total, key, tags, options)
    with pytest.raises(ConfigurationError, match="first argument"):
        Memo(Page.show, None, (), {})
    assert Memo(Page.show, "n:{n}", (), {}).key((Page(), 5), {}) == "n:5"
    with pytest.raises(ConfigurationError, match="makes no key"):
        Memo(total, None, (), {}).key((object(),), {})
    long = Memo(total, None, (), {}).key(("x" * 1000,), {})
    assert len(long) < 200


# Counters


def test_counters_are_told_and_shown():
    told: list[tuple[str, int]] = []
    stats = CacheStats(lambda name, amount: told.append((name, amount)))
    stats.count("hits")
    stats.count("bytes_read", 10)
    for seconds in itertools.chain([0.00001, 0.0002, 7.0]):
        stats.took(seconds)
    assert told == [("hits", 1), ("bytes_read", 10)]
    shown = stats.snapshot()
    assert set(COUNTERS) < set(shown) and shown["hit_rate"] == 1.0
    assert sum(shown["latency"].values()) == 3 and shown["latency"][math.inf] == 1
    assert repr(stats) == "CacheStats(hits=1, bytes_read=10)"
    assert CacheStats().snapshot()["hit_rate"] is None


def test_prometheus_reads_the_counters():
    registry = pytest.importorskip("prometheus_client").CollectorRegistry()
    from prometheus_client import generate_latest

    from tenantkv.cache.metrics import PrometheusCollector

    class Fake:
        name = "pages"
        stats = CacheStats()

    Fake.stats.count("hits", 3)
    Fake.stats.took(0.0002)
    registry.register(PrometheusCollector(Fake()))
    text = generate_latest(registry).decode()
    assert 'tenantkv_cache_hits_total{cache="pages"} 3.0' in text
    assert 'tenantkv_cache_read_seconds_bucket{cache="pages",le="0.00025"} 1.0' in text
    assert 'tenantkv_cache_read_seconds_bucket{cache="pages",le="5e-05"} 0.0' in text


def test_open_telemetry_reads_the_counters(monkeypatch):
    import sys
    from types import SimpleNamespace

    from tenantkv.cache.metrics import observe

    class Fake:
        name = "pages"
        stats = CacheStats()

    class Meter:
        def create_observable_counter(self, name: str, callbacks: Any, description: str) -> Any:
            return name, callbacks[0]

    observation = SimpleNamespace(Observation=lambda value, attributes: (value, attributes))
    monkeypatch.setitem(sys.modules, "opentelemetry", SimpleNamespace(metrics=observation))
    monkeypatch.setitem(sys.modules, "opentelemetry.metrics", observation)
    instruments = dict(observe(Meter(), Fake()))
    Fake.stats.count("misses", 2)
    assert instruments["tenantkv.cache.misses"](None) == [(2, {"cache": "pages"})]
