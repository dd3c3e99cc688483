"""The cache's operations driven by hand: every branch, no server, no clock."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from tenantkv import Keyring
from tenantkv.envelope import Sealer
from tenantkv.errors import ConfigurationError
from tenantkv.ops import cache as ops
from tenantkv.ops import cache_lease, cache_news, cache_stamps
from tenantkv.ops.cache import Draft, Shelf
from tenantkv.ops.cache_entry import (
    FOREVER_MS,
    Entry,
    Lifetime,
    read_plain,
    server_ttl_ms,
    should_refresh_early,
    unpack,
)
from tenantkv.ops.cache_lease import Claim
from tenantkv.ops.cache_names import LONGEST_KEY_BYTES, Names
from tenantkv.ops.cache_stamps import StampBook
from tenantkv.ops.cache_vault import Vault
from tenantkv.ops.effects import Batch, Call, Command, Sleep

RING = Keyring.generate(bytes(range(96)))
NOW = 1000.0
BASE = b"tkv:cache:{pages}"


def shelf_of(**options: Any) -> Shelf:
    """Return a process's view of the cache; all of them have the same keys."""
    numbers = itertools.count(options.pop("first", 0))
    signer, sealer = (
        Sealer(RING, entropy=lambda n: bytes(n), clock=lambda: NOW, mode=mode) for mode in ("sign", "seal")
    )
    book = StampBook(
        signer,
        entropy=lambda size: next(numbers).to_bytes(size, "big"),
        lifetime_ms=3000,
        keep_every=1.0,
    )
    names = Names("pages", hide=lambda own: b"%024d" % (hash(own) % 10**24))
    return Shelf(names, book, Vault(signer, sealer), **options)


def draft(name: bytes = BASE + b"v1:k", payload: bytes = b"\1v", **more: Any) -> Draft:
    return Draft(name, payload, 1_060_000, 1_060_000, **more)


def drive(operation: Any, *replies: Any) -> tuple[list[Any], Any]:
    """Run an operation against replies that are known, and return its effects and its result."""
    effects, left = [], list(replies)
    try:
        effect = next(operation)
        while True:
            effects.append(effect)
            effect = operation.send(left.pop(0))
    except StopIteration as stop:
        assert left == []
        return effects, stop.value


def stamp_of(shelf: Shelf, name: bytes = BASE + b"stamp") -> bytes:
    return shelf.book.make(name)


# The format


def test_an_entry_comes_back_as_it_was():
    entry = Entry(
        b"payload",
        stamp=b"s" * 16,
        fresh_ms=1,
        until_ms=2,
        delta_ms=3,
        tags=[(b"a", b"1" * 16), (b"b" * 300, b"2" * 16)],
        is_negative=True,
        is_secret=True,
    )
    again = unpack(entry.pack())
    assert again is not None
    assert all(getattr(again, name) == getattr(entry, name) for name in Entry.__slots__)
    assert again.is_negative and again.is_secret


@given(st.binary(max_size=200))
def test_any_body_is_an_entry_or_none(body):
    entry = unpack(body)
    assert entry is None or isinstance(entry.payload, bytes)
    read_plain(body, b"s" * 16, 0)


def test_the_short_way_is_only_for_the_usual_entry():
    usual = {"stamp": b"s" * 16, "fresh_ms": 10, "until_ms": 20}
    assert read_plain(Entry(b"p", **usual).pack(), b"s" * 16, 9) == (b"p", 10, 0)
    assert read_plain(Entry(b"p", **usual).pack(), b"s" * 16, 10) is None
    assert read_plain(Entry(b"p", **usual).pack(), b"t" * 16, 9) is None
    assert read_plain(Entry(b"p", **usual, is_secret=True).pack(), b"s" * 16, 9) is None
    assert read_plain(Entry(b"p", **usual, tags=[(b"a", b"1" * 16)]).pack(), b"s" * 16, 9) is None
    assert read_plain(b"\2" + Entry(b"p", **usual).pack()[1:], b"s" * 16, 9) is None
    assert unpack(b"\2" + Entry(b"p", **usual).pack()[1:]) is None
    assert read_plain(Entry(b"", **usual).pack(), b"s" * 16, 9) is None


