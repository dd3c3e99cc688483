"""The parts of the commands about own keys that need no server: lines, frames, sums, pages, schemas."""

from __future__ import annotations

import io
import os
import random
import unicodedata
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantkv import Keyring, Namespace
from tenantkv.cli import report_html, usage_report
from tenantkv.cli.acl import describe
from tenantkv.cli.replies import lines, plain, shown
from tenantkv.cli.shell_words import quoted, split, without_values
from tenantkv.cli.transfer_file import FRAME_BYTES, ExportFileError, Frames, Reader, Writer, new_id
from tenantkv.cli.usage import meaning
from tenantkv.errors import ConfigurationError
from tenantkv.ops.clearing import sort_out
from tenantkv.ops.effects import Batch
from tenantkv.ops.listing import Listing
from tenantkv.ops.registry import RESERVED
from tenantkv.ops.transfer import LOT, LOT_BYTES, NEVER, Record, lots, make
from tenantkv.ops.usage import Measure, choose, grouped, segment_of
from tools.write_schemas import PATH, text


class TestLines:
    @given(st.lists(st.binary(max_size=20), max_size=6))
    def test_what_is_quoted_comes_back(self, words: list[bytes]) -> None:
        assert split(" ".join(map(quoted, words))) == words

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("", []),
            ("  GET   a ", [b"GET", b"a"]),
            (r'SET a "x\"y\x00\n\t"', [b"SET", b"a", b'x"y\x00\n\t']),
            (r"SET a 'it\'s \n'", [b"SET", b"a", rb"it's \n"]),
            ('GET ""', [b"GET", b""]),
            ("GET a\"b'c", [b"GET", b"a\"b'c"]),
            ("GET ü", [b"GET", "ü".encode()]),
        ],
    )
    def test_split(self, line: str, words: list[bytes]) -> None:
        assert split(line) == words

    @pytest.mark.parametrize("line", ['GET "a', "GET 'a", 'GET "a"b', '"'])
    def test_unbalanced(self, line: str) -> None:
        with pytest.raises(ConfigurationError):
            split(line)

    @pytest.mark.parametrize(
        ("line", "kept"),
        [
            ("SET a value EX 10", "SET a"),
            ("MSET a v b v", "MSET a b"),
            ("HSET h f value", "HSET h"),
            ("PUBLISH c value", "PUBLISH c"),
            ("SISMEMBER s value", "SISMEMBER s"),
            ("ZSCORE z value", "ZSCORE z"),
            ("LPOS l value", "LPOS l"),
            ("EVAL value 1 a value", "EVAL a"),
            ("GETSET a value", "GETSET a"),
            ("LRANGE l 0 -1", "LRANGE l 0 -1"),
            ("HGET h f", "HGET h f"),
            ("SCAN 0 MATCH a*", "SCAN 0 MATCH a*"),
            ("NOSUCH value", None),
            ("AUTH value", "AUTH"),
            ("ECHO value", "ECHO"),
            ("CONFIG SET requirepass value", None),
        ],
    )
    def test_the_history_has_no_values(self, line: str, kept: str | None) -> None:
        assert without_values(split(line)) == kept
        assert kept is None or "value" not in kept


class TestReplies:
    def test_as_redis_cli_shows_them(self) -> None:
        assert list(lines([b"a", [1, None], []])) == [
            '1) "a"',
            "2) 1) (number) 1",
            "   2) (nil)",
            "3) (empty)",
        ]

    @given(st.binary(max_size=50))
    def test_nothing_reaches_a_terminal(self, value: bytes) -> None:
        acting = {"Cc", "Cf", "Cs", "Zl", "Zp"}
        assert not acting & {unicodedata.category(character) for character in shown(value)}

    def test_json_keeps_bytes(self) -> None:
        assert os.fsencode(plain([b"\xff\x00"])[0]) == b"\xff\x00"


def space(seed: int = 0) -> Namespace:
    return Namespace(Keyring.generate(random.Random(seed).randbytes(96)))


def export(namespace: Namespace, records: Sequence[Record]) -> bytes:
    file = io.BytesIO()
    writer = Writer(file, Frames(namespace, new_id()))
    writer.begin({"pattern": "*"})
    writer.write(records)
    writer.end()
    return file.getvalue()


def read(data: bytes, namespace: Namespace) -> tuple[list[Record], Reader]:
    reader = Reader(io.BytesIO(data), namespace)
    return list(reader.records()), reader


RECORDS = [
    Record(b"a", NEVER, b"x"),
    Record(b"\xff" * 1000, 1_700_000_000_000, b""),
    Record(b"long", NEVER, os.urandom(2 * FRAME_BYTES + 5)),
    Record(b"exactly", 5, b"y" * FRAME_BYTES),
    *[Record(b"n%d" % number, NEVER, b"z" * 300_000) for number in range(8)],
]


