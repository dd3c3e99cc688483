"""The lock's decisions, without a server and without a clock."""

from __future__ import annotations

import math
import pickle
import re
from pathlib import Path

import pytest
from redis.exceptions import LockError, LockNotOwnedError

from tenantkv import ConfigurationError, Keyring, Namespace, TenantKVError
from tenantkv.lock.keeper import Abandoned as AbandonedToken
from tenantkv.lock.keeper import LoopGate, ThreadGate, giving_up, sorted_out
from tenantkv.lock.lease import LeaseLostError, LeaseState, Terms, new_token
from tenantkv.ops import directory, lock, lock_places
from tenantkv.ops.effects import Batch, Call, Sleep
from tenantkv.ops.lock import Grant
from tenantkv.ops.lock_places import Exclusive, Reading, Shared, Writing, key_of
from tenantkv.ops.rate_limit import Rate

LUA = Path(lock.__file__).parent / "lua"
OURS = sorted(
    path for start in ("lock", "semaphore", "rate", "directory") for path in LUA.glob(f"{start}_*.lua")
)
TOKEN = b"t" * 22
PLACE = Exclusive(b"tkv:lock:{x}")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class LostError(Exception):
    """What a driver raises for a lost connection."""


class Asked:
    """An acquisition that is driven by hand."""

    def __init__(self, wait=None, *, place=PLACE, gate=None, lease_ms=10_000):
        self.clock = Clock()
        self.gate = gate or LoopGate(1)
        self.operation = lock.acquire(
            place,
            TOKEN,
            lease_ms,
            wait,
            clock=self.clock,
            gate=self.gate,
            poll=0.1,
            lost=(LostError,),
        )
        self.effect = next(self.operation)

    def answer(self, reply):
        self.effect = self.operation.send(reply)
        return self.effect

    def ends_with(self, reply):
        with pytest.raises(StopIteration) as stop:
            self.operation.send(reply)
        return stop.value.value


def timeout(effect):
    assert isinstance(effect, Batch)
    name, wake, time = effect.commands[0]
    assert (name, wake) == ("BLPOP", PLACE.wake)
    return float(time)


def test_a_free_lock_is_one_round_trip_and_ends_when_it_was_asked_for():
    asked = Asked()
    assert isinstance(asked.effect, Call)
    assert asked.effect.script.repeatable
    asked.clock.now += 3
    assert asked.ends_with(b"17") == Grant(17, 110.0)


def test_trying_once_does_not_wait():
    assert Asked(0).ends_with(5000) is None
    assert Asked(0, place=Exclusive(b"k", True)).ends_with(0) is None


@pytest.mark.parametrize(
    ("wait", "held_ms", "nap"),
    [
        *((None, 300, 0.3), (None, 60_000, lock_places.LONGEST_NAP), (0.05, 60_000, 0.05)),
        # Nought would be for ever.
        *((None, 1, 0.005), (1e-9, 60_000, 0.005)),
    ],
)
def test_a_waiter_sleeps_no_longer_than_the_lease_and_its_patience(wait, held_ms, nap):
    assert timeout(Asked(wait).answer(held_ms)) == nap


def test_a_woken_waiter_asks_again_and_says_that_it_waited():
    asked = Asked()
    assert asked.effect.arguments[2] == b""
    asked.answer(5000)
    again = asked.answer([[PLACE.wake, b"1"]])
    assert isinstance(again, Call) and again.arguments[2] == b"+"
    assert asked.ends_with(b"18").fence == 18


def test_waiting_ends_when_it_is_over():
    asked = Asked(1.0)
    asked.answer(5000)
    asked.clock.now += 1
    asked.answer([None])
    assert asked.ends_with(5000) is None


def test_a_fair_waiter_leaves_the_queue_when_it_gives_up():
    fair = Exclusive(b"k", True)
    asked = Asked(1.0, place=fair)
    assert asked.effect.keys[3:] == (b"k:queue", b"k:alive")
    asked.answer(5000)
    asked.clock.now += 1
    asked.answer([None])
    assert asked.answer(5000) == fair.leave(TOKEN)
    assert asked.ends_with([1, 1]) is None


def test_a_fair_waiter_whose_turn_it_is_not_lets_others_go_first():
    asked = Asked(place=Exclusive(b"k", True))
    assert isinstance(asked.answer(0), Sleep)
    assert isinstance(asked.answer(None), Batch)


def test_without_a_connection_to_spare_it_looks_now_and_then():
    asked = Asked(gate=LoopGate(0))
    assert asked.answer(5000) == Sleep(0.1)
    assert isinstance(asked.answer(None), Call)


def test_the_gate_is_left_however_the_wait_ends():
    for end in ("woken", "lost", "closed", "thrown"):
        gate = LoopGate(1)
        asked = Asked(gate=gate)
        asked.answer(5000)
        assert not gate.enter()
        if end == "woken":
            asked.answer([None])
        elif end == "lost":
            assert isinstance(asked.operation.throw(LostError()), Call)
        elif end == "closed":
            asked.operation.close()
        else:
            with pytest.raises(KeyError):
                asked.operation.throw(KeyError())
        assert gate.enter()