def test_lifetimes():
    assert Lifetime(5, 2).moments(NOW) == (1_005_000, 1_007_000)
    assert Lifetime(math.inf, 2).moments(NOW) == (FOREVER_MS, FOREVER_MS)
    assert server_ttl_ms(1_007_000, NOW) == 7000
    assert server_ttl_ms(999_000, NOW) == 1
    assert server_ttl_ms(FOREVER_MS, NOW) is None


def test_early_refresh_is_likelier_towards_the_end_and_for_what_takes_long():
    fresh = 1_010_000
    assert not should_refresh_early(fresh, 0, NOW, 1, 1e-300)
    assert not should_refresh_early(fresh, 1000, NOW, 0, 1e-300)
    assert not should_refresh_early(FOREVER_MS, 1000, NOW, 1, 1e-300)
    assert not should_refresh_early(fresh, 1000, NOW, 1, 1.0)
    # exp(-10) is where a second's work and ten seconds to go meet.
    assert should_refresh_early(fresh, 1000, NOW, 1, math.exp(-10.01))
    assert not should_refresh_early(fresh, 1000, NOW, 1, math.exp(-9.99))
    assert should_refresh_early(fresh, 1000, NOW + 9.9, 1, 0.9)


# Names


def test_names_do_not_meet():
    names = Names("pages", hide=lambda own: b"h" * 24)
    made = [
        names.stamp,
        names.news,
        names.entry("stamp", 1),
        names.entry("tag:x", "stamp"),
        names.tag("x"),
        names.tag("stamp"),
        names.lease(names.entry("stamp", 1)),
        names.entry(":", 1),
        names.entry("1:", 11),
    ]
    assert len(set(made)) == len(made)
    assert all(name.startswith(BASE) for name in made)
    long = names.entry("l" * (LONGEST_KEY_BYTES + 1), 1)
    assert long == BASE + b"h1:" + b"h" * 24
    assert names.tag(b"l" * 600) == BASE + b"htag:" + b"h" * 24
    assert names.entry("a", 1) == names.entry(bytearray(b"a"), "1")


@pytest.mark.parametrize("name", ["", "a{b", "a}b", "a b", "a\n", "x" * 129, 5, None, b"pages"])
def test_bad_cache_names_are_refused(name):
    with pytest.raises(ConfigurationError):
        Names(name, hide=bytes)


@pytest.mark.parametrize("version", ["", "a b", True, "x" * 65, 1.5j, None])
def test_bad_versions_are_refused(version):
    with pytest.raises(ConfigurationError):
        Names("pages", hide=bytes).entry("k", version)


# Stamps


def test_stamps_that_are_there_take_one_look():
    shelf, writer = shelf_of(), shelf_of()
    blob = stamp_of(writer)
    effects, stamps = drive(cache_stamps.ensure(shelf.book, [BASE + b"stamp"]), [[blob]])
    assert effects == [Batch([("MGET", BASE + b"stamp")])]
    assert stamps == [bytes(16)]


def test_missing_stamps_are_made_once_and_replaced_if_somebody_forged_them():
    shelf = shelf_of(first=7)
    name = BASE + b"stamp"
    theirs = shelf_of(first=9).book.make(name)
    effects, stamps = drive(cache_stamps.ensure(shelf.book, [name]), [[None]], [None, [theirs]])
    assert effects[1].commands[0][:2] == ("SET", name) and effects[1].commands[0][-1] == "NX"
    assert stamps == [(9).to_bytes(16, "big")]
    shelf = shelf_of(first=7)
    made = shelf_of(first=8).book.make(name)
    effects, stamps = drive(
        cache_stamps.ensure(shelf.book, [name]), [[b"forged"]], [None, [b"forged"]], [b"OK", [made]]
    )
    assert "NX" not in effects[2].commands[0] and stamps == [(8).to_bytes(16, "big")]
    assert shelf.book.tampered == 2
    # Who loses the fight writes under a stamp that nobody has.
    shelf = shelf_of(first=7)
    _, stamps = drive(
        cache_stamps.ensure(shelf.book, [name]), [[None]], [None, [b"forged"]], [b"OK", [b"forged"]]
    )
    assert stamps == [bytes(16)]


def test_errors_of_the_server_are_raised():
    for replies in ([ResponseError("x")],), ([[None]], [None, ResponseError("x")]):
        with pytest.raises(ResponseError):
            drive(cache_stamps.ensure(shelf_of().book, [b"s"]), *replies)
    with pytest.raises(ResponseError):
        drive(ops.invalidate(shelf_of(), None), [ResponseError("OOM")])
    with pytest.raises(ResponseError):
        drive(ops.delete(shelf_of(), [b"k"]), [ResponseError("x"), 0])


