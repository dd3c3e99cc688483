"""Which keys `tenantkv adopt` takes, what it makes of them, and what its connection refuses to send."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tenantkv import embedded
from tenantkv.cli.adopt_code import find_patterns, names_of, read_fills
from tenantkv.cli.adopt_journal import Entry, Journal
from tenantkv.cli.adopt_source import OutsideError, Source, check_pattern
from tenantkv.errors import ConfigurationError
from tenantkv.keyring_store import create_keyring
from tenantkv.namespace import Namespace
from tenantkv.ops.adopt import (
    CannotCopyError,
    Seen,
    literal_head,
    look,
    making,
    own_name_of,
    same_time,
    same_value,
)
from tenantkv.ops.effects import Batch
from tenantkv.ops.transfer import NEVER
from tests.servers import RealServer


@pytest.fixture
def source(shared_server: RealServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    monkeypatch.setenv("TENANTKV_URL", shared_server.url)
    found = Source(b"prefix-of-the-namespace:", None)
    yield found
    found.close()


@pytest.mark.parametrize(
    ("pattern", "head"),
    [(b"a:*", b"a:"), (b"*", b""), (b"abc", b"abc"), (b"ab[c]d", b"ab"), (b"a?", b"a"), (b"ab\\*c", b"ab")],
)
def test_the_head_of_a_pattern(pattern: bytes, head: bytes) -> None:
    assert literal_head(pattern) == head


@pytest.mark.parametrize("pattern", [b"", b"*", b"ab*", b"[abc]def*", b"\\*\\*\\*\\*"])
def test_patterns_that_reach_others(pattern: bytes) -> None:
    with pytest.raises(ConfigurationError, match="other tenants"):
        check_pattern(pattern)


def test_own_names() -> None:
    assert own_name_of(b"tool:a", b"tool:") == (b"a", "")
    assert own_name_of(b"a", b"tool:") == (b"a", "")
    assert own_name_of(b"tool:", b"tool:")[1]
    assert own_name_of(b"tool:tkv:queue:x", b"tool:")[1]
    assert own_name_of(b"__tenantkv__:x", b"")[1]


def test_times() -> None:
    assert same_time(NEVER, NEVER) and same_time(10_000, 11_000)
    assert not same_time(NEVER, 10_000) and not same_time(10_000, 60_000)


def seen(kind: str, *rows: tuple[bytes, ...], **more: Any) -> Seen:
    return Seen(kind, more.pop("expires", NEVER), "v", rows=rows, **more)


@pytest.mark.parametrize("kind", ["hash", "set", "zset", "list", "stream"])
def test_order_counts_where_it_means_something(kind: str) -> None:
    first = [(b"a", b"1"), (b"b", b"2")] if kind in ("hash", "zset") else [(b"a",), (b"b",)]
    second = list(reversed(first))
    assert same_value(seen(kind, *first), seen(kind, *first))
    assert same_value(seen(kind, *first), seen(kind, *second)) is (kind in ("hash", "set", "zset"))
    assert not same_value(seen(kind, *first), seen(kind, first[0]))
    assert not same_value(seen(kind, *first), seen("string", *first))


def test_unread_values_are_not_the_same() -> None:
    assert not same_value(Seen("string", NEVER, "v"), Seen("string", NEVER, "v"))
    assert same_value(Seen("string", NEVER, "v", b"dump"), Seen("string", NEVER, "v", b"dump"))
    assert not same_value(Seen("graphdata", NEVER, "v", rows=()), Seen("graphdata", NEVER, "v", rows=()))


def test_commands() -> None:
    assert list(making(b"o", seen("string", (b"x",), expires=5), replace=True)) == [
        ("SET", b"o", b"x", "PXAT", 5)
    ]
    assert list(making(b"o", seen("zset", (b"m", b"1.5"), expires=5), replace=True)) == [
        ("DEL", b"o"),
        ("ZADD", b"o", b"1.5", b"m"),
        ("PEXPIREAT", b"o", 5),
    ]
    long = list(making(b"o", seen("list", *((b"%d" % at,) for at in range(250))), replace=False))
    assert [len(words) - 2 for words in long] == [100, 100, 50]
    fields = seen("hash", (b"f", b"v"), field_expiry={b"f": 9})
    assert list(making(b"o", fields, replace=False))[-1] == ("HPEXPIREAT", b"o", 9, "FIELDS", 1, b"f")
    with pytest.raises(CannotCopyError, match="groups"):
        list(making(b"o", seen("stream", problem="groups"), replace=False))
    with pytest.raises(CannotCopyError):
        list(making(b"o", Seen("string", NEVER, "v", b"dump"), replace=False))


def test_a_server_without_dump() -> None:
    """The version comes from the elements then, and notices each change."""

    def versions(value: bytes) -> str:
        operation = look([b"k"], 0, elements=False)
        assert isinstance(next(operation), Batch)
        assert operation.send([b"string", -1, redis.ResponseError("unknown command"), -1]) == Batch(
            [("GET", b"k")]
        )
        with pytest.raises(StopIteration) as end:
            operation.send([value])
        (found,) = end.value.value
        assert found.dump is None and found.rows == ((value,),)
        return str(found.version)

    assert versions(b"a") == versions(b"a") != versions(b"b")


class TestSource:
    def test_only_names_that_were_given(self, source: Source, shared_server: RealServer) -> None:
        kv = shared_server.operator()
        kv.mset({"tool:a": 1, "other:a": 1})
        source.allow([b"tool:a"])
        assert source.batch([("GET", b"tool:a")]) == [b"1"]
        for words in (
            ("GET", b"other:a"),
            ("UNLINK", b"tool:a", b"other:a"),
            ("WATCH", b"other:a"),
            ("MEMORY", "USAGE", b"other:a"),
            ("XINFO", "GROUPS", b"other:a"),
        ):
            with pytest.raises(OutsideError):
                source.batch([("GET", b"tool:a"), words])
        for word in ("SET", "DEL", "FLUSHALL", "KEYS", "RENAME", "EVAL"):
            with pytest.raises(KeyError):
                source.batch([(word, b"tool:a")])
        assert kv.get("other:a") == b"1"

    def test_never_the_namespace(self, source: Source) -> None:
        source.allow([b"prefix-of-the-namespace:a"])
        with pytest.raises(OutsideError):
            source.batch([("GET", b"prefix-of-the-namespace:a")])

    def test_changes_are_noticed(self, source: Source, shared_server: RealServer) -> None:
        kv = shared_server.operator()
        kv.set("tool:a", 1)
        source.allow([b"tool:a", b"tool:b"])
        source.watch([b"tool:a"])
        assert source.is_unchanged(b"tool:a")
        for change in (
            lambda: kv.set("tool:a", 1),
            lambda: kv.expire("tool:a", 100),
            lambda: kv.delete("tool:a"),
        ):
            source.watch([b"tool:a"])
            change()
            assert not source.is_unchanged(b"tool:a")
        kv.set("tool:a", 1)
        source.watch([b"tool:a", b"tool:b"])
        kv.set("tool:b", 1)
        assert not source.delete([b"tool:a"]) and kv.exists("tool:a")
        source.watch([b"tool:a"])
        assert source.delete([b"tool:a"]) and not kv.exists("tool:a")

    def test_a_lost_connection_is_not_made_anew_on_the_quiet(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        server = embedded.start("shared")
        monkeypatch.setenv("TENANTKV_URL", server.url)
        source = Source(b"prefix-of-the-namespace:", None)
        source.allow([b"tool:a"])
        source.watch([b"tool:a"])
        server.stop()
        with pytest.raises(redis.ConnectionError):
            source.delete([b"tool:a"])
        source.close()

    @pytest.mark.parametrize("url", ["redis+cluster://localhost", "memory://"])
    def test_other_kinds_of_servers(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TENANTKV_URL", url)
        with pytest.raises(ConfigurationError):
            Source(b"prefix-of-the-namespace:", None)


class TestJournal:
    @pytest.fixture
    def namespace(self, tmp_path: Path) -> Namespace:
        return Namespace(create_keyring(path=tmp_path / "k.json").keyring)

    def test_every_cut_is_an_earlier_state(self, namespace: Namespace) -> None:
        """Wherever the file ends, it opens to what some earlier moment had noted, and grows from there."""
        journal = Journal(namespace, None, make=True)
        states: list[dict[bytes, Entry]] = [{}]
        for step in (
            ("intent", [(b"a\xff", b"A"), (b"b", b"B")]),
            ("copied", [(b"a\xff", b"A", "1", "2", -1)]),
            ("dropped", [(b"b",)]),
            ("finish", []),
        ):
            journal.record(step[0], step[1])
            states.append(dict(journal.entries))
        journal.close()
        whole = journal.path.read_bytes()
        spots = {0, 1, 20, 33, len(whole), *random.Random(7).sample(range(len(whole)), 60)}
        for length in sorted(spots):
            journal.path.write_bytes(whole[:length])
            again = Journal(namespace, None, make=True)
            assert again.entries in states, length
            again.record("intent", [(b"c", b"C")])
            again.close()
            once_more = Journal(namespace, None, make=False)
            assert once_more.entries == again.entries and b"c" in once_more.entries
            once_more.close()

    def test_held_by_one(self, namespace: Namespace) -> None:
        journal = Journal(namespace, None, make=True)
        with pytest.raises(ConfigurationError, match="another"):
            Journal(namespace, None, make=True)
        journal.close()
        assert not journal.path.exists()
        with pytest.raises(ConfigurationError, match="nothing to finish"):
            Journal(namespace, None, make=False)
        Journal(namespace, None, make=True, dry=True).close()

    def test_of_another_child_or_a_link(self, namespace: Namespace, tmp_path: Path) -> None:
        path = str(tmp_path / "state")
        journal = Journal(namespace, path, make=True)
        journal.record("intent", [(b"secret-name", b"A")])
        journal.close()
        assert b"secret-name" not in Path(path).read_bytes()
        with pytest.raises(ConfigurationError, match="another namespace or child"):
            Journal(namespace.child("web"), path, make=True)
        (tmp_path / "link").symlink_to(path)
        with pytest.raises(OSError, match="symbolic"):
            Journal(namespace, str(tmp_path / "link"), make=True)


PYTHON = """
PREFIX = "mytool:"
r.set("mytool:last", 1)
r.get(f"mytool:user:{user.id}:{kind}")
r.get(f"mytool:user:{user.id}:{kind}")
r.get("mytool:%s:%05d:100%%" % (a, b))
r.get("mytool:%(name)s" % values)
r.get("mytool:{}:{size}:{0}".format(x, size=2))
r.get("mytool:page:" + title + ":v2")
r.get(PREFIX + name)
r.get(b"mytool:raw")
r.get("other:" + name)
r.get("not mytool:x")
r.get(f"mytool:odd[*]{x!r:>10}")
"""
WANTED = {
    b"mytool:": [],
    b"mytool:last": [],
    b"mytool:user:*:*": ["user.id", "kind"],
    b"mytool:*:*:100%": ["a", "b"],
    b"mytool:*": ["name"],
    b"mytool:*:*:*": ["x", "size"],
    b"mytool:page:*:v2": ["title"],
    b"mytool:raw": [],
    b"mytool:odd\\[\\*\\]*": ["x"],
}


class TestNamesInCode:
    def test_python(self, tmp_path: Path) -> None:
        (tmp_path / "app.py").write_text(PYTHON)
        (tmp_path / "broken.py").write_text("def (:\nr.get('mytool:broken')\n")
        (tmp_path / "notes.txt").write_text("'mytool:notes'")
        (tmp_path / ".venv").mkdir()
        (tmp_path / ".venv" / "b.py").write_text("'mytool:elsewhere'")
        found = {each.glob: each for each in find_patterns(str(tmp_path), "mytool:")}
        assert {glob: each.gaps for glob, each in found.items()} == WANTED | {b"mytool:broken": []}
        assert found[b"mytool:user:*:*"].places == [f"{tmp_path}/app.py:{line}" for line in (4, 5)]

    @pytest.mark.parametrize(
        ("name", "line", "gaps"),
        [
            ("a.js", "await r.get(`mytool:user:${user.id}:x`)", ["user.id"]),
            ("a.ts", "r.set('mytool:user:' + id)", None),
            ("a.php", '$r->get("mytool:user:{$user->id}:x");', ["user->id"]),
            ("b.php", '$r->get("mytool:user:$id:x");', ["id"]),
            ("a.rb", 'r.get("mytool:user:#{user.id}:x")', ["user.id"]),
        ],
        ids=["javascript", "concatenated", "php-braces", "php", "ruby"],
    )
    def test_other_languages(self, tmp_path: Path, name: str, line: str, gaps: list[str] | None) -> None:
        (tmp_path / name).write_text(line + "\n")
        (found,) = find_patterns(str(tmp_path / name), "mytool:")
        assert (found.glob, found.gaps) == (
            (b"mytool:user:", []) if gaps is None else (b"mytool:user:*:x", gaps)
        )

    def test_values_and_what_stays_unknown(self, tmp_path: Path) -> None:
        (tmp_path / "ids").write_text("x\ny\n")
        code = 'f"mytool:{a}:{b}:{a}"; f"mytool:{c}"; "mytool:z"'
        (tmp_path / "app.py").write_text(code)
        patterns = find_patterns(str(tmp_path), "mytool:")
        fills = read_fills(["a=1-2", f"b=@{tmp_path}/ids", "b=q,"])
        names, unknown = names_of(patterns, fills, lambda: None)
        wanted = [f"mytool:{a}:{b}:{a}".encode() for a in (1, 2) for b in "xyq"]
        assert sorted(names) == sorted([*wanted, b"mytool:z"]) and [each.gaps for each in unknown] == [["c"]]
        names, unknown = names_of(patterns, {}, lambda: [b"mytool:7", b"mytool:1:x:1", b"mytool2"])
        assert (sorted(names), unknown) == ([b"mytool:1:x:1", b"mytool:7", b"mytool:z"], [])

    def test_nonsense(self, tmp_path: Path) -> None:
        (tmp_path / "app.py").write_text('f"mytool:{a}:{b}"')
        patterns = find_patterns(str(tmp_path), "mytool:")
        for wrong in ("a", "a=", "=1", "a=5-1", "a=1-9999999"):
            with pytest.raises(ConfigurationError):
                read_fills([wrong])
        with pytest.raises(ConfigurationError, match="more than"):
            names_of(patterns, read_fills(["a=1-2000", "b=1-2000"]), lambda: None)
        for place, begins in ((tmp_path, "my"), (tmp_path / "no", "mytool:")):
            with pytest.raises(ConfigurationError):
                find_patterns(str(place), begins)
