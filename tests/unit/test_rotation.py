"""Rotation: the steps, the file under concurrent writers, and programs that notice while they run."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tenantkv
import tenantkv.keyring_rewrite as rewriting
from tenantkv.errors import (
    KeyringError,
    KeyringFormatError,
    KeyringNotFoundError,
    KeyringPermissionError,
    OpenError,
    PrefixRotatedError,
    TenantKVError,
    UnknownKeyError,
)
from tenantkv.keyring import Former, Keyring
from tenantkv.keyring_files import replace_secret_file
from tenantkv.keyring_reload import KeyringReloader, load_again, refuse_rotated
from tenantkv.keyring_rewrite import add_random_key, replace_prefix_at_random, rewrite_keyring
from tenantkv.keyring_store import load_keyring
from tenantkv.namespace import Namespace
from tenantkv.rotation import (
    MOST_KEYS,
    add_key,
    find_key,
    promote,
    reinstate,
    replace_prefix,
    retire,
    retire_prefix,
    sides,
    turn_back,
)
from tenantkv.sealing import LiveSealer

RING = Keyring.generate(bytes(range(96)))
PLACE: dict[str, Any] = {"kind": "kv", "name": b"name"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A keyring in a file, as ``tenantkv init`` leaves it."""
    directory = tmp_path / "keys"
    directory.mkdir(mode=0o700)
    file = directory / "default.json"
    file.write_text(RING.dump())
    file.chmod(0o600)
    return file


def states(ring: Keyring) -> list[str]:
    return [key.state for key in ring.keys]


def rotated(ring: Keyring, secret: bytes = bytes(32)) -> Keyring:
    ring = add_key(ring, secret)
    return promote(ring, ring.keys[-1].id)


class TestSteps:
    def test_the_road_of_a_key(self) -> None:
        first = RING.primary.id
        ring = add_key(RING, bytes(32), created="2026-01-01T00:00:00Z")
        second = ring.keys[-1].id
        assert (ring.generation, states(ring)) == (2, ["primary", "active"])
        ring = promote(ring, second)
        assert (ring.generation, states(ring), ring.primary.id) == (3, ["active", "primary"], second)
        ring = retire(ring, first)
        assert (ring.generation, states(ring)) == (4, ["retired", "primary"])
        ring = reinstate(ring, first)
        assert (ring.generation, states(ring)) == (5, ["active", "primary"])
        assert Keyring.parse(ring.dump()) == ring

    def test_names_and_fingerprint_stay(self) -> None:
        ring = rotated(RING)
        assert (ring.prefix, ring.naming, ring.fingerprint) == (RING.prefix, RING.naming, RING.fingerprint)
        assert (ring.namespace, ring.source) == (RING.namespace, RING.source)

    def test_children_take_part(self) -> None:
        ring = retire(rotated(RING), RING.primary.id)
        child, before = ring.child("a"), RING.child("a")
        assert child.fingerprint == before.fingerprint and child.prefix == before.prefix
        assert states(child) == ["retired", "primary"] and child.generation == ring.generation
        assert child.keys[0].secret == before.primary.secret

    def test_a_step_that_is_done_changes_nothing(self) -> None:
        ring = retire(rotated(RING), RING.primary.id)
        assert promote(ring, ring.primary.id) is ring
        assert retire(ring, RING.primary.id) is ring
        assert reinstate(ring, ring.primary.id) is ring

    def test_what_would_break_is_refused(self) -> None:
        ring = retire(rotated(RING), RING.primary.id)
        with pytest.raises(KeyringError, match="primary"):
            retire(ring, ring.primary.id)
        with pytest.raises(KeyringError, match="retired"):
            promote(ring, RING.primary.id)
        with pytest.raises(KeyringError, match="already"):
            add_key(ring, RING.primary.secret)
        for wrong in (b"", bytes(31), bytes(33)):
            with pytest.raises(KeyringFormatError):
                add_key(ring, wrong)

    @pytest.mark.parametrize("key_id", ["", "00000000", "not-an-id", "a-secret-by-mistake"])
    def test_an_unknown_id_is_refused_and_not_repeated(self, key_id: str) -> None:
        for step in (promote, retire, reinstate, find_key):
            with pytest.raises(KeyringError, match=RING.primary.id) as caught:
                step(RING, key_id)
            assert not key_id or key_id not in str(caught.value)

    def test_a_full_keyring_can_still_be_read(self, tmp_path: Path) -> None:
        ring = RING
        for number in range(MOST_KEYS - 1):
            ring = add_key(ring, number.to_bytes(32, "big"), created="2026-01-01T00:00:00.000000+00:00")
        with pytest.raises(KeyringError, match="100 keys"):
            add_key(ring, b"x" * 32)
        file = tmp_path / "full.json"
        file.write_text(ring.dump())
        file.chmod(0o600)
        assert load_keyring(file) == ring

    @given(st.lists(st.tuples(st.sampled_from("apri"), st.integers(0, 5)), max_size=30))
    def test_any_steps_leave_a_keyring(self, steps: list[tuple[str, int]]) -> None:
        ring = RING
        for step, number in steps:
            key_id = ring.keys[number % len(ring.keys)].id
            before = ring
            try:
                if step == "a":
                    ring = add_key(ring, number.to_bytes(32, "big"))
                else:
                    ring = {"p": promote, "r": retire, "i": reinstate}[step](ring, key_id)
            except KeyringError:
                continue
            assert ring is before or ring.generation == before.generation + 1
            assert states(ring).count("primary") == 1 and Keyring.parse(ring.dump()) == ring
            assert ring.keys[: len(before.keys)] == before.keys or step != "a"