def test_a_wake_list_of_another_type_is_removed():
    asked = Asked()
    asked.answer(5000)
    assert asked.answer([RuntimeError("WRONGTYPE Operation against a key")]) == Batch(
        [("UNLINK", PLACE.wake)]
    )
    assert isinstance(asked.answer([1]), Sleep)
    assert isinstance(asked.answer(None), Call)


def test_another_error_of_the_wake_list_is_the_callers():
    asked = Asked()
    asked.answer(5000)
    with pytest.raises(RuntimeError):
        asked.answer([RuntimeError("NOAUTH Authentication required")])


def test_wakes_in_vain_cost_longer_and_longer_pauses():
    asked = Asked()
    pauses = []
    asked.answer(5000)
    for _ in range(20):
        effect = asked.answer([[PLACE.wake, b"1"]])
        if isinstance(effect, Sleep):
            pauses.append(effect.seconds)
            effect = asked.answer(None)
        assert isinstance(effect, Call)
        asked.answer(5000)
    assert len(pauses) == 17 and pauses == sorted(pauses) and pauses[-1] == 0.5


def test_a_grant_that_took_longer_than_its_lease_is_asked_for_again():
    asked = Asked()
    asked.clock.now += 10
    assert isinstance(asked.answer(b"17"), Call)
    assert asked.ends_with(b"17") == Grant(17, 120.0)


# Places


@pytest.mark.parametrize(
    "place", [PLACE, Exclusive(b"k", True), Writing(b"k"), Reading(b"k"), Shared(b"k", 3)]
)
def test_keys_share_a_slot_and_only_extensions_are_not_repeated(place):
    base = b"k" if place is not PLACE else PLACE.key
    calls = [
        *(place.acquire(TOKEN, 1000, waited=w, waits=v) for w in (False, True) for v in (False, True)),
        *(place.renew(TOKEN, 1000, how) for how in ("=", ">", "+")),
        place.release(TOKEN, 5),
        place.release(TOKEN, 0),
    ]
    for call in calls:
        assert all(key.startswith(base) for key in call.keys)
        assert len(call.keys) == len(set(call.keys))
        assert call.script.repeatable == ("+" not in call.arguments)
    assert place.wake in calls[0].keys


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_scripts_make_no_keys_up_and_agree_on_their_bounds(path):
    text = path.read_text()
    code = re.sub(r"--.*", "", text)
    for first in re.findall(r"redis\.p?call\('[A-Z]+', ([^,)]+)", code):
        assert first.startswith("KEYS["), first
    for number in set(re.findall(r"KEYS\[(\d)\]", code)):
        assert f"-- KEYS[{number}]" in text
    for number in set(re.findall(r"ARGV\[(\d)\]", code)):
        assert f"-- ARGV[{number}]" in text
    bounds = dict(pairs(code))
    if "LONGEST" in bounds:
        assert bounds["LONGEST"] == lock_places.LONGEST_LEASE * 1000
    if "INTENT" in bounds:
        assert bounds["INTENT"] == lock_places._PATIENCE_MS


def pairs(code):
    for names, values in re.findall(r"^local ([A-Z, ]+) = ([\d, ]+)$", code, re.MULTILINE):
        yield from zip(names.split(", "), map(float, values.split(", ")), strict=True)


def test_keys_are_hidden_by_primitive():
    namespace = Namespace(Keyring.generate(bytes(range(96))))
    assert key_of(namespace, "lock", b"a", hidden=False) == b"tkv:lock:{a}"
    hidden = {key_of(namespace, primitive, b"a")[-26:] for primitive in ("lock", "rwlock", "semaphore")}
    assert len(hidden) == 3
    with pytest.raises(ConfigurationError):
        key_of(namespace, "lock", b"")


def test_times_are_checked():
    assert lock.milliseconds("lease", 0.0015) == 2
    for wrong in (None, "x", math.nan, math.inf, -1, 0, 1e9):
        with pytest.raises(ConfigurationError):
            lock.milliseconds("lease", wrong)
    with pytest.raises(ConfigurationError):
        Rate(10, True)
    assert Rate(10, 60).slice_ms == 1875


# Leases


def lease(monkeypatch, *, renews=True, on_lost=None):
    clock = Clock()
    monkeypatch.setattr("tenantkv.lock.lease.time.monotonic", clock)
    terms = Terms("lock", b"job", 9000, renews, on_lost)
    return LeaseState(None, PLACE, TOKEN, terms, Grant(5, clock.now + 9), None), clock