def test_stamps_are_prolonged_now_and_then():
    shelf = shelf_of()
    assert shelf.book.due([b"s", b"t"], NOW) == [b"s", b"t"]
    assert shelf.book.due([b"s", b"u"], NOW + 0.5) == [b"u"]
    assert shelf.book.due([b"s"], NOW + 1) == [b"s"]
    assert cache_stamps.keep(shelf.book, [b"s"], for_ever=False).arguments == (3000,)
    assert cache_stamps.keep(shelf.book, [b"s"], for_ever=True).arguments == (0,)


# Reading


def stored(shelf: Shelf, made: Draft, stamps: list[bytes]) -> bytes:
    return ops.seal(shelf, made, stamps)


def test_an_entry_with_tags_is_asked_for_again_once_and_then_never():
    writer, reader = shelf_of(), shelf_of()
    stamp, tag = stamp_of(writer), stamp_of(writer, BASE + b"tag:t")
    blob = stored(writer, draft(tags=(b"t",)), [bytes(16), (1).to_bytes(16, "big")])
    name = BASE + b"v1:k"
    effects, (entry,) = drive(ops.read(reader, [name], NOW), [stamp, blob], [tag])
    assert effects == [Command(("MGET", BASE + b"stamp", name)), Command(("MGET", BASE + b"tag:t"))]
    assert entry is not None and entry.payload == b"\1v"
    effects, (entry,) = drive(ops.read(reader, [name], NOW), [stamp, tag, blob])
    assert effects == [Command(("MGET", BASE + b"stamp", BASE + b"tag:t", name))]
    assert entry is not None
    for other in (None, b"forged", stamp_of(writer, BASE + b"tag:t")):
        _, (entry,) = drive(ops.read(reader, [name], NOW), [stamp, other, blob])
        assert entry is None


def test_what_does_not_count_is_none():
    writer, reader = shelf_of(), shelf_of()
    stamp, name = stamp_of(writer), BASE + b"v1:k"
    blob = stored(writer, draft(), [bytes(16)])
    for replies, now in (
        ([stamp, None], NOW),
        ([None, blob], NOW),
        ([stamp_of(writer), blob], NOW),
        ([stamp, blob], 1060.0),
        ([stamp, blob[:-1]], NOW),
    ):
        _, (entry,) = drive(ops.read(reader, [name], now), replies)
        assert entry is None
    _, (entry,) = drive(ops.read(reader, [name], 1059.9), [stamp, blob])
    assert entry is not None


# Writing


def test_a_write_under_a_stamp_that_has_changed_is_repeated():
    shelf, other = shelf_of(), shelf_of(first=5)
    old, new = stamp_of(shelf), stamp_of(other)
    shelf.book.read(BASE + b"stamp", old)
    effects, done = drive(
        ops.write(shelf, [draft()], NOW), [b"OK", [new], 0, 1], [[new]], [b"OK", [new], 0, 1]
    )
    assert done == [True]
    (_, _, first, *_), (_, _, second, *_) = (effects[at].commands[0] for at in (0, 2))
    assert first != second
    # Somebody clears all the time: in the end it was not written.
    shelf = shelf_of()
    shelf.book.read(BASE + b"stamp", stamp_of(shelf))
    replies: list[Any] = []
    for number in range(3):
        blob = stamp_of(shelf_of(first=10 + number))
        replies += [[b"OK", [blob], 0, 1], [[blob]]]
        replies[-1] = [[stamp_of(shelf_of(first=20 + number))]]
    _, done = drive(ops.write(shelf, [draft()], NOW), *replies)
    assert done == [False]


def test_what_the_server_refuses_is_told():
    shelf = shelf_of()
    stamp = stamp_of(shelf)
    shelf.book.read(BASE + b"stamp", stamp)
    _, done = drive(ops.write(shelf, [draft()], NOW), [ResponseError("OOM"), [stamp], 0, 1])
    assert done == [False]
    with pytest.raises(ResponseError):
        drive(ops.write(shelf, [draft()], NOW), [b"OK", ResponseError("x"), 0])


