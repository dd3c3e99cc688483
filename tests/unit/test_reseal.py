"""Resealing without a server: one envelope, the counts, the file of an interrupted run, the command."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tenantkv
from tenantkv import Keyring, Namespace
from tenantkv.cli import completion
from tenantkv.cli import main as cli_main
from tenantkv.cli import reseal as cli_reseal
from tenantkv.cli.reseal_state import StateFile
from tenantkv.envelope import Sealer
from tenantkv.envelope_header import KINDS, read_header_unverified
from tenantkv.errors import KeyringError, OpenError, UnknownKeyError
from tenantkv.ops.effects import Batch, Command
from tenantkv.ops.registry import Registrar
from tenantkv.ops.reseal import Checkpoint, Resealing, Sealers
from tenantkv.ops.reseal_tally import LISTED, Problem, Tally
from tenantkv.protection import Protection
from tenantkv.reseal import resealing
from tenantkv.rotation import add_key, promote, retire

OLD = Keyring.generate(bytes(range(96)))
ADDED = add_key(OLD, bytes(range(100, 132)))
NEW = promote(ADDED, ADDED.keys[-1].id)
END = retire(NEW, OLD.primary.id)
NOW = 1_800_000_000.0


def sealer(ring: Keyring, *, clock: float = NOW, **options: Any) -> Sealer:
    return Sealer(ring, entropy=os.urandom, clock=lambda: clock, **options)


# One envelope


@pytest.mark.parametrize("mode", ["seal", "sign"])
@pytest.mark.parametrize("value", [b"", b"42", bytes(5000)])
def test_a_resealed_value_opens_without_the_old_key(mode: Any, value: bytes) -> None:
    for kind in KINDS:
        place: Any = {"kind": kind, "name": b"n", "field": b"f"}
        for blob in (
            sealer(OLD, mode=mode).seal(value, **place),
            sealer(OLD, mode=mode).seal(value, compress=True, **place),
            sealer(OLD, mode=mode).seal(value, expires=NOW + 5, **place),
            sealer(OLD, mode=mode).seal_member(value, **place),
        ):
            renewed = sealer(NEW, mode=mode).reseal(blob, **place)
            assert sealer(END, mode=mode).open(renewed, **place) == value
            before, after = read_header_unverified(blob), read_header_unverified(renewed)
            assert before is not None and after is not None and len(renewed) == len(blob)
            assert after == before._replace(key_id=NEW.primary.id)


def test_the_expiry_is_the_one_that_it_had() -> None:
    blob = sealer(OLD).seal(b"v", kind="kv", name=b"n", expires=NOW + 5)
    renewed = sealer(NEW).reseal(blob, kind="kv", name=b"n")
    assert sealer(END, clock=NOW + 4).open(renewed, kind="kv", name=b"n") == b"v"
    with pytest.raises(OpenError):
        sealer(END, clock=NOW + 5).open(renewed, kind="kv", name=b"n")
    with pytest.raises(OpenError):
        sealer(NEW, clock=NOW + 5).reseal(blob, kind="kv", name=b"n")


def test_equal_members_stay_equal() -> None:
    blob = sealer(OLD).seal_member(b"m", kind="set", name=b"n")
    renewed = sealer(NEW).reseal(blob, kind="set", name=b"n")
    assert renewed == sealer(NEW).seal_member(b"m", kind="set", name=b"n") != blob


def test_only_what_opens_is_resealed() -> None:
    blob = sealer(OLD).seal(b"v", kind="kv", name=b"n")
    for place in (("kv", b"m", b""), ("kv", b"n", b"f"), ("list", b"n", b"")):
        kind: Any = place[0]
        with pytest.raises(OpenError):
            sealer(NEW).reseal(blob, kind=kind, name=place[1], field=place[2])
    for bit in range(0, len(blob) * 8, 5):
        bad = bytearray(blob)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(OpenError):
            sealer(NEW).reseal(bytes(bad), kind="kv", name=b"n")
    with pytest.raises(OpenError):
        sealer(END).reseal(blob, kind="kv", name=b"n")
    with pytest.raises(UnknownKeyError):
        sealer(OLD).reseal(sealer(NEW).seal(b"v", kind="kv", name=b"n"), kind="kv", name=b"n")
    with pytest.raises(OpenError):
        sealer(NEW).reseal(sealer(OLD, mode="sign").seal(b"v", kind="kv", name=b"n"), kind="kv", name=b"n")
    with pytest.raises(OpenError):
        sealer(NEW).reseal(b"plain", kind="kv", name=b"n")


# Names and where to go on


class Pages:
    """A server that answers SCAN with pages, INFO with a run, and everything else with no key."""

    def __init__(self, pages: dict[int, tuple[int, list[bytes]]], runs: list[bytes]) -> None:
        self.pages = pages
        self.runs = runs
        self.asked: list[int] = []

    def drive(self, work: Resealing) -> None:
        while self._step(work):
            pass

    def _step(self, work: Resealing) -> bool:
        operation = work.step(NOW)
        try:
            effect = next(operation)
            while True:
                effect = operation.send(self._answer(effect))
        except StopIteration as stop:
            return bool(stop.value)

    def _answer(self, effect: Any) -> Any:
        if isinstance(effect, Batch):
            return [[b"none", b"0", 0, 0, 0, 0] for _ in effect.commands]
        assert isinstance(effect, Command)
        if effect.arguments[0] == "INFO":
            run = self.runs.pop(0) if len(self.runs) > 1 else self.runs[0]
            return b"# Server\r\nrun_id:" + run + b"\r\nuptime:1\r\n"
        cursor = effect.arguments[1]
        assert effect.arguments[0] == "SCAN" and isinstance(cursor, int)
        self.asked.append(cursor)
        following, names = self.pages[cursor]
        return [b"%d" % following, names]


def work_on(start: Checkpoint | None = None, registrar: Registrar | None = None) -> Resealing:
    both = Sealers(sealer(NEW), sealer(NEW))
    return Resealing(Namespace(NEW), both, registrar, start=start)


PAGES = {0: (4, [b"a", b"b"]), 4: (2, [b"b", b"c"]), 2: (6, []), 6: (0, [b"d"])}


def test_all_pages_of_names() -> None:
    server = Pages(PAGES, [b"one"])
    work = work_on()
    server.drive(work)
    assert server.asked == [0, 4, 2, 6] and work.progress == 1.0 and work.tally.keys == 5


def test_progress_follows_scan() -> None:
    shown = []
    for cursor in (0, 4, 2, 6, 1, 5, 3, 7):
        shown.append(work_on(Checkpoint("scan", cursor, "one")).progress)
    assert shown == [step / 8 for step in range(8)]
    assert work_on(Checkpoint("registry", 16)).progress == 0.25


def test_going_on_where_it_stopped() -> None:
    start = Checkpoint.from_json(
        json.loads(json.dumps(Checkpoint("scan", 2, "one", Tally(keys=9)).to_json()))
    )
    server = Pages(PAGES, [b"one"])
    work = work_on(start)
    server.drive(work)
    assert server.asked == [2, 6] and work.tally.keys == 10
    assert start.tally.keys == 9, "what was loaded must not change under whoever has it"


def test_another_server_counts_in_another_order() -> None:
    server = Pages(PAGES, [b"two"])
    work = work_on(Checkpoint("scan", 2, "one", Tally(keys=9, resealed=7)))
    server.drive(work)
    assert server.asked == [0, 4, 2, 6] and (work.tally.keys, work.tally.resealed) == (5, 7)
    # Replaced while it runs.
    server = Pages(PAGES, [b"one", b"two"])
    work = work_on()
    server.drive(work)
    assert server.asked == [0, 4, 2, 6, 0, 4, 2, 6] and work.tally.keys == 5


def test_a_failed_step_can_be_repeated() -> None:
    work = work_on()
    server = Pages(PAGES, [b"one"])
    assert server._step(work)
    operation = work.step(NOW)
    assert isinstance(next(operation), Batch)
    with pytest.raises(ConnectionError):
        operation.throw(ConnectionError("lost"))
    assert work.checkpoint.source == "", "nothing of this page is done"
    server.drive(work)
    assert server.asked == [0, 4, 2, 6] and work.tally.keys == 5


def test_without_scan_and_registry() -> None:
    work = work_on()
    operation = work.step(NOW)
    next(operation)
    with pytest.raises(tenantkv.RefusedError, match="registry"):
        operation.send(None)


# Counts


def test_a_tally_is_stored_whole() -> None:
    tally = Tally(keys=3, resealed=2, merged=1, current=4, plain=5, plugins=6)
    tally.leave("0a0b0c0d", "streams", 3)
    tally.skip("cache", 7000)
    tally.skip("cache", -1)
    tally.list_problem(Problem("a\udcff", ("web",), "set", "unopened", 2))
    assert Tally.from_json(json.loads(json.dumps(tally.to_json()))) == tally
    assert (tally.skipped["cache"].keys, tally.skipped["cache"].immortal) == (2, 1)


def test_the_list_of_names_is_bounded() -> None:
    tally = Tally()
    for number in range(LISTED + 5):
        tally.list_problem(Problem(str(number), (), "set", "unopened", 1))
    assert (len(tally.problems), tally.unlisted) == (LISTED, 5)


def test_in_memory() -> None:
    # All of a process share that memory, so an identity that no other test has.
    ring = Keyring.generate(os.urandom(96))
    kv = tenantkv.connect("memory://", namespace=Namespace(ring), seal=True)
    try:
        kv.set("s", "v")
        kv.hset("h", "f", "v")
        kv.sadd("set", "v")
        work = resealing(kv)
        while kv.run(work.step(time.time())):
            pass
        assert (work.tally.keys, work.tally.current, work.tally.resealed) == (3, 3, 0)
    finally:
        kv.flushdb()
        kv.close()


# The file of an interrupted run


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[Keyring]:
    yield Keyring.parse(NEW.dump(), str(tmp_path / "default.json"))


def checkpoint(names: int = 1) -> Checkpoint:
    tally = Tally(resealed=5)
    for number in range(names):
        tally.list_problem(Problem(f"own name {number} " + os.urandom(100).hex(), (), "set", "unopened", 1))
    return Checkpoint("scan", 77, "one", tally)


def test_the_file_is_private_and_shows_nothing(ring: Keyring) -> None:
    state = StateFile(Namespace(ring), None)
    given = checkpoint()
    old = os.umask(0)
    try:
        state.save(given, now=0.0)
    finally:
        os.umask(old)
    assert state.path is not None and state.path.stat().st_mode & 0o777 == 0o600
    text = state.path.read_text()
    for shown in ("own name", "77", NEW.prefix):
        assert shown not in text.replace(json.loads(text)["state"], "")
    assert StateFile(Namespace(ring), None).load() == given
    state.remove()
    assert state.load() is None and not state.path.exists()
    state.remove()


def test_a_file_of_somebody_else_is_none(ring: Keyring, tmp_path: Path) -> None:
    path = tmp_path / "state"
    StateFile(Namespace(ring), str(path)).save(checkpoint(), now=0.0)
    again = add_key(ring, bytes(range(50, 82)))
    for other in (
        Namespace(ring).child("web"),
        Namespace(Keyring.generate(os.urandom(96))),
        Namespace(promote(again, again.keys[-1].id)),
    ):
        assert StateFile(other, str(path)).load() is None
    whole = path.read_text()
    for text in ("", "{", "[]", "{}", "null", '{"tenantkv_reseal":1}', '{"state":"*"}', whole[:-9] + '"}\n'):
        path.write_text(text)
        assert StateFile(Namespace(ring), str(path)).load() is None
    path.write_text(whole)
    assert StateFile(Namespace(ring), str(path)).load() is not None
    path.chmod(0o666)
    with pytest.raises(KeyringError):
        StateFile(Namespace(ring), str(path)).load()


def test_a_file_that_would_be_too_long_keeps_fewer_names(ring: Keyring) -> None:
    state = StateFile(Namespace(ring), None)
    given = checkpoint(LISTED)
    state.save(given, now=0.0)
    loaded = state.load()
    assert loaded is not None and 0 < len(loaded.tally.problems) < LISTED
    assert len(loaded.tally.problems) + loaded.tally.unlisted == LISTED
    assert len(given.tally.problems) == LISTED


def test_the_file_is_not_written_all_the_time(ring: Keyring) -> None:
    state = StateFile(Namespace(ring), None)
    first, second, third = checkpoint(), checkpoint(), checkpoint()
    state.save(first, now=10.0)
    state.save(second, now=10.5)
    assert state.load() == first
    state.save(second, now=11.5)
    assert state.load() == second
    state.save(third, now=float("inf"))
    assert state.load() == third


def test_where_there_is_no_place_for_a_file(
    ring: Keyring, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inline = Keyring.parse(NEW.dump(), "env:TENANTKV_SECRET_KEYRING")
    state = StateFile(Namespace(inline), None)
    state.save(checkpoint(), now=0.0)
    assert state.path is None and state.load() is None
    gone = Keyring.parse(NEW.dump(), str(tmp_path / "gone" / "default.json"))
    state = StateFile(Namespace(gone), None)
    state.save(checkpoint(), now=0.0)
    assert state.path is None and "--state" in capsys.readouterr().err
    with pytest.raises(KeyringError):
        StateFile(Namespace(ring), str(tmp_path / "gone" / "state")).save(checkpoint(), now=0.0)


# The report


def test_only_older_keys_are_named_as_unneeded() -> None:
    work = work_on()
    Pages(PAGES, [b"one"]).drive(work)
    waiting = add_key(NEW, bytes(range(50, 82)))
    report = cli_reseal.describe(Namespace(waiting), work, dry_run=False)
    assert report.unneeded == (OLD.primary.id,)
    work.tally.leave(OLD.primary.id, "unopened")
    work.tally.leave("unknown", "unopened")
    report = cli_reseal.describe(Namespace(waiting), work, dry_run=False)
    assert report.unneeded == () and [each.state for each in report.left] == ["active", "unknown"]
    assert cli_reseal.describe(Namespace(END), work, dry_run=False).left[0].state == "retired"


def test_a_dry_run_that_finds_work_names_no_key_as_unneeded() -> None:
    work = work_on()
    work.tally.resealed = 1
    assert cli_reseal.describe(Namespace(NEW), work, dry_run=True).unneeded == ()
    assert cli_reseal.describe(Namespace(NEW), work, dry_run=False).unneeded == (OLD.primary.id,)


def test_shells_complete_it() -> None:
    shapes = completion.shapes(cli_main.build_parser())
    key = next(shape for shape in shapes if shape.name == "key")
    names = [name for option in key.options for name in option.names]
    assert "--dry-run" in names and "--undo" in names and len(names) == len(set(names))
    assert any("reseal" in option.choices for option in key.options)


def test_the_settings_of_a_hidden_namespace_are_used() -> None:
    hidden = Namespace(NEW, protection=Protection(seal=True, names="hidden"))
    both = Sealers(sealer(NEW), sealer(NEW))
    work = Resealing(hidden, both, None)
    with pytest.raises(tenantkv.RefusedError, match="registry"):
        next(work.step(NOW))


def test_a_compressed_value_that_is_a_bomb_is_not_resealed() -> None:
    bomb = zlib.compress(bytes(3000))
    key = sealer(OLD, largest_bytes=2000)
    made = sealer(OLD).seal(bytes(3000), kind="kv", name=b"n", compress=True)
    assert len(made) < 2000 + 40 and len(bomb) < 2000
    with pytest.raises(OpenError):
        key.reseal(made, kind="kv", name=b"n")
