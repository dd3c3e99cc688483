"""``tenantkv cache`` as a process: what caches hold, and clearing one for everybody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tenantkv.cache import FOREVER, Cache
from tests.cli_program import Program, neighbours_names
from tests.operating import help_has_an_example, report
from tests.servers import RealServer


@pytest.fixture
def server(shared_server: RealServer) -> RealServer:
    return shared_server


@pytest.fixture
def program(tmp_path: Path, server: RealServer) -> Program:
    return Program(tmp_path, server.url)


@pytest.fixture
def kv(program: Program) -> Iterator[Any]:
    with program.connect() as client:
        yield client


@pytest.fixture
def pages(kv: Any) -> Cache:
    pages = Cache(kv, "pages", ttl=100)
    pages.set_many({f"page{number}": "x" * 100 for number in range(20)})
    pages.set("news", "y", tags=["news"])
    pages.set("stays", "z", ttl=FOREVER)
    return pages


def test_what_caches_hold(program: Program, kv: Any, pages: Cache) -> None:
    Cache(kv, "other").set("a", 1)
    found = {each["name"]: each for each in report(program, "cache", "stats")}
    assert found.keys() == {"pages", "other"}
    assert (found["pages"]["entries"], found["pages"]["tags"], found["pages"]["immortal"]) == (22, 1, 1)
    assert found["pages"]["has_stamp"] and found["pages"]["bytes"] > 20 * 100
    assert 0 < found["pages"]["shortest_ttl"] <= found["pages"]["longest_ttl"] <= 100
    assert [each["name"] for each in report(program, "cache", "stats", "other")] == ["other"]
    assert b"pages" in program.run("cache", "stats").stdout


def test_clearing_is_for_everybody_and_touches_nothing_else(
    program: Program, kv: Any, pages: Cache, server: RealServer
) -> None:
    theirs = neighbours_names(server)
    other, queue = Cache(kv, "other"), kv.queue("thumbs")
    other.set("a", 1)
    queue.send("x")
    done = program.run("cache", "clear", "pages")
    assert done.returncode == 1 and b"say --yes" in done.stderr and pages.get("page1") is not None
    assert report(program, "cache", "clear", "pages", "--tag", "news", "--yes")["cleared"]
    assert pages.get("news") is None and pages.get("page1") is not None
    assert report(program, "cache", "clear", "pages", "--yes")["cleared"]
    assert pages.get("page1") is None and pages.get("stays") is None
    assert other.get("a") == 1 and queue.metrics().ready == 1
    assert all(server.operator().get(name) == value for name, value in theirs.items())


def test_hidden_names(tmp_path: Path, server: RealServer) -> None:
    place = tmp_path / "hidden"
    place.mkdir()
    program = Program(place, server.url, {"names": "hidden", "seal": "yes"})
    with program.connect() as kv:
        pages = Cache(kv, "pages")
        pages.set("a", 1)
        assert not any(b"pages" in name for name in server.dump_keys())
        (unnamed,) = report(program, "cache", "stats")
        assert unnamed["is_hidden"] and unnamed["name"] != "pages" and unnamed["entries"] == 1
        (named,) = report(program, "cache", "stats", "pages")
        assert not named["is_hidden"] and named["entries"] == 1
        report(program, "cache", "clear", "pages", "--yes")
        assert pages.get("a") is None


def test_an_evicted_stamp_is_told(program: Program, pages: Cache, server: RealServer) -> None:
    (stamp,) = [name for name in server.dump_keys() if name.endswith(b"stamp")]
    server.operator().delete(stamp)
    (found,) = report(program, "cache", "stats")
    assert not found["has_stamp"] and found["stamp_ttl"] is None
    assert b"no stamp" in program.run("cache", "stats").stdout


def test_without_a_way_to_list_keys(tmp_path: Path, shared_server: RealServer) -> None:
    program = Program(tmp_path, shared_server.url)
    program.environ["TENANTKV_REGISTRY"] = "no"
    done = program.run("cache", "stats")
    assert done.returncode == 1 and b"registry" in done.stderr
    (found,) = report(program, "cache", "stats", "pages")
    assert found["entries"] is None and not found["has_stamp"]


def test_on_a_server_with_scan(tmp_path: Path, open_server: RealServer) -> None:
    program = Program(tmp_path, open_server.url)
    with program.connect() as kv:
        Cache(kv, "pages").set("a", 1)
    neighbours_names(open_server)
    (found,) = report(program, "cache", "stats")
    assert (found["name"], found["entries"]) == ("pages", 1)


def test_bad_input(program: Program) -> None:
    assert program.run("cache", "clear", "a{b", "--yes").returncode == 1
    assert report(program, "cache", "stats") == []
    program.environ["TENANTKV_URL"] = "redis://127.0.0.1:1"
    done = program.run("cache", "clear", "pages", "--yes")
    assert done.returncode == 1 and b"Traceback" not in done.stderr and done.stderr


def test_help() -> None:
    for words in ((), ("stats",), ("clear",)):
        help_has_an_example("cache", *words)