def test_an_immortal_entry_keeps_its_stamp_for_ever():
    shelf = shelf_of()
    stamp = stamp_of(shelf)
    shelf.book.read(BASE + b"stamp", stamp)
    made = Draft(BASE + b"v1:k", b"\1v", FOREVER_MS, FOREVER_MS)
    for _ in range(2):
        (batch,), _ = drive(ops.write(shelf, [made], NOW), [b"OK", [stamp], 0, 1])
        assert batch.commands[0][:2] == ("SET", made.name) and len(batch.commands[0]) == 3
        keep = batch.commands[-1]
        assert isinstance(keep, Call) and keep.arguments == (0,)


def test_writes_are_announced_where_they_have_to_be():
    shelf = shelf_of(announces=True)
    (batch,), count = drive(ops.delete(shelf, [BASE + b"v1:k"]), [1, 0, b"1-1", 1])
    assert count == 1 and batch.commands[2][:2] == ("XADD", BASE + b"news")
    assert batch.commands[2][-2:] == (b"k", BASE + b"v1:k")
    (batch,), _ = drive(ops.invalidate(shelf, [b"t"]), [b"OK", b"1-1", 1])
    assert batch.commands[1][-1] == BASE + b"tag:t"
    effects, _ = drive(ops.invalidate(shelf, []))
    assert effects == []


# Changing


def test_a_change_is_swapped_for_what_was_read_until_it_fits():
    shelf = shelf_of()
    stamp = stamp_of(shelf)
    blobs = [stored(shelf, draft(payload=payload), [bytes(16)]) for payload in (b"\1a", b"\1b")]
    seen = []

    def change(entry: Entry | None) -> Draft | None:
        seen.append(entry and entry.payload)
        return draft(payload=b"\1c")

    effects, done = drive(
        ops.amend(shelf, BASE + b"v1:k", change, lambda: NOW),
        [stamp, blobs[0]],
        [blobs[1], 1],
        [stamp, blobs[1]],
        [1, 1],
    )
    assert done is True and seen == [b"\1a", b"\1b"]
    swaps = [effect.commands[0] for effect in effects if isinstance(effect, Batch)]
    assert [swap.arguments[0] for swap in swaps] == blobs
    assert all(not swap.script.repeatable for swap in swaps)


def test_a_change_of_nothing_and_one_that_never_fits():
    shelf = shelf_of()
    stamp = stamp_of(shelf)
    effects, done = drive(ops.amend(shelf, BASE + b"v1:k", lambda entry: None, lambda: NOW), [stamp, None])
    assert done is False and len(effects) == 1

    operation = ops.amend(shelf, BASE + b"v1:k", lambda entry: draft(), lambda: NOW)
    effect, sleeps = next(operation), 0
    with pytest.raises(StopIteration) as stop:
        while True:
            if isinstance(effect, Sleep):
                sleeps += 1
                effect = operation.send(None)
            elif isinstance(effect, Command):
                effect = operation.send([stamp, None])
            elif isinstance(effect.commands[0], Call):
                # What is there now is another one, each time.
                effect = operation.send([None] * len(effect.commands))
            else:
                effect = operation.send([[stamp]])
    assert stop.value.value is False and sleeps > 100
    with pytest.raises(ResponseError):
        drive(
            ops.amend(shelf, BASE + b"v1:k", lambda entry: draft(), lambda: NOW),
            [stamp, None],
            [[stamp]],
            [ResponseError("OOM")],
        )


# Computing once


def claim(shelf: Shelf, *replies: Any) -> tuple[list[Any], Claim]:
    return drive(cache_lease.claim(shelf, BASE + b"v1:k", [], b"token", 30_000, NOW), *replies)


def test_a_lease_is_ours_by_its_value_and_not_by_the_reply():
    shelf = shelf_of()
    stamp = stamp_of(shelf)
    # SET said no, since its first try, whose reply was lost, had done it.
    _, claimed = claim(shelf, [None, [stamp, None, b"token"], 30_000])
    assert claimed == Claim(None, True, [bytes(16)])
    _, claimed = claim(shelf, [None, [stamp, None, b"other"], 30_000])
    assert not claimed.is_mine
    for left in (-1, 3_600_001):
        effects, claimed = claim(shelf, [None, [stamp, None, b"other"], left], b"OK")
        assert claimed.is_mine and effects[1] == Command(("SET", BASE + b"lv1:k", b"token", "PX", 30_000))
    blob = stored(shelf, draft(), [bytes(16)])
    _, claimed = claim(shelf, [b"OK", [stamp, blob, b"token"], 30_000])
    assert claimed.entry is not None and claimed.is_mine
    effects, claimed = claim(
        shelf, [b"OK", [None, None, b"token"], 1], [[None]], [b"OK", [stamp_of(shelf_of(first=3))]]
    )
    assert claimed.is_mine and claimed.stamps == [(3).to_bytes(16, "big")]
    with pytest.raises(ResponseError):
        claim(shelf, [ResponseError("OOM"), [], 0])