class TestRewrite:
    def test_the_file_is_replaced_whole(self, path: Path) -> None:
        before = path.stat()
        ring = add_random_key(load_keyring(path))
        after = path.stat()
        assert load_keyring(path) == ring and ring.source == str(path)
        assert after.st_ino != before.st_ino and stat.S_IMODE(after.st_mode) == 0o600
        assert sorted(place.name for place in path.parent.iterdir()) == [".default.json.lock", "default.json"]
        assert stat.S_IMODE((path.parent / ".default.json.lock").stat().st_mode) == 0o600
        assert ring.keys[-1].created.endswith("Z") and ring.keys[-1].state == "active"

    def test_nothing_to_do_writes_nothing(self, path: Path) -> None:
        before = path.stat()
        ring = rewrite_keyring(load_keyring(path), lambda now: promote(now, RING.primary.id))
        assert ring == RING and path.stat().st_ino == before.st_ino

    def test_the_step_is_made_on_what_the_file_has_by_now(self, path: Path) -> None:
        stale = load_keyring(path)
        add_random_key(load_keyring(path))
        ring = add_random_key(stale)
        assert (ring.generation, len(ring.keys)) == (3, 3)

    def test_a_refused_step_leaves_the_file_alone(self, path: Path) -> None:
        with pytest.raises(KeyringError, match="primary"):
            rewrite_keyring(load_keyring(path), lambda now: retire(now, RING.primary.id))
        assert path.read_text() == RING.dump()

    def test_another_identity_is_left_alone(self, path: Path) -> None:
        ring = load_keyring(path)
        other = Keyring.generate(bytes(range(96))[::-1]).dump()
        path.write_text(other)
        with pytest.raises(KeyringError, match="another identity"):
            add_random_key(ring)
        assert path.read_text() == other

    @pytest.mark.parametrize("skip", [0, 2])
    def test_a_step_gives_the_next_generation(self, path: Path, skip: int) -> None:
        def step(now: Keyring) -> Keyring:
            return Keyring(now.prefix, now.naming, now.keys, now.namespace, now.generation + skip)

        with pytest.raises(KeyringError, match="next generation"):
            rewrite_keyring(load_keyring(path), step)

    def test_without_a_file_it_says_what_to_do(self, path: Path) -> None:
        for ring in (RING, Keyring.parse(RING.dump(), "env:TENANTKV_SECRET_KEYRING")):
            with pytest.raises(KeyringError, match="--print-env"):
                add_random_key(ring)

    def test_a_link_goes_on_leading_there(self, path: Path) -> None:
        link = path.parent.parent / "link.json"
        link.symlink_to(path)
        ring = add_random_key(load_keyring(link))
        assert link.is_symlink() and load_keyring(path) == ring and ring.source == str(link)

    def test_a_containers_mode_is_kept(self, path: Path) -> None:
        path.chmod(0o644)
        with pytest.raises(KeyringPermissionError):
            add_random_key(load_keyring(path, permissions="container"))
        add_random_key(load_keyring(path, permissions="container"), permissions="container")
        assert stat.S_IMODE(path.stat().st_mode) == 0o644

    def test_a_link_in_the_place_of_the_lock_is_not_followed(self, path: Path) -> None:
        (path.parent / ".default.json.lock").symlink_to(path.parent / "elsewhere")
        with pytest.raises(KeyringError, match="cannot write"):
            add_random_key(load_keyring(path))
        assert not (path.parent / "elsewhere").exists()

    def test_a_full_disk_leaves_the_old_document(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        ring = load_keyring(path)
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(KeyringError, match="No space"):
            add_random_key(ring)
        assert path.read_text() == RING.dump()
        assert not [place for place in path.parent.iterdir() if place.name.startswith(".keyring-")]


def _add_keys(path: str, times: int) -> None:
    for _ in range(times):
        while True:
            try:
                add_random_key(load_keyring(path))
            except KeyringError as error:
                assert "keep rewriting" in str(error)
                continue
            break


class TestConcurrentWriters:
    WRITERS, TIMES = 8, 4

    def test_no_step_is_lost_and_readers_see_whole_documents(self, path: Path) -> None:
        fork = multiprocessing.get_context("spawn")
        writers = [fork.Process(target=_add_keys, args=(str(path), self.TIMES)) for _ in range(self.WRITERS)]
        for writer in writers:
            writer.start()
        generations = [1]
        while any(writer.is_alive() for writer in writers):
            ring = load_keyring(path)
            assert ring.generation == len(ring.keys)
            generations.append(ring.generation)
        for writer in writers:
            writer.join()
            assert writer.exitcode == 0
        ring = load_keyring(path)
        assert generations == sorted(generations)
        assert ring.generation == len(ring.keys) == 1 + self.WRITERS * self.TIMES
        assert [place for place in path.parent.iterdir() if place.name.startswith(".keyring-")] == []

    def test_without_locks_a_faster_writer_is_noticed(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Another writer gets in between our reading and our writing, once at each point.
        ring = load_keyring(path)
        others: list[Keyring] = []
        replace = replace_secret_file

        def other_first(place: Path, text: str) -> None:
            if len(others) == 1:
                # Between the last look and the rename: ours is written over theirs, then theirs over ours.
                replace(place, text)
                others.append(add_key(others[0], b"2" * 32))
                replace(place, others[1].dump())
            else:
                replace(place, text)

        def step(now: Keyring) -> Keyring:
            if not others:
                others.append(add_key(now, b"1" * 32))
                replace(path, others[0].dump())
            return add_key(now, b"3" * 32)

        monkeypatch.setattr(rewriting, "replace_secret_file", other_first)
        done = rewrite_keyring(ring, step)
        secrets = [key.secret for key in done.keys]
        assert secrets[1:] == [b"1" * 32, b"2" * 32, b"3" * 32] and load_keyring(path) == done

    def test_an_endless_race_ends(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        number = iter(range(100))

        def step(now: Keyring) -> Keyring:
            path.write_text(add_key(now, next(number).to_bytes(32, "big")).dump())
            return add_key(now, b"x" * 32)

        with pytest.raises(KeyringError, match="try again"):
            rewrite_keyring(load_keyring(path), step)


class TestReloader:
    def test_it_reads_at_most_once_a_pause(self, path: Path) -> None:
        clock = Clock()
        reloader = KeyringReloader(load_keyring(path), clock=clock)
        for _ in range(100):
            assert reloader.reload() is None
        assert reloader.reloads == 1
        clock.now += 1
        new = add_random_key(load_keyring(path))
        assert reloader.reload() == new == reloader.keyring
        assert reloader.reloads == 2

    def test_refresh_only_looks_at_the_file(self, path: Path) -> None:
        clock = Clock()
        reloader = KeyringReloader(load_keyring(path), clock=clock)
        assert reloader.refresh() is None and reloader.reloads == 0
        new = add_random_key(load_keyring(path))
        assert reloader.refresh() == new and reloader.reloads == 1
        assert reloader.refresh() is None and reloader.reloads == 1

    @pytest.mark.parametrize("damage", ["gone", "half", "foreign", "open", "older"])
    def test_what_cannot_be_used_changes_nothing(self, path: Path, damage: str) -> None:
        clock = Clock()
        ring = add_random_key(load_keyring(path))
        reloader = KeyringReloader(ring, clock=clock)
        if damage == "gone":
            path.unlink()
        elif damage == "open":
            add_random_key(ring)
            path.chmod(0o644)
        else:
            other = Keyring.generate(bytes(range(96))[::-1])
            foreign = rotated(rotated(other), b"x" * 32).dump()
            path.write_text({"half": ring.dump()[:200], "foreign": foreign, "older": RING.dump()}[damage])
        assert reloader.reload() is None and reloader.keyring == ring

    def test_children(self, path: Path) -> None:
        reloader = KeyringReloader(load_keyring(path), path=("a", "b"))
        assert reloader.keyring == RING.child("a").child("b")
        new = add_random_key(load_keyring(path))
        assert reloader.reload() == new.child("a").child("b")

    def test_an_argument_cannot_be_read_again(self) -> None:
        with pytest.raises(KeyringError, match="argument"):
            load_again(RING)
        assert KeyringReloader(RING).reload() is None and KeyringReloader(RING).refresh() is None

    def test_a_variable_is_read_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TENANTKV_SECRET_KEYRING", RING.dump(compact=True))
        reloader = KeyringReloader(load_keyring())
        new = rotated(RING)
        monkeypatch.setenv("TENANTKV_SECRET_KEYRING", new.dump(compact=True))
        assert reloader.reload() == new
        monkeypatch.delenv("TENANTKV_SECRET_KEYRING")
        with pytest.raises(TenantKVError):
            load_again(reloader.keyring)

    def test_a_mounted_secret(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # Kubernetes: a link to a file that others may read; a rotation is another target.
        monkeypatch.setenv("TENANTKV_KEYRING_PERMISSIONS", "container")
        path.chmod(0o644)
        link = path.parent / "mounted.json"
        link.symlink_to(path.name)
        reloader = KeyringReloader(load_keyring(link))
        newer = path.parent / "newer.json"
        newer.write_text(rotated(RING).dump())
        (path.parent / "new-link").symlink_to(newer.name)
        os.rename(path.parent / "new-link", link)
        assert reloader.refresh() == rotated(RING)


class TestLiveSealer:
    def test_a_rotation_while_programs_run(self, path: Path) -> None:
        clock = Clock()
        programs = [LiveSealer(load_keyring(path), monotonic=clock) for _ in range(2)]
        writer, reader = programs
        old = writer.seal(b"old", **PLACE)
        ring = add_random_key(load_keyring(path))
        ring = rewrite_keyring(ring, lambda now: promote(now, ring.keys[-1].id))
        # A third program, started after the rotation, is understood at once.
        new = LiveSealer(load_keyring(path)).seal(b"new", **PLACE)
        assert reader.open(new, **PLACE) == b"new" and reader.open(old, **PLACE) == b"old"
        assert reader.is_outdated(old) and not reader.is_outdated(new)
        # One that only writes moves to the new key within the refresh.
        assert writer.seal(b"v", **PLACE)[3:7].hex() == RING.primary.id
        clock.now += 30
        assert writer.seal(b"v", **PLACE)[3:7].hex() == ring.primary.id
        assert writer.seal_member(b"v", **PLACE)[3:7].hex() == ring.primary.id
        rewrite_keyring(ring, lambda now: retire(now, RING.primary.id))
        clock.now += 30
        for program in programs:
            program.seal(b"", **PLACE)
            with pytest.raises(OpenError) as caught:
                program.open(old, **PLACE)
            assert type(caught.value) is OpenError and program.open(new, **PLACE) == b"new"

    def test_a_flood_of_unknown_keys_reads_once_a_second(self, path: Path) -> None:
        clock = Clock()
        reloader = KeyringReloader(load_keyring(path), clock=clock)
        live = LiveSealer(RING, reloader=reloader, monotonic=clock)
        for number in range(1000):
            blob = bytes([0xC1, 0x11, 0]) + number.to_bytes(4, "big") + bytes(60)
            with pytest.raises(UnknownKeyError):
                live.open(blob, **PLACE)
        assert reloader.reloads == 1

    def test_what_another_thread_has_read_counts(self, path: Path) -> None:
        clock = Clock()
        reloader = KeyringReloader(load_keyring(path), clock=clock)
        live = LiveSealer(RING, reloader=reloader, monotonic=clock)
        ring = rewrite_keyring(load_keyring(path), rotated_once)
        assert reloader.reload() == ring
        # Within the pause; the file is not read again.
        assert live.open(LiveSealer(ring).seal(b"v", **PLACE), **PLACE) == b"v" and reloader.reloads == 1

    def test_a_lost_file_stops_no_program(self, path: Path) -> None:
        clock = Clock()
        live = LiveSealer(load_keyring(path), monotonic=clock)
        path.unlink()
        clock.now += 100
        assert live.open(live.seal(b"v", **PLACE), **PLACE) == b"v"
        with pytest.raises(UnknownKeyError):
            live.open(LiveSealer(rotated(RING)).seal(b"v", **PLACE), **PLACE)
        with pytest.raises(KeyringNotFoundError):
            load_again(live.sealer.keyring)

    def test_children_follow(self, path: Path) -> None:
        live = LiveSealer(load_keyring(path), path=("a",))
        ring = rewrite_keyring(load_keyring(path), rotated_once)
        blob = LiveSealer(ring, path=("a",)).seal(b"v", **PLACE)
        assert live.open(blob, **PLACE) == b"v"
        with pytest.raises(UnknownKeyError):
            live.open(LiveSealer(ring).seal(b"v", **PLACE), **PLACE)

    def test_modes_and_settings_go_through(self) -> None:
        live = LiveSealer(RING, mode="sign", suites=("sign", "xaes", "siv"), clock=lambda: 5.0)
        assert live.mode == "sign" and b"readable" in live.seal(b"readable", **PLACE)
        assert live.open(LiveSealer(RING).seal(b"v", **PLACE), **PLACE) == b"v"
        assert live.open(live.seal(b"v", **PLACE, expires=6), **PLACE) == b"v"
        assert RING.primary.secret.hex() not in repr(live)

    def test_threads_during_a_rotation(self, path: Path) -> None:
        live = LiveSealer(load_keyring(path), refresh=0.0)
        stop, wrong = time.monotonic() + 1.5, []

        def work() -> None:
            while time.monotonic() < stop:
                try:
                    if live.open(live.seal(b"v", **PLACE), **PLACE) != b"v":
                        wrong.append("value")
                except Exception as error:
                    wrong.append(repr(error))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        ring = load_keyring(path)
        for _ in range(5):
            ring = add_random_key(ring)
            newest = ring.keys[-1].id
            ring = rewrite_keyring(ring, lambda now, newest=newest: promote(now, newest))  # type: ignore[misc]
            time.sleep(0.1)
        for thread in threads:
            thread.join()
        assert wrong == []


def rotated_once(now: Keyring) -> Keyring:
    ring = add_key(now, b"y" * 32)
    return Keyring(
        ring.prefix, ring.naming, promote(ring, ring.keys[-1].id).keys, ring.namespace, ring.generation
    )


NEW = "a-prefix-that-comes-next"


class TestPrefix:
    def test_the_road_of_a_prefix(self) -> None:
        ring = replace_prefix(RING, NEW, since="2026-01-01T00:00:00Z")
        assert (ring.prefix, ring.generation, ring.naming, ring.keys) == (NEW, 2, RING.naming, RING.keys)
        assert Keyring.parse(ring.dump()) == ring and Keyring.parse(ring.dump(compact=True)) == ring
        former, current = sides(ring)
        assert former.fingerprint == RING.fingerprint and current.prefix == NEW
        back = turn_back(ring)
        assert (back.prefix, back.generation, sides(back)[0].prefix) == (RING.prefix, 3, NEW)
        assert turn_back(back) is back
        assert retire_prefix(back).fingerprint == RING.fingerprint
        done = retire_prefix(ring)
        assert (done.prefix, done.former, done.generation) == (NEW, None, 3)
        assert done.child("a").fingerprint == RING.child("a").fingerprint

    def test_steps_at_the_wrong_time_are_refused(self) -> None:
        for step in (turn_back, retire_prefix, sides):
            with pytest.raises(KeyringError, match="no prefix is being replaced"):
                step(RING)
        with pytest.raises(KeyringError, match="already"):
            replace_prefix(replace_prefix(RING, NEW), "another-prefix-of-mine")
        with pytest.raises(KeyringError, match="old one"):
            replace_prefix(RING, RING.prefix)

    def test_keys_rotate_meanwhile_and_the_former_prefix_stays(self) -> None:
        ring = rotated(replace_prefix(RING, NEW))
        assert ring.former is not None and ring.former.prefix == RING.prefix

    def test_no_namespace_is_made_of_it_and_nothing_shows_a_prefix(self) -> None:
        ring = replace_prefix(RING, NEW)
        with pytest.raises(PrefixRotatedError, match="rotate run") as caught:
            Namespace(ring)
        with pytest.raises(PrefixRotatedError):
            Namespace(ring.child("a"), root=ring, path=("a",))
        for text in (str(caught.value), repr(ring), repr(ring.former)):
            assert NEW not in text and RING.prefix not in text

    @pytest.mark.parametrize(
        "former",
        [
            "x",
            [],
            {},
            {"prefix": "short", "since": "", "is_back": False},
            {"prefix": NEW, "since": "", "is_back": 1},
        ],
        ids=["text", "list", "empty", "short", "number"],
    )
    def test_a_damaged_document_is_refused(self, former: object) -> None:
        document = json.loads(RING.dump())
        document["former"] = former
        with pytest.raises(KeyringFormatError) as caught:
            Keyring.parse(json.dumps(document))
        assert NEW not in str(caught.value)

    def test_in_the_file(self, path: Path) -> None:
        ring = replace_prefix_at_random(load_keyring(path))
        assert load_keyring(path) == ring and ring.former is not None and ring.former.prefix == RING.prefix
        assert stat.S_IMODE(path.stat().st_mode) == 0o600 and len(ring.prefix) == 44
        with pytest.raises(KeyringError, match="already"):
            replace_prefix_at_random(ring)
        back = rewrite_keyring(ring, turn_back)
        assert rewrite_keyring(back, retire_prefix).fingerprint == RING.fingerprint

    def test_a_prefix_is_never_lost_and_no_name_changed(self, path: Path) -> None:
        ring = load_keyring(path)
        lost = dataclasses.replace(ring, prefix=NEW, generation=2)
        renamed = dataclasses.replace(ring, naming=bytes(32), generation=2)
        with pytest.raises(KeyringError, match="next generation"):
            rewrite_keyring(ring, lambda _: lost)
        with pytest.raises(KeyringError, match="next generation"):
            rewrite_keyring(ring, lambda _: renamed)
        going = replace_prefix_at_random(ring)
        third = dataclasses.replace(sides(going)[1], prefix=NEW, former=Former(going.prefix), generation=3)
        with pytest.raises(KeyringError, match="next generation"):
            rewrite_keyring(going, lambda _: third)
        assert load_keyring(path) == going

    def test_programs_are_told_each_time_until_it_is_back(self, path: Path) -> None:
        clock = Clock()
        ring = load_keyring(path)
        sealer = LiveSealer(ring, monotonic=clock)
        child = KeyringReloader(ring, path=("a",), clock=clock)
        going = replace_prefix_at_random(ring)
        sealer.seal(b"", **PLACE)
        for _ in range(3):
            clock.now += 40
            with pytest.raises(PrefixRotatedError, match="start the program again") as caught:
                sealer.seal(b"", **PLACE)
        assert going.prefix not in str(caught.value) and RING.prefix not in str(caught.value)
        with pytest.raises(PrefixRotatedError):
            sealer.seal(b"", **PLACE)
        # A child's names do not hang on the prefix.
        assert child.reload() is not None
        rewrite_keyring(going, retire_prefix)
        clock.now += 40
        with pytest.raises(PrefixRotatedError):
            sealer.seal(b"", **PLACE)

    def test_programs_go_on_after_an_abort(self, path: Path) -> None:
        clock = Clock()
        ring = load_keyring(path)
        sealer = LiveSealer(ring, monotonic=clock)
        going = replace_prefix_at_random(ring)
        clock.now += 40
        with pytest.raises(PrefixRotatedError):
            sealer.seal(b"", **PLACE)
        rewrite_keyring(rewrite_keyring(going, turn_back), retire_prefix)
        clock.now += 40
        sealer.seal(b"", **PLACE)

    def test_connections_that_are_made_later_are_refused(self, path: Path) -> None:
        kv = tenantkv.connect("memory://", keyring=path)
        kv.set("a", 1)
        refuse_rotated(kv.namespace)
        replace_prefix_at_random(load_keyring(path))
        kv.namespace.follower._next = 0.0
        with pytest.raises(PrefixRotatedError):
            refuse_rotated(kv.namespace)

    def test_a_planted_keyring_of_somebody_else_is_left_alone(self, path: Path) -> None:
        reloader = KeyringReloader(load_keyring(path))
        other = Keyring.generate(bytes(range(1, 97)))
        replace_secret_file(path, dataclasses.replace(other, generation=9).dump())
        assert reloader.reload() is None and reloader.keyring == RING
