"""``tenantkv export`` and ``tenantkv import``: all own keys with their TTLs, in an encrypted file."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from tenantkv.cli import output
from tenantkv.cli.client import LEFT, add_target_arguments, as_text, own_name, talking
from tenantkv.cli.keys import list_names
from tenantkv.cli.progress import Bar
from tenantkv.cli.transfer_file import ExportFileError, Reader, Writer
from tenantkv.cli.transfer_target import Target
from tenantkv.errors import ConfigurationError
from tenantkv.ops.transfer import LOT, LOT_BYTES, Record, fetch, lots, make, sizes

_EXPORT_EPILOG = """\
examples:
  tenantkv export backup.tkv
  tenantkv export users.tkv --pattern 'user:*'
  tenantkv export - | ssh elsewhere 'cat > backup.tkv'

The file opens only with this namespace's keyring: keep both, and export anew before you retire the key that
was the primary then. While it is written it is called FILE.part; interrupted, or with a full disk, run it
again, and it goes on from there. It is no snapshot: each key is as it was when its turn came.
"""
_IMPORT_EPILOG = """\
examples:
  tenantkv import backup.tkv
  tenantkv import backup.tkv --dry-run      check the whole file, and make nothing
  tenantkv import backup.tkv --overwrite

The whole file is checked before the first key is made: that it is of this namespace, unchanged and not cut
off. TTLs went on while the file lay there, and what has expired is left out. Interrupted, run it again: what
is there already is kept, or with --overwrite made once more.