def wait(shelf: Shelf, clock: list[float], *replies: Any, patience: float = 10.0) -> tuple[list[Any], Claim]:
    times = iter(clock)
    return drive(
        cache_lease.await_other(shelf, BASE + b"v1:k", [], b"token", 30_000, lambda: next(times), patience),
        *replies,
    )


def test_waiting_ends_with_the_entry_with_the_lease_or_with_patience():
    shelf = shelf_of()
    stamp, blob = stamp_of(shelf), stored(shelf, draft(), [bytes(16)])
    effects, claimed = wait(
        shelf, [NOW, NOW, NOW, NOW + 1, NOW + 1], None, [stamp, None, b"o"], None, [stamp, blob, None]
    )
    assert claimed.entry is not None and not claimed.is_mine
    assert [e.seconds for e in effects if isinstance(e, Sleep)] == [0.002, 0.1]
    _, claimed = wait(
        shelf, [NOW, NOW, NOW], None, [stamp, None, None], [b"OK", [stamp, None, b"token"], 30_000]
    )
    assert claimed.is_mine
    # Somebody else was quicker; and then the clock is over, or jumps back.
    for late in (NOW + 10, NOW - 1):
        _, claimed = wait(
            shelf,
            [NOW, NOW, NOW, late],
            None,
            [stamp, None, None],
            [None, [stamp, None, b"other"], 30_000],
        )
        assert claimed == Claim(None, False, ())


def test_storing_needs_the_lease():
    shelf = shelf_of()
    for reply, expected in ((1, True), (0, False)):
        (batch,), done = drive(
            cache_lease.store(shelf, draft(), Claim(None, True, [bytes(16)]), b"token", NOW), [reply, 1]
        )
        assert done is expected
        call = batch.commands[0]
        assert call.keys == (BASE + b"v1:k", BASE + b"lv1:k") and call.arguments[0] == b"token"
    with pytest.raises(ResponseError):
        drive(
            cache_lease.store(shelf, draft(), Claim(None, True, [bytes(16)]), b"t", NOW),
            [ResponseError("OOM")],
        )
    (call,), _ = drive(cache_lease.release(shelf, BASE + b"v1:k", b"token"), 1)
    assert call.arguments == (b"token", b"", 0)


# News


def test_news_are_followed_from_the_last_that_is_known():
    news = BASE + b"news"
    entries = [[b"1-0", [b"k", b"a"]], [b"2-0", [b"k", b"b", b"k", b"c"]], [b"3-0", [b"x", b"d"]]]
    effects, (last, names) = drive(cache_news.follow(news, b"1-0", 100), [None], [entries])
    assert (last, names) == (b"3-0", [b"b", b"c"])
    assert effects[0].commands[0][:5] == ("XREAD", "COUNT", 1, "BLOCK", 100)
    for broken in ([], [[b"2-0", []]], ResponseError("WRONGTYPE"), None):
        _, (last, names) = drive(cache_news.follow(news, b"1-0", 100), [None], [broken], [[[b"9-0", []]], 1])
        assert (last, names) == (b"9-0", None)
    _, (last, names) = drive(
        cache_news.follow(news, b"1-0", 100), [None], [[[b"1-0", []], [b"2-0", None], [b"3-0", [1, 2, b"k"]]]]
    )
    assert names == []


def test_an_anchor_is_made_where_there_is_none():
    effects, last = drive(cache_news.anchor(b"n"), [[], 0], [b"1-0", 1], [[[b"1-0", []]], 1])
    assert last == b"1-0" and effects[1].commands[0][0] == "XADD"
    effects, last = drive(
        cache_news.anchor(b"n"),
        [ResponseError("WRONGTYPE"), 0],
        [1],
        [b"1-0", 1],
        [ResponseError("WRONGTYPE"), 0],
        [1],
        [ResponseError("WRONGTYPE"), 1],
        [ResponseError("WRONGTYPE"), 1],
    )
    assert last == b"0-1"