class TestFrames:
    def test_there_and_back(self) -> None:
        records, reader = read(export(space(), RECORDS), space())
        assert records == RECORDS and reader.is_whole and reader.about == {"pattern": "*"}

    def test_an_empty_export(self) -> None:
        records, reader = read(export(space(), []), space())
        assert records == [] and reader.is_whole

    def test_every_cut_is_noticed(self) -> None:
        data = export(space(), RECORDS[:2])
        for length in range(len(data)):
            try:
                records, reader = read(data[:length], space())
            except ExportFileError:
                continue
            assert not reader.is_whole and len(records) <= 2

    def test_every_change_is_noticed(self) -> None:
        data = export(space(), RECORDS[:2])
        for at in range(len(data)):
            changed = bytearray(data)
            changed[at] ^= 0x40
            try:
                _, reader = read(bytes(changed), space())
            except ExportFileError:
                continue
            # A frame whose length has grown ends where the file does.
            assert not reader.is_whole

    def test_order_repetition_and_mixture(self) -> None:
        data = export(space(), [Record(b"%d" % n, NEVER, os.urandom(900_000)) for n in range(6)])
        head, *frames = pieces(data)
        assert len(frames) > 3
        wrong = {
            "swapped": [head, frames[1], frames[0], *frames[2:]],
            "repeated": [head, frames[0], frames[0], *frames[1:]],
            "left out": [head, *frames[1:]],
            "one less": [head, *frames[:-2], frames[-1]],
            "of another": [head, pieces(export(space(), RECORDS))[1], *frames[1:]],
            "the end first": [head, frames[-1]],
        }
        for what, parts in wrong.items():
            with pytest.raises(ExportFileError):
                read(b"".join(parts), space())
                pytest.fail(what)

    def test_another_namespace_and_children(self) -> None:
        data = export(space(), RECORDS[:1])
        for other in (space(1), space().child("web")):
            with pytest.raises(ExportFileError, match="another namespace"):
                read(data, other)

    def test_going_on_after_any_cut(self) -> None:
        data = export(space(), RECORDS)
        for length in range(2000, len(data), 300_001):
            file = io.BytesIO(data[:length])
            reader = Reader(file, space())
            done = list(reader.records())
            assert done == RECORDS[: len(done)] and reader.keys == len(done)
            file.truncate(reader.good_bytes)
            file.seek(reader.good_bytes)
            reader.frames.number = reader.good_frames
            writer = Writer(file, reader.frames, reader.keys)
            writer.write(RECORDS[len(done) :])
            writer.end()
            assert read(file.getvalue(), space())[0] == RECORDS


def pieces(data: bytes) -> list[bytes]:
    """Take a file apart: what stands in front with the first frame, then each frame."""
    at, found = len(b"tenantkv export 1\n") + 16, []
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        found.append(data[at:end])
        at = end
    return [data[: len(b"tenantkv export 1\n") + 16] + found[0], *found[1:]]


def answer(operation: Any, replies: list[Any]) -> Any:
    """Drive an operation with prepared replies."""
    waiting = iter(replies)
    try:
        next(operation)
        while True:
            operation.send(next(waiting))
    except StopIteration as stop:
        return stop.value


