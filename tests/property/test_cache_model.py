"""The cache against a model: three processes, a neighbour among their commands, and replies that are lost.

What is read is always what was written last, or nothing: never what was deleted, cleared, overwritten or
has ended, never what a neighbour made up or moved. A near cache may be behind by what it has not heard of.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tenantkv.cache import MISS, Near
from tenantkv.cache.wire import OUTAGE
from tests.cache_worlds import World
from tests.cutting_proxy import CuttingProxy
from tests.servers import RealServer

pytest.importorskip("redis.cache", reason="redis-py 5.1 brought the handler of invalidations")

LONG, BRIEF = 600.0, 0.02
# What the bounds of a TTL may be off by: entries count in milliseconds.
ROUNDING = 0.002
STALENESS = 0.12
NEAR = 2
LOST = object()

# A key and a version.
At = tuple[str, int]
versions = st.sampled_from([1, 1, 2])
ats = st.tuples(st.sampled_from(["a", "b"]), versions)
who_ = st.integers(0, NEAR)
ttls = st.sampled_from([LONG, LONG, LONG, BRIEF])
tags_ = st.sets(st.sampled_from(["t", "u"])).map(frozenset)
#: What a neighbour does to a name of ours.
DEEDS = ["delete", "forge", "another type", "another's", "keep"]


@dataclass(eq=False)
class Record:
    """An entry that was written.

    Attributes:
        value: like no other's.
        sure_until: until when it is fresh at least, in seconds since 1970.
        over_from: when it has ended at the latest.
        tags: its tags.
        counts: whether it was invalidated: "yes" if not, "no", or "perhaps".
    """

    value: int
    sure_until: float
    over_from: float
    tags: frozenset[str]
    counts: str = "yes"

    def copy(self, *, by: int = 0) -> Record:
        return Record(self.value + by, self.sure_until, self.over_from, self.tags, self.counts)


@dataclass(eq=False)
class Past:
    """A record that was there until a moment.

    Attributes:
        until: on the monotonic clock.
        by: whose doing it was; ``None`` for the neighbour.
    """

    record: Record
    until: float
    by: int | None


@dataclass
class Call:
    """What came of a call, and what might have come of it."""

    result: Any
    began: float
    ended: float
    # On the clock of `time.monotonic`: when it began, and up to when the near cache knew of all changes.
    mono: float
    heard: float
    disturbed: bool = False


@dataclass(frozen=True)
class Trouble:
    """What happens in the middle of a call: a reply is lost, or the neighbour comes in."""

    cut: bytes = b""
    deed: str = ""
    at: At = ("a", 1)
    stamp: str = ""
    after: int = 0


calm = st.just(Trouble())
cuts = st.sampled_from([b"MGET", b"SET", b"EVALSHA", b"UNLINK"]).map(lambda marker: Trouble(cut=marker))
deeds = st.builds(
    Trouble,
    deed=st.sampled_from(DEEDS),
    at=ats,
    stamp=st.sampled_from(["", "", "stamp", "tag:t"]),
    after=st.integers(0, 2),
)
troubles = st.one_of(calm, calm, cuts, deeds)


class CacheMachine(RuleBasedStateMachine):
    """Two processes that ask the server, and one with a near cache."""

    server: RealServer
    proxy: CuttingProxy
    seen: dict[str, int]
    mode = "server"
    is_async = False

    @initialize()
    def begin(self) -> None:
        self.proxy.settle()
        raw = redis.Redis(unix_socket_path=self.server.socket_path)
        self.world = World(self.proxy.url, raw, is_async=self.is_async)
        common = {"on_outage": "raise", "early": 0.0, "announce": True, "lease": 1.0, "wait": 0.01}
        near = Near(staleness=STALENESS)
        self.caches = [self.world.cache(timeout=30.0, **common) for _ in range(NEAR)]
        self.caches.append(self.world.cache(near=near, timeout=30.0, **common))
        if self.is_async:
            self.caches[NEAR].start()
        self.store = getattr(self.caches[NEAR], "target", self.caches[NEAR])._core.near
        self.numbers = itertools.count(1000, 1000)
        self.there: dict[At, list[Record | None]] = {
            (key, version): [None] for key in "ab" for version in (1, 2)
        }
        self.past: dict[At, list[Past]] = {at: [] for at in self.there}
        self.records: list[Record] = []
        self.blobs: list[tuple[At, bytes, Record]] = []
        # What a process does first of all, when it is next heard of: delete, and invalidate.
        self.owed: list[set[At]] = [set() for _ in self.caches]
        self.owed_stamps: list[set[str]] = [set() for _ in self.caches]
        self.news_are_whole = True
        self.looks = itertools.count()
        self.hear()

    # The model

    def now_at(self, at: At, records: list[Record | None], by: int | None) -> None:
        """Note what is, or may be, under a name from now on."""
        self.past[at] += [
            Past(record, time.monotonic(), by)
            for record in self.there[at]
            if record is not None and record not in records
        ]
        self.there[at] = records

    def perhaps(self, at: At, *more: Record | None) -> None:
        self.there[at] = list(dict.fromkeys([*self.there[at], *more]))

    def ends(self, tag: str | None, by: int | None, *, surely: bool) -> None:
        """Note that a tag, or everything for ``None``, was invalidated."""
        hit = [record for record in self.records if tag is None or tag in record.tags]
        for record in hit:
            if surely or record.counts == "yes":
                record.counts = "no" if surely else "perhaps"
        for at, records in self.there.items():
            if not any(record in hit for record in records):
                continue
            if surely:
                left = [record for record in records if record not in hit]
                self.now_at(at, list(dict.fromkeys([*left, None])), by)
            else:
                self.perhaps(at, None)

    def make(self, call: Call, ttl: float, tags: frozenset[str], value: int) -> Record:
        record = Record(value, call.began + ttl - ROUNDING, call.ended + ttl + ROUNDING, tags)
        if call.disturbed:
            record.counts = "perhaps"
        self.records.append(record)
        return record

    def fits(self, at: At, call: Call, value: Any, *, near: bool = False) -> bool:
        """Whether a call may have found that."""
        records = self.there[at]
        if value is MISS:
            return any(record is None or call.ended >= record.sure_until for record in records)
        found = [record for record in records if record is not None]
        if near:
            found += [past.record for past in self.past[at] if self.may_be_unheard_of(past, call)]
        return any(record.value == value and call.began < record.over_from for record in found)

    def may_be_unheard_of(self, past: Past, call: Call) -> bool:
        if past.by == NEAR:
            return False
        is_told = self.mode == "server" or (past.by is not None and self.news_are_whole)
        # Kept no longer than that, where nobody tells.
        return past.until > (call.heard if is_told else call.mono - STALENESS)

    def live(self, at: At, call: Call) -> list[Record]:
        return [r for r in self.there[at] if r is not None and call.began < r.over_from]

    # Calls

    def call(self, who: int, trouble: Trouble, call: Callable[[], Any], *, near: bool = False) -> Call:
        """Have a process do something, with a trouble in the middle."""
        if trouble.cut:
            self.proxy.cut(trouble.cut)
        if trouble.deed:
            self.proxy.meddle(lambda: self.meddle(trouble), after=trouble.after)
        heard = self.store.trusted_until - STALENESS
        mono, began = time.monotonic(), time.time()
        try:
            result = call()
        except OUTAGE:
            result = LOST
        made = Call(result, began, time.time(), mono, heard)
        self.proxy.settle()
        if trouble.cut and self.proxy.cuts:
            self.seen["cut"] += 1
        if trouble.deed and self.proxy.meddled:
            made.disturbed = True
            self.seen["meddled"] += 1
            # Before what the call did, after it, or in between.
            self.was_meddled_with(trouble, surely=False)
        for at in self.owed[who]:
            self.perhaps(at, None)
        for stamp in self.owed_stamps[who]:
            self.ends(stamp or None, who, surely=False)
        if result is not LOST and not near:
            self.owed[who].clear()
            self.owed_stamps[who].clear()
        return made

    def wire(self, at: At) -> bytes:
        return self.world.wire(f"v{at[1]}:{at[0]}")

    def note_blob(self, at: At, record: Record, call: Call) -> None:
        """Do as a neighbour who keeps what he sees."""
        if call.result is LOST or call.disturbed:
            return
        blob = self.world.raw.get(self.wire(at))
        if blob is not None and self.there[at] == [record]:
            self.blobs.append((at, blob, record))

    @rule(who=who_, at=ats, ttl=ttls, tags=tags_, trouble=troubles)
    def set(self, who: int, at: At, ttl: float, tags: frozenset[str], trouble: Trouble) -> None:
        value, (key, version) = next(self.numbers), at
        cache = self.caches[who]
        call = self.call(who, trouble, lambda: cache.set(key, value, ttl, tags=tags, version=version))
        record = self.make(call, ttl, tags, value)
        if call.result is LOST:
            # Perhaps under a stamp that is gone: the reply would have told.
            self.perhaps(at, record, None)
            self.owed[who].add(at)
            return
        assert call.result is True or call.disturbed
        self.now_at(at, [record, None] if call.disturbed else [record], who)
        self.note_blob(at, record, call)

    @rule(who=who_, at=ats, ttl=ttls, tags=tags_, trouble=troubles)
    def add(self, who: int, at: At, ttl: float, tags: frozenset[str], trouble: Trouble) -> None:
        value, (key, version) = next(self.numbers), at
        cache = self.caches[who]
        call = self.call(who, trouble, lambda: cache.add(key, value, ttl, tags=tags, version=version))
        record = self.make(call, ttl, tags, value)
        if call.result is LOST:
            self.perhaps(at, record, None)
        elif call.result:
            assert self.fits(at, call, MISS)
            self.now_at(at, [record, None] if call.disturbed else [record], who)
            self.note_blob(at, record, call)
        else:
            assert self.live(at, call) or call.disturbed

    @rule(who=who_, at=ats, trouble=troubles)
    def count_up(self, who: int, at: At, trouble: Trouble) -> None:
        key, version = at
        call = self.call(who, trouble, lambda: self.caches[who].incr(key, version=version))
        sums = [record.copy(by=1) for record in self.live(at, call)]
        self.records += sums
        if call.result is LOST:
            self.perhaps(at, *sums, None)
        elif call.result is None:
            assert self.fits(at, call, MISS) or call.disturbed
        else:
            assert self.fits(at, call, call.result - 1)
            made = [record for record in sums if record.value == call.result]
            self.now_at(at, [*made, None] if call.disturbed else [*made], who)

    @rule(who=who_, at=ats, ttl=ttls, trouble=troubles)
    def touch(self, who: int, at: At, ttl: float, trouble: Trouble) -> None:
        key, version = at
        call = self.call(who, trouble, lambda: self.caches[who].touch(key, ttl, version=version))
        alive = self.live(at, call)
        touched = [self.make(call, ttl, record.tags, record.value) for record in alive]
        for old, new in zip(alive, touched, strict=True):
            new.counts = old.counts if not call.disturbed else "perhaps"
        if call.result is LOST:
            self.perhaps(at, *touched, None)
        elif call.result:
            assert alive
            self.now_at(at, [*touched, None] if call.disturbed else [*touched], who)
        else:
            assert self.fits(at, call, MISS) or call.disturbed

    @rule(who=who_, at=ats, trouble=troubles)
    def delete(self, who: int, at: At, trouble: Trouble) -> None:
        key, version = at
        call = self.call(who, trouble, lambda: self.caches[who].delete(key, version=version))
        if call.result is LOST:
            self.perhaps(at, None)
            self.owed[who].add(at)
        else:
            self.now_at(at, [None], who)

    @rule(who=who_, tag=st.sampled_from(["t", "u", None]), trouble=troubles)
    def invalidate(self, who: int, tag: str | None, trouble: Trouble) -> None:
        cache = self.caches[who]
        call = self.call(who, trouble, cache.clear if tag is None else lambda: cache.invalidate_tag(tag))
        if call.result is LOST:
            self.owed_stamps[who].add(tag or "")
        self.ends(tag, who, surely=call.result is not LOST)

    @rule(who=who_, key=st.sampled_from(["a", "b"]), trouble=troubles)
    def next_version(self, who: int, key: str, trouble: Trouble) -> None:
        call = self.call(who, trouble, lambda: self.caches[who].incr_version(key, version=1))
        first, second = (key, 1), (key, 2)
        moved = [record.copy() for record in self.live(first, call)]
        self.records += moved
        if call.result is LOST or call.disturbed:
            self.perhaps(first, None)
            self.perhaps(second, *moved, None)
        elif call.result is None:
            assert self.fits(first, call, MISS)
        else:
            assert moved
            self.now_at(second, [*moved], who)
            self.now_at(first, [None], who)

    @rule(who=who_, at=ats, trouble=troubles)
    def get(self, who: int, at: At, trouble: Trouble) -> None:
        key, version = at
        cache, near = self.caches[who], who == NEAR
        hits = cache.stats.near_hits
        call = self.call(who, trouble, lambda: cache.get(key, MISS, version=version), near=near)
        self.seen["near hits"] += cache.stats.near_hits - hits
        self.found(who, at, call, call.result)

    @rule(who=who_, version=versions, trouble=troubles)
    def get_many(self, who: int, version: int, trouble: Trouble) -> None:
        cache, near = self.caches[who], who == NEAR
        hits = cache.stats.near_hits
        call = self.call(who, trouble, lambda: cache.get_many(["a", "b"], version=version), near=near)
        self.seen["near hits"] += cache.stats.near_hits - hits
        for key in "ab":
            value = LOST if call.result is LOST else call.result.get(key, MISS)
            self.found(who, (key, version), call, value)

    def found(self, who: int, at: At, call: Call, value: Any) -> None:
        """Check what a process has read, and learn from it."""
        if value is LOST:
            return
        assert self.fits(at, call, value, near=who == NEAR), (value, self.there[at])
        self.seen["hits"] += value is not MISS
        if who != NEAR and not call.disturbed:
            kept = [r for r in self.there[at] if (MISS if r is None else r.value) == value]
            self.now_at(at, [*kept] or [None], None)

    @rule(who=who_, at=ats, ttl=ttls, tags=tags_, trouble=troubles)
    def compute(self, who: int, at: At, ttl: float, tags: frozenset[str], trouble: Trouble) -> None:
        value, (key, version) = next(self.numbers), at
        cache = self.caches[who]

        def ask() -> Any:
            return cache.get_or_compute(key, lambda: value, ttl=ttl, tags=tags, version=version)

        call = self.call(who, trouble, ask, near=who == NEAR)
        record = self.make(call, ttl, tags, value)
        if call.result == value:
            assert self.fits(at, call, MISS) or call.disturbed
            # Whoever finds another's lease does not store what it computed.
            self.now_at(at, [record, None], who)
        elif call.result is LOST:
            self.perhaps(at, record, None)
        else:
            assert self.fits(at, call, call.result, near=who == NEAR)

    # The neighbour, and time

    @rule(trouble=deeds)
    def disturb(self, trouble: Trouble) -> None:
        self.meddle(trouble)
        self.was_meddled_with(trouble, surely=True)

    def meddle(self, trouble: Trouble) -> None:
        """Do something to an entry or a stamp, as whoever knows the names."""
        raw = self.world.raw
        name = self.world.wire(trouble.stamp) if trouble.stamp else self.wire(trouble.at)
        if trouble.deed == "keep":
            raw.persist(name)
            return
        other = self.wire(("b" if trouble.at[0] == "a" else "a", trouble.at[1]))
        strange = raw.get(other) if trouble.deed == "another's" and raw.type(other) == b"string" else None
        raw.delete(name)
        if trouble.deed == "another type":
            raw.rpush(name, "x")
        elif trouble.deed != "delete":
            raw.set(name, strange or b"forged")

    def was_meddled_with(self, trouble: Trouble, *, surely: bool) -> None:
        if trouble.deed == "keep":
            return
        if trouble.stamp:
            tag = trouble.stamp.partition(":")[2] or None
            self.ends(tag, None, surely=surely)
        elif surely:
            self.now_at(trouble.at, [None], None)
        else:
            self.perhaps(trouble.at, None)

    @rule(which=st.integers(0, 100))
    def put_back(self, which: int) -> None:
        """An older entry is back: it counts unless it was invalidated, until its own end."""
        if not self.blobs:
            return
        at, blob, record = self.blobs[which % len(self.blobs)]
        self.world.raw.set(self.wire(at), blob)
        counts = {"yes": [record], "perhaps": [record, None], "no": [None]}[record.counts]
        self.now_at(at, [*counts], None)

    @rule(deed=st.sampled_from(["delete", "trim"]))
    def hush(self, deed: str) -> None:
        """The neighbour ends the stream of news: near caches are behind for a while."""
        news = self.world.wire("news")
        if deed == "delete" or self.world.raw.type(news) != b"stream":
            self.world.raw.delete(news)
        else:
            self.world.raw.xtrim(news, maxlen=0)
        self.news_are_whole = False

    @rule()
    def lapse(self) -> None:
        time.sleep(BRIEF)

    @rule()
    def hear(self) -> None:
        """The near cache hears of all that was."""
        if self.mode == "stream" and self.news_are_whole:
            # Anything wakes it.
            self.world.raw.xadd(self.world.wire("news"), {"b": "1"})
        now = time.monotonic()
        deadline = now + 60
        while self.store.mode != self.mode or self.store.trusted_until - STALENESS < now:
            assert time.monotonic() < deadline
            if self.world.loop is not None:
                self.world.loop.run_until_complete(asyncio.sleep(0.002))
            else:
                time.sleep(0.001)

    @rule()
    def forget_scripts(self) -> None:
        self.world.raw.script_flush()

    @invariant()
    def look(self) -> None:
        """Read all of it near, and every other time from the server; now and then write what is gone."""
        if not hasattr(self, "looks"):
            return
        number = next(self.looks)
        for version in (1, 2):
            self.get_many(NEAR, version, Trouble())
            if number % 2:
                self.get_many(0, version, Trouble())
        if number % 4 == 0:
            gone = [at for at, records in self.there.items() if records == [None]]
            for at, tags in zip(gone, itertools.cycle(["t", "u", ""]), strict=False):
                self.set(1, at, LONG, frozenset(tags), Trouble())

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.proxy.settle()
            self.world.close()
            self.world.raw.close()


class StreamMachine(CacheMachine):
    mode = "stream"


class AsyncCacheMachine(CacheMachine):
    is_async = True


@pytest.mark.parametrize("machine", [CacheMachine, StreamMachine, AsyncCacheMachine])
def test_the_cache_is_what_the_model_says(machine, open_server, shared_server):
    machine.server = shared_server if machine.mode == "stream" else open_server
    machine.proxy = CuttingProxy(machine.server.socket_path)
    machine.seen = dict.fromkeys(["cut", "meddled", "hits", "near hits"], 0)
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=12,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        machine.proxy.close()
    # All of that was not only asked for.
    assert all(machine.seen.values()), machine.seen