Exit codes: 0 all keys are made, 1 refused or failed, 2 wrong usage, 3 some were there already.
"""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was exported.

    Attributes:
        namespace: the label.
        child: the path of children.
        file: where; ``-`` for standard output.
        pattern: the glob.
        keys: how many keys the file holds.
        bytes: how long it is.
        resumed: how many of the keys were in it already.
    """

    namespace: str
    child: tuple[str, ...]
    file: str
    pattern: str
    keys: int
    bytes: int
    resumed: int


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What was imported.

    Attributes:
        namespace: the label.
        child: the path of children.
        file: from where.
        dry_run: whether the file was only checked.
        exported: when it was made, in Unix seconds.
        keys: how many keys it holds.
        made: how many were made.
        kept: how many were there already, and stayed as they were.
        expired: how many had expired meanwhile.
        failed: how many the server did not take.
        errors: what it said, the first of each.
    """

    namespace: str
    child: tuple[str, ...]
    file: str
    dry_run: bool
    exported: float
    keys: int
    made: int
    kept: int
    expired: int
    failed: int
    errors: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command that the parser is for."""
    if parser.prog.endswith("export"):
        parser.description = "Write all own keys with their TTLs to an encrypted file."
        parser.epilog = _EXPORT_EPILOG
        parser.add_argument("file", metavar="FILE", help="a new file; - for standard output")
        parser.add_argument("--pattern", metavar="GLOB", default="*", help="only keys that it matches")
        parser.add_argument("--restart", action="store_true", help="begin anew after an interruption")
    else:
        parser.description = "Make keys of what 'tenantkv export' wrote."
        parser.epilog = _IMPORT_EPILOG
        parser.add_argument("file", metavar="FILE", help="a file that was exported")
        parser.add_argument("--overwrite", action="store_true", help="replace keys that are there already")
        parser.add_argument("--dry-run", action="store_true", help="check the whole file, and make nothing")
    add_target_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run ``export`` or ``import``."""
    return _export(arguments) if arguments.command == "export" else _import(arguments)


# Export


def _export(arguments: argparse.Namespace) -> int:
    if arguments.file == "-":
        if sys.stdout.isatty():
            raise ConfigurationError("an export is binary: send it to a file or program")
        if arguments.json:
            raise ConfigurationError("with the export on standard output there is no place for --json")
    pattern = own_name(arguments.pattern)
    with talking(arguments) as client, Bar() as bar:
        target = Target(
            client.namespace, arguments.file, restart=arguments.restart, pattern=arguments.pattern
        )
        if target.done:
            bar.clear()
            output.note(f"Going on where the last run stopped, after {len(target.done)} keys.")
        try:
            _, names = list_names(client, bar, pattern)
            due = [name for name in names if name not in target.done]
            _copy(client, due, target.writer, bar)
            target.finish()
        except BaseException as error:
            bar.clear()
            target.abandon()
            if isinstance(error, OSError) and error.filename is None:
                error.filename = arguments.file
            raise
    report = ExportReport(
        namespace=client.namespace.root.namespace,
        child=client.namespace.path,
        file=arguments.file,
        pattern=arguments.pattern,
        keys=target.writer.keys,
        bytes=target.bytes,
        resumed=len(target.done),
    )
    if arguments.json:
        output.print_json(report)
    else:
        output.note(f"{output.counted(report.keys, 'key')}, {report.bytes} bytes")
    return 0


def _copy(client: Any, names: list[bytes], writer: Writer, bar: Bar) -> None:
    for start in range(0, len(names), LOT):
        some = names[start : start + LOT]
        # Measured first, since one reply of many large values would fill the memory.
        for lot in lots(some, client.run(sizes(some))):
            writer.write(client.run(fetch(lot, int(time.time() * 1000))))
        bar.show(start / len(names), f"{writer.keys} keys exported")


# Import


def _import(arguments: argparse.Namespace) -> int:
    with open(arguments.file, "rb") as file, talking(arguments) as client, Bar() as bar:
        if not file.seekable():
            raise ConfigurationError("the file is read twice, first to check it: a pipe cannot be imported")
        length = max(1, os.fstat(file.fileno()).st_size)
        about, file_id, keys = _check(file, client.namespace, bar, length)
        counts: Counter[str] = Counter()
        errors: dict[str, None] = {}
        if not arguments.dry_run:
            try:
                _make(client, file, file_id, counts, errors, bar=bar, length=length, arguments=arguments)
            except BaseException:
                bar.clear()
                output.note(f"Stopped: {counts['made']} keys are made. Run it again to go on.")
                raise
    report = ImportReport(
        namespace=client.namespace.root.namespace,
        child=client.namespace.path,
        file=arguments.file,
        dry_run=arguments.dry_run,
        exported=float(about.get("created", 0)),
        keys=keys,
        made=counts["made"],
        kept=counts["kept"],
        expired=counts["expired"],
        failed=counts["failed"],
        errors=tuple(errors)[:10],
    )
    if arguments.json:
        output.print_json(report)
    else:
        _print_import(report)
    return 1 if report.failed else LEFT if report.kept else 0


def _check(file: BinaryIO, namespace: Any, bar: Bar, length: int) -> tuple[dict[str, Any], bytes, int]:
    """Read the whole file; what it says of itself, its id, and how many keys it holds."""
    reader = Reader(file, namespace)
    for _ in reader.records():
        bar.show(file.tell() / length, f"{reader.keys} keys checked")
    if not reader.is_whole:
        raise ExportFileError(
            f"the file is cut off after {reader.keys} keys; nothing was imported. If it is a .part, run the "
            "export again to complete it"
        )
    return reader.about, reader.frames.id, reader.keys


def _make(
    client: Any,
    file: BinaryIO,
    file_id: bytes,
    counts: Counter[str],
    errors: dict[str, None],
    *,
    bar: Bar,
    length: int,
    arguments: argparse.Namespace,
) -> None:
    file.seek(0)
    # Each frame is checked once more, so that a file that changes in between is noticed.
    reader = Reader(file, client.namespace)
    if reader.frames.id != file_id:
        raise ExportFileError("the file is another one than a moment ago; nothing was imported")
    for lot in _lots(reader.records()):
        now_ms = int(time.time() * 1000)
        for outcome in client.run(make(lot, now_ms, overwrite=arguments.overwrite)):
            counts[outcome.result] += 1
            if outcome.error:
                errors.setdefault(outcome.error)
        bar.show(file.tell() / length, f"{counts['made']} keys made")
    if not reader.is_whole:
        raise ExportFileError("the file has become shorter while it was read")


def _lots(records: Iterator[Record]) -> Iterator[list[Record]]:
    lot: list[Record] = []
    length = 0
    for record in records:
        lot.append(record)
        length += len(record.dump)
        if len(lot) >= LOT or length >= LOT_BYTES:
            yield lot
            lot, length = [], 0
    if lot:
        yield lot


def _print_import(report: ImportReport) -> None:
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(report.exported))
    rows = [("file", f"{output.counted(report.keys, 'key')}, exported {when}, whole and unchanged")]
    if report.dry_run:
        rows.append(("made", "none, as this was a dry run"))
    else:
        rows.append(("made", str(report.made)))
    for count, name, what in (
        (report.kept, "kept", "there already; --overwrite replaces them"),
        (report.expired, "expired", "meanwhile"),
        (report.failed, "failed", as_text("; ".join(report.errors).encode()[:500])),
    ):
        if count:
            rows.append((name, f"{count} {what}"))
    output.print_table(rows)