def test_a_lease_is_renewed_after_a_third(monkeypatch):
    held, clock = lease(monkeypatch)
    assert held.due == 103
    assert held.settle(112.0, 103.0) is True
    assert (held.due, held.remaining) == (106, 12)
    clock.now = 112
    assert held.lost and held.remaining == 0
    with pytest.raises(LeaseLostError):
        held.check()


def test_a_renewal_that_fails_is_tried_again_until_it_is_too_late(monkeypatch):
    told: list[object] = []
    held, clock = lease(monkeypatch, on_lost=told.append)
    error = LostError()
    for now in (103.0, 104.0, 108.5):
        assert held.settle(error, now) is True
        assert now < held.due <= 109
    clock.now = 109
    assert held.lost and not told
    assert held.settle(error, 109.0) is False
    assert told == [held]


def test_what_the_server_has_no_more_is_lost_at_once_and_once(monkeypatch):
    told: list[object] = []
    held, _ = lease(monkeypatch, on_lost=told.append)
    assert held.settle(None, 103.0) is False
    assert held.settle(None, 103.0) is False
    assert told == [held] and held.lost
    # A renewal that comes in late changes nothing.
    assert held.settle(200.0, 103.0) is False and held.lost


def test_a_lease_that_is_being_given_back_is_not_renewed(monkeypatch):
    held, _ = lease(monkeypatch)
    held._end()
    assert held.settle(112.0, 103.0) is False
    assert held.settle(LostError(), 103.0) is False
    held._released(was_held=True)
    assert held.loss == "" and not held.lost
    with pytest.raises(LockError) as caught:
        held.check()
    assert not isinstance(caught.value, LockNotOwnedError)


def test_a_lease_that_is_not_renewed_runs_out(monkeypatch):
    held, clock = lease(monkeypatch, renews=False)
    assert held.due == 109
    held._until = 115.0
    assert held.expire(109.0) is True and held.due == 115
    clock.now = 115
    assert held.expire(115.0) is False and held.lost


def test_leases_show_no_tokens_and_are_not_pickled(monkeypatch):
    held, _ = lease(monkeypatch)
    assert TOKEN.decode() not in repr(held) and "'job': held" in repr(held)
    with pytest.raises(TypeError):
        pickle.dumps(held)
    assert len({new_token() for _ in range(100)}) == 100
    assert len(new_token()) == 22


def test_the_error_is_everybodys():
    error = LeaseLostError("it ran out", "job")
    assert isinstance(error, TenantKVError) and isinstance(error, LockNotOwnedError)
    again = pickle.loads(pickle.dumps(error))
    assert (again.reason, again.lock_name, str(again)) == (error.reason, error.lock_name, str(error))


# Keepers


def test_what_is_due_is_sorted_out(monkeypatch):
    first, _ = lease(monkeypatch)
    second, _ = lease(monkeypatch)
    fixed, _ = lease(monkeypatch, renews=False)
    other, _ = lease(monkeypatch)
    other.client = "another"
    gone = AbandonedToken(None, PLACE, TOKEN, 5.0)
    round_ = sorted_out([first, fixed, gone, other, second])
    assert round_.groups == [[first, second], [other]]
    assert (round_.fixed, round_.abandoned) == ([fixed], [gone])


def test_giving_up_leaves_the_queue_and_gives_back():
    fair = Exclusive(b"k", True)
    operation = giving_up(AbandonedToken(None, fair, TOKEN, 5.0))
    assert next(operation) == fair.leave(TOKEN)
    assert operation.send([0, 0]) == fair.release(TOKEN, 0)


@pytest.mark.parametrize("gate", [LoopGate(2), ThreadGate(2)])
def test_gates_count(gate):
    assert [gate.enter() for _ in range(3)] == [True, True, False]
    gate.leave()
    assert gate.enter()


# The directory


def test_a_name_is_noted_once_an_hour():
    memory = directory.DirectoryMemory()
    assert memory.take("lock", b"a", 10.0)
    assert not memory.take("lock", b"a", 3609.0)
    assert memory.take("queue", b"a", 10.0)
    assert memory.take("lock", b"a", 3611.0)
    for number in range(directory._MEMORY):
        memory.take("lock", b"%d" % number, 10.0)
    assert len(memory._fresh_until) <= directory._MEMORY


class Endless:
    """A sealer that opens everything as one entry."""

    def open(self, blob, **_):
        return b'{"primitive": "lock", "name": "a", "seen": 5}'

    def seal(self, value, **_):
        return value


def test_a_directory_without_an_end_is_read_so_far_and_no_further():
    namespace = Namespace(Keyring.generate(bytes(range(96))))
    field = directory.field_of(namespace, "lock", b"a")
    operation = directory.entries(namespace, Endless(), 6.0)
    next(operation)
    with pytest.raises(StopIteration) as stop:
        for _ in range(1000):
            operation.send([b"7", [field, b"x", b"lock:elsewhere", b"x"]])
    assert [entry.name for entry in stop.value.value] == [b"a"]