class TestOperations:
    def test_lots_are_bounded(self) -> None:
        names = [b"%d" % number for number in range(1000)]
        sizes = [random.Random(number).choice([10, 100_000, LOT_BYTES * 3]) for number in range(1000)]
        found = lots(names, sizes)
        known = dict(zip(names, sizes, strict=True))
        assert [name for lot in found for name in lot] == names
        for lot in found:
            assert len(lot) <= LOT and (len(lot) == 1 or sum(known[name] for name in lot) <= LOT_BYTES)

    def test_what_has_expired_is_not_made(self) -> None:
        records = [Record(b"gone", 1000, b"x"), Record(b"here", 1001, b"x"), Record(b"ever", NEVER, b"x")]
        operation = make(records, 1000, overwrite=False)
        batch = next(operation)
        assert isinstance(batch, Batch)
        assert [words[:3] for words in batch.commands] == [
            ("RESTORE", b"here", 1),
            ("RESTORE", b"ever", 0),
        ]

    def test_a_listing_tells_each_name_once_and_none_of_ours(self) -> None:
        listing = Listing(None)
        assert answer(listing.page(0.0), [[b"7", [b"a", b"b", RESERVED + b"x"]], b"run_id:1\r\n"]) == [
            b"a",
            b"b",
        ]
        assert 0 < listing.progress < 1
        assert answer(listing.page(0.0), [[b"0", [b"b", b"c"]], b"run_id:1\r\n"]) == [b"c"]
        assert listing.is_over and listing.count == 3 and listing.source == "scan"

    def test_a_listing_begins_anew_on_another_server(self) -> None:
        listing = Listing(None)
        answer(listing.page(0.0), [[b"7", [b"a"]], b"run_id:1\r\n"])
        assert answer(listing.page(0.0), [[b"0", [b"b"]], b"run_id:2\r\n"]) == [b"b"]
        assert not listing.is_over
        assert answer(listing.page(0.0), [[b"0", [b"a", b"c"]], b"run_id:2\r\n"]) == [b"c"]
        assert listing.is_over

    def test_clearing_leaves_primitives_alone(self) -> None:
        names = [b"a", b"queue:x", b"tkv:cache:{p}stamp", b"tkv:cache:{pp}stamp", b"tkv:queue:{h}:m"]
        names += [b"tkv:lock:{h}", b"tkv:celery:{h}q", b"tkv:evil\x1b", b"tkv:directory"]
        chosen, kept = sort_out(names, None)
        assert chosen == names[:4]
        assert kept == {"queue": 1, "lock": 1, "celery": 1, "other": 1, "directory": 1}
        assert sort_out(names, b"*")[0] == [b"a", b"queue:x"]
        assert sort_out(names, b"tkv:cache:{p}")[0] == [b"tkv:cache:{p}stamp"]
        assert sort_out(names, b"tkv:cache:")[0] == names[2:4]
        assert sort_out(names, b"tkv:queue:")[0] == []

    def test_samples_reach_every_group(self) -> None:
        names = [b"big:%d" % number for number in range(10_000)] + [b"small:1", b"small:2"]
        chosen = choose(names, 500, random.Random(0).sample)
        assert {b"small:1", b"small:2"} <= set(chosen) and 400 < len(chosen) <= 1000
        assert choose(names, 0, random.sample) == names
        many = [b"%d:x" % number for number in range(5000)]
        assert len(choose(many, 100, random.sample)) <= 200

    def test_sums_are_scaled_by_group(self) -> None:
        names = [b"a:%d" % number for number in range(10)] + [b"b"]
        measures = [Measure(b"a:1", "string", 100, None, 0.0), Measure(b"a:2", "hash", 300, 5.0, 1e6)]
        groups = grouped(names, measures)
        group = groups[b"a"]
        assert group.scaled(group.bytes) == 2000 and group.scaled(group.immortal) == 5
        assert groups[segment_of(b"b")].keys == 1 and groups[segment_of(b"b")].scaled(5) == 0


class TestReports:
    def test_growth(self) -> None:
        report = usage(bytes=3000, keys=30, server_bytes=500_000, server_limit=1_500_000)
        grown = report.grown_since({"taken": report.taken - 2 * 86400, "bytes": 1000, "keys": 10}).growth
        assert grown is not None
        assert (grown.keys_a_day, grown.bytes_a_day, grown.days_to_limit) == (10.0, 1000.0, 1000.0)
        shrunk = report.grown_since({"taken": report.taken - 86400, "bytes": 9000, "keys": 10}).growth
        assert shrunk is not None and shrunk.days_to_limit is None
        assert report.grown_since({"taken": report.taken + 5, "bytes": 1, "keys": 1}).growth is None

    def test_a_server_without_idle_times(self) -> None:
        report = usage(keys=3, day_keys=None, day_bytes=None)
        assert meaning(report) == [] and "within a day" not in report_html.render(report)

    @pytest.mark.parametrize("name", ["<img src=x onerror=f()>", "\x1b[2J\udcff", '"&\u202e', "x" * 5000])
    def test_names_are_only_text_in_the_page(self, name: str) -> None:
        group = usage_report.GroupReport(name, 3, 100, 1, 50)
        key = usage_report.KeyCost(name, "string", 10, None, 5.0)
        page = report_html.render(usage(groups=(group,), biggest=(key,), pattern=name, namespace=name))
        page.encode()
        assert "<img" not in page and "\x1b" not in page and "\u202e" not in page
        chart = ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
        assert len(chart.findall("g/rect")) == 2
        assert page.count("<svg") == 1 and "default-src 'none'" in page and len(page) < 20_000

    def test_an_acl_names_nothing_but_the_namespace(self) -> None:
        namespace = space()
        rules = describe(namespace).rules
        patterns = [rule for rule in rules if rule[0] in "~&%"]
        assert patterns == [f"~{namespace.wire_prefix.decode()}*", f"&{namespace.channel_prefix.decode()}*"]
        assert not set("*?[") & set(namespace.wire_prefix.decode())

    def test_the_published_schemas_are_current(self) -> None:
        assert PATH.read_text() == text()


def usage(**values: Any) -> usage_report.UsageReport:
    given: dict[str, Any] = dict.fromkeys(usage_report.UsageReport.__dataclass_fields__, 0)
    given |= {"namespace": "default", "child": (), "source": "scan", "pattern": "*", "taken": 1_700_000_000.0}
    given |= dict.fromkeys(("groups", "types", "biggest", "immortal"), ())
    return usage_report.UsageReport(**{**given, "growth": None, **values})
