"""A sender's journal: what was to be sent, kept in a file until the server has confirmed it.

What it guards against is the sender's own end: a crash, or an outage longer than its patience. What the
server loses after it has confirmed is not in it. Its messages are as the server gets them: signed, and
encrypted where the queue encrypts.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence

from tenantkv.errors import ConfigurationError
from tenantkv.ops.queue import Entry

_TABLE = """
CREATE TABLE IF NOT EXISTS unconfirmed (
    id BLOB PRIMARY KEY, envelope BLOB NOT NULL, due BLOB NOT NULL, member BLOB NOT NULL
)
"""


class Journal:
    """A file of unconfirmed sends. Threads may share it; processes may share the file.

    A message that is resent after more than the queue's dedupe window may be in the queue twice.

    Args:
        path: a file of the sender's own, on a local disk; made readable for nobody else.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._lock = threading.Lock()
        try:
            # Before SQLite makes it, so that it is never readable for others.
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            self._database = sqlite3.connect(self._path, check_same_thread=False, timeout=10)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            with self._database:
                self._database.execute(_TABLE)
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(f"the journal cannot be opened: {type(error).__name__}") from None

    def note(self, entries: Iterable[Entry]) -> None:
        """Write down messages that are about to be sent, all or none, before the first is."""
        with self._lock, self._database:
            self._database.executemany("INSERT OR REPLACE INTO unconfirmed VALUES (?, ?, ?, ?)", entries)

    def confirm(self, entries: Iterable[Entry]) -> None:
        """Strike messages that the server has, or that it refused and the caller was told of."""
        with self._lock, self._database:
            self._database.executemany(
                "DELETE FROM unconfirmed WHERE id = ?", ((entry[0],) for entry in entries)
            )

    def unconfirmed(self, most: int) -> Iterator[Sequence[Entry]]:
        """Yield what is not confirmed, oldest first, so many at a time; each lot is confirmed in between."""
        last = 0
        while True:
            with self._lock:
                rows = self._database.execute(
                    "SELECT rowid, id, envelope, due, member FROM unconfirmed WHERE rowid > ? "
                    "ORDER BY rowid LIMIT ?",
                    (last, most),
                ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield [tuple(row[1:]) for row in rows]

    def __len__(self) -> int:
        with self._lock:
            return int(self._database.execute("SELECT count(*) FROM unconfirmed").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def __repr__(self) -> str:
        return f"<Journal {self._path!r}>"
